"""The controls, generated from the declared settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from modules.ui_components import InputAccordion

from itermix.parameters import Parameter
from itermix.picture.cleanup import SAME_SAMPLER
from itermix.settings import Settings, UpscaleSettings
from itermix.webui import preset_controls

SHORT = 120
"""Characters of help that a control has room for."""


def accordion(
    prefix: str, samplers: Sequence[str], with_plan: bool, defaults: Mapping[str, Any] | None = None
) -> list[Any]:
    """Controls of all mixing settings in the order of `Settings.parameters`; the first is the accordion's checkbox, and
    one more at the end is for the picture of a mask.

    Their elem_ids are `prefix`_`name`. `with_plan` adds the line that tells the phases. `defaults` are values that
    are set elsewhere, so that ui-config.json, in which the WebUI keeps the value of every control, must not set them.
    """
    enabled, *parameters = (with_default(p, defaults or {}) for p in Settings.parameters())
    choices = {"cleanup_sampler": [SAME_SAMPLER, *samplers]}
    with InputAccordion(enabled.default, label=enabled.label, elem_id=f"{prefix}_{enabled.name}") as switch:
        preset, reason = preset_controls.choice(prefix)
        if with_plan:
            plan_text(prefix)
        controls = grouped([p for p in parameters if p.main], prefix, choices)
        chart(prefix)
        with gr.Accordion("Advanced", open=False, elem_id=f"{prefix}_advanced"):
            controls |= grouped([p for p in parameters if not p.main], prefix, choices, headings=True)
            mask = mask_control(prefix)
            heading("Own presets")
            preset_controls.connect(prefix, preset, reason, controls)
    for name in defaults or {}:
        controls[name].do_not_save_to_config = True
    return [switch, *(controls[p.name] for p in parameters), mask]


def upscale_controls(prefix: str, upscalers: Sequence[str]) -> list[Any]:
    """Controls of what the upscale settings have on top, in the order of `UpscaleSettings.own_parameters`."""
    gr.HTML("<p>Enlarges the picture, then mixes. The settings of the mixing are those of Iterative Mixing above.</p>")
    plan_text(prefix)
    return list(grouped(UpscaleSettings.own_parameters(), prefix, {"upscaler": upscalers}).values())


def with_default(parameter: Parameter, defaults: Mapping[str, Any]) -> Parameter:
    return dataclasses.replace(parameter, default=defaults.get(parameter.name, parameter.default))


def mask_control(prefix: str) -> Any:
    """Where a picture is put to be the mask."""
    mask = gr.Image(type="pil", label="Mask: guide white fully, black not at all", elem_id=f"{prefix}_mask", height=240)
    mask.do_not_save_to_config = True
    return mask


def plan_text(prefix: str) -> None:
    """Where the page's script tells which phases there will be; screen readers are told of a change."""
    gr.HTML(f'<p id="{prefix}_plan" role="status" style="min-height: 1.5em"></p>')


def chart(prefix: str) -> None:
    """Where the page's script draws the weights of the controls with this prefix."""
    gr.HTML(f'<div id="{prefix}_chart" class="itermix-chart" data-prefix="{prefix}"></div>')


def heading(text: str) -> None:
    gr.HTML(f"<h4>{text}</h4>", elem_classes=["itermix-heading"])


def grouped(
    parameters: Sequence[Parameter], prefix: str, choices: Mapping[str, Sequence[str]], headings: bool = False
) -> dict[str, Any]:
    """{name: control} in order, two in a row, rows broken where the group changes if the groups have headings."""
    controls: dict[str, Any] = {}
    groups = list(dict.fromkeys(p.group for p in parameters)) if headings else [None]
    for group in groups:
        if group:
            heading(group)
        members = [p for p in parameters if group in (None, p.group)]
        for pair in (members[i : i + 2] for i in range(0, len(members), 2)):
            with gr.Row(elem_classes=["itermix-row"]):
                controls |= {p.name: control(p, f"{prefix}_{p.name}", choices.get(p.name, p.choices)) for p in pair}
    return controls


def control(parameter: Parameter, elem_id: str, choices: Sequence[str] | None = None) -> Any:
    """One control, with its help if that is short, or else with its first sentence; all of it is its tooltip.

    Its elem_id is fixed, so that scripts of the page can name it, and its label is what ui-config.json knows it by.
    """
    summary = parameter.help
    if len(summary) > SHORT:
        summary = summary.partition(". ")[0].removesuffix(".") + "."
    common = {"value": parameter.default, "label": parameter.label, "info": summary, "elem_id": elem_id}
    made: Any
    if parameter.type is bool:
        made = gr.Checkbox(**common)
    elif choices:
        made = gr.Dropdown(choices=list(choices), **common)
    elif parameter.high is not None and parameter.high > 2**16:  # too many values for a slider
        made = gr.Number(precision=0, **common)
    else:
        most = parameter.high if parameter.usual is None else parameter.usual
        made = gr.Slider(minimum=parameter.low, maximum=most, step=parameter.step, **common)
    made.webui_tooltip = parameter.help
    return made
