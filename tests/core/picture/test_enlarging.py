"""Corrections of large pictures by small ones: what they reach, and what they leave alone."""

import pytest
import torch
import torch.nn.functional as F

from itermix.picture.enlarging import back_projected, means, missing, smooth
from itermix.picture.fidelity import put_back


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("size", [(4, 6), (8, 12), (2, 3), (5, 7), (7, 11)])
def test_means_are_those_of_areas_of_parts_of_pixels_too(size):
    x = noise(2, 3, 8, 12, dtype=torch.float64)
    fine = x.repeat_interleave(size[0], -2).repeat_interleave(size[1], -1)  # every area is whole pixels of this
    torch.testing.assert_close(means(x, size), F.avg_pool2d(fine, (8, 12)))


@pytest.mark.parametrize(("side", "most"), [(18, 1.45), (20, 1.45), (24, 1.3), (28, 1.3), (32, 1.3), (48, 1.3)])
def test_the_finest_contrast_is_given_back_and_not_blown_up_at_any_scale(side, most):
    """White noise is the worst case. With areas of whole pixels it was 1.5 to 2 times as strong, and seen as halos."""
    source = noise(1, 1, 16, 16)
    enlarged = F.interpolate(source, (side, side), mode="bicubic")
    corrected = back_projected(enlarged, source)
    assert enlarged.std() < 0.9 * source.std()
    assert source.std() < corrected.std() < most * source.std()


@pytest.mark.parametrize("size", [(16, 24), (32, 48), (12, 18), (13, 21)])
def test_back_projection_brings_the_means_close_to_the_source(size):
    source = noise(2, 3, 8, 12)
    enlarged = F.interpolate(source, size, mode="bilinear")
    corrected = back_projected(enlarged, source)
    errors = [float((means(x, (8, 12)) - source).square().mean()) for x in (enlarged, corrected)]
    assert corrected.shape == enlarged.shape
    assert errors[1] < 0.2 * errors[0]


def test_what_is_missing_is_found_in_single_precision_and_ends_at_the_edges_unless_told():
    large, small = noise(1, 3, 16, 24, dtype=torch.float16), noise(1, 3, 8, 12, seed=1, dtype=torch.float16)
    found = missing(large, small)
    assert torch.equal(found, missing(large.float(), small.float(), wraps=False))
    assert not torch.equal(found, missing(large, small, wraps=True))
    areas = small.float()  # as they are when they come from `missing`
    assert torch.equal(smooth(areas, large), smooth(areas, large, wraps=False))
    assert not torch.equal(smooth(areas, large), smooth(areas, large, wraps=True))


def test_inside_a_picture_it_makes_no_difference_whether_it_goes_on_at_the_opposite_edge():
    areas, like = noise(1, 3, 8, 12), noise(1, 3, 24, 36)
    inside = (..., slice(6, -6), slice(6, -6))  # two areas from the edges
    torch.testing.assert_close(smooth(areas, like, wraps=True)[inside], smooth(areas, like, wraps=False)[inside])


def test_what_gives_the_source_already_is_left_as_it_is():
    source = noise(1, 3, 8, 8)
    exact = source.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(back_projected(exact, source), exact)


def test_a_wrong_colour_is_taken_out_exactly():
    source = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(back_projected(torch.full((1, 3, 20, 20), 0.7), source), torch.full((1, 3, 20, 20), 0.3))


def drift(*shape):
    """What changes linearly over the picture, as colours drift: bicubic enlargement keeps that as it is inside."""
    rows, columns = (torch.linspace(-0.2, 0.3, side, dtype=torch.float64) for side in shape[-2:])
    return (rows[:, None] + 0.5 * columns).expand(*shape)


def interior(x, size):
    """The means over areas but for two along the edge, where bicubic enlargement repeats the last one."""
    return means(x, size)[..., 2:-2, 2:-2]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize(("size", "areas"), [((128, 96), (8, 6)), ((127, 101), (8, 7)), ((91, 130), (11, 9))])
