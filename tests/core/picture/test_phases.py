"""The plan of phases: for any source, scale and target, exact ends and no phase above the limit."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from itermix import Settings, SettingsError, plan
from itermix.parameters import Known
from itermix.picture.phases import described

SIDES = st.integers(64, 2048)
SCALES = st.floats(1.0, 8.0)
LIMITS = st.sampled_from([1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 8.0])
MULTIPLES = st.sampled_from([1, 4, 8, 16])


def check(source, sizes, most, multiple):
    for before, after in zip([source, *sizes], sizes):
        for a, b in zip(before, after):
            assert b % multiple == 0
            assert b <= most * a + 1e-6
            assert b > a - multiple  # never smaller, but for the rounding of the source


@given(SIDES, SIDES, SCALES, LIMITS, MULTIPLES)
def test_any_scale(width, height, scale, most, multiple):
    sizes = plan(width, height, scale=scale, max_scale_per_phase=most, multiple=multiple)
    check((width, height), sizes, most, multiple)
    for side, last in zip((width, height), sizes[-1]):
        assert side * scale - multiple < last <= side * scale + 1e-6


@given(SIDES, SIDES, st.floats(1.0, 7.9), st.floats(1.0, 7.9), LIMITS, MULTIPLES)
def test_any_target_is_hit_exactly(width, height, wider, higher, most, multiple):
    target = tuple(multiple * math.ceil(side * by / multiple) for side, by in ((width, wider), (height, higher)))
    assume(target[0] <= 8 * width and target[1] <= 8 * height)
    sizes = plan(width, height, target=target, max_scale_per_phase=most, multiple=multiple)
    assert sizes[-1] == target
    check((width, height), sizes, most, multiple)


@given(SIDES, SIDES, SCALES)
def test_no_more_phases_than_needed_and_all_about_alike(width, height, scale):
    sizes = plan(width, height, scale=scale)
    needed = max(1, math.ceil(math.log2(scale) - 1e-9))
    assert len(sizes) <= needed + 1
    assert len(sizes) >= math.ceil(math.log2(max(sizes[-1][0] / width, sizes[-1][1] / height)) - 1e-9)
    if width % 8 == 0 == height % 8 and min(width, height) >= 512 and len(sizes) == needed:
        factors = [b[0] / a[0] for a, b in zip([(width, height), *sizes], sizes)]
        assert max(factors) / min(factors) < 1.06


@pytest.mark.parametrize(
    ("source", "scale", "expected"),
    [
        ((512, 512), 1.0, [(512, 512)]),
        ((512, 512), 2.0, [(1024, 1024)]),
        ((768, 512), 4.0, [(1536, 1024), (3072, 2048)]),
        ((512, 512), 3.0, [(888, 888), (1536, 1536)]),
        ((512, 768), 8.0, [(1024, 1536), (2048, 3072), (4096, 6144)]),
        ((507, 333), 2.0, [(1008, 664)]),
        ((8, 8), 8.0, [(16, 16), (32, 32), (64, 64)]),
    ],
)
def test_plans_a_user_can_foresee(source, scale, expected):
    assert plan(*source, scale=scale) == expected


def test_one_pixel_above_the_limit_takes_a_phase_more():
    assert plan(10, 10, target=(20, 20), multiple=1) == [(20, 20)]
    assert plan(10, 10, target=(21, 21), multiple=1) == [(14, 14), (21, 21)]


def test_a_pixel_can_be_a_picture():
    assert plan(1, 1, target=(1, 1), multiple=1) == [(1, 1)]


def test_a_phase_takes_more_than_its_share_where_the_last_could_not_reach_the_end_otherwise():
    """Shares of 1280 / 171, each rounded to 16s, would leave 848 for the last phase, which reaches 1272."""
    sizes = plan(171, 171, target=(1280, 1280), max_scale_per_phase=1.5, multiple=16)
    assert [width for width, _ in sizes] == [256, 384, 576, 864, 1280]


@pytest.mark.parametrize(("most", "phases"), [(1.1, 22), (1.25, 10)])
def test_a_low_limit_takes_many_phases(most, phases):
    sizes = plan(1000, 1000, scale=8.0, max_scale_per_phase=most, multiple=1)
    assert len(sizes) == phases
    check((1000, 1000), sizes, most, 1)


def test_the_plan_in_words():
    assert described((768, 512), plan(768, 512, 4.0), 20) == "768x512 -> 1536x1024 -> 3072x2048, 20 steps each"
    assert described((64, 64), [(128, 128)], 5) == "64x64 -> 128x128, 5 steps"
    inverted = described((64, 64), [(128, 128)], 5, Settings(noise="inverted"))
    assert inverted == "64x64 -> 128x128, 5 steps and an inversion of 5 calls"
    windows = Settings(window=64, window_batch=64, dilated=1.0)
    told = described((512, 512), plan(512, 512, 4.0), 20, windows)
    assert told.endswith("20 steps each, 2, then 2 calls of the model in the place of one")
    known = Known(64, factor=32)  # pixels of a latent pixel: the first two sizes fit
    told = described((512, 512), plan(512, 512, 8.0), 20, windows, known)
    assert told.endswith("20 steps each, 1, then 1, then 2 calls of the model in the place of one")
    rewound = Settings(rewind=True)
    assert described((64, 64), [(128, 128)], 20, rewound) == "64x64 -> 128x128, 20 steps, and 10 + 5 of them again"


EITHER = "Allowed: either a scale or a target, which is "
LIMIT = "Allowed: a number above 1, at most 8."
SIDE = "Allowed: a multiple of 8 from the source's 512 to 4096."
WHOLE = "Allowed: a whole number from 1."


@pytest.mark.parametrize(
    ("arguments", "name", "allowed"),
    [
        ({"scale": 0.9}, "scale", "Allowed: a number from 1 to 8."),
        ({"scale": 8.1}, "scale", "Allowed: a number from 1 to 8."),
        ({"scale": math.nan}, "scale", "Allowed: a number from 1 to 8."),
        ({"scale": None}, "scale", f"{EITHER}None."),
        ({"scale": 2.0, "target": (1024, 1024)}, "scale", f"{EITHER}(1024, 1024)."),
        ({"scale": 2.0, "width": 0}, "width", WHOLE),
        ({"scale": 2.0, "height": 0.5}, "height", WHOLE),
        ({"scale": 2.0, "height": 512.5}, "height", WHOLE),
        ({"scale": 2.0, "multiple": 0}, "multiple", WHOLE),
        ({"scale": 2.0, "max_scale_per_phase": 1.0}, "max_scale_per_phase", LIMIT),
        ({"scale": 2.0, "max_scale_per_phase": 8.5}, "max_scale_per_phase", LIMIT),
    ],
)
def test_wrong_arguments_are_named(arguments, name, allowed):
    with pytest.raises(SettingsError) as error:
        plan(**{"width": 512, "height": 512, **arguments})
    assert (error.value.name, error.value.value, error.value.allowed) == (name, arguments[name], allowed)


@pytest.mark.parametrize(
    ("target", "name", "value"),
    [
        ((1020, 1024), "target width", 1020),
        ((1024, 256), "target height", 256),
        ((504, 512), "target width", 504),
        ((4104, 1024), "target width", 4104),
        ((1024, 4104), "target height", 4104),
    ],
)
def test_a_target_out_of_reach_is_named_with_its_side(target, name, value):
    with pytest.raises(SettingsError) as error:
        plan(512, 512, target=target)
    assert (error.value.name, error.value.value, error.value.allowed) == (name, value, SIDE)


def test_no_side_of_a_target_is_nothing():
    """Not even where the source is smaller than a multiple."""
    with pytest.raises(SettingsError, match="target height = 0 is not possible"):
        plan(5, 5, target=(8, 0))


def test_a_limit_too_low_for_the_multiples_is_said():
    with pytest.raises(SettingsError) as error:
        plan(16, 24, scale=4.0, max_scale_per_phase=1.25)
    assert (error.value.name, error.value.value) == ("max_scale_per_phase", 1.25)
    assert error.value.allowed == "Allowed: enough to get from 16x24 to 64x96 over multiples of 8."
