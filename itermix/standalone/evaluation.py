"""Every method against a sweep of hires fix strengths and direct sampling, with standard errors.

Methods are compared at matched fidelity and at matched detail, since any of them can buy one with the other: the
sweep of hires fix strengths is a curve of detail over PSNR, and what counts is the distance to that curve.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from itermix.parameters import SettingsError
from itermix.settings import Settings
from itermix.standalone import metrics, upscaling
from itermix.standalone.cells import finite
from itermix.standalone.metrics import METRICS, Readings
from itermix.standalone.network import RESOLUTION
from itermix.standalone.upscaling import Method, Model, Sources

SEEDS = {"tune": 100_000, "confirm": 800_000, "demo": 300_000}
"""First seeds of the sources. What was tuned on one set is to be confirmed, once, on another that is fresh."""

SCALES = (2, 4)
STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

DIRECT = Method("direct", None)
ENLARGED = Method("enlarged", 0.0)
SWEEP = tuple(Method(f"hires fix {strength:g}", strength) for strength in STRENGTHS)
TRUE_RENDER = "true render"

MATCHED = ("detail_ratio", "psnr_gain")
"""Detail over that of hires fix of equal PSNR; PSNR in dB above hires fix of equal detail."""


def mixings() -> list[Method]:
    """The default, what of it is guidance alone, plain mixing, and the best of the other blendings."""
    return [
        Method(f"{Settings().blending} (default)", Settings()),
        Method("default, guidance alone", Settings(detail=0.0, fidelity=0.0), back_projection=False),
        Method(
            "addition, alpha 1",
            Settings(blending="addition", alpha=1.0, detail=0.0, fidelity=0.0),
            back_projection=False,
        ),
        Method("clean wavelet, alpha 0.35", Settings(blending="clean wavelet", alpha=0.35)),
    ]


@dataclass
class Group:
    """All outcomes for one kind of sources at one scale, over the same pictures.

    Attributes:
        sources: what was upscaled.
        scale: how many times larger the results are.
        reference: readings of native renders of the results' size.
        readings: {method name: its readings}.
        pictures: {method name: its first pictures}, to be looked at.
        recipes: {method name: its recipe}.
    """

    sources: Sources
    scale: int
    reference: Readings
    readings: dict[str, Readings] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    recipes: dict[str, Settings | float | None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        origin = {"model": "sources from the model", "true": "true renders as sources"}[self.sources.kind]
        side = RESOLUTION * self.scale
        return f"{self.scale}x ({RESOLUTION} to {side} px), {origin}"

    @property
    def sweep(self) -> list[str]:
        """Names of the methods that make the hires fix curve, weakest first."""
        strengths = {name: recipe for name, recipe in self.recipes.items() if isinstance(recipe, float)}
        return sorted(strengths, key=strengths.__getitem__)

    def add(self, method: Method, pictures: Tensor, shown: int) -> None:
        self.readings[method.name] = metrics.read(pictures, self.sources.pictures, method.recipe is not None)
        self.pictures[method.name] = pictures[:shown].clone()
        self.recipes[method.name] = method.recipe


def evaluate(
    model: Model,
    methods: Sequence[Method],
    sources: Iterable[Sources],
    scales: Sequence[int] = SCALES,
    references: int = 512,
    shown: int = 8,
) -> list[Group]:
    """Upscale all sources with all methods and read the pictures, with a progress bar.

    Args:
        methods: their names must differ.
        scales: powers of 2; a method's phases on the way to the largest also give the smaller ones, but for what only a
            last phase gets.
        references: native renders per scale that detail and patch distance are measured against.
        shown: pictures of each method to keep.

    Raises:
        SettingsError: a method's settings don't fit the number of steps.
    """
    truths = {scale: metrics.truth(RESOLUTION * scale, references) for scale in scales}
    groups: list[Group] = []
    sources = list(sources)
    with tqdm(total=len(sources) * len(methods), unit="method") as bar:
        for some in sources:
            found = {scale: Group(some, scale, truths[scale]) for scale in scales}
            for method in methods:
                bar.set_postfix_str(f"{method.name}, {some.kind}")
                _run(model, method, found, shown)
                bar.update()
            groups += found.values()
    return groups


def _run(model: Model, method: Method, groups: Mapping[int, Group], shown: int) -> None:
    """Add a method's results to the groups of all scales. The phases to the largest scale pass through the others."""
    missing = sorted(groups, reverse=True)
    finished = isinstance(method.recipe, Settings) and (method.recipe.cleanup > 0 or method.recipe.detail > 0)
    while missing:
        scale = missing[0]
        sources = groups[scale].sources
        side = RESOLUTION * scale
        for pictures in upscaling.phases(model, method, sources, (side, side)):
            reached = pictures.shape[-1] // RESOLUTION
            if reached in missing and (reached == scale or not finished):  # which only the last phase is
                groups[reached].add(method, pictures, shown)
                missing.remove(reached)
        if method.most > 2:  # the smaller scales are the two-fold phases of other methods
            return


