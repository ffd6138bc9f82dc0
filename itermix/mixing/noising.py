"""The noised source z' at any noise level, computed when it is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from itermix.parameters import MAX_SEED, Part, SettingsError, parameter
from itermix.steps.parametrisation import Parametrisation, ve

DRAWN_NOISES = ("shared", "independent", "cumulative")
INVERTED = "inverted"
NOISES = (*DRAWN_NOISES, INVERTED)

LATER_DRAWS, DRAWS = 2_000_000, 20_000
"""Numbers of draws of noise: of the passes after the first, and from one to the next. Those of the first are below."""


@dataclass(frozen=True, init=False)
class NoiseSettings(Part):
    """The noise of the source."""

    noise: str = parameter(
        "shared",
        "Noise",
        "How the noises of the steps are related. shared: one draw for all steps (DemoFusion). independent: a new draw "
        "each step (ComfyUI node). cumulative: noise added step by step, as in the forward process of latent "
        "diffusion. inverted: none is drawn, but the noise from which the model itself would make the source is looked "
        "for, which takes one more model call for each step.",
        "noise",
        "Noise",
        choices=NOISES,
    )
    seed: int = parameter(
        -1,
        "Noise seed",
        "Seed of the noise that the source gets; image k of a batch uses seed + k. -1: the picture's own.",
        "seed",
        "Noise",
        low=-1,
        high=MAX_SEED,
        step=1,
    )
    normalize_fraction: float = parameter(
        0.0,
        "Normalize fraction",
        "Take the mean of this share of the noised sequence, its noisiest end, off the whole sequence. 0: off.",
        "normalize fraction",
        "Noise",
        low=0.0,
        high=1.0,
        step=0.05,
    )


def draw(out: Tensor, seeds: Sequence[int], step: int) -> Tensor:
    """Fill `out` [B, ...] with unit normal noise, image k from `seeds[k]` and `step` alone.

    Drawn on the CPU from generators of its own: equal on every device and in every batch, and no other generator moves.
    """
    for image, seed in zip(out, seeds):
        mixed = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(mixed[0]) >> 1)  # torch takes 63 bits everywhere
        image.copy_(torch.randn(image.shape, generator=generator))
    return out


def first_draw(number: int) -> int:
    """Number of the first draw of noise in pass `number` of a run, so that each has fresh noise."""
    return LATER_DRAWS + number * DRAWS if number else 0


class NoisedSource(ABC):
    """z' at any step of a sampler.

    Attributes:
        latent: z0, [B, C, H, W].
        parametrisation: of the levels.
    """

    def __init__(self, latent: Tensor, parametrisation: Parametrisation):
        self.latent = latent
        self.parametrisation = parametrisation
        self._bias: Tensor | None = None
        self._buffer: Tensor | None = None

    def at(self, step: int, level: Tensor, out: Tensor | None = None) -> Tensor:
        """z' at `level` (0-dim tensor), for sampler step `step`; at step 0 the noise is the start noise.

        Returns `out` [B, C, H, W] or, without it, a contiguous buffer that the next call overwrites; the caller may use
        it as scratch space.
        """
        if out is None:
            if self._buffer is None:  # contiguous, as filters want it
                self._buffer = torch.empty_like(self.latent, memory_format=torch.contiguous_format)
            out = self._buffer
        self._fill(step, level, out)
        return out if self._bias is None else out.sub_(self._bias)

    @abstractmethod
    def _fill(self, step: int, level: Tensor, out: Tensor) -> None:
        """Put z' of a step into `out` [B, C, H, W]."""

    def normalize(self, levels: Tensor, fraction: float) -> None:
        """Take each image's mean over the noisiest `fraction` of `levels` [n] off every z'; 0 does nothing.

        normalize_fraction of the ComfyUI pack's Batch Unsampler, meant against a bias of the noisiest latents.
        """
        count = round(fraction * len(levels))
        if count:
            means = [self.at(step, levels[step]).mean(dim=(1, 2, 3), keepdim=True) for step in range(count)]
            self._bias = torch.stack(means).mean(dim=0)


class NoisedLatents(NoisedSource):
    """z' of a latent at any step, in two latents of memory however many steps there are.

    kind "shared": one draw e per image for all levels (DemoFusion's code).
    kind "independent": a new draw for every step (the ComfyUI Iterative Mixing node).
    kind "cumulative": the forward Markov chain q(z_t | z_t-1) of latent diffusion (arXiv 2112.10752), in which the
    noise of a level is that of the next cleaner one plus an increment. From the noisy end it is the same chain walked
    backwards: with r the quotient of the two levels' noise-to-signal ratios, e <- r e + sqrt(1 - r^2) n. So only e is
    kept.
    """

    def __init__(
        self,
        latent: Tensor,
        parametrisation: Parametrisation | None = None,
        kind: str = "shared",
        noise: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        first_draw: int = 0,
    ):
        """
        Args:
            latent: z0, [B, C, H, W].
            parametrisation: default `ve()`.
            kind: "shared", "independent" or "cumulative".
            noise: unit noise of the first step (of all steps when shared), shape of `latent`; None: from `seeds`.
            seeds: one per image; default 0, 1, 2, ...
            first_draw: number of the draw for step 0; another one is other noise.

        Raises:
            SettingsError: unknown kind, `noise` of another shape, or not one seed per image.
        """
        if kind not in DRAWN_NOISES:
            raise SettingsError("noise", kind, f"Allowed: {', '.join(DRAWN_NOISES)}.")
        if noise is not None and noise.shape != latent.shape:
            raise SettingsError("noise", tuple(noise.shape), f"Allowed: the latent's shape, {tuple(latent.shape)}.")
        seeds = list(range(len(latent))) if seeds is None else list(seeds)
        if len(seeds) != len(latent):
            raise SettingsError("seeds", seeds, f"Allowed: one per image, which is {len(latent)}.")
        super().__init__(latent, parametrisation or ve())
        self.kind = kind
        self.seeds = seeds
        self._first_draw = first_draw
        self._noise = draw(torch.empty_like(latent), seeds, first_draw) if noise is None else noise.to(latent)
        if kind == "cumulative":
            self._noise = self._noise.clone()  # it changes from level to level, the caller's must not
        self._ratio: Tensor | None = None  # noise-to-signal ratio of the level that a cumulative `_noise` belongs to

    def _fill(self, step: int, level: Tensor, out: Tensor) -> None:
        signal, amount = (a.to(self.latent) for a in self.parametrisation.amounts(level))
        torch.mul(self._unit_noise(step, amount / signal, out), amount, out=out)
        out.addcmul_(self.latent, signal)

    def _unit_noise(self, step: int, ratio: Tensor, scratch: Tensor) -> Tensor:
        """e of a step, of unit variance; `ratio` is noise / signal at its level."""
        if self.kind == "independent" and step > 0:
            return draw(scratch, self.seeds, self._first_draw + step)
        if self.kind == "cumulative":
            if self._ratio is not None:
                low, high = torch.minimum(ratio, self._ratio), torch.maximum(ratio, self._ratio)
                kept = torch.where(low == high, 1.0, low / high)
                self._noise.mul_(kept).addcmul_(
                    draw(scratch, self.seeds, self._first_draw + step), (1 - kept**2).sqrt()
                )
            self._ratio = ratio
        return self._noise

    def normalize(self, levels: Tensor, fraction: float) -> None:
        start = self._noise
        if fraction and self.kind == "cumulative":
            self._noise = start.clone()  # which the way through the levels changes
        super().normalize(levels, fraction)
        self._noise, self._ratio = start, None
