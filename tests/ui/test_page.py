"""The controls and the chart in a bare page, on both versions of gradio that WebUIs have."""

import json
from collections import Counter

import pytest
import requests
from browsing import choose, curve, enter, given, offered, opened, shown, unfold

from itermix.settings import Settings, UpscaleSettings
from itermix.settings.presets import AUTOMATIC, PRESETS, REASONS, decided
from itermix.steps.schedule import steps_by_host

CHART = "#itermix_img2img_chart"


def open_tab(page, tab):
    page.locator("button", has_text=tab).first.click()


def test_every_parameter_has_a_control_that_shows_its_default(page):
    for parameter in Settings.parameters():
        for tab in ("img2img", "txt2img"):
            assert page.locator(f"#itermix_{tab}_{parameter.name}").count() == 1
        assert shown(page, f"#itermix_img2img_{parameter.name}", parameter.type) == parameter.default
    for parameter in UpscaleSettings.own_parameters():
        assert shown(page, f"#itermix_upscale_{parameter.name}", parameter.type) == parameter.default


def test_four_knobs_are_in_sight_and_the_others_in_folds(page):
    seen = {p.name for p in Settings.parameters() if page.locator(f"#itermix_img2img_{p.name}").is_visible()}
    assert seen == {"enabled", *(p.name for p in Settings.parameters() if p.main)}
    assert seen == {"enabled", "alpha", "detail", "denoise", "steps"}
    for button in ("refresh", "follow"):
        assert not page.locator(f"#itermix_img2img_preset_{button}").is_visible()
    unfold(page)
    assert all(page.locator(f"#itermix_img2img_{p.name}").is_visible() for p in Settings.parameters())


def test_no_label_is_used_twice_since_ui_config_knows_controls_by_them():
    labels = Counter(parameter.label for parameter in UpscaleSettings.parameters())
    assert max(labels.values()) == 1


def test_a_request_gets_each_value_under_its_name(page):
    unfold(page)
    changes = {"alpha": 0.5, "cleanup": 0.1, "clamp": 0.75, "end_at_step": 12, "cleanup_steps": 4, "seed": 9}
    for name, number in changes.items():
        enter(page, f"#itermix_img2img_{name}", number)
    choose(page, "#itermix_img2img_curve", "logistic")
    choose(page, "#itermix_img2img_cleanup_sampler", "DPM++ 2M")
    page.locator("#itermix_img2img_match_colours input").check()
    changes |= {"curve": "logistic", "cleanup_sampler": "DPM++ 2M", "match_colours": True}
    assert given(page) == {p.name: changes.get(p.name, p.default) for p in Settings.parameters()}


def test_moving_a_slider_changes_the_curve(page):
    before = curve(page)
    page.locator("#itermix_img2img_alpha input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        f"before => document.querySelector('{CHART} path.weight').getAttribute('d') != before", arg=before
    )
    assert page.locator(f"{CHART} circle").count() == Settings().steps


def test_the_steps_of_the_tab_are_drawn_where_ours_are_0(page):
    enter(page, "#img2img_steps", 7)
    page.wait_for_timeout(1500)
    assert page.locator(f"{CHART} circle").count() == Settings().steps
    enter(page, "#itermix_img2img_steps", 0)
    run = steps_by_host(Settings(), 7)
    page.wait_for_function(f"document.querySelectorAll('{CHART} circle').length == {run}")


def draw_all_steps(page):
    enter(page, "#itermix_img2img_denoise", 1)
    enter(page, "#itermix_img2img_steps", 20)
    page.wait_for_function(f"document.querySelectorAll('{CHART} circle').length == 20")


def test_a_step_is_read_by_keyboard(page):
    draw_all_steps(page)
    page.locator(f"{CHART} svg").focus()
    reading = page.locator(f"{CHART} [role=status]")
    for key, text in (
        ("ArrowRight", "step 1 of 20: weight 1, "),
        ("End", "step 20 of 20: "),
        ("ArrowLeft", "step 19 of"),
    ):
        page.keyboard.press(key)
        assert reading.inner_text().startswith(text)
    assert "noise level" in reading.inner_text()


def test_a_step_is_read_by_pointing(page):
    draw_all_steps(page)
    reading = page.locator(f"{CHART} [role=status]")
    for _ in range(50):  # a page that has just been opened may draw its chart once more, under the pointer
        page.locator(f"{CHART} svg").hover()
        if reading.inner_text().startswith(("step 10 of 20", "step 11 of 20")):
            break
        page.wait_for_timeout(100)
        page.mouse.move(0, 0)
    else:
        pytest.fail(f"pointing at the middle reads {reading.inner_text()!r}")
    page.mouse.move(0, 0)
    page.locator(f"{CHART} [role=status]", has_text="Point at a step").wait_for()


