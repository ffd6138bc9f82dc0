"""Facts about samplers, by the name of their function: where in a run the sampler's own state can be changed.

Only at a step start is the model's input the sampler's own state; the further calls of a second-order step get a trial
point that is thrown away. Checked against k-diffusion's samplers and in running WebUIs (docs/samplers.md).
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

StepOfCall = Callable[[int, int], "int | None"]

ROUNDING = 1e-3  # share by which a sampler may call the model beside the noise level of its step


class SamplerRefused(ValueError):
    """A sampler that can't be mixed; the message says why and what to take instead."""

    def __init__(self, reason: str):
        super().__init__(f"Iterative Mixing: {reason}. Use another sampler, for example DPM++ 2M or Euler.")


def one_call(call: int, steps: int) -> int | None:
    """Every model call starts a step."""
    return call


def two_calls(call: int, steps: int) -> int | None:
    """Every other call starts a step; the last step, to sigma 0, has one."""
    return None if call % 2 else call // 2


def three_calls(call: int, steps: int) -> int | None:
    """Every third call starts a step."""
    return None if call % 3 else call // 3


def heun_plus(call: int, steps: int) -> int | None:
    """Three calls a step, but two in the last but one step and one in the last."""
    return steps - 1 if call == 3 * (steps - 1) - 1 else three_calls(call, steps)


def fast_blocks(calls: int) -> StepOfCall:
    """The pattern of DPM fast for so many model calls: blocks of three, then a shorter one or, where that would be
    empty, one of two and one of one (arXiv 2206.00927, section 3.3)."""

    def pattern(call: int, steps: int) -> int | None:
        return steps - 1 if calls % 3 == 0 and call == calls - 1 else three_calls(call, steps)

    return pattern


def two_calls_first(call: int, steps: int) -> int | None:
    """Two calls in the first step, one in all others."""
    return None if call == 1 else max(0, call - 1)


STEP_STARTS: dict[str, StepOfCall] = {
    **dict.fromkeys(
        (
            "sample_euler",
            "sample_euler_ancestral",
            "sample_euler_ancestral_RF",
            "sample_lms",
            "sample_dpmpp_2m",
            "sample_dpmpp_2m_sde",
            "sample_dpmpp_3m_sde",
            "sample_ddpm",
            "sample_lcm",
            "sample_ipndm",
            "sample_ipndm_v",
            "sample_deis",
            "ddim",
            "ddim_cfgpp",
            "unipc",
        ),
        one_call,
    ),
    **dict.fromkeys(
        (
            "sample_heun",
            "sample_dpm_2",
            "sample_dpm_2_ancestral",
            "sample_dpm_2_ancestral_RF",
            "sample_dpmpp_2s_ancestral",
            "sample_dpmpp_2s_ancestral_RF",
            "sample_dpmpp_sde",
            "restart_sampler",
        ),
        two_calls,
    ),
    "sample_dpm_adaptive": three_calls,
    "sample_heunpp2": heun_plus,
    "plms": two_calls_first,
}
"""Samplers whose calls are known. All others are run one step at a time, which needs no knowledge of their calls."""

OWN_LEVELS = ("restart_sampler", "sample_dpm_adaptive", "unipc")
"""Samplers that choose noise levels of their own: the weight of a step is that of its noise level."""

STATE_IN_CALLBACK = ("unipc",)
"""Samplers whose state is out of the model's sight but for its first call; their callback gets it before each step."""


REFUSED = {
    "sample_unipc": "UniPC keeps its state where nothing but itself can reach it",  # Forge Neo's
    "sample_uni_pc": "UniPC keeps its state where nothing but itself can reach it",  # ComfyUI's
    "sample_uni_pc_bh2": "UniPC keeps its state where nothing but itself can reach it",
    "sample_res_solver": "RES Solver goes down to noise level 0 however short its schedule is",  # reForge's
}
"""{sampler that can't be mixed: why}. Their calls don't show the state, and they can't be run one step at a time."""


FIRST_ORDER = frozenset(
    {"sample_euler", "ddim", "ddim_cfgpp", "sample_euler_ancestral", "sample_euler_ancestral_RF", "sample_ddpm"}
)
"""Samplers that hold an estimate as it is over their whole step."""


def model_calls(name: str, steps: int) -> int | None:
    """Model calls of `steps` steps, at least 1, with the sampler function of that name; None if it chooses itself."""
    if name in OWN_LEVELS:
        return None
    starts = STEP_STARTS.get(name, one_call)
    return next(call for call in itertools.count() if starts(call, steps) == steps - 1) + 1


ONE_STEP_FAILS = ("sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde")
"""k-diffusion's functions that fail at their end when all that they run is the step to noise level 0."""


def to_clean(
    denoiser: Callable, x: Tensor, sigmas: Tensor, extra_args: dict | None = None, callback: Any = None, **_: Any
) -> Tensor:
    """The one step from sigmas [2] to 0, as samplers take it: what the model makes of x [B, C, H, W]."""
    denoised = denoiser(x, sigmas[0] * x.new_ones(len(x)), **(extra_args or {}))
    if callback:
        callback({"x": x, "i": 0, "sigma": sigmas[0], "sigma_hat": sigmas[0], "denoised": denoised})
    return denoised


def able(sampler: Callable, sigmas: Tensor | None) -> Callable:
    """The sampler, or `to_clean` where it would fail at these sigmas [steps + 1]."""
    fails = name_of(sampler) in ONE_STEP_FAILS and sigmas is not None and len(sigmas) == 2 and not sigmas[1]
    return to_clean if fails else sampler


def name_of(sampler: Callable) -> str:
    """The name of a sampler function, also of a partial of one."""
    while isinstance(sampler, functools.partial):
        sampler = sampler.func
    return getattr(sampler, "__name__", type(sampler).__name__)


def check(sampler: Callable) -> None:
    """Raises SamplerRefused if the sampler can't be mixed."""
    if reason := REFUSED.get(name_of(sampler)):
        raise SamplerRefused(reason)
    if not {"sigmas", "timesteps", "sigma_min"} & inspect.signature(sampler).parameters.keys():
        raise SamplerRefused(f"{name_of(sampler)} takes no schedule, so there are no noise levels to mix at")
