"""Matching of colours: the statistics are the reference's, and only where they are to be."""

import pytest
import torch

from itermix.picture.colour import match_statistics


def drifted(dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    reference = torch.randn(2, 4, 9, 7, generator=g, dtype=torch.float64) * 0.7 + 0.3
    return (0.5 * torch.randn(2, 4, 9, 7, generator=g, dtype=torch.float64) - 2).to(dtype), reference.to(dtype)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-9), (torch.float32, 1e-5), (torch.float16, 5e-3)])
def test_each_channel_of_each_image_gets_mean_and_deviation_of_its_reference(dtype, within):
    x, reference = drifted(dtype)
    matched = match_statistics(x, reference)
    assert matched.dtype == dtype
    for statistic in (torch.mean, torch.std):
        a, b = (statistic(v.double(), dim=(2, 3)) for v in (matched, reference))
        assert (a - b).abs().max() < within


def test_what_already_matches_stays():
    x, _ = drifted()
    assert torch.allclose(match_statistics(x, x), x)


def test_a_flat_channel_gets_the_mean():
    _, reference = drifted()
    assert torch.allclose(
        match_statistics(torch.zeros_like(reference), reference).mean(dim=(2, 3)), reference.mean(dim=(2, 3))
    )


def test_outside_of_the_mask_nothing_counts_and_nothing_changes():
    x, reference = drifted()
    where = torch.zeros(9, 7)
    where[:, :4] = 1
    matched = match_statistics(x, reference, where)
    assert torch.equal(matched[..., 4:], x[..., 4:])
    assert torch.allclose(matched[..., :4].mean(dim=(2, 3)), reference[..., :4].mean(dim=(2, 3)))
    other = reference.clone()
    other[..., 4:] += 5
    assert torch.equal(match_statistics(x, other, where), matched)


def test_a_faint_mask_changes_that_share():
    x, reference = drifted()
    got = match_statistics(x, reference, torch.full((9, 7), 0.01))
    torch.testing.assert_close(got, torch.lerp(x, match_statistics(x, reference), 0.01))
