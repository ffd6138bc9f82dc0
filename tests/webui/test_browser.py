"""Both scripts through the page, in a real browser, as a person uses them."""

import json

import hosts
import numpy as np
import pytest
import requests
from browsing import choose, curve, enter, offered, opened, send_by_png_info, shown, unfold
from payloads import SIZE, STEPS, mask, mixing, photograph
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from probed import each_call
from test_small_models import kind, latent_shape, seen  # noqa: F401

from itermix.picture.repairs import BEFORE
from itermix.settings import Settings, UpscaleSettings
from itermix.settings.presets import AUTOMATIC, DECIDED, PRESETS, decided

RUN = Settings().steps
LONG = 3000  # tenths of a second, that a picture may take on a machine that is busy


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


def generated(page, webui, tab="img2img", button="generate"):
    """Press Generate; the picture that the WebUI saved."""
    before = set(webui.data.rglob("*.png"))
    page.locator(f"#{tab}_{button}").click()
    for _ in range(LONG):
        if {p for p in webui.data.rglob("*.png") if "grids" not in str(p)} - before:
            break
        page.wait_for_timeout(100)
    (saved,) = {p for p in webui.data.rglob("*.png") if "grids" not in str(p)} - before
    with Image.open(saved) as image:
        return np.asarray(image.convert("RGB")).astype(int), image.info["parameters"]


def test_ticking_the_accordion_mixes(page, webui):
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    enter(page, "#itermix_img2img_alpha", 0.6)
    page.screenshot(path=webui.data / "accordion.png")
    pixels, parameters = generated(page, webui)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert "Itermix enabled: True, Itermix alpha: 0.6" in parameters


def test_choosing_the_script_upscales(page, webui):
    choose_script(page)
    page.screenshot(path=webui.data / "upscale.png")
    pixels, parameters = generated(page, webui)
    assert pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert "Itermix enabled: True" in parameters


def test_a_source_picture_is_upscaled_with_the_defaults_in_three_clicks_and_laid_over_its_source(page, webui):
    page.evaluate(
        "window.clicks = 0; document.addEventListener('click', event => (window.clicks += event.isTrusted), true)"
    )
    choose(page, "#img2img_script_container #script_list", "Iterative Mixing upscale")
    pixels, _ = generated(page, webui)
    assert pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert page.evaluate("window.clicks") <= 3
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    compared(page, "img2img")


def compared(page, tab):
    """Wait until the last result, of twice the size, lies over its source."""
    page.locator(f"#itermix_{tab}_enabled summary", has_text="Before and after").click()
    widths = f"[...document.querySelectorAll('#itermix_{tab}_compare img')].map(image => image.naturalWidth)"
    page.wait_for_function(f"String({widths}) === '{SIZE},{2 * SIZE}'")


@pytest.mark.parametrize("kind", ["flux", "anima"], indirect=True)
def test_models_of_flow_matching_upscale_and_replace_hires_fix(kind, page, webui):  # noqa: F811
    choose_script(page)
    pixels, parameters = generated(page, webui)
    assert pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert "Itermix unfinished" not in parameters
    assert seen(webui)["latent"].shape == latent_shape(kind, 2 * SIZE)
    go_to_txt2img(page)
    choose(page, "#txt2img_scheduler", "Simple")  # "Automatic" is none for Flux in Forge, mixed or not
    page.locator("#itermix_txt2img_enabled .label-wrap").first.click()
    page.locator("#txt2img_hr .label-wrap").click()
    page.locator("#itermix_txt2img_plan").get_by_text(f"{SIZE}x{SIZE} -> {2 * SIZE}x{2 * SIZE}").wait_for()
    pixels, parameters = generated(page, webui, "txt2img")
    assert pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert "Itermix enabled: True" in parameters
    assert "Itermix unfinished" not in parameters


def test_what_has_no_effect_is_greyed_out_and_a_fold_says_what_was_changed(page):
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    unfold(page, "Curve and blending")
    choose(page, "#itermix_img2img_blending", "addition")
    page.locator("#itermix_img2img_cutoff_reason").get_by_text("No effect without Blending low-pass").wait_for()
    assert page.locator("#itermix_img2img_cutoff input").first.is_disabled()
    fold = page.locator("#itermix_img2img_fold_curve_and_blending")
    fold.locator(".itermix-changed[title='Blending']").get_by_text("changed").wait_for()
    page.locator("#itermix_img2img_fold_curve_and_blending_reset").click()
    fold.locator(".itermix-changed:empty").wait_for(state="attached")
    assert page.locator("#itermix_img2img_cutoff input").first.is_enabled()


