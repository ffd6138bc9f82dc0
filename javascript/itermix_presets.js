// Has the list of presets read again when it comes into sight, since another tab or page may have changed them, and lets
// it follow the settings: it shows the preset that they are.
(function () {
    const {find, settings} = itermix;
    const seen = {}, followed = {};

    async function follow(prefix) {
        if (find(`#${prefix}_preset`).contains(document.activeElement)) return; // being chosen
        const key = JSON.stringify(await settings(prefix));
        if (followed[prefix] === key) return;
        followed[prefix] = key;
        find(`#${prefix}_preset_follow`).click();
    }

    function update() {
        for (const button of gradioApp().querySelectorAll("[id$=_preset_refresh]")) {
            const visible = button.parentElement.offsetParent !== null;
            if (visible && !seen[button.id]) button.click();
            seen[button.id] = visible;
            if (visible) follow(button.id.replace("_preset_refresh", ""));
        }
    }

    itermix.watch(update, 100);
})();
