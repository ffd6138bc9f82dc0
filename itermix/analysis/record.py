"""What one mixed sampling went through: numbers of its latents at every step, and small pictures of some.

The numbers are those of the ComfyUI pack's Latent Batch Statistics and Latent Batch Comparison: mean, standard
deviation and normality of each latent, and the cosine similarity of the noised source z' with the sampler's state x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from itermix.mixing.run import Feature
from itermix.parameters import Part, parameter


@dataclass(frozen=True, init=False)
class AnalysisSettings(Part):
    """Whether to look on."""

    analysis: bool = parameter(
        False,
        "Analysis",
        "Save what each pass went through beside the picture. Mean, deviation and normality of the latents at every "
        "step, how much the noised source and the sampler's state are alike, and a sheet of small pictures.",
        "analysis",
        "Analysis",
        in_infotext=False,
    )

    takes = ("analysis",)

    def feature(self, given: Mapping[str, Any]) -> Feature | None:
        return given.get("analysis")


SAMPLE = 5000
"""Values of a latent that normality and the similarities of different steps are taken from: Shapiro and Wilk's test is
known up to so many."""

STEPS_COMPARED = 64
STEPS_SHOWN = 13
"""Most steps of which samples and pictures are kept, so that the memory has a bound."""

THUMBNAIL = 96
"""Longest side of a kept picture, in its own pixels."""

LEAST = 12
"""Values that normality needs."""


class Analysis(Feature):
    """Looks on while a Mixer runs; changes nothing, and draws from no generator but its own.

    Kept are a few numbers of each step, at most `STEPS_COMPARED` samples of `SAMPLE` values and `STEPS_SHOWN` small
    pictures of each series, all of them on the CPU. Every step waits for the device.
    """

    looks = True

    def __init__(self, preview: Callable[[Tensor], Tensor]):
        """`preview` makes pictures [B, 3, h, w], about in [-1, 1], of latents [B, C, H, W]; it should be cheap."""
        self._preview = preview
        self._rows: dict[int, dict[str, Any]] = {}
        self._samples = Thinned(STEPS_COMPARED)
        self._pictures = Thinned(STEPS_SHOWN)
        self._places: Tensor | None = None
        self._before = 0  # steps of the passes before

    def next_pass(self, step: int, calls: int, done: int) -> None:
        """The steps from now on follow those until now: the run is rewound."""
        self._before = max(self._rows, default=-1) + 1

    def guided(self, step: int, level: float, weight: float, noised: Tensor, x: Tensor) -> None:
        """A step in which z' [B, C, H, W] is about to be blended, with this weight, into the state x of that shape."""
        step += self._before
        row = self._row(step, level)
        row["weight"] = weight
        row["similarity"] = F.cosine_similarity(noised.flatten(1).float(), x.flatten(1).float()).tolist()
        row["noised"] = self._measured(step, "noised", noised)
        if self._samples.keeps(step):
            self._samples.add(step, "state", self._sample(x))

    def evaluated(self, step: int, level: float, x: Tensor, denoised: Tensor) -> None:
        """The model has made `denoised` [B, C, H, W] of the blended state x at the start of a step."""
        step += self._before
        row = self._row(step, level)
        row["state"] = self._measured(step, None, x)
        row["denoised"] = self._measured(step, "denoised", denoised)

    def numbers(self, image: int) -> dict[str, Any]:
        """What was found of one image of the batch, as JSON knows it; what has no finite value is None.

        steps: a row for each, with its number, noise `level` and `weight` (0 where nothing was mixed in); the
            `similarity` of z' and the sampler's state before they were blended; and mean, std, shapiro_w and shapiro_p
            of `noised`, of the blended `state` and of `denoised`, the model's estimate of the clean picture.
        similarities: `values` [i][j] of z' of step `noised[i]` and the state, before it was blended, of `state[j]`.
        """
        steps = []
        for step, row in sorted(self._rows.items()):
            found = {"step": step, "level": row["level"], "weight": row.get("weight", 0.0)}
            found["similarity"] = _finite(row["similarity"][image]) if "similarity" in row else None
            steps.append(found | {name: row[name][image] for name in ("noised", "state", "denoised") if name in row})
        return {"image": image, "steps": steps, "similarities": self._similarities(image)}

    def pictures(self, image: int) -> dict[int, dict[str, Tensor]]:
        """{step: {"noised" or "denoised": picture [3, h, w], uint8}} of some steps, evenly spaced.

        A latent of larger standard deviation is shown at one of 1: noise far above a picture's range has no grey.
        """
        kept = sorted(self._pictures.kept.items())
        return {step: {name: batch[image] for name, batch in series.items()} for step, series in kept}

    def _row(self, step: int, level: float) -> dict[str, Any]:
        return self._rows.setdefault(step, {"level": level})

    def _measured(self, step: int, name: str | None, latents: Tensor) -> list[dict[str, float | None]]:
        """Numbers of each latent [B, C, H, W]; under a name its sample and picture are kept too."""
        flat = latents.flatten(1).float()
        deviation, mean = torch.std_mean(flat, dim=1, correction=0)
        sample = self._sample(latents)
        if name and self._samples.keeps(step):
            self._samples.add(step, name, sample)
        if name and self._pictures.keeps(step):
            loud = deviation.clamp_min(1).view(-1, 1, 1, 1)
            self._pictures.add(step, name, _thumbnails(self._preview(latents.float() / loud)))
        found = []
        for image, pair in enumerate(zip(mean.tolist(), deviation.tolist())):
            values = [*pair, *shapiro_wilk(sample[image])]
            found.append({name: _finite(v) for name, v in zip(("mean", "std", "shapiro_w", "shapiro_p"), values)})
        return found

    def _sample(self, latents: Tensor) -> Tensor:
        """[B, n] values of latents [B, C, H, W], from the same places in all steps; all of them if there are few."""
        flat = latents.flatten(1)
        if self._places is None:
            generator = torch.Generator().manual_seed(0)
            self._places = torch.randperm(flat.shape[1], generator=generator)[:SAMPLE].to(flat.device)
        return flat[:, self._places].float().cpu()

    def _similarities(self, image: int) -> dict[str, Any]:
        kept = self._samples.kept
        steps = {name: [step for step in sorted(kept) if name in kept[step]] for name in ("noised", "state")}
        if not steps["noised"]:
            return {**steps, "values": []}
        noised, state = (
            F.normalize(torch.stack([kept[step][name][image] for step in some])) for name, some in steps.items()
        )
        return {**steps, "values": [[_finite(value) for value in row] for row in (noised @ state.T).tolist()]}


