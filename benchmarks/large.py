"""What large pictures are worth: mixing beside the upscalers that people use at 2x, 4x and 8x, on the latent model.

    python benchmarks/large.py --out out/large --server http://127.0.0.1:7860

Makes what RUNS names, by `itermix bench` and `webui_quality.py`, and keeps of their reports what docs/speed.md shows in
benchmarks/results/large.json, with the command of each. The WebUI is an A1111 with this extension, Ultimate SD upscale,
Tiled Diffusion and the small latent model's checkpoint, as docs/development.md says; without --server what wants one
stays as it was. A run whose report is in the folder is not made again. All of it takes hours on a processor.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import facts
from webui_quality import KINDS, RENDERS, SOFT, name_in_package

RESULTS = Path(__file__).parent / "results" / "large.json"
ROOT = Path(__file__).parents[1]
METRICS = ("psnr_source", "psnr", "detail_16", "precision", "recall", "structure", "grain")
PRESETS = ("preset=Balanced", "preset=Faithful")
STEPS = "20"


@dataclass(frozen=True)
class Run:
    """One report. `webui`: of `webui_quality.py`, whose methods are patterns; else of `itermix bench`, whose methods
    are settings of mixing and strengths of hires fix."""

    kind: str
    scale: int
    pictures: int
    methods: tuple[str, ...]
    webui: bool = False

    def command(self, out: Path, server: str = "URL") -> list[str]:
        """What is run, after `python`."""
        count, scale = str(self.pictures), str(self.scale)
        if self.webui:
            return [
                *("benchmarks/webui_quality.py", "--server", server, "--pictures", "confirm", "--out", str(out)),
                *("--kinds", self.kind, "--scales", scale, "--samplers", "DPM++ 2M", "--steps", STEPS),
                *("--count", count, "--mixing", *PRESETS, "--methods", *self.methods),
            ]
        strengths = [method.split()[-1] for method in self.methods if method.startswith("hires fix")]
        mixings = [method for method in self.methods if not method.startswith("hires fix")]
        return [
            *("-m", "itermix", "bench", "--model", "latent", "--seeds", "confirm", "--out", str(out)),
            *("--sources", KINDS[self.kind], "--scales", scale, "--pictures", count, "--steps", STEPS),
            *("--strengths", *strengths, *(word for mixing in mixings for word in ("--mixing", mixing))),
        ]

    def rows(self, out: Path) -> list[dict[str, Any]]:
        """Of its report, trimmed. Raises OSError: there is none."""
        if self.webui:
            return trimmed(json.loads((out / "quality.json").read_text())["rows"])
        return trimmed(json.loads((out / "report.json").read_text()))


RUNS = {
    "2x": Run(RENDERS, 2, 6, ("Lanczos", "mixing*", "hires fix 0.[235] Lanczos", "Ultimate*", "Tiled*"), webui=True),
    "2x-demofusion": Run(RENDERS, 2, 2, ("DemoFusion*",), webui=True),
    "2x-soft": Run(SOFT, 2, 4, ("Lanczos", "mixing*", "hires fix 0.[235] Lanczos", "Ultimate*", "Tiled*"), webui=True),
    "4x": Run(RENDERS, 4, 2, ("hires fix 0.2", "hires fix 0.5", *PRESETS)),
    "4x-others": Run(RENDERS, 4, 2, ("Ultimate*", "Tiled*"), webui=True),
    "4x-soft": Run(SOFT, 4, 2, ("hires fix 0.2", "hires fix 0.5", *PRESETS)),
    "8x": Run(RENDERS, 8, 1, ("hires fix 0.5", *PRESETS)),
    "8x-others": Run(RENDERS, 8, 1, ("Ultimate*", "Tiled*Mixture*"), webui=True),
}


def trimmed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """METRICS with their errors, under the names that methods have in the package."""
    kept = ("n", *METRICS, *(f"{metric}_se" for metric in METRICS))
    return [{"method": name_in_package(row["method"]), **{key: row[key] for key in kept}} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--server", metavar="URL", help="A1111 that runs with --api")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="the other runs stay as they were")
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else {}
    for name in options.only:
        run, out = RUNS[name], options.out / name
        try:
            rows = run.rows(out)
        except OSError:
            if run.webui and not options.server:
                print(f"{name} wants --server: it stays as it was.", file=sys.stderr)
                continue
            subprocess.run([sys.executable, *run.command(out.absolute(), options.server)], cwd=ROOT, check=True)
            rows = run.rows(out)
        kept[name] = {"command": shlex.join(["python", *run.command(Path("out") / "large" / name)]), "rows": rows}
        facts.write(RESULTS, runs={name: kept[name] for name in RUNS if name in kept})


if __name__ == "__main__":
    main()
