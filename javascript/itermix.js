// What the scripts of the page share: finding controls, asking the extension, and noticing that something has changed.
const itermix = {
    find(selector) {
        return gradioApp().querySelector(selector);
    },

    // Of the prefix of a control's id.
    tab(prefix) {
        return prefix.split("_")[1];
    },

    number(id) {
        const input = itermix.find(`#${id} input[type=number]`);
        return input ? Number(input.value) : 0;
    },

    // Where a setting's inputs are.
    control(id) {
        return itermix.find(`#${id}-checkbox`) || itermix.find(`#${id}`);
    },

    // The value of a control of this schema; undefined if there is none, or while a choice is being typed.
    value(id, {type, enum: choices}) {
        const input = itermix.control(id)?.querySelector(
            type === "string" ? "input" : "input[type=number], input[type=checkbox]",
        );
        if (!input) return undefined;
        if (type === "boolean") return input.checked;
        if (type !== "string") return Number(input.value);
        return !choices || choices.includes(input.value) ? input.value : undefined;
    },

    // {name: schema} of all settings, those of the upscale script among them.
    properties() {
        const nothing = {mixing: {properties: {}}, upscale: {properties: {}}};
        itermix.schema ||= itermix.ask("schema").then(({body}) => {
            if (!body) itermix.schema = null; // to be asked for again
            return body || nothing;
        });
        return itermix.schema;
    },

    // {name: value} of the controls of an accordion.
    async settings(prefix) {
        const {mixing} = await itermix.properties();
        const all = Object.entries(mixing.properties);
        return Object.fromEntries(all.map(([name, property]) => [name, itermix.value(`${prefix}_${name}`, property)]));
    },

    // The tab's steps, as the routes take them.
    steps(tab) {
        const steps = itermix.number(`${tab}_steps`);
        return tab === "txt2img" ? {steps, hires_steps: itermix.number("txt2img_hires_steps")} : {steps};
    },

    // {body} of one of the extension's routes, or {problem}: a sentence.
    async ask(route, options) {
        const answer = await fetch(`./itermix/v1/${route}`, options).catch(() => null); // the page is left, for one
        if (!answer) return {problem: "The WebUI doesn't answer."};
        const body = await answer.json();
        if (answer.ok) return {body};
        return {problem: typeof body.detail === "string" ? body.detail : `HTTP ${answer.status}`};
    },

    // Calls update some milliseconds after the last event of the page, and twice a second for what makes none: values that
    // the server fills in, and pictures.
    watch(update, milliseconds) {
        let timer = null;
        function soon() {
            clearTimeout(timer);
            timer = setTimeout(update, milliseconds);
        }
        onUiLoaded(() => {
            for (const event of ["input", "change", "click"]) document.addEventListener(event, soon);
            setInterval(update, 500);
        });
    },
};
