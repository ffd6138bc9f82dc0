"""Chromium, and what a person does with controls of gradio 3 and 4."""

import json
import shutil

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # fonts from elsewhere aren't waited for
OPTION = "[data-testid=dropdown-option]"


def enter(page, element, value):
    """Type a number into the box of a slider."""
    box = page.locator(f"{element} input[type=number]").first
    box.fill(str(value))
    box.press("Enter")


def choose(page, element, name):
    """Choose from a list."""
    page.locator(f"{element} input").first.click()
    page.locator(f"{OPTION}[aria-label='{name}']").click()


def offered(page, element):
    """What a list offers that has just come into sight."""
    page.wait_for_timeout(1000)  # it is read again then
    page.locator(f"{element} input").first.click()
    found = [option.get_attribute("aria-label") for option in page.locator(OPTION).all()]
    page.keyboard.press("Escape")
    page.locator(f"{element} input").first.blur()
    return found


def shown(page, element, kind):
    """Of a control, in the type of its parameter."""
    switch = f"{element}-checkbox"
    place = page.locator(switch if page.locator(switch).count() else element)
    if kind is bool:
        return place.locator("input[type=checkbox]").first.is_checked()
    if kind is str:
        return place.locator("input").first.input_value()
    return kind(float(place.locator("input[type=number]").first.input_value()))


def opened(page, tab="img2img"):
    """The accordion, with its chart."""
    page.locator(f"#itermix_{tab}_enabled .label-wrap").first.click()
    page.locator(f"#itermix_{tab}_enabled summary").first.evaluate("summary => (summary.parentElement.open = true)")
    page.locator(f"#itermix_{tab}_chart svg").wait_for()


def unfold(page, *names, tab="img2img"):
    """Open folds; all of them if none is named."""
    folds = page.locator(f"#itermix_{tab}_enabled .itermix-fold")
    for k in range(folds.count()):
        label = folds.nth(k).locator(".label-wrap").first
        if not names or label.inner_text().partition("\n")[0].strip() in names:
            label.click()


def curve(page, tab="img2img"):
    """The drawn curve of the weights, an SVG path."""
    return page.locator(f"#itermix_{tab}_chart path.weight").get_attribute("d")


def send_by_png_info(page, file, tab):
    """Open a picture in the PNG Info tab and send it to another."""
    page.locator("#tabs > .tab-nav button", has_text="PNG Info").click()
    page.locator("#pnginfo_image input[type=file]").set_input_files(file)
    page.locator("#tab_pnginfo").get_by_text("Steps: ").first.wait_for()
    page.locator(f"#tab_pnginfo #{tab}_tab").click()
    page.locator(f"#tab_{tab}").wait_for()


def given(page, tab="img2img"):
    """The settings that a request gets from the controls of a page of tests/ui."""
    box = page.locator(f"#{tab}_settings textarea")
    before = box.input_value()
    page.locator(f"#{tab}_generate").click()
    for _ in range(100):
        if (text := box.input_value()) != before:
            break
        page.wait_for_timeout(50)
    return json.loads(text) if text.startswith("{") else text