class Thinned:
    """Tensors of at most `most` steps, evenly spaced, however many steps there will be."""

    def __init__(self, most: int):
        self.kept: dict[int, dict[str, Tensor]] = {}
        self._most = most
        self._distance = 1

    def keeps(self, step: int) -> bool:
        return step % self._distance == 0

    def add(self, step: int, name: str, value: Tensor) -> None:
        """Keep the value of a step that it `keeps`; where they become too many, every other step is dropped."""
        self.kept.setdefault(step, {})[name] = value
        while len(self.kept) > self._most:
            self._distance *= 2
            self.kept = {k: series for k, series in self.kept.items() if self.keeps(k)}


def shapiro_wilk(values: Tensor) -> tuple[float, float]:
    """(W, p) of Shapiro and Wilk's test that values [n], n from 12 to 5000, come from a normal distribution.

    By the approximation of Royston (1995), algorithm AS R94. NaN for fewer values, and for those that are all equal.
    """
    n = len(values)
    x = values.double().cpu().sort().values
    if n < LEAST or bool(x[0] == x[-1]):
        return math.nan, math.nan
    m = torch.special.ndtri((torch.arange(1, n + 1, dtype=torch.float64) - 0.375) / (n + 0.25))
    square, u = float(m.square().sum()), 1 / math.sqrt(n)
    a = m.clone()
    last = m[-1] / math.sqrt(square) + _polynomial(u, 0, 0.221157, -0.147981, -2.071190, 4.434685, -2.706056)
    before = m[-2] / math.sqrt(square) + _polynomial(u, 0, 0.042981, -0.293762, -1.752461, 5.682633, -3.582633)
    a *= torch.sqrt((1 - 2 * last**2 - 2 * before**2) / (square - 2 * m[-1] ** 2 - 2 * m[-2] ** 2))
    a[-1], a[-2], a[0], a[1] = last, before, -last, -before
    deviation = x - x.mean()
    w = min(float((a * deviation).sum() ** 2 / deviation.square().sum()), 1.0)
    if w == 1:
        return 1.0, 1.0
    log = math.log(n)
    mean = _polynomial(log, -1.5861, -0.31082, -0.083751, 0.0038915)
    scale = math.exp(_polynomial(log, -0.4803, -0.082676, 0.0030302))
    return w, math.erfc((math.log(1 - w) - mean) / scale / math.sqrt(2)) / 2


def _polynomial(x: float, *coefficients: float) -> float:
    """Of rising powers of x."""
    return sum(c * x**k for k, c in enumerate(coefficients))


def _thumbnails(pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1] as uint8 on the CPU, those that are larger than `THUMBNAIL` made smaller."""
    shrink = max(1.0, max(pictures.shape[-2:]) / THUMBNAIL)
    height, width = (max(1, round(side / shrink)) for side in pictures.shape[-2:])
    small = F.adaptive_avg_pool2d(pictures.float(), (height, width))
    return ((small.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def _finite(value: float) -> float | None:
    """Six digits are more than a single precision number has; None for what JSON doesn't know."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
