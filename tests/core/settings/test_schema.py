"""The JSON Schema says what the registry says."""

import jsonschema
import pytest

from itermix import Settings
from itermix.settings import UpscaleSettings
from itermix.settings.effect import needs
from itermix.settings.schema import json_schema

PARAMETERS = UpscaleSettings.parameters()


def valid(**values):
    return jsonschema.Draft202012Validator(json_schema()).is_valid(values)


def test_it_is_a_schema_and_accepts_the_defaults():
    schema = json_schema()
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    assert schema["title"] == "UpscaleSettings"
    jsonschema.Draft202012Validator.check_schema(schema)
    assert valid()
    assert valid(**{p.name: p.default for p in PARAMETERS})


def test_unknown_names_and_other_shapes_are_refused():
    assert not valid(alhpa=1.0)
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid([])


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_every_parameter_is_declared_with_its_limits(parameter):
    declared = json_schema()["properties"][parameter.name]
    assert (declared["title"], declared["description"]) == (parameter.label, parameter.help)
    assert declared["default"] == parameter.default
    assert declared.get("x-needs", []) == needs(parameter)
    assert None not in declared.values()
    assert not valid(**{parameter.name: []})
    if parameter.low is not None:
        assert valid(**{parameter.name: parameter.low})
        assert valid(**{parameter.name: parameter.high})
        assert not valid(**{parameter.name: parameter.low - 1})
        assert not valid(**{parameter.name: parameter.high + 1})
    if parameter.choices:
        assert declared["enum"] == list(parameter.choices)
        assert not valid(**{parameter.name: "no such choice"})


def test_other_defaults_stand_in_it():
    declared = json_schema(defaults={"alpha": 0.75})["properties"]
    assert (declared["alpha"]["default"], declared["denoise"]["default"]) == (0.75, Settings().denoise)


def test_the_mixing_alone_has_a_schema_too():
    assert list(json_schema(Settings)["properties"]) == [p.name for p in Settings.parameters()]
