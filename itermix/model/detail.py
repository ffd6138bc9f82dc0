"""Detail: what is fine in the model's estimate, strengthened at every call.

D <- D + amount * (D - LP(D)), with LP what the picture that guides could hold before it was enlarged: the smooth filter
(`itermix.mixing.filters.low_pass`), with every blending. The state is left to the sampler, which takes of each estimate
what its step takes. So that the whole depends on no division of the schedule, the amount is a function of the noise
level, not of the step:

    amount = detail * h,  h = noise^2 / (noise^2 + (FINE * signal)^2)

h is what the noise hides of a band whose deviation is `FINE`; the model finds the rest, g = 1 - h, in the state. The
probability flow makes such a band exp(integral of detail * h * g over log(noise / signal)) = exp(detail / 2) times
stronger, between whichever levels, since h * g vanishes at both ends of the schedule: where the noise still hides all,
and where nothing is left to be found, so that the last step, which takes all of its estimate, adds nothing.

A step that holds one estimate all the way (Euler, DDIM) falls short of the band by itself, the more so the longer it
is: to second order the estimate lacks h * s / 2 of it, s the step in log(noise / signal). `amount` gives it back, in
proportion to detail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from itermix.mixing.blending import BlendingSettings
from itermix.mixing.filters import Workspace, low_pass
from itermix.mixing.run import Feature, Run
from itermix.parameters import Size, parameter
from itermix.steps.parametrisation import Parametrisation
from itermix.steps.samplers import FIRST_ORDER, name_of

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, init=False)
class DetailSettings(BlendingSettings):
    """How much more of what is fine."""

    detail: float = parameter(
        0.0,
        "Detail",
        "Makes fine detail crisper, 0.05 at a time. What is finer than the smaller picture could hold is strengthened"
        " in each of the model's estimates, in the last phase and with every blending: about exp(detail / 2) times, "
        "however many steps there are. 0: off.",
        "detail",
        "Blending",
        low=0.0,
        high=1.5,
        step=0.05,
        main=2,
    )

    def feature(self, given: Mapping[str, Any]) -> Feature | None:
        return Detail(self.detail) if self.detail else None

    def of_phase(self, source: Size, target: Size, first: Size | None = None, last: bool = True) -> Self:
        """None of it before the last phase: what is fine in one is what guides the next."""
        settings = super().of_phase(source, target, first, last)
        return settings if last or not settings.detail else settings.replace(detail=0.0)


FINE = 0.2
"""Deviation of what is fine in a latent, or in a picture from -1 to 1."""

CATCH_UP = 1.2
"""About 1 / (2 * 0.4): with detail 0.4 a step of first order gets back all that it lacks, to second order."""


class Detail(Feature):
    """What is fine in the estimates of one run, strengthened where the mask guides."""

    estimates = True

    def __init__(self, detail: float):
        self._detail = detail
        self._run: Run | None = None
        self._held: list[float] = []

    def begin(self, run: Run) -> None:
        self._run = run
        self._held = held_in_steps(run) if name_of(run.sampler) in FIRST_ORDER else []

    def estimate(self, x: Tensor, level: Tensor, output: Tensor, step: int | None) -> Tensor:
        assert self._run is not None
        run = self._run
        held = self._held[step] if self._held and step is not None else 0.0
        share = amount(self._detail, level, run.parametrisation, held)
        if run.mask:
            share = share * run.mask.values.to(x)
        return strengthened(output, x, level, run.parametrisation, share, run.settings.held_scale, run.work)


def held_in_steps(run: Run) -> list[float]:
    """How far each step holds the estimate of its start, in log(noise / signal); 0 for the last step, and from pure
    noise, where an estimate has nothing fine. On the host before the pass: a read in a step would wait for a GPU."""
    signal, noise = run.parametrisation.amounts(run.plan.levels.cpu())
    steps = -(noise / signal).double().log().diff()
    return [*torch.nan_to_num(steps, posinf=0.0).tolist(), 0.0]


def amount(detail: float, level: Tensor, parametrisation: Parametrisation, held: float = 0.0) -> Tensor:
    """Share of what is fine that is added to it, of the level's shape and on its device.

    Args:
        detail: the setting, from 0.
        level: a noise level.
        parametrisation: of the levels.
        held: how far the sampler's step holds this estimate unchanged, in log(noise / signal).
    """
    signal, noise = parametrisation.amounts(level)
    return detail * (1 + CATCH_UP * held) / (1 + (FINE * signal / noise) ** 2)


def strengthened(
    output: Tensor,
    x: Tensor,
    level: Tensor,
    parametrisation: Parametrisation,
    amount: Tensor,
    scale: float,
    work: Workspace | None = None,
) -> Tensor:
    """The model's output with the estimate of the clean picture in it strengthened: a new tensor like it.

    Never the model's own, edited: it may keep that, as Forge does for its previews.

    Args:
        output: what the model made of the state x; both [B, C, H, W].
        level: its noise level (0-dim tensor).
        parametrisation: of the level.
        amount: of all pixels (0-dim), or of each, [B or 1, 1, H, W].
        scale: how many times the guiding picture was enlarged, at least 1: what it could hold before isn't fine.
        work: of the filter, kept from call to call.
    """
    work = work or Workspace()
    fine = torch.empty_like(output, memory_format=torch.contiguous_format)
    if parametrisation.predicts_noise:  # the estimate is (x - noise * output) / signal
        noise = parametrisation.amounts(level)[1].to(output)
        torch.addcmul(x.to(output), output, -noise, out=fine)
        amount = amount / -noise
    else:
        fine.copy_(output)
    low = work.space("low", fine.shape[-2:], fine)
    for plane in fine.flatten(0, 1):
        plane.sub_(low_pass(plane, scale, out=low, work=work))
    return fine.mul_(amount.to(fine)).add_(output)
