"""Plots: weight curves, the noised sequence, and the benchmark's trade-off front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from itermix.analysis.record import Analysis
from itermix.mixing.curves import weights
from itermix.mixing.noising import NoisedLatents
from itermix.settings import Settings
from itermix.standalone import metrics
from itermix.standalone.evaluation import DIRECT, TRUE_RENDER, Group
from itermix.standalone.images import to_image
from itermix.standalone.upscaling import karras
from itermix.steps.parametrisation import ve
from itermix.steps.schedule import run_by_host, steps_range

DPI = 110
MARKERS = "osD^vP*X<>"
LEGEND_COLUMNS = 4
STEPS = 25  # of the whole schedule, where settings leave it to what samples

STRIP = 8
"""Pictures in the strip of the noised sequence."""


def mixing_plot(curves: Mapping[str, Settings], picture: Tensor, path: Path) -> None:
    """Write a PNG of weight curves over the steps that are run, and below it z' of a picture at some of them.

    Args:
        curves: {label: settings}; the strip shows the first of them.
        picture: [3, H, W] in [-1, 1].
        path: where to write.

    Raises:
        SettingsError: settings that don't fit each other or the number of steps.
    """
    runs = {label: _run(settings) for label, settings in curves.items()}

    figure = Figure(figsize=(11, 6.4), dpi=DPI, layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.4, 1)).ravel()
    axes = upper.subplots()
    for label, (first, _, values) in runs.items():
        axes.plot(np.arange(first, first + len(values)), values, marker="o", markersize=3.5, label=label)
    end = max(first + len(values) for first, _, values in runs.values())
    axes.set(xlabel="step", ylabel="weight of the noised source", ylim=(-0.03, 1.03), xlim=(-0.5, end - 0.5))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()

    label, settings = next(iter(curves.items()))
    lower.suptitle(f"What is mixed in: the source noised to the level of the step ({label})", fontsize="medium")
    first, sigmas, values = runs[label]
    noised = _noised(settings, picture, sigmas)
    shown = np.unique(np.linspace(0, len(sigmas) - 1, min(STRIP, len(sigmas))).round().astype(int))
    for cell, step in zip(np.atleast_1d(lower.subplots(1, len(shown))), shown):
        z = noised.at(int(step), sigmas[step])[0]
        # Noise far above the picture's range would be cut to eight colours: show it at the picture's own contrast.
        cell.imshow(to_image(z / torch.sqrt(1 + sigmas[step] ** 2)))
        cell.set_title(f"step {first + step}\nsigma {sigmas[step]:.3g}, w {values[step]:.2f}", fontsize=8)
        cell.set_axis_off()
    figure.savefig(path)


def noised_analysis(settings: Settings, picture: Tensor) -> Analysis:
    """What of an analysis needs no model: the noised sequence of a picture [3, H, W], compared with itself.

    Raises:
        SettingsError: settings that don't fit the number of steps.
    """
    _, sigmas, values = _run(settings)
    noised = _noised(settings, picture, sigmas)
    analysis = Analysis(lambda pictures: pictures)
    for step, (sigma, weight) in enumerate(zip(sigmas, values.tolist())):
        z = noised.at(step, sigma)
        analysis.guided(step, float(sigma), weight, z, z)
    return analysis


def _run(settings: Settings) -> tuple[int, Tensor, Tensor]:
    """(first, sigmas, weights) of the steps of the built-in model's Karras schedule that are run, from `first` on."""
    whole, skipped = STEPS, 0
    if settings.steps:
        whole, skipped = run_by_host(settings.denoise, settings.steps, exact=True)
        settings = settings.replace(denoise=1.0)
    first, last = (skipped + step for step in steps_range(settings, whole - skipped))
    sigmas = karras(whole)[first:last]
    return first, sigmas, weights(settings, last - first, ve().progress(sigmas))


def _noised(settings: Settings, picture: Tensor, sigmas: Tensor) -> NoisedLatents:
    noised = NoisedLatents(picture[None], ve(), settings.noise, seeds=[max(settings.seed, 0)])
    noised.normalize(sigmas, settings.normalize_fraction)
    return noised


def front(groups: Sequence[Group], path: Path) -> None:
    """Write a PNG of detail over PSNR: the hires fix curve, and every mixing with its standard errors."""
    names = list(dict.fromkeys(name for group in groups for name in _mixings(group)))
    columns = min(2, len(groups))
    bands = -(-len(groups) // columns)
    legend = 0.4 + 0.22 * -(-(len(names) + 3) // LEGEND_COLUMNS)
    figure = Figure(figsize=(6.5 * columns, 4.6 * bands + legend), dpi=DPI, layout="constrained")
    all_axes = np.atleast_1d(figure.subplots(bands, columns)).ravel()
    for axes, group in zip(all_axes, groups):
        _front_of(axes, group, names)
    found = {label: handle for axes in all_axes for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=9)
    figure.savefig(path)


def _mixings(group: Group) -> list[str]:
    return [name for name, recipe in group.recipes.items() if isinstance(recipe, Settings)]


def _front_of(axes: Axes, group: Group, names: Sequence[str]) -> None:
    values = {name: metrics.summary(readings, group.reference) for name, readings in group.readings.items()}
    sweep = group.sweep
    axes.plot([values[n]["psnr"] for n in sweep], [values[n]["detail"] for n in sweep], "o-", color="grey", ms=4)
    axes.lines[-1].set_label("hires fix")
    for name in sweep:
        spot = (values[name]["psnr"], values[name]["detail"])
        axes.annotate(name.removeprefix("hires fix "), spot, (4, 4), textcoords="offset points", fontsize=8)
    for name in _mixings(group):
        look = names.index(name)
        errors = metrics.standard_errors(group.readings[name], group.reference)
        axes.errorbar(
            values[name]["psnr"],
            values[name]["detail"],
            xerr=errors["psnr"],
            yerr=errors["detail"],
            marker=MARKERS[look % len(MARKERS)],
            color=f"C{look % 10}",
            linestyle="none",
            label=name,
        )
    for name, style in ((DIRECT.name, ":"), (TRUE_RENDER, "--")):
        if name in values:
            axes.axhline(values[name]["detail"], color="black", linestyle=style, linewidth=1, label=f"detail of {name}")
    axes.set(title=group.title, xlabel="PSNR to the source (dB)", ylabel="detail (native renders: 1)")
    axes.margins(x=0.12)
    axes.grid(alpha=0.3)
