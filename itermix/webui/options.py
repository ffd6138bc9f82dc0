"""The section of the settings page."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr
from modules import shared

from itermix.settings import Settings
from itermix.webui.limits import MEGAPIXELS, OPTION

SECTION = ("itermix", "Iterative Mixing")
DEFAULTS = ("max_scale_per_phase", "save_phases")
"""Settings whose defaults are the user's to choose."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LOG = logging.getLogger("itermix")


def add() -> None:
    """Called by the WebUI when it makes its settings page."""
    for parameter in (p for p in Settings.parameters() if p.name in DEFAULTS):
        limits = {"minimum": parameter.low, "maximum": parameter.high, "step": parameter.step}
        component = gr.Checkbox if parameter.type is bool else gr.Slider
        arguments = limits if component is gr.Slider else None
        info = shared.OptionInfo(parameter.default, parameter.label, component, arguments, section=SECTION)
        shared.opts.add_option(key(parameter.name), info.info(f"default; {parameter.help}").needs_reload_ui())
    limits = {"minimum": MEGAPIXELS.low, "maximum": MEGAPIXELS.high, "step": MEGAPIXELS.step}
    most = shared.OptionInfo(
        MEGAPIXELS.default, MEGAPIXELS.label, gr.Slider, limits, section=SECTION, restrict_api=True
    )
    shared.opts.add_option(OPTION, most.info(MEGAPIXELS.help))
    levels = {"choices": list(LEVELS)}
    level = shared.OptionInfo("INFO", "Log level", gr.Radio, levels, onchange=set_log_level, section=SECTION)
    shared.opts.add_option(key("log_level"), level)
    set_log_level()


def key(name: str) -> str:
    return f"itermix_{name}"


def defaults() -> dict[str, Any]:
    """{name: value} of the settings whose defaults are the user's."""
    return {p.name: getattr(shared.opts, key(p.name), p.default) for p in Settings.parameters() if p.name in DEFAULTS}


def set_log_level() -> None:
    """Log from the chosen level on, to the console if the WebUI has said nothing about logs, and once, whatever it
    says later."""
    if not LOG.handlers and not logging.getLogger().handlers:
        LOG.addHandler(logging.StreamHandler())
        LOG.propagate = False
    LOG.setLevel(shared.opts.itermix_log_level)
