"""Settings come back from the pictures of real WebUIs: by their API, and by the page's buttons in a real browser."""

import pytest
from browsing import send_by_png_info
from payloads import mixing, photograph, request_for, upscale
from PIL import PngImagePlugin

from itermix.settings import Settings, UpscaleSettings
from itermix.settings.infotext import VERSION, read

SETTINGS = {
    "denoise": 0.85,
    "curve": "logistic",
    "alpha": 1.35,
    "start": 0.12,
    "stop": 1.5,
    "clamp": 0.93,
    "lowest": 0.07,
    "highest": 0.88,
    "progress": "noise level",
    "blending": "slerp",
    "cutoff": 3.0,
    "detail": 0.2,
    "noise": "cumulative",
    "seed": 4294967290,
    "normalize_fraction": 0.25,
    "start_at_step": 1,
    "end_at_step": 7,
    "max_scale_per_phase": 3.0,
    "save_phases": True,
    "match_colours": True,
    "colour_formulas": "DemoFusion",
    "cleanup": 0.2,
    "cleanup_steps": 2,
    "cleanup_sampler": "DPM++ 2M",
    "fidelity": 0.25,
    "nn_upscaler": True,
    "deep_shrink": 0.35,
    "deep_shrink_factor": 1.5,
    "deep_shrink_block": 2,
    "deep_shrink_method": "area",
    "inversion_prompt": False,
    "window": 8,
    "window_jitter": False,
    "window_batch": 2,
    "window_formulas": "DemoFusion",
    "dilated": 3.0,
    "gaussian_sigma": 0.8,
    "gaussian_alpha": 2.0,
    "rewind": True,
    "rewind_min": 0.45,
    "rewind_max": 0.85,
    "mask_mode": "threshold",
    "perlin": 0.3,
    "perlin_scale": 7.0,
    "skip_tolerance": 0.02,
    "repairs": "before the mixing",
    "steps": 6,
    "window_auto": False,
    "window_overlap": 0.4,
    "seamless": True,
    "denoise_in": "steps",
}
# Two are for the hires pass alone, and detail not for DemoFusion's formulas.
ELSEWHERE = {"nn_upscaler": False, "repairs": "after all"}
IN_IMG2IMG = {**SETTINGS, **ELSEWHERE, "detail": 0.0}
WITH_DETAIL = {**SETTINGS, **ELSEWHERE, "window_formulas": "clean picture"}
SIZES = {"scale": 1.5, "width": 96, "height": 80, "upscaler": "None", "back_projection": False}


def test_the_settings_here_are_all_there_are_and_none_is_at_its_default():
    assert UpscaleSettings(enabled=True, **SETTINGS, **SIZES).changed().keys() == {
        parameter.name for parameter in UpscaleSettings.parameters() if parameter.in_infotext
    }


@pytest.mark.parametrize(
    ("request_of", "settings"),
    [(mixing, IN_IMG2IMG), (mixing, WITH_DETAIL), (upscale, {**WITH_DETAIL, **SIZES})],
    ids=["mixing", "mixing with detail", "upscale"],
)
def test_the_webui_finds_the_settings_in_its_picture(webui, request_of, settings):
    response = webui.post("img2img", request_of(settings))
    assert response.status_code == 200
    answer = webui.post("png-info", {"image": response.json()["images"][0]}).json()
    expected = {p.name: p.default for p in UpscaleSettings.parameters()} | settings | {"enabled": True}
    assert read(answer["parameters"]) == expected


def test_a_request_with_the_infotext_of_a_picture_repeats_it(webui, host):
    if host.is_forge:
        pytest.skip("Forge's API answers every request with an infotext with HTTP 500")
    (picture,) = webui.generate("img2img", mixing(IN_IMG2IMG))
    (repeated,) = webui.generate("img2img", request_for(infotext=picture.parameters))
    assert (picture.pixels == repeated.pixels).all()
    assert "Itermix alpha: 1.35" in repeated.parameters
    (plain,) = webui.generate("img2img", request_for(infotext="Steps: 5, Sampler: Euler, Seed: 7, Size: 64x64"))
    assert "Itermix" not in plain.parameters


