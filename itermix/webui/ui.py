"""The controls, generated from the declared settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from modules.ui_components import InputAccordion

from itermix.parameters import Parameter
from itermix.picture.cleanup import SAME_SAMPLER
from itermix.settings import Settings, UpscaleSettings
from itermix.webui import preset_controls, ui_config
from itermix.webui.folds import fold, folded, reset_button

SHORT = 120
"""Characters of help that a control has room for."""

MOST_ON_SLIDER = 1000
"""The highest value that a slider can be set to with some precision."""

UPSCALE_ROWS = (("scale", "upscaler"), ("width", "height"), ("back_projection",))

HINT = (
    "Closer to your picture: less <i>Creativity</i>. More new detail: more <i>Creativity</i>, crisper: more "
    "<i>Detail</i>. Faster: fewer <i>Steps</i>. Greyed out: no effect as the rest is set; the reason stands below it. "
    '<a href="./itermix/v1/docs/first-picture.md" target="_blank">How it works, with a first picture</a>'
)


FOLDERS = (
    "With both folders given, each picture of the source folder is enlarged, with the prompt and the seed of its own "
    "infotext if it has one. What is in the target folder already isn't made again: a stopped run goes on."
)


def accordion(prefix: str, samplers: Sequence[str], defaults: Mapping[str, Any] | None = None) -> list[Any]:
    """Controls of all mixing settings in the order of `Settings.parameters`; the first is the accordion's checkbox, and
    three more at the end are for a mask, its picture and whether it is the one of inpainting, and the list of presets.

    Their elem_ids are `prefix`_`name`, the prefix itermix_ with the name of the tab. `defaults` are values that are set
    elsewhere, so that ui-config.json, in which the WebUI keeps the value of every control, must not set them.
    """
    enabled, *parameters = Settings.parameters()
    resets = {parameter.name: parameter.default for parameter in parameters} | dict(defaults or {})
    values = resets | ui_config.kept(Settings.parameters(), tab=prefix.removeprefix("itermix_"))
    choices = {"cleanup_sampler": [SAME_SAMPLER, *samplers]}
    with InputAccordion(enabled.default, label=enabled.label, elem_id=f"{prefix}_{enabled.name}") as switch:
        preset, reason = preset_controls.choice(prefix)
        main = sorted((each for each in parameters if each.main), key=lambda each: each.main)
        controls = in_rows(pairs(main), prefix, values, choices)
        plan_text(prefix)
        gr.HTML(f'<p class="itermix-hint">{HINT}</p>')
        chart(prefix)
        comparison(prefix)
        search(prefix)
        for name, members in folded(parameters).items():
            with fold(name, prefix) as elem_id:
                inside = grouped(members, prefix, values, choices)
                reset_button(elem_id, resets, inside)
                controls |= inside
                if "mask_mode" in inside:
                    mask = mask_controls(prefix)
        with fold("Own presets", prefix):
            preset_controls.connect(prefix, preset, reason, controls)
            calibration(prefix)
    for name in defaults or {}:
        controls[name].do_not_save_to_config = True
    return [switch, *(controls[parameter.name] for parameter in parameters), *mask, preset]


def upscale_controls(prefix: str, upscalers: Sequence[str], folders: bool = False) -> list[Any]:
    """Controls of what the upscale settings have on top, in the order of `UpscaleSettings.own_parameters`; and those of
    a source and a target folder, if the page may name `folders`."""
    gr.HTML("<p>Enlarges the picture and mixes. Iterative Mixing above has the other settings, and needs no tick.</p>")
    plan_text(prefix)
    own = {parameter.name: parameter for parameter in UpscaleSettings.own_parameters()}
    rows = [[own[name] for name in row] for row in UPSCALE_ROWS]
    values = {name: parameter.default for name, parameter in own.items()}
    controls = in_rows(rows, prefix, values, {"upscaler": upscalers})
    return [*(controls[name] for name in own), *(folder_controls(prefix) if folders else ())]


def folder_controls(prefix: str) -> list[Any]:
    """Where the folders of pictures and of their results are named."""
    with fold("A folder of pictures", prefix):
        gr.HTML(f"<p>{FOLDERS}</p>")
        with gr.Row():
            made = [
                gr.Textbox(label=f"{name} folder", max_lines=1, elem_id=f"{prefix}_{name.lower()}_folder")
                for name in ("Source", "Target")
            ]
    for each in made:
        each.do_not_save_to_config = True
    return made


def mask_controls(prefix: str) -> tuple[Any, Any]:
    """Where a picture is put to be the mask, and whether it is what was painted in the Inpaint tab."""
    painted = gr.Checkbox(
        False,
        label="Use the inpaint mask",
        info="What is painted in the tab Inpaint is free, the rest is guided, and all of the picture is sampled.",
        elem_id=f"{prefix}_mask_painted",
        elem_classes=["itermix-checkbox"],
        visible=prefix.endswith("img2img"),
    )
    mask = gr.Image(type="pil", label="Mask: guide white fully, black not at all", elem_id=f"{prefix}_mask", height=240)
    for each in (mask, painted):
        each.do_not_save_to_config = True
    return mask, painted


def plan_text(prefix: str) -> None:
    """Where the page's script tells which phases there will be; screen readers are told of a change."""
    gr.HTML(f'<p id="{prefix}_plan" class="itermix-plan" role="status"></p>')


