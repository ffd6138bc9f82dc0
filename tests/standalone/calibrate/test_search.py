"""What is tried, and in which order."""

import pytest

from itermix.settings import UpscaleSettings
from itermix.standalone.calibrate import search
from itermix.standalone.calibrate.search import Rung, affordable, around, carried, halved, requests, rungs


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
