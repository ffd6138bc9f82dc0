"""Every metric against a picture of which its value is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from itermix.standalone import metrics
from itermix.standalone.pictures import masks, render, sample_scenes

SCENES = sample_scenes(12, torch.Generator().manual_seed(5))
SOURCES = render(SCENES, 32)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def summary(pictures: torch.Tensor, sources: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    return metrics.summary(metrics.read(pictures, sources), metrics.read(reference, SOURCES))


@pytest.mark.parametrize("side", [64, 128])
def test_the_truth_has_detail_1_all_parts_and_no_patch_distance(side):
    truth = render(SCENES, side)
    found = summary(truth, SOURCES, truth)
    assert found["strict"] == 1
    assert found["detail"] == pytest.approx(1)
    assert found["patch_distance"] == pytest.approx(0, abs=1e-6)
    assert found["grain"] < 0.05


def test_psnr_is_infinite_where_pooling_gives_the_source():
    doubled = F.interpolate(SOURCES, scale_factor=2.0, mode="nearest")
    assert summary(doubled, SOURCES, doubled)["psnr"] == math.inf


def test_psnr_of_a_constant_error():
    """10 log10(peak^2 / error^2) with a peak of 2."""
    doubled = F.interpolate(SOURCES, scale_factor=2.0, mode="nearest")
    assert summary(doubled + 0.02, SOURCES, doubled)["psnr"] == pytest.approx(40, abs=0.01)


def test_detail_is_proportional_to_the_top_octave_and_falls_with_blur():
    truth = render(SCENES, 64)
    octave = torch.stack([metrics.top_octave(truth[:, c]) for c in range(3)], dim=1)
    assert summary(truth + octave, SOURCES, truth)["detail"] == pytest.approx(1.9, abs=0.15)
    blurred = F.interpolate(SOURCES, scale_factor=2.0, mode="bicubic")
    assert summary(blurred, SOURCES, truth)["detail"] < 0.35


def test_grain_is_the_deviation_of_the_top_octave_of_noise():
    truth = render(SCENES, 64)
    for sigma in (0.01, 0.03):
        added = sigma * noise(*truth.shape)
        expected = metrics.top_octave(metrics.luminance(added)).std().item() * 127.5
        assert summary(truth + added, SOURCES, truth)["grain"] == pytest.approx(expected, rel=0.1)


def test_spread_of_normal_noise_is_its_deviation_and_outliers_do_not_move_it():
    values = noise(20000).double().numpy() / 127.5
    assert metrics.spread(values) == pytest.approx(1, rel=0.03)
    values[:1000] = 100
    assert metrics.spread(values) == pytest.approx(1, rel=0.1)


def test_drifts_of_a_stretched_and_shifted_picture():
    mean, contrast = metrics.drifts(1.1 * SOURCES + 0.02, SOURCES)
    moved = (0.1 * SOURCES.mean(dim=(2, 3)) + 0.02).abs().mean(dim=1) * 127.5
    assert mean == pytest.approx(moved.numpy(), abs=1e-3)
    assert contrast == pytest.approx(10, abs=1e-3)


def test_the_finest_octave_is_as_strong_at_every_size():
    """So that the detail of what the model paints at its own size can be compared with that of larger pictures."""

    def strength(side: int) -> float:
        return metrics.read(render(SCENES, side), SOURCES, guided=False).rms

    assert strength(32) == pytest.approx(strength(64), rel=0.04)
    assert strength(128) == pytest.approx(strength(64), rel=0.04)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2, math.pi / 2])
def test_orientation_is_1_for_stripes(angle):
    y, x = np.mgrid[:64, :64]
    stripes = np.sin((math.cos(angle) * x + math.sin(angle) * y) * 0.7)
    assert metrics.coherence(stripes, np.ones((64, 64), bool)) > 0.98


def test_orientation_is_0_for_noise_and_for_nothing():
    everywhere = np.ones((256, 256), bool)
    assert metrics.coherence(noise(256, 256).double().numpy(), everywhere) < 0.02
    assert metrics.coherence(np.zeros((256, 256)), everywhere) == 0


def test_frechet_distance_of_known_gaussians():
    """Of diagonal covariances it is |m1 - m2|^2 + sum (s1 - s2)^2."""
    one, four = np.eye(3), 4 * np.eye(3)
    zero = np.zeros(3)
    assert metrics.frechet_distance(zero, one, zero, one) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(zero, one, zero + 2, one) == pytest.approx(12)
    assert metrics.frechet_distance(zero, one, zero, four) == pytest.approx(3)
    mixed = np.array([[2.0, 0.5, 0], [0.5, 1, 0], [0, 0, 3]])
    assert metrics.frechet_distance(zero, mixed, zero, four) == pytest.approx(
        metrics.frechet_distance(zero, four, zero, mixed)
    )


def test_patch_distance_rises_with_noise_and_with_blur():
    truth = render(SCENES, 64)
    near = render(sample_scenes(12, torch.Generator().manual_seed(6)), 64)
    noisy = truth + 0.1 * noise(*truth.shape)
    blurred = F.interpolate(SOURCES, scale_factor=2.0, mode="bicubic")
    distances = [summary(p, SOURCES, truth)["patch_distance"] for p in (truth, near, noisy, blurred)]
    assert distances[1] < min(distances[2:])


def test_the_regions_lie_inside_those_of_the_scene():
    known = masks(SCENES, 32)
    for picture, hat, background in zip(SOURCES, known.hat, known.background):
        textured, flat = metrics.regions(picture, 1)
        assert textured.sum() > 30
        assert (hat.numpy()[textured] > 0.9).mean() > 0.97
        assert flat.sum() > 150
        assert (background.numpy()[flat] > 0.9).mean() > 0.97


def test_unguided_pictures_are_read_by_their_own_layout():
    others = render(sample_scenes(12, torch.Generator().manual_seed(9)), 64)
    found = metrics.read(others, SOURCES, guided=False)
    assert found.grain.max() < 0.05  # no outline lies in what is taken for background
    assert found.rms == pytest.approx(metrics.truth(64, 64).rms, rel=0.1)


def test_standard_error_of_a_mean_is_that_of_the_textbook():
    truth = render(SCENES, 64)
    readings = metrics.read(truth + 0.05 * noise(*truth.shape), SOURCES)
    errors = metrics.standard_errors(readings, readings, rounds=2000)
    assert errors["psnr"] == pytest.approx(readings.psnr.std() / math.sqrt(len(readings)), rel=0.1)
    assert set(errors) == set(metrics.METRICS)


def test_resamples_are_the_same_for_every_method():
    assert np.array_equal(metrics.resamples(7), metrics.resamples(7))
    assert metrics.resamples(7, 3).shape == (3, 7)
