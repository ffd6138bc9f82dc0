import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from itermix.mixing.filters import Workspace, around, haar_low, low_pass, overlaps, projection, triangles

FILTERS = pytest.mark.parametrize("low", [low_pass, haar_low])
SMALLER = pytest.mark.parametrize("smaller", [triangles, overlaps])
sizes, scales = st.integers(1, 40), st.floats(1, 8)


def picture(height, width, dtype=torch.float64, seed=0):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        dtype
    )


def cosine(k, size):
    """Mode k of the mirrored signal, half a period per size / k samples (DCT-II)."""
    return torch.cos(torch.pi * k / size * (torch.arange(size, dtype=torch.float64) + 0.5))


def test_the_weights_of_making_smaller():
    np.testing.assert_allclose(triangles(4, 2), [[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]])
    np.testing.assert_allclose(overlaps(3, 2), [[1, 0.5, 0], [0, 0.5, 1]])
    np.testing.assert_allclose(around(4, 2), [[0.75, 0.75, 0.25, 0.25], [0.25, 0.25, 0.75, 0.75]])
    np.testing.assert_allclose(around(3, 3), np.eye(3))


@SMALLER
@given(size=sizes, scale=scales)
def test_the_matrix_is_a_symmetric_projection_onto_as_many_dimensions_as_the_smaller_side(smaller, size, scale):
    p = projection(smaller, size, scale)
    np.testing.assert_allclose(p @ p, p, atol=1e-9)
    np.testing.assert_allclose(p, p.T, atol=1e-9)
    assert np.trace(p) == pytest.approx(max(1, round(size / scale)))


@SMALLER
@given(size=sizes, scale=scales)
def test_a_constant_and_the_mean_are_kept_and_nothing_is_shifted(smaller, size, scale):
    p = projection(smaller, size, scale)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-9)
    np.testing.assert_allclose(p[::-1, ::-1], p, atol=1e-9)


@FILTERS
@given(height=sizes, width=sizes, scale=scales)
def test_any_size_and_scale_filter_rows_and_columns_alike_and_flips_commute(low, height, width, scale):
    x = picture(height, width)
    got = low(x, scale)
    assert got.shape == x.shape
    torch.testing.assert_close(low(got, scale), got)
    torch.testing.assert_close(low(x.mT, scale), got.mT)
    torch.testing.assert_close(low(x.flip(-1), scale), got.flip(-1))
    torch.testing.assert_close(low(x.flip(-2), scale), got.flip(-2))


@FILTERS
def test_scale_one_filters_nothing(low):
    x = picture(7, 10)
    torch.testing.assert_close(low(x, 1.0), x)


@given(size=st.integers(2, 20), scale=st.integers(2, 5))
def test_haar_low_is_the_block_means_of_whole_scales(size, scale):
    x = picture(size * scale, size * scale)
    expected = F.interpolate(F.avg_pool2d(x, scale), scale_factor=scale, mode="nearest")
    torch.testing.assert_close(haar_low(x, float(scale)), expected)


