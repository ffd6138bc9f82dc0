"""The files of an analysis: a sheet of charts and small pictures, and its numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from itermix.analysis.record import Analysis

DPI = 100
SERIES = {"noised": "noised source z'", "state": "state x", "denoised": "denoised"}
LEAST_SHOWN = 1e-12
"""Chances below this are drawn here."""


def write(analyses: Sequence[Analysis], image: int, picture: Path, other: str = "x") -> list[Path]:
    """Write the files of one image of the batch, beside its picture, and give their names.

    For a picture a.png these are a-analysis.png and a-analysis.json; where there are several analyses, of the phases
    that made the picture, a-analysis-phase-1.png and so on. `other` is what z' was compared with. Raises OSError.
    """
    written = []
    for number, analysis in enumerate(analyses, 1):
        phase = f"-phase-{number}" if len(analyses) > 1 else ""
        stem = picture.with_suffix("")
        sheet, numbers = (stem.with_name(f"{stem.name}-analysis{phase}{end}") for end in (".png", ".json"))
        found = analysis.numbers(image)
        numbers.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        of_phase = f", phase {number} of {len(analyses)}" if phase else ""
        drawn(found, analysis.pictures(image), f"{picture.name}{of_phase}", other).savefig(sheet)
        written += [sheet, numbers]
    return written


def drawn(
    numbers: Mapping[str, Any], pictures: Mapping[int, Mapping[str, Tensor]], title: str, other: str = "x"
) -> Figure:
    """The sheet of what `Analysis.numbers` and `Analysis.pictures` give, under a title. Series that aren't there are
    left out. `other` is the name of what z' was compared with."""
    figure = Figure(figsize=(14, 10.5), dpi=DPI, layout="constrained")
    figure.suptitle(title.replace("$", r"\$"))  # which begins a formula
    charts, strips = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.3, 1)).ravel()
    mean, deviation, similarity, w, p, heat = charts.subplots(2, 3).ravel()
    for name in SERIES:
        _line(mean, numbers, name, "mean")
        _line(deviation, numbers, name, "std")
        _line(w, numbers, name, "shapiro_w")
        _line(p, numbers, name, "shapiro_p", LEAST_SHOWN)
    steps = [row["step"] for row in numbers["steps"]]
    similarity.plot(steps, _values(row["similarity"] for row in numbers["steps"]), "o-", ms=3, label=f"z' and {other}")
    similarity.plot(steps, [row["weight"] for row in numbers["steps"]], "--", color="grey", label="weight of z'")
    mean.set_title("mean")
    deviation.set_title("standard deviation")
    deviation.set_yscale("log")
    similarity.set_title(f"cosine similarity of z' and {other} in the same step")
    w.set_title("normality: Shapiro-Wilk W, 1 is normal")
    p.set_title("normality: Shapiro-Wilk p")
    p.set_yscale("log")
    p.set_ylim(LEAST_SHOWN / 2, 2)
    for axes in (mean, deviation, similarity, w, p):
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    _heat_map(heat, numbers["similarities"], other)
    _strips(strips, numbers, pictures)
    return figure


def _line(axes: Axes, numbers: Mapping[str, Any], name: str, value: str, floor: float | None = None) -> None:
    """One number of one series over the steps; what is None is a gap."""
    rows = [row for row in numbers["steps"] if name in row]
    if rows:
        values = _values(row[name][value] for row in rows)
        values = values if floor is None else np.maximum(values, floor)
        axes.plot([row["step"] for row in rows], values, "o-", ms=3, label=SERIES[name])


def _values(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _heat_map(axes: Axes, similarities: Mapping[str, Any], other: str) -> None:
    axes.set(title=f"similarity of every z' with every {other}", xlabel=f"step of {other}", ylabel="step of z'")
    if not similarities["values"]:
        axes.set_axis_off()
        return
    values = np.array([_values(row) for row in similarities["values"]])
    shown = axes.imshow(values, vmin=min(0.0, float(np.nanmin(values))), vmax=1, cmap="viridis", aspect="auto")
    for axis, name in ((axes.xaxis, "state"), (axes.yaxis, "noised")):
        steps = similarities[name]
        places = np.unique(np.linspace(0, len(steps) - 1, min(6, len(steps))).round().astype(int))
        axis.set_ticks(places, [str(steps[k]) for k in places])
    axes.figure.colorbar(shown, ax=axes)


def _strips(figure: SubFigure, numbers: Mapping[str, Any], pictures: Mapping[int, Mapping[str, Tensor]]) -> None:
    """The small pictures, a row for each series and a column for each step."""
    level = {row["step"]: row["level"] for row in numbers["steps"]}
    series = [name for name in SERIES if any(name in found for found in pictures.values())]
    if not series:
        return
    cells = np.array(figure.subplots(len(series), len(pictures), squeeze=False))
    for name, row in zip(series, cells):
        row[0].set_ylabel(name)
        for cell, found in zip(row, pictures.values()):
            cell.set(xticks=[], yticks=[])
            if name in found:
                cell.imshow(found[name].permute(1, 2, 0).numpy())
    for cell, step in zip(cells[0], pictures):
        cell.set_title(f"step {step}\nlevel {level[step]:.3g}", fontsize=8)
