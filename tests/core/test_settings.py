import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itermix import Settings, SettingsError
from itermix.settings import UpscaleSettings

PARAMETERS = UpscaleSettings.parameters()
WRONG_TYPES = {
    bool: [0, 1.0, "true", None],
    int: ["3", True, None, [1]],
    float: ["0.5", False, None, {}],
    str: [3, None, True],
}


def wrong_values(parameter):
    values = list(WRONG_TYPES[parameter.type])
    if parameter.choices:
        values += ["no such choice", ""]
    if parameter.type is str:
        values += ["x" * 256, "a\n", "\x00", "\ud800"]
    if parameter.type in (int, float):
        values += [math.nan, math.inf, -math.inf, 10**400, -(10**400), parameter.low - 1, parameter.high + 1]
    if parameter.type is int:
        values += [parameter.low + 0.5]
    return values


@pytest.mark.parametrize(
    ("parameter", "value"),
    [pytest.param(p, v, id=f"{p.name}={str(v)[:20]!r}") for p in PARAMETERS for v in wrong_values(p)],
)
def test_a_wrong_value_is_an_error_with_field_value_and_what_is_allowed(parameter, value):
    with pytest.raises(SettingsError) as error:
        UpscaleSettings(**{parameter.name: value})
    message = str(error.value)
    assert f"{parameter.name} = {value!r}" in message
    assert "Allowed:" in message
    if parameter.choices:
        assert all(choice in message for choice in parameter.choices)
    if parameter.low is not None:
        assert f"{parameter.low:g}" in message
        assert f"{parameter.high:g}" in message


def test_an_unknown_name_is_an_error_with_the_nearest_known_one():
    with pytest.raises(SettingsError, match=r"alhpa = 1.*Did you mean alpha\?"):
        Settings(alhpa=1)


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", "x" * 10**6), ("x" * 10**6, 1), ("\ud800\n", 1), ("a\x1b[2J", 1)]
)
def test_what_others_wrote_is_shown_in_a_sentence_that_can_be_read(name, value):
    with pytest.raises(SettingsError) as error:
        Settings(**{name: value})
    message = str(error.value)
    assert len(message) < 2500
    assert message.isprintable()
    assert (error.value.name, error.value.value) == (name, value)


@pytest.mark.parametrize("name", ["self", "cls", "values", ""])
def test_names_that_python_knows_are_unknown_settings(name):
    with pytest.raises(SettingsError, match="Known settings"):
        UpscaleSettings(**{name: 1})


def test_the_sizes_belong_to_the_upscale_settings_alone():
    with pytest.raises(SettingsError, match="scale"):
        Settings(scale=2.0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"start": 0.6, "stop": 0.5}, "stop"),
        ({"start": 0.0, "stop": 0.0}, "stop"),
        ({"lowest": 0.8, "highest": 0.2}, "lowest"),
        ({"start_at_step": 7, "end_at_step": 7}, "end_at_step"),
        ({"width": 516}, "width"),
        ({"cutoff": 0.5}, "cutoff"),
        ({"height": 1001}, "height"),
    ],
)
def test_values_that_contradict_each_other_are_an_error(values, field):
    with pytest.raises(SettingsError) as error:
        UpscaleSettings(**values)
    assert error.value.name == field


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_declarations_are_complete_and_the_default_is_allowed(parameter):
    assert parameter.check(parameter.default) == parameter.default
    assert type(parameter.default) is parameter.type
    assert parameter.label
    assert parameter.help.endswith(".")
    assert parameter.group
    assert parameter.key.startswith("Itermix ")
    if parameter.type in (int, float):
        assert None not in (parameter.low, parameter.high, parameter.step)


def test_infotext_keys_and_labels_are_unique():
    for attribute in ("key", "label", "name"):
        values = [getattr(p, attribute) for p in PARAMETERS]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("value", [20, 20.0, np.int64(20), np.float32(20)])
def test_json_and_sliders_may_give_whole_numbers_as_floats(value):
    settings = Settings(end_at_step=value, alpha=value / 20)
    assert (settings.end_at_step, type(settings.end_at_step)) == (20, int)
    assert type(settings.alpha) is float


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        Settings().alpha = 3.0


def value_of(parameter):
    if parameter.type is bool:
        return st.booleans()
    if parameter.type is str:
        return st.sampled_from(parameter.choices) if parameter.choices else st.text()
    if parameter.type is int:
        return st.integers(int(parameter.low), int(parameter.high))
    return st.floats(parameter.low, parameter.high)


@given(st.tuples(*(value_of(p) for p in Settings.parameters())))
def test_a_positional_list_and_the_named_values_mean_the_same(values):
    named = dict(zip([p.name for p in Settings.parameters()], values))
    try:
        expected = Settings(**named)
    except SettingsError:
        with pytest.raises(SettingsError):
            Settings.from_list(values)
        return
    settings = Settings.from_list(values)
    assert settings == expected
    assert Settings(**settings.changed()) == settings
    assert settings.replace() == settings


def test_a_list_longer_than_the_settings_is_an_error():
    with pytest.raises(SettingsError, match="at most"):
        Settings.from_list([True] * 100)


@pytest.mark.parametrize(
    ("settings", "source", "target"),
    [
        ({}, (512, 768), (1024, 1536)),
        ({"scale": 1.5}, (513, 300), (768, 448)),
        ({"scale": 1.0}, (3, 1), (8, 8)),
        ({"width": 1024}, (512, 300), (1024, 600)),
        ({"height": 1200}, (512, 300), (2048, 1200)),
        ({"width": 640, "height": 1000, "scale": 4.0}, (512, 300), (640, 1000)),
    ],
)
def test_target_size(settings, source, target):
    assert UpscaleSettings(**settings).target(*source) == target


@pytest.mark.parametrize(
    ("source", "target", "cutoff"),
    [
        ((512, 768), (1024, 1536), 2.0),
        ((512, 512), (768, 1024), 2.0),
        ((64, 64), (1024, 64), 8.0),
        ((80, 8), (8, 8), 1.0),
    ],
)
def test_the_cut_off_of_a_phase_is_its_scale(source, target, cutoff):
    assert Settings(alpha=0.5).of_phase(source, target) == Settings(alpha=0.5, cutoff=cutoff)


def test_a_cut_off_that_was_given_stays_in_every_phase():
    assert Settings(cutoff=3.0).of_phase((512, 512), (1024, 1024)) == Settings(cutoff=3.0)