def test_the_means_of_areas_move_by_exactly_the_share(size, areas, share):
    source = noise(2, 3, *size, dtype=torch.float64)
    x = source + drift(2, 3, *size)
    before = interior(x - source, areas)
    put_back(x, source, areas, share)
    whole = all(side % count == 0 for side, count in zip(size, areas))
    tolerance = 1e-12 if whole else 5e-5  # the means of what is linear are nearly so where areas cut pixels
    torch.testing.assert_close(interior(x - source, areas), (1 - share) * before, atol=tolerance, rtol=0)


@pytest.mark.parametrize("areas", [(1, 1), (3, 5)])
def test_a_constant_moves_by_exactly_the_share_to_the_edge(areas):
    x, source = torch.full((2, 3, 12, 17), 1.0), torch.full((1, 3, 5, 9), 3.0)
    put_back(x, source, areas, 0.25)
    torch.testing.assert_close(x, torch.full_like(x, 1.5))


def test_it_is_the_formula():
    x, source = noise(2, 3, 30, 44), noise(2, 3, 13, 20, seed=1)
    lacking = means(source, (3, 5)) - means(x, (3, 5))
    expected = x + 0.3 * F.interpolate(lacking, (30, 44), mode="bicubic")
    put_back(x, source, (3, 5), 0.3)
    torch.testing.assert_close(x, expected)


def test_a_source_of_any_size_gives_the_same_areas():
    small, x = noise(1, 3, 16, 24), noise(1, 3, 64, 96, seed=1)
    for size in (small, small.repeat_interleave(3, -1).repeat_interleave(3, -2)):
        made = x.clone()
        put_back(made, size, (4, 6), 0.5)
        if size is small:
            expected = made
    torch.testing.assert_close(made, expected)


def test_putting_back_changes_what_is_coarse_and_not_what_is_finer():
    """A pattern whose means over the areas are 0 stays, and so the detail of a picture."""
    finest = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)[None, None]
    source = F.interpolate(noise(1, 1, 4, 4), scale_factor=4, mode="bicubic")
    with_it, without = finest + 0.1, torch.full_like(finest, 0.1)
    for x in (with_it, without):
        put_back(x, source, (4, 4), 1.0)
    torch.testing.assert_close(with_it - without, finest)


def test_the_areas_of_the_source_do_not_show():
    """The correction of a drift is smooth: a step from pixel to pixel is nowhere near that from area to area."""
    x = torch.zeros(1, 1, 128, 128, dtype=torch.float64)
    put_back(x, drift(1, 1, 128, 128), (8, 8), 1.0)
    assert x.diff(dim=-1).abs().max() < 3 * float(drift(1, 1, 128, 128).diff(dim=-1).max())


