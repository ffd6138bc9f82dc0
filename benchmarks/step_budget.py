"""Quality against model calls with the built-in model: which steps can be left out?

    python benchmarks/step_budget.py --scale 2 --out benchmarks/results/step-budget-2x.json

Every mixing is run with several numbers of steps, and so are hires fix and DemoFusion (skip residual, crops and
thinned-out pictures, with its own formulas). A mixing that leaves steps out (by denoise, start_at_step or
skip_tolerance) has fewer calls than steps. A call counts as many pixels as it gets, in the unit of a picture of the
result: a step of a phase of half the side counts a quarter. Prints a table and writes its rows.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import facts

from itermix.settings import Settings
from itermix.standalone import network, upscaling
from itermix.standalone.evaluation import SEEDS, evaluate, rows, seed_of
from itermix.standalone.options import method_of
from itermix.standalone.upscaling import Method, Model

STEPS = (8, 12, 16, 20, 30, 40)
MIXINGS = ("denoise=1", "denoise=0.7", "denoise=0.5", f"preset=DemoFusion complete window={network.RESOLUTION}")
HIRES = tuple(Method(f"hires fix {strength:g}", strength) for strength in (0.3, 0.5))
COLUMNS = ("strict", "psnr", "detail", "grain", "patch_distance", "psnr_gain")
REFERENCES = 256


def measured(model: Model, methods: list[Method], scale: int, pictures: int, seed: int) -> list[dict[str, Any]]:
    """Rows of `evaluation.rows`, with the schedule and the model calls for one picture."""
    sources = upscaling.model_sources(dataclasses.replace(model, steps=20, schedule="karras"), pictures, seed)
    calls: dict[str, float] = {}
    side = network.RESOLUTION * scale
    for method in methods:
        with mock.patch.object(model.denoiser, "forward", wraps=model.denoiser.forward) as forward:
            first = upscaling.Sources(sources.kind, sources.pictures[:1], sources.labels[:1], sources.seed)
            *_, _ = upscaling.phases(model, method, first, (side, side))
        calls[method.name] = sum(call.args[0][:, :1].numel() for call in forward.call_args_list) / side**2
    found = rows(evaluate(model, methods, [sources], (scale,), REFERENCES, shown=0), model)
    return [{**row, "schedule": model.schedule, "calls": calls[row["method"]]} for row in found]


def as_many_as_the_model(method: Method) -> Method:
    """The mixing with the model's steps, of which denoise leaves its share."""
    assert isinstance(method.recipe, Settings)
    return dataclasses.replace(method, recipe=method.recipe.replace(steps=0))


def line(row: dict[str, Any]) -> str:
    """One line of the table."""

    def cell(name: str) -> str:
        if row.get(name) is None:
            return "-"
        error = row.get(f"{name}_se")
        return f"{row[name]:.2f}" + (f" ± {error:.2f}" if error is not None else "")

    parts = [row["schedule"], row["method"], str(row["steps"]), f"{row['calls']:.1f}", *map(cell, COLUMNS)]
    return f"| {' | '.join(parts)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, choices=(2, 4), default=2)
    parser.add_argument("--pictures", type=int, default=16, help="per row (default %(default)s)")
    parser.add_argument("--seeds", default="tune", help=f"{', '.join(SEEDS)} or a first seed (default %(default)s)")
    parser.add_argument("--sampler", default=upscaling.SAMPLERS[0])
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--schedules", nargs="+", default=["karras"], choices=list(upscaling.SCHEDULES))
    parser.add_argument("--mixing", action="append", default=[], help="as of `itermix bench`, in place of the default")
    parser.add_argument("--no-hires", action="store_true", help="leave hires fix out")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()
    methods = [as_many_as_the_model(method_of(text)) for text in options.mixing or MIXINGS]
    if not options.no_hires:
        methods += HIRES
    denoiser = network.Guided(network.load())
    found: list[dict[str, Any]] = []
    print(f"| schedule | method | steps | calls | {' | '.join(COLUMNS)} |\n{'|---' * (4 + len(COLUMNS))}|")
    for schedule in options.schedules:
        for steps in options.steps:
            model = Model(denoiser, options.sampler, steps, schedule=schedule)
            of_one = measured(model, methods, options.scale, options.pictures, seed_of(options.seeds))
            found += of_one
            print(*map(line, of_one), sep="\n", flush=True)
            facts.write(options.out, rows=found)


if __name__ == "__main__":
    main()
