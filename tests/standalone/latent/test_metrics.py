"""Every metric against planted faults: those that it must see, and those that it must not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from itermix.standalone.latent import metrics

SIDE = 256
Y, X = np.mgrid[:SIDE, :SIDE].astype(np.float32)
SHADES = np.array([[[0.95, 0.70, 0.25], [0.35, 0.20, 0.60]], [[0.85, 0.55, 0.45], [0.15, 0.45, 0.35]]])
"""Face and hat of two pictures."""


def sine(angle: float, period: float) -> np.ndarray:
    """Stripes in [-1, 1], the normal of which is at an angle to the x axis."""
    return np.sin(2 * math.pi / period * (math.cos(angle) * X + math.sin(angle) * Y))


def patch(texture: np.ndarray) -> np.ndarray:
    """A picture [3, SIDE, SIDE] of a texture that fades out towards the border, at which it would be folded."""
    return np.broadcast_to(texture * np.exp(-((X - 128) ** 2 + (Y - 128) ** 2) / (2 * 35**2)), (3, SIDE, SIDE))


def band_noise() -> np.ndarray:
    """Texture as fine as the hat's stripes, and as strong, but without a direction."""
    white = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    found = ndimage.gaussian_filter(white, 4) - ndimage.gaussian_filter(white, 8)
    return found / found.std() / math.sqrt(2)


def scenes(texture: np.ndarray) -> torch.Tensor:
    """Two shaded faces with a hat [2, 3, SIDE, SIDE] on pale ground."""

    def cover(distance):
        return np.clip(0.5 - distance, 0, 1)

    def ellipse(x, y, width, height):
        return cover((np.hypot((X - x) / width, (Y - y) / height) - 1) * min(width, height))

    pictures = []
    for face, hat in SHADES:
        picture = np.broadcast_to([0.93, 0.94, 0.96], (SIDE, SIDE, 3))
        shading = (1 - 0.25 * Y / SIDE)[..., None]
        layers = [(ellipse(136, 150, 72, 84), face * shading)]
        layers += [(ellipse(x, 150, 9, 13), np.array([0.12, 0.08, 0.10])) for x in (110, 162)]
        layers += [(ellipse(136, 196, 24, 9), np.array([0.70, 0.15, 0.25]))]
        brim = cover(np.maximum(np.abs(X - 136) - 84, np.abs(Y - 68) - 44))
        layers += [(brim, hat * (1 + 0.35 * texture[..., None]))]
        for share, colour in layers:
            picture = picture * (1 - share[..., None]) + colour * share[..., None]
        pictures.append(torch.from_numpy(picture.clip(0, 1).astype(np.float32)).permute(2, 0, 1))
    return torch.stack(pictures)


def blurred(pictures: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(pictures.numpy(), (0, 0, sigma, sigma), mode="nearest"))


def moved(pictures: torch.Tensor, by: int) -> torch.Tensor:
    return torch.roll(pictures, by, dims=-1)


def noise(level: float) -> torch.Tensor:
    return level / 255 * torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def flecked(pictures: torch.Tensor) -> torch.Tensor:
    """With 12 coloured flecks of 6 px on the ground at the left and right, and on the face."""
    generator = np.random.default_rng(0)
    places = [(x, y) for x in (16, 240, 136) for y in (140, 166, 222, 244)]
    for x, y in places:
        share = torch.from_numpy(np.exp(-((X - x) ** 2 + (Y - y) ** 2) / 18).astype(np.float32))
        colour = torch.from_numpy(generator.uniform(0, 0.6, 3).astype(np.float32))[:, None, None]
        pictures = pictures * (1 - share) + colour * share
    return pictures


def doubled(pictures: torch.Tensor) -> torch.Tensor:
    """With a second mouth on the cheek and chin, and an eye beside the face."""
    pictures = pictures.clone()
    pictures[..., 212:236, 108:164] = pictures[..., 184:208, 108:164].clone()
    pictures[..., 134:168, 8:36] = pictures[..., 134:168, 96:124].clone()
    return pictures


def without_an_eye(pictures: torch.Tensor) -> torch.Tensor:
    pictures = pictures.clone()
    pictures[..., 134:168, 98:124] = pictures[..., 134:168, 124:150].clone()
    return pictures


