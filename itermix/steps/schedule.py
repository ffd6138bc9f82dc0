"""The part of a sampler's schedule that is run, and at which of its model calls and noise levels it can be mixed."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from itermix.parameters import Part, SettingsError, parameter
from itermix.steps.samplers import OWN_LEVELS, STEP_STARTS, StepOfCall, check, fast_blocks, name_of


@dataclass(frozen=True, init=False)
class DenoiseSettings(Part):
    """Whether to mix, and how much of the schedule is run."""

    enabled: bool = parameter(
        False, "Iterative Mixing", "Guide this sampling by the picture it starts from.", "enabled", "Main"
    )
    denoise: float = parameter(
        0.5,
        "Denoise",
        "In place of the tab's Denoising strength: how far up the noise schedule sampling starts; 1 is pure noise. "
        "More lets the model paint more of its own, and stray from the source. Where *Steps* is 0, 0.5 saves half of "
        "the tab's steps in img2img; in the hires pass all of them are run.",
        "denoise",
        "Main",
        low=0.05,
        high=1.0,
        step=0.05,
        main=3,
    )


@dataclass(frozen=True, init=False)
class StepSettings(DenoiseSettings):
    """Which of the steps are run."""

    start_at_step: int = parameter(
        0,
        "Start at step",
        "Leave out the steps before this one; sampling starts at its noise level.",
        "start at step",
        "Steps",
        low=0,
        high=10000,
        step=1,
    )
    end_at_step: int = parameter(
        10000,
        "End at step",
        "Leave out this step and all after it: 10000 leaves out none. The last step that runs goes straight to the "
        "finished picture.",
        "end at step",
        "Steps",
        low=1,
        high=10000,
        step=1,
    )

    def _check_together(self) -> None:
        super()._check_together()
        if self.end_at_step <= self.start_at_step:
            raise SettingsError(
                "end_at_step", self.end_at_step, f"Allowed: more than start_at_step, which is {self.start_at_step}."
            )


@dataclass(frozen=True, init=False)
class CountSettings(StepSettings):
    """How many steps a pass has."""

    steps: int = parameter(
        8,
        "Steps",
        "How many steps a pass runs, whatever the denoise. It begins with a picture, so it needs fewer than one from "
        "nothing. A number in Hires steps stands above it. 0: as many as without mixing: the share of the tab's steps "
        "that denoise leaves, and in the hires pass all of them.",
        "steps",
        "Main",
        low=0,
        high=1000,
        usual=40,
        step=1,
        main=4,
    )


ADAPTIVE_LEVELS = 100
UNIPC_STEPS = 3  # its order, as WebUIs have it


@dataclass(frozen=True)
class Schedule:
    """What one run of a sampler is called with, and its steps.

    Attributes:
        arguments: the sampler's keyword arguments, as its schedule is run.
        levels: [n], falling, the noise level at the start of each step; of a sampler with `own_levels` [n] levels over
            the same range, between which the weights are interpolated.
        starts: which model calls start a step; None if that isn't known.
        own_levels: whether the sampler chooses its levels and the number of its steps itself.
    """

    arguments: dict[str, Any]
    levels: Tensor
    starts: StepOfCall | None
    own_levels: bool = False

    @property
    def end(self) -> Tensor:
        """The noise level (0-dim tensor) that the last step goes to, where `arguments` has the schedule itself."""
        return self.arguments["timesteps"][0] if "timesteps" in self.arguments else self.arguments["sigmas"][-1]

    def step(self, k: int) -> dict[str, Any]:
        """The arguments to run step k alone."""
        if "timesteps" in self.arguments:
            n = len(self.levels)
            return {**self.arguments, "timesteps": self.arguments["timesteps"][n - 1 - k : n + 1 - k]}
        return {**self.arguments, "sigmas": self.arguments["sigmas"][k : k + 2]}

    @property
    def begin(self) -> Tensor:
        """The noise level at which it begins, as the sampler is told."""
        if "timesteps" in self.arguments:
            return self.arguments["timesteps"][-1]
        return self.arguments["sigmas"][0] if "sigmas" in self.arguments else torch.tensor(self.arguments["sigma_max"])

    def after(self, first: int) -> Schedule:
        """The schedule from step `first` on. `levels` stay all where the sampler has its own, to find the weights by.

        Raises SettingsError if that is less than UniPC can run.
        """
        if not first:
            return self
        starts, levels = self.starts, self.levels if self.own_levels else self.levels[first:]
        if "timesteps" in self.arguments:
            changed = {"timesteps": self.arguments["timesteps"][:-first]}
            if self.own_levels and len(changed["timesteps"]) < UNIPC_STEPS:
                allowed = f"Allowed with UniPC: so that {UNIPC_STEPS} steps or more are left at these."
                raise SettingsError("rewind_max and steps", len(self.levels), allowed)
        elif "sigmas" in self.arguments:
            changed = {"sigmas": self.arguments["sigmas"][first:]}
        else:
            changed = {"sigma_max": self.levels[first].item()}
            if "n" in self.arguments:
                changed["n"] = max(1, self.arguments["n"] - 3 * first)
                starts = fast_blocks(changed["n"])
        return Schedule({**self.arguments, **changed}, levels, starts, self.own_levels)


def schedule(sampler: Callable, arguments: dict[str, Any], settings: StepSettings) -> Schedule:
    """The schedule in a sampler's keyword arguments, cut as `steps_range` says.

    Args:
        sampler: a k-diffusion function or a timestep sampler of a WebUI.
        arguments: with `sigmas` [steps + 1], falling to 0; or `timesteps` [steps + 1], rising, of which the first is
            where the last step goes to; or `sigma_min`, `sigma_max` and perhaps the number `n` of model calls.
        settings: denoise, start_at_step and end_at_step are used.

    Raises:
        SamplerRefused: the sampler can't be mixed.
        SettingsError: no step is left, or the sampler can't leave out any.
    """
    check(sampler)
    name = name_of(sampler)
    starts, own = STEP_STARTS.get(name), name in OWN_LEVELS
    if "timesteps" in arguments:
        if own:
            _needs_all_steps(name, settings, len(arguments["timesteps"]))
        timesteps = timesteps_run(arguments["timesteps"], settings)
        arguments = {**arguments, "timesteps": timesteps}
        if own and len(timesteps) < UNIPC_STEPS:
            allowed = f"Allowed with UniPC: more of them or more denoise, so that it runs {UNIPC_STEPS} or more."
            raise SettingsError("steps", len(timesteps), allowed)
        if not own:
            return Schedule(arguments, timesteps[1:].flip(0), starts)
        levels = torch.linspace(float(timesteps[-1]), 0, len(timesteps) + 1, device=timesteps.device)[:-1]
        return Schedule(arguments, levels, starts, own_levels=True)
    if "sigmas" in arguments:
        sigmas = sigmas_run(arguments["sigmas"], settings)
        if "sigmas" in inspect.signature(sampler).parameters:
            return Schedule({**arguments, "sigmas": sigmas}, sigmas[:-1], starts, own)
        _needs_last_step(name, settings, sigmas, arguments["sigmas"])
        arguments = {**arguments, "sigma_min": sigmas[-2].item(), "sigma_max": sigmas[0].item()}
        del arguments["sigmas"]
        if "n" in inspect.signature(sampler).parameters:
            arguments["n"] = len(sigmas) - 1
    else:
        _needs_all_steps(name, settings, arguments.get("n", StepSettings().end_at_step))
    high, low = (float(arguments[end]) for end in ("sigma_max", "sigma_min"))
    if high <= low:  # the level before the last of the schedule is where it ends
        raise SettingsError(
            "steps", 1, f"Allowed with {name}: more of them or more denoise, so that it runs 2 or more."
        )
    if "n" not in arguments:
        return Schedule(arguments, evenly_in_log(high, low, ADAPTIVE_LEVELS), starts, own)
    blocks = arguments["n"] // 3 + 1
    return Schedule(arguments, evenly_in_log(high, low, blocks + 1)[:-1], fast_blocks(arguments["n"]))


def evenly_in_log(high: float, low: float, count: int) -> Tensor:
    """[count] sigmas from `high` to `low`."""
    return torch.linspace(math.log(high), math.log(low), count).exp()


def _needs_all_steps(name: str, settings: StepSettings, steps: int) -> None:
    """Raises SettingsError if the settings leave some of `steps` out: this sampler would go the same way in fewer."""
    reason = f"Allowed with {name}, which chooses its noise levels itself"
    if settings.start_at_step:
        raise SettingsError("start_at_step", settings.start_at_step, f"{reason}: 0.")
    if settings.end_at_step < steps:
        raise SettingsError("end_at_step", settings.end_at_step, f"{reason}: at least {steps}.")


def _needs_last_step(name: str, settings: StepSettings, run: Tensor, sigmas: Tensor) -> None:
    """Raises SettingsError if the last of the steps over `sigmas` isn't run: this sampler stops above 0, and would
    leave as much noise as there is where the others take their last step."""
    if run[-2] != sigmas[-2]:
        raise SettingsError("end_at_step", settings.end_at_step, f"Allowed with {name}: all steps that denoise leaves.")


def sigmas_run(sigmas: Tensor, settings: StepSettings) -> Tensor:
    """What `steps_range` leaves of sigmas [steps + 1]; a run that ends early goes straight to 0 in its last step."""
    first, last = steps_range(settings, len(sigmas) - 1)
    run = sigmas[first : last + 1].clone()
    if last < len(sigmas) - 1:
        run[-1] = 0
    return run


def timesteps_run(timesteps: Tensor, settings: StepSettings) -> Tensor:
    """What `steps_range` leaves of a timestep sampler's rising `timesteps` [steps + 1].

    The first of them is where the last step goes to. Raises SettingsError if there is no step.
    """
    n = len(timesteps)
    if n < 2:
        allowed = "Allowed: more of them or more denoise, so that the sampler runs at least one."
        raise SettingsError("steps", 0, allowed)
    first, last = steps_range(settings, n - 1)
    return torch.cat([timesteps[:1], timesteps[n - last : n - first]])


def steps_range(settings: StepSettings, steps: int) -> tuple[int, int]:
    """(first, last) of the steps first, first + 1, ... last - 1 that are run out of `steps`.

    `denoise` leaves its share of them at the clean end, at least one; `start_at_step` and `end_at_step` count from
    there. Raises SettingsError if nothing is left.
    """
    skipped = steps - max(1, round(settings.denoise * steps))
    first = skipped + settings.start_at_step
    last = min(skipped + settings.end_at_step, steps)
    if first >= last:
        allowed = f"Allowed: less than the {steps - skipped} steps that denoise leaves."
        raise SettingsError("start_at_step", settings.start_at_step, allowed)
    return first, last


TWO_STEPS_FEWER = frozenset({"DDIM", "DDIM CFG++", "PLMS"})
"""The WebUIs' names of samplers that skip the noisiest step of img2img and stop above the cleanest."""


