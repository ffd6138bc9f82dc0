// Greys out what has no effect with the rest as it is, says why, and marks the folds in which something was changed. When
// a setting has an effect is said by the schema, which is made from its declaration.
(function () {
    const {find, tab, control, value, properties, ask} = itermix;
    const facts = {until: 0}; // what no setting says, of the checkpoint that was asked about, and until when that counts

    // {fact: value} of the page; unknown ones are left out.
    async function known(prefix) {
        const checkpoint = find("#setting_sd_model_checkpoint input")?.value;
        if (facts.checkpoint !== checkpoint || Date.now() > facts.until) {
            Object.assign(facts, {checkpoint, until: Date.now() + 10000});
            const {network, flow} = (await ask("facts")).body || {};
            Object.assign(facts, {network: network ?? undefined, flow: flow ?? undefined});
        }
        const mask = find(`#${prefix}_mask img, #${prefix}_mask_painted input:checked`);
        return {tab: tab(prefix), network: facts.network, flow: facts.flow, mask: Boolean(mask)};
    }

    function holds(need, values) {
        return Object.entries(need.any).some(([name, wanted]) => {
            const found = values[name];
            if (found === undefined) return true; // not known
            return wanted ? wanted.includes(found) : Boolean(found);
        });
    }

    // Why a setting does nothing; empty if it does something. What depends on another that does nothing does nothing, too.
    function reason(name, schema, values) {
        for (const need of schema[name]?.["x-needs"] || []) {
            if (!holds(need, values)) return `No effect without ${need.words}.`;
            const others = Object.keys(need.any);
            const idle = others.length === 1 && reason(others[0], schema, values);
            if (idle) return idle;
        }
        return "";
    }

    // A setting that a fact of the page rules out stays in reach for as long as it is on, to be switched off.
    function stays(name, schema, values) {
        const byFact = (schema[name]["x-needs"] || []).some((need) => Object.keys(need.any).every((each) => !schema[each]));
        return byFact && values[name] !== schema[name].default;
    }

    function grey(id, why, inReach) {
        const place = control(id);
        if (!place) return;
        let text = find(`#${id}_reason`);
        if (!text && why) {
            text = document.createElement("p");
            Object.assign(text, {id: `${id}_reason`, className: "itermix-reason"});
            place.append(text);
        }
        if (text && text.textContent !== why) text.textContent = why;
        const off = Boolean(why) && !inReach;
        if (place.classList.contains("itermix-idle") !== off) place.classList.toggle("itermix-idle", off);
        for (const input of place.querySelectorAll("input, button")) {
            if (input.disabled !== off) input.disabled = off;
            if (why) input.setAttribute("aria-describedby", `${id}_reason`);
            else input.removeAttribute("aria-describedby");
        }
    }

    // The word on the label of a fold. In gradio 3 the label is no button, so it is made one for the keyboard.
    function mark(fold, changed) {
        const label = fold.querySelector(".label-wrap");
        if (label.tagName !== "BUTTON") {
            if (!label.hasAttribute("role")) {
                Object.assign(label, {role: "button", tabIndex: 0});
                label.addEventListener("keydown", (event) => {
                    if (![" ", "Enter"].includes(event.key)) return;
                    event.preventDefault();
                    label.click();
                });
            }
            label.setAttribute("aria-expanded", label.classList.contains("open"));
        }
        let word = label.querySelector(".itermix-changed");
        if (!word) {
            word = document.createElement("span");
            word.className = "itermix-changed";
            label.firstElementChild.after(word);
        }
        const title = changed.join(", ");
        if (word.title !== title) Object.assign(word, {title, textContent: title && "changed"});
    }

    // The settings of one schema under a prefix.
    function show(prefix, schema, others) {
        const names = Object.keys(schema).filter((name) => find(`#${prefix}_${name}`));
        const values = {...others};
        for (const name of names) values[name] = value(`${prefix}_${name}`, schema[name]);
        for (const name of names) grey(`${prefix}_${name}`, reason(name, schema, values), stays(name, schema, values));
        return names.filter((name) => values[name] !== undefined && values[name] !== schema[name].default);
    }

    async function update() {
        const {mixing, upscale} = await properties();
        for (const place of gradioApp().querySelectorAll(".itermix-chart")) {
            const prefix = place.dataset.prefix;
            const accordion = find(`#${prefix}_enabled`);
            if (!find(`#${prefix}_plan`)?.offsetParent) continue;
            const changed = show(prefix, mixing.properties, await known(prefix));
            for (const fold of accordion.querySelectorAll(".itermix-fold")) {
                const inside = changed.filter((name) => fold.querySelector(`#${prefix}_${name}`));
                mark(fold, inside.map((name) => mixing.properties[name].title));
            }
        }
        if (find("#itermix_upscale_plan")?.offsetParent) show("itermix_upscale", upscale.properties, {});
    }

    itermix.watch(update, 100);
})();
