"""Prompts of their own for crops: where they lie, and what stands in the place of the request's prompt."""

import itertools
import re

import pytest
import torch
from torch.nn import functional as F

from itermix import Settings, SettingsError
from itermix.model.crops import crops, parts, places
from itermix.model.prompts import LONGEST, Grid, checked, of_crops, with_rows
from itermix.model.windows import FORMULAS, Windows
from tests.core.model.test_windows import CHANNELS, picture

COLUMNS = [["left", "right"]]
CORNERS = [["a", "b"], ["c", None]]
SIZES = [(32, 32), (32, 48), (48, 20), (33, 38), (16, 40)]


def settings(**changes):
    return Settings(**{"window": 16, "window_batch": 3, **changes})


def test_a_grid_divides_the_picture():
    grid = Grid([["a", "b", "c"], ["d", "e", None]])
    rows = [[grid(x, y, x + 0.2, y + 0.2) for x in (0.0, 0.3, 0.4, 0.8)] for y in (0.0, 0.39, 0.41, 0.8)]
    assert rows == [["a", "b", "b", "c"], ["a", "b", "b", "c"], ["d", "e", "e", None], ["d", "e", "e", None]]
    assert grid(0.0, 0.0, 1.0, 1.0) == "e"
    assert grid(0.9, 0.9, 1.3, 1.3) == "a"  # its middle lies beyond the edge, where a picture without edges goes on
    assert Grid([["only"]])(0.7, 0.7, 0.9, 0.9) == "only"


