"""What is measured in pictures that were upscaled in a latent space, against the native render of the same scene.

Pictures are tensors [N, 3, H, W] in [0, 1]. Distances are in pixels of the result where nothing else is said, grey
levels in 1/255. *Truth* is the native render of the result's size; where there is none (the model's own samples), the
source enlarged takes its place, and what is measured is how far the result is from that. `measured` gives, per picture:

psnr, ssim     to the truth, at the result's size, in dB and up to 1; only where there is a truth. Both punish texture
               that is invented well as much as texture that is wrong, and ssim even noise that nobody sees.
psnr_source    of the result, average-pooled to the source's size, to the source, in dB: fidelity.
detail_16      strength (rms) of the octave of 16 to 32 px as a share of the truth's, where the truth has any of it.
               16 px are two latent pixels, the finest that a latent holds: 1 is a native render, less is soft, more is
               oversharpened. It does not ask whether the texture is the right one. Against an enlarged source it has
               no such scale, and is only good for comparing.
detail_32      the same of 32 to 64 px, which the source's latent held at 2x.
detail_8       the same of 8 to 16 px, which the decoder alone paints.
total_8 ...    the same over the whole picture: what exceeds `detail` lies where the truth has nothing.
direction_8 ...  agreement of the octave's local orientation (structure tensor) with the truth's: 1 the same, 0 for 45
               degrees off and for what has no direction. It does not ask where the lines of a texture are.
precision      share of the result's edges with an edge of the truth within two pixels *of the source*, both pooled to
               its size; falls with doubled parts, halos, flecks, and with new texture where the truth, or the soft
               source in its place, is smooth.
recall         share of the truth's edges that the result has; falls with blur and lost parts.
structure      their harmonic mean (F).
spurious       share of the area, in %, around edges of the result that are far (4 px of the source) from any of the
               truth: parts, edges and blobs that aren't there. Halos are too near for it.
contrast       change of the channels' deviation, in %, pooled to the source's size; above 0 is harder. Blur lowers it.
mean           how far the channels' means have moved, in grey levels, over the channels.
grain          deviation (by the median, which flecks hardly move) of what is finer than 16 px, in grey levels, where
               the truth is flat; NaN where hardly anything is.
flecks         blobs that stand out of that grain by 10 levels or more, for every 100 000 px of flat area; a larger part
               that isn't there counts by the pieces of its outline.

No perceptual distance is among them: the features of EfficientNet-Lite0, the one trained network that a package brings,
are moved more by noise of 3 levels, which nobody sees, than by flecks, halos, or doubled parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from skimage.filters import apply_hysteresis_threshold
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import functional as F

from itermix.standalone.metrics import interpolate, resamples, spread

LATENT_PIXEL = 8
OCTAVES = (8, 16, 32)
"""Shortest periods in pixels. What is shorter than two latent pixels is the decoder's."""

NEIGHBOURHOOD = 2.8
"""Deviation of a Gaussian in pixels of an octave, of which a period has 4 to 8."""

LEAST_OCTAVE = 0.1 / 255
"""RMS of an octave of the truth from which it counts."""

DERIVATIVE = np.array([1, -8, 0, 8, -1]) / 12
"""Of fourth order, as that of two neighbours turns short waves towards the diagonals."""

TOLERANCE = 2
"""Pixels of the source that an edge may be off."""

FAR = 4
"""Pixels of the source from which an edge has nothing to do with any of the truth."""

STRONG, WEAK = 0.12, 0.09
"""Least gradient of an edge, and of what it may be matched with, as a share of the truth's steep edges."""

FAINTEST = 3 / 255
"""Least gradient per pixel of a steep edge, so that nothing is found in a picture that is flat all over."""

FLAT = 2 / 255
"""How far a pixel may differ from its neighbourhood's mean where a picture is flat."""

FLECK = 10 / 255
LEAST_FLECK = 6
"""How much a fleck stands out of the grain, and its pixels, both after a mean over 3 x 3 px."""

LEAST_FLAT = 1000
"""Pixels of flat area from which grain and flecks count."""

SHOWN = {
    "psnr_source": ("PSNR to source", 1),
    "psnr": ("PSNR", 1),
    "ssim": ("SSIM", 3),
    "detail_16": ("detail", 2),
    "direction_16": ("direction", 2),
    "precision": ("precision", 3),
    "recall": ("recall", 3),
    "structure": ("structure", 3),
    "spurious": ("spurious, %", 2),
    "contrast": ("contrast, %", 1),
    "mean": ("mean", 2),
    "grain": ("grain", 2),
    "flecks": ("flecks", 1),
}
"""{metric: (heading, digits after the point)} of tables."""

