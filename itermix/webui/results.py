"""The last pictures that the page has made, with their sources, to be looked at one over the other."""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from itermix.parameters import SettingsError

MOST = 6
MEGAPIXELS = 64
"""Of all pictures that are kept; the newest is kept whatever its size."""

KINDS = ("source", "result")


@dataclass(frozen=True)
class Made:
    """A picture and what it was made of; `settings` are {label: value}."""

    number: int
    source: Image.Image
    result: Image.Image
    settings: Mapping[str, Any]

    @property
    def megapixels(self) -> float:
        return sum(picture.width * picture.height for picture in (self.source, self.result)) / 1e6


class Results:
    """The newest last, in the memory alone."""

    def __init__(self) -> None:
        self._made: list[Made] = []
        self._count = 0
        self._lock = threading.Lock()

    def add(self, source: Image.Image, result: Image.Image, settings: Mapping[str, Any]) -> None:
        with self._lock:
            self._count += 1
            self._made = [*self._made, Made(self._count, source, result, dict(settings))][-MOST:]
            while len(self._made) > 1 and sum(made.megapixels for made in self._made) > MEGAPIXELS:
                del self._made[0]

    def listed(self) -> list[dict[str, Any]]:
        """[{"number", "width", "height", "settings"}], the newest last."""
        return [
            {"number": each.number, "width": each.result.width, "height": each.result.height, "settings": each.settings}
            for each in list(self._made)
        ]

    def file(self, number: int, kind: str) -> bytes:
        """A PNG file of one; raises SettingsError if it isn't kept, any more."""
        if kind not in KINDS:
            raise SettingsError("kind", kind, f"Allowed: {', '.join(KINDS)}.")
        made = next((each for each in list(self._made) if each.number == number), None)
        if made is None:
            raise SettingsError("number", number, f"Allowed: one of the last {MOST} results that the page has made.")
        data = io.BytesIO()
        getattr(made, kind).convert("RGB").save(data, "PNG", compress_level=1)
        return data.getvalue()


LAST = Results()


def keep(p: Any, sources: Sequence[Image.Image], result: Image.Image, number: int, settings: Any) -> None:
    """Keep picture `number` of a request of the page, counted from 0."""
    if p.is_api or not sources:
        return
    of_host = {"Steps": p.steps, "Sampler": p.sampler_name, "CFG scale": p.cfg_scale, "Prompt": p.prompt}
    values = dataclasses.asdict(settings)
    ours = {parameter.label: values[parameter.name] for parameter in settings.parameters()}
    seeds = p.all_seeds or [p.seed]
    LAST.add(sources[number % len(sources)], result, {**of_host, "Seed": seeds[number % len(seeds)], **ours})
