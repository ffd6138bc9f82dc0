"""Make the picture of docs/speed.md from what the benchmarks have written: python tools/make_speed.py"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "speed.png"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
DENOISES = ("1", "0.7", "0.5")


def bounds(axes: Axes) -> None:
    """The bound of every number of left out steps, and how far the pictures are from those of the whole run."""
    rows = json.loads((RESULTS / "skipping.json").read_text())["rows"]
    names = {"euler": "Euler", "dpmpp_2m": "DPM++ 2M"}
    for k, (sampler, alpha) in enumerate(dict.fromkeys((row["sampler"], row["alpha"]) for row in rows)):
        found = [row for row in rows if (row["sampler"], row["alpha"]) == (sampler, alpha)]
        steps = [row["skipped"] for row in found]
        label = f"{names[sampler]}, alpha {alpha:g}"
        axes.plot(steps, [row["bound"] for row in found], color=f"C{k}", label=label)
        axes.plot(steps, [row["distance"] for row in found], color=f"C{k}", marker="o", ms=4, linestyle="none")
    axes.axhline(0.01, color="black", linewidth=0.8, linestyle=":")
    axes.set(yscale="log", ylim=(1e-6, 5), xlabel=f"steps left out, of {rows[0]['steps']}", ylabel="distance (RMS)")
    axes.set_title("addition: the bound (line) and the pictures (dots)", fontsize="medium")
    axes.set_xticks(range(0, rows[0]["steps"] + 1, 4))
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    axes.grid(alpha=0.3)


def budget(axes: Axes, metric: str, label: str) -> None:
    """A metric over the model calls of one picture."""
    rows = json.loads((RESULTS / "step-budget-2x.json").read_text())["rows"]
    for k, denoise in enumerate(DENOISES):
        found = [row for row in rows if row["method"] == f"denoise={denoise}"]
        calls, values = [row["calls"] for row in found], [row[metric] for row in found]
        errors = [row[f"{metric}_se"] for row in found]
        axes.errorbar(calls, values, errors, marker="o", ms=4, color=f"C{k}", label=f"default, denoise {denoise}")
    for k, strength in enumerate(("0.3", "0.5")):
        found = [row for row in rows if row["method"] == f"hires fix {strength}"]
        calls, values = [row["calls"] for row in found], [row[metric] for row in found]
        axes.plot(calls, values, marker="s", ms=4, color=("0.6", "0.3")[k], label=f"hires fix {strength}")
    found = [row for row in rows if "DemoFusion" in row["method"]]
    axes.plot(
        [row["calls"] for row in found],
        [row[metric] for row in found],
        marker="D",
        ms=4,
        color="C3",
        label="DemoFusion",
    )
    axes.set(xscale="log", xlabel="model calls, by pixels", ylabel=label)
    axes.set_xticks([4, 8, 16, 32, 64, 128], labels=["4", "8", "16", "32", "64", "128"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def main() -> None:
    figure = Figure(figsize=(13, 4.8), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    bounds(left)
    budget(middle, "detail", "detail (native renders: 1)")
    budget(right, "psnr", "PSNR to the source (dB)")
    middle.set_title("8 to 40 steps, 2x", fontsize="medium")
    right.set_title("the same", fontsize="medium")
    middle.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()
