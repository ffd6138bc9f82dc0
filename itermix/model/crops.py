"""Where the parts of a picture lie that the model is shown in its place, and how many these are."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from itermix.model.parts import Place, View

DEMOFUSION = "DemoFusion"
"""The formulas of its code, with crops at every half window."""


class Cropping(Protocol):
    """What is to be known of the settings."""

    @property
    def window(self) -> int: ...
    @property
    def window_batch(self) -> int: ...
    @property
    def window_formulas(self) -> str: ...
    @property
    def dilated(self) -> float: ...
    @property
    def overlapping(self) -> float: ...
    @property
    def wraps(self) -> bool: ...


def feather(height: int, width: int) -> Tensor:
    """[height, width] shares of the pixels of a crop, above 0: a raised cosine along each side."""
    rows, columns = (torch.sin(math.pi * (torch.arange(side) + 0.5) / side) ** 2 for side in (height, width))
    return rows[:, None] * columns


def stride(settings: Cropping) -> int:
    """How far apart neighbouring crops begin at the most."""
    return round(settings.window * (1 - settings.overlapping))


def margins(settings: Cropping, height: int, width: int) -> tuple[int, int]:
    """How far a crop may be moved, up or down and to the sides: a quarter of what neighbours overlap by."""
    most = (settings.window - stride(settings)) // 4
    return most * (height > settings.window), most * (width > settings.window)


def surroundings(settings: Cropping, height: int, width: int, jitter: bool) -> tuple[int, int, int, int]:
    """How much of what lies (left, right, above, below) of a picture its crops show."""
    if settings.wraps:
        reach = settings.window + stride(settings)
        return 0, reach * (width > settings.window), 0, reach * (height > settings.window)
    above, before = margins(settings, height, width) if jitter else (0, 0)
    return before, before, above, above


def crops(settings: Cropping, height: int, width: int, jitter: np.random.Generator | None = None) -> list[View]:
    """Crops that cover a picture larger than the window, neighbours overlapping by `window_overlap` of it or more.

    With `jitter` each is moved at random, but at the picture's edges only outwards, so that it stays covered; rows and
    columns then count from `margins` outside of the picture. Of a picture without edges all are moved by the same.
    """
    if settings.wraps:
        spare = [stride(settings) * (side > settings.window) for side in (height, width)]
        down, right = (int(jitter.integers(0, most, endpoint=True)) if jitter else 0 for most in spare)
        lengths = [min(settings.window, side) for side in (height, width)]
        return [
            (slice(top, top + lengths[0]), slice(left, left + lengths[1]))
            for top in (start + down for start in starts(settings, height))
            for left in (start + right for start in starts(settings, width))
        ]

    def moved(start: int, side: int, margin: int) -> slice:
        length = min(settings.window, side)
        if jitter and margin:
            low = 0 if start + length == side else -margin
            start += margin + int(jitter.integers(low, 0 if start == 0 else margin, endpoint=True))
        return slice(start, start + length)

    above, before = margins(settings, height, width)
    places = [(top, left) for top in starts(settings, height) for left in starts(settings, width)]
    return [(moved(top, height, above), moved(left, width, before)) for top, left in places]


def starts(settings: Cropping, side: int) -> list[int]:
    """Where crops begin along a side, the last where it ends with the side: as far apart as they may; with DemoFusion's
    formulas at every half window. If the side has no end, all around it."""
    if settings.wraps and side > settings.window:
        count = math.ceil(side / stride(settings))
        return [round(k * side / count) for k in range(count)]
    last = max(0, side - settings.window)
    gaps = math.ceil(last / stride(settings))
    if settings.window_formulas == DEMOFUSION:
        return [min(k * stride(settings), last) for k in range(gaps + 1)]
    return [round(k * last / max(gaps, 1)) for k in range(gaps + 1)]


def places(settings: Cropping, height: int, width: int, down: int = 0, right: int = 0) -> list[Place]:
    """Where each of the `crops` lies but for its jitter; none of a picture that is shown whole.

    The crops of a picture without edges, which are all moved `down` and `right`, have the nearest of these places.
    """
    if not parts(settings, height, width)[0]:
        return []

    def along(side: int, moved: int) -> list[tuple[float, float]]:
        own = starts(settings, side)
        first = round(moved * len(own) / side) % len(own)
        length = min(settings.window, side)
        return [(start / side, (start + length) / side) for start in own[first:] + own[:first]]

    across = along(width, right)
    return [(left, top, end, bottom) for top, bottom in along(height, down) for left, end in across]


def dilation(height: int, width: int, window: int) -> int:
    """By how much sub-grids are thinned out: the least whole number with which they fit into the window.

    At a window of the size that the model knows it is the scale of DemoFusion's phases.
    """
    return math.ceil(max(height, width) / window)


def parts(settings: Cropping, height: int, width: int) -> tuple[int, int]:
    """How many crops and how many sub-grids of a picture (in latent pixels) a model call becomes; 0, 0 if it stays."""
    window = settings.window
    if not window or max(height, width) <= window:
        return 0, 0
    local = len(starts(settings, height)) * len(starts(settings, width))
    return local, dilation(height, width, window) ** 2 if settings.dilated else 0


def calls(settings: Cropping, height: int, width: int) -> int:
    """Model calls, of `window_batch` parts at most, in the place of one with the whole picture (in latent pixels)."""
    return sum(math.ceil(views / settings.window_batch) for views in parts(settings, height, width)) or 1
