"""Write the table of docs/speed.md from what benchmarks/cost.py and benchmarks/large.py have found:
python tools/make_large.py"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from large import RUNS  # noqa: E402  # what was measured
from webui_quality import RENDERS, SOFT  # noqa: E402

from itermix.standalone.cells import cell  # noqa: E402

PAGE = ROOT / "docs" / "speed.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- large pictures -->\n", "<!-- end of large pictures -->\n"
SCALES = (2, 4, 8)
ROWS = {
    "**mixing**, *Balanced*": ("mixing", "preset=Balanced"),
    "mixing, *Faithful*": ("mixing", "preset=Faithful"),
    "hires fix 0.5": ("hires fix", "hires fix 0.5"),
    "hires fix 0.2": ("hires fix", "hires fix 0.2"),
    "Ultimate SD upscale, 0.35": ("Ultimate SD upscale", "Ultimate SD upscale"),
    "Tiled Diffusion, MultiDiffusion, 0.5": 2 * ("Tiled Diffusion, MultiDiffusion",),
    "Tiled Diffusion, Mixture of Diffusers, 0.5": 2 * ("Tiled Diffusion, Mixture of Diffusers",),
    "DemoFusion": ("DemoFusion", "DemoFusion of Tiled Diffusion"),
}
"""{way: (its name in cost.json, its name in large.json)}"""

HEADS = ("", "way", "steps", "calls", "operations", "of hires fix's", "at once", "pictures", "PSNR to source / truth")
HEADS += ("detail", "precision / recall / F", "grain", "soft: pictures", "detail", "F")
NOT_RUN = "not run"


def measured(runs: dict[str, Any], kind: str, scale: int) -> dict[str, dict[str, Any]]:
    """{method: its row} of the runs over one kind of sources, of which no two have a method in common."""
    chosen = [runs[name] for name, run in RUNS.items() if name in runs and (run.kind, run.scale) == (kind, scale)]
    return {row["method"]: row for run in chosen for row in run["rows"]}


def quality(sharp: dict[str, Any] | None, soft: dict[str, Any] | None) -> list[str]:
    """The cells of the last columns."""

    def shown(row: dict[str, Any], metric: str, digits: int) -> str:
        return cell(row[metric], row[f"{metric}_se"], digits)

    found = [NOT_RUN, "", "", "", ""]
    if sharp:
        psnr = " / ".join(cell(sharp[metric], None, 1) for metric in ("psnr_source", "psnr"))
        structure = [cell(sharp[metric], None, 3) for metric in ("precision", "recall")]
        structure += [shown(sharp, "structure", 3)]
        found = [str(sharp["n"]), psnr, shown(sharp, "detail_16", 2), " / ".join(structure), shown(sharp, "grain", 2)]
    if soft:
        return [*found, str(soft["n"]), shown(soft, "detail_16", 2), shown(soft, "structure", 3)]
    return [*found, NOT_RUN, "", ""]


def table() -> str:
    ways = json.loads((RESULTS / "cost.json").read_text())["ways"]
    runs = json.loads((RESULTS / "large.json").read_text())["runs"]
    lines = [list(HEADS), ["---"] * len(HEADS)]
    for scale in SCALES:
        of_hires = ways[str(scale)]["hires fix"]
        whole = of_hires["steps"] * of_hires["cost"]
        sharp, soft = (measured(runs, kind, scale) for kind in (RENDERS, SOFT))
        for name, (way, method) in ROWS.items():
            of = ways[str(scale)][way]
            steps, operations = of["steps"], of["steps"] * of["cost"]
            cost = [str(steps), f"{steps * of['seen']:.0f}", f"{operations:.0f}", f"{operations / whole:.2f}"]
            lines.append([f"{scale}x", name, *cost, f"{of['most']:.1f}", *quality(sharp.get(method), soft.get(method))])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(text: str) -> str:
    """`text` with the table between its marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
