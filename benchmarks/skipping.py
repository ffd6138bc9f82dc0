"""Leaving out the first steps with the built-in model: what the bound allows, and how far the pictures really are.

    python benchmarks/skipping.py --out benchmarks/results/skipping.json
    python benchmarks/skipping.py --bounds      # how many steps are left out, without running the model

For every number of left out steps: the bound, the largest distance of the pictures from those of the whole run, in the
bound's unit, which is the largest distance of the model's estimates from their source; and how far the model brings two
states apart, which the bound takes for at most 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from unittest import mock

import facts
import k_diffusion.sampling
import torch
from torch import Tensor, nn

from itermix import Settings, sample, weights
from itermix.mixing.run import Run
from itermix.mixing.skipping import bounds_of, steps_to_skip
from itermix.standalone import network, upscaling
from itermix.standalone.evaluation import SEEDS
from itermix.steps.parametrisation import ve
from itermix.steps.schedule import schedule

ALPHAS = (0.35, 1.0, 3.0)
SAMPLERS = ("euler", "dpmpp_2m")
STEPS = (12, 20, 30)


class Recorded(nn.Module):
    """The denoiser, with its inputs and outputs by noise level."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.calls: dict[float, tuple[Tensor, Tensor]] = {}

    def forward(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:
        denoised = self.denoiser(x, sigma, **options)
        self.calls[float(sigma[0])] = x.clone(), denoised.clone()
        return denoised


def rms(x: Tensor) -> Tensor:
    """[B] of each picture."""
    return x.double().square().mean(dim=(1, 2, 3)).sqrt()


def measured(model: upscaling.Model, settings: Settings, sources: upscaling.Sources, skips: range) -> list[dict]:
    """One row for each number of left out steps."""
    side = 2 * network.RESOLUTION
    latent, sigmas = upscaling.enlarge(sources.pictures, (side, side)), model.sigmas(model.steps)
    w = weights(settings, model.steps)
    bounds = bounds_of(Run(model.function, schedule(model.function, {"sigmas": sigmas}, settings), w, settings, ve()))

    def run(skipped: int) -> tuple[Tensor, dict[float, tuple[Tensor, Tensor]]]:
        denoiser = Recorded(model.denoiser)
        options: dict[str, Any] = {"extra_args": {"label": sources.labels, "cfg": model.cfg}, "disable": True}
        with mock.patch("itermix.mixing.skipping.steps_to_skip", return_value=skipped), torch.no_grad():
            skipping = settings.replace(skip_tolerance=0.1)
            return sample(model.function, denoiser, latent, sigmas, skipping, **options), denoiser.calls

    whole, calls = run(0)
    reach = max(float(rms(denoised - latent).max()) for _, denoised in calls.values())
    rows = []
    for k in skips:
        part, left = run(k)
        ratios = [
            float((rms(denoised - calls[level][1]) / rms(x - calls[level][0]).clamp_min(1e-6)).max())
            for level, (x, denoised) in left.items()
        ]
        rows.append(
            {
                "sampler": model.sampler,
                "steps": model.steps,
                "alpha": settings.alpha,
                "skipped": k,
                "bound": bounds[k],
                "distance": float(rms(part - whole).max()) / reach,
                "largest_ratio": max(ratios),
                "reach": reach,
            }
        )
    return rows


def table_of_bounds() -> None:
    """Print how many steps are left out at a tolerance of 0.01, along Karras' schedule."""
    print(f"| sampler | alpha | {' | '.join(f'{steps} steps' for steps in STEPS)} |\n{'|---' * (2 + len(STEPS))}|")
    for sampler in SAMPLERS:
        function = getattr(k_diffusion.sampling, f"sample_{sampler}")
        for alpha in ALPHAS:
            settings = Settings(denoise=1.0, steps=0, blending="addition", alpha=alpha, detail=0.0)
            plans = [schedule(function, {"sigmas": upscaling.karras(steps)}, settings) for steps in STEPS]
            bounds = [
                bounds_of(Run(function, plan, weights(settings, len(plan.levels)), settings, ve())) for plan in plans
            ]
            skipped = [str(steps_to_skip(bound, 0.01)) for bound in bounds]
            print(f"| {sampler} | {alpha:g} | {' | '.join(skipped)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("--out", type=Path, help="JSON file")
    either.add_argument("--bounds", action="store_true", help="print how many steps are left out, and nothing else")
    options = parser.parse_args()
    if options.bounds:
        table_of_bounds()
        return
    denoiser = network.Guided(network.load())
    found: list[dict[str, Any]] = []
    print("| sampler | alpha | left out | bound | distance | largest ratio |\n|---|---|---|---|---|---|")
    for sampler in SAMPLERS:
        model = upscaling.Model(denoiser, sampler, options.steps)
        sources = upscaling.model_sources(upscaling.Model(denoiser, steps=20), options.pictures, SEEDS["tune"])
        for alpha in ALPHAS:
            settings = Settings(denoise=1.0, steps=0, blending="addition", alpha=alpha, detail=0.0, fidelity=0.0)
            rows = measured(model, settings, sources, range(2, options.steps, 2))
            found += rows
            for row in rows:
                numbers = f"{row['bound']:.2g} | {row['distance']:.2g} | {row['largest_ratio']:.2f}"
                print(f"| {sampler} | {alpha:g} | {row['skipped']} of {options.steps} | {numbers} |", flush=True)
    facts.write(options.out, rows=found)


if __name__ == "__main__":
    main()