@given(height=sizes, width=sizes, scale=scales)
def test_haar_low_is_the_projection_of_areas_whether_they_are_whole_pixels_or_not(height, width, scale):
    x = picture(height, width)
    p, q = (torch.from_numpy(projection(overlaps, size, scale)) for size in (height, width))
    torch.testing.assert_close(haar_low(x, scale), p @ x @ q)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_haar_low_is_the_low_band_of_the_haar_transform(levels):
    """All bands but the lowest set to 0 and transformed back, level by level."""
    x = picture(16, 24)
    low = x
    for _ in range(levels):
        a, b, c, d = low[..., ::2, ::2], low[..., ::2, 1::2], low[..., 1::2, ::2], low[..., 1::2, 1::2]
        low = (a + b + c + d) / 2
    for _ in range(levels):
        low = (low / 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(haar_low(x, 2.0**levels), low)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("k", [1, 5, 9, 17, 31])
def test_a_wave_becomes_stairs_of_the_height_of_its_means(k, scale):
    """Means over `scale` samples of cos(w t) are sin(scale w / 2) / (scale sin(w / 2)) of it at the middles."""
    size, w = 32, math.pi * k / 32
    height = math.sin(scale * w / 2) / (scale * math.sin(w / 2))
    middles = torch.arange(size // scale, dtype=torch.float64) * scale + scale / 2
    expected = (height * torch.cos(w * middles)).repeat_interleave(scale)
    got = haar_low(cosine(k, size).expand(size, size), float(scale))[0]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("k", [1, 5, 9, 15, 17, 23, 31])
def test_frequency_response_of_the_low_pass(k):
    """At half size a wave is seen as cos^3(w / 2) of itself and sin^3(w / 2) of its alias (binomial weights 1 3 3 1).

    The projection onto that pair keeps the share c^6 / (c^6 + s^6) of the wave, exactly, up to the borders.
    """
    size, w = 32, math.pi * k / 32
    share = 1 / (1 + math.tan(w / 2) ** 6)
    wave = cosine(k, size)
    got = low_pass(wave.expand(size, size), 2.0)[0]
    assert (got @ wave / (wave @ wave)).item() == pytest.approx(share)
    rest = got - share * wave
    alias = cosine(size - k, size)  # the only other wave in it
    torch.testing.assert_close(rest, (rest @ alias) / (alias @ alias) * alias)


def test_the_low_pass_is_steep_where_the_smaller_picture_ends():
    """Response at shares of the larger picture's bandwidth: nearly all in the lower third, nearly none in the upper."""
    lower, third, two_thirds, upper = (
        low_pass(cosine(k, 96).expand(2, 96), 2.0)[0] @ cosine(k, 96) / 48 for k in (24, 32, 64, 72)
    )
    assert lower > 0.99
    assert third > 0.95
    assert two_thirds < 0.05
    assert upper < 0.01


def test_linear_and_bicubic_resizing_to_one_half_see_the_same():
    """The weights of Keys' cubic with a = -1/2 are sums of the triangle's, so the projection keeps them."""
    t = ((torch.arange(24, dtype=torch.float64) - 10.5) / 2).abs()
    cubic = torch.where(t < 1, 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2)
    cubic = torch.where(t < 2, cubic, 0)
    torch.testing.assert_close(torch.from_numpy(projection(triangles, 24, 2.0)) @ cubic, cubic)


@FILTERS
@pytest.mark.parametrize("scale", [2, 4])
def test_shifts_by_whole_small_pixels_commute_away_from_the_borders(low, scale):
    x = picture(8, 128)
    moved, expected = low(x.roll(scale, -1), float(scale)), low(x, float(scale)).roll(scale, -1)
    torch.testing.assert_close(moved[..., 48:-48], expected[..., 48:-48], atol=1e-5, rtol=0)


@FILTERS
def test_a_ramp_has_no_edge_artefact(low):
    """At the borders, too, a ramp stays within its range and half a small pixel of itself."""
    ramp = torch.arange(32.0).expand(32, 32)
    got = low(ramp, 2.0)
    assert (got - ramp).abs().max() <= 0.5 + 1e-5


@FILTERS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_keeps_its_type_and_survives_the_largest_noise(low, dtype, tolerance):
    x = picture(65, 64, dtype) * 160
    got = low(x, 2.0)
    assert got.dtype == dtype
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got.double(), low(x.double(), 2.0), atol=tolerance * 160, rtol=tolerance)
    constant = torch.full((1, 1, 64, 64), 0.7, dtype=dtype)
    assert torch.equal(low(constant, 2.0), constant)


@FILTERS
def test_white_noise_keeps_its_deviation_in_the_dimensions_that_pass(low):
    got = low(picture(64, 64), 2.0)
    assert got.var().item() == pytest.approx(1 / 4, rel=0.05)


EVERY = pytest.mark.parametrize(("low", "scale"), [(low_pass, 2.0), (haar_low, 2.0), (haar_low, 1.7)])


@EVERY
def test_the_result_is_written_where_it_is_wanted_which_may_be_the_picture_itself(low, scale):
    x = picture(6, 8)
    expected, out = low(x, scale), torch.zeros_like(x)
    assert low(x, scale, out) is out
    torch.testing.assert_close(out, expected)
    assert low(x, scale, x) is x
    torch.testing.assert_close(x, expected)


@EVERY
@pytest.mark.filterwarnings("error")  # as torch warns of space of another shape
def test_planes_are_filtered_one_by_one_however_many_and_however_they_lie(low, scale):
    x = picture(6, 8)
    expected = low(x, scale)
    torch.testing.assert_close(low(x[0], scale), expected[0])
    torch.testing.assert_close(low(x[0, 0], scale), expected[0, 0])
    other = low(x.to(memory_format=torch.channels_last), scale)
    torch.testing.assert_close(other, expected)
    assert other.is_contiguous()


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.filterwarnings("error")  # as torch warns of space that is too small
def test_what_is_made_once_is_kept_for_the_next_call(low, scale, dtype):
    work = Workspace()
    first = low(picture(6, 8, dtype), scale, work=work)
    kept = {key: id(tensor) for key, tensor in work._kept.items()}
    assert kept
    torch.testing.assert_close(low(picture(6, 8, dtype), scale, work=work), first)
    assert {key: id(tensor) for key, tensor in work._kept.items()} == kept
