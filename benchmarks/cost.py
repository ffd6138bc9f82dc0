"""What a picture costs in arithmetic, by size and by way: mixing, hires fix, DemoFusion, the ComfyUI nodes.

    python benchmarks/cost.py --out benchmarks/results/cost.json    # needs diffusers

Operations of one model call are counted (torch.utils.flop_counter) on a network of Stable Diffusion 1.5's size, without
computing anything, so the numbers are the same on every machine. The model of cost is a * P + b * P^2 for P times the
pixels of 512 x 512: convolutions look at every pixel alike, self-attention at every pair. It is fitted to 1x to 4x and
compared with the count at 8x.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import facts
import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from itermix.picture.phases import plan

SIDE = 512
FITTED, EXTRAPOLATED = (1, 1.5, 2, 3, 4), 8
SCALES = (2, 4, 8)


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


def ways(scale: int, cost: dict[float, float]) -> dict[str, float]:
    """{way to a picture `scale` times larger: its cost for each step}, in calls of the first size."""
    sizes = [width / SIDE for width, _ in plan(SIDE, SIDE, scale)]
    # DemoFusion's phases are all whole scales: crops of the first size that overlap by half, and dilated sub-grids.
    crops = sum((2 * s - 1) ** 2 + s**2 for s in range(2, scale + 1))
    return {
        "mixing": sum(cost[size] for size in sizes),
        "hires fix, ComfyUI nodes": cost[scale],
        "DemoFusion": float(crops),
    }


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
    cost = {scale: count / one for scale, count in counts.items()}
    table = {scale: ways(scale, cost) for scale in SCALES}
    names = list(table[SCALES[0]])
    print(f"\nCost of a step over all phases, in calls at {SIDE} px:")
    print(f"| | {' | '.join(names)} |\n{'|---' * (1 + len(names))}|")
    for scale, of_way in table.items():
        print(f"| {scale}x | {' | '.join(f'{of_way[name]:.0f}' for name in names)} |")
    if options.out:
        facts.write(options.out, operations=counts, a=a, b=b, ways=table)


if __name__ == "__main__":
    main()
