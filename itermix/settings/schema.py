"""JSON Schema of the settings, from their declarations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itermix.parameters import Parameter
from itermix.settings import Settings, UpscaleSettings
from itermix.settings.effect import needs

TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def json_schema(
    settings: type[Settings] = UpscaleSettings, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the dict that makes these settings; what it leaves out has its default.

    `defaults` are those that are others than the declared ones. Of a setting that has an effect only with others,
    `x-needs` says with which; see `itermix.settings.effect.needs`.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": settings.__name__,
        "type": "object",
        "properties": {parameter.name: _property(parameter, defaults or {}) for parameter in settings.parameters()},
        "additionalProperties": False,
    }


def _property(parameter: Parameter, defaults: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "enum": parameter.choices and list(parameter.choices),
        "minimum": parameter.low,
        "maximum": parameter.high,
        "x-needs": needs(parameter) or None,
    }
    return {
        "type": TYPES[parameter.type],
        "title": parameter.label,
        "description": parameter.help,
        "default": defaults.get(parameter.name, parameter.default),
        **{name: value for name, value in found.items() if value is not None},
    }
