"""Whether detail depends on the number of steps: one setting over samplers, schedules and steps, on both models.

    python benchmarks/detail_over_steps.py --out out/detail-over-steps.json

A row is one sampler and schedule; its numbers are the detail of 2x pictures (of the native renders, see
`itermix.standalone.metrics` and `itermix.standalone.latent.metrics`) at each number of steps, of which all are run, and
the largest distance from their mean, in %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itermix.settings import Settings
from itermix.standalone import metrics, network, upscaling
from itermix.standalone.latent import bench, model
from itermix.standalone.upscaling import Method, Model

SAMPLERS = ("dpmpp_2m", "dpmpp_2m_sde", "euler", "euler_ancestral")
SCHEDULES = ("karras", "exponential")
STEPS = (8, 12, 20, 40)

Measure = Callable[[str, str, int], float]


def in_pixels(settings: Settings, count: int) -> Measure:
    """Detail of the model that paints pixels, over `count` renders."""
    denoiser = network.Guided(network.load())
    sources = upscaling.true_sources(count, 100_000)
    side = 2 * network.RESOLUTION
    reference = metrics.truth(side, 256)

    def measure(sampler: str, schedule: str, steps: int) -> float:
        built_in = Model(denoiser, sampler, steps, schedule=schedule)
        *_, results = upscaling.phases(built_in, Method("ours", settings.replace(steps=steps)), sources, (side, side))
        return metrics.summary(metrics.read(results, sources.pictures), reference)["detail"]

    return measure


def in_latents(settings: Settings, count: int) -> Measure:
    """Detail of the latent model (its finest octave), over `count` held-out renders of the tuning half."""
    latent = model.load()
    chosen = bench.subjects("tuning", count)
    truths = bench.drawn(chosen, 2 * model.SIZE)

    def measure(sampler: str, schedule: str, steps: int) -> float:
        built_in = Model(latent.denoiser, sampler, steps, bench.CFG, schedule, latent.space())
        sources = bench.sources(latent, built_in, chosen, "true")
        results = list(bench.results(built_in, Method("ours", settings.replace(steps=steps)), sources, 2))
        return float(np.nanmean(bench.measured(results, truths, sources)["detail_16"]))

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--detail", type=float, default=Settings().detail)
    parser.add_argument("--denoise", type=float, default=Settings().denoise)
    parser.add_argument("--pictures", type=int, nargs=2, default=(16, 6), help="of the pixel and of the latent model")
    given = parser.parse_args()
    settings = Settings(detail=given.detail, denoise=given.denoise)
    rows: list[dict[str, Any]] = []
    for name, make, count in zip(("pixel", "latent"), (in_pixels, in_latents), given.pictures):
        measure = make(settings, count)
        for sampler in SAMPLERS:
            for schedule in SCHEDULES:
                with torch.no_grad():
                    found = [measure(sampler, schedule, steps) for steps in STEPS]
                apart = 100 * max(abs(value / np.mean(found) - 1) for value in found)
                row = {"model": name, "sampler": sampler, "schedule": schedule, "detail": given.detail, "n": count}
                rows.append({**row, **dict(zip(map(str, STEPS), np.round(found, 4))), "apart": round(apart, 2)})
                steps = "  ".join(f"{value:.3f}" for value in found)
                print(f"{name:6} {sampler:16} {schedule:12} {steps}   {apart:.1f} %", flush=True)
    given.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
