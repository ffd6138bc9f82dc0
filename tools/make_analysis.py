"""Make the pictures of docs/analysis.md, and print its numbers: python tools/make_analysis.py"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from itermix.standalone.cli import main

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
MIXINGS = {"analysis.png": [], "analysis-independent.png": ["--preset", "ComfyUI node"]}
LEFT = 10
"""Steps that are left where the table compares: the same noise level, however far up sampling starts."""


def make() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "upscaled.png"
        for name, options in MIXINGS.items():
            main(["upscale", "--out", str(out), "--scale", "2", "--analysis", *options])
            shutil.copy(out.with_name("upscaled-analysis.png"), PICTURES / name)
            row = json.loads(out.with_name("upscaled-analysis.json").read_text())["steps"][-LEFT]
            deviations = ", ".join(f"{series} {row[series]['std']:.3f}" for series in ("noised", "state", "denoised"))
            print(f"{name}: {LEFT} left, weight {row['weight']:.2f}, similarity {row['similarity']:.3f}; {deviations}")


if __name__ == "__main__":
    make()
