"""Make the picture of docs/latent-upscaler.md, and print its numbers: python tools/make_latent_upscaler.py

The published weights are not part of this project. So a small network of the same kind is trained here, in a few
minutes, on the built-in model's procedural pictures, whose three channels stand for a latent's.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import trange

from itermix.picture.latent_upscaler import EMBEDDING, LatentUpscaler
from itermix.standalone.pictures import render, sample_scenes
from itermix.standalone.sheets import Block, Row, contact_sheet

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "latent-upscaler.png"
SIDE = 32
CHANNELS, BLOCKS, LATENT_CHANNELS = 64, 1, 3
STEPS, BATCH = 800, 8
RATE = 2e-3  # at its highest
SHOWN, MEASURED = 6, 64


def initial_weights() -> dict[str, Tensor]:
    """Random weights under the names of the published files."""
    state: dict[str, Tensor] = {}

    def layer(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = torch.randn(shape) / math.prod(shape[1:]) ** 0.5
        state[f"{name}.bias"] = torch.zeros(shape[0])

    def norm(name: str) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.ones(CHANNELS), torch.zeros(CHANNELS)

    layer("conv_in", CHANNELS, LATENT_CHANNELS, 3, 3)
    layer("embed.0", EMBEDDING, 1)
    layer("embed.2", EMBEDDING, EMBEDDING)
    for block in [f"{part}.{k}" for part in ("in_blocks", "out_blocks") for k in range(BLOCKS)]:
        norm(f"{block}.in_layers.0")
        layer(f"{block}.in_layers.2", CHANNELS, CHANNELS, 3, 3)
        layer(f"{block}.emb_layers.1", CHANNELS, EMBEDDING)
        norm(f"{block}.out_layers.0")
        layer(f"{block}.out_layers.3", CHANNELS, CHANNELS, 3, 3)
    norm("norm_out")
    layer("conv_out", LATENT_CHANNELS, CHANNELS, 3, 3)
    return state


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures [N, 3, 32, 32] in [-1, 1], and the same rendered at twice the size."""
    scenes = sample_scenes(count, torch.Generator().manual_seed(seed))
    return render(scenes, SIDE), render(scenes, 2 * SIDE)


def trained() -> LatentUpscaler:
    """A network that has learned to enlarge the procedural pictures 2 times."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LatentUpscaler(initial_weights()).requires_grad_(True)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for step in trange(STEPS):
        small, large = pairs(BATCH, seed=1000 + step)
        loss = F.l1_loss(network(small, (2 * SIDE, 2 * SIDE)), large)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.requires_grad_(False)


def main() -> None:
    network = trained()
    small, large = pairs(MEASURED, seed=0)
    size = (2 * SIDE, 2 * SIDE)
    made = {mode: F.interpolate(small, size, mode=mode) for mode in ("nearest-exact", "bilinear", "bicubic")}
    made["network"] = network(small, size)
    rows = [Row("small", small[:SHOWN])]
    for name, pictures in made.items():
        # Pictures are in [-1, 1], so the range is 2.
        psnr = 10 * math.log10(4 / float((pictures - large).square().mean()))
        print(f"{name:14} PSNR {psnr:.1f} dB")
        rows.append(Row(name, pictures[:SHOWN], f"PSNR {psnr:.1f} dB"))
    rows.append(Row("rendered", large[:SHOWN]))
    contact_sheet([Block("32 to 64 px, one step of enlarging, nothing sampled", rows)], columns=1).save(PICTURE)


if __name__ == "__main__":
    main()
