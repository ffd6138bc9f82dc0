"""Inversion: the noise from which the model itself would make the source, by its own ODE run backwards.

As DDIM inversion (arXiv 2010.02502, section 4.3; BlenderNeko's ComfyUI Unsampler) does it. In units of the signal, with
r the noise-to-signal ratio, the ODE of every parametrisation is d(z / signal) / dr = e(z, r), with e the noise that the
model sees. Its Euler steps go from the source up, along the levels of the sampler that will go down.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from itermix.mixing import frames
from itermix.mixing.noising import INVERTED, NoisedSource, NoiseSettings
from itermix.mixing.run import Feature, Run
from itermix.parameters import Sampling, parameter
from itermix.steps.parametrisation import Parametrisation


@dataclass(frozen=True, init=False)
class InversionSettings(NoiseSettings):
    """What the noise is looked for with."""

    inversion_prompt: bool = parameter(
        True,
        "Invert with the prompt",
        "For inverted noise: whether the model is shown the prompt while the noise is looked for, or the negative "
        "prompt. Neither is strengthened by guidance (CFG scale 1).",
        "inversion prompt",
        "Noise",
        needs=({"noise": (INVERTED,)},),
    )

    takes = ("inversion_args",)

    def before_phase(self, steps: int) -> list[Sampling]:
        inversion = [Sampling("inversion", steps, self)] if self.noise == INVERTED else []
        return super().before_phase(steps) + inversion

    def words_of_phase(self, steps: int) -> str:
        inversion = f" and an inversion of {steps} calls" if self.noise == INVERTED else ""
        return super().words_of_phase(steps) + inversion

    def feature(self, given: Mapping[str, Any]) -> Feature | None:
        if self.noise != INVERTED:
            return None
        return Inversion(given.get("inverting") or functools.partial(with_args, given.get("inversion_args")))


Denoise = Callable[[Tensor, Tensor, float], Tensor]
"""(x [B, C, H, W], level [B], share of the sampler's steps that come before it) -> what the model makes of x."""

Inverting = Callable[[Any, dict[str, Any]], AbstractContextManager[Denoise]]
"""(denoiser, extra_args of the sampler) -> a context with a denoiser without guidance, for the time of an inversion."""


class Inversion(Feature):
    """Inverted noise in the place of drawn."""

    def __init__(self, inverting: Inverting):
        self._inverting = inverting

    def noised(self, run: Run, model: nn.Module, latent: Tensor, arguments: Mapping[str, Any]) -> NoisedSource:
        with self._inverting(model, arguments.get("extra_args") or {}) as denoise:
            pictures = frames.pictures(latent)
            return invert(of_pictures(denoise, latent), pictures, run.plan.levels, run.parametrisation)


def of_pictures(denoise: Denoise, latent: Tensor) -> Denoise:
    """The model of `latent`'s shape as one of its pictures, which all are at one level."""

    def denoise_pictures(x: Tensor, level: Tensor, share: float) -> Tensor:
        return frames.pictures(denoise(frames.latents(x, latent), level[: len(latent)], share))

    return denoise_pictures


@contextmanager
def with_args(
    args: dict[str, Any] | None, denoiser: Callable[..., Tensor], extra_args: dict[str, Any]
) -> Iterator[Denoise]:
    """The denoiser as it is, with `args`, or else with those of the sampler."""
    given = extra_args if args is None else args
    yield lambda x, level, share: denoiser(x, level, **given)


class InvertedLatents(NoisedSource):
    """z' on the way of an inversion from the source up to the noisiest level, kept in the main memory.

    Between two levels Euler's steps are straight lines: z' = signal * clean + noise * e with one clean and one e. So z'
    is known at every level between them, too; above the noisiest the last line goes on.
    """

    def __init__(
        self,
        latent: Tensor,
        parametrisation: Parametrisation,
        latents: Sequence[Tensor],
        amounts: Sequence[tuple[float, float]],
    ):
        """
        Args:
            latent: z0 [B, C, H, W], which was inverted.
            parametrisation: of the levels.
            latents: [B, C, H, W] each, those of the levels, the noisiest first, and z0 last.
            amounts: (signal, noise) of each; (1, 0) for z0.
        """
        super().__init__(latent, parametrisation)
        self._latents = latents
        self._amounts = amounts
        self._ratios = [_ratio(*each) for each in amounts]

    def _fill(self, step: int, level: Tensor, out: Tensor) -> None:
        signal, noise = map(float, self.parametrisation.amounts(level))
        ratio, last = _ratio(signal, noise), len(self._ratios) - 1
        below = next((k for k in range(1, last) if self._ratios[k] < ratio), last)
        (s1, n1), (s2, n2) = self._amounts[below - 1 : below + 1]
        determinant = s1 * n2 - s2 * n1
        upper, lower = (signal * n2 - noise * s2) / determinant, (s1 * noise - n1 * signal) / determinant
        out.copy_(self._latents[below - 1]).mul_(upper)
        if lower:
            out.add_(self._latents[below].to(out), alpha=lower)


@torch.no_grad()
def invert(denoise: Denoise, latent: Tensor, levels: Tensor, parametrisation: Parametrisation) -> InvertedLatents:
    """Run the ODE from the clean latent [B, C, H, W] up through `levels` [n], falling, in n model calls.

    The noise of a step is that which the model sees where the step begins; there is none at the source, so the first
    step takes that at the lowest level. The device holds a few latents, the path is in the main memory.
    """
    amounts = [(float(signal), float(noise)) for signal, noise in zip(*parametrisation.amounts(levels))]

    def seen(x: Tensor, step: int) -> Tensor:
        level = levels[step]
        return parametrisation.noise(x, level, denoise(x, level * x.new_ones(len(x)), step / len(levels)))

    last = len(levels) - 1
    found = [latent.cpu()]
    clean, noise = latent, seen(amounts[last][0] * latent, last)
    for step in range(last, -1, -1):
        z = amounts[step][0] * clean + amounts[step][1] * noise
        found.append(z.cpu())
        if step:
            noise = seen(z, step)
            clean = (z - amounts[step][1] * noise) / amounts[step][0]
    return InvertedLatents(latent, parametrisation, found[::-1], [*amounts, (1.0, 0.0)])


def _ratio(signal: float, noise: float) -> float:
    return noise / signal if signal else math.inf
