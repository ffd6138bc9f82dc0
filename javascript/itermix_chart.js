// Draws the weights of the current settings. The numbers come from the extension; here they only become a picture.
(function () {
    const {find, tab, settings, steps, ask} = itermix;
    const WIDTH = 640, HEIGHT = 220;
    const LEFT = 40, RIGHT = WIDTH - 48, TOP = 26, BOTTOM = HEIGHT - 26;
    const OPEN = "itermix-chart"; // in the browser's storage
    const HINT = "Point at a step, or use the arrow keys, to read its values.";
    const state = {}; // {prefix: {key, step}}: what is drawn, and which step is being read

    function element(name, attributes = {}, ...children) {
        const made = document.createElementNS("http://www.w3.org/2000/svg", name);
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        made.append(...children);
        return made;
    }

    function paragraph(text, attributes = {}) {
        const made = document.createElement("p");
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        made.textContent = text;
        return made;
    }

    // Whether the chart is open is remembered by the browser.
    function remember(details) {
        if (details.dataset.remembered) return;
        details.dataset.remembered = true;
        const keep = () => localStorage.setItem(OPEN, details.open ? "open" : "closed");
        if (details.open) keep(); // somebody was faster
        details.open ||= localStorage.getItem(OPEN) === "open";
        details.addEventListener("toggle", keep);
    }

    async function update() {
        gradioApp().querySelectorAll("details:has(> .itermix-chart)").forEach(remember);
        for (const place of gradioApp().querySelectorAll(".itermix-chart")) {
            if (place.offsetParent) await show(place, place.dataset.prefix);
        }
    }

    async function show(place, prefix) {
        const name = tab(prefix);
        const scheduler = find(`#${name}_scheduler input`)?.value;
        const hires = name === "txt2img";
        const query = {settings: await settings(prefix), ...steps(name), scheduler, hires};
        const key = JSON.stringify(query);
        const mine = (state[prefix] ||= {step: null});
        if (mine.key === key && place.firstChild) return;
        mine.key = key;
        const headers = {"Content-Type": "application/json"};
        const {body, problem} = await ask("weights", {method: "POST", headers, body: key});
        if (mine.key !== key) return;
        const focused = place.contains(document.activeElement);
        if (problem) place.replaceChildren(paragraph(problem, {class: "itermix-problem", role: "status"}));
        else draw(place, mine, body);
        if (focused && place.querySelector("svg")) place.querySelector("svg").focus();
    }

    // Steps from first on, before last, are run; the others have no weight.
    function draw(place, mine, {weights, sigmas, first, last}) {
        const count = weights.length;
        const width = (RIGHT - LEFT) / count;
        const x = (step) => LEFT + (step + 0.5) * width;
        const y = (weight) => BOTTOM - weight * (BOTTOM - TOP);
        const levels = sigmas.map(Math.log10);
        const lowest = Math.min(...levels), highest = Math.max(...levels);
        const noise = (sigma) => y((Math.log10(sigma) - lowest) / (highest - lowest || 1));
        const run = [...weights.keys()].slice(first, last);
        const free = run.find((step) => weights.slice(step, last).every((weight) => weight === 0)) ?? last;

        const path = (name, steps, height) => element("path", {
            class: name,
            d: steps.map((step, k) => `${k ? "L" : "M"}${x(step).toFixed(1)} ${height(step).toFixed(2)}`).join(" "),
        });
        const band = (name, from, to) => element("rect", {
            class: name, x: LEFT + from * width, y: TOP, width: (to - from) * width, height: BOTTOM - TOP,
        });
        const text = (content, name, left, top) => element("text", {class: name, x: left, y: top}, content);
        const marker = element("line", {class: "marker", y1: TOP, y2: BOTTOM});
        const dots = run.map((step) => element("circle", {cx: x(step), cy: y(weights[step]), r: 3}));
        const label = summary(weights, sigmas, first, last, free);
        const chart = element(
            "svg",
            {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: 0, "aria-label": label},
            band("skipped", 0, first),
            band("skipped", last, count),
            band("free", free, last),
            ...[0, 0.5, 1].flatMap((weight) => [
                element("line", {class: "grid", x1: LEFT, x2: RIGHT, y1: y(weight), y2: y(weight)}),
                text(String(weight), "left", LEFT - 6, y(weight)),
            ]),
            ...powers(lowest, highest).map((level) => text(short(10 ** level), "right", RIGHT + 6, noise(10 ** level))),
            ...ticks(count).map((step) => text(String(step + 1), "below", x(step), BOTTOM + 14)),
            text("weight of the source", "title weight", LEFT, TOP - 14),
            text("noise level", "title noise", RIGHT, TOP - 14),
            path("noise", [...sigmas.keys()], (step) => noise(sigmas[step])),
            path("weight", run, (step) => y(weights[step])),
            marker,
            ...dots,
        );

        const reading = paragraph(HINT, {class: "itermix-reading", role: "status"});
        const footer = document.createElement("div");
        footer.className = "itermix-footer";
        footer.append(reading);
        if (run.length < count) footer.append(paragraph("steps left out", {class: "itermix-key"}));
        if (free < last) footer.append(paragraph("no guidance", {class: "itermix-key free"}));

        function read(step) {
            mine.step = step;
            chart.classList.toggle("reading", step !== null);
            dots.forEach((dot, k) => dot.setAttribute("r", run[k] === step ? 5 : 3));
            reading.textContent = HINT;
            if (step === null) return;
            marker.setAttribute("transform", `translate(${x(step)} 0)`);
            const weight = weights[step] === null ? "left out" : `weight ${short(weights[step])}`;
            reading.textContent = `step ${step + 1} of ${count}: ${weight}, noise level ${short(sigmas[step])}`;
        }

        const within = (step) => Math.min(count - 1, Math.max(0, step));
        chart.addEventListener("pointermove", (event) => {
            const box = chart.getBoundingClientRect();
            read(within(Math.floor((((event.clientX - box.left) / box.width) * WIDTH - LEFT) / width)));
        });
        chart.addEventListener("pointerleave", () => read(null));
        chart.addEventListener("keydown", (event) => {
            const now = mine.step ?? first - 1;
            const to = {ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: count - 1}[event.key];
            if (to === undefined) return;
            event.preventDefault();
            read(within(to));
        });
        place.replaceChildren(chart, footer);
        read(mine.step === null || mine.step >= count ? null : mine.step);
    }

    // What the picture shows, in words.
    function summary(weights, sigmas, first, last, free) {
        const at = (step) => `${short(weights[step])} at step ${step + 1}`;
        const left = weights.length - (last - first);
        return [
            `Weight of the source over ${weights.length} steps: ${at(first)}, ${at(last - 1)}.`,
            `Noise level ${short(sigmas[first])} to ${short(sigmas[last - 1])}.`,
            left ? `${left} steps are left out; steps ${first + 1} to ${last} are run.` : "",
            free < last ? `No guidance from step ${free + 1} on.` : "",
        ].filter(Boolean).join(" ");
    }

    // Two to three significant digits, as people write them: 14.6, 0.85, 0.03.
    function short(number) {
        return String(Number(number.toPrecision(number >= 10 ? 3 : 2)));
    }

    // Where the axis of the noise levels has numbers: at whole powers of ten, or at its ends if it spans too few.
    function powers(lowest, highest) {
        const whole = [];
        for (let level = Math.ceil(lowest); level <= highest; level++) whole.push(level);
        return whole.length > 1 ? whole : [lowest, highest];
    }

    // Which steps have numbers: about ten of them.
    function ticks(count) {
        const every = Math.ceil(count / 10);
        return [...Array(count).keys()].filter((i) => i === 0 || (i + 1) % every === 0);
    }

    itermix.watch(update, 100);
})();
