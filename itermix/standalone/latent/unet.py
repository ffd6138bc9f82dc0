"""The U-Net of the small latent model: the layers of Stable Diffusion 1's, fewer and narrower.

Names of weights are those of the `openaimodel.UNetModel` that WebUIs load, with the options of `CONFIG`; so these
weights are a checkpoint of Stable Diffusion 1, with a description of its own, and give the same numbers there.
Layers follow Rombach et al. (2022, arXiv 2112.10752) and Dhariwal and Nichol (2021, arXiv 2105.05233).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONFIG: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "channel_mult": [1, 2, 3],
    "num_res_blocks": [2, 1, 1],
    "attention_resolutions": [4],
    "num_heads": 4,
    "context_dim": 64,
}
"""In the words of WebUIs: resolutions are by how much a level is smaller than the latent."""

GROUPS = 32
MULTIPLE = 4
"""Sides of latents must be multiples of this."""


def zeroed(layer: nn.Module) -> nn.Module:
    """Start a layer at zero, so that its block starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def timestep_embedding(timesteps: Tensor, channels: int) -> Tensor:
    """Cosines and sines [N, channels] of timesteps [N], which may lie between whole ones."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=timesteps.device) / half)
    angles = timesteps[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Two convolutions, with the embedding of the timestep added between them."""

    def __init__(self, channels: int, embedding: int, out: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out))
        last = zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, out), nn.SiLU(), nn.Dropout(0.0), last)
        self.skip_connection = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, y in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GatedLinear(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 4 * channels
        self.net = nn.Sequential(GatedLinear(channels, inner), nn.Dropout(0.0), nn.Linear(inner, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(channels, channels, heads)
        self.ff = FeedForward(channels)
        self.attn2 = Attention(channels, context, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Attention between all places of a feature map, and from them to the prompt."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context, heads)])
        self.proj_out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        h = self.proj_in(self.norm(x))
        places = h.flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            places = block(places, context)
        return x + self.proj_out(places.transpose(1, 2).reshape(h.shape))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class First(nn.Conv2d):
    """The first convolution, in the place of a block."""

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class Blocks(nn.Sequential):
    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        for block in self:
            x = block(x, embedding, context)
        return x


class UNet(nn.Module):
    """The noise in latents."""

    def __init__(self) -> None:
        super().__init__()
        channels, widths = CONFIG["model_channels"], [CONFIG["model_channels"] * m for m in CONFIG["channel_mult"]]
        self.channels = channels
        counts, attended = CONFIG["num_res_blocks"], CONFIG["attention_resolutions"]
        embedding = 4 * channels
        self.time_embed = nn.Sequential(nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding))

        def attention(width: int) -> SpatialTransformer:
            return SpatialTransformer(width, CONFIG["context_dim"], CONFIG["num_heads"])

        self.input_blocks = nn.ModuleList([Blocks(First(CONFIG["in_channels"], channels, 3, padding=1))])
        width, skips = channels, [channels]
        for level, (wanted, count) in enumerate(zip(widths, counts)):
            for _ in range(count):
                blocks: list[nn.Module] = [ResBlock(width, embedding, wanted)]
                width = wanted
                if 2**level in attended:
                    blocks.append(attention(width))
                self.input_blocks.append(Blocks(*blocks))
                skips.append(width)
            if level + 1 < len(widths):
                self.input_blocks.append(Blocks(Downsample(width)))
                skips.append(width)
        self.middle_block = Blocks(
            ResBlock(width, embedding, width), attention(width), ResBlock(width, embedding, width)
        )
        self.output_blocks = nn.ModuleList()
        for level, (wanted, count) in reversed(list(enumerate(zip(widths, counts)))):
            for index in range(count + 1):
                blocks = [ResBlock(width + skips.pop(), embedding, wanted)]
                width = wanted
                if 2**level in attended:
                    blocks.append(attention(width))
                if level and index == count:
                    blocks.append(Upsample(width))
                self.output_blocks.append(Blocks(*blocks))
        last = zeroed(nn.Conv2d(width, CONFIG["out_channels"], 3, padding=1))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, width), nn.SiLU(), last)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """The noise [N, 4, H, W] in latents of deviation 1, x [N, 4, H, W], at timesteps [N] of 0 to 999.

        `context` [N, tokens, 64] is the encoded prompt. H and W are multiples of `MULTIPLE`.
        """
        embedding = self.time_embed(timestep_embedding(timesteps, self.channels).to(x.dtype))
        h, kept = x, []
        for block in self.input_blocks:
            h = block(h, embedding, context)
            kept.append(h)
        h = self.middle_block(h, embedding, context)
        for block in self.output_blocks:
            h = block(torch.cat([h, kept.pop()], dim=1), embedding, context)
        return self.out(h)
