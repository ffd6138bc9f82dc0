"""The clean-up: a light sampling without mixing that ends an upscale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from itermix.parameters import ON, Part, Sampling, SettingsError, Size, parameter

if TYPE_CHECKING:
    from typing_extensions import Self

SAME_SAMPLER = "Use same sampler"


@dataclass(frozen=True, init=False)
class CleanupSettings(Part):
    """The light sampling after the last phase."""

    cleanup: float = parameter(
        0.0,
        "Clean-up",
        "Denoise of a last, unguided sampling of the finished latent, 0.05 to 0.25. 0: off.",
        "clean-up",
        "Clean-up",
        low=0.0,
        high=0.25,
        step=0.01,
    )
    cleanup_steps: int = parameter(
        0,
        "Clean-up steps",
        "Steps of the clean-up. 0: its denoise as a share of the pass's steps.",
        "clean-up steps",
        "Clean-up",
        low=0,
        high=150,
        step=1,
        needs=({"cleanup": ON},),
    )
    cleanup_sampler: str = parameter(
        SAME_SAMPLER,
        "Clean-up sampler",
        "Sampler of the clean-up.",
        "clean-up sampler",
        "Clean-up",
        needs=({"cleanup": ON},),
    )

    def _check_together(self) -> None:
        super()._check_together()
        if 0 < self.cleanup < 0.05:
            raise SettingsError("cleanup", self.cleanup, "Allowed: 0, or a number from 0.05 to 0.25.")

    def of_phase(self, source: Size, target: Size, first: Size | None = None, last: bool = True) -> Self:
        settings = super().of_phase(source, target, first, last)
        return settings if last else settings.replace(cleanup=0.0)

    def after_phase(self, steps: int) -> list[Sampling]:
        found = super().after_phase(steps)
        if self.cleanup:
            own = self.cleanup_steps or max(1, math.ceil(round(self.cleanup * steps, 9)))
            sampler = "" if self.cleanup_sampler == SAME_SAMPLER else self.cleanup_sampler
            found.append(Sampling("clean-up", own, self.unguided(), sampler, self.cleanup))
        return found
