"""The built-in denoiser: a small class-conditional U-Net in pixel space with the preconditioning of EDM.

Preconditioning and noise levels follow Karras et al., "Elucidating the Design Space of Diffusion-Based Generative
Models" (2022), table 1; guidance follows Ho and Salimans, "Classifier-Free Diffusion Guidance" (2022).
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from itermix.standalone.pictures import HAT_NAMES

SIGMA_DATA = 0.5
SIGMA_MIN, SIGMA_MAX = 0.03, 15.0
"""Range of noise levels to sample with."""

RESOLUTION = 32
"""Side of the pictures the network was trained on, in pixels."""

MULTIPLE = 4
"""Sides of pictures must be multiples of this."""

CROP = len(HAT_NAMES)
"""Label of close-up views, which teach crisp texture without a whole face."""

NULL = CROP + 1
"""Label of "anything", the unconditional model of classifier-free guidance."""

LABELS = NULL + 1

WEIGHTS = Path(__file__).with_name("weights") / "denoiser.safetensors"


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Start a layer at zero, so that its block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose second normalisation is scaled and shifted by the embedding."""

    def __init__(self, channels_in: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = zeroed(nn.Conv2d(channels, channels, 3, padding=1))
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over all positions of a feature map, without position encoding."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        h_out = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(n, c, h, w)
        return x + self.out(h_out)


class UNet(nn.Module):
    """Three levels (full, half and quarter resolution) with self-attention at the lowest."""

    frequencies: Tensor

    def __init__(
        self,
        channels: tuple[int, int, int] = (24, 64, 128),
        blocks: int = 3,
        embedding: int = 128,
        frequencies: int = 16,
    ) -> None:
        super().__init__()
        top, middle, bottom = channels
        self.register_buffer("frequencies", 2 ** torch.linspace(-2, 3, frequencies), persistent=False)
        self.noise1 = nn.Linear(2 * frequencies, embedding)
        self.noise2 = nn.Linear(embedding, embedding)
        self.label = nn.Embedding(LABELS, embedding)
        self.stem = nn.Conv2d(3, top, 3, padding=1)
        self.down1 = ResidualBlock(top, top, embedding)
        self.shrink1 = nn.Conv2d(top, middle, 3, stride=2, padding=1)
        self.down2 = ResidualBlock(middle, middle, embedding)
        self.shrink2 = nn.Conv2d(middle, bottom, 3, stride=2, padding=1)
        self.bottom = nn.ModuleList(ResidualBlock(bottom, bottom, embedding) for _ in range(blocks))
        self.attention = nn.ModuleList(Attention(bottom) for _ in range(blocks))
        self.grow2 = nn.Conv2d(bottom, middle, 1)
        self.up2 = ResidualBlock(2 * middle, middle, embedding)
        self.grow1 = nn.Conv2d(middle, top, 1)
        self.up1 = ResidualBlock(2 * top, top, embedding)
        self.norm = nn.GroupNorm(8, top)
        self.out = zeroed(nn.Conv2d(top, 3, 3, padding=1))

    def forward(self, x: Tensor, noise: Tensor, label: Tensor) -> Tensor:
        """x [N, 3, H, W] of unit variance, noise [N] (a function of log sigma), label [N] to [N, 3, H, W]."""
        angles = 2 * math.pi * noise[:, None] * self.frequencies
        embedding = self.noise2(F.silu(self.noise1(torch.cat((angles.sin(), angles.cos()), dim=1))))
        embedding = F.silu(embedding + self.label(label))
        skip1 = self.down1(self.stem(x), embedding)
        skip2 = self.down2(self.shrink1(skip1), embedding)
        h = self.shrink2(skip2)
        for block, attention in zip(self.bottom, self.attention, strict=True):
            h = attention(block(h, embedding))
        h = F.interpolate(self.grow2(h), scale_factor=2.0, mode="nearest")
        h = self.up2(torch.cat((h, skip2), dim=1), embedding)
        h = F.interpolate(self.grow1(h), scale_factor=2.0, mode="nearest")
        h = self.up1(torch.cat((h, skip1), dim=1), embedding)
        return self.out(F.silu(self.norm(h)))


class Denoiser(nn.Module):
    """D(x; sigma): the preconditioned network, an estimate of the clean picture."""

    def __init__(self, network: UNet | None = None) -> None:
        super().__init__()
        self.network = UNet() if network is None else network

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """x [N, 3, H, W] with noise of standard deviation sigma [N], label [N] int64 to denoised [N, 3, H, W]."""
        s = sigma[:, None, None, None]
        total = s**2 + SIGMA_DATA**2
        c_skip = SIGMA_DATA**2 / total
        c_out = s * SIGMA_DATA / total.sqrt()
        c_in = 1 / total.sqrt()
        return c_skip * x + c_out * self.network(c_in * x, sigma.log() / 4, label)


class Guided(nn.Module):
    """Classifier-free guidance around a denoiser, as a model for the samplers of k-diffusion."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor, cfg: float = 1.0) -> Tensor:
        """x [N, 3, H, W], sigma [N], label [N] to denoised [N, 3, H, W]; `cfg` of 1 is the plain conditional model."""
        if cfg == 1.0:
            return self.denoiser(x, sigma, label)
        labels = torch.cat((label, torch.full_like(label, NULL)))
        conditional, unconditional = self.denoiser(x.repeat(2, 1, 1, 1), sigma.repeat(2), labels).chunk(2)
        return unconditional + cfg * (conditional - unconditional)


def load(path: str | Path = WEIGHTS) -> Denoiser:
    """The trained denoiser on the CPU, ready to sample with; the weights are stored in fp16 and computed in fp32."""
    denoiser = Denoiser()
    denoiser.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return denoiser.to(memory_format=torch.channels_last).eval().requires_grad_(False)