TRUTH = scenes(sine(0.6, 22))
SOURCE = F.avg_pool2d(TRUTH, 2)
MEANS = TRUTH.mean(dim=(2, 3), keepdim=True)
FAULTS = {
    "blur": blurred(TRUTH, 3),
    "strong blur": blurred(TRUTH, 6),
    "noise": (TRUTH + noise(5)).clamp(0, 1),
    "flecks": flecked(TRUTH),
    "halo": (2.5 * TRUTH - 1.5 * blurred(TRUTH, 5)).clamp(0, 1),
    "doubled": doubled(TRUTH),
    "removed": without_an_eye(TRUTH),
    "contrast": MEANS + 1.05 * (TRUTH - MEANS),
    "cast": TRUTH + torch.tensor([0.03, -0.03, 0.0])[:, None, None],
    "turned": scenes(sine(0.6 + math.pi / 4, 22)),
    "undirected": scenes(band_noise()),
    "weak texture": scenes(0.5 * sine(0.6, 22)),
    "other phase": scenes(-sine(0.6, 22)),
    "moved by 1": moved(TRUTH, 1),
    "moved by 6": moved(TRUTH, 6),
}
SEEN = {
    "blur": {"detail_8": (0.2, 0.5), "detail_16": (0.6, 0.8), "detail_32": (0.85, 0.95), "contrast": (-6, -2)},
    "strong blur": {"detail_16": (0.2, 0.45), "detail_32": (0.6, 0.8), "recall": (0.2, 0.6), "structure": (0.4, 0.8)},
    "noise": {"grain": (4.7, 5.3), "psnr": (33, 36), "ssim": (0.5, 0.9)},
    "flecks": {"flecks": (38, 45), "precision": (0.8, 0.95), "spurious": (2, 5), "total_16": (1.05, 1.15)},
    "halo": {"detail_16": (1.5, 1.9), "precision": (0.7, 0.9), "contrast": (8, 14)},
    "doubled": {"precision": (0.8, 0.95), "spurious": (1.5, 5), "direction_16": (0.9, 0.97)},
    "removed": {"recall": (0.93, 0.98), "detail_32": (0.9, 0.98)},
    "contrast": {"contrast": (4.99, 5.01), "detail_16": (1.04, 1.06), "psnr": (35, 39)},
    "cast": {"mean": (5.0, 5.2), "psnr": (31, 34)},
    "turned": {"direction_16": (0.5, 0.75), "psnr": (22, 27)},
    "undirected": {"direction_16": (0.4, 0.7), "psnr": (22, 27)},
    "weak texture": {"detail_16": (0.8, 0.92), "contrast": (-1.5, -0.5)},
    "other phase": {"psnr": (18, 24), "psnr_source": (18, 24), "ssim": (0.5, 0.8)},
    "moved by 1": {"psnr": (26, 32)},
    "moved by 6": {"precision": (0.3, 0.6), "recall": (0.3, 0.6), "structure": (0.3, 0.6)},
}
"""{fault: {metric: the range in which both pictures' mean must be}}; what is whole lies in none of them."""

UNMOVED = {
    "blur": "precision recall spurious mean grain flecks",
    "strong blur": "precision spurious mean grain flecks",
    "noise": "detail_8 detail_16 detail_32 total_16 direction_16 precision recall spurious contrast mean flecks",
    "flecks": "detail_16 recall contrast grain",
    "halo": "recall direction_16 spurious grain flecks",
    "doubled": "recall grain",
    "removed": "detail_16 precision spurious grain flecks",
    "contrast": "direction_16 precision recall spurious mean grain flecks",
    "cast": "detail_16 direction_16 precision recall spurious contrast grain flecks",
    "turned": "detail_16 detail_32 total_16 direction_32 spurious contrast mean grain flecks",
    "undirected": "detail_32 spurious contrast mean grain flecks",
    "weak texture": "detail_32 precision recall spurious mean grain flecks",
    "other phase": "detail_16 detail_32 total_16 precision recall spurious contrast mean grain flecks",
    "moved by 1": "detail_16 direction_16 precision recall structure spurious contrast mean grain flecks",
    "moved by 6": "detail_16 detail_32 total_16 spurious contrast mean",
}
"""{fault: metrics that it is no matter of}."""

