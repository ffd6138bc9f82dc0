"""What is in sight, what the folds say of themselves, and what is greyed out, on both versions of gradio."""

import json

import pytest
import requests
from browsing import choose, enter, opened, shown, unfold

from itermix.settings import Settings, UpscaleSettings
from itermix.settings.effect import needs
from itermix.settings.presets import PRESETS, REASONS

MINE = "#itermix_img2img"
DECLARED = {parameter.name: parameter for parameter in UpscaleSettings.parameters()}
BY_FACTS = {"deep_shrink", "denoise_in", "mask_mode", "nn_upscaler", "repairs"}
"""Settings whose needs are no settings, but the model, a mask or the tab."""


def told(page, text):
    page.locator(f"{MINE}_preset_reason").get_by_text(text, exact=True).wait_for()


def greyed(page, name, prefix="itermix_img2img"):
    return page.locator(f"#{prefix}_{name}.itermix-idle input").first.is_disabled()


def wait_grey(page, name, text, prefix="itermix_img2img"):
    page.locator(f"#{prefix}_{name}_reason").get_by_text(text, exact=True).wait_for()
    assert greyed(page, name, prefix)


def wait_usable(page, name, prefix="itermix_img2img"):
    page.locator(f"#{prefix}_{name}.itermix-idle").wait_for(state="detached")
    page.locator(f"#{prefix}_{name} input:enabled").first.wait_for()


def reads(page, preset, text):
    """Wait until the list shows this preset, and the text beside it."""
    told(page, text)
    page.wait_for_function(f"name => document.querySelector('{MINE}_preset input').value === name", arg=preset)


def test_the_preset_in_force_is_shown_and_follows_the_settings(page):
    reads(page, "Balanced", REASONS["Balanced"])
    enter(page, f"{MINE}_alpha", 0.8)
    reads(page, "", "Balanced, but for Creativity.")
    enter(page, f"{MINE}_alpha", 0.25)
    reads(page, "Balanced", REASONS["Balanced"])
    unfold(page, "Curve and blending")
    enter(page, f"{MINE}_denoise", 0.4)
    choose(page, f"{MINE}_blending", "clean wavelet")
    reads(page, "Faithful", REASONS["Faithful"])
    assert PRESETS["Faithful"] == {"denoise": 0.4, "blending": "clean wavelet", "alpha": 0.25}


def test_a_fold_says_that_something_in_it_was_changed_and_resets_it(page):
    unfold(page, "Noise")
    enter(page, f"{MINE}_detail", 0.3)
    enter(page, f"{MINE}_seed", 9)
    choose(page, f"{MINE}_noise", "independent")
    label = page.locator(f"{MINE}_fold_noise .label-wrap").first
    label.locator(".itermix-changed[title='Noise, Noise seed']").get_by_text("changed").wait_for()
    others = page.locator(f"{MINE}_enabled .itermix-changed").all_inner_texts()
    assert [text for text in others if text] == ["changed"]
    page.locator(f"{MINE}_fold_noise_reset").click()
    label.locator(".itermix-changed:empty").wait_for(state="attached")
    assert shown(page, f"{MINE}_seed", int) == -1
    assert shown(page, f"{MINE}_noise", str) == "shared"
    assert shown(page, f"{MINE}_detail", float) == 0.3


def test_a_fold_with_one_setting_is_reset_too(page):
    unfold(page, "Analysis")
    page.locator(f"{MINE}_analysis input").check()
    page.locator(f"{MINE}_fold_analysis .itermix-changed").get_by_text("changed").wait_for()
    page.locator(f"{MINE}_fold_analysis_reset").click()
    page.wait_for_function("place => !document.querySelector(place).checked", arg=f"{MINE}_analysis input")


def test_the_folds_open_by_keyboard_and_say_so(page):
    label = page.locator(f"{MINE}_fold_noise .label-wrap").first
    page.wait_for_timeout(1000)
    label.focus()
    page.keyboard.press("Enter")
    page.locator(f"{MINE}_seed").wait_for()
    assert label.evaluate("label => label.tagName === 'BUTTON' || label.role === 'button'")


