"""Both scripts through the page, in a real browser, as a person uses them."""

import json

import numpy as np
import pytest
from payloads import SIZE, STEPS, photograph
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, webui, tmp_path):
    """The img2img tab with the photograph in it, few steps and a fixed seed."""
    page = browser.new_page(viewport={"width": 1400, "height": 1800})
    page.set_default_timeout(60_000)
    page.goto(webui.url)
    page.locator("#tabs button", has_text="img2img").first.click()
    file = tmp_path / "photograph.png"
    photograph(SIZE).save(file)
    page.locator("#img2img_image input[type=file]").first.set_input_files(file)
    for element, value in (("steps", STEPS), ("width", SIZE), ("height", SIZE)):
        enter(page, f"#img2img_{element}", value)
    page.locator("#img2img_prompt textarea").fill("a photograph")
    yield page
    page.close()


def enter(page, element, value):
    """Type a number into the box of a slider."""
    box = page.locator(f"{element} input[type=number]").first
    box.fill(str(value))
    box.press("Enter")


def generated(page, webui, tab="img2img", button="generate"):
    """Press Generate; the picture that the WebUI saved."""
    before = set(webui.data.rglob("*.png"))
    page.locator(f"#{tab}_{button}").click()
    for _ in range(600):
        if {p for p in webui.data.rglob("*.png") if "grids" not in str(p)} - before:
            break
        page.wait_for_timeout(100)
    (saved,) = {p for p in webui.data.rglob("*.png") if "grids" not in str(p)} - before
    with Image.open(saved) as image:
        return np.asarray(image.convert("RGB")).astype(int), image.info["parameters"]


def test_ticking_the_accordion_mixes(page, webui):
    page.locator("#itermix_img2img_enabled .label-wrap").click()
    enter(page, "#itermix_img2img_alpha", 0.5)
    page.screenshot(path=webui.data / "accordion.png")
    pixels, parameters = generated(page, webui)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert "Itermix enabled: True, Itermix alpha: 0.5" in parameters


def test_choosing_the_script_upscales(page, webui):
    choose_script(page)
    page.screenshot(path=webui.data / "upscale.png")
    pixels, parameters = generated(page, webui)
    assert pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert "Itermix enabled: True" in parameters


def test_a_contradiction_is_shown_on_the_page_and_gives_no_picture(page, webui):
    page.locator("#itermix_img2img_enabled .label-wrap").click()
    enter(page, "#itermix_img2img_start", 0.9)
    enter(page, "#itermix_img2img_stop", 0.5)
    before = set(webui.data.rglob("*.png"))
    page.locator("#img2img_generate").click()
    page.get_by_text("stop = 0.5 is not possible").first.wait_for()
    assert set(webui.data.rglob("*.png")) == before


def choose_script(page):
    script = page.locator("#img2img_script_container #script_list input")
    script.fill("Iterative Mixing upscale")
    script.press("Enter")
    page.locator("#itermix_upscale_scale").wait_for()


def test_the_phases_are_shown_before_generating(page):
    choose_script(page)
    plan = page.locator("#itermix_upscale_plan")
    plan.get_by_text(f"{SIZE}x{SIZE} -> 128x128, {STEPS} steps").wait_for()
    enter(page, "#itermix_upscale_scale", 4)
    plan.get_by_text(f"{SIZE}x{SIZE} -> 128x128 -> 256x256, {STEPS} steps each").wait_for()
    enter(page, "#itermix_upscale_width", 1024)
    plan.get_by_text("target width = 1024 is not possible").wait_for()


def test_hires_fix_is_replaced_and_its_phases_are_shown(page, webui):
    page.locator("#tabs button", has_text="txt2img").first.click()
    for element, value in (("steps", STEPS), ("width", SIZE), ("height", SIZE)):
        enter(page, f"#txt2img_{element}", value)
    page.locator("#itermix_txt2img_enabled .label-wrap").click()
    plan = page.locator("#itermix_txt2img_plan")
    plan.get_by_text("Tick Hires. fix").wait_for()
    page.locator("#txt2img_hr .label-wrap").click()
    plan.get_by_text(f"{SIZE}x{SIZE} -> 128x128, {STEPS} steps").wait_for()
    pixels, parameters = generated(page, webui, "txt2img")
    assert pixels.shape == (128, 128, 3)
    assert "Itermix enabled: True" in parameters
    assert "Hires upscale: 2" in parameters


def test_the_gallerys_upscale_button_mixes(page, webui):
    page.locator("#tabs button", has_text="txt2img").first.click()
    for element, value in (("steps", STEPS), ("width", SIZE), ("height", SIZE)):
        enter(page, f"#txt2img_{element}", value)
    plain, _ = generated(page, webui, "txt2img")
    assert plain.shape == (SIZE, SIZE, 3)
    page.locator("#itermix_txt2img_enabled .label-wrap").click()
    page.locator("#txt2img_gallery img").first.wait_for()
    (webui.data / "runs.json").unlink(missing_ok=True)
    pixels, parameters = generated(page, webui, "txt2img", "upscale")
    assert pixels.shape == (128, 128, 3)
    assert "Itermix enabled: True" in parameters
    assert [run[:3] for run in json.loads((webui.data / "runs.json").read_text())] == [[128, 128, STEPS]]


def test_a_folder_of_pictures_of_several_sizes_is_upscaled_under_their_names(page, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name, size in (("wide", (80, 48)), ("high", (40, 64))):
        photograph(SIZE).resize(size).save(source / f"{name}.png")
    choose_script(page)
    page.locator("#mode_img2img button", has_text="Batch").first.click()
    page.locator("#img2img_batch_source button", has_text="From directory").first.click()
    page.locator("#img2img_batch_input_dir textarea").fill(str(source))
    page.locator("#img2img_batch_output_dir textarea").fill(str(target))
    page.locator("#img2img_generate").click()
    for _ in range(600):
        if len(list(target.glob("*.png"))) == 2:
            break
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)  # for the last file to be written in full
    found = {file.stem: Image.open(file) for file in target.glob("*.png")}
    assert {name: image.size for name, image in found.items()} == {"wide": (160, 96), "high": (80, 128)}
    assert all("Itermix enabled: True" in image.info["parameters"] for image in found.values())
