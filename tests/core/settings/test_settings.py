import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itermix import Settings, SettingsError
from itermix.parameters import MAX_SHOWN, MAX_TEXT, Parameter, parameter, scale_between, shortened
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
    assert str(error.value) == f"Iterative Mixing: {parameter.name} = {value!r} is not possible. {parameter.allowed}"
    assert (error.value.name, error.value.value) == (parameter.name, value) or math.isnan(value)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("enabled", "Allowed: true or false."),
        ("noise", "Allowed: shared, independent, cumulative, inverted."),
        ("upscaler", "Allowed: a text of at most 255 printable characters."),
        ("seed", "Allowed: a whole number from -1 to 4294967295."),
        ("cleanup", "Allowed: a number from 0 to 0.25."),
    ],
)
def test_what_is_allowed_is_said_in_words(name, allowed):
    (parameter,) = (p for p in PARAMETERS if p.name == name)
    assert parameter.allowed == allowed


def test_an_unknown_name_is_an_error_with_the_nearest_known_one():
    known = ", ".join(p.name for p in Settings.parameters())
    for name, hint in (("alhpa", "Did you mean alpha? "), ("?", "")):
        with pytest.raises(SettingsError) as error:
            Settings(**{name: 1})
        assert (error.value.name, error.value.value) == (name, 1)
        assert error.value.allowed == f"{hint}Known settings: {known}."


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
    ("values", "field", "allowed"),
    [
        ({"start": 0.6, "stop": 0.5}, "stop", "Allowed: more than start, which is 0.6."),
        ({"start": 0.0, "stop": 0.0}, "stop", "Allowed: more than start, which is 0."),
        ({"start_at_step": 7, "end_at_step": 7}, "end_at_step", "Allowed: more than start_at_step, which is 7."),
        ({"width": 516}, "width", "Allowed: a multiple of 8."),
        ({"height": 1001}, "height", "Allowed: a multiple of 8."),
        ({"cutoff": 0.5}, "cutoff", "Allowed: 0, or a number from 1 to 8."),
        ({"cutoff": 0.05}, "cutoff", "Allowed: 0, or a number from 1 to 8."),
        ({"cleanup": 0.04}, "cleanup", "Allowed: 0, or a number from 0.05 to 0.25."),
    ],
)
def test_values_that_contradict_each_other_are_an_error(values, field, allowed):
    with pytest.raises(SettingsError) as error:
        UpscaleSettings(**values)
    assert (error.value.name, error.value.value, error.value.allowed) == (field, values[field], allowed)


@pytest.mark.parametrize(
    "values",
    [
        {"cutoff": 1.0},
        {"cleanup": 0.05},
        {"lowest": 0.8, "highest": 0.2},
        {"start": 0.5, "stop": 0.51},
        {"start": 0.5, "stop": 0.2, "progress": "comfy-steps"},
    ],
)
def test_values_that_only_just_agree_are_possible(values):
    assert Settings().replace(**values).changed() == values


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


def test_a_declaration_carries_all_that_it_was_made_with():
    @dataclasses.dataclass(frozen=True, init=False)
    class WithMore(Settings):
        more: int = parameter(3, "More", "What it does.", "more", "Group", low=1, high=9, step=2, main=4)

    expected = Parameter(
        int, 3, "More", "What it does.", "Itermix more", "Group", low=1, high=9, step=2, main=4, name="more"
    )
    assert WithMore.parameters() == (*Settings.parameters(), expected)
    assert WithMore.more == 3
    assert not Settings.parameters()[0].main


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


one_changed = st.one_of(*(st.fixed_dictionaries({p.name: value_of(p)}) for p in Settings.parameters()))


@given(one_changed)
def test_a_positional_list_and_the_named_values_mean_the_same(changed):
    values = [changed.get(p.name, p.default) for p in Settings.parameters()]
    try:
        expected = Settings(**changed)
    except SettingsError as error:
        with pytest.raises(SettingsError, match=f"^{re.escape(str(error))}$"):
            Settings.from_list(values)
        return
    settings = Settings.from_list(values)
    assert settings == expected
    assert Settings(**settings.changed()) == settings
    assert settings.replace() == settings


