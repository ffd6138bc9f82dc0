"""What is tried, and in which order: hires fix, presets, then settings, nearer and nearer to the best, by halving.

Successive halving (Jamieson and Talwalkar 2016): many settings on few pictures, the better half of them on twice as
many, and so on. Nothing here asks a WebUI anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scipy.stats import qmc

from itermix.settings import UpscaleSettings
from itermix.settings.presets import expanded

STRENGTHS = (0.3, 0.5, 0.7)
"""Of hires fix."""

PRESETS = ("Balanced", "Faithful", "Creative")
"""Those of ours; the others stand for other projects."""

SEED = 23
"""Of the settings that are tried, so that a run that goes on tries the same."""

DRAWS = 32
"""For each setting that is wanted: near to a corner of the ranges many are the same."""

FEWEST_PICTURES = 2
"""On which settings are told apart first."""

ROUNDS = ((1.0, 0.5), (0.25, 0.75), (0.125, 1.0))
"""How far from the best so far settings may lie, as a share of each range, until which share of them is tried: so few
can't fill all ranges densely, but what is near to the best of them they can."""


@dataclass(frozen=True)
class Candidate:
    """A way to enlarge a picture.

    Attributes:
        name: how the report calls it.
        strength: of hires fix, above 0; else it is mixing.
        values: settings of the mixing, all that it decides.
    """

    name: str
    strength: float = 0.0
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def mixes(self) -> bool:
        return not self.strength

    def settings(self, scale: float) -> UpscaleSettings:
        """Of the mixing, to a scale."""
        return UpscaleSettings(**{**self.values, "enabled": True, "scale": scale})


def hires_fix() -> list[Candidate]:
    return [Candidate(f"hires fix {strength:g}", strength) for strength in STRENGTHS]


def presets() -> list[Candidate]:
    return [Candidate(name, values=expanded({"preset": name})) for name in PRESETS]


@dataclass(frozen=True)
class Range:
    """Of a number that is searched: evenly, or so in its logarithm, in steps of `step`."""

    low: float
    high: float
    step: float
    logarithmic: bool = False

    def at(self, place: float) -> float:
        """The number at a place in [0, 1]."""
        if self.logarithmic:
            value = self.low * (self.high / self.low) ** place
        else:
            value = self.low + (self.high - self.low) * place
        return round(self.step * round(value / self.step), 9)

    def place(self, value: float) -> float:
        """Of a number, in [0, 1]: that of the nearer end for one outside."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def near(self, value: float, reach: float) -> Callable[[float], float]:
        """Of a place in [0, 1] the number in what of the range is no farther than `reach` of it from a value."""
        middle = self.place(value)
        low, high = max(0.0, middle - reach), min(1.0, middle + reach)
        return lambda place: self.at(low + (high - low) * place)


RANGES = {
    "alpha": Range(0.1, 1.6, 0.05, logarithmic=True),
    "detail": Range(0.0, 0.3, 0.05),
    "denoise": Range(0.2, 0.7, 0.05),
    "steps": Range(4, 12, 2),
}


def around(base: Candidate, count: int, reach: float = 1.0, known: Sequence[Candidate] = ()) -> list[Candidate]:
    """`count` settings, or as many as there are, that evenly fill what of the ranges is within `reach` of the base, the
    rest as the base has it.

    None is twice among them, and none is the base itself or `known`.
    """
    near = {name: each.near(base.values[name], reach) for name, each in RANGES.items()}
    taken = [{name: each.values[name] for name in RANGES} for each in (base, *known)]
    found: list[Candidate] = []
    for places in qmc.Halton(len(RANGES), seed=SEED).random(DRAWS * count):
        values = {name: number(place) for (name, number), place in zip(near.items(), places)}
        if values not in taken and len(found) < count:
            name = " ".join(f"{name}={value:g}" for name, value in values.items())
            found.append(Candidate(name, values={**base.values, **values}))
            taken.append(values)
    return found


def narrowing(base: Candidate, count: int, score: Callable[[Candidate], float]) -> list[Candidate]:
    """`count` settings, or as many as there are: at first all over the ranges, then nearer to the best so far."""
    tried = [base]
    for reach, share in ROUNDS:
        some = math.ceil(share * count) + 1 - len(tried)
        tried += around(max(tried, key=score), some, reach, tried)
    return tried[1:]


@dataclass(frozen=True)
class Rung:
    """So many settings on so many pictures."""

    candidates: int
    pictures: int


def rungs(count: int, pictures: int) -> list[Rung]:
    """How `count` settings are halved until one is left or all `pictures` have been seen; empty for none."""
    found: list[Rung] = []
    seen = min(FEWEST_PICTURES, pictures)
    while count:
        found.append(Rung(count, seen))
        if seen == pictures:
            break
        count, seen = math.ceil(count / 2), min(2 * seen, pictures)
    return found


def requests(steps: Sequence[Rung]) -> int:
    """How many pictures are made in all: what a setting was tried on before isn't made again."""
    before = [0, *(rung.pictures for rung in steps)]
    return sum(rung.candidates * (rung.pictures - seen) for rung, seen in zip(steps, before))


def affordable(pictures: int, most: int) -> int:
    """The most settings whose halving makes no more than `most` pictures."""
    count = 0
    while requests(rungs(count + 1, pictures)) <= most:
        count += 1
    return count


def carried(count: int, steps: Sequence[Rung], seen: int, most: int) -> int:
    """How many of `count` settings, one at least, can be taken through these rungs with `most` pictures, where so many
    pictures of each were seen before."""

    def made(candidates: int) -> int:
        total, before = 0, seen
        for rung in steps:
            total += candidates * (rung.pictures - before)
            candidates, before = math.ceil(candidates / 2), rung.pictures
        return total

    return max([1, *(each for each in range(1, count + 1) if made(each) <= most)])


def halved(
    candidates: Sequence[Candidate],
    steps: Sequence[Rung],
    score: Callable[[Candidate, int], float],
    taken: Callable[[int, int], int],
) -> list[Candidate]:
    """Those that are left in the last rung, the best first.

    Args:
        score: of one candidate on so many pictures.
        taken: how many of so many candidates to take into the rung of this number.
    """
    left = list(candidates)
    for number, rung in enumerate(steps):
        left = left[: taken(number, min(rung.candidates, len(left)))]
        scores = {each.name: score(each, rung.pictures) for each in left}
        left = sorted(left, key=lambda each: -scores[each.name])
    return left
