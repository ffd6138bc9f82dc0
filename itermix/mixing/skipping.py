"""Leaving out the first steps, where what they do is overwritten: how far the result can be from that of the whole run.

With `addition` and shared noise a run that starts at step k, from z'_k, follows the whole run ever closer. In units in
which the state is z0 + sigma * e (r_j = sigma_j+1 / sigma_j, c_j the weight of the estimate before in DPM++ 2M, 0 in
Euler and DDIM), with D_j the model's estimate at step j and |.| the RMS of a picture:

    x_j+1 - z'_j+1 = r_j (1 - w_j) (x_j - z'_j) + (1 - r_j) ((1 + c_j) (D_j - z0) - c_j (D_j-1 - z0))

because z'_j+1 = r_j z'_j + (1 - r_j) z0. Two assumptions make bounds of it:

    |D_j - z0| <= 1             what the model makes of a state is no farther from the source than a latent's deviation
    |D(x) - D(y)| <= 3 |x - y|  what it makes of two states is at most so many times farther apart than they are

The ideal denoiser of a log-concave density has 1 in the place of 3. Pictures have no such density, and where the model
decides what it sees, it brings states apart: the built-in model by up to 2.8 (docs/speed.md).

The first bounds how far the whole run is from z'_k where the other starts (`_departures`), the second how the
difference of the two goes on: each blend multiplies it by 1 - w_j.

Nothing like this holds for blendings that guide the low frequencies alone: the fine detail that the early steps have
made is never overwritten. The others are not linear. There is no bound for samplers that add noise, either.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itermix.mixing.blending import BlendingSettings
from itermix.mixing.rewinding import RewindSettings
from itermix.mixing.run import Feature, Run
from itermix.parameters import parameter
from itermix.steps.samplers import name_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, init=False)
class SkippingSettings(RewindSettings, BlendingSettings):
    """How many of the first steps may be left out."""

    skip_tolerance: float = parameter(
        0.0,
        "Skip tolerance",
        "Leave out the first steps, as many as change the result by no more than this. It is the mean difference "
        "(RMS) in units of the latent, whose own deviation is about 1. For the blending addition with shared noise, "
        "and Euler, DPM++ 2M or DDIM; with others nothing is left out. 0: off.",
        "skip tolerance",
        "Steps",
        low=0.0,
        high=0.5,
        step=0.005,
        needs=({"blending": ("addition",)}, {"noise": ("shared",)}),
    )

    def feature(self, given: Mapping[str, Any]) -> Feature | None:
        return Skipping(self, given.get("left_out")) if self.skip_tolerance else None


EXPANSION = 3.0
"""How many times farther apart the model's estimates of two states are than the states, at most."""

BOUNDED = ("sample_euler", "sample_dpmpp_2m", "ddim")
"""Samplers of which the bound is known."""

ADDS_NOISE = ("s_churn", "eta")
"""Arguments by which these samplers add noise, if they aren't 0."""


class Skipping(Feature):
    """The first steps left out that change little."""

    def __init__(self, settings: SkippingSettings, told: Callable[[Any, int], None] | None):
        """`told` is called with the model and how many steps are left out, if there are any."""
        self._settings = settings
        self._told = told

    def begins(self, run: Run, model: Any, steps: list[int]) -> list[int]:
        reason = reason_for_none(run, self._settings)
        if reason:
            log.info("Iterative Mixing: no step is left out, since %s", reason)
            return steps
        bounds = bounds_of(run)
        skipped = steps_to_skip(bounds, self._settings.skip_tolerance)
        found = skipped, len(bounds), bounds[skipped]
        log.info("Iterative Mixing: %d of %d steps are left out; the result is within %.2g", *found)
        if skipped and self._told:
            self._told(model, skipped)
        return [skipped]


