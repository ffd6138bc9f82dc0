"""What a model call needs at its peak, of the whole picture and with the automatic window, on the CPU.

    python benchmarks/tile_memory.py --out benchmarks/results/tiles.json
    python benchmarks/tile_memory.py --network sd15 --scales 1 2 4      # needs diffusers, 8 GB and most of an hour

The latent model's U-Net, which knows 256 px; or a network of Stable Diffusion 1.5's size with random weights, which
knows 512 px. Each call in a process of its own, whose peak of resident memory is taken above what it had once the
network was loaded and had made a picture of the size that it knows. Time as a ratio to that of 1x, in the same process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import facts
import torch

from itermix.model.windows import Windows
from itermix.parameters import Known
from itermix.settings import Settings
from itermix.standalone.latent import model

Call = Callable[[torch.Tensor], torch.Tensor]
"""Of a network, at any noise level: [B, 4, h, w] in latent pixels, and the same out of it."""


def peak() -> float:
    """MB of resident memory at the most until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def latent_model() -> tuple[Call, int]:
    """What calls the latent model's network, and the side that it knows, in latent pixels."""
    latent = model.load()
    text = latent.text.encode([""])

    def call(x: torch.Tensor) -> torch.Tensor:
        sigma = torch.ones(len(x))
        return latent.denoiser(x, sigma, label=text.expand(len(x), *text.shape[1:]), cfg=1.0)

    return call, latent.space().known


def sd15() -> tuple[Call, int]:
    """The same of a network of Stable Diffusion 1.5's size, whose weights are random."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        network: Any = UNet2DConditionModel(cross_attention_dim=768)
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.02)

    def call(x: torch.Tensor) -> torch.Tensor:
        return network(x, torch.ones(len(x)), encoder_hidden_states=torch.zeros(len(x), 77, 768)).sample

    return call, 64


NETWORKS = {"latent": latent_model, "sd15": sd15}


def measured(network: str, scale: int, auto: bool) -> dict[str, Any]:
    """{"mb": more than at first, "time": in calls of 1x} of one call for a picture `scale` times larger."""
    torch.set_num_threads(1)
    call, side = NETWORKS[network]()
    settings = Settings(window_auto=auto).of_model((8 * side * scale,) * 2, Known(side))
    with torch.no_grad():
        small = torch.randn(1, 4, side, side)
        call(small)
        began = time.perf_counter()
        call(small)
        one = time.perf_counter() - began
        before = peak()
        x = torch.randn(1, 4, side * scale, side * scale)
        began = time.perf_counter()
        Windows(settings).put_together(lambda shown, parts: call(shown), x) if settings.window else call(x)
        return {"mb": peak() - before, "time": (time.perf_counter() - began) / one}


def line(row: Mapping[str, Any]) -> str:
    """Of the table."""
    cells = [f"{row[way]['mb']:.0f} MB | {row[way]['time']:.1f}" for way in ("whole", "tiles")]
    return f"| {row['scale']}x | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--network", choices=NETWORKS, default="latent")
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    rows = []
    print("| scale | whole: extra memory | time | automatic window: extra memory | time |\n|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for scale in options.scales:
            whole, tiles = (pool.apply(measured, (options.network, scale, auto)) for auto in (False, True))
            rows.append({"scale": scale, "whole": whole, "tiles": tiles})
            print(line(rows[-1]), flush=True)
    if options.out:
        facts.write(options.out, rows=rows)


if __name__ == "__main__":
    main()
