"""The default mixing with every sampler of the built-in model at several numbers of steps: does it hold everywhere?

    python benchmarks/samplers_and_steps.py [--pictures N] [--pictures-4x N] [--out DIR]

Writes samplers.md and samplers.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import facts

from itermix import Settings
from itermix.standalone import network, upscaling
from itermix.standalone.evaluation import DIRECT, ENLARGED, SEEDS, Method, evaluate, rows

STEPS = (12, 20, 30)
HIRES = tuple(Method(f"hires fix {strength:g}", strength) for strength in (0.3, 0.5, 0.7))
DEFAULT = Method("default", Settings(steps=0))
COLUMNS = (
    *("scale", "sampler", "steps", "strict", "PSNR", "detail", "of direct", "PSNR gain", "grain", "hires fix's least"),
    "direct's strict",
)
HEAD = """# The default with every sampler

    {command}

{pictures} pictures of the built-in model, fresh seeds, Karras' schedule, CFG 1. *Of direct*: detail as a share of what
direct sampling reaches with the same sampler and steps. *PSNR gain*: in dB over hires fix of equal detail; a bound (>)
where hires fix at 0.7 has less. *Hires fix's least*: the least grain of its strengths.

"""


def measured(sampler: str, steps: int, scale: int, pictures: int) -> list[dict[str, Any]]:
    """Rows of the default and of what it is compared with; hires fix at 2x alone, where it is at its best."""
    model = upscaling.Model(network.Guided(network.load()), sampler, steps)
    sources = upscaling.model_sources(model, pictures, SEEDS["confirm"] + 1000)
    methods = [ENLARGED, DIRECT, *(HIRES if scale == 2 else ()), DEFAULT]
    return rows(evaluate(model, methods, [sources], (scale,), references=256), model)


def line(found: list[dict[str, Any]]) -> str:
    """One line of the table."""
    named = {row["method"]: row for row in found}
    ours, direct = named["default"], named["direct"]
    hires = [named[method.name] for method in HIRES if method.name in named]
    gain = ours.get("psnr_gain")
    if not hires:
        against = ["", ""]
    else:
        beyond = ours["psnr"] - min(row["psnr"] for row in hires)
        against = [f"{gain:.1f}" if gain is not None else f"> {beyond:.1f}", f"{min(r['grain'] for r in hires):.2f}"]
    cells = [
        f"{ours['scale']}x",
        ours["sampler"],
        str(ours["steps"]),
        *(f"{ours[name]:.{digits}f}" for name, digits in (("strict", 2), ("psnr", 1), ("detail", 2))),
        f"{ours['detail'] / direct['detail']:.2f}",
        against[0],
        f"{ours['grain']:.2f}",
        against[1],
        f"{direct['strict']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=16, help="per row (default %(default)s)")
    parser.add_argument("--pictures-4x", type=int, default=8, help="per row at 4x (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out/samplers"))
    options = parser.parse_args()
    command = (
        f"python benchmarks/samplers_and_steps.py --pictures {options.pictures} --pictures-4x {options.pictures_4x}"
    )
    found: list[dict[str, Any]] = []
    page = HEAD.format(command=command, pictures=f"{options.pictures} (at 4x {options.pictures_4x})")
    page += f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
    for scale, pictures in ((2, options.pictures), (4, options.pictures_4x)):
        for sampler in upscaling.SAMPLERS:
            for steps in STEPS:
                of_one = measured(sampler, steps, scale, pictures)
                found += of_one
                page += line(of_one) + "\n"
                print(line(of_one), flush=True)
    facts.write(options.out / "samplers.json", rows=found)
    (options.out / "samplers.md").write_text(page)


if __name__ == "__main__":
    main()
