// What the scripts of the page share: finding controls, asking the extension, and noticing that something has changed.
const itermix = {
    find(selector) {
        return gradioApp().querySelector(selector);
    },

    number(id) {
        const input = itermix.find(`#${id} input[type=number]`);
        return input ? Number(input.value) : 0;
    },

    // Steps of the sampling that mixes.
    steps(tab) {
        return (tab === "txt2img" && itermix.number("txt2img_hires_steps")) || itermix.number(`${tab}_steps`);
    },

    // {body} of one of the extension's routes, or {problem}: a sentence.
    async ask(route, options) {
        const answer = await fetch(`./itermix/v1/${route}`, options);
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
