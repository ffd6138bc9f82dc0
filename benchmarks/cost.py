"""What a picture costs in arithmetic, by size and by way: mixing and the upscalers that people use.

    python benchmarks/cost.py --out benchmarks/results/cost.json    # needs diffusers

Operations of one model call are counted (torch.utils.flop_counter) on a network of Stable Diffusion 1.5's size, without
computing anything, so the numbers are the same on every machine. The model of cost is a * P + b * P^2 for P times the
pixels of 512 x 512: convolutions look at every pixel alike, self-attention at every pair. It is fitted to 1x to 4x and
compared with the count at 8x.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import facts
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from itermix.model.crops import parts
from itermix.parameters import SIZE_MULTIPLE, Known
from itermix.picture.phases import plan, walk
from itermix.settings import Settings

SIDE = 512
FITTED, EXTRAPOLATED = (1, 1.5, 2, 3, 4), 8
SCALES = (2, 4, 8)
HIRES_STEPS, DEMOFUSION_STEPS = 20, 50


def operations(network: Any, scale: float) -> int:
    """Of one call for a picture of `scale` times 512 px on each side."""
    side = round(SIDE / 8 * scale)
    x = torch.empty(1, 4, side, side, device="meta")
    text = torch.empty(1, 77, 768, device="meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the only one that exists without a device
        network(x, torch.empty(1, device="meta"), encoder_hidden_states=text)
    return counter.get_total_flops()


def fitted(counts: dict[float, float]) -> tuple[float, float]:
    """(a, b) of a * P + b * P^2, the least relative error over {scale: operations}."""
    pixels, values = np.array([scale**2 for scale in counts]), np.array(list(counts.values()))
    matrix = np.stack([pixels / values, pixels**2 / values], axis=1)
    (a, b), *_ = np.linalg.lstsq(matrix, np.ones(len(values)), rcond=None)
    return float(a), float(b)


@dataclass(frozen=True)
class Way:
    """How a picture `scale` times larger is made.

    Attributes:
        steps: of each phase, with the tool's own settings where it is installed.
        cost: of a step over all phases, in calls at the first size.
        seen: pixels that the model sees in a step, in pictures of the first size.
        most: pixels that it sees at once, likewise.
    """

    steps: int
    cost: float
    seen: float
    most: float


def ways(scale: int, cost: Callable[[float], float]) -> dict[str, Way]:
    """{way: what it takes}; `cost` gives that of a call for a picture so many times larger on each side."""
    settings = Settings()
    found = {}
    for name, auto in (("mixing", settings), ("mixing, automatic window off", settings.replace(window_auto=False))):
        phases = walk((SIDE, SIDE), plan(SIDE, SIDE, scale))
        calls, seen, most = 0.0, 0.0, 0.0
        for phase in phases:
            side = phase.target[0] // SIZE_MULTIPLE
            own = auto.of_model(phase.target, Known(SIDE // SIZE_MULTIPLE))
            crops, _ = parts(own, side, side)
            area = (phase.target[0] / SIDE) ** 2
            calls += crops * cost(1) if crops else cost(phase.target[0] / SIDE)
            seen += crops or area
            most = max(most, min(own.window_batch, crops) if crops else area)
        found[name] = Way(settings.steps, calls, seen, most)
    found["hires fix"] = Way(HIRES_STEPS, cost(scale), scale**2, scale**2)
    # Tiles of 512 px with a padding of 32, rounded up to 576; one at a time; denoise 0.35 of 20 steps in img2img.
    found["Ultimate SD upscale"] = Way(8, scale**2 * cost(1.125), scale**2 * 1.125**2, 1.125**2)
    # 96 latent pixels, four at a time: overlapping by 48 in all steps of a hires pass, as its page in txt2img has it,
    # or by 8 in the share of 20 steps that img2img runs at denoise 0.5.
    for method, overlap, steps in (("MultiDiffusion", 48, HIRES_STEPS), ("Mixture of Diffusers", 8, 11)):
        tiles = math.ceil((64 * scale - overlap) / (96 - overlap)) ** 2
        found[f"Tiled Diffusion, {method}"] = Way(steps, tiles * cost(1.5), tiles * 1.5**2, min(4, tiles) * 1.5**2)
    # All whole scales, each with crops of the first size that overlap by half, and with dilated sub-grids.
    crops = sum((2 * s - 1) ** 2 + s**2 for s in range(2, scale + 1))
    found["DemoFusion"] = Way(DEMOFUSION_STEPS, float(crops), float(crops), 1.0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768)
    counts = {scale: operations(network, scale) for scale in (*FITTED, EXTRAPOLATED)}
    one = counts[1]
    a, b = fitted({scale: counts[scale] / one for scale in FITTED})
    print(f"One call at {SIDE} px: {one / 1e12:.2f} T operations; model of cost: {a:.3f} P + {b:.4f} P^2")
    print("| scale | counted | model of cost |\n|---|---|---|")
    for scale, count in counts.items():
        pixels = scale**2
        print(f"| {scale:g}x | {count / one:.2f} | {a * pixels + b * pixels**2:.2f} |")
    table = {scale: ways(scale, lambda of: a * of**2 + b * of**4) for scale in SCALES}
    print(f"\nIn calls at {SIDE} px; the model sees so many pictures of that size in a step, and at once:")
    heads = ("", "way", "steps", "cost of a step", "of a picture", "of hires fix's", "seen", "at once")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for scale, found in table.items():
        whole = found["hires fix"].steps * found["hires fix"].cost
        for name, way in found.items():
            cost = way.steps * way.cost
            print(
                f"| {scale}x | {name} | {way.steps} | {way.cost:.1f} | {cost:.0f} | {cost / whole:.2f} "
                f"| {way.seen:.1f} | {way.most:.1f} |"
            )
    if options.out:
        rows = {scale: {name: asdict(way) for name, way in found.items()} for scale, found in table.items()}
        facts.write(options.out, operations=counts, a=a, b=b, ways=rows)


if __name__ == "__main__":
    main()
