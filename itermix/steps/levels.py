"""At which noise level a pass begins with a model of flow matching, whose schedules aren't those of Stable Diffusion.

Half of the steps of a flow schedule with shift 3 begin at noise / signal = 3, those with Karras' formula below 0.1, and
half of Stable Diffusion's with Karras' at 1.3. What is painted anew depends on that ratio and not on the share.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itermix.parameters import ON, parameter
from itermix.steps.schedule import DenoiseSettings

BY_LEVEL = "noise level"


@dataclass(frozen=True, init=False)
class LevelSettings(DenoiseSettings):
    """What denoise is a share of."""

    denoise_in: str = parameter(
        BY_LEVEL,
        "Denoise in",
        "What Denoise, and the share of the clean-up, mean with a model of flow matching. noise level: the pass begins "
        "with as much noise in its picture as with Stable Diffusion and Karras' schedule, whatever the model's shift "
        "and the scheduler. steps: it begins where that share of the scheduler's steps is left, as without mixing. As "
        "many steps are run with either, and at 1 they are the same.",
        "denoise in",
        "Steps",
        choices=(BY_LEVEL, "steps"),
        needs=({"flow": ON},),
    )


def sd_sigmas(count: int = 1000) -> Tensor:
    """[count], rising from 0.0292 to 14.6146: the training schedule of SD 1 and SDXL (latent diffusion's "linear")."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, count, dtype=torch.float64) ** 2
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


SD_SIGMAS = sd_sigmas()

RHO = 7.0


def karras(share: Tensor) -> Tensor:
    """Sigmas of SD 1 and SDXL at shares of Karras' schedule, 0 at its noisy end (arXiv 2206.00364, eq. 5)."""
    low, high = SD_SIGMAS[0] ** (1 / RHO), SD_SIGMAS[-1] ** (1 / RHO)
    return (high + share * (low - high)) ** RHO


def noise_of(denoise: float) -> float:
    """Noise / signal at which `denoise`, in [0, 1], begins with Stable Diffusion: sigma at that share of Karras'
    schedule, counted from its clean end. 0.4 is 0.69, 0.5 is 1.27, 0.7 is 3.75."""
    return float(karras(torch.tensor(1 - denoise, dtype=torch.float64)))


def flow_level(noise: float) -> float:
    """The sigma of rectified flow, z' = (1 - sigma) z0 + sigma e, with this noise / signal: r = sigma / (1 - sigma)."""
    return noise / (1 + noise)


LONGEST = 500
"""Steps of the longest schedule that is asked for: half of the levels that models have, so that no two are one."""


def begun_at(schedule: Callable[[int], Tensor], level: float, run: int, whole: int) -> Tensor:
    """A schedule of `whole` steps of which the last `run` begin at a level, in steps of the scheduler's own kind.

    They are the last of the schedule, of as many steps as it takes, that has its level there nearest to this one; and
    all are scaled so that it is this one. Where `run` is 1, that is the step from the level to 0.

    Args:
        schedule: steps -> [steps + 1] sigmas of flow, falling to 0; some schedulers leave out or add one.
        level: in (0, 1).
        run: from 1.
        whole: `run` at the least.

    Returns:
        [whole + 1], falling, but for what there is no level before, which is the first again.
    """

    def at_begin(steps: int) -> float:
        return float(schedule(steps)[-(run + 1) :][0])

    counts = range(run, max(run, LONGEST) + 1)
    after = bisect.bisect_left(counts, -level, key=lambda steps: -at_begin(steps))
    near = counts[max(after - 1, 0) : after + 1]
    found = schedule(min(near, key=lambda steps: abs(at_begin(steps) - level)))
    found = found * (level / found[-(run + 1) :][0])
    missing = max(0, whole + 1 - len(found))
    return torch.cat([found[:1].expand(missing), found])[-(whole + 1) :]
