// Has the list of presets read again when it comes into sight, since another tab or page may have changed them, and lets
// it follow the settings: it shows the preset that they are. Automatic is filled in again when the checkpoint is another.
(function () {
    const {find, settings} = itermix;
    const AUTOMATIC = "Automatic", SLOW = 5000; // milliseconds between two questions for the checkpoint
    const AGAIN = 1500; // and for the preset that the same settings are
    const seen = {}, followed = {}, filled = {};
    const known = {until: 0};

    async function refill(prefix) {
        if (find(`#${prefix}_preset input`)?.value !== AUTOMATIC) {
            delete filled[prefix];
            return;
        }
        if (Date.now() > known.until) {
            known.until = Date.now() + SLOW;
            known.hash = (await itermix.ask("facts")).body?.checkpoint?.hash;
        }
        if (filled[prefix] !== undefined && filled[prefix] !== known.hash) find(`#${prefix}_preset_again`).click();
        filled[prefix] = known.hash;
    }

    async function follow(prefix) {
        if (find(`#${prefix}_preset`).contains(document.activeElement)) return; // being chosen
        const key = JSON.stringify(await settings(prefix));
        const asked = followed[prefix]?.key === key ? followed[prefix] : {key, left: 2, from: 0};
        // Asked again a little later, since the answer to the question before may have come after the first to this one.
        if (!asked.left || Date.now() < asked.from) return;
        followed[prefix] = {key, left: asked.left - 1, from: Date.now() + AGAIN};
        find(`#${prefix}_preset_follow`).click();
    }

    function update() {
        for (const button of gradioApp().querySelectorAll("[id$=_preset_refresh]")) {
            const visible = button.parentElement.offsetParent !== null;
            if (visible && !seen[button.id]) button.click();
            seen[button.id] = visible;
            if (!visible) continue;
            const prefix = button.id.replace("_preset_refresh", "");
            refill(prefix).then(() => follow(prefix));
        }
    }

    itermix.watch(update, 100);
})();
