"""What is generated from the declared settings has all of them, in their order, and nothing else.

The WebUI's modules, gradio and fastapi are stood in for, so that the code that makes the controls and axes runs here.
"""

import json
import re
import sys
import types
from pathlib import Path

from itermix.settings import Settings, UpscaleSettings
from itermix.settings.infotext import VERSION_KEY, read, written
from itermix.settings.schema import json_schema
from itermix.standalone import cli
from itermix.standalone.options import flag_of

DOCS = Path(__file__).parents[2] / "docs"
MIXING, UPSCALE = Settings.parameters(), UpscaleSettings.parameters()
SIZES = UpscaleSettings.own_parameters()


def test_the_page_has_a_control_for_each(webui):
    ui = webui("ui")
    *mixing, mask, painted, preset = ui.accordion("itermix_img2img", ["Euler"])
    others = {"mask": mask, "mask_painted": painted, "preset": preset}
    assert [f"itermix_img2img_{name}" for name in others] == [control.elem_id for control in others.values()]
    assert all(control.do_not_save_to_config for control in others.values())
    for prefix, controls, parameters in (
        ("itermix_img2img", mixing, MIXING),
        ("tab", ui.upscale_controls("tab", ["Lanczos"]), SIZES),
    ):
        assert [control.elem_id for control in controls] == [f"{prefix}_{parameter.name}" for parameter in parameters]
        assert [control.label for control in controls] == [parameter.label for parameter in parameters]


def test_a_slider_ends_where_values_are_usual(webui):
    """And more is allowed to all that don't come from a slider."""
    ui = webui("ui")
    for parameter in UPSCALE:
        if isinstance(slider := ui.control(parameter, "id", parameter.default), ui.gr.Slider):
            assert slider.minimum == parameter.low
            assert slider.maximum == (parameter.usual or parameter.high)
            assert parameter.low < parameter.default + parameter.step <= slider.maximum <= parameter.high


def test_the_infotext_has_a_key_for_each_that_makes_the_picture_and_restores_it(webui):
    for settings, parameters in ((Settings, MIXING), (UpscaleSettings, UPSCALE)):
        changed = settings(**{parameter.name: another_than_default(parameter) for parameter in parameters})
        keys = [parameter.key for parameter in parameters if parameter.in_infotext]
        assert list(written(changed)) == [*keys, VERSION_KEY]
    assert list(read({})) == [parameter.name for parameter in UPSCALE]
    infotext = webui("infotext")
    assert tuple(function.args[0] for function in infotext.MIXING) == MIXING
    assert tuple(function.args[0] for function in infotext.SIZES) == SIZES
    left = [p.name for p in MIXING if infotext.restored(p, {"Itermix enabled": "True"}) is None]
    assert left == [p.name for p in MIXING if not p.in_infotext] == ["analysis"]


def test_a_value_that_ui_config_keeps_under_a_former_label_is_not_lost(webui, tmp_path):
    """As 0.1.0 wrote it, whose alpha was 1 by default; the WebUI itself restores what has kept its label."""
    ui_config = webui("ui_config")
    file = tmp_path / "ui-config.json"
    sys.modules["modules.shared"].cmd_opts.ui_config_file = str(file)
    key = "customscript/iterative_mixing.py/img2img/{}/value"
    before, now = key.format("Guidance (alpha)"), key.format("Creativity")
    assert ui_config.kept(MIXING, "img2img") == {}  # no file yet
    for saved, kept in (
        ({before: 1.0, "customscript/iterative_mixing.py/img2img/Stop/value": 2.0}, {"alpha": 1.0}),
        ({before: 1.0, now: 0.4}, {}),  # it is the WebUI's already
        ({before: "much"}, {}),
        ({before.replace("img2img", "txt2img"): 2.0}, {}),
    ):
        file.write_text(json.dumps(saved), encoding="utf-8")
        assert ui_config.kept(MIXING, "img2img") == kept
    file.write_text(json.dumps({before: 1.0}), encoding="utf-8")
    controls = webui("ui").accordion("itermix_img2img", ["Euler"])
    (alpha,) = (control for control in controls if control.label == "Creativity")
    assert alpha.value == 1.0


def another_than_default(parameter):
    if parameter.type is bool:
        return not parameter.default
    if parameter.type is str:
        return next(choice for choice in parameter.choices or ["another"] if choice != parameter.default)
    bounded = {"stop": 1.5, "cutoff": 2.0, "detail": 0.2, "cleanup": 0.1, "end_at_step": 64}
    bounded |= {"max_scale_per_phase": 3.0, "scale": 3.0, "deep_shrink_factor": 3.0, "perlin_scale": 3.0}
    bounded |= {"skip_tolerance": 0.3}
    return bounded.get(parameter.name, 8 if parameter.type is int else 0.6)


def test_the_plot_has_an_axis_for_each(webui):
    xyz = webui("xyz")

    class AxisOption:
        def __init__(self, label, *_, **__):
            self.label = label

    class InImg2Img(AxisOption):  # which Forge Classic's module has among its options alone
        is_img2img = True

    module = types.SimpleNamespace(
        AxisOption=AxisOption, axis_options=[AxisOption("Seed"), InImg2Img("Image CFG Scale")]
    )
    preset, *axes = xyz.axes(module)
    assert preset.label == "[Itermix] Preset"
    assert [axis.label for axis in axes] == [f"[Itermix] {parameter.label}" for parameter in UPSCALE]
    in_img2img_alone = [axis.label for axis in axes if isinstance(axis, InImg2Img)]
    assert in_img2img_alone == [f"[Itermix] {parameter.label}" for parameter in SIZES]


def test_the_api_schema_has_a_property_for_each():
    for settings, parameters in ((Settings, MIXING), (UpscaleSettings, UPSCALE)):
        properties = json_schema(settings)["properties"]
        assert list(properties) == [parameter.name for parameter in parameters]


def test_the_command_line_has_a_flag_for_each():
    commands = next(action for action in cli.parser()._actions if action.dest == "==SUPPRESS==" and action.choices)
    for command, parameters in (("upscale", UPSCALE), ("plot", MIXING)):
        actions = [action for action in commands.choices[command]._actions if action.dest.startswith("setting_")]
        (preset,) = (action for action in actions if action.dest == "setting_preset")
        actions.remove(preset)
        assert sorted(action.dest for action in actions) == sorted(f"setting_{p.name}" for p in parameters)
        assert {action.option_strings[0] for action in actions} == {flag_of(parameter) for parameter in parameters}


def test_the_docs_have_a_row_for_each():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (DOCS / "parameters.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(parameter.name, parameter.label) for parameter in UPSCALE]
