"""The settings as the infotext of a picture carries them: what differs from the defaults, under keys of their own.

The text names its version, so that what it leaves out keeps the meaning that it had when the text was written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from itermix.parameters import Parameter
from itermix.settings import Settings, UpscaleSettings

VERSION = 7
"""To be raised with every release in which a default, a key or the meaning of a value is another."""

VERSION_KEY = "Itermix version"

UNFINISHED = "Itermix unfinished"
"""Key under which a picture says what of it could not be finished."""

BEFORE_7 = {"denoise_in": "steps"}
BEFORE_6 = {**BEFORE_7, "steps": 0, "window_auto": False, "window_overlap": 0.5, "dilated": 1.0}
BEFORE_5 = {**BEFORE_6, "denoise": 0.7}
BEFORE_3 = {**BEFORE_6, "denoise": 1.0, "blending": "clean wavelet", "alpha": 0.35, "detail": 0.07}
BEFORE_2 = {**BEFORE_3, "detail": 0.0, "fidelity": 0.0, "back_projection": False}

OLD_DEFAULTS: dict[int, dict[str, Any]] = {
    0: {**BEFORE_2, "blending": "addition", "alpha": 1.0},  # 0.1.0, whose texts have no version
    1: BEFORE_2,
    2: BEFORE_3,
    3: {**BEFORE_5, "detail": 0.06},
    4: BEFORE_5,
    5: BEFORE_6,
    6: BEFORE_7,
}
"""{version: {setting: its default then}}, where that may be another than today's."""

DETAIL_SINCE = {"clean low-pass": 2, "clean wavelet": 2, "low-pass": 3, "wavelet": 3}
"""{blending: version since which detail has had an effect on it}; on the others it has since version 4."""

DETAIL_ON_STATE = 4.6
"""What detail is worth today that was 1 before version 4, when it was added to the state once a step: as much stronger
comes what is fine with 20 steps of DPM++ 2M."""

DECLARED = {parameter.name: parameter for parameter in UpscaleSettings.parameters()}
SCALE, DETAIL = DECLARED["scale"], DECLARED["detail"]


def written(settings: Settings) -> dict[str, Any]:
    """{key: value} of what differs from the defaults and has a part in the picture, the steps and the version.

    Those of the upscale script always have the scale: by that they are told from those of the mixing alone.
    """
    named = {"enabled", "steps", SCALE.name, *settings.changed()}
    declared = [p for p in settings.parameters() if p.name in named and p.in_infotext]
    return {p.key: getattr(settings, p.name) for p in declared} | {VERSION_KEY: VERSION}


def by_upscale_script(parameters: Mapping[str, Any]) -> bool:
    """Whether a picture with these parameters in its infotext was made by the upscale script."""
    return SCALE.key in parameters


def read(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """{name: value} of every setting from the parameters of an infotext, as a WebUI parses them.

    What the text leaves out has the default that it had in the version of the text, and so has what isn't possible.
    Without any key of ours everything is at today's default, and mixing off.

    Args:
        parameters: {key: value}, the values mostly texts: numbers and booleans as str() gives them. WebUIs split a text
            like 2x4 and put its halves under the key with -1 and -2 appended.
    """
    declared = UpscaleSettings.parameters()
    defaults = {p.name: p.default for p in declared}
    ours = any(_value(p, parameters) is not None for p in declared)
    version = _version(parameters) if ours else VERSION
    defaults |= OLD_DEFAULTS.get(version, {})
    values = {p.name: _typed(p, _value(p, parameters), defaults[p.name]) for p in declared}
    return {**values, "detail": detail_today(values, version)}


def detail_today(values: Mapping[str, Any], version: int) -> float:
    """What detail is today that does about what that of these settings did, in this version of the texts."""
    if version >= 4:
        return values["detail"]
    if version < DETAIL_SINCE.get(values["blending"], 4):
        return 0.0
    return min(round(DETAIL_ON_STATE * values["detail"], 2), DETAIL.high)


def _version(parameters: Mapping[str, Any]) -> int:
    """0 for a text without a version, or with one that isn't a number."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return int(float(parameters[VERSION_KEY])) if VERSION_KEY in parameters else 0
    return 0


def _value(parameter: Parameter, parameters: Mapping[str, Any]) -> Any:
    halves = [parameters.get(f"{parameter.key}-{k}") for k in (1, 2)]
    return parameters.get(parameter.key, None if None in halves else "x".join(map(str, halves)))


def _typed(parameter: Parameter, value: Any, default: Any) -> Any:
    """A value of an infotext in the parameter's type; the default for None and for what isn't allowed."""
    if parameter.type is bool:
        value = {"true": True, "false": False}.get(str(value).lower())
    with contextlib.suppress(ValueError, TypeError):  # SettingsError is a ValueError
        return parameter.check(float(value) if parameter.type in (int, float) else value)
    return default