def test_steps_that_are_left_out_and_unguided_ones_are_shaded_and_told(page):
    unfold(page)
    draw_all_steps(page)
    enter(page, "#itermix_img2img_start_at_step", 3)
    enter(page, "#itermix_img2img_end_at_step", 18)
    enter(page, "#itermix_img2img_clamp", 0.6)
    page.wait_for_function(f"document.querySelectorAll('{CHART} circle').length == 15")
    page.locator(".itermix-key", has_text="no guidance").wait_for()
    label = page.locator(f"{CHART} svg[role=img]").get_attribute("aria-label")
    assert "5 steps are left out; steps 4 to 18 are run. No guidance from step 13 on." in label
    widths = [float(page.locator(f"{CHART} rect").nth(k).get_attribute("width")) for k in range(3)]
    assert [round(width / 552 * 20) for width in widths] == [3, 2, 6]


def test_settings_that_contradict_are_told_in_the_charts_place(page):
    unfold(page)
    enter(page, "#itermix_img2img_start", 0.9)
    enter(page, "#itermix_img2img_stop", 0.5)
    page.locator(CHART, has_text="stop = 0.5 is not possible. Allowed: more than start, which is 0.9.").wait_for()
    assert "stop = 0.5 is not possible" in given(page)
    enter(page, "#itermix_img2img_stop", 1)
    page.locator(f"{CHART} svg").wait_for()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_the_controls(page, name):
    enter(page, "#itermix_img2img_steps", 5)
    page.wait_for_function(f"document.querySelectorAll('{CHART} circle').length == 5")
    choose(page, "#itermix_img2img_preset", name)
    page.locator("#itermix_img2img_preset_reason").get_by_text(REASONS[name]).wait_for()
    values = decided(PRESETS[name])
    steps = values["steps"] or steps_by_host(Settings(denoise=values["denoise"]), 20)
    page.wait_for_function(f"document.querySelectorAll('{CHART} circle').length == {steps}")
    assert given(page).items() >= decided(PRESETS[name]).items()


def test_presets_of_ones_own_are_saved_renamed_and_deleted(page, server):
    unfold(page)
    message = page.locator("#itermix_img2img_preset_message")
    name = page.locator("#itermix_img2img_preset_name").locator("input, textarea")
    file = server.data / "itermix-presets.json"

    enter(page, "#itermix_img2img_alpha", 0.45)
    name.fill("Mine & <i>only</i>")
    page.locator("#itermix_img2img_preset_save").click()
    message.get_by_text("Saved Mine & <i>only</i>.").wait_for()
    assert json.loads(file.read_text())["Mine & <i>only</i>"]["alpha"] == 0.45

    name.fill("Balanced")
    page.locator("#itermix_img2img_preset_rename").click()
    message.get_by_text("name = 'Balanced' is not possible").wait_for()
    name.fill("Portraits")
    page.locator("#itermix_img2img_preset_rename").click()
    message.get_by_text("to Portraits.").wait_for()

    open_tab(page, "txt2img")
    page.locator("#itermix_txt2img_enabled .label-wrap").first.click()
    assert offered(page, "#itermix_txt2img_preset") == [AUTOMATIC, *PRESETS, "Portraits"]
    choose(page, "#itermix_txt2img_preset", "Portraits")
    page.locator("#itermix_txt2img_preset_reason").get_by_text("Your own.").wait_for()
    assert given(page, "txt2img")["alpha"] == 0.45

    open_tab(page, "img2img")
    page.locator("#itermix_img2img_preset_delete").click()
    message.get_by_text("Deleted Portraits.").wait_for()
    assert json.loads(file.read_text()) == {}
    page.locator("#itermix_img2img_preset_delete").click()
    message.get_by_text("is not possible").wait_for()


def test_a_saved_value_beyond_a_sliders_end_is_kept(page, server):
    far = next(p.usual for p in Settings.parameters() if p.name == "alpha") + 2
    assert requests.post(
        f"{server.url}/itermix/v1/presets/save", json={"name": "Far", "settings": {"alpha": far}}, timeout=30
    ).ok
    page.reload()
    opened(page)
    offered(page, "#itermix_img2img_preset")
    choose(page, "#itermix_img2img_preset", "Far")
    page.locator("#itermix_img2img_preset_reason").get_by_text("Your own.").wait_for()
    assert shown(page, "#itermix_img2img_alpha", float) == far
    assert given(page)["alpha"] == far
    requests.post(f"{server.url}/itermix/v1/presets/delete", json={"name": "Far"}, timeout=30)


def test_a_broken_file_of_presets_is_told_and_kept(page, server):
    file = server.data / "itermix-presets.json"
    file.write_text('{"Mine": ')
    unfold(page)
    page.locator("#itermix_img2img_preset_name").locator("input, textarea").fill("Portraits")
    page.locator("#itermix_img2img_preset_save").click()
    page.locator("#itermix_img2img_preset_message").get_by_text("The file is left as it is").wait_for()
    assert file.read_text() == '{"Mine": '
    file.unlink()
