"""Make the picture of docs/deep-shrink.md: python tools/make_deep_shrink.py"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from itermix.model.deep_shrink import DeepShrink, attached
from itermix.settings import Settings

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "deep-shrink.png"
SIDE = 128  # of the latent of a picture of 1024 pixels
SMALLER, LARGER = (3, 6, 9), (2, 5, 8)  # input and output blocks of Stable Diffusion 1 that halve and double the size


class Skeleton(nn.Module):
    """The sizes of Stable Diffusion 1's U-Net, and nothing else of it."""

    def __init__(self) -> None:
        super().__init__()
        self.input_blocks = nn.ModuleList(nn.AvgPool2d(2) if k in SMALLER else nn.Identity() for k in range(12))
        self.middle_block = nn.Identity()
        self.output_blocks = nn.ModuleList(
            nn.Upsample(scale_factor=2) if k in LARGER else nn.Identity() for k in range(12)
        )

    def forward(self, h: Tensor) -> list[int]:
        """The width of the features that each block gives, in their order; h [1, 1, H, W]."""
        skips, widths = [], []
        for block in self.input_blocks:
            h = block(h)
            skips.append(h)
            widths.append(h.shape[-1])
        h = self.middle_block(h)
        for block in self.output_blocks:
            skip = skips.pop()
            widths.append(h.shape[-1])
            assert h.shape == skip.shape
            h = block(torch.maximum(h, skip))
        return [*widths, h.shape[-1]]


def main() -> None:
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for label, shrinks in (("off", False), ("in the steps where it acts", True)):
        unet, shrink = Skeleton(), DeepShrink(Settings(deep_shrink=0.35, deep_shrink_factor=2.0))
        shrink.active = True
        with attached(unet, shrink) if shrinks else nullcontext():
            axes.step(range(25), unet(torch.zeros(1, 1, SIDE, SIDE)), where="mid", label=label, linewidth=2)
    axes.set_yscale("log", base=2)
    axes.set_yticks([8, 16, 32, 64, 128], ["8", "16", "32", "64", "128"])
    axes.set(xlabel="input blocks 0 to 11, middle, output blocks 0 to 11", ylabel="width of the features")
    axes.set_title("Deep Shrink of factor 2 after block 3, in Stable Diffusion 1 at 1024 pixels", fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()
