// Shows the phases under the settings before anything is generated. The plan itself is made by the extension.
(function () {
    const {find, number, steps, ask} = itermix;
    const shown = {};

    // What of the settings under this prefix counts for the plan.
    function mixing(prefix) {
        const names = [
            "denoise", "start_at_step", "end_at_step", "max_scale_per_phase", "window", "window_batch", "dilated",
            "rewind_min", "rewind_max",
        ];
        return {
            // While a choice is being typed it counts as another.
            noise: find(`#${prefix}_noise input`)?.value === "inverted" ? "inverted" : "shared",
            mixing_steps: number(`${prefix}_steps`),
            rewind: Boolean(find(`#${prefix}_rewind input`)?.checked),
            ...Object.fromEntries(names.map((name) => [name, number(`${prefix}_${name}`)])),
        };
    }

    // The WebUI's name of the sampler that mixes.
    function sampler(tab) {
        const ofHires = tab === "txt2img" && find("#hr_sampler input")?.value;
        return ofHires && ofHires !== "Use same sampler" ? ofHires : find(`#${tab}_sampling input`)?.value || "";
    }

    function upscales() {
        return Boolean(find("#itermix_upscale_plan")?.offsetParent);
    }

    // Of the mixing alone, at the tab's own size, where the upscale script isn't chosen.
    function img2imgQuery() {
        if (upscales()) return upscaleQuery();
        return {
            width: number("img2img_width"),
            height: number("img2img_height"),
            ...steps("img2img"),
            sampler: sampler("img2img"),
            scale: 1,
            ...mixing("itermix_img2img"),
        };
    }

    function upscaleQuery() {
        const picture = find("#mode_img2img .tabitem:not([style*='display: none']) img, #img2img_image img");
        if (!picture || !picture.naturalWidth) return null;
        return {
            width: picture.naturalWidth,
            height: picture.naturalHeight,
            ...steps("img2img"),
            sampler: sampler("img2img"),
            scale: number("itermix_upscale_scale"),
            target_width: number("itermix_upscale_width"),
            target_height: number("itermix_upscale_height"),
            ...mixing("itermix_img2img"),
        };
    }

    function hiresQuery() {
        if (!itermix.value("txt2img_hr", {type: "boolean"})) return null;
        return {
            width: number("txt2img_width"),
            height: number("txt2img_height"),
            ...steps("txt2img"),
            sampler: sampler("txt2img"),
            hires: true,
            scale: number("txt2img_hr_scale"),
            hr_resize_x: number("txt2img_hr_resize_x"),
            hr_resize_y: number("txt2img_hr_resize_y"),
            ...mixing("itermix_txt2img"),
        };
    }

    async function show(id, query, otherwise, more = "") {
        const element = find(`#${id}`);
        if (!element) return;
        const key = query ? new URLSearchParams(query).toString() + more : otherwise;
        if (shown[id] === key && element.textContent.trim()) return;
        shown[id] = key;
        let text = otherwise;
        if (query) {
            const {body, problem} = await ask(`plan?${new URLSearchParams(query)}`);
            text = problem || body.text + more;
        }
        if (shown[id] === key) element.textContent = text;
    }

    function update() {
        const nothing = "Put a picture in to see its phases here.";
        show("itermix_upscale_plan", upscaleQuery(), nothing);
        const larger = upscales() ? "" : ". To enlarge, choose Iterative Mixing upscale under Script.";
        show("itermix_img2img_plan", img2imgQuery(), nothing, larger);
        show("itermix_txt2img_plan", hiresQuery(), "Tick Hires. fix: this takes the place of its second pass.");
    }

    itermix.watch(update, 200);
})();
