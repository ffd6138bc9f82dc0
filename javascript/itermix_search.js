// Finds settings by words of their labels and of their help: opens the folds that have some, and dims the rest.
(function () {
    const {find, properties} = itermix;
    const opened = new Set(); // folds that the search has opened, and closes again

    function turn(fold, open) {
        const label = fold.querySelector(".label-wrap");
        if (label.classList.contains("open") !== open) label.click();
    }

    // The settings whose names have all words; or, if there are none, those whose help or text on the page has them, which
    // may be of another language.
    function matching(all, words) {
        const having = (text) => all.filter((each) => words.every((word) => text(each).toLowerCase().includes(word)));
        const named = having(({name, title}) => `${name} ${title}`);
        return named.length ? named : having(({description, place}) => `${description} ${place.textContent}`);
    }

    async function search(input) {
        const prefix = input.id.replace("_search", "");
        const schema = (await properties()).mixing.properties;
        const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
        const all = Object.entries(schema)
            .map(([name, property]) => ({name, ...property, place: find(`#${prefix}_${name}`)}))
            .filter(({name, place}) => place && name !== "enabled");
        const matches = words.length ? matching(all, words) : [];
        for (const each of all) each.place.classList.toggle("itermix-dim", words.length > 0 && !matches.includes(each));
        for (const fold of find(`#${prefix}_enabled`).querySelectorAll(".itermix-fold")) {
            const has = matches.some(({place}) => fold.contains(place));
            fold.classList.toggle("itermix-dim", words.length > 0 && !has);
            if (has && !fold.querySelector(".label-wrap").classList.contains("open")) opened.add(fold);
            if (has) turn(fold, true);
            else if (opened.delete(fold)) turn(fold, false);
        }
        const titles = matches.map(({title}) => title).join(", ");
        find(`#${input.id}_found`).textContent = !words.length ? "" : titles || "No setting has these words.";
        return matches;
    }

    async function key(event) {
        const input = event.target.closest?.(".itermix-search input");
        if (!input || !["Escape", "Enter"].includes(event.key)) return;
        event.preventDefault();
        if (event.key === "Escape") input.value = "";
        const [first] = await search(input);
        if (event.key === "Enter" && first) first.place.querySelector("input:not(:disabled)")?.focus();
    }

    onUiLoaded(() => {
        document.addEventListener("input", (event) => event.target.closest?.(".itermix-search input") && search(event.target));
        document.addEventListener("keydown", key);
    });
})();
