"""What is tried, and in which order."""

import itertools

import pytest

from itermix.settings import UpscaleSettings
from itermix.standalone.calibrate import search
from itermix.standalone.calibrate.search import (
    RANGES,
    Candidate,
    Rung,
    affordable,
    around,
    carried,
    halved,
    narrowing,
    requests,
    rungs,
)


@pytest.fixture
def base():
    return search.presets()[0]


def test_settings_fill_the_ranges_and_are_always_the_same(base):
    tried = around(base, 40)
    assert [each.name for each in tried] == [each.name for each in around(base, 40)]
    assert [each.name for each in tried[:10]] == [each.name for each in around(base, 10)]
    assert len({each.name for each in tried}) == 40
    for name, within in search.RANGES.items():
        values = [each.values[name] for each in tried]
        assert within.low <= min(values) < within.at(0.25)
        assert within.at(0.75) < max(values) <= within.high
        for each in tried:
            assert getattr(each.settings(2), name) == each.values[name]  # the declared setting takes it
    assert {each.settings(2).steps for each in tried} == {4, 6, 8, 10, 12}


def test_settings_keep_the_rest_of_their_base():
    faithful = search.presets()[1]
    assert all(each.settings(2).blending == "clean wavelet" for each in around(faithful, 5))
    assert all(each.settings(2) != UpscaleSettings(enabled=True, scale=2) for each in around(faithful, 5))


@pytest.mark.parametrize("name", RANGES)
def test_the_place_of_a_number_is_where_it_is_found(name):
    each = RANGES[name]
    for value in (each.at(place) for place in (0, 0.2, 0.5, 0.9, 1)):
        assert each.at(each.place(value)) == value
    assert (each.place(each.low / 2), each.place(2 * each.high)) == (0, 1)


def with_values(base, **values):
    return Candidate("chosen", values={**base.values, **values})


def test_settings_near_to_others_lie_around_them_and_within_the_ranges(base):
    chosen = with_values(base, alpha=0.4, detail=0.15, denoise=0.45, steps=8)
    near = around(chosen, 40, 0.25)
    assert len(near) == 40
    for name, each in RANGES.items():
        values = [one.values[name] for one in near]
        assert min(values) < chosen.values[name] < max(values)
        low, high = (each.at(each.place(chosen.values[name]) + side) for side in (-0.25, 0.25))
        assert low <= min(values) <= max(values) <= high
    at_a_corner = with_values(base, alpha=0.1, detail=0.0, denoise=0.2, steps=4)
    for one in around(at_a_corner, 8, 0.25):
        assert all(RANGES[name].low <= one.values[name] < RANGES[name].high for name in RANGES)


def test_near_to_a_corner_there_are_no_more_settings_than_there_are(base):
    corner = with_values(base, alpha=0.1, detail=0.0, denoise=0.2, steps=4)
    few = around(corner, 500, 0.01)
    assert few == []
    known = around(corner, 5, 0.125)
    more = around(corner, 500, 0.125, known)
    assert not {each.name for each in more} & {each.name for each in known}
    assert len({each.name for each in more}) == len(more) < 500


AIMS = list(itertools.product((0.1, 0.9), repeat=len(RANGES)))
"""Places in the ranges."""


def distance(candidate, aim):
    """Of settings from places, as shares of the ranges."""
    return max(abs(each.place(candidate.values[name]) - place) for (name, each), place in zip(RANGES.items(), aim))


@pytest.mark.parametrize("count", [12, 24, 48])
def test_a_search_that_narrows_comes_nearer_than_one_that_fills_the_ranges(base, count):
    def apart(tried, aim):
        return min(distance(each, aim) for each in tried)

    filled = around(base, count)
    narrowed = [narrowing(base, count, lambda each, aim=aim: -distance(each, aim)) for aim in AIMS]
    assert all(len({each.name for each in tried}) == count for tried in narrowed)
    assert all(tried[: count // 2] == filled[: count // 2] for tried in narrowed)
    gains = [apart(filled, aim) - apart(tried, aim) for tried, aim in zip(narrowed, AIMS)]
    assert sum(gains) > 0


def test_a_preset_that_is_best_is_what_is_narrowed_to(base):
    tried = narrowing(base, 12, lambda each: float(each is base))
    start = [each.place(base.values[name]) for name, each in RANGES.items()]
    assert all(distance(each, start) <= 0.35 for each in tried[6:])  # 0.25, rounded to steps
    assert max(distance(each, start) for each in tried[:6]) > 0.5


def test_halving_goes_from_many_on_few_to_few_on_all():
    assert rungs(8, 8) == [Rung(8, 2), Rung(4, 4), Rung(2, 8)]
    assert rungs(5, 3) == [Rung(5, 2), Rung(3, 3)]
    assert rungs(3, 1) == [Rung(3, 1)]
    assert rungs(0, 8) == []


@pytest.mark.parametrize("pictures", [1, 2, 5, 12])
@pytest.mark.parametrize("most", [0, 3, 20, 100])
def test_as_many_settings_as_there_is_time_for(pictures, most):
    count = affordable(pictures, most)
    assert requests(rungs(count, pictures)) <= most < requests(rungs(count + 1, pictures))


def test_the_requests_are_those_that_halving_makes(base):
    asked = set()

    def score(candidate, pictures):
        asked.update((candidate.name, k) for k in range(pictures))
        return candidate.values["alpha"]

    steps = rungs(9, 6)
    left = halved(around(base, 9), steps, score, lambda number, count: count)
    assert len(asked) == requests(steps)
    best = max(around(base, 9), key=lambda each: each.values["alpha"])
    assert left[0].values["alpha"] == best.values["alpha"]


def test_where_time_is_short_fewer_are_taken_but_to_the_end(base):
    steps = rungs(8, 8)
    assert carried(8, steps, 0, requests(steps)) == 8
    assert carried(8, steps, 0, requests(steps) - 1) == 7
    assert carried(4, steps[1:], 2, 4 * 2 + 2 * 4) == 4
    assert carried(4, steps[1:], 2, 3 * 2 + 2 * 4) == 3
    assert carried(4, steps[1:], 2, 0) == 1
    seen = {}

    def score(candidate, pictures):
        seen[candidate.name] = pictures
        return 0.0

    (left,) = halved(around(base, 8), steps, score, lambda number, count: (5, 2, 1)[number])
    assert sorted(seen.values()) == [2, 2, 2, 4, 8]
    assert seen[left.name] == 8
