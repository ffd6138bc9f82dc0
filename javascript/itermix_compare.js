// Lays a result over its enlarged source, or over another of the last results, with a slider between the two. The pictures
// are those that the extension keeps in the WebUI's memory.
(function () {
    const {ask} = itermix;
    const ZOOMS = {"whole": null, "100 %": 1, "200 %": 2, "400 %": 4};
    const SLOW = 2000; // milliseconds between two questions for what is new
    const state = {asked: 0, results: []};

    function element(name, attributes = {}, ...children) {
        const made = Object.assign(document.createElement(name), attributes);
        made.append(...children);
        return made;
    }

    // [[value, label]] of what can be on the left: the source of the result on the right, or another result.
    function sources(results, right) {
        return [["source", "its source"], ...choices(results.filter(({number}) => number !== right))];
    }

    function choices(results) {
        return results.map(({number, width, height}) => [String(number), `result ${number}, ${width}x${height}`]).reverse();
    }

    function fill(select, options) {
        const chosen = options.some(([value]) => value === select.value) ? select.value : options[0]?.[0];
        const key = JSON.stringify(options);
        if (select.dataset.key === key) return;
        select.dataset.key = key;
        select.replaceChildren(...options.map(([value, label]) => element("option", {value}, label)));
        if (chosen) select.value = chosen;
    }

    function select(label, className) {
        const list = element("select", {className});
        return [element("label", {}, label, list), list];
    }

    // What differs between the settings of two results: a row for each.
    function differences(one, other) {
        const names = Object.keys(other.settings).filter((name) => one.settings[name] !== other.settings[name]);
        if (!names.length) return [element("dt", {}, "The settings are the same.")];
        const cells = (name) => [one, other].map(({settings}) => element("dd", {}, String(settings[name])));
        return names.flatMap((name) => [element("dt", {}, name), ...cells(name)]);
    }

    function build(place) {
        const [leftLabel, left] = select("Left", "left");
        const [rightLabel, right] = select("Right", "right");
        const [zoomLabel, zoom] = select("Zoom", "zoom");
        zoom.append(...Object.keys(ZOOMS).map((name) => element("option", {value: name}, name)));
        const pair = element("div", {className: "itermix-pair"}, element("img"), element("img"));
        const view = element("div", {className: "itermix-window"}, pair);
        const split = element("input", {type: "range", min: 0, max: 100, step: 0.5, value: 50});
        split.setAttribute("aria-label", "How much of the left picture is seen");
        const list = element("dl");
        const nothing = element("p", {className: "nothing"}, "Generate a picture with Iterative Mixing to compare it here.");
        const parts = element("div", {}, leftLabel, rightLabel, zoomLabel, view, split, list);
        place.replaceChildren(nothing, parts);
        const own = {left, right, zoom, pair, view, split, list, nothing, parts};
        for (const each of [left, right, zoom]) each.addEventListener("change", () => draw(own));
        split.addEventListener("input", () => pair.style.setProperty("--itermix-split", `${split.value}%`));
        pair.addEventListener("pointermove", (event) => {
            if (event.pointerType === "mouse" && !event.buttons) return;
            const box = pair.getBoundingClientRect();
            split.value = ((event.clientX - box.left) / box.width) * 100;
            split.dispatchEvent(new Event("input"));
        });
        pair.addEventListener("dragstart", (event) => event.preventDefault());
        return own;
    }

    function draw({left, right, zoom, pair, list, nothing, parts}) {
        const {results} = state;
        nothing.hidden = results.length > 0;
        parts.hidden = !results.length;
        if (!results.length) return;
        const last = String(results.at(-1).number);
        if (right.dataset.last !== last) right.value = ""; // a new one is shown at once
        fill(right, choices(results));
        if (right.dataset.last !== last) Object.assign(right, {value: last});
        right.dataset.last = last;
        fill(left, sources(results, Number(right.value)));
        const shown = results.find(({number}) => String(number) === right.value);
        const other = results.find(({number}) => String(number) === left.value);
        const urls = [
            other ? `./itermix/v1/results/${other.number}/result` : `./itermix/v1/results/${shown.number}/source`,
            `./itermix/v1/results/${shown.number}/result`,
        ];
        const names = [other ? `Result ${other.number}` : "The source", `Result ${shown.number}`];
        [...pair.children].forEach((image, k) => {
            if (image.getAttribute("src") !== urls[k]) image.setAttribute("src", urls[k]);
            image.alt = names[k];
        });
        const factor = ZOOMS[zoom.value];
        pair.style.width = factor ? `${shown.width * factor}px` : "100%";
        pair.style.aspectRatio = `${shown.width} / ${shown.height}`;
        list.replaceChildren(...(other ? differences(other, shown) : []));
    }

    async function update() {
        const open = [...gradioApp().querySelectorAll(".itermix-compare")].filter((place) => place.offsetParent);
        if (!open.length || Date.now() - state.asked < SLOW) return;
        state.asked = Date.now();
        const {body} = await ask("results");
        if (!body) return;
        const key = JSON.stringify(body);
        state.results = body;
        for (const place of open) {
            place.itermix ||= build(place);
            if (place.dataset.key !== key) draw(place.itermix);
            place.dataset.key = key;
        }
    }

    itermix.watch(update, 100);
})();
