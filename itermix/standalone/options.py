"""What the commands take: settings, requests to a WebUI and how the built-in models sample, as flags and as text."""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itermix.parameters import Parameter, SettingsError, shortened
from itermix.settings import Settings, UpscaleSettings
from itermix.settings.presets import PRESETS, expanded

if TYPE_CHECKING:
    from itermix.standalone.upscaling import Method

MIXING_HELP = 'Settings as "name=value name=value", or "preset=NAME"; may be given more than once.'


class UsageError(ValueError):
    """Options that can't be used together; the message says what is allowed."""


def finite(text: str) -> float:
    """A number, for argparse."""
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not possible. Allowed: a number.")


REQUEST_OPTIONS: dict[str, tuple[str, Any, str]] = {
    "--prompt": ("prompt", str, "What the picture shows."),
    "--negative-prompt": ("negative_prompt", str, "What it must not show."),
    "--sampler": ("sampler_name", str, "Sampler by the WebUI's name; the built-in model: dpmpp_2m, dpmpp_2m_sde, "
                  "euler or euler_ancestral."),
    "--scheduler": ("scheduler", str, "Noise schedule by the WebUI's name; the built-in model has Karras alone."),
    "--picture-seed": ("seed", int, "Seed of the picture, -1 for a random one. (--seed is that of the mixed noise.)"),
    "--cfg": ("cfg_scale", finite, "Classifier-free guidance scale; the built-in model: 1."),
}  # fmt: skip
"""{flag: (field of the API request, type, help)}."""


def add_out(parser: argparse.ArgumentParser, metavar: str, help: str) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar=metavar, help=help)


def add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, metavar="FILE", help="Other weights for the built-in model.")


def add_model(parser: argparse.ArgumentParser, steps: int | None) -> None:
    """Options of how the built-in model samples; `steps` of None leaves the default to the command."""
    parser.add_argument(
        "--sampler", default="dpmpp_2m", help="dpmpp_2m (default), dpmpp_2m_sde, euler, euler_ancestral."
    )
    parser.add_argument("--schedule", default="karras", help="karras (default), exponential, align-your-steps.")
    parser.add_argument(
        "--steps",
        type=whole,
        default=steps,
        metavar="N",
        help=f"Steps of all but mixing, which has its own (default {steps or '16, with --quick 12'}).",
    )
    parser.add_argument(
        "--cfg", type=float, default=1.0, help="Classifier-free guidance of upscaling (default 1, none)."
    )
    add_weights(parser)


def add_settings(parser: argparse.ArgumentParser, settings: type[Settings], **defaults: Any) -> None:
    """A flag for every declared parameter, in groups as in the UI; `defaults` names what the command has otherwise."""
    groups: dict[str, Any] = {"Main": parser.add_argument_group("Mixing: Main")}
    presets = f"Named values for all but the seed and the size; flags stand above them. Allowed: {', '.join(PRESETS)}."
    groups["Main"].add_argument("--preset", dest="setting_preset", default=argparse.SUPPRESS, help=presets)
    for parameter in settings.parameters():
        if parameter.group not in groups:
            groups[parameter.group] = parser.add_argument_group(f"Mixing: {parameter.group}")
        kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if parameter.type is not bool:
            kind = {"type": functools.partial(value_of, parameter), "metavar": parameter.type.__name__.upper()}
        default = defaults.get(parameter.name, parameter.default)
        help = f"{parameter.help} {parameter.allowed} Default: {default}.".replace("%", "%%")
        dest = f"setting_{parameter.name}"
        groups[parameter.group].add_argument(
            flag_of(parameter), dest=dest, default=argparse.SUPPRESS, help=help, **kind
        )


def add_request(parser: argparse.ArgumentParser) -> None:
    request = parser.add_argument_group("Generation")
    for flag, (field, kind, help) in REQUEST_OPTIONS.items():
        metavar = "FLOAT" if kind is finite else kind.__name__.upper()
        request.add_argument(flag, dest=f"request_{field}", type=kind, help=help, metavar=metavar)


def request_of(options: argparse.Namespace) -> dict[str, Any]:
    """{field of an API request: value} of the options that were given."""
    given = {field: getattr(options, f"request_{field}") for field, _, _ in REQUEST_OPTIONS.values()}
    return {field: value for field, value in given.items() if value is not None}


def flag_of(parameter: Parameter) -> str:
    return "--" + parameter.name.replace("_", "-")


def settings_of(options: argparse.Namespace, settings: type[Settings]) -> dict[str, Any]:
    """{name: value} of the settings that were given as flags, and of "preset"."""
    given = vars(options)
    names = ("preset", *(p.name for p in settings.parameters()))
    return {name: given[f"setting_{name}"] for name in names if f"setting_{name}" in given}


def value_of(parameter: Parameter, text: str) -> Any:
    """Text in the parameter's type; text that isn't of it stays text, for the settings to refuse."""
    if parameter.type is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    for kind in (int, float):
        if parameter.type in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
    return text


def mixing_of(text: str) -> Settings:
    """Settings written as "name=value name=value"; one of the names may be "preset".

    Raises:
        UsageError: not written so.
        SettingsError: an unknown name or a value that isn't allowed.
    """
    return Settings(**expanded(values_of(text)))


def method_of(text: str) -> Method:
    """A mixing to measure, written as for `mixing_of`; one of the names may be "back_projection" too."""
    from itermix.standalone import upscaling

    values = values_of(text)
    declared = next(p for p in UpscaleSettings.parameters() if p.name == "back_projection")
    corrected = declared.check(values.pop(declared.name, declared.default))
    return upscaling.Method(text, Settings(**expanded(values)), back_projection=corrected)


def values_of(text: str) -> dict[str, Any]:
    """{name: value} of a text like "name=value name=value". Raises UsageError if it isn't written so."""
    parameters = {p.name: p for p in UpscaleSettings.parameters()}
    before, *parts = re.split(r"(?:^|\s)(\w+)=", text)
    pairs = [(name, value.strip()) for name, value in zip(parts[::2], parts[1::2])]
    if before.strip() or not pairs or any(not value or "=" in value for _, value in pairs):
        raise UsageError(f'--mixing {shortened(repr(text))} is not possible. Allowed: "name=value name=value".')
    values = {name: value_of(parameters[name], value) if name in parameters else value for name, value in pairs}
    if "analysis" in values:
        raise SettingsError("analysis", values["analysis"], "Allowed in --mixing: without; it is an option of its own.")
    return values


def whole(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not possible. Allowed: a whole number from 1.")
    return int(text)
