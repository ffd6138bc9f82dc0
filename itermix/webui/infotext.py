"""What the WebUI restores from the infotext of a picture, and copies from tab to tab."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from itermix.parameters import Parameter
from itermix.settings import Settings, UpscaleSettings
from itermix.settings.infotext import by_upscale_script, read

UPSCALE_TITLE = "Iterative Mixing upscale"


def restored(parameter: Parameter, parameters: Mapping[str, Any]) -> Any:
    """The setting's value in a parsed infotext. From one without mixing: off, and for all other settings None, which
    leaves a control as it is. So it is with what infotexts don't have."""
    if not parameter.in_infotext:
        return None
    values = read(parameters)
    return values[parameter.name] if values["enabled"] or parameter.name == "enabled" else None


def restored_size(parameter: Parameter, parameters: dict[str, Any]) -> Any:
    """The same for a control of the upscale script; also lets the WebUI choose that script if it made the picture.

    The list of scripts is restored after the controls, from a key that no picture of ours has: the tabs and WebUIs
    without this script would choose one that they don't have.
    """
    if not by_upscale_script(parameters):
        return None
    parameters["Script"] = UPSCALE_TITLE
    return restored(parameter, parameters)


# One function for both tabs: "Send to" copies the controls of one tab into those of another that have the same.
MIXING = [functools.partial(restored, parameter) for parameter in Settings.parameters()]
SIZES = [functools.partial(restored_size, parameter) for parameter in UpscaleSettings.own_parameters()]
