// Has the list of presets read again when it comes into sight, since another tab or page may have changed them.
(function () {
    const seen = {};

    function update() {
        for (const button of gradioApp().querySelectorAll(".itermix-refresh")) {
            const visible = button.parentElement.offsetParent !== null;
            if (visible && !seen[button.id]) button.click();
            seen[button.id] = visible;
        }
    }

    itermix.watch(update, 100);
})();
