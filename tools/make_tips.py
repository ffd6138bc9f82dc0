"""Write docs/tips.md from what benchmarks/tips.py has found: python tools/make_tips.py"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from tips import MEASURED, TIPS  # noqa: E402  # what was tried

from itermix.standalone.latent.metrics import SHOWN, mean_and_error  # noqa: E402

PAGE = ROOT / "docs" / "tips.md"
FOUND = ROOT / "benchmarks" / "results" / "tips.json"
HEAD = """# The tips of the nodes' page, measured

The page of the ComfyUI Iterative Mixing nodes gives tips. Here is which setting each is, and what it does to {pictures}
pictures of the [latent model](latent-model.md): held-out renders of its tuning half, with the native render as the
truth; the preset *ComfyUI node*, enlarged by Lanczos with back-projection, DPM++ 2M, Karras, 20 steps, CFG 3.

    python benchmarks/tips.py --out benchmarks/results/tips.json && python tools/make_tips.py

In brackets is the difference from the first row of the tip, picture by picture, with one standard error. PSNR in dB and
structure (up to 1) are to the truth; detail is that of the finest octave a latent holds, 1 being the truth's; grain, in
grey levels, and flecks, for every 100 000 pixels, are where the truth is flat.

"""


def page() -> str:
    found = json.loads(FOUND.read_text(encoding="utf-8"))
    heads = ["tip", "here", "tried", *(SHOWN[metric][0] for metric in MEASURED)]
    lines = [heads, ["---"] * len(heads)]
    for tip in TIPS.values():
        if not tip.variants:
            lines.append([tip.asks, tip.here, "not on this model", *["-"] * len(MEASURED)])
        for k, variant in enumerate(tip.variants):
            readings, first = (found["rows"][v.name] for v in (variant, tip.variants[0]))
            cells = [cell(metric, readings[metric], first[metric] if k else None) for metric in MEASURED]
            lines.append(["" if k else tip.asks, "" if k else tip.here, variant.name, *cells])
    return HEAD.format(pictures=found["pictures"]) + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(metric: str, readings: list[Any], first: list[Any] | None) -> str:
    """The mean over the pictures that have the metric, and how it differs from `first` where both have it."""
    digits = SHOWN[metric][1]
    values = np.array(readings, dtype=float)
    mean, _ = mean_and_error(values)
    if math.isnan(mean):
        return "-"
    if first is None:
        return f"{mean:.{digits}f}"
    difference, error = mean_and_error(values - np.array(first, dtype=float))
    return f"{mean:.{digits}f}" + ("" if math.isnan(error) else f" ({difference:+.{digits}f} ± {error:.{digits}f})")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