def add_true_renders(groups: Iterable[Group], shown: int = 8) -> None:
    """Add native renders of the same scenes where the sources are renders: the best that could be reached."""
    for group in groups:
        if group.sources.kind == "true":
            renders = upscaling.true_renders(len(group.sources), group.sources.seed, RESOLUTION * group.scale)
            group.add(Method(TRUE_RENDER, None), renders, shown)
            group.readings[TRUE_RENDER] = metrics.read(renders, group.sources.pictures)


def rows(groups: Iterable[Group], model: Model) -> list[dict[str, Any]]:
    """One row per method and group: the metrics with their standard errors, and the comparison with hires fix."""
    return [row(group, name, model) for group in groups for name in group.readings]


def row(group: Group, name: str, model: Model) -> dict[str, Any]:
    """The row of one method. What has no finite value is None."""
    readings = group.readings[name]
    values = metrics.summary(readings, group.reference)
    errors = metrics.standard_errors(readings, group.reference)
    found: dict[str, Any] = {
        "method": name,
        "scale": group.scale,
        "source": group.sources.kind,
        "n": len(readings),
        "sampler": model.sampler,
        "steps": model.steps,
        "cfg": model.cfg,
        "seed": group.sources.seed,
    }
    for metric in METRICS:
        found |= {metric: finite(values[metric]), f"{metric}_se": finite(errors[metric])}
    if isinstance(group.recipes[name], Settings):
        found["settings"] = dict(group.recipes[name].changed())  # type: ignore[union-attr]
        curve = [group.readings[other] for other in group.sweep]
        found |= matched(readings, curve, group.reference)
    return found


def matched(readings: Readings, sweep: Sequence[Readings], reference: Readings) -> dict[str, float | None]:
    """The `MATCHED` comparisons with their paired bootstrap errors (`..._se`); `sweep` is from weak to strong.

    The curve is linear between the strengths of the sweep. A comparison outside of it is None, and so is an error for
    which fewer than half of the resamplings are inside.
    """
    if len(sweep) < 2:
        return {}
    everything = np.arange(len(readings))[None]
    value = _against(readings, sweep, reference, everything)
    drawn = _against(readings, sweep, reference, metrics.resamples(len(readings)))
    found: dict[str, float | None] = {}
    for name in MATCHED:
        inside = drawn[name][np.isfinite(drawn[name])]
        known = math.isfinite(value[name][0]) and 2 * len(inside) >= len(drawn[name])
        found |= {name: finite(value[name][0]), f"{name}_se": finite(inside.std()) if known else None}
    return found


def _against(
    readings: Readings, sweep: Sequence[Readings], reference: Readings, indices: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """{comparison: [rounds]} for each row of indices [rounds, N]; NaN outside the sweep."""

    def psnr_and_detail(of: Readings) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        energy, area = of.energy[indices].sum(axis=1), of.area[indices].sum(axis=1)
        return of.psnr[indices].mean(axis=1), np.sqrt(energy / np.maximum(area, 1)) / reference.rms

    psnr, detail = psnr_and_detail(readings)
    curve_psnr, curve_detail = (np.stack(values, axis=1) for values in zip(*map(psnr_and_detail, sweep)))
    detail_there = [metrics.interpolate(*values) for values in zip(psnr, curve_psnr, curve_detail)]
    reached = np.maximum.accumulate(curve_detail, axis=1)  # by the weakest strength; a broken picture may lose detail
    psnr_there = [metrics.interpolate(*values) for values in zip(detail, reached, curve_psnr)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"detail_ratio": detail / np.array(detail_there), "psnr_gain": psnr - np.array(psnr_there)}


def seed_of(name: str) -> int:
    """First seed of a set in `SEEDS`, or of a whole number from 0 written out.

    Raises:
        SettingsError: neither of them.
    """
    if name in SEEDS:
        return SEEDS[name]
    if name.isdecimal() and len(name) <= 9:
        return int(name)
    raise SettingsError("seeds", name, f"Allowed: {', '.join(SEEDS)} or a whole number from 0 to 999999999.")


def write_json(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
