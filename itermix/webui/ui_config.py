"""Values that a WebUI's ui-config.json keeps under the labels that controls had before."""

from __future__ import annotations

import json
from typing import Any

from modules import shared

from itermix.parameters import Parameter, SettingsError

FILE = "iterative_mixing.py"
"""The script's file, by which the WebUI tells our controls from others."""


def kept(parameters: tuple[Parameter, ...], tab: str) -> dict[str, Any]:
    """{name: value} of those settings of a tab that have another label than when the file was written.

    The WebUI finds a value by its label. It writes the file once it has made its page, so this is the way of one start.
    """
    try:
        with open(shared.cmd_opts.ui_config_file, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}  # there is none yet, or the WebUI says itself what is wrong with it
    values = {}
    for parameter in parameters:
        was, now = (f"customscript/{FILE}/{tab}/{label}/value" for label in (parameter.formerly, parameter.label))
        if parameter.formerly and was in found and now not in found:
            try:
                values[parameter.name] = parameter.check(found[was])
            except SettingsError:
                continue  # as the WebUI treats what it can't use
    return values