def steps_by_host(settings: StepSettings, steps: int, sampler: str = "", exact: bool = False) -> int:
    """How many steps a WebUI runs of a mixing pass over `steps`: those that denoise and the range of steps leave.

    `sampler` is the WebUI's name of it, `exact` that of `run_by_host`. Raises SettingsError if nothing is left.
    """
    whole, skipped = run_by_host(settings.denoise, steps, exact)
    left = max(1, whole - skipped - 2 * (sampler in TWO_STEPS_FEWER))
    first, last = steps_range(settings.replace(denoise=1.0), left)
    return last - first


def steps_asked(settings: CountSettings, steps: int, sampler: str = "", exact: bool = False) -> int:
    """The steps to ask a WebUI for, so that it runs as many as the settings say; `steps` where they leave it to it.

    `sampler` and `exact` are those of `steps_by_host`.
    """
    if not settings.steps:
        return steps
    wanted = settings.steps + 2 * (sampler in TWO_STEPS_FEWER)

    def left(asked: int) -> int:
        whole, skipped = run_by_host(settings.denoise, asked, exact)
        return whole - skipped

    return next(asked for asked in itertools.count(wanted) if left(asked) == wanted)


def run_by_host(denoise: float, steps: int, exact: bool) -> tuple[int, int]:
    """(whole, skipped): the steps of the schedule that a WebUI makes for img2img with k-diffusion's samplers, and how
    many of them, at the noisy end, its denoise skips. `exact`: so many that `steps` are left, as in the hires pass."""
    denoise = min(denoise, 0.999)
    if exact:
        whole = int(steps / denoise)
        return whole, whole - steps
    return steps, steps - 1 - int(denoise * steps)