def test_the_page_leads_to_the_docs(page, webui):
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    link = page.locator("#itermix_img2img_enabled a", has_text="How it works").get_attribute("href")
    page.goto(f"{webui.url}/{link}")
    page.locator("h1", has_text="A first picture").wait_for()
    page.wait_for_function(
        "[...document.images].length > 5 && [...document.images].every(image => image.naturalWidth > 0)"
    )


def test_a_contradiction_is_shown_on_the_page_and_gives_no_picture(page, webui):
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    unfold(page, "Curve and blending")
    enter(page, "#itermix_img2img_start", 0.9)
    enter(page, "#itermix_img2img_stop", 0.5)
    refused(page, webui, "stop = 0.5 is not possible")


def refused(page, webui, sentence):
    """Press Generate: the sentence is on the page and on one line of the console, and there is no picture."""
    before, logged = set(webui.data.rglob("*.png")), len(webui.log.read_text())
    page.locator("#img2img_generate").click()
    page.locator("#img2img_results").get_by_text(sentence).first.wait_for()
    assert set(webui.data.rglob("*.png")) == before
    said = webui.log.read_text()[logged:]
    assert said.count(sentence) == 1
    assert "Traceback" not in said


def test_a_contradiction_of_the_script_is_shown_on_the_page_and_gives_no_picture(page, webui):
    choose_script(page)
    enter(page, "#itermix_upscale_width", 516)
    refused(page, webui, "width = 516 is not possible")


def test_a_refused_request_is_followed_by_one_that_is_made(page, webui):
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    unfold(page, "Curve and blending")
    enter(page, "#itermix_img2img_start", 0.9)
    enter(page, "#itermix_img2img_stop", 0.5)
    refused(page, webui, "stop = 0.5 is not possible")
    page.locator("#itermix_img2img_fold_curve_and_blending_reset").click()
    page.wait_for_function("document.querySelector('#itermix_img2img_stop input').value === '1'")
    _, parameters = generated(page, webui)
    assert "Itermix enabled: True" in parameters


def choose_script(page):
    script = page.locator("#img2img_script_container #script_list input")
    script.fill("Iterative Mixing upscale")
    script.press("Enter")
    page.locator("#itermix_upscale_scale").wait_for()


def test_the_phases_are_shown_before_generating(page):
    choose_script(page)
    plan = page.locator("#itermix_upscale_plan")
    plan.get_by_text(f"{SIZE}x{SIZE} -> 128x128, {RUN} steps").wait_for()
    enter(page, "#itermix_upscale_scale", 4)
    plan.get_by_text(f"{SIZE}x{SIZE} -> 128x128 -> 256x256, {RUN} steps each").wait_for()
    enter(page, "#itermix_upscale_width", 1024)
    plan.get_by_text("target width = 1024 is not possible").wait_for()


def go_to_txt2img(page):
    page.locator("#tabs button", has_text="txt2img").first.click()
    for element, value in (("steps", STEPS), ("width", SIZE), ("height", SIZE)):
        enter(page, f"#txt2img_{element}", value)


def test_hires_fix_is_replaced_and_its_phases_are_shown(page, webui):
    go_to_txt2img(page)
    page.locator("#itermix_txt2img_enabled .label-wrap").first.click()
    plan = page.locator("#itermix_txt2img_plan")
    plan.get_by_text("Tick Hires. fix").wait_for()
    page.locator("#txt2img_hr .label-wrap").click()
    plan.get_by_text(f"{SIZE}x{SIZE} -> 128x128, {RUN} steps").wait_for()
    pixels, parameters = generated(page, webui, "txt2img")
    assert pixels.shape == (128, 128, 3)
    assert "Itermix enabled: True" in parameters
    assert "Hires upscale: 2" in parameters
    assert f"Denoising strength: {Settings().denoise}, " in parameters  # what ran, not what hires fix asks for
    compared(page, "txt2img")
    for side, length in (("x", 80), ("y", 96)):
        enter(page, f"#txt2img_hr_resize_{side}", length)
    plan.get_by_text(f"{SIZE}x{SIZE} -> 80x96, {RUN} steps").wait_for()


