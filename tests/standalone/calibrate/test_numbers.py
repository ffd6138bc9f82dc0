"""Every number that needs no truth, against a fault that is planted, which it must see."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from itermix.standalone.calibrate import numbers
from itermix.standalone.calibrate.numbers import measured, over_hires_fix
from itermix.standalone.calibrate.score import score

SIDE, SCALE = 128, 2


def soft_scene(side: int) -> torch.Tensor:
    """A flat ground with a disc of stripes and a bar, [1, 3, side, side], soft at its own pixels."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    picture = np.full((3, side, side), 0.85, np.float32)
    disc, bar = (
        1 / (1 + np.exp(np.clip(160 * outside, -50, 50)))
        for outside in (np.hypot(x - 0.35, y - 0.4) - 0.2, np.maximum(np.abs(x - 0.75) - 0.09, np.abs(y - 0.5) - 0.3))
    )
    stripes = 0.08 * np.sin(2 * math.pi * 16 * x) * disc
    for channel, (of_disc, of_bar) in enumerate(((0.7, 0.15), (0.25, 0.35), (0.2, 0.6))):
        picture[channel] += (of_disc - picture[channel]) * disc + stripes
        picture[channel] += (of_bar - picture[channel]) * bar
    return torch.from_numpy(picture.clip(0, 1))[None]


SOURCE = soft_scene(SIDE)
LARGE = F.interpolate(SOURCE, scale_factor=SCALE, mode="bicubic").clamp(0, 1)


def blurred(pictures):
    return torch.from_numpy(ndimage.gaussian_filter(pictures.numpy(), (0, 0, 4, 4), mode="nearest"))


def grainy(pictures):
    return pictures + 4 / 255 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))


def with_a_part_too_many(pictures):
    """A second, smaller disc where the ground is flat."""
    doubled = pictures.clone()
    y, x = np.mgrid[: 2 * SIDE, : 2 * SIDE]
    inside = torch.from_numpy(np.hypot(x - 60, y - 215) < 18)
    doubled[:, :, inside] = 0.3
    return doubled


def flecked(pictures):
    doubled = pictures.clone()
    for left in range(20, 240, 25):
        doubled[:, :, 228:232, left : left + 4] -= 0.3
    return doubled


def sharpened(pictures):
    return (pictures + 1.5 * (pictures - blurred(pictures))).clamp(0, 1)


def with_another_colour(pictures):
    """A cast that is broad, so that no edge tells of it."""
    return pictures * torch.tensor([1.0, 0.94, 1.0])[:, None, None]


def without_a_part(pictures):
    """The bar painted over."""
    less = pictures.clone()
    less[:, :, :, int(0.6 * 2 * SIDE) :] = 0.85
    return less


def of(pictures):
    return {name: float(value[0]) for name, value in measured(pictures, SOURCE).items()}


GOOD = of(LARGE)

FAULTS = {
    "fidelity": (with_another_colour, lambda bad, good: bad < good - 15),
    "psnr_source": (blurred, lambda bad, good: bad < good - 10),
    "detail_16": (blurred, lambda bad, good: bad < 0.8 * good),
    "precision": (with_a_part_too_many, lambda bad, good: bad < good - 0.05),
    "recall": (without_a_part, lambda bad, good: bad < good - 0.2),
    "structure": (with_a_part_too_many, lambda bad, good: bad < good - 0.02),
    "spurious": (with_a_part_too_many, lambda bad, good: bad > good + 0.5),
    "contrast": (sharpened, lambda bad, good: bad > good + 3),
    "mean": (with_another_colour, lambda bad, good: bad > good + 2),
    "grain": (grainy, lambda bad, good: bad > good + 1),
    "flecks": (flecked, lambda bad, good: bad > good + 5),
}


@pytest.mark.parametrize("metric", numbers.MEASURED)
def test_every_metric_sees_its_fault(metric):
    fault, seen = FAULTS[metric]
    assert seen(of(fault(LARGE))[metric], GOOD[metric])


COSTLY = (blurred, grainy, with_a_part_too_many, flecked, with_another_colour, without_a_part)


@pytest.mark.parametrize("fault", COSTLY, ids=lambda each: each.__name__)
def test_every_fault_costs_score(fault):
    assert score(measured(fault(LARGE), SOURCE))[0] < score(measured(LARGE, SOURCE))[0] - 0.5


def test_fidelity_leaves_the_finest_bands_to_the_model():
    """What changes sign within an area of a latent pixel of the source is none of its business."""
    columns = torch.arange(SCALE * SIDE)
    fine = 0.04 * torch.sign(torch.sin(2 * math.pi * (columns + 0.5) / 4))
    found = of((LARGE + fine).clamp(0, 1))
    assert found["fidelity"] > 60
    assert found["psnr_source"] < GOOD["psnr_source"] - 30


def test_sides_that_are_no_latent_pixels_are_refused():
    with pytest.raises(ValueError, match="no multiples of a latent pixel"):
        numbers.fidelity(LARGE[..., :248, :248], SOURCE[..., :124, :124])


def readings(fidelity, detail, count=5):
    return {"fidelity": np.full(count, float(fidelity)), "detail_16": np.full(count, float(detail))}


def test_detail_over_hires_fix_is_that_above_its_curve_at_equal_fidelity():
    front = [readings(50, 0.9), readings(30, 1.0), readings(20, 1.2)]
    assert over_hires_fix(readings(25, 1.4), front)[0] == pytest.approx(0.3)
    assert over_hires_fix(readings(40, 0.9), front)[0] == pytest.approx(-0.05)
    assert math.isnan(over_hires_fix(readings(10, 1.4), front)[0])  # less faithful than any
    assert math.isnan(over_hires_fix(readings(25, 1.4), front[:1])[0])


def test_a_score_tells_more_detail_from_too_much():
    def with_detail(value, known=False):
        values = {name: np.zeros(1) for name in numbers.MEASURED}
        values |= {"structure": np.ones(1), "fidelity": np.full(1, 40.0), "detail_16": np.full(1, value)}
        return float(score(values, known)[0])

    assert with_detail(0.8) < with_detail(1.0) < with_detail(1.2) == pytest.approx(100 + 10 * math.log2(1.2))
    assert with_detail(1.5) == with_detail(3.0) == pytest.approx(103.2)
    assert with_detail(1.5, known=True) < with_detail(1.0, known=True) == 100


def test_a_score_without_flat_areas_is_a_number():
    values = {name: np.zeros(1) for name in numbers.MEASURED} | {"grain": np.full(1, math.nan)}
    assert np.isfinite(score(values)).all()
