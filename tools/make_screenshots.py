"""Take the screenshots of the docs in a listed A1111: python tools/make_screenshots.py [NAME]

See docs/development.md for the list of WebUIs; without a name it is the first. What is painted is painted by the small
latent model, of a held-out picture.
"""

from __future__ import annotations

import dataclasses
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "webui"), str(ROOT / "benchmarks")]

import hosts  # noqa: E402
from browsing import CHROMIUM, FLAGS, choose, enter, opened, unfold  # noqa: E402
from webui_quality import held_out  # noqa: E402

from itermix.standalone.latent import model as latent  # noqa: E402
from itermix.standalone.latent.export import export  # noqa: E402

MOST_BYTES = 250_000
MOST_SECONDS = 300  # that the page takes for anything, on a machine that is busy
GAP = 8
TALL = 4200  # pixels of a window in which nothing has to be scrolled
SCREENS = {"wide": (1280, 800), "phone": (390, 844)}
THEMES = ("light", "dark")
CFG = 3
SCRIPTS, PLAN = "#img2img_script_container #script_list", "#itermix_upscale_plan"


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    host = next(host for host in hosts.listed() if host.name.startswith(name))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = export(Path(folder), Path(host.folder) / "openai" / "clip-vit-large-patch14")
        host = dataclasses.replace(host, checkpoint=str(checkpoint))
        webui = hosts.WebUI(host, Path(folder) / "data", {"sd-webui-itermix": ROOT})
        render = held_out("tuning", latent.SIZE, [], seed=1, count=1)[0]
        source = Path(folder) / "source.png"
        render.source.save(source)
        try:
            with sync_playwright() as p:
                browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                first_picture(new_page(browser, webui, *SCREENS["wide"], "light"), source, render.prompt)
                tall(browser, webui, source)
                for screen, size in SCREENS.items():
                    for theme in THEMES:
                        main_area(new_page(browser, webui, *size, theme), source, f"page-{screen}-{theme}")
        finally:
            webui.stop()


def new_page(browser, webui, width: int, height: int, theme: str):
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(MOST_SECONDS * 1000)
    page.goto(f"{webui.url}/?__theme={theme}")
    return page


def with_source(page, source: Path) -> None:
    page.locator("#tabs button", has_text="img2img").first.click()
    page.locator("#img2img_image input[type=file]").first.set_input_files(source)
    choose(page, SCRIPTS, "Iterative Mixing upscale")
    page.locator(PLAN).get_by_text(" -> ").wait_for()


def first_picture(page, source: Path, prompt: str) -> None:
    """The walk of docs/first-picture.md: the source, the settings, the result over its source, and over another."""
    with_source(page, source)
    page.locator("#img2img_prompt textarea").fill(prompt)
    enter(page, "#img2img_cfg_scale", CFG)
    taken(page, "first-source", ("#img2img_toprow", "#img2img_image"), (SCRIPTS, PLAN))
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    scrolled(page, "#itermix_img2img_enabled")
    saved(page, "first-settings")
    generate(page)
    page.locator("#itermix_img2img_enabled summary").nth(1).click()
    compared(page, 1)
    taken(page, "first-compared", ("#itermix_img2img_compare", "#itermix_img2img_compare"))
    enter(page, "#itermix_img2img_alpha", 1)
    unfold(page, "Curve and blending")
    choose(page, "#itermix_img2img_blending", "addition")
    page.locator("#itermix_img2img_cutoff_reason").get_by_text("No effect without").wait_for()
    fold = "#itermix_img2img_fold_curve_and_blending"
    taken(page, "first-grey", (fold, fold))
    page.locator(f"{fold}_reset").click()
    generate(page)
    compared(page, 2)
    page.locator("#itermix_img2img_compare select.left").select_option("1")
    taken(page, "first-two", ("#itermix_img2img_compare", "#itermix_img2img_compare"))
    page.close()


def generate(page) -> None:
    page.locator("#img2img_generate").click()
    page.locator("#img2img_interrupt").wait_for()
    page.locator("#img2img_interrupt").wait_for(state="hidden")


def compared(page, number: int) -> None:
    """Wait until result `number` lies in the comparison."""
    page.wait_for_function(f"document.querySelector('#itermix_img2img_compare select.right')?.value === '{number}'")


def main_area(page, source: Path, name: str) -> None:
    with_source(page, source)
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    scrolled(page, "#itermix_img2img_enabled")
    saved(page, name)
    page.close()


def scrolled(page, element: str) -> None:
    page.locator(element).evaluate("element => element.scrollIntoView({block: 'start'})")


def saved(page, name: str) -> None:
    """What is on the screen."""
    page.wait_for_timeout(2000)  # until nothing moves any more
    kept(Image.open(io.BytesIO(page.screenshot())), name)


def tall(browser, webui, source: Path) -> None:
    """The README's: the selectable script with its phases, and hires fix with those of its second pass."""
    page = new_page(browser, webui, 1400, TALL, "light")
    with_source(page, source)
    opened(page, "img2img")
    enter(page, "#itermix_upscale_scale", 4)
    page.locator(PLAN).get_by_text("256x256 -> 512x512 -> 1024x1024").wait_for()
    taken(page, "upscale", ("#itermix_img2img_enabled", "#itermix_upscale_upscaler"))
    page.locator("#tabs button", has_text="txt2img").first.click()
    page.locator("#txt2img_hr .label-wrap").first.click()
    opened(page, "txt2img")
    page.locator("#itermix_txt2img_plan").get_by_text("512x512 -> 1024x1024").wait_for()
    taken(page, "hires", ("#txt2img_hr", "#txt2img_hr"), ("#itermix_txt2img_enabled", "#itermix_txt2img_enabled"))
    page.close()


def taken(page, name: str, *regions: tuple[str, str]) -> None:
    """Regions of the page one above the other, each from one element to another, as wide as its first."""
    size = page.viewport_size
    page.set_viewport_size({"width": size["width"], "height": TALL})
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(2000)  # until nothing moves any more
    parts = []
    for first, last in regions:
        top, bottom = (page.locator(element).first.bounding_box() for element in (first, last))
        height = bottom["y"] + bottom["height"] - top["y"] + GAP
        clip = {"x": top["x"], "y": top["y"], "width": top["width"], "height": height}
        parts.append(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    for k, part in enumerate(parts):
        whole.paste(part, (0, sum(before.height for before in parts[:k])))
    page.set_viewport_size(size)
    kept(whole, name)


def kept(image: Image.Image, name: str) -> None:
    file = PICTURES / f"{name}.png"
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    assert file.stat().st_size < MOST_BYTES


if __name__ == "__main__":
    main()
