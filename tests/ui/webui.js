// What the extension's scripts use of a WebUI's own.
const gradioApp = () => document;

function onUiLoaded(callback) {
    if (document.querySelector("#itermix_img2img_alpha")) callback();
    else setTimeout(onUiLoaded, 50, callback);
}
