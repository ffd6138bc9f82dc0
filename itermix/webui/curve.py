"""The weights of a request before it is made, for the chart and the API. Imports nothing of the WebUI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itermix.mixing.curves import weights
from itermix.settings import Settings
from itermix.steps.levels import SD_SIGMAS, karras
from itermix.steps.parametrisation import ve
from itermix.steps.schedule import run_by_host, steps_range


def of_karras(steps: int) -> Tensor:
    """Evenly in Karras' formula, down to the last."""
    return karras(torch.linspace(0, 1, steps, dtype=torch.float64))


def exponential(steps: int) -> Tensor:
    """Evenly in the logarithm."""
    return torch.linspace(SD_SIGMAS[-1].log(), SD_SIGMAS[0].log(), steps, dtype=torch.float64).exp()


def at_timesteps(timesteps: Tensor) -> Tensor:
    """The sigmas of fractional timesteps, interpolated in the logarithm as k-diffusion does."""
    found = np.interp(timesteps.numpy(), np.arange(len(SD_SIGMAS)), SD_SIGMAS.log().numpy())
    return torch.from_numpy(np.exp(found))


def uniform(steps: int) -> Tensor:
    """Evenly in the timestep, down to the last."""
    return at_timesteps(torch.linspace(len(SD_SIGMAS) - 1, 0, steps, dtype=torch.float64))


def sgm_uniform(steps: int) -> Tensor:
    """Evenly in the timestep, as if one more step went to the last."""
    return at_timesteps(torch.linspace(len(SD_SIGMAS) - 1, 0, steps + 1, dtype=torch.float64)[:-1])


DEFAULT_SCHEDULE = "Karras"
SCHEDULES: dict[str, Callable[[int], Tensor]] = {
    DEFAULT_SCHEDULE: of_karras,
    "Exponential": exponential,
    "Polyexponential": exponential,  # at the WebUIs' rho of 1
    "Uniform": uniform,
    "Normal": uniform,
    "SGM Uniform": sgm_uniform,
}
"""{the WebUIs' name of a scheduler: steps -> the sigmas [steps] at which they start}, for SD 1 and SDXL."""


def curve(settings: Settings, steps: int, exact: bool, scheduler: str | None = None) -> dict[str, Any]:
    """What is mixed in at every step of the schedule.

    Args:
        settings: of the mixing.
        steps: asked for, at least 1.
        exact: whether that many are run, whatever the denoise: the hires pass, and an option of WebUIs for img2img.
        scheduler: the WebUI's name of it; for what isn't in SCHEDULES the sigmas are those of Karras's.

    Returns:
        {"steps": the whole schedule's, "first", "last": the steps from `first` on, before `last`, are run,
        "weights", "sigmas", "progress": a number for each step of the schedule, "scheduler": whose sigmas they are}.
        At steps that are not run there are no weights (None), and no progress if it counts steps. Progress is 0 at the
        noisy end, 1 at the clean end.

    Raises:
        SettingsError: there is no step to run.
    """
    whole, skipped = run_by_host(settings.denoise, steps, exact)
    first, last = (skipped + step for step in steps_range(settings.replace(denoise=1.0), whole - skipped))
    name = scheduler if scheduler in SCHEDULES else DEFAULT_SCHEDULE
    sigmas = SCHEDULES[name](whole)
    by_level = ve(SD_SIGMAS).progress(sigmas)
    of_run = weights(settings, last - first, by_level[first:last])
    nothing = [None] * first, [None] * (whole - last)
    if settings.progress != "noise level":
        counted = [step / (last - first) for step in range(last - first)]
        progress: list[float | None] = [*nothing[0], *counted, *nothing[1]]
    else:
        progress = by_level.tolist()
    return {
        "steps": whole,
        "first": first,
        "last": last,
        "weights": [*nothing[0], *of_run.tolist(), *nothing[1]],
        "sigmas": sigmas.tolist(),
        "progress": progress,
        "scheduler": name,
    }