def test_a_list_may_be_shorter_but_not_longer_than_the_settings():
    assert Settings.from_list([]) == Settings()
    assert Settings.from_list([True, 0.5]) == Settings(enabled=True, denoise=0.5)
    names = [p.name for p in Settings.parameters()]
    too_long = [p.default for p in Settings.parameters()] + [1]
    with pytest.raises(SettingsError) as error:
        Settings.from_list(too_long)
    assert (error.value.name, error.value.value) == ("args", too_long)
    assert error.value.allowed == f"Allowed: at most {len(names)} values: {', '.join(names)}."


@pytest.mark.parametrize(
    ("settings", "source", "target"),
    [
        ({}, (512, 768), (1024, 1536)),
        ({"scale": 1.5}, (513, 300), (768, 448)),
        ({"scale": 1.0}, (3, 1), (8, 8)),
        ({"width": 768}, (512, 300), (768, 448)),
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


@pytest.mark.parametrize(
    ("settings", "steps", "expected"),
    [
        ({"cleanup": 0.25}, 20, 5),
        ({"cleanup": 0.25}, 21, 6),
        ({"cleanup": 0.07}, 100, 7),
        ({"cleanup": 0.05}, 3, 1),
        ({"cleanup": 0.25, "cleanup_steps": 9}, 20, 9),
    ],
)
def test_steps_of_the_clean_up(settings, steps, expected):
    (cleanup,) = Settings(**settings).after_phase(steps)
    assert (cleanup.name, cleanup.steps, cleanup.denoise) == ("clean-up", expected, settings["cleanup"])


def test_no_clean_up_without_one_nor_before_the_last_phase():
    assert Settings().after_phase(20) == []
    cleaned = Settings(cleanup=0.2)
    assert [len(cleaned.of_phase((8, 8), (16, 16), last=last).after_phase(20)) for last in (False, True)] == [0, 1]


def test_the_clean_up_is_shown_crops_alone():
    (cleanup,) = Settings(cleanup=0.2, window=64, dilated=2.0).after_phase(20)
    assert (cleanup.settings.window, cleanup.settings.dilated) == (64, 0.0)


def test_deep_shrink_takes_the_scale_over_all_phases():
    shrunk = Settings(deep_shrink=0.35).of_phase((512, 512), (1024, 1024), first=(256, 256))
    assert (shrunk.cutoff, shrunk.deep_shrink_factor) == (2.0, 4.0)
    assert Settings(deep_shrink=0.35).of_phase((512, 512), (768, 768)).deep_shrink_factor == 1.5
    given = Settings(deep_shrink=0.35, deep_shrink_factor=3.0)
    assert given.of_phase((512, 512), (1024, 1024)).deep_shrink_factor == 3.0


def test_detail_is_strengthened_in_the_last_phase_alone():
    settings = Settings(detail=0.1)
    assert settings.of_phase((512, 512), (1024, 1024), last=False).detail == 0
    assert settings.of_phase((1024, 1024), (2048, 2048), last=True).detail == 0.1


def test_a_cut_off_that_was_given_stays_in_every_phase():
    assert Settings(cutoff=3.0).of_phase((512, 512), (1024, 1024)) == Settings(cutoff=3.0)


def test_a_text_may_be_as_long_as_is_said():
    longest = "x" * MAX_TEXT
    assert UpscaleSettings(upscaler=longest).upscaler == longest


def test_a_text_is_shown_whole_up_to_its_limit():
    longest = "x" * MAX_SHOWN
    assert shortened(longest) == longest
    assert shortened(longest + "y") == longest + "..."


def test_a_name_that_cannot_be_printed_is_shown_as_it_is_written():
    assert SettingsError("al\npha", 1, "Allowed: none.").what == r"'al\npha' = 1 is not possible"
    assert SettingsError("alpha", 1, "Allowed: none.").what == "alpha = 1 is not possible"


@pytest.mark.parametrize(
    ("after", "scale"), [((200, 150), 3.0), ((150, 100), 2.0), ((100, 50), 1.0), ((10, 10), 1.0), ((900, 50), 8.0)]
)
def test_a_picture_is_enlarged_by_as_much_as_its_side_that_is_so_more(after, scale):
    assert scale_between((100, 50), after) == scale