def split(height=64, width=96, at=48):
    """White left of a column."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., :at] = 1
    return mask


@pytest.mark.parametrize("at", [48, 43, 50])
def test_nothing_leaks_across_the_edge_of_a_mask(at):
    """The free part is made of other things than the source, which count neither there nor for what is guided."""
    source = torch.full((1, 3, 64, 96), 0.5)
    x = source.clone()
    x[..., at:] = -1.0
    put_back(x, source, (4, 6), 1.0, split(at=at))
    assert torch.equal(x[..., at:], torch.full_like(x[..., at:], -1.0))
    torch.testing.assert_close(x[..., :at], source[..., :at])


@pytest.mark.parametrize("at", range(44, 53))
def test_a_correction_fades_to_the_edge_of_a_mask_and_is_whole_away_from_it(at):
    source = torch.full((1, 1, 64, 96), 0.5)
    x = torch.full_like(source, 0.3)
    put_back(x, source, (4, 6), 1.0, split(at=at))
    moved = x[0, 0, 32] - 0.3
    assert float(moved[:8].min()) == pytest.approx(0.2, abs=1e-6)
    assert 0 <= float(moved[at - 1]) < 0.13
    assert (moved[:at].diff() < 1e-2).all()
    assert torch.equal(moved[at:], torch.zeros_like(moved[at:]))


def test_a_sliver_of_an_area_moves_as_little_as_it_is():
    """A column of 16 says little of its area, however wrong it is."""
    source = torch.zeros(1, 1, 64, 96)
    x = source.clone()
    x[..., 48] = 1.0
    put_back(x, source, (4, 6), 1.0, split(at=49))
    assert float((x[..., :48]).abs().max()) < 0.05


def test_grey_is_so_much_of_the_share():
    x, source = noise(2, 3, 32, 48), noise(2, 3, 16, 24, seed=1)
    whole, half = x.clone(), x.clone()
    put_back(whole, source, (4, 6), 0.5)
    put_back(half, source, (4, 6), 0.5, torch.full((1, 1, 3, 3), 0.5))
    torch.testing.assert_close(half - x, 0.5 * (whole - x), atol=1e-5, rtol=1e-4)


def test_a_white_mask_is_none_and_a_black_one_leaves_every_bit():
    x, source = noise(2, 3, 32, 48), noise(1, 3, 16, 24, seed=1)
    plain, white, black = x.clone(), x.clone(), x.clone()
    put_back(plain, source, (4, 6), 0.5)
    put_back(white, source, (4, 6), 0.5, torch.ones(1, 1, 5, 5))
    put_back(black, source, (4, 6), 0.5, torch.zeros(1, 1, 5, 5))
    torch.testing.assert_close(white, plain, atol=1e-5, rtol=1e-5)
    assert torch.equal(black, x)


def test_within_a_mask_the_opposite_edge_is_looked_at_where_the_picture_goes_on_there():
    x, source = noise(1, 3, 32, 48), noise(1, 3, 16, 24, seed=1)
    made = {}
    for mask in (None, torch.ones(1, 1, 5, 5)):
        for wraps in (False, True):
            made[mask is None, wraps] = x.clone()
            put_back(made[mask is None, wraps], source, (4, 6), 0.5, mask, wraps)
    for wraps in (False, True):
        torch.testing.assert_close(made[False, wraps], made[True, wraps], atol=1e-5, rtol=1e-5)
    assert (made[False, True] - made[False, False]).abs().max() > 0.01


@pytest.mark.parametrize(("side", "of_source"), [(32, 4), (4, 32)])
def test_an_area_that_the_mask_touches_in_one_of_both_alone_stays_as_it_is(side, of_source):
    """One pixel of a small mask is white; made larger it is soft, and reaches into the areas beside it."""
    x, source = torch.zeros(1, 1, side, side), torch.ones(1, 1, of_source, of_source)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1, 1] = 1
    put_back(x, source, (4, 4), 1.0, mask)
    assert torch.isfinite(x).all()
    assert float(x.max()) > 0.5
    assert torch.equal(x[..., side * 3 // 4 :, :], torch.zeros(1, 1, side // 4, side))


def test_every_picture_of_a_batch_has_its_own_source_and_mask():
    x, source = noise(2, 3, 32, 32), noise(2, 3, 16, 16, seed=1)
    masks = torch.stack([torch.ones(1, 32, 32), split(32, 32, 16)[0]])
    together = x.clone()
    put_back(together, source, (2, 2), 0.5, masks)
    for k in range(2):
        alone = x[k : k + 1].clone()
        put_back(alone, source[k : k + 1], (2, 2), 0.5, masks[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone)


@pytest.mark.parametrize("mask", [None, torch.full((1, 1, 4, 4), 0.7)], ids=["whole", "masked"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_put_back_in_place(dtype, mask):
    x, source = noise(1, 3, 24, 24).to(dtype), noise(1, 3, 12, 12, seed=1)
    expected = x.double()
    put_back(expected, source, (3, 3), 0.5, mask)
    put_back(x, source, (3, 3), 0.5, mask)
    assert x.dtype == dtype
    coarse, exact = torch.zeros_like(x), torch.zeros_like(x)
    put_back(coarse, source.half(), (3, 3), 0.5, mask)
    put_back(exact, source.half().double(), (3, 3), 0.5, mask)
    torch.testing.assert_close(coarse, exact, atol=1e-7, rtol=0.005 if dtype == torch.bfloat16 else 6e-4)
    torch.testing.assert_close(x.double(), expected, atol=0.02 if dtype == torch.bfloat16 else 2e-3, rtol=0)


@pytest.mark.parametrize("shape", [(2, 2), (1, 7), (9, 13)])
def test_an_area_as_large_as_a_small_picture_is_its_mean(shape):
    x, source = noise(1, 3, *shape), noise(1, 3, 4, 4, seed=1)
    expected = source.mean(dim=(-2, -1))
    put_back(x, source, (1, 1), 1.0)
    torch.testing.assert_close(x.mean(dim=(-2, -1)), expected)
