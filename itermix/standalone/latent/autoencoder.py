"""The autoencoder of the small latent model: 8 pixels to a latent pixel, 4 channels, as Stable Diffusion 1 has it.

No convolution works at full size: pixels are folded into channels at both ends, which costs a third. No normalisation
looks beyond its pixel, so a picture of any size is coded as its parts would be; those over groups of channels take away
colours and contrast where channels are few.

The class offers what Stable Diffusion's own WebUIs ask of a first stage, so that a checkpoint may name it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FACTOR = 8
"""Pixels to a latent pixel."""

CHANNELS = 4
"""Of a latent."""

ENCODER = (32, 64, 128)
DECODER = (128, 80, 48)
"""Channels at 1/2, 1/4 and 1/8 of the size, and back."""


class Block(nn.Module):
    """x + two 3x3 convolutions; starts as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x * self.scale + self.shift))))


class Autoencoder(nn.Module):
    """Pictures [N, 3, H, W] in [-1, 1] to latents [N, 4, H / 8, W / 8] and back; H and W are multiples of 8."""

    def __init__(self, **unused: object) -> None:
        """`unused` is what a WebUI's description of a checkpoint says beside."""
        super().__init__()
        half, quarter, eighth = ENCODER
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, half, 3, padding=1),
            Block(half),
            nn.Conv2d(half, quarter, 3, stride=2, padding=1),
            Block(quarter),
            Block(quarter),
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),
            Block(eighth),
            Block(eighth),
            nn.SiLU(),
        )
        self.quant_conv = nn.Conv2d(eighth, CHANNELS, 1)
        eighth, quarter, half = DECODER
        self.post_quant_conv = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(CHANNELS, eighth, 3, padding=1),
            Block(eighth),
            Block(eighth),
            Block(eighth),
            nn.Conv2d(eighth, 4 * quarter, 1),
            nn.PixelShuffle(2),
            Block(quarter),
            Block(quarter),
            nn.Conv2d(quarter, 4 * half, 1),
            nn.PixelShuffle(2),
            Block(half),
            Block(half),
            nn.SiLU(),
            nn.Conv2d(half, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    @property
    def dtype(self) -> torch.dtype:
        return self.quant_conv.weight.dtype

    def encode(self, x: Tensor) -> Tensor:
        """Latents [N, 4, H / 8, W / 8] of pictures; the same picture gives the same latent, always."""
        return self.quant_conv(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] of latents [N, 4, H / 8, W / 8], not clamped."""
        return self.decoder(self.post_quant_conv(z))