def test_what_has_no_effect_by_default_is_greyed_out_with_its_reason(page):
    """Of what needs nothing but settings; the others have their own tests."""
    unfold(page)
    defaults = Settings()
    for name, parameter in DECLARED.items():
        if name not in {p.name for p in Settings.parameters()} or name in BY_FACTS:
            continue
        unmet = [
            need["words"]
            for need in needs(parameter)
            if not any(
                getattr(defaults, other) in values if values else getattr(defaults, other)
                for other, values in need["any"].items()
            )
        ]
        if unmet:
            wait_grey(page, name, f"No effect without {unmet[0]}.")
        else:
            wait_usable(page, name)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("perlin_scale", ("perlin", 0.5)),
        ("cleanup_steps", ("cleanup", 0.1)),
        ("gaussian_sigma", ("dilated", 0.5)),
        ("deep_shrink_block", ("deep_shrink", 0.35)),
        ("mask_mode", ("perlin", 0.5)),
    ],
)
def test_what_gets_an_effect_is_no_longer_grey(page, name, change):
    unfold(page)
    page.locator(f"{MINE}_{name}.itermix-idle").wait_for()
    enter(page, f"{MINE}_{change[0]}", change[1])
    wait_usable(page, name)
    assert page.locator(f"{MINE}_{name}_reason").inner_text() == ""


def test_one_of_several_needs_is_enough(page):
    unfold(page)
    choose(page, f"{MINE}_blending", "addition")
    wait_grey(page, "cutoff", f"No effect without {needs(DECLARED['cutoff'])[0]['words']}.")
    assert (
        page.locator(f"{MINE}_cutoff input").first.get_attribute("aria-describedby") == "itermix_img2img_cutoff_reason"
    )
    enter(page, f"{MINE}_detail", 0.2)
    wait_usable(page, "cutoff")


def test_creativity_says_with_which_curve_it_does_nothing(page):
    unfold(page)
    choose(page, f"{MINE}_curve", "linear")
    wait_grey(page, "alpha", "No effect without Weight curve cosine, logistic or comfy-cosine.")


def test_the_scale_gives_way_to_a_width(page):
    enter(page, "#itermix_upscale_width", 512)
    wait_grey(page, "scale", "No effect without Width 0.", "itermix_upscale")


def test_a_model_without_unet_greys_deep_shrink_out_but_lets_it_be_switched_off(page):
    network = "Flux"
    page.route("**/itermix/v1/facts", lambda route: route.fulfill(json={"network": network}))
    page.reload()
    opened(page)
    unfold(page)
    why = "No effect without a model of Stable Diffusion 1, 2 or XL."
    wait_grey(page, "deep_shrink", why)
    wait_grey(page, "deep_shrink_block", "No effect without Deep Shrink.")
    network = "U-Net"
    page.reload()
    opened(page)
    unfold(page)
    enter(page, f"{MINE}_deep_shrink", 0.35)
    wait_usable(page, "deep_shrink_block")
    network = "Flux"
    page.locator(f"{MINE}_deep_shrink_reason").get_by_text(why).wait_for()
    page.wait_for_timeout(700)
    assert page.locator(f"{MINE}_deep_shrink input[type=number]").is_enabled()


def test_what_denoise_is_a_share_of_is_greyed_out_without_a_model_of_flow_matching(page):
    told = {"network": "U-Net", "flow": False}
    page.route("**/itermix/v1/facts", lambda route: route.fulfill(json=told))
    page.reload()
    opened(page)
    unfold(page)
    wait_grey(page, "denoise_in", "No effect without a model of flow matching.")
    told |= {"network": "Flux", "flow": True}
    page.reload()
    opened(page)
    unfold(page)
    wait_usable(page, "denoise_in")


def test_a_hires_setting_is_greyed_out_in_img2img_alone(page):
    unfold(page, "Phases and clean-up")
    for name in ("nn_upscaler", "repairs"):
        wait_grey(page, name, "No effect without hires fix in txt2img.")
    page.locator("button", has_text="txt2img").first.click()
    opened(page, "txt2img")
    unfold(page, "Phases and clean-up", tab="txt2img")
    for name in ("nn_upscaler", "repairs"):
        wait_usable(page, name, "itermix_txt2img")


