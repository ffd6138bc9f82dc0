"""Take the README's screenshots in a listed WebUI: python tools/make_screenshots.py [NAME]

See docs/development.md for the list of WebUIs; without a name it is the first.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "webui")]

import hosts  # noqa: E402
from browsing import CHROMIUM, FLAGS, choose, enter  # noqa: E402

MOST_BYTES = 250_000
MOST_SECONDS = 120  # that the page takes for anything, on a machine that is busy
GAP = 8


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    host = next(host for host in hosts.listed() if host.name.startswith(name))
    with tempfile.TemporaryDirectory() as folder:
        webui = hosts.WebUI(host, Path(folder) / "data", {"sd-webui-itermix": ROOT})
        try:
            with sync_playwright() as p:
                browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                page = browser.new_page(viewport={"width": 1400, "height": 3600})
                page.set_default_timeout(MOST_SECONDS * 1000)
                page.goto(f"{webui.url}/?__theme=light")
                upscale(page, Path(folder) / "astronaut.png")
                hires(page)
        finally:
            webui.stop()


def upscale(page, file: Path) -> None:
    """The selectable script with its phases, and the accordion with the chart."""
    Image.fromarray(skimage.data.astronaut()).save(file)
    page.locator("#tabs button", has_text="img2img").first.click()
    page.locator("#img2img_image input[type=file]").first.set_input_files(file)
    opened(page, "img2img")
    choose(page, "#img2img_script_container #script_list", "Iterative Mixing upscale")
    enter(page, "#itermix_upscale_scale", 4)
    page.locator("#itermix_upscale_plan").get_by_text("512x512 -> 1024x1024 -> 2048x2048").wait_for()
    taken(page, "upscale", ("#itermix_img2img_enabled", "#itermix_upscale_upscaler"))


def hires(page) -> None:
    """Hires fix, and the accordion with the chart and the phases of its second pass."""
    page.locator("#tabs button", has_text="txt2img").first.click()
    page.locator("#txt2img_hr .label-wrap").first.click()
    opened(page, "txt2img")
    page.locator("#itermix_txt2img_plan").get_by_text("512x512 -> 1024x1024").wait_for()
    taken(page, "hires", ("#txt2img_hr", "#txt2img_hr"), ("#itermix_txt2img_enabled", "#itermix_txt2img_enabled"))


def opened(page, tab: str) -> None:
    page.locator(f"#itermix_{tab}_enabled .label-wrap").first.click()
    choose(page, f"#itermix_{tab}_preset", "Balanced")
    page.locator(f"#itermix_{tab}_chart svg").wait_for()


def taken(page, name: str, *regions: tuple[str, str]) -> None:
    """Regions of the page one above the other, each from one element to another, as wide as its first."""
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
    file = PICTURES / f"{name}.png"
    whole.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    assert file.stat().st_size < MOST_BYTES


if __name__ == "__main__":
    main()