@pytest.fixture
def page(browser, webui):
    page = browser.new_page(viewport={"width": 1400, "height": 1800})
    page.set_default_timeout(60_000)
    page.goto(webui.url)
    page.locator("#itermix_txt2img_alpha").wait_for(state="attached")
    yield page
    page.close()


READ = """(id) => {
    const box = document.querySelector(`#${id}`);
    const input = box.querySelector("input[type=number], input[type=checkbox]") || box.querySelector("input, textarea");
    return input.type == "checkbox" ? input.checked : input.type == "number" ? Number(input.value) : input.value;
}"""


def shown(page, prefix, parameters):
    """{name: value} of the page's controls."""
    ids = {p.name: f"{prefix}_{p.name}" for p in parameters}
    ids |= {"enabled": f"{prefix}_enabled-checkbox"} if "enabled" in ids else {}
    return {name: page.evaluate(READ, id) for name, id in ids.items()}


def wait_for(page, prefix, expected):
    parameters = [p for p in UpscaleSettings.parameters() if p.name in expected]
    for _ in range(100):
        if (found := shown(page, prefix, parameters)) == expected:
            return
        page.wait_for_timeout(100)
    assert found == expected


def text_of(parameters):
    made = "a photograph\nSteps: 5, Sampler: Euler, Schedule type: Karras, CFG scale: 2, Seed: 7, Size: 64x64, "
    return made + ", ".join(f"{key}: {value}" for key, value in parameters.items())


def sent(page, tmp_path, tab, parameters):
    """Open a picture with these parameters in the PNG Info tab and send it to another."""
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text_of(parameters))
    photograph(64).save(tmp_path / "made.png", pnginfo=info)
    send_by_png_info(page, tmp_path / "made.png", tab)


def pasted(page, tab, parameters):
    """Put these parameters into the prompt and press the paste button."""
    page.locator(f"#{tab}_prompt textarea").fill(text_of(parameters))
    page.locator(f"#{tab}_tools #paste").click()


def keys(values):
    return {p.key: values[p.name] for p in UpscaleSettings.parameters() if p.name in values} | {
        "Itermix version": VERSION
    }


DEFAULTS = {p.name: p.default for p in Settings.parameters()}


def test_send_to_restores_every_control_and_the_script(page, tmp_path):
    sent(page, tmp_path, "img2img", keys({"enabled": True, **SETTINGS, **SIZES}))
    wait_for(page, "itermix_img2img", {"enabled": True, **SETTINGS})
    wait_for(page, "itermix_upscale", SIZES)
    assert page.locator("#img2img_script_container #script_list input").input_value() == "Iterative Mixing upscale"
    assert page.locator("#itermix_upscale_scale").is_visible()
    pasted(page, "img2img", keys({"enabled": True}))
    wait_for(page, "itermix_img2img", {**DEFAULTS, "enabled": True})
    assert page.locator("#img2img_script_container #script_list input").input_value() == "None"


def test_a_picture_without_mixing_switches_it_off_and_leaves_the_rest(page):
    pasted(page, "txt2img", keys({"enabled": True, **SETTINGS}))
    wait_for(page, "itermix_txt2img", {"enabled": True, **SETTINGS})
    pasted(page, "txt2img", {})
    wait_for(page, "itermix_txt2img", {"enabled": False, **SETTINGS})


def test_a_picture_of_the_upscale_script_can_be_sent_to_txt2img(page, tmp_path):
    sent(page, tmp_path, "txt2img", keys({"enabled": True, **SETTINGS, **SIZES}))
    wait_for(page, "itermix_txt2img", {"enabled": True, **SETTINGS})
    assert page.locator("#txt2img_script_container #script_list input").input_value() == "None"
