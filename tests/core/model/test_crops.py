"""Where crops and sub-grids lie, and how many they are."""

import math

import numpy as np
import pytest
import torch

from itermix import Settings
from itermix.model.crops import DEMOFUSION, calls, crops, dilation, feather, margins, parts, starts, surroundings
from itermix.model.windows import FORMULAS

WINDOW = 16


def test_a_known_count():
    """4096 pixels of SDXL: 7 x 7 crops and 4 x 4 sub-grids of 128 x 128 latent pixels, each 1024 pixels wide."""
    settings = Settings(window=128, dilated=1.0, window_overlap=0.5)
    assert parts(settings, 512, 512) == (49, 16)
    assert calls(settings, 512, 512) == 13 + 4
    counted = [settings.replace(progress=p).calls(512, 512, 10) for p in ("steps", "comfy-steps", "noise level")]
    assert counted == [170 - 13, 170 - 13, 170]  # counted in steps, the first has no crops
    assert settings.pixels_seen(512, 512) == (49 + 16) * 128**2
    assert parts(settings, 128, 128) == (0, 0)
    assert (calls(settings, 128, 96), settings.pixels_seen(128, 96)) == (1, 128 * 96)
    assert (calls(Settings(), 512, 512), Settings().pixels_seen(512, 512)) == (1, 512**2)
    assert parts(Settings(window=128, window_overlap=0.5), 512, 512) == (49, 0)
    assert parts(Settings(window=128), 512, 512) == (25, 0)  # a quarter of each crop is its neighbour's, too


@pytest.mark.parametrize(
    ("formulas", "seamless", "side", "expected"),
    [
        (FORMULAS[0], False, 12, [0]),
        (FORMULAS[0], False, 16, [0]),
        (FORMULAS[0], False, 28, [0, 12]),
        (FORMULAS[0], False, 36, [0, 10, 20]),
        (DEMOFUSION, False, 36, [0, 8, 16, 20]),
        (FORMULAS[0], True, 16, [0]),
        (FORMULAS[0], True, 36, [0, 12, 24]),
        (FORMULAS[0], True, 40, [0, 10, 20, 30]),
        (DEMOFUSION, True, 20, [0, 7, 13]),
    ],
)
def test_where_crops_begin(formulas, seamless, side, expected):
    """At most 12 apart, three quarters of the window; with DemoFusion's formulas half of it."""
    assert starts(Settings(window=16, window_formulas=formulas, seamless=seamless), side) == expected


def test_only_along_a_side_that_is_larger_than_the_window_crops_are_moved_and_look_beyond():
    settings = Settings(window=16)
    assert margins(settings, 16, 17) == (0, 1)
    assert margins(settings, 17, 16) == (1, 0)
    assert surroundings(settings, 16, 17, True) == (1, 1, 0, 0)
    assert surroundings(settings, 17, 17, False) == (0, 0, 0, 0)
    around = settings.replace(seamless=True)
    assert surroundings(around, 16, 17, True) == (0, 28, 0, 0)  # a crop of 16, moved by up to 12
    assert surroundings(around, 17, 16, False) == (0, 0, 0, 28)


@pytest.mark.parametrize("length", [12, 16])
def test_without_edges_all_crops_are_moved_by_the_same_up_to_a_stride(length):
    settings, moves = Settings(window=16, seamless=True), set()
    across = slice(0, length)
    for jitter in (None, *map(np.random.default_rng, range(100))):
        state = jitter and jitter.bit_generator.state
        views = crops(settings, 36, length, jitter)
        by = views[0][0].start
        moves.add((by, jitter is None))
        along = [slice(start + by, start + by + 16) for start in (0, 12, 24)]
        assert views == [(rows, across) for rows in along]
        if jitter:
            jitter.bit_generator.state = state
        turned = crops(settings, length, 36, jitter)
        assert [rows for rows, _ in turned] == [across] * 3
        assert [columns.start - turned[0][1].start for _, columns in turned] == [0, 12, 24]
    assert moves == {(0, True), *((by, False) for by in range(13))}


def test_a_crop_counts_as_a_raised_cosine_along_each_side():
    small, large = (1 - math.sqrt(0.5)) / 4, (1 + math.sqrt(0.5)) / 4  # half of sin^2 of 22.5 and 67.5 degrees
    torch.testing.assert_close(feather(2, 4), torch.tensor([[small, large, large, small]] * 2))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (17, 40), (40, 17), (16, 33), (9, 90), (128, 31)])
@pytest.mark.parametrize("window", [8, 16, 24])
@pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5, 0.75])
def test_the_crops_cover_the_picture_however_they_are_moved(height, width, window, overlap):
    settings = Settings(window=window, window_overlap=overlap)
    for seed in range(20):
        for jitter in (None, np.random.default_rng(seed)):
            above, before = margins(settings, height, width) if jitter else (0, 0)
            seen = torch.zeros(height + 2 * above, width + 2 * before)
            for rows, columns in crops(settings, height, width, jitter):
                assert rows.stop - rows.start == min(window, height)
                assert 0 <= rows.start < rows.stop <= len(seen)
                assert 0 <= columns.start < columns.stop <= seen.shape[1]
                seen[rows, columns] += 1
            assert seen[above : above + height, before : before + width].min() >= 1


def test_the_sub_grids_fit_and_are_the_whole_picture():
    assert [dilation(side, 20, 16) for side in (17, 32, 33, 48, 64)] == [2, 2, 3, 3, 4]
    assert dilation(20, 64, 16) == 4
