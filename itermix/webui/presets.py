"""The user's own presets, in the WebUI's data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules.paths_internal import data_path

from itermix.settings.presets import PRESETS, PresetFile, expanded

OWN = PresetFile(Path(data_path) / "itermix-presets.json")


def with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an API request with the values of the preset that it may name, a built-in one or the user's own.

    Raises SettingsError for a preset that isn't known, PresetFileError if it isn't built in and the own can't be read.
    """
    built_in = "preset" not in values or values["preset"] in list(PRESETS)
    return expanded(values, {} if built_in else OWN.load())