def reason_for_none(run: Run, settings: SkippingSettings) -> str | None:
    """Why nothing can be left out, in words; None if there is a bound."""
    name = name_of(run.sampler)
    if run.mask:
        return "there is a bound for one weight of all pixels"
    if settings.blending != "addition":
        return f"there is a bound for the blending addition, not for {settings.blending}"
    if settings.noise != "shared" or settings.normalize_fraction:
        return "there is a bound for shared noise that isn't normalized"
    if any(feature.estimates for feature in run.features):
        return "there is a bound for the model's own estimates, without detail"
    if settings.rewind:
        return "there is a bound for a run that isn't rewound"
    if name not in BOUNDED:
        return f"there is a bound for Euler, DPM++ 2M and DDIM, not for {name}"
    if any(run.plan.arguments.get(argument) for argument in ADDS_NOISE):
        return "there is a bound only where the sampler adds no noise"
    return None


def bounds_of(run: Run) -> list[float]:
    """[steps] for every step k how far a run that starts there ends from the whole one, at most; see `bounds`.

    The sampler of the run is one of `BOUNDED`.
    """
    levels = [*run.plan.levels.cpu(), run.plan.end.cpu()]
    signals, amounts = zip(*((float(a) for a in run.parametrisation.amounts(level)) for level in levels))
    sigmas = [amount / signal if signal else math.inf for signal, amount in zip(signals, amounts)]
    ratios = [after / before for before, after in itertools.pairwise(sigmas)]
    corrections = [0.0] * len(ratios)
    if name_of(run.sampler) == "sample_dpmpp_2m":
        corrections = second_order([float(level) for level in levels])
    return bounds(run.weights.tolist(), ratios, corrections)


def second_order(sigmas: Sequence[float]) -> list[float]:
    """c_j of DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2) for sigmas [steps + 1]: h_j / (2 h_j-1), h = -log r.

    0 in the first step, which has no estimate before, and in one that goes to 0.
    """
    h = [math.log(before / after) if after else math.inf for before, after in itertools.pairwise(sigmas)]
    return [h[j] / (2 * h[j - 1]) if j and h[j] < math.inf else 0.0 for j in range(len(h))]


def bounds(weights: Sequence[float], ratios: Sequence[float], corrections: Sequence[float]) -> list[float]:
    """For every step k the RMS by which a run from z'_k ends beside the whole one, at most, in multiples of the largest
    |D_j - z0|. Infinite where nothing is known.

    Args:
        weights: [steps] w_j.
        ratios: [steps] r_j.
        corrections: [steps] c_j.
    """
    if not weights[0]:  # the run starts where the sampler is told to, not at z'
        return [0.0, *[math.inf] * (len(weights) - 1)]
    departures = _departures(weights, ratios, corrections)
    return [_carried_on(k, departures[k], weights, ratios, corrections) for k in range(len(weights))]


def _departures(weights: Sequence[float], ratios: Sequence[float], corrections: Sequence[float]) -> list[float]:
    """[steps] |x_k - z'_k| of the whole run before the blend, at most."""
    found = [0.0]
    for w, r, c in zip(weights, ratios, corrections):
        found.append(r * (1 - w) * found[-1] + (1 - r) * (1 + 2 * c))
    return found[:-1]


def _carried_on(
    k: int, departure: float, weights: Sequence[float], ratios: Sequence[float], corrections: Sequence[float]
) -> float:
    """The difference of the two results, at most, if their states are `departure` apart before the blend of step k."""
    if not k:
        return 0.0
    difference, before = departure, 0.0  # of the states; of the model's estimates one step before
    for j in range(k, len(weights)):
        difference *= 1 - weights[j]
        r, c = ratios[j], corrections[j]
        now = min(EXPANSION * difference, 2.0)
        # The run that starts at k has no estimate of the step before: it is as if it were the present one.
        history = 2.0 * c if j == k else c * (now + before)
        difference = r * difference + (1 - r) * (now + history)
        before = now
    return difference


def steps_to_skip(bounds: Sequence[float], tolerance: float) -> int:
    """The last step that a run can start at with a bound of at most `tolerance`."""
    return max(k for k, bound in enumerate(bounds) if bound <= tolerance)
