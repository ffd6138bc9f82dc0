"""A calibration from its sources to the order of what was tried; `command` shows it, `report` and `sheet` keep it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from itermix.standalone import sources as files_of_pictures
from itermix.standalone.batch.plan import Picture, model_calls_of
from itermix.standalone.calibrate import asking, numbers, search, sources
from itermix.standalone.calibrate.asking import Asked, Pictures, Stopped
from itermix.standalone.calibrate.score import score
from itermix.standalone.calibrate.search import Candidate
from itermix.standalone.calibrate.state import State
from itermix.standalone.images import to_picture
from itermix.standalone.latent.metrics import Array
from itermix.standalone.server import ServerError
from itermix.standalone.sources import Source

ENLARGED = "enlarged"
"""By Lanczos alone: what there is without any model."""

SHARE_OF_FIXED = 0.5
"""Of the time, for the sources, hires fix and the presets; the rest is for the search."""

TOLERANCE = 1.15
"""As many times longer than its share may the fixed part take before pictures are left out."""

MOST_SETTINGS = 48
"""That are tried: the ranges are full by then."""

RESERVE = 1.2
"""As many times longer than the mixings before may those of the search take, which may have half as many steps more."""

FEWEST_PICTURES = 2

TOOK, LATEST = "took", 12
"""Among the numbers of a picture: seconds with the measuring. As many of the latest tell how long the next takes."""


@dataclass(frozen=True)
class Wanted:
    """What a calibration is to do.

    Attributes:
        server: address of the WebUI.
        scale: how much larger, whole.
        seconds: that it may take in all.
        given: request fields that stand above everything else.
        prompts: of the sources that the checkpoint makes, where there are no `pictures`.
        pictures: files of the user's.
        side: of the sources that the checkpoint makes, in pixels.
    """

    server: str
    scale: int
    seconds: float
    given: Mapping[str, Any]
    prompts: Sequence[str]
    pictures: Sequence[Path]
    side: int

    @property
    def available(self) -> int:
        return len(self.pictures or self.prompts)


class Listener(Protocol):
    """Hears how far a calibration is."""

    def planned(self, requests: int, seconds: float) -> None:
        """So many pictures are left to be made, in about so many seconds."""

    def made(self, what: str) -> None:
        """One of them is made."""

    def said(self, sentence: str) -> None:
        """Something that the user should know."""


class OutOfTime(Exception):
    """The next picture would be finished after the end that was told."""


@dataclass
class Found:
    """What a calibration has found.

    Attributes:
        sources: the pictures that were enlarged.
        readings: {candidate: {number of the picture: {metric: value}}}.
        candidates: {name: candidate}.
        complete: whether all was done that was planned.
        files: {(candidate, number of the picture): its result}.
        failed: {candidate: why the WebUI refuses it}.
    """

    sources: list[Source] = field(default_factory=list)
    readings: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    files: dict[tuple[str, int], Path] = field(default_factory=dict)
    complete: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    def arrays(self, name: str, pictures: Sequence[int]) -> dict[str, Array]:
        """{metric: [N]} of a candidate over these pictures."""
        rows = [self.readings[name][k] for k in pictures]
        return {metric: np.array([row[metric] for row in rows], np.float64) for metric in rows[0]}

    def scores(self, name: str, pictures: Sequence[int]) -> Array:
        """[N]; the front of hires fix has no part in it."""
        return score(self.arrays(name, pictures))

    def shared(self) -> list[int]:
        """Numbers of the pictures that all of hires fix and the presets were tried on."""
        fixed = [each.name for each in (*search.hires_fix(), *search.presets()) if each.name not in self.failed]
        return [k for k in range(len(self.sources)) if all(k in self.readings.get(name, {}) for name in fixed)]

    def ranked(self) -> list[str]:
        """Mixings that were tried on all of `shared`, the best first."""
        pictures = self.shared()
        whole = [name for name, each in self.candidates.items() if each.mixes and name != ENLARGED]
        whole = [name for name in whole if pictures and all(k in self.readings[name] for k in pictures)]
        return sorted(whole, key=lambda name: -float(self.scores(name, pictures).mean()))


class Calibration:
    """One run; a later one with the same folder goes on.

    Args:
        pictures: the WebUI's, in the folder of the state.
        exact: whether img2img of this WebUI runs exactly the steps that it is asked for.
    """

    def __init__(self, wanted: Wanted, state: State, pictures: Pictures, exact: bool, listener: Listener):
        self.wanted, self.state, self.exact, self.listener = wanted, state, exact, listener
        self.found = Found()
        self._pictures = pictures
        self._begun = time.monotonic() - state.spent

    def run(self) -> Found:
        """Everything, as far as there is time.

        Raises:
            ServerError: the WebUI can't be used any longer.
            OSError: a file can't be read or written.
        """
        try:
            with contextlib.suppress(Stopped, OutOfTime):
                self._fixed()
                self._searched()
                self.found.complete = True
        finally:
            self._keep_time()
        return self.found

    def _fixed(self) -> None:
        """Sources, hires fix and presets: picture after picture, so that what there is can be compared."""
        fixed = [*search.hires_fix(), *search.presets()]
        self._tried(fixed, 0)
        if "pictures" not in self.state.plan:
            fit = int(SHARE_OF_FIXED * self.wanted.seconds / max(self._of_fixed(), 1e-3))
            self.state.plan["pictures"] = min(self.wanted.available, max(FEWEST_PICTURES, fit))
            self.state.save()
        more = self.state.plan["pictures"] - 1
        self.listener.planned(more * (len(fixed) + (not self.wanted.pictures)), more * self._of_fixed())
        for k in range(1, 1 + more):
            if self._too_slow_for(k):
                self.state.plan["pictures"] = k
                break
            self._tried(fixed, k)

    def _too_slow_for(self, k: int) -> bool:
        """Whether picture k would take of the search's share of the time, as the WebUI has become slower; not if it is
        begun already."""
        begun = f"{ENLARGED} {k}" in self.state.numbers
        late = self._spent() + self._of_fixed() > TOLERANCE * SHARE_OF_FIXED * self.wanted.seconds
        return k >= FEWEST_PICTURES and late and not begun

    def _searched(self) -> None:
        """Settings nearer and nearer to the best, which is a preset at first, by successive halving."""
        count = len(self.found.sources)
        ranked = self.found.ranked()
        if not ranked:
            return
        if "settings" not in self.state.plan:
            rest = self.wanted.seconds - count * self._of_fixed()
            most = int(rest / self._reserved())
            self.state.plan["settings"] = min(MOST_SETTINGS, search.affordable(count, most))
            self.state.save()
        steps = search.rungs(self.state.plan["settings"], count)
        self.listener.planned(search.requests(steps), search.requests(steps) * self._expected(mixing=True))
        if not steps:
            return
        taken = functools.partial(self._taken, steps)
        first = functools.partial(self._score, pictures=steps[0].pictures)
        best = self.found.candidates[ranked[0]]
        tried = search.narrowing(best, taken(0, steps[0].candidates), first)
        search.halved(tried, steps, self._score, taken)

    def _taken(self, steps: Sequence[search.Rung], number: int, count: int) -> int:
        """How many settings go into a rung: as many as can be taken to the end in the time that is left, since what was
        not tried on all pictures can't be told from the rest. It is kept, so that a run that goes on does the same."""
        taken = self.state.plan.setdefault("taken", [])
        if number == len(taken):
            most = int(self._left() / self._reserved())
            seen = steps[number - 1].pictures if number else 0
            taken.append(search.carried(count, steps[number:], seen, most))
            self.state.save()
        return taken[number]

    def _tried(self, candidates: Sequence[Candidate], k: int) -> None:
        """All of these on picture k, and what enlarging alone gives."""
        self._source(k)
        self._enlarged(k)
        for each in candidates:
            self._reading(each, k)

    def _score(self, candidate: Candidate, pictures: int) -> float:
        """Over the first so many pictures; one that is refused is last."""
        for k in range(pictures):
            self._reading(candidate, k)
        if candidate.name in self.found.failed:
            return -math.inf
        return float(self.found.scores(candidate.name, range(pictures)).mean())

    def _source(self, k: int) -> None:
        """Have source k."""
        if k < len(self.found.sources):
            return
        name = f"{k + 1:02d}"
        if self.wanted.pictures:
            original = files_of_pictures.read(self.wanted.pictures[k])
            file = self._pictures.kept(name, sources.prepared(original))
            fields = original.generation.fields
        else:
            body = sources.txt2img(self.wanted.prompts[k], k, self.wanted.side, self.wanted.given)
            asked = asking.source(name, body)
            self._check_time(asked)
            file = self._pictures.made(asked)
            self.listener.made(f"source {k + 1}")
            fields = {name: value for name, value in body.items() if name not in ("width", "height")}
        source = files_of_pictures.read(file)
        whole = {**sources.GENERATION, "prompt": "", "seed": sources.SEED + k, **fields, **self.wanted.given}
        generation = dataclasses.replace(source.generation, fields=whole)
        self.found.sources.append(dataclasses.replace(source, generation=generation))

    def _enlarged(self, k: int) -> None:
        """What enlarging alone gives, which no WebUI has to make; it begins hires fix's front."""
        source = self.found.sources[k].image.convert("RGB")
        size = tuple(side * self.wanted.scale for side in source.size)
        place = f"{ENLARGED} {k}"
        if place not in self.state.numbers:
            larger = source.resize(size, Image.Resampling.LANCZOS)  # type: ignore[arg-type]
            self._measure(place, larger, source, {"seconds": 0.0, "calls": 0.0})
        self._enter(Candidate(ENLARGED), k, place)

    def _reading(self, candidate: Candidate, k: int) -> None:
        """Have the numbers of a candidate on picture k, unless the WebUI refuses it."""
        if candidate.name in self.found.failed or k in self.found.readings.get(candidate.name, {}):
            return
        source = self.found.sources[k]
        asked = asking.enlarged(candidate, source, source.generation.fields, self.wanted.scale, self.exact)
        self._check_time(asked, candidate.mixes)
        begun = time.monotonic()
        try:
            file = self._pictures.made(asked)
        except ServerError as error:
            if not error.refused:
                raise
            self.found.failed[candidate.name] = str(error)
            self.listener.said(f"{candidate.name} is left out: {error}")
            return
        place = file.relative_to(self.state.out).as_posix()
        if place not in self.state.numbers:
            seconds = self._pictures.seconds(asked)
            costs = {"seconds": seconds, "calls": self._calls(candidate, source)}
            with Image.open(file) as result:
                self._measure(place, result.convert("RGB"), source.image.convert("RGB"), costs)
            self.state.numbers[place][TOOK] = max(seconds, time.monotonic() - begun)
            self._keep_time()
        self.found.files[candidate.name, k] = file
        self._enter(candidate, k, place)
        self.listener.made(candidate.name)

    def _measure(self, place: str, result: Image.Image, source: Image.Image, costs: Mapping[str, float]) -> None:
        ours, theirs = ((to_picture(image)[None] + 1) / 2 for image in (result, source))
        with torch.no_grad():
            found = numbers.measured(ours, theirs)
        values = {name: float(value[0]) for name, value in found.items()} | dict(costs)
        self.state.numbers[place] = {name: value if math.isfinite(value) else None for name, value in values.items()}

    def _enter(self, candidate: Candidate, k: int, place: str) -> None:
        numbers_of_it = self.state.numbers[place].items()
        known = {name: math.nan if value is None else value for name, value in numbers_of_it if name != TOOK}
        self.found.readings.setdefault(candidate.name, {})[k] = known
        self.found.candidates[candidate.name] = candidate

    def _calls(self, candidate: Candidate, source: Source) -> float:
        """Model calls; NaN where the sampler decides them while it runs."""
        fields = source.generation.fields
        if not candidate.mixes:
            return float(fields["steps"])
        picture = Picture(source.file, source.file, source.size, fields, "")
        _, calls = model_calls_of(picture, candidate.settings(self.wanted.scale))
        return math.nan if calls is None else float(calls)

    def _check_time(self, asked: Asked, mixing: bool = False) -> None:
        """Raises OutOfTime if the picture isn't there and would be finished too late."""
        if not self._pictures.is_made(asked) and self._left() < self._expected(mixing):
            raise OutOfTime

    def _expected(self, mixing: bool = False) -> float:
        """Seconds that a large picture takes with what is measured of it, by the latest; 0 before the first. Those of
        hires fix have more steps: `mixing` leaves them out."""
        made = [file for (name, _), file in self.found.files.items() if self.found.candidates[name].mixes or not mixing]
        places = [file.relative_to(self.state.out).as_posix() for file in made[-LATEST:]]
        return float(np.mean([self.state.numbers[place].get(TOOK) or 0.0 for place in places])) if places else 0.0

    def _reserved(self) -> float:
        """Seconds to allow for a picture of the search."""
        return RESERVE * max(self._expected(mixing=True), 1e-3)

    def _of_fixed(self) -> float:
        """Seconds of the fixed part for one picture. A source takes no longer than what is made of it."""
        count = len(search.hires_fix()) + len(search.presets()) + (not self.wanted.pictures)
        return count * self._expected()

    def _spent(self) -> float:
        return time.monotonic() - self._begun

    def _left(self) -> float:
        return self.wanted.seconds - self._spent()

    def _keep_time(self) -> None:
        self.state.spent = self._spent()
        self.state.save()
