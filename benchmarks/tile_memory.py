"""What a model call needs at its peak, of the whole picture and with the automatic window, on the CPU.

    python benchmarks/tile_memory.py --out benchmarks/results/tiles.json

The latent model's U-Net, which knows 256 px; each call in a process of its own, whose peak of resident memory is taken
above what it had once the network was loaded and had made a picture of 256 px. Time as a ratio to that of 1x, in the
same process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import facts
import torch

from itermix.model.windows import Windows
from itermix.parameters import Known
from itermix.settings import Settings
from itermix.standalone.latent import model

SCALES = (1, 2, 4, 8)


def peak() -> float:
    """MB of resident memory at the most until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(scale: int, auto: bool) -> dict[str, Any]:
    """{"mb": more than at first, "time": in calls of 1x} of one call for a picture `scale` times larger."""
    torch.set_num_threads(1)
    latent = model.load()
    side = latent.space().known
    text = latent.text.encode([""])
    settings = Settings(window_auto=auto).of_model((8 * side * scale,) * 2, Known(side))

    def call(x: torch.Tensor) -> torch.Tensor:
        sigma = torch.ones(len(x))
        return latent.denoiser(x, sigma, label=text.expand(len(x), *text.shape[1:]), cfg=1.0)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    rows = []
    print("| scale | whole: extra memory | time | automatic window: extra memory | time |\n|---|---|---|---|---|")
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for scale in SCALES:
            whole, tiles = (pool.apply(measured, (scale, auto)) for auto in (False, True))
            rows.append({"scale": scale, "whole": whole, "tiles": tiles})
            cells = [f"{way['mb']:.0f} MB | {way['time']:.1f}" for way in (whole, tiles)]
            print(f"| {scale}x | {' | '.join(cells)} |", flush=True)
    if options.out:
        facts.write(options.out, rows=rows)


if __name__ == "__main__":
    main()
