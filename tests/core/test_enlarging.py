"""Corrections of large pictures by small ones: what they reach, and what they leave alone."""

import pytest
import torch
import torch.nn.functional as F

from itermix.enlarging import back_projected, means, put_back


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


def test_what_gives_the_source_already_is_left_as_it_is():
    source = noise(1, 3, 8, 8)
    exact = source.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(back_projected(exact, source), exact)


def test_a_wrong_colour_is_taken_out_exactly():
    source = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(back_projected(torch.full((1, 3, 20, 20), 0.7), source), torch.full((1, 3, 20, 20), 0.3))


def test_the_share_that_is_put_back_is_a_share():
    x, latent = torch.full((2, 4, 12, 16), 1.0), torch.full((2, 4, 12, 16), 3.0)
    put_back(x, latent, 2.0, 0.25)
    torch.testing.assert_close(x, torch.full_like(x, 1.5))


def test_putting_back_changes_what_is_low_and_not_what_is_finer():
    finest = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)[None, None]  # its means over 2x2 are 0
    latent = F.interpolate(noise(1, 1, 8, 8), scale_factor=2, mode="bicubic")
    x = finest.clone()
    put_back(x, latent, 2.0, 1.0)
    assert (means(x, (8, 8)) - means(latent, (8, 8))).std() < 0.25 * means(latent, (8, 8)).std()
    other = torch.zeros_like(finest)
    put_back(other, latent, 2.0, 1.0)
    torch.testing.assert_close(x - finest, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_put_back_in_place(dtype):
    x, latent = noise(1, 4, 8, 8, dtype=dtype), noise(1, 4, 8, 8, seed=1, dtype=dtype)
    expected = x.float()
    put_back(expected, latent.float(), 2.0, 0.5)
    put_back(x, latent, 2.0, 0.5)
    assert x.dtype == dtype
    torch.testing.assert_close(x.float(), expected, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 4, 1, 9), (3, 1, 5, 2)])
def test_small_latents_are_put_back_too(shape):
    x, latent = noise(*shape), noise(*shape, seed=1)
    put_back(x, latent, 8.0, 1.0)
    assert torch.isfinite(x).all()
