"""Axes of the WebUI's X/Y/Z plot, one for every parameter and one for the presets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from modules import scripts

from itermix.parameters import Parameter, SettingsError
from itermix.picture.cleanup import SAME_SAMPLER
from itermix.settings import UpscaleSettings
from itermix.settings.presets import AUTOMATIC, PRESETS
from itermix.webui import host, upscale
from itermix.webui.errors import as_client_errors
from itermix.webui.presets import OWN, with_preset

PRESET = Parameter(str, "", "Preset", "", "", "", name="preset")
SIZES = {parameter.name for parameter in UpscaleSettings.own_parameters()}


def add_axes() -> None:
    """Called by the WebUI before it makes its page, also when it makes it anew."""
    for data in scripts.scripts_data:
        if data.script_class.__module__ == "xyz_grid.py" and not isinstance(data.module.process_images, Generate):
            data.module.axis_options += axes(data.module)
            data.module.process_images = Generate(data.module.process_images)


class Generate:
    """What a plot calls for each of its pictures, in the place of `process_images`.

    One script alone can be chosen, and that is the plot. So the upscale script is run from here where an axis has its
    settings.
    """

    def __init__(self, process_images: Callable[[Any], Any]):
        self._process_images = process_images

    def __call__(self, p: Any) -> Any:
        if not SIZES & set(getattr(p, "itermix_settings", {})):
            return self._process_images(p)
        result = upscale.upscaled(p, ())
        for name in ("all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds"):
            setattr(p, name, getattr(result, name))  # the plot takes the text of its grid from here
        return result


def axes(module: Any) -> list[Any]:
    """Options of the module of the X/Y/Z plot script; those of the upscale script in its img2img tab alone.

    Their class is that of another such option, since Forge Classic's module doesn't have it by name.
    """
    in_img2img = next(type(option) for option in module.axis_options if getattr(option, "is_img2img", False))
    return [
        (in_img2img if parameter.name in SIZES else module.AxisOption)(
            label_of(parameter),
            parameter.type if parameter.type in (int, float) else str,
            functools.partial(apply, parameter),
            confirm=functools.partial(confirm, parameter),
            choices=choices_of(parameter),
        )
        for parameter in (PRESET, *UpscaleSettings.parameters())
    ]


def label_of(parameter: Parameter) -> str:
    return f"[Itermix] {parameter.label}"


def choices_of(parameter: Parameter) -> Callable[[], list[str]] | None:
    """What the plot asks for the values that it offers; None where one writes them."""
    if parameter.type is bool:
        return lambda: ["True", "False"]
    if parameter.choices:
        return lambda: list(parameter.choices or ())
    return {
        "preset": lambda: [AUTOMATIC, *PRESETS, *OWN.load()],
        "upscaler": host.upscalers,
        "cleanup_sampler": lambda: [SAME_SAMPLER, *host.samplers()],
    }.get(parameter.name)


def apply(parameter: Parameter, p: Any, value: Any, values: Sequence[Any]) -> None:
    """Set it in the request of one picture, a shallow copy: so the dict is replaced and never changed."""
    p.itermix_settings = {**getattr(p, "itermix_settings", {}), parameter.name: typed(parameter, value)}


def confirm(parameter: Parameter, p: Any, values: Sequence[Any]) -> None:
    """Called before the plot begins; what it raises fails the request, where later errors leave a picture empty."""
    with as_client_errors():
        for value in values:
            with_preset({parameter.name: parameter.check(typed(parameter, value))})
        if not host.is_img2img(p) and not p.enable_hr:
            allowed = "Allowed in txt2img: axes of Iterative Mixing together with hires fix, whose second pass it is."
            raise SettingsError(label_of(parameter), values, allowed)


def typed(parameter: Parameter, value: Any) -> Any:
    """The value of an axis, which has texts for booleans; a text that is none stays, to be refused."""
    return {"true": True, "false": False}.get(str(value).lower(), value) if parameter.type is bool else value
