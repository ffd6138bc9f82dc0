"""How much signal and how much noise a sampler's state has: VE, VP, flow.

A *level* is what the sampler hands its model: a sigma, or a timestep index in timestep samplers. A `Parametrisation`
says how much signal and how much noise a state has at a level: z' = signal * z0 + noise * e, with e of unit variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Amounts = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Parametrisation:
    """How a sampler's state is made of signal and noise.

    Attributes:
        amounts: level -> (signal, noise), each of the level's shape.
        timestep: level -> the model's timestep as a share of its training range, 1 at its noisiest end.
        predicts_noise: whether the model gives the sampler its estimate of e, not that of z0.
    """

    amounts: Callable[[Tensor], Amounts]
    timestep: Callable[[Tensor], Tensor]
    predicts_noise: bool = False

    def progress(self, levels: Tensor) -> Tensor:
        """[n] levels -> [n] progress, 0 at the noisiest end: DemoFusion's code measures it in timesteps, 1 - t / T."""
        return 1 - self.timestep(levels)

    def between(self, level: Tensor, levels: Tensor, values: Sequence[float]) -> float:
        """What `values` [n] at `levels` [n], falling, are at a level (0-dim tensor): straight in the timesteps."""
        known = self.timestep(levels).flip(0).cpu().numpy()
        return float(np.interp(self.timestep(level.reshape(1)).cpu().numpy(), known, values[::-1])[0])

    def denoised(self, x: Tensor, level: Tensor, output: Tensor, out: Tensor) -> Tensor:
        """The estimate of z0 in what the model made of the state x [B, C, H, W] at `level` (0-dim tensor), in `out`.

        Never the model's output itself: some samplers (LCM) go on to work in that.
        """
        if not self.predicts_noise:
            return out.copy_(output)
        signal, amount = (a.to(x) for a in self.amounts(level))
        return torch.sub(x, torch.mul(output, amount, out=out), out=out).div_(signal)

    def noise(self, x: Tensor, level: Tensor, output: Tensor) -> Tensor:
        """The estimate of e in the same; the level's noise is not 0."""
        if self.predicts_noise:
            return output
        signal, amount = (a.to(x) for a in self.amounts(level))
        return (x - signal * output) / amount


def ve(training_sigmas: Tensor | None = None) -> Parametrisation:
    """Variance exploding, the state of k-diffusion's samplers: z' = z0 + sigma * e. A level is a sigma.

    `training_sigmas` [T], rising, are the model's own; timesteps are interpolated in log sigma between them as in
    k-diffusion's DiscreteSchedule. Without them the timestep is the continuous 2 / pi * atan(sigma) of its VDenoiser.
    """

    def timestep(sigmas: Tensor) -> Tensor:
        if training_sigmas is None:
            return torch.atan(sigmas.double()) * 2 / torch.pi
        known = training_sigmas.detach().double().cpu().log().numpy()
        index = np.interp(sigmas.double().cpu().log().numpy(), known, np.arange(len(known)))
        return torch.from_numpy(index) / len(known)

    return Parametrisation(lambda sigma: (torch.ones_like(sigma), sigma), timestep)


def vp(alphas_cumprod: Tensor) -> Parametrisation:
    """Variance preserving, the state of DDIM: z' = sqrt(a_t) z0 + sqrt(1 - a_t) e (arXiv 2010.02502, eq. 4).

    A level is a timestep, an index into `alphas_cumprod` [T]; between two of them log a is a straight line, as it is
    for UniPC (arXiv 2302.04867). The models of its samplers predict the noise.
    """

    def amounts(timestep: Tensor) -> Amounts:
        known = alphas_cumprod.to(timestep.device)
        below = timestep.long()
        above = (below + 1).clamp_max(len(known) - 1)
        a_below, a_above = known.take(below), known.take(above)  # known[below] would wait for a GPU
        a = a_below * (a_above / a_below) ** (timestep - below)
        return a.sqrt(), (1 - a).sqrt()

    return Parametrisation(amounts, lambda timesteps: timesteps.double() / len(alphas_cumprod), predicts_noise=True)


def flow() -> Parametrisation:
    """Rectified flow (arXiv 2209.03003): z' = (1 - sigma) z0 + sigma * e. A level is a sigma in [0, 1]."""
    return Parametrisation(lambda sigma: (1 - sigma, sigma), lambda sigmas: sigmas.double())