WHOLE = {"spurious": 0, "contrast": 0, "mean": 0, "grain": 0, "flecks": 0}
"""What a truth has against itself; 1 of all that is a share, and PSNR is infinite."""

NEAR = {"detail": 0.03, "total": 0.03, "spurious": 0.1, "contrast": 1.0, "mean": 0.5, "grain": 0.1, "flecks": 0}
"""How far an unmoved metric may be from that; 0.05 where it isn't told."""


@pytest.fixture(scope="module")
def readings():
    return {name: metrics.measured(pictures, TRUTH, SOURCE) for name, pictures in FAULTS.items()}


def test_the_truth_is_whole():
    for name, values in metrics.measured(TRUTH, TRUTH, SOURCE).items():
        assert values.shape == (2,)
        assert values == pytest.approx(math.inf if name.startswith("psnr") else WHOLE.get(name, 1), abs=1e-4), name


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(readings, fault):
    for metric, (low, high) in SEEN[fault].items():
        assert low < readings[fault][metric].mean() < high, metric


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_moves_nothing_that_it_is_no_matter_of(readings, fault):
    for metric in UNMOVED[fault].split():
        near = NEAR.get(metric.split("_")[0], 0.05)
        assert readings[fault][metric] == pytest.approx(WHOLE.get(metric, 1), abs=near), metric


def test_every_picture_is_read_alone(readings):
    for k in range(2):
        single = slice(k, k + 1)
        alone = metrics.measured(FAULTS["flecks"][single], TRUTH[single], SOURCE[single])
        assert {name: values[0] for name, values in alone.items()} == pytest.approx(
            {name: values[k] for name, values in readings["flecks"].items()}
        )


def test_psnr_of_a_constant_error():
    """10 log10(1 / error^2)."""
    assert metrics.psnr(TRUTH + 0.01, TRUTH) == pytest.approx(40, abs=0.01)


@pytest.mark.parametrize(("halves", "octave"), [(45, 0), (23, 1), (11, 2)])
def test_an_octave_has_the_waves_of_its_middle_whole_and_alone(halves, octave):
    """So many half waves on 256 px have periods of 11.4, 22.3 and 46.5 px."""
    waves = np.broadcast_to(np.cos(math.pi * halves * (X + 0.5) / SIDE), (3, SIDE, SIDE))
    powers = [(plane**2).mean() for plane in metrics.octaves(waves)]
    assert powers.pop(octave) == pytest.approx(0.5, rel=0.01)
    assert max(powers) < 0.01


@pytest.mark.parametrize(("degrees", "expected"), [(0, 1), (10, math.cos(math.pi / 9)), (30, 0.5), (45, 0), (90, 0)])
def test_direction_is_the_cosine_of_twice_the_angle_down_to_0(degrees, expected):
    ours, truth = (metrics.octaves(patch(sine(angle, 22.6)))[1] for angle in (0.4 + math.radians(degrees), 0.4))
    assert metrics.direction(ours, truth) == pytest.approx(expected, abs=0.06)


def test_what_has_no_direction_agrees_with_none():
    truth, other = (metrics.octaves(patch(x))[1] for x in (sine(0.4, 22.6), band_noise()))
    assert metrics.direction(other, truth) < 0.15
    assert metrics.direction(np.zeros_like(truth), truth) == 0


def test_ridges_are_thin_and_lie_where_a_colour_changes():
    picture = np.zeros((3, 32, 32), np.float32)
    picture[2, :, 20:] = 1
    columns = np.nonzero(metrics.ridges(picture))[1]
    assert set(columns) <= {19, 20}
    assert len(columns) == 32


def test_nothing_is_found_in_what_is_flat():
    level = torch.full((1, 3, 64, 64), 0.5)
    found = metrics.structure(level, level)
    assert {name: values[0] for name, values in found.items()} == pytest.approx(
        {"precision": 1, "recall": 1, "structure": 1, "spurious": 0}
    )
    assert math.isnan(metrics.detail(level, level)["detail_16"][0])