def test_repairs_before_the_mixing_are_chosen_on_the_page(page, webui):
    go_to_txt2img(page)
    page.locator("#txt2img_hr .label-wrap").click()
    page.locator("#itermix_txt2img_enabled .label-wrap").first.click()
    unfold(page, "Phases and clean-up", tab="txt2img")
    choose(page, "#itermix_txt2img_repairs", BEFORE)
    what, seen = webui.data / "repair.json", webui.data / "repaired.json"
    seen.unlink(missing_ok=True)
    what.write_text(json.dumps("nothing"))
    try:
        _, parameters = generated(page, webui, "txt2img")
    finally:
        what.unlink()
    assert f"Itermix repairs: {BEFORE}" in parameters
    assert json.loads(seen.read_text()) == [[SIZE, SIZE, 0, 0]]


def test_the_gallerys_upscale_button_mixes(page, webui):
    go_to_txt2img(page)
    plain, _ = generated(page, webui, "txt2img")
    assert plain.shape == (SIZE, SIZE, 3)
    page.locator("#itermix_txt2img_enabled .label-wrap").first.click()
    page.locator("#txt2img_gallery img").first.wait_for()
    (webui.data / "runs.json").unlink(missing_ok=True)
    pixels, parameters = generated(page, webui, "txt2img", "upscale")
    assert pixels.shape == (128, 128, 3)
    assert "Itermix enabled: True" in parameters
    assert [run[:3] for run in json.loads((webui.data / "runs.json").read_text())] == [[128, 128, RUN]]


def test_a_folder_of_pictures_of_several_sizes_is_upscaled(page, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name, size in (("wide", (80, 48)), ("high", (40, 64))):
        photograph(SIZE).resize(size).save(source / f"{name}.png")
    choose_script(page)
    page.locator("#mode_img2img button", has_text="Batch").first.click()
    if page.locator("#img2img_batch_source").count():  # reForge's tab has folders alone
        page.locator("#img2img_batch_source button", has_text="From directory").first.click()
    page.locator("#img2img_batch_input_dir textarea").fill(str(source))
    page.locator("#img2img_batch_output_dir textarea").fill(str(target))
    page.locator("#img2img_generate").click()
    for _ in range(LONG):
        if len(list(target.glob("*.png"))) == 2:
            break
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)  # for the last file to be written in full
    found = [Image.open(file) for file in target.glob("*.png")]
    assert sorted(image.size for image in found) == [(80, 128), (160, 96)]
    assert all("Itermix enabled: True" in image.info["parameters"] for image in found)


