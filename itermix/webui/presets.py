"""The user's own presets, in the WebUI's data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules.paths_internal import data_path

from itermix.settings import Settings
from itermix.settings.presets import (
    AUTOMATIC,
    DECIDED,
    DEFAULT,
    PRESETS,
    PresetFile,
    PresetFileError,
    decided,
    expanded,
)
from itermix.webui import checkpoints, options

OWN = PresetFile(Path(data_path) / "itermix-presets.json")


def automatic(p: Any = None) -> str:
    """The preset that Automatic stands for: the one bound to the checkpoint of a request, or of the WebUI; or DEFAULT.

    Raises PresetFileError if the user's own can't be read.
    """
    bound = OWN.bound()
    return next((bound[each] for each in checkpoints.chosen(p).hashes if each in bound), DEFAULT)


def filled_in(own: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{name: what the controls show of it}, of the built-in presets and these."""
    return {name: decided({**options.defaults(), **values}) for name, values in {**PRESETS, **own}.items()}


def followed(settings: Settings, chosen: Any, p: Any) -> Settings:
    """The settings of the page's controls, where Automatic may be chosen: of the checkpoint that the request will have.

    It may be another than the one that was loaded when Automatic filled the controls in. What differs from all that
    Automatic can fill in is the user's and stays.
    """
    shown = {parameter.name: getattr(settings, parameter.name) for parameter in DECIDED}
    if chosen != AUTOMATIC or not fills_in(shown):
        return settings
    return settings.replace(**filled_in(OWN.load())[automatic(p)])


def fills_in(values: Mapping[str, Any]) -> bool:
    """Whether Automatic fills these values in with some checkpoint; never where the user's own can't be read."""
    try:
        bound, presets = set(OWN.bound().values()), filled_in(OWN.load())
    except PresetFileError:
        return False
    return any(values == presets[name] for name in (DEFAULT, *bound))


def with_preset(values: Mapping[str, Any], p: Any = None) -> dict[str, Any]:
    """Settings of an API request with the values of the preset that it may name, a built-in one or the user's own;
    Automatic is the one for the checkpoint of the request `p`.

    Raises SettingsError for a preset that isn't known, PresetFileError if it isn't built in and the own can't be read.
    """
    if values.get("preset") == AUTOMATIC:
        values = {**values, "preset": automatic(p)}
    built_in = "preset" not in values or values["preset"] in list(PRESETS)
    return expanded(values, {} if built_in else OWN.load())