def test_grain_counts_only_where_there_is_flat_ground():
    texture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert all(math.isnan(values[0]) for values in metrics.grain(texture, texture).values())


def test_grain_is_not_moved_by_flecks_nor_flecks_by_grain():
    both = metrics.grain((flecked(TRUTH) + noise(5)).clamp(0, 1), TRUTH)
    assert both["grain"] == pytest.approx(5, abs=0.5)
    assert both["flecks"] == pytest.approx(metrics.grain(flecked(TRUTH), TRUTH)["flecks"], rel=0.2)


def test_without_a_truth_the_enlarged_source_takes_its_place():
    enlarged = metrics.enlarged(SOURCE, TRUTH)
    found = metrics.measured(enlarged, None, SOURCE)
    assert found.keys() == metrics.measured(enlarged, TRUTH, SOURCE).keys() - {"psnr", "ssim"}
    assert found["detail_16"] == pytest.approx(1)
    assert found["structure"] == pytest.approx(1, abs=0.01)
    assert found["grain"] == pytest.approx(0)


def test_without_a_truth_faults_are_seen_too():
    whole = metrics.measured(TRUTH, None, SOURCE)
    found = {
        name: metrics.measured(FAULTS[name], None, SOURCE) for name in ("blur", "flecks", "doubled", "noise", "cast")
    }
    assert (found["blur"]["detail_16"] < whole["detail_16"] - 0.2).all()
    assert (found["doubled"]["precision"] < whole["precision"] - 0.05).all()
    assert (found["flecks"]["flecks"] > whole["flecks"] + 35).all()
    assert found["noise"]["grain"] == pytest.approx(5, abs=0.3)
    assert found["cast"]["mean"] == pytest.approx(5.1, abs=0.01)


def rows(details, values, spread):
    """Readings of 40 pictures for every strength of a front, the same pictures being better in all of them."""
    common = spread * np.random.default_rng(0).normal(size=40)
    return [{"detail_16": np.full(40, d), "psnr_source": v + common} for d, v in zip(details, values)]


def test_a_gain_at_equal_detail_is_the_distance_to_the_front_and_its_error_is_paired():
    front = rows([0.4, 0.8, 1.0], [30.0, 26.0, 20.0], 3.0)
    (method,) = rows([0.9], [25.0], 3.0)
    gain, error = metrics.gain_at_equal_detail(method, front, "psnr_source")
    assert gain == pytest.approx(2.0)
    assert error == pytest.approx(0, abs=1e-9)
    unpaired = method | {"psnr_source": method["psnr_source"][::-1]}
    gain, error = metrics.gain_at_equal_detail(unpaired, front, "psnr_source")
    assert gain == pytest.approx(2.0)
    assert error > 0.3


def test_a_gain_outside_the_front_is_unknown():
    (method,) = rows([1.3], [25.0], 1.0)
    assert np.isnan(metrics.gain_at_equal_detail(method, rows([0.4, 1.0], [30.0, 20.0], 1.0), "psnr_source")).all()


@pytest.mark.parametrize(
    ("result", "truth", "source"),
    [
        (TRUTH, TRUTH, SOURCE[..., :100, :100]),
        (TRUTH, TRUTH, SOURCE[..., :64]),
        (SOURCE, SOURCE, TRUTH),
        (TRUTH, SOURCE, SOURCE),
        (TRUTH, None, SOURCE[:1]),
        (TRUTH[..., :244, :244], None, SOURCE[..., :122, :122]),
    ],
)
def test_sizes_and_numbers_that_do_not_fit_are_refused(result, truth, source):
    with pytest.raises(ValueError, match=r"whole multiple|differ"):
        metrics.measured(result, truth, source)


def test_a_mean_is_of_what_is_known():
    assert metrics.mean_and_error(np.array([2.0, math.nan, 4.0])) == (3.0, pytest.approx(1.0))
    mean, error = metrics.mean_and_error(np.array([2.0, math.nan]))
    assert mean == 2.0
    assert math.isnan(error)
    assert all(map(math.isnan, metrics.mean_and_error(np.array([math.nan]))))