def test_the_script_s_own_folders_have_a_journal_and_go_on(page, webui, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deeper").mkdir(parents=True)
    said = PngInfo()
    said.add_text("parameters", "a red door\nSteps: 3, Sampler: Euler, CFG scale: 4, Seed: 77")
    photograph(SIZE).save(source / "said.png", pnginfo=said)
    photograph(SIZE).resize((80, 48)).save(source / "deeper" / "wide.png")
    (source / "broken.png").write_bytes(b"no picture")
    choose_script(page)
    page.locator("#itermix_upscale_fold_a_folder_of_pictures .label-wrap").first.click()
    page.locator("#itermix_upscale_source_folder input, #itermix_upscale_source_folder textarea").fill(str(source))
    page.locator("#itermix_upscale_target_folder input, #itermix_upscale_target_folder textarea").fill(str(target))
    before = set(webui.data.rglob("*.png"))
    results = page.locator("#img2img_results")

    page.locator("#img2img_generate").click()
    results.get_by_text("of 3 pictures 2 made, 1 failed (broken.png; the console says why)").wait_for(timeout=300_000)
    assert set(webui.data.rglob("*.png")) == before  # they are in the folder alone
    with Image.open(target / "said.png") as image:
        assert image.size == (2 * SIZE, 2 * SIZE)
        parameters = image.info["parameters"]
    assert parameters.startswith("a red door\n")
    assert f"Itermix steps: {RUN}, " in parameters  # those of the text made it from nothing
    assert "Seed: 77, " in parameters
    with Image.open(target / "deeper" / "wide.png") as image:
        assert image.size == (160, 96)
        assert image.info["parameters"].startswith("a photograph\n")
    assert (target / ".itermix-batch.sqlite").exists()

    (target / "deeper" / "wide.png").unlink()
    (source / "broken.png").unlink()
    whole = (target / "said.png").read_bytes()
    page.locator("#img2img_generate").click()
    results.get_by_text("of 2 pictures 1 made, 1 were there.").wait_for(timeout=300_000)
    assert (target / "deeper" / "wide.png").exists()
    assert (target / "said.png").read_bytes() == whole

    enter(page, "#itermix_upscale_scale", 1.5)
    page.locator("#img2img_generate").click()
    results.get_by_text("of 2 pictures 0 made, 2 were there (2 made otherwise, left as they are").wait_for()
    assert (target / "said.png").read_bytes() == whole

    page.locator("#itermix_upscale_source_folder input, #itermix_upscale_source_folder textarea").fill("/nowhere")
    refused(page, webui, "source folder = '/nowhere' is not possible")


def paint(page, file):
    """Put a picture of 512 px into the tab Inpaint, and paint over its middle."""
    page.locator("#mode_img2img button", has_text="Inpaint").first.click()
    page.locator("#img2img_inpaint_full_res").get_by_text("Whole picture").click()  # which isn't Forge Neo's default
    page.locator("#img2maskimg input[type=file]").first.set_input_files(file)
    canvas = page.locator("#img2maskimg canvas").first
    canvas.wait_for()
    page.wait_for_timeout(1500)  # until it has the size of the picture
    box = canvas.bounding_box()
    for stroke in range(9):
        x, (top, bottom) = box["x"] + (0.42 + 0.02 * stroke) * box["width"], (0.4, 0.6)
        page.mouse.move(x, box["y"] + top * box["height"])
        page.wait_for_timeout(800)  # A1111 moves the canvas to the front when the mouse comes
        page.mouse.down()
        for k in range(11):
            page.mouse.move(x, box["y"] + (top + (bottom - top) * k / 10) * box["height"])
            page.wait_for_timeout(20)
        page.mouse.up()


LEFT, MIDDLE = np.s_[:, : SIZE // 4], np.s_[7 * SIZE // 16 : 9 * SIZE // 16, 7 * SIZE // 16 : 9 * SIZE // 16]
"""Of a picture: what isn't painted, nor near it; what is painted."""


def test_what_is_painted_in_the_inpaint_tab_changes_and_the_rest_is_untouched(page, webui, tmp_path):
    source = tmp_path / "source.png"
    photograph(512).save(source)
    paint(page, source)
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    pixels, parameters = generated(page, webui)
    assert "Itermix enabled: True" in parameters
    assert "Mask blur: " in parameters
    with Image.open(source) as image:
        change = np.abs(pixels - np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)).astype(int))
    assert change[LEFT].max() == 0
    assert change[MIDDLE].mean() > 5


def held(page):
    """Open the accordion with settings that hold every state to the noised source, but where a mask frees it."""
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    unfold(page, "Curve and blending", "Masks and rewind")
    choose(page, "#itermix_img2img_blending", "addition")
    for name, value in (("lowest", 1), ("fidelity", 0), ("denoise", 1)):
        enter(page, f"#itermix_img2img_{name}", value)


