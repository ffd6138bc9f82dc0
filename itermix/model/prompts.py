"""Prompts of their own for the crops of a picture."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from itermix.model.parts import Place
from itermix.parameters import SettingsError

NAME = "prompts"
"""What they are called beside the settings."""

ALLOWED = 'Allowed: rows of prompts of one length, such as [["a sky", "a sky"], ["a house", null]].'

ANOTHER_S_WORK = re.compile(r"\bAND\b|<\w+:[^<>]*>")
"""What WebUIs take out of the prompts of a whole request."""

LONGEST = 4096
"""Tokens to which prompts of different lengths may be repeated."""

PromptOf = Callable[[float, float, float, float], "str | None"]
"""(left, top, right, bottom) of a crop, as a `Place` -> its prompt; None: that of the request."""


@dataclass(frozen=True)
class Grid:
    """Rows of prompts that divide a picture evenly. A crop takes the one in whose cell its middle lies."""

    rows: Sequence[Sequence[str | None]]

    def __call__(self, left: float, top: float, right: float, bottom: float) -> str | None:
        row = self.rows[int((top + bottom) / 2 % 1 * len(self.rows))]
        return row[int((left + right) / 2 % 1 * len(row))]

    def __str__(self) -> str:
        return json.dumps(self.rows, ensure_ascii=False)


def checked(value: Any) -> PromptOf | None:
    """The prompts that somebody asks for: rows of them, a callable, or None. Raises SettingsError for anything else."""
    if value is None or callable(value):
        return value
    if not _are_rows(value) or len({len(row) for row in value}) > 1:
        raise SettingsError(NAME, value, ALLOWED)
    for row in value:
        for prompt in row:
            check(prompt)
    return Grid(value)


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, list) and row for row in value)


def check(prompt: Any) -> None:
    """Raises SettingsError for what can't be the prompt of a crop."""
    if prompt is not None and not isinstance(prompt, str):
        raise SettingsError(NAME, prompt, ALLOWED)
    if prompt and ANOTHER_S_WORK.search(prompt):
        allowed = "Allowed: prompts without AND and without networks like <lora:name:1>, which are the whole picture's."
        raise SettingsError(NAME, prompt, allowed)


def of_crops(prompt_of: PromptOf, places: Sequence[Place]) -> dict[Place, str]:
    """{place: prompt} of the crops that have one of their own. Raises SettingsError for one that can't be used."""
    found = {place: prompt_of(*place) for place in places}
    for prompt in found.values():
        check(prompt)
    return {place: prompt for place, prompt in found.items() if prompt is not None}


def with_rows(context: Tensor, rows: Mapping[int, Tensor]) -> Tensor:
    """The encoded prompts [R, T, C] with others [t, C] in the place of these rows.

    All are repeated to the least common multiple of their lengths, since a tensor has rows of one length. Attention
    gives the same then, because its weights sum to 1.

    Raises SettingsError if that is longer than `LONGEST`.
    """
    lengths = [context.shape[1], *(len(row) for row in rows.values())]
    length = math.lcm(*lengths)
    if length > max(LONGEST, *lengths):
        allowed = f"Allowed: lengths with a common multiple up to {LONGEST}; make the longest prompts shorter."
        raise SettingsError(NAME, f"{', '.join(map(str, sorted(set(lengths))))} tokens", allowed)
    result = context.repeat(1, length // context.shape[1], 1)
    for k, row in rows.items():
        result[k] = row.repeat(length // len(row), 1)
    return result