def chart(prefix: str) -> None:
    """Where the page's script draws the weights of the controls with this prefix, when it is opened."""
    place = f'<div id="{prefix}_chart" class="itermix-chart" data-prefix="{prefix}"></div>'
    gr.HTML(
        '<details class="itermix-details"><summary>Chart: how strongly your picture guides each step</summary>'
        f"{place}</details>"
    )


def comparison(prefix: str) -> None:
    """Where the page's script lays a result over its source, or over another result, when it is opened."""
    place = f'<div id="{prefix}_compare" class="itermix-compare"></div>'
    gr.HTML(f'<details class="itermix-details"><summary>Before and after</summary>{place}</details>')


def search(prefix: str) -> None:
    """Where the page's script finds settings by words; screen readers are told which."""
    gr.HTML(
        '<div class="itermix-search"><label>Find a setting '
        f'<input type="search" id="{prefix}_search" placeholder="a word, then Enter" autocomplete="off"></label>'
        f'<span id="{prefix}_search_found" role="status"></span></div>'
    )


def calibration(prefix: str) -> None:
    """Where the page's script offers to try the checkpoint, when it is opened."""
    place = f'<div id="{prefix}_calibrate" class="itermix-calibrate"></div>'
    gr.HTML(
        f'<details class="itermix-details"><summary>Which settings suit this checkpoint?</summary>{place}</details>'
    )


def grouped(
    parameters: Sequence[Parameter], prefix: str, values: Mapping[str, Any], choices: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """{name: control} of settings in order, under a heading for each group if there are several."""
    controls: dict[str, Any] = {}
    groups = list(dict.fromkeys(parameter.group for parameter in parameters))
    for group in groups:
        if len(groups) > 1:
            gr.HTML(f"<h4>{group}</h4>", elem_classes=["itermix-heading"])
        members = [parameter for parameter in parameters if parameter.group == group]
        controls |= in_rows(pairs(members), prefix, values, choices)
    return controls


def pairs(parameters: Sequence[Parameter]) -> list[Sequence[Parameter]]:
    return [parameters[i : i + 2] for i in range(0, len(parameters), 2)]


def in_rows(
    rows: Sequence[Sequence[Parameter]],
    prefix: str,
    values: Mapping[str, Any],
    choices: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """{name: control}, with these `values`, and with `choices` that the declarations don't know."""
    controls: dict[str, Any] = {}
    for row in rows:
        with gr.Row(elem_classes=["itermix-row"]):
            for parameter in row:
                name = parameter.name
                offered = choices.get(name, parameter.choices)
                controls[name] = control(parameter, f"{prefix}_{name}", values[name], offered)
    return controls


def control(parameter: Parameter, elem_id: str, value: Any, choices: Sequence[str] | None = None) -> Any:
    """One control, with its help if that is short, or else with its first sentence; all of it is its tooltip.

    Its elem_id is fixed, so that scripts of the page can name it, and its label is what ui-config.json knows it by.
    """
    summary = parameter.help
    if len(summary) > SHORT:
        summary = summary.partition(". ")[0].removesuffix(".") + "."
    common = {"value": value, "label": parameter.label, "info": summary, "elem_id": elem_id}
    made: Any
    if parameter.type is bool:
        made = gr.Checkbox(elem_classes=["itermix-checkbox"], **common)
    elif choices:
        made = gr.Dropdown(choices=list(choices), **common)
    elif parameter.high is not None and parameter.high > MOST_ON_SLIDER:
        made = gr.Number(precision=0, **common)
    else:
        most = parameter.high if parameter.usual is None else parameter.usual
        made = gr.Slider(minimum=parameter.low, maximum=most, step=parameter.step, **common)
    made.webui_tooltip = parameter.help
    return made
