"""The controls, generated from the declared settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from modules.ui_components import InputAccordion

from itermix.settings import SAME_SAMPLER, Parameter, Settings, UpscaleSettings


def accordion(prefix: str, samplers: Sequence[str], with_plan: bool) -> list[Any]:
    """Controls of all mixing settings in the order of `Settings.parameters`; the first is the accordion's checkbox.

    Their elem_ids are `prefix`_`name`. `with_plan` adds the line that tells the phases.
    """
    enabled, *parameters = Settings.parameters()
    with InputAccordion(enabled.default, label=enabled.label, elem_id=f"{prefix}_{enabled.name}") as switch:
        if with_plan:
            plan_text(prefix)
        return [switch, *grouped(parameters, prefix, {"cleanup_sampler": [SAME_SAMPLER, *samplers]})]


def upscale_controls(prefix: str, upscalers: Sequence[str]) -> list[Any]:
    """Controls of what the upscale settings have on top, in the order of `UpscaleSettings.own_parameters`."""
    gr.HTML("<p>Enlarges the picture, then mixes. The settings of the mixing are those of Iterative Mixing above.</p>")
    plan_text(prefix)
    return grouped(UpscaleSettings.own_parameters(), prefix, {"upscaler": upscalers})


def plan_text(prefix: str) -> None:
    """Where the page's script tells which phases there will be; screen readers are told of a change."""
    gr.HTML(f'<p id="{prefix}_plan" role="status" style="min-height: 1.5em"></p>')


def grouped(parameters: Sequence[Parameter], prefix: str, choices: dict[str, Sequence[str]] | None = None) -> list[Any]:
    """A control for each parameter in order, two in a row, rows broken where the group changes."""
    controls: list[Any] = []
    for group in dict.fromkeys(parameter.group for parameter in parameters):
        members = [parameter for parameter in parameters if parameter.group == group]
        for pair in (members[i : i + 2] for i in range(0, len(members), 2)):
            with gr.Row():
                controls += [control(p, f"{prefix}_{p.name}", (choices or {}).get(p.name, p.choices)) for p in pair]
    return controls


def control(parameter: Parameter, elem_id: str, choices: Sequence[str] | None = None) -> Any:
    """One control. Its elem_id is fixed, so that ui-config.json and scripts of the page can name it."""
    common = {"value": parameter.default, "label": parameter.label, "info": parameter.help, "elem_id": elem_id}
    if parameter.type is bool:
        return gr.Checkbox(**common)
    if choices:
        return gr.Dropdown(choices=list(choices), **common)
    if parameter.high is not None and parameter.high > 2**16:  # too many values for a slider
        return gr.Number(precision=0, **common)
    return gr.Slider(minimum=parameter.low, maximum=parameter.high, step=parameter.step, **common)