@pytest.mark.parametrize("formulas", FORMULAS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_places_are_those_of_the_crops_without_jitter(height, width, formulas):
    own = settings(window_formulas=formulas)
    found = places(own, height, width)
    expected = [
        (columns.start / width, rows.start / height, columns.stop / width, rows.stop / height)
        for rows, columns in crops(own, height, width)
    ]
    assert found == expected
    assert len(found) == parts(own, height, width)[0]
    assert all(
        0 <= low < high <= 1 for left, top, right, bottom in found for low, high in ((left, right), (top, bottom))
    )


def test_what_is_shown_whole_has_no_places():
    assert places(settings(), 16, 12) == []
    assert places(Settings(), 64, 64) == []


def shown(own, x, calls=4):
    """(rows and columns of the padded picture, place) of all that the model is shown in some calls."""
    windows, found = Windows(own), []

    def model(part, of):
        assert len(of.places) == len(of.views) or not of.places
        found.extend(zip(of.views, of.places or itertools.repeat(None), itertools.repeat(of.pad)))
        return part

    for _ in range(calls):
        windows._calls += 1
        windows.put_together(model, x)
    return found


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_jitter_moves_a_crop_and_not_its_place(height, width):
    own = settings()
    found, moved = shown(own, picture(height, width)), 0
    count = parts(own, height, width)[0]
    at_rest = places(own, height, width)
    for k, ((rows, columns), place, (before, _, above, _)) in enumerate(found):
        assert place == at_rest[k % count]
        assert abs(columns.start - before - place[0] * width) <= 1.001
        assert abs(rows.start - above - place[1] * height) <= 1.001
        moved += columns.start - before != round(place[0] * width)
    assert moved or width <= 16


def test_nor_where_it_moves_a_crop_by_most_of_what_lies_between_two():
    own = settings(window_overlap=0.75)
    assert [place for _, place, _ in shown(own, picture(64, 72), calls=3)] == 3 * places(own, 64, 72)


@pytest.mark.parametrize("overlap", [0.25, 0.6])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_without_edges_a_crop_has_the_nearest_place(height, width, overlap):
    own = settings(seamless=True, window_overlap=overlap)
    at_rest = places(own, height, width)
    found = shown(own, picture(height, width), calls=8)
    assert {place for _, place, _ in found} == set(at_rest)
    for (rows, columns), place, _ in found:
        for view, start, side in ((columns, place[0], width), (rows, place[1], height)):
            spacing = side / len({each[0] if side is width else each[1] for each in at_rest})
            away = abs((view.start - start * side + side / 2) % side - side / 2)
            assert away <= spacing / 2 + 1


def test_thinned_out_pictures_have_no_place():
    own = settings(dilated=1.0)
    windows, found = Windows(own), []
    windows.weight = 0.5

    def model(part, of):
        found.append((bool(of.places), of.views[0][0].step))
        return part

    windows.put_together(model, picture(32, 32))
    assert {(True, None), (False, 2)} == set(found)


@pytest.mark.parametrize("seamless", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_each_crop_is_made_by_the_prompt_of_its_cell(batch, seamless):
    """A model that gives the number of the prompt: each quarter of the picture is of its own, the last of none."""
    x = picture(64, 96, batch=batch)
    own = settings(seamless=seamless)
    texts = of_crops(Grid(CORNERS), places(own, 64, 96))
    windows = Windows(own)

    def model(part, of):
        numbers = torch.tensor([float("abc".find(texts.get(place, "?"))) for place in of.places])
        assert part.shape[0] == batch * len(numbers)
        return numbers.repeat(batch)[:, None, None, None].expand(-1, *part.shape[1:])

    for _ in range(3):
        windows._calls += 1
        made = windows.put_together(model, x)
        assert made.shape == (batch, CHANNELS, 64, 96)
        middles = [made[..., row, column] for row, column in itertools.product((16, 48), (24, 72))]
        for value, middle in zip((0.0, 1.0, 2.0, -1.0), middles):
            torch.testing.assert_close(middle, torch.full_like(middle, value))


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention(queries, context):
    return F.scaled_dot_product_attention(queries, context, 2 * context + 1)


@pytest.mark.parametrize("lengths", [{1: 7}, {0: 14}, {0: 21, 3: 14}, {0: 5, 1: 5, 2: 5, 3: 5}])
def test_attention_to_repeated_prompts_is_that_to_the_prompts(lengths):
    context, queries = random(4, 7, 8), random(4, 30, 8, seed=2)
    rows = {k: random(length, 8, seed=10 + k) for k, length in lengths.items()}
    before = context.clone()
    made = with_rows(context, rows)
    assert torch.equal(context, before)
    for k in range(4):
        alone = rows.get(k, context[k])[None]
        torch.testing.assert_close(attention(queries[k : k + 1], made[k : k + 1]), attention(queries[k : k + 1], alone))
        assert torch.equal(made[k, : alone.shape[1]], alone[0])
    if set(lengths.values()) == {7}:
        assert made.shape == context.shape


def test_rows_come_in_the_precision_of_the_context():
    made = with_rows(torch.zeros(2, 3, 4, dtype=torch.float16), {1: torch.ones(3, 4)})
    assert made.dtype == torch.float16
    assert made.sum(dim=(1, 2)).tolist() == [0, 12]


def test_lengths_without_a_common_multiple_in_reach_are_refused():
    context = torch.zeros(1, 77 * 7, 1)
    assert with_rows(context, {0: torch.zeros(77 * 5, 1)}).shape[1] == 77 * 35
    with pytest.raises(SettingsError, match=r"prompts = '385, 539, 847 tokens' is not possible. Allowed: .*4096"):
        with_rows(torch.zeros(2, 77 * 7, 1), {0: torch.zeros(77 * 5, 1), 1: torch.zeros(77 * 11, 1)})
    assert with_rows(torch.zeros(1, 2 * LONGEST, 1), {0: torch.zeros(LONGEST, 1)}).shape[1] == 2 * LONGEST


def test_a_callable_and_rows_are_taken_and_nothing_is_nothing():
    assert checked(None) is None
    assert checked(max) is max
    assert checked(CORNERS) == Grid(CORNERS)
    assert str(checked([["größer", None]])) == '[["größer", null]]'


@pytest.mark.parametrize(
    "wrong",
    ["a sky", 1, True, {}, [], [[]], ["a sky"], [["a", "b"], ["c"]], [["a"], []], [[1]], [[["a"]]], [None], 0, ""],
)
def test_what_are_no_rows_of_prompts_is_refused(wrong):
    with pytest.raises(SettingsError, match=r"prompts = .* is not possible. Allowed: rows of prompts of one length"):
        checked(wrong)


@pytest.mark.parametrize("prompt", ["a AND b", "a house <lora:name:1>", "<hypernet:x>"])
def test_what_is_of_the_whole_picture_is_refused(prompt):
    words = (
        f"prompts = {prompt!r} is not possible. Allowed: prompts without AND and without networks like <lora:name:1>, "
    )
    with pytest.raises(SettingsError, match=re.escape(words) + "which are the whole picture's.$"):
        checked([["a", prompt]])
    with pytest.raises(SettingsError, match="Allowed: prompts without AND and without networks"):
        of_crops(lambda *place: prompt, [(0.0, 0.0, 1.0, 1.0)])
    assert checked([["a brand <3 > AND1 (b:1.2) [c:d:0.5]"]])


def test_a_callable_is_asked_for_each_crop():
    asked = []

    def prompt_of(left, top, right, bottom):
        asked.append((left, top, right, bottom))
        return "left" if right <= 0.5 else None

    found = places(settings(), 32, 32)
    texts = of_crops(prompt_of, found)
    assert asked == found
    assert texts == {place: "left" for place in found if place[2] <= 0.5}
    assert texts
    with pytest.raises(SettingsError, match="prompts = 1 is not possible"):
        of_crops(lambda *place: 1, found)
