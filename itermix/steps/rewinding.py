"""Rewinding: the last part of the steps is run again, and then the last part of that, each time from the result."""

from __future__ import annotations

from itermix.settings import Settings

FIRST_DRAW, DRAWS = 2_000_000, 20_000
"""Numbers of the draws of noise: of the first rewound pass, and from one to the next. Those of a run are below."""


def starts(settings: Settings, steps: int) -> list[int]:
    """The step at which each pass over a schedule of `steps` begins, 0 first; no other if rewinding is off.

    Each begins `rewind_min` of what the one before had to run later, up to `rewind_max` of all steps: the ranges of the
    ComfyUI Iterative Mixing node. [0, 10, 15] for 20 steps at 0.5 and 0.8.
    """
    found = [0]
    while settings.rewind:
        start = found[-1] + int((steps - found[-1]) * settings.rewind_min)
        if not found[-1] < start <= int(steps * settings.rewind_max):
            break
        found.append(start)
    return found


def first_draw(number: int) -> int:
    """Number of the first draw of noise in pass `number`, so that each has fresh noise."""
    return FIRST_DRAW + number * DRAWS if number else 0


def steps_run(settings: Settings, steps: int) -> int:
    """Steps of all passes over a schedule of `steps`."""
    return sum(steps - start for start in starts(settings, steps))
