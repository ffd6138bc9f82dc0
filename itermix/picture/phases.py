"""The sizes on the way to a large picture: no phase enlarges more than a diffusion model can follow.

A model paints parts at the size it knows from training. Where one phase has to invent more than about twice the
resolution of its source, it fills the picture with tiny further ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from itermix.parameters import MAX_SCALE, Known, Part, SettingsError, Size, parameter, scaled_side

Declared = TypeVar("Declared", bound=Part)


@dataclass(frozen=True, init=False)
class PhaseSettings(Part):
    """The way to a large picture."""

    max_scale_per_phase: float = parameter(
        2.0,
        "Scale per phase",
        "Larger scales are reached in equal phases of at most this, each with all steps, from the result of the one "
        "before. Above 2 models fill the picture with tiny further parts.",
        "scale per phase",
        "Phases",
        low=1.25,
        high=MAX_SCALE,
        step=0.05,
    )
    save_phases: bool = parameter(
        False, "Save every phase", "Save the pictures of the phases before the last, too.", "save phases", "Phases"
    )


@dataclass(frozen=True)
class Phase:
    """One enlargement on the way, number 1 to `count`: from the size `source` to `target`; the way began at `first`."""

    number: int
    count: int
    first: Size
    source: Size
    target: Size

    def __str__(self) -> str:
        return f"phase {self.number} of {self.count}"

    @property
    def last(self) -> bool:
        return self.number == self.count

    def settings(self, whole: Declared) -> Declared:
        """Those of this phase, of the settings of the whole way."""
        return whole.of_phase(self.source, self.target, self.first, self.last)


def walk(source: Size, sizes: Sequence[Size]) -> list[Phase]:
    """The phases from a source through these sizes, as `plan` gives them."""
    steps = zip((source, *sizes), sizes)
    return [Phase(number, len(sizes), source, before, after) for number, (before, after) in enumerate(steps, 1)]


def plan(
    width: int,
    height: int,
    scale: float | None = None,
    target: Size | None = None,
    max_scale_per_phase: float = 2.0,
    multiple: int = 8,
) -> list[Size]:
    """Sizes after each phase of the way from width x height to a scale or to a target: as few phases as the limit
    allows, all by about the same factor.

    Args:
        width, height: of the source in pixels, any from 1.
        scale: from 1 to 8; the last size is the scaled source, rounded down to multiples.
        target: (width, height) of the last size instead, multiples of `multiple`.
        max_scale_per_phase: how much wider or higher a phase may make its picture, from above 1.
        multiple: sizes are multiples of this.

    Returns:
        At least one size. One that is at most `max_scale_per_phase` from the source is reached in one phase.

    Raises:
        SettingsError: neither or both of scale and target, a value out of range, a target smaller than the source or
            more than 8 times larger, or a limit too low for sizes in these multiples.
    """
    for name, value in (("width", width), ("height", height), ("multiple", multiple)):
        if value < 1 or value % 1:
            raise SettingsError(name, value, "Allowed: a whole number from 1.")
    if not 1 < max_scale_per_phase <= MAX_SCALE:
        allowed = f"Allowed: a number above 1, at most {MAX_SCALE:g}."
        raise SettingsError("max_scale_per_phase", max_scale_per_phase, allowed)
    if (scale is None) == (target is None):
        raise SettingsError("scale", scale, f"Allowed: either a scale or a target, which is {target!r}.")
    if target is None:
        if not 1 <= scale <= MAX_SCALE:  # type: ignore[operator]  # one of both is given
            raise SettingsError("scale", scale, f"Allowed: a number from 1 to {MAX_SCALE:g}.")
        target = scaled_side(width, scale, multiple), scaled_side(height, scale, multiple)  # type: ignore[arg-type]
    for name, before, after in zip(("target width", "target height"), (width, height), target):
        if after % multiple or not max(0, before - multiple) < after <= max(MAX_SCALE * before, multiple):
            allowed = f"Allowed: a multiple of {multiple} from the source's {before} to {MAX_SCALE * before:g}."
            raise SettingsError(name, after, allowed)
    # Fewer phases than the logarithm can't do, and rounding to multiples may take some more.
    least = max(1, math.floor(math.log(max(target[0] / width, target[1] / height), max_scale_per_phase)))
    for count in range(least, least + 9):
        sides = [_sides(*ends, count, max_scale_per_phase, multiple) for ends in zip((width, height), target)]
        if all(sides):
            return list(zip(*sides))  # type: ignore[arg-type]
    raise SettingsError(
        "max_scale_per_phase",
        max_scale_per_phase,
        f"Allowed: enough to get from {width}x{height} to {target[0]}x{target[1]} over multiples of {multiple}.",
    )


def described(
    source: Size, sizes: Sequence[Size], steps: int, settings: Part | None = None, known: Known | None = None
) -> str:
    """What will be done, in words: "768x512 -> 1536x1024 -> 3072x2048, 15 steps each" for 15 `steps` that are run.

    And what the settings add: ", 15 steps and an inversion of 15 calls each" with inverted noise; "..., and 8 + 4 of
    them again" with rewinding; "..., 1, then 6 calls of the model in the place of one" with windows. `known` is what
    the model knows.
    """
    settings = settings or Part()
    ways = " -> ".join(f"{width}x{height}" for width, height in (source, *sizes))
    each = " each" if len(sizes) > 1 else ""
    return f"{ways}, {steps} steps{settings.words_of_phase(steps)}{each}{settings.words_of_all(steps, sizes, known)}"


def _sides(start: int, end: int, count: int, most: float, multiple: int) -> list[int] | None:
    """One side after each of `count` phases, the last of them `end`; None if no multiples keep to the limit."""
    sides: list[int] = []
    for phase in range(1, count):
        # What the phases before can reach, and what those that follow can finish from.
        high = math.floor(round(most * (sides or [start])[-1] / multiple, 9))
        low = math.ceil(round(end / most ** (count - phase) / multiple, 9))
        if low > high:
            return None
        even = round(start * (end / start) ** (phase / count) / multiple)
        sides.append(multiple * min(max(even, low), high))
    if end > most * (sides or [start])[-1] + 1e-9:
        return None
    return [*sides, end]