def test_use_the_inpaint_mask_lets_go_where_it_is_painted(page, webui, tmp_path):
    """All of the picture is sampled then; what isn't painted is guided to the last step, in every state that the model
    sees. The pictures can't tell, since a network that is all noise sees the middle from everywhere."""
    source = tmp_path / "source.png"
    photograph(512).save(source)
    page.locator("#img2img_image input[type=file]").first.set_input_files(source)
    held(page)
    generated(page, webui)
    assert np.max(freedom(webui)) < 1e-4
    paint(page, source)
    page.locator("#itermix_img2img_mask_painted input").check()
    _, parameters = generated(page, webui)
    assert "Mask blur: " not in parameters
    for free in freedom(webui):
        assert free[:, : SIZE // 32].max() < 1e-4
        assert free[3:5, 3:5].min() > 0.01  # a part of each is painted


def test_an_uploaded_mask_lets_go_where_it_is_black(page, webui, tmp_path):
    held(page)
    page.locator("#itermix_img2img_mask_mode.itermix-idle").wait_for()
    mask().save(tmp_path / "mask.png")
    page.locator("#itermix_img2img_mask input[type=file]").first.set_input_files(tmp_path / "mask.png")
    page.locator("#itermix_img2img_mask_mode.itermix-idle").wait_for(state="detached")
    generated(page, webui)
    for free in freedom(webui):
        assert free[:, SIZE // 16 :].max() < 1e-4
        assert free[:, : SIZE // 16].min() > 0.01


def freedom(webui):
    """How far from the noised source, as a share of the highest there, is what the model saw of each latent pixel
    [H, W], in each call after the first."""
    return [((seen - noised).abs() / noised.abs().max()).amax((0, 1)).numpy() for seen, _, noised in each_call(webui)]


CHART = "#itermix_img2img_chart"


def unlike(page, before):
    """Wait until the drawn curve is another one."""
    page.wait_for_function(
        f"before => document.querySelector('{CHART} path.weight').getAttribute('d') != before", arg=before
    )


@pytest.fixture
def charted(page):
    """The img2img tab with the accordion open and the curve drawn."""
    opened(page)
    enter(page, "#itermix_img2img_denoise", 1)
    page.wait_for_function(f"document.querySelectorAll('{CHART} circle').length == {RUN}")
    return page


def test_moving_a_slider_redraws_the_curve_and_a_step_is_read_by_keyboard_and_by_pointing(charted):
    before = curve(charted)
    charted.locator("#itermix_img2img_alpha input[type=range]").focus()
    charted.keyboard.press("ArrowRight")
    unlike(charted, before)
    charted.locator(f"{CHART} svg").focus()
    charted.keyboard.press("ArrowRight")
    reading = charted.locator(f"{CHART} [role=status]")
    assert reading.inner_text().startswith(f"step 1 of {RUN}: weight 1, noise level ")
    charted.locator(f"{CHART} circle").nth(2).hover(force=True)
    assert reading.inner_text().startswith(f"step 3 of {RUN}: weight ")


def test_a_generated_picture_sent_back_by_png_info_restores_every_control(charted, webui):
    def everything():
        mixing = {p.name: shown(charted, f"#itermix_img2img_{p.name}", p.type) for p in Settings.parameters()}
        own = UpscaleSettings.own_parameters()
        return mixing | {p.name: shown(charted, f"#itermix_upscale_{p.name}", p.type) for p in own}

    defaults, before = everything(), curve(charted)
    choose_script(charted)
    unfold(charted)
    choose(charted, "#itermix_img2img_blending", "slerp")
    for name, value in (("alpha", 0.6), ("cleanup", 0.2), ("start", 0.1), ("seed", 5)):
        enter(charted, f"#itermix_img2img_{name}", value)
    enter(charted, "#itermix_upscale_scale", 1.5)
    unlike(charted, before)
    chosen = everything()
    assert {name for name in chosen if chosen[name] != defaults[name]} == {
        *("blending", "alpha", "cleanup", "start", "seed", "scale")
    }
    pixels, _ = generated(charted, webui)
    assert pixels.shape == (96, 96, 3)
    newest = max(webui.data.rglob("*.png"), key=lambda file: file.stat().st_mtime)
    charted.reload()
    charted.locator("#itermix_img2img_alpha").wait_for(state="attached")
    assert everything() != chosen
    send_by_png_info(charted, newest, "img2img")
    charted.locator("#itermix_upscale_scale").wait_for()
    for _ in range(100):
        if everything() == chosen:
            break
        charted.wait_for_timeout(100)
    assert everything() == chosen
    assert charted.locator("#img2img_script_container #script_list input").input_value() == "Iterative Mixing upscale"


def test_contradicting_settings_are_told_in_the_charts_place(charted):
    unfold(charted, "Curve and blending")
    enter(charted, "#itermix_img2img_start", 0.9)
    enter(charted, "#itermix_img2img_stop", 0.5)
    charted.locator(CHART, has_text="stop = 0.5 is not possible").wait_for()


def test_a_preset_fills_the_controls(charted):
    before = curve(charted)
    choose(charted, "#itermix_img2img_preset", "DemoFusion paper")
    unlike(charted, before)
    expected = decided(PRESETS["DemoFusion paper"])
    assert {p.name: shown(charted, f"#itermix_img2img_{p.name}", p.type) for p in DECIDED} == expected


def test_a_preset_of_ones_own_is_saved_renamed_and_deleted(charted, webui):
    file = webui.data / "itermix-presets.json"
    message = charted.locator("#itermix_img2img_preset_message")
    name = charted.locator("#itermix_img2img_preset_name").locator("input, textarea")
    unfold(charted, "Own presets")
    enter(charted, "#itermix_img2img_alpha", 0.45)
    name.fill("Mine")
    charted.locator("#itermix_img2img_preset_save").click()
    message.get_by_text("Saved Mine.").wait_for()
    assert json.loads(file.read_text())["Mine"]["alpha"] == 0.45
    name.fill("Portraits")
    charted.locator("#itermix_img2img_preset_rename").click()
    message.get_by_text("Renamed Mine to Portraits.").wait_for()
    charted.reload()
    charted.locator("#tabs button", has_text="img2img").first.click()
    charted.locator("#itermix_img2img_enabled .label-wrap").first.click()
    assert offered(charted, "#itermix_img2img_preset") == [AUTOMATIC, *PRESETS, "Portraits"]
    choose(charted, "#itermix_img2img_preset", "Portraits")
    charted.locator("#itermix_img2img_preset_reason").get_by_text("Your own.").wait_for()
    assert shown(charted, "#itermix_img2img_alpha", float) == 0.45
    unfold(charted, "Own presets")
    charted.locator("#itermix_img2img_preset_delete").click()
    message.get_by_text("Deleted Portraits.").wait_for()
    assert json.loads(file.read_text()) == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_accordion_is_drawn_in_both_themes(charted, webui, theme):
    charted.goto(f"{webui.url}/?__theme={theme}")
    charted.locator("#tabs button", has_text="img2img").first.click()
    opened(charted)
    assert not charted.locator("#itermix_img2img_preset_refresh").is_visible()  # for the page's script only
    charted.locator("#itermix_img2img_enabled").screenshot(path=webui.data / f"accordion-{theme}.png")
    colours = [
        charted.locator(f"{CHART} {part}").first.evaluate("element => getComputedStyle(element).color")
        for part in ("svg", ".itermix-reading")
    ]
    bright = [sum(map(int, colour.strip("rgba()").split(",")[:3])) > 384 for colour in colours]
    assert bright == [theme == "dark"] * 2


SET_ELSEWHERE = {"max_scale_per_phase", "save_phases"}  # on the settings page


def test_ui_config_knows_every_control_by_a_key_of_its_own(webui):
    keys = json.loads((webui.data / "ui-config.json").read_text())
    ours = [key for key in keys if key.startswith("customscript/iterative_mixing.py/") and key.endswith("/value")]
    expected = {
        f"customscript/iterative_mixing.py/{tab}/{parameter.label}/value"
        for tab, settings in (("img2img", UpscaleSettings), ("txt2img", Settings))
        for parameter in settings.parameters()
        if parameter.name not in SET_ELSEWHERE | {"enabled"}
    }
    # A1111 knows the accordion's checkbox, too, Forge doesn't.
    assert {key for key in ours if not key.endswith("/Iterative Mixing/value")} == expected
    of_presets = {key: value for key, value in keys.items() if key.split("/")[1].startswith("Preset")}
    assert "Balanced" not in of_presets.values()  # another's in Forge Neo has the same label
    named = [part["props"].get("elem_id") for part in webui.get("../../config")["components"] if labelled(part)]
    others = [elem_id for elem_id in named if not str(elem_id).startswith("itermix_")]
    assert len(named) == len(others) + 2  # ours of both tabs; others' are in reForge's ControlNet
    assert any("/Preset name/" in key for key in of_presets) == bool(others)


def labelled(part):
    return part["props"].get("label") == "Preset name"


@pytest.fixture
def options(webui):
    """Others than the defaults on the settings page, until the end of the test."""

    def choose_options(scale, level):
        changes = {"itermix_max_scale_per_phase": scale, "itermix_log_level": level}
        assert webui.post("options", changes).status_code == 200

    choose_options(3.0, "DEBUG")
    yield
    choose_options(2.0, "INFO")


@pytest.mark.usefixtures("options")
def test_the_settings_page_decides_what_a_request_leaves_out_and_how_much_is_logged(webui):
    (picture,) = webui.generate("img2img", mixing({}))
    assert "Itermix scale per phase: 3" in picture.parameters
    assert "'max_scale_per_phase': 3.0" in webui.log.read_text()
    (picture,) = webui.generate("img2img", mixing({"max_scale_per_phase": 4.0}))
    assert "Itermix scale per phase: 4" in picture.parameters


def test_the_settings_page_has_a_section(page):
    page.locator("#tabs button", has_text="Settings").first.click()
    page.locator("#settings button", has_text="Iterative Mixing").first.click()
    page.locator("#setting_itermix_max_scale_per_phase").wait_for()
    page.locator("#setting_itermix_save_phases").wait_for()
    page.locator("#setting_itermix_log_level").wait_for()


TRANSLATED = {
    "Creativity": "Freiheit",
    "Preset": "Vorlage",
    "Curve and blending": "Kurve und Mischung",
    "weight of the source": "Gewicht der Quelle",
    "How the noised source and the sampler's state become one.": "Wie beide eins werden.",
}


@pytest.fixture
def translated(host, tmp_path):
    """A WebUI in another language, which an extension brings."""
    (tmp_path / "language" / "localizations").mkdir(parents=True)
    (tmp_path / "language" / "localizations" / "test.json").write_text(json.dumps(TRANSLATED))
    extensions = {"sd-webui-itermix": hosts.ROOT, "language": tmp_path / "language"}
    server = hosts.WebUI(host, tmp_path / "data", extensions, localization="test")
    yield server
    server.stop()


def test_labels_help_and_chart_are_in_the_language_of_the_webui(browser, translated):
    page = browser.new_page(viewport={"width": 1400, "height": 1800})
    page.set_default_timeout(60_000)
    page.goto(translated.url)
    page.locator("#tabs > .tab-nav button").nth(1).click()
    opened(page)
    accordion = page.locator("#itermix_img2img_enabled")
    unfold(page, TRANSLATED["Curve and blending"])
    for text, other in TRANSLATED.items():
        accordion.get_by_text(other, exact=True).first.wait_for()
        assert not accordion.get_by_text(text, exact=True).count()
    page.close()


CALIBRATE = "#itermix_img2img_calibrate"


@pytest.fixture
def calibrating(page, webui):
    """The fold that tries the checkpoint, with sources as small as the photograph; nothing of it is left."""
    (webui.data / "side.json").write_text(str(SIZE))
    page.locator("#itermix_img2img_enabled .label-wrap").first.click()
    unfold(page, "Own presets")
    page.locator("#itermix_img2img_enabled summary", has_text="Which settings suit this checkpoint?").click()
    yield page
    (webui.data / "side.json").unlink()
    requests.post(f"{webui.url}/itermix/v1/calibration/stop", timeout=30)
    requests.post(f"{webui.url}/itermix/v1/presets/delete", json={"name": "Calibrated"}, timeout=30)


def stopped(page, webui):
    """Start, wait until the bar knows how many pictures there are, and stop: how many there were."""
    page.locator(f"{CALIBRATE} .start").click()
    page.wait_for_function(
        f"/ of \\d+ pictures, .* over at about /.test(document.querySelector('{CALIBRATE} .status').innerText)",
        timeout=300_000,
    )
    assert page.locator(f"{CALIBRATE} progress").is_visible()
    assert page.locator(f"{CALIBRATE} .start").is_disabled()
    page.locator(f"{CALIBRATE} .stop").click()
    page.locator(f"{CALIBRATE} .status").get_by_text(
        "It was stopped before all was tried; start again to go on."
    ).wait_for(timeout=300_000)
    return len(list((webui.data / "itermix-calibrations").glob("*/results/*/*.png")))


def test_the_checkpoint_is_tried_stopped_shown_gone_on_with_and_kept(calibrating, webui):
    page = calibrating
    made = stopped(page, webui)
    sheet = page.frame_locator(f"{CALIBRATE} iframe")
    sheet.locator(".pair img").first.wait_for()
    assert sheet.locator("h1").inner_text().startswith("Calibration of ")
    page.screenshot(path=webui.data / "calibrated.png")
    with page.context.expect_page() as opening:
        page.locator(f"{CALIBRATE} a", has_text="The sheet in a window of its own").click()
    opening.value.locator("td", has_text="hires fix 0.5").wait_for()
    opening.value.close()

    again = stopped(page, webui)
    assert again > made
    page.locator(f"{CALIBRATE} .row").select_option("Creative")
    page.locator(f"{CALIBRATE} .name").fill("Calibrated")
    page.locator(f"{CALIBRATE} .keep").click()
    page.locator(f"{CALIBRATE} .kept").get_by_text("Kept Creative as Calibrated; Automatic takes it with").wait_for()
    known = requests.get(f"{webui.url}/itermix/v1/facts", timeout=30).json()["checkpoint"]["hash"]
    presets = requests.get(f"{webui.url}/itermix/v1/presets", timeout=30).json()
    assert presets["bound"] == {known: "Calibrated"}
    assert presets["own"]["Calibrated"] == decided(PRESETS["Creative"])
