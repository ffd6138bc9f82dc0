"""What the benchmark measures in upscaled pictures of the built-in model, and how sure it is of it.

strict           share of pictures with exactly the right parts (`parts.py`)
psnr             of the average-pooled picture against its source, in dB: fidelity
detail           RMS of the top octave inside the textured hat alone, as a share of that of native renders
orientation      coherence of that signal's structure tensor: 1 for stripes, 0 for noise
grain            spread of the top octave in the flat background, in 1/255
patch_distance   100 times the Frechet distance of patch features to native renders; blind to shifts of colour over
                 the whole picture, so never to be used alone
mean_drift       how far a channel's mean has moved from the source's, in 1/255, over the channels
contrast_drift   how far a channel's standard deviation has moved from the source's, in %, over the channels; of the
                 average-pooled picture, which the new detail adds nothing to
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from itermix.standalone.network import RESOLUTION
from itermix.standalone.parts import count_parts, memberships
from itermix.standalone.pictures import render, sample_scenes

METRICS = ("strict", "psnr", "detail", "orientation", "grain", "patch_distance", "mean_drift", "contrast_drift")

REFERENCE_SEED = 900_000
ROUNDS = 200
"""Resamplings of a bootstrap."""

FEATURES = 24
NEIGHBOURS = np.ones((3, 3), dtype=bool)
LEAST_BACKGROUND = 50
"""Pixels of flat background from which a picture's grain counts."""

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Readings:
    """What was read off each of N pictures; averages and ratios are made of these, so that they can be resampled.

    Attributes:
        strict: [N] 1 where the parts are exactly right, else 0.
        psnr: [N] in dB, infinite where pooling gives the source exactly.
        energy, area: [N] sum of squares of the top octave in the textured region, and its pixels.
        orientation: [N] in [0, 1].
        grain: [N] in 1/255; NaN where there is too little background.
        mean_drift, contrast_drift: [N] in 1/255 and in %.
        mean, moment: [N, FEATURES] and [N, FEATURES, FEATURES] first and second moments of the patch features.
    """

    strict: Array
    psnr: Array
    energy: Array
    area: Array
    orientation: Array
    grain: Array
    mean_drift: Array
    contrast_drift: Array
    mean: Array
    moment: Array

    def __len__(self) -> int:
        return len(self.strict)

    def __getitem__(self, index: NDArray[np.int64]) -> Readings:
        return Readings(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @property
    def rms(self) -> float:
        """Of the top octave over the textured regions of all pictures."""
        return math.sqrt(self.energy.sum() / max(self.area.sum(), 1))


def truth(side: int, count: int, seed: int = REFERENCE_SEED) -> Readings:
    """Readings of native renders of `side` pixels, which detail and patch distance are measured against."""
    scenes = sample_scenes(count, torch.Generator().manual_seed(seed))
    return read(render(scenes, side), render(scenes, RESOLUTION))


def read(pictures: Tensor, sources: Tensor, guided: bool = True) -> Readings:
    """Read pictures [N, 3, H, H] against their sources [N, 3, h, h] in [-1, 1], with H a multiple of h.

    The regions are found in the sources; with `guided` false, for pictures that owe their layout to no source, in the
    pictures themselves.
    """
    factor = pictures.shape[-1] // sources.shape[-1]
    pooled = F.avg_pool2d(pictures, factor)
    errors = ((pooled - sources) ** 2).mean(dim=(1, 2, 3)).double().numpy()
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(4 / errors)
    mean_drift, contrast_drift = drifts(pooled, sources)
    columns: dict[str, list[float]] = {name: [] for name in ("energy", "area", "orientation", "grain")}
    for plane, picture, source in zip(luminance(pictures), pictures, sources):
        if guided:
            textured, background = (np.kron(mask, np.ones((factor, factor))) > 0 for mask in regions(source, 1))
        else:
            textured, background = regions(picture, 2)
        inside = ndimage.binary_erosion(textured, NEIGHBOURS)
        texture = top_octave(without_surroundings(plane, textured)[None])[0].double().numpy()
        everything = top_octave(plane[None])[0].double().numpy()
        columns["energy"].append((texture[inside] ** 2).sum())
        columns["area"].append(inside.sum())
        columns["orientation"].append(coherence(texture, inside))
        columns["grain"].append(spread(everything[background]) if background.sum() >= LEAST_BACKGROUND else math.nan)
    mean, moment = patch_moments(pictures)
    strict = np.array([count_parts(picture).exact for picture in pictures], dtype=np.float64)
    per_picture = {name: np.array(column, np.float64) for name, column in columns.items()}
    per_picture |= {"strict": strict, "psnr": psnr, "mean_drift": mean_drift, "contrast_drift": contrast_drift}
    return Readings(**per_picture, mean=mean, moment=moment)


def drifts(pictures: Tensor, sources: Tensor) -> tuple[Array, Array]:
    """[N] mean_drift and [N] contrast_drift of pictures [N, 3, h, h] against sources like them."""

    def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.double().mean(dim=(2, 3)), x.double().std(dim=(2, 3))

    (mean, deviation), (source_mean, source_deviation) = statistics(pictures), statistics(sources)
    moved = (mean - source_mean).abs().mean(dim=1) * 127.5
    stretched = 100 * (deviation / source_deviation - 1).abs().mean(dim=1)
    return moved.numpy(), stretched.numpy()


def summary(readings: Readings, reference: Readings) -> dict[str, float]:
    """{metric: value} over all pictures, by the names in `METRICS`."""
    grain = readings.grain[~np.isnan(readings.grain)]
    return {
        "strict": float(readings.strict.mean()),
        "psnr": float(readings.psnr.mean()),
        "detail": readings.rms / reference.rms,
        "orientation": float(readings.orientation.mean()),
        "grain": float(grain.mean()) if len(grain) else math.nan,
        "patch_distance": 100 * frechet_distance(*_gaussian(readings), *_gaussian(reference)),
        "mean_drift": float(readings.mean_drift.mean()),
        "contrast_drift": float(readings.contrast_drift.mean()),
    }


def resamples(count: int, rounds: int = ROUNDS) -> NDArray[np.int64]:
    """[rounds, count] indices to resample `count` pictures with; equal for all methods, so differences stay paired."""
    return np.random.default_rng(0).integers(0, count, (rounds, count))


def standard_errors(readings: Readings, reference: Readings, rounds: int = ROUNDS) -> dict[str, float]:
    """{metric: standard error} by bootstrap over pictures (Efron 1979); NaN for an infinite metric."""
    drawn = [summary(readings[index], reference) for index in resamples(len(readings), rounds)]
    with np.errstate(invalid="ignore"):
        return {name: float(np.std([values[name] for values in drawn])) for name in METRICS}


def luminance(pictures: Tensor) -> Tensor:
    """[N, 3, H, W] to [N, H, W], with the weights of ITU-R BT.601."""
    return (pictures * pictures.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1)


def top_octave(planes: Tensor) -> Tensor:
    """What planes [N, H, W] lose when they are halved and doubled again (bicubic, anti-aliased)."""
    half = F.interpolate(planes[:, None], scale_factor=0.5, mode="bicubic", antialias=True)
    return planes - F.interpolate(half, size=planes.shape[-2:], mode="bicubic")[:, 0]


def without_surroundings(plane: Tensor, mask: Mask) -> Tensor:
    """A plane [H, W] with the mean of a region in the place of all that is around it, so that only the region's own
    texture is fine, and not its outline, of which small regions have more."""
    inside = torch.from_numpy(mask)
    return torch.where(inside, plane, plane[inside].mean() if mask.any() else 0.0)


def regions(layout: Tensor, depth: int) -> tuple[Mask, Mask]:
    """The textured hat and the flat background, each [h, h], of a picture [3, h, h].

    Without the `depth` pixels inside the outline of the hat, and twice as many of the background.

    The background is what has the median colour of the upper rim, where nothing else is seen.
    """
    hat = ndimage.binary_erosion(memberships(layout).hat > 0.5, NEIGHBOURS, iterations=depth)
    rows = layout.shape[-2] * 5 // 8
    rim = torch.cat((layout[:, :3].flatten(1), layout[:, :rows, :2].flatten(1), layout[:, :rows, -2:].flatten(1)), 1)
    colour = rim.median(dim=1).values[:, None, None]
    near = ((layout - colour).abs().amax(dim=0) < 0.18).numpy()
    return hat, ndimage.binary_erosion(near, NEIGHBOURS, iterations=2 * depth, border_value=1)


def coherence(plane: Array, mask: Mask) -> float:
    """(l1 - l2) / (l1 + l2) of the eigenvalues of the structure tensor of a plane [H, W], summed over a mask."""
    down, right = np.gradient(plane)
    xx, yy, xy = (right**2)[mask].sum(), (down**2)[mask].sum(), (right * down)[mask].sum()
    return float(math.hypot(xx - yy, 2 * xy) / max(xx + yy, 1e-12))


def interpolate(at: float, known: Array, values: Array) -> float:
    """Linear interpolation of values over known, in any order; NaN outside."""
    order = np.argsort(known, kind="stable")
    return float(np.interp(at, known[order], values[order], left=math.nan, right=math.nan))


def spread(values: Array) -> float:
    """Standard deviation by the median absolute deviation, which outliers don't move; from [-1, 1] to 1/255."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))) * 127.5)


def patch_moments(pictures: Tensor) -> tuple[Array, Array]:
    """Means [N, F] and second moments [N, F, F] over all patches of fixed random convolutional features (5 x 5 px)."""
    generator = torch.Generator().manual_seed(123)

    def weights(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / math.sqrt(math.prod(shape[1:]))

    first, second = weights(FEATURES, 3, 3, 3), weights(FEATURES, FEATURES, 3, 3)
    first = first - 0.8 * first.mean(dim=(2, 3), keepdim=True)  # edges count more than colours
    bias1, bias2 = 0.1 * torch.randn(2, FEATURES, generator=generator)
    means, moments = [], []
    for part in pictures.split(16):
        h = F.relu(F.conv2d(F.relu(F.conv2d(part, first, bias1)), second, bias2, stride=2)).flatten(2).double()
        means.append(h.mean(dim=2))
        moments.append(h @ h.mT / h.shape[2])
    return torch.cat(means).numpy(), torch.cat(moments).numpy()


def frechet_distance(mean1: Array, covariance1: Array, mean2: Array, covariance2: Array) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two Gaussians (Dowson and Landau 1982)."""
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance2 @ root).clip(0)).sum()
    shift = ((mean1 - mean2) ** 2).sum()
    return float(max(0.0, shift + np.trace(covariance1) + np.trace(covariance2) - 2 * cross))


def _gaussian(readings: Readings) -> tuple[Array, Array]:
    """Mean and covariance of the features of all patches."""
    mean = readings.mean.mean(axis=0)
    return mean, readings.moment.mean(axis=0) - np.outer(mean, mean)
