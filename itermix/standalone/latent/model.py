"""The small latent model, ready to sample with: its networks, its noise levels and classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from itermix.standalone.latent.autoencoder import CHANNELS, FACTOR, Autoencoder
from itermix.standalone.latent.text import TextEncoder
from itermix.standalone.latent.unet import MULTIPLE, UNet
from itermix.standalone.upscaling import Space

SIZE = 256
"""Side of the pictures that the model was trained with, in pixels."""

SCALE_FACTOR = 0.18215
"""Of Stable Diffusion 1: an encoding times this is a latent of deviation 1."""

BETAS = (0.00085, 0.012)
TIMESTEPS = 1000

UNET_PREFIX, AUTOENCODER_PREFIX = "model.diffusion_model.", "first_stage_model."
WEIGHTS = Path(__file__).with_name("weights.safetensors")


def training_sigmas() -> Tensor:
    """[1000] noise levels of the model's timesteps, rising: Stable Diffusion's scaled linear schedule."""
    betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, TIMESTEPS, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    return ((1 - alphas) / alphas).sqrt().float()


class Denoiser(nn.Module):
    """D(x; sigma) with classifier-free guidance, as a model for the samplers of k-diffusion."""

    sigmas: Tensor
    empty: Tensor

    def __init__(self, unet: UNet, empty: Tensor) -> None:
        """`empty` [1, tokens, width] is the encoding of no prompt."""
        super().__init__()
        self.unet = unet
        self.register_buffer("sigmas", training_sigmas(), persistent=False)
        self.register_buffer("empty", empty, persistent=False)

    def timestep(self, sigma: Tensor) -> Tensor:
        """Timesteps [N] of noise levels [N], between whole ones along the logarithm, as k-diffusion takes them."""
        known, wanted = self.sigmas.log(), sigma.log()
        above = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
        low, high = known[above - 1], known[above]
        return above - 1 + ((wanted - low) / (high - low)).clamp(0, 1)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor, cfg: float = 1.0) -> Tensor:
        """Denoised latents [N, 4, H, W] of x [N, 4, H, W] with noise levels sigma [N].

        `label` are encoded prompts [N, tokens, width]; `cfg` of 1 is the plain conditional model, at half the cost.
        """
        level = sigma[:, None, None, None]
        scaled, timestep = x / (level**2 + 1).sqrt(), self.timestep(sigma)
        if cfg == 1.0:
            noise = self.unet(scaled, timestep, label)
        else:
            labels = torch.cat((label, self.empty.expand(len(x), -1, -1)))
            both = self.unet(scaled.repeat(2, 1, 1, 1), timestep.repeat(2), labels)
            conditional, unconditional = both.chunk(2)
            noise = unconditional + cfg * (conditional - unconditional)
        return x - level * noise


@dataclass(frozen=True)
class LatentModel:
    """The networks, on the CPU, in single precision."""

    denoiser: Denoiser
    autoencoder: Autoencoder
    text: TextEncoder

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents [N, 4, H / 8, W / 8] of pictures [N, 3, H, W] in [-1, 1]."""
        return SCALE_FACTOR * self.autoencoder.encode(pictures)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] of latents [N, 4, H / 8, W / 8], not clamped."""
        return self.autoencoder.decode(latents / SCALE_FACTOR)

    def space(self) -> Space:
        """What `itermix.standalone.upscaling` is to know of it."""
        low, high = self.denoiser.sigmas[[0, -1]].tolist()
        return Space(
            FACTOR,
            FACTOR * MULTIPLE,
            low,
            high,
            CHANNELS,
            SIZE // FACTOR,
            lambda labels: self.denoiser.empty.expand_as(labels),
            self.encode,
            self.decode,
        )


def load(file: Path = WEIGHTS) -> LatentModel:
    """The trained model; weights are kept in half precision."""
    weights = {name: tensor.float() for name, tensor in load_file(file).items()}

    def filled(network: nn.Module, prefix: str) -> None:
        network.load_state_dict({n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)})
        network.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    unet, autoencoder, encoder = UNet(), Autoencoder(), TextEncoder()
    filled(unet, UNET_PREFIX)
    filled(autoencoder, AUTOENCODER_PREFIX)
    return LatentModel(Denoiser(unet, encoder.encode([""])), autoencoder, encoder)