def open_folds(page):
    return page.locator(f"{MINE}_enabled .itermix-fold:has(> .label-wrap.open, > * > .label-wrap.open)").evaluate_all(
        "folds => folds.map(fold => fold.querySelector('.label-wrap span').textContent.trim())"
    )


def dimmed(page, name):
    return page.locator(f"{MINE}_{name}.itermix-dim").count() == 1


def test_a_setting_is_found_by_its_name_and_the_search_leaves_the_page_as_it_was(page):
    unfold(page, "Noise")
    field, found = page.locator(f"{MINE}_search"), page.locator(f"{MINE}_search_found[role=status]")
    field.press_sequentially("dEep sh")
    found.get_by_text("Deep Shrink, Deep Shrink factor, Deep Shrink block, Deep Shrink method", exact=True).wait_for()
    page.locator(f"{MINE}_deep_shrink").wait_for()  # in sight
    assert open_folds(page) == ["Noise", "Deep Shrink"]
    assert not dimmed(page, "deep_shrink")
    assert all(dimmed(page, name) for name in ("alpha", "seed"))
    assert page.locator(f"{MINE}_fold_noise.itermix-dim").count() == 1
    field.press("Enter")
    assert page.locator(f"{MINE}_deep_shrink input").first.evaluate("input => input === document.activeElement")
    field.press("Escape")
    found.get_by_text("Deep Shrink").wait_for(state="detached")
    assert field.input_value() == ""
    assert open_folds(page) == ["Noise"]
    assert not page.locator(f"{MINE}_enabled .itermix-dim").count()


def test_a_setting_is_found_by_its_help_if_no_name_has_the_words(page):
    field, found = page.locator(f"{MINE}_search"), page.locator(f"{MINE}_search_found")
    field.fill("differential diffusion")
    found.get_by_text("Mask mode", exact=True).wait_for()
    assert open_folds(page) == ["Masks and rewind"]
    field.fill("differential xyzzy")
    found.get_by_text("No setting has these words.", exact=True).wait_for()
    assert not open_folds(page)


def test_the_chart_is_folded_at_first_and_stays_as_it_was_left(page):
    chart = page.locator(f"{MINE}_chart")
    for visible in (True, False):
        page.reload()
        page.locator(f"{MINE}_enabled .label-wrap").first.click()
        page.locator(f"{MINE}_plan").wait_for()
        page.wait_for_timeout(500)
        assert chart.is_visible() == visible
        before = page.evaluate("JSON.stringify(localStorage)")
        page.locator(f"{MINE}_enabled summary").first.click()
        page.wait_for_function("before => JSON.stringify(localStorage) !== before", arg=before)
    page.evaluate("localStorage.clear()")
    page.reload()
    page.locator(f"{MINE}_enabled .label-wrap").first.click()
    page.locator(f"{MINE}_plan").wait_for()
    assert not chart.is_visible()


def test_the_main_area_fits_a_screen(page):
    page.locator(f"{MINE}_enabled summary").first.click()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_timeout(500)
    compare = page.locator(f"{MINE}_enabled summary", has_text="Before and after")
    first, last = (place.bounding_box() for place in (page.locator(f"{MINE}_preset"), compare))
    assert last["y"] + last["height"] - first["y"] < 800


def test_nothing_is_wider_than_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    unfold(page)
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_no_id_of_ours_is_there_twice(page):
    unfold(page)
    ids = page.evaluate("[...document.querySelectorAll('[id^=itermix]')].map(element => element.id)")
    assert len(ids) > 100
    assert sorted(set(ids)) == sorted(ids)


def test_the_schema_says_the_same(page, server):
    schema = requests.get(f"{server.url}/itermix/v1/schema", timeout=30).json()
    for name, parameter in DECLARED.items():
        assert schema["upscale"]["properties"][name].get("x-needs", []) == json.loads(json.dumps(needs(parameter)))