AT_EQUAL_DETAIL = ("psnr_source", "precision", "structure")
"""Metrics that are also told against hires fix of the same detail."""

Array = NDArray[np.float64]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


def measured(result: Tensor, truth: Tensor | None, source: Tensor) -> dict[str, Array]:
    """{metric: [N]} of results [N, 3, H, W] against truths like them and sources [N, 3, h, w], all in [0, 1].

    Without truths the enlarged sources take their place, and `psnr` and `ssim` are left out.

    Raises:
        ValueError: sizes that don't fit each other, or H and W are no multiples of h and w, and of a latent pixel.
    """
    _check(result, truth, source)
    pooled = pool(result, source)
    found = {"psnr_source": psnr(pooled, source)}
    if truth is None:
        target, pooled_target = enlarged(source, result), source
    else:
        target, pooled_target = truth, pool(truth, source)
        found |= {"psnr": psnr(result, truth), "ssim": ssim(result, truth)}
    found |= detail(result, target)
    found |= structure(pooled, pooled_target)
    found |= drifts(pooled, pooled_target)
    found |= grain(result, target)
    return found


def pool(pictures: Tensor, source: Tensor) -> Tensor:
    """Average-pooled to the source's size, of which theirs is a multiple."""
    return F.avg_pool2d(pictures, pictures.shape[-1] // source.shape[-1])


def enlarged(source: Tensor, like: Tensor) -> Tensor:
    """The source at the size of other pictures, bicubic, in [0, 1]."""
    return F.interpolate(source, size=like.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def psnr(pictures: Tensor, others: Tensor) -> Array:
    """[N] in dB; infinite where they are the same."""
    errors = ((pictures.double() - others.double()) ** 2).mean(dim=(1, 2, 3)).numpy()
    with np.errstate(divide="ignore"):
        return -10 * np.log10(errors)


def ssim(pictures: Tensor, others: Tensor) -> Array:
    """[N] structural similarity (Wang et al. 2004) in windows of 7 x 7 px, over the channels."""
    pairs = zip(pictures.numpy(), others.numpy())
    return np.array([structural_similarity(a, b, channel_axis=0, data_range=1.0) for a, b in pairs], np.float64)


def drifts(pictures: Tensor, others: Tensor) -> dict[str, Array]:
    """`contrast` in % and `mean` in grey levels, each [N], of pooled pictures against others like them."""
    variance, known = (x.double().var(dim=(2, 3)).sum(dim=1) for x in (pictures, others))
    moved = (pictures.double().mean(dim=(2, 3)) - others.double().mean(dim=(2, 3))).abs().mean(dim=1)
    return {"contrast": (100 * ((variance / known).sqrt() - 1)).numpy(), "mean": (255 * moved).numpy()}


def detail(pictures: Tensor, truths: Tensor) -> dict[str, Array]:
    """`detail_`, `total_` and `direction_` of every octave, each [N]; NaN where the truth has nothing of it."""
    columns: dict[str, list[float]] = {}
    for picture, truth in zip(pictures.numpy(), truths.numpy()):
        for period, ours, known in zip(OCTAVES, octaves(picture), octaves(truth)):
            local, total = strengths(ours, known)
            row = {"detail": local, "total": total, "direction": direction(ours, known)}
            for name, value in row.items():
                columns.setdefault(f"{name}_{period}", []).append(value)
    return {name: np.array(column, np.float64) for name, column in columns.items()}


def octaves(picture: Plane) -> list[Plane]:
    """The octaves of a picture [3, H, W], finest first, each [3, H / s, W / s] with s a quarter of its shortest period.

    Half a cosine over the logarithm of the frequency, so that the powers of neighbours add up to 1, on the cosine
    transform, which has no seam at the border.
    """
    height, width = picture.shape[-2:]
    spectrum = fft.dctn(picture, axes=(1, 2), norm="ortho")
    found = []
    for period in OCTAVES:
        rows, columns = height * 4 // period, width * 4 // period
        down, right = np.arange(rows)[:, None] / (2 * height), np.arange(columns)[None] / (2 * width)
        away = np.log2(np.maximum(np.hypot(down, right), 1e-9) * period * math.sqrt(2))
        window = np.cos(np.clip(away, -1, 1) * math.pi / 2) * math.sqrt(rows * columns / (height * width))
        part = spectrum[:, :rows, :columns] * window.astype(np.float32)
        found.append(fft.idctn(part, axes=(1, 2), norm="ortho"))
    return found


def strengths(octave: Plane, truth: Plane) -> tuple[float, float]:
    """RMS of an octave [3, h, w] as a share of the truth's, where the truth has at least a tenth of its mean power, and
    in total."""
    power, known = ((planes**2).mean(axis=0) for planes in (octave, truth))
    if known.mean() < LEAST_OCTAVE**2:
        return math.nan, math.nan
    ours, there = (ndimage.gaussian_filter(plane, NEIGHBOURHOOD) for plane in (power, known))
    where = there > 0.1 * there.mean()
    return math.sqrt(ours[where].mean() / there[where].mean()), math.sqrt(power.mean() / known.mean())


def direction(octave: Plane, truth: Plane) -> float:
    """Agreement of the local orientation of an octave [3, h, w] with the truth's, in [0, 1].

    v = (Jxx - Jyy, 2 Jxy) / (Jxx + Jyy) of a structure tensor has the coherence as its length and twice the orientation
    as its angle. This is the mean cosine of the angle between both v, less where the octave is less coherent than the
    truth, weighted by the truth's coherence and amplitude.
    """
    (_, ours), (energy, known) = _orientation(octave), _orientation(truth)
    coherence = np.abs(known)
    agreement = np.real(ours * known.conj()) / np.maximum(coherence * np.maximum(coherence, np.abs(ours)), 1e-9)
    weight = coherence * np.sqrt(energy)
    return max(0.0, float((weight * agreement).sum() / max(weight.sum(), 1e-9)))


def _orientation(octave: Plane) -> tuple[Plane, NDArray[np.complex64]]:
    """Trace of the structure tensor of [3, h, w] over the channels, and v as a complex number, each [h, w]."""
    down, right = (ndimage.correlate1d(octave, DERIVATIVE, axis) for axis in (1, 2))
    products = ((right**2).sum(axis=0), (down**2).sum(axis=0), (right * down).sum(axis=0))
    xx, yy, xy = (ndimage.gaussian_filter(product, NEIGHBOURHOOD) for product in products)
    energy = xx + yy
    return energy, (xx - yy + 2j * xy) / np.maximum(energy, 1e-12)


def structure(pictures: Tensor, truths: Tensor) -> dict[str, Array]:
    """`precision`, `recall`, `structure` and `spurious`, each [N], of pictures and truths at the source's size."""
    columns: dict[str, list[float]] = {name: [] for name in ("precision", "recall", "structure", "spurious")}
    for picture, truth in zip(pictures.numpy(), truths.numpy()):
        ours, known = ridges(picture), ridges(truth)
        steep = max(float(np.quantile(known, 0.995)), FAINTEST)
        (edges, candidates), (true_edges, true_candidates) = (
            (apply_hysteresis_threshold(plane, WEAK * steep, STRONG * steep), plane > WEAK * steep)
            for plane in (ours, known)
        )
        to_truth, to_ours = _distance(true_candidates), _distance(candidates)
        precision = _share(to_truth[edges] <= TOLERANCE)
        recall = _share(to_ours[true_edges] <= TOLERANCE)
        columns["precision"].append(precision)
        columns["recall"].append(recall)
        columns["structure"].append(2 * precision * recall / max(precision + recall, 1e-9))
        columns["spurious"].append(100 * float((_distance(edges & (to_truth > FAR)) <= TOLERANCE).mean()))
    return {name: np.array(column, np.float64) for name, column in columns.items()}


def ridges(picture: Plane) -> Plane:
    """Canny's edges before their thresholds: the gradient [h, w] of a picture [3, h, w] at a deviation of 1 px, of the
    channel where it is greatest, and 0 where it is greater a pixel uphill or downhill (Canny 1986)."""
    down, right = (ndimage.gaussian_filter(picture, 1.0, order=(0, *axis), mode="nearest") for axis in ((1, 0), (0, 1)))
    size = np.hypot(down, right)
    steepest = size.argmax(axis=0)[None]
    down, right, size = (np.take_along_axis(planes, steepest, axis=0)[0] for planes in (down, right, size))
    place = np.mgrid[: size.shape[0], : size.shape[1]].astype(np.float32)
    step = np.stack((down, right)) / np.maximum(size, 1e-12)
    before, after = (ndimage.map_coordinates(size, place + k * step, order=1, mode="nearest") for k in (-1, 1))
    return np.where((size > before) & (size >= after), size, 0)


def _distance(mask: Mask) -> Array:
    """Of every pixel to the nearest of a mask; infinite where there is none."""
    return ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, math.inf)


def _share(found: Mask) -> float:
    """1 where nothing was asked."""
    return float(found.mean()) if found.size else 1.0


def grain(pictures: Tensor, truths: Tensor) -> dict[str, Array]:
    """`grain` and `flecks`, each [N], where the truths are flat; NaN where they hardly are."""
    columns: dict[str, list[float]] = {"grain": [], "flecks": []}
    for picture, truth in zip(pictures.numpy(), truths.numpy()):
        where = flat(truth)
        if where.sum() < LEAST_FLAT:
            columns["grain"].append(math.nan)
            columns["flecks"].append(math.nan)
            continue
        apart = picture - truth
        fine = np.where(where, apart - local_median(apart, where), 0)
        level = spread(2 * fine[:, where].astype(np.float64))  # which is told of [-1, 1]
        smooth = np.abs(ndimage.uniform_filter(fine, (0, 3, 3))).max(axis=0)
        blobs, _ = ndimage.label(smooth > FLECK + 2 * level / 255)
        columns["grain"].append(level)
        columns["flecks"].append(1e5 * (np.bincount(blobs.ravel())[1:] >= LEAST_FLECK).sum() / where.sum())
    return {name: np.array(column, np.float64) for name, column in columns.items()}


def flat(picture: Plane) -> Mask:
    """Where a picture [3, H, W] is flat, a latent pixel and more away from all that is not: [H, W]."""
    uneven = (np.abs(picture - _mean(picture)) > FLAT).any(axis=0)
    return ndimage.distance_transform_edt(~uneven) > LATENT_PIXEL if uneven.any() else ~uneven


def _mean(planes: Plane) -> Plane:
    """Over two latent pixels each way, of planes [..., H, W]."""
    return ndimage.uniform_filter(planes, (0,) * (planes.ndim - 2) + (2 * LATENT_PIXEL + 1,) * 2, mode="nearest")


def local_median(planes: Plane, mask: Mask) -> Plane:
    """Of planes [3, H, W] in a mask [H, W], over 5 x 5 cells of 4 px each, which a fleck does not move; 0 outside."""
    height, width = mask.shape

    def cells(of: Plane) -> Plane:
        return of.reshape(*of.shape[:-2], height // 4, 4, width // 4, 4).mean(axis=(-3, -1))

    share = cells(mask.astype(np.float32))
    some = share > 0
    means = np.where(some, cells(planes * mask) / np.maximum(share, 1e-6), np.nan)
    around = np.pad(means, ((0, 0), (2, 2), (2, 2)), constant_values=np.nan)
    down, right = np.nonzero(some)
    windows = np.sort([around[:, down + y, right + x] for y in range(5) for x in range(5)], axis=0)
    middle = (np.isfinite(windows).sum(axis=0, keepdims=True) - 1) // 2  # NaN are sorted to the end
    found = np.zeros_like(means)
    found[:, some] = np.take_along_axis(windows, middle, axis=0)[0]
    return found.repeat(4, axis=1).repeat(4, axis=2)


def mean_and_error(values: Array) -> tuple[float, float]:
    """The mean of the finite ones of [N], and its standard error; NaN where there are too few."""
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else math.nan
    return mean, float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else math.nan


def gain_at_equal_detail(
    method: Mapping[str, Array], front: Sequence[Mapping[str, Array]], metric: str, detail: str = "detail_16"
) -> tuple[float, float]:
    """How far the mean of a method's metric is above a front's at the method's detail, and its standard error.

    The front is linear between its strengths, given from weak to strong, all over the same pictures as the method; the
    error is a paired bootstrap's. NaN outside the front, and for the error where fewer than half of the resamplings are
    inside.
    """

    def gains(indices: NDArray[np.int64]) -> Array:
        at, value = (np.nanmean(method[name][indices], axis=1) for name in (detail, metric))
        details, values = (
            np.stack([np.nanmean(row[name][indices], axis=1) for row in front], axis=1) for name in (detail, metric)
        )
        reached = np.maximum.accumulate(details, axis=1)  # by the weakest strength; a broken picture may lose detail
        return value - np.array([interpolate(*row) for row in zip(at, reached, values)])

    count = len(method[metric])
    gain = float(gains(np.arange(count)[None])[0])
    drawn = gains(resamples(count))
    inside = drawn[np.isfinite(drawn)]
    known = math.isfinite(gain) and 2 * len(inside) >= len(drawn)
    return gain, float(inside.std()) if known else math.nan


def _check(result: Tensor, truth: Tensor | None, source: Tensor) -> None:
    (height, width), (small_height, small_width) = result.shape[-2:], source.shape[-2:]
    factor = height // small_height
    if factor < 1 or (height, width) != (factor * small_height, factor * small_width):
        raise ValueError(
            f"{width} x {height} px is no whole multiple of the source's {small_width} x {small_height} px"
        )
    if height % LATENT_PIXEL or width % LATENT_PIXEL:
        raise ValueError(f"{width} x {height} px is no whole multiple of a latent pixel, {LATENT_PIXEL} px")
    if len(result) != len(source) or (truth is not None and truth.shape != result.shape):
        raise ValueError("Results, truths and sources differ in number, or results and truths in size")
