// Tries the checkpoint: starts and stops it, says how far it is, shows its sheet, and keeps one of its rows as a preset.
(function () {
    const {ask} = itermix;
    const SCALES = [2, 3, 4];
    const SLOW = 2000; // milliseconds between two questions for how far it is
    const state = {asked: 0};

    function element(name, attributes = {}, ...children) {
        const made = Object.assign(document.createElement(name), attributes);
        made.append(...children);
        return made;
    }

    function post(route, body) {
        return ask(route, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    }

    function build(place) {
        const words = element(
            "p",
            {},
            "Tries the checkpoint that is loaded: hires fix, the presets, and settings around the best of them, on pictures that it makes itself. ",
            element("a", {href: "./itermix/v1/docs/calibrate.md", target: "_blank"}, "What it measures"),
        );
        const minutes = element("input", {type: "number", min: 1, max: 600, value: 20, className: "minutes"});
        const scale = element("select", {className: "scale"}, ...SCALES.map((each) => element("option", {value: each}, `${each}x`)));
        const start = element("button", {type: "button", className: "start"}, "Calibrate");
        const stop = element("button", {type: "button", className: "stop"}, "Stop");
        const status = element("p", {className: "status"});
        status.setAttribute("role", "status");
        const bar = element("progress", {max: 1, value: 0});
        const row = element("select", {className: "row"});
        const name = element("input", {type: "text", className: "name", maxLength: 60});
        const keep = element("button", {type: "button", className: "keep"}, "Keep for this checkpoint");
        const kept = element("p", {className: "kept"});
        kept.setAttribute("role", "status");
        const frame = element("iframe", {title: "Sheet of the calibration"});
        const link = element("a", {href: "./itermix/v1/calibration/sheet", target: "_blank"}, "The sheet in a window of its own");
        const labelled = (text, control) => element("label", {}, `${text} `, control);
        const choice = element("div", {}, labelled("Row", row), labelled("Name of the preset", name), keep, kept);
        const sheet = element("div", {}, link, frame);
        place.replaceChildren(words, labelled("Minutes", minutes), labelled("Scale", scale), start, stop, status, bar, choice, sheet);
        const own = {start, stop, status, bar, row, choice, sheet, frame};
        start.onclick = async () => show(own, await post("calibration/start", {minutes: Number(minutes.value), scale: Number(scale.value)}));
        stop.onclick = async () => show(own, await post("calibration/stop", {}));
        keep.onclick = async () => {
            const {body, problem} = await post("calibration/keep", {name: name.value, row: row.value});
            kept.textContent = problem || body.sentence;
        };
        return own;
    }

    function progress({made, planned, what, end}) {
        const until = new Date(1000 * end).toLocaleTimeString([], {hour: "2-digit", minute: "2-digit"});
        return `${made}${planned ? ` of ${planned}` : ""} pictures${what ? `, ${what}` : ""}; over at about ${until}.`;
    }

    function show({start, stop, status, bar, row, choice, sheet, frame}, {body, problem}) {
        if (!body) {
            status.textContent = problem;
            return;
        }
        const running = body.state === "running";
        start.disabled = running;
        stop.disabled = !running;
        status.textContent = running ? progress(body) : body.sentence;
        bar.hidden = !running;
        bar.value = body.planned ? body.made / body.planned : 0;
        choice.hidden = running || !body.rows.length;
        sheet.hidden = running || !body.sheet;
        const key = JSON.stringify([body.rows, body.best]);
        if (row.dataset.key !== key) {
            row.dataset.key = key;
            row.replaceChildren(...body.rows.map((each) => element("option", {value: each, selected: each === body.best}, each)));
        }
        if (sheet.hidden) frame.removeAttribute("src");
        else if (!frame.hasAttribute("src")) frame.src = "./itermix/v1/calibration/sheet";
    }

    async function update() {
        const open = [...gradioApp().querySelectorAll(".itermix-calibrate")].filter((place) => place.offsetParent);
        if (!open.length || Date.now() - state.asked < SLOW) return;
        state.asked = Date.now();
        const answer = await ask("calibration");
        for (const place of open) {
            place.itermix ||= build(place);
            show(place.itermix, answer);
        }
    }

    itermix.watch(update, 100);
})();
