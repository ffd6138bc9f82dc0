"""The procedural pictures: the same scene at every size, seeded, with texture down to 4 px."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from itermix.standalone.pictures import HAT_NAMES, Scenes, Window, masks, render, sample_scenes, sample_windows


def scenes(count: int, seed: int = 0) -> Scenes:
    return sample_scenes(count, torch.Generator().manual_seed(seed))


def test_same_seed_same_pictures_and_no_global_randomness() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = render(scenes(4), 32), render(scenes(4), 32)
    assert torch.equal(first, second)
    assert not torch.equal(first, render(scenes(4, seed=1), 32))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("resolution", [32, 48, 64, 128])
def test_shape_and_range(resolution: int) -> None:
    pictures = render(scenes(5), resolution)
    assert pictures.shape == (5, 3, resolution, resolution)
    assert pictures.min() >= -1
    assert pictures.max() <= 1


def test_indexing_selects_scenes() -> None:
    every = scenes(6)
    assert len(every[2:5]) == 3
    assert torch.equal(render(every[2:5], 32), render(every, 32)[2:5])
    assert torch.equal(render(every[torch.tensor([4, 1])], 32), render(every, 32)[[4, 1]])


def test_all_labels_are_drawn() -> None:
    assert scenes(200).label.unique().tolist() == list(range(len(HAT_NAMES)))


@pytest.mark.parametrize("factor", [2, 4])
def test_larger_renders_agree_with_small_ones(factor: int) -> None:
    every = scenes(32)
    small, large = render(every, 32), render(every, 32 * factor)
    # Averages of textured regions differ by the octaves that only the larger picture has.
    assert (F.avg_pool2d(large, factor) - small).abs().mean() < 0.03
    background = masks(every, 32).background[:, None]
    flat = (-F.max_pool2d(-background, 3, 1, 1) == 1).expand(-1, 3, -1, -1)
    assert torch.allclose(F.avg_pool2d(large, factor)[flat], small[flat], atol=1e-4)


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_finest_texture_is_as_strong_at_every_size(resolution: int) -> None:
    every = scenes(64)
    pictures = render(every, resolution)
    lost = pictures - F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
    inside = (-F.max_pool2d(-masks(every, resolution).hat[:, None], 5, 1, 2) == 1).expand(-1, 3, -1, -1)
    assert 0.09 < lost[inside].square().mean().sqrt() < 0.16


def test_background_is_flat() -> None:
    every = scenes(8)
    pictures, background = render(every, 64), masks(every, 64).background == 1
    for picture, colour, mask in zip(pictures, every.background, background, strict=True):
        assert torch.allclose(picture[:, mask], (colour * 2 - 1)[:, None].expand(3, int(mask.sum())), atol=1e-5)


def test_the_whole_window_is_the_whole_picture() -> None:
    every = scenes(4)
    whole = Window(torch.zeros(4, 2), torch.ones(4))
    assert torch.equal(render(every, 32, whole), render(every, 32))


def test_a_window_shows_its_part_of_a_larger_render() -> None:
    every = scenes(4)
    quarter = Window(torch.full((4, 2), -0.5), torch.full((4,), 0.5))
    assert torch.allclose(render(every, 32, quarter), render(every, 64)[:, :, :32, :32], atol=1e-4)


def test_windows_lie_inside_the_picture() -> None:
    windows = sample_windows(100, torch.Generator().manual_seed(0))
    assert ((windows.centre.abs() + windows.half[:, None]) <= 1 + 1e-6).all()
    assert windows.half.min() >= 0.25
    assert windows.half.max() <= 0.8
