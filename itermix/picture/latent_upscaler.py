"""The network of NNLatentUpscale (Ttl, github.com/Ttl/ComfyUi_NNLatentUpscale), which enlarges latents.

Residual convolutions at the size of the input, a bilinear interpolation of their features, and more at the size of the
output, all told the scale. It was trained to give what enlarging the picture would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itermix.parameters import Part, parameter


@dataclass(frozen=True, init=False)
class LatentUpscalerSettings(Part):
    """Whether a network enlarges the latent."""

    nn_upscaler: bool = parameter(
        False,
        "NN latent upscaler",
        "Enlarge by the network of NNLatentUpscale in every phase, in the place of hires fix's upscaler. Its weights "
        "are to be put into the folder models/itermix; docs/latent-upscaler.md tells which and from where. The "
        "upscale script has it among its upscalers.",
        "NN upscaler",
        "Hires pass",
        needs=({"tab": ("txt2img",)},),
    )


MAX_SCALE = 2.0
"""Of one call: what the network was trained for."""

TRAINED_SCALE = 0.13025
"""What it was trained with times the autoencoder's own latents, whichever the autoencoder."""

GROUPS = 32
EMBEDDING = 32


class Residual(nn.Module):
    """Two normalised 3x3 convolutions; the embedding of the scale is added in between."""

    def __init__(self, channels: int):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(EMBEDDING, channels))
        # The identity stands where training had its dropout, for the names of the weights.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Identity(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return x + self.out_layers(self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None])


class Attention(nn.Module):
    """Self-attention of one head over all positions; the scale has no part in it."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(h)


class LatentUpscaler(nn.Module):
    """The network of a state dict: width, number of blocks and places of the attention are read from it.

    Raises:
        ValueError: a state dict of another network.
    """

    def __init__(self, state: Mapping[str, Tensor]):
        super().__init__()
        try:
            channels, latent_channels = state["conv_in.weight"].shape[:2]
            self.conv_in = nn.Conv2d(latent_channels, channels, 3, padding=1)
            self.embed = nn.Sequential(nn.Linear(1, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
            self.in_blocks = blocks(state, "in_blocks", channels)
            self.out_blocks = blocks(state, "out_blocks", channels)
            self.norm_out = nn.GroupNorm(GROUPS, channels)
            self.conv_out = nn.Conv2d(channels, latent_channels, 3, padding=1)
            self.load_state_dict(state)
        except (KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise ValueError("these are not the weights of a latent upscaler") from error
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Latents [B, C, h, w] times `TRAINED_SCALE` to [B, C, *size]; `size` is (height, width) of the latents.

        Raises:
            ValueError: a size below that of x, or more than one latent pixel beyond `MAX_SCALE` times it.
        """
        if not all(before <= after <= MAX_SCALE * before + 1 for before, after in zip(x.shape[-2:], size)):
            raise ValueError(f"from {tuple(x.shape[-2:])} to {size} is not 1 to {MAX_SCALE:g} times the size")
        if size == tuple(x.shape[-2:]):
            return x
        embedding = self.embed(torch.full((1, 1), size[1] / x.shape[-1] - 1).to(x))
        h = self.conv_in(x)
        for block in self.in_blocks:
            h = block(h, embedding)
        h = F.interpolate(h, size=size, mode="bilinear")
        for block in self.out_blocks:
            h = block(h, embedding)
        return self.conv_out(F.silu(self.norm_out(h)))


def blocks(state: Mapping[str, Tensor], part: str, channels: int) -> nn.ModuleList:
    """The blocks of one part, each of the kind that its weights' names tell."""
    count = 1 + max(int(name.split(".")[1]) for name in state if name.startswith(f"{part}."))
    kinds = (Attention if f"{part}.{k}.q.weight" in state else Residual for k in range(count))
    return nn.ModuleList(kind(channels) for kind in kinds)


def enlarged(network: LatentUpscaler, latents: Tensor, size: tuple[int, int], factor: float) -> Tensor:
    """Latents [B, C, h, w] enlarged to `size` (height, width).

    Args:
        network: for their kind of model.
        latents: as that model's U-Net gets them.
        size: (height, width), 1 to `MAX_SCALE` times theirs.
        factor: what the model multiplies the autoencoder's latents by.
    """
    scale = TRAINED_SCALE / factor
    return network(latents.float() * scale, size).to(latents) / scale
