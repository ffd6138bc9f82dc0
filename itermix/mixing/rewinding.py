"""Rewinding: the last part of the steps is run again, and then the last part of that, each time from the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itermix.mixing.noising import INVERTED, NoiseSettings
from itermix.mixing.run import Feature, Run
from itermix.parameters import ON, Known, SettingsError, Size, parameter


@dataclass(frozen=True, init=False)
class RewindSettings(NoiseSettings):
    """Which steps are run again."""

    rewind: bool = parameter(
        False,
        "Rewind",
        "Run the last part of the steps again, from the result with fresh noise on it, and then the last part of that. "
        "For more detail of the model's own; costs those steps again.",
        "rewind",
        "Rewind",
    )
    rewind_min: float = parameter(
        0.5,
        "Rewind by",
        "Share of the steps just run that the next pass leaves out: by 0.5 those of 20 steps begin at 10, 15, ...",
        "rewind min",
        "Rewind",
        low=0.05,
        high=0.95,
        step=0.05,
        needs=({"rewind": ON},),
    )
    rewind_max: float = parameter(
        0.8,
        "Rewind up to",
        "No pass begins later than at this share of all steps.",
        "rewind max",
        "Rewind",
        low=0.05,
        high=1.0,
        step=0.05,
        needs=({"rewind": ON},),
    )

    def _check_together(self) -> None:
        super()._check_together()
        if self.rewind and self.noise == INVERTED:
            raise SettingsError(
                "rewind", True, "Allowed with inverted noise: false, since each pass needs fresh noise."
            )

    def begins(self, steps: int) -> list[int]:
        """Each begins `rewind_min` of what the one before had to run later, up to `rewind_max` of all steps: the ranges
        of the ComfyUI Iterative Mixing node. [0, 10, 15] for 20 steps at 0.5 and 0.8.
        """
        found = super().begins(steps)
        while self.rewind:
            start = found[-1] + int((steps - found[-1]) * self.rewind_min)
            if not found[-1] < start <= int(steps * self.rewind_max):
                break
            found.append(start)
        return found

    def words_of_all(self, steps: int, sizes: Sequence[Size], known: Known | None = None) -> str:
        again = [str(steps - start) for start in self.begins(steps)[1:]]
        own = f", and {' + '.join(again)} of them again" if again else ""
        return super().words_of_all(steps, sizes, known) + own

    def feature(self, given: Mapping[str, Any]) -> Feature | None:
        return Rewinding(self, given.get("rewound")) if self.rewind else None


class Rewinding(Feature):
    """Several passes in the place of one."""

    def __init__(self, settings: RewindSettings, told: Callable[[int, int, int], None] | None):
        """`told` is called as `next_pass` is."""
        self._settings = settings
        self._told = told

    def begins(self, run: Run, model: Any, steps: list[int]) -> list[int]:
        return self._settings.begins(len(run.plan.levels))

    def next_pass(self, step: int, calls: int, done: int) -> None:
        if self._told:
            self._told(step, calls, done)
