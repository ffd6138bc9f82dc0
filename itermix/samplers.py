"""Facts about samplers, by the name of their function: which model calls are step starts, and what can't be mixed.

Only at a step start is the model's input the sampler's own state; the further calls of a second-order step get a trial
point that is thrown away. Checked against k-diffusion's samplers and in running WebUIs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

StepOfCall = Callable[[int, int], "int | None"]


class SamplerRefused(ValueError):
    """A sampler that can't be mixed; the message says why and what to take instead."""


def one_call(call: int, steps: int) -> int | None:
    """Every model call starts a step."""
    return call


def two_calls(call: int, steps: int) -> int | None:
    """Every other call starts a step; the last step, to sigma 0, has one."""
    return None if call % 2 else call // 2


def heun_plus(call: int, steps: int) -> int | None:
    """Three calls a step, but two in the last but one step and one in the last."""
    if call == 3 * (steps - 1) - 1:
        return steps - 1
    return None if call % 3 else call // 3


def two_calls_first(call: int, steps: int) -> int | None:
    """Two calls in the first step, one in all others."""
    return None if call == 1 else max(0, call - 1)


STEP_STARTS: dict[str, StepOfCall] = {
    "sample_heun": two_calls,
    "sample_dpm_2": two_calls,
    "sample_dpm_2_ancestral": two_calls,
    "sample_dpm_2_ancestral_RF": two_calls,
    "sample_dpmpp_2s_ancestral": two_calls,
    "sample_dpmpp_2s_ancestral_RF": two_calls,
    "sample_dpmpp_sde": two_calls,
    "sample_heunpp2": heun_plus,
    "plms": two_calls_first,
}

REFUSED: dict[str, str] = {
    "sample_dpm_fast": "DPM fast groups the steps into blocks with noise levels of its own",
    "sample_dpm_adaptive": "DPM adaptive chooses its own noise levels while it runs",
    "restart_sampler": "Restart goes back up the noise schedule",
    "unipc": "UniPC keeps its state in a history, out of reach of mixing",
}


def name_of(sampler: Callable) -> str:
    """The name of a sampler function, also of a partial of one."""
    while isinstance(sampler, functools.partial):
        sampler = sampler.func
    return getattr(sampler, "__name__", type(sampler).__name__)


def step_starts(sampler: Callable) -> StepOfCall:
    """Function (call, steps) -> the step that the call starts, or None for an inner call.

    A sampler that isn't listed is taken to make one call a step; the mixer checks that while it runs.

    Raises:
        SamplerRefused: the sampler has no fixed steps to mix at.
    """
    name = name_of(sampler)
    if name in REFUSED:
        raise SamplerRefused(f"Iterative Mixing: {REFUSED[name]}. Use another sampler, for example DPM++ 2M or Euler.")
    return STEP_STARTS.get(name, one_call)
