"""JSON Schema of the settings, from their declarations."""

from __future__ import annotations

from typing import Any

from itermix.parameters import Parameter
from itermix.settings import Settings, UpscaleSettings

TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def json_schema(settings: type[Settings] = UpscaleSettings) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the dict that makes these settings; what it leaves out has its default."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": settings.__name__,
        "type": "object",
        "properties": {parameter.name: _property(parameter) for parameter in settings.parameters()},
        "additionalProperties": False,
    }


def _property(parameter: Parameter) -> dict[str, Any]:
    limits = {
        "enum": parameter.choices and list(parameter.choices),
        "minimum": parameter.low,
        "maximum": parameter.high,
    }
    return {
        "type": TYPES[parameter.type],
        "title": parameter.label,
        "description": parameter.help,
        "default": parameter.default,
        **{name: limit for name, limit in limits.items() if limit is not None},
    }
