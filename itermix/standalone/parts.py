"""Count the parts of a picture of `pictures.py`: is there exactly one head, one hat, two eyes and one mouth?

The count is strict. The network paints a part with a few pixels at its own resolution, and duplicates keep that size
in larger pictures, so every blob in a part's colour counts from `SMALLEST` pixels up, at every size of the picture and
anywhere in it. Parts are told apart by colour alone: each pixel gets a membership in [0, 1] per part, so the partly
covered pixels of small blobs count in part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

SMALLEST = 0.95
"""Sum of memberships from which a blob counts, whatever the size of the picture.

An anti-aliased disc of 3 px may cover one pixel in full and its neighbours by less than a half, which leaves them with
hardly any membership if the colour behind it is light.
"""

WEAK, STRONG = 0.25, 0.5
"""A blob is a connected region of memberships above WEAK that exceeds STRONG somewhere."""

NEIGHBOURS = np.ones((3, 3), dtype=bool)

SCENE_AREAS = {"head": 70.0, "hat": 60.0, "eye": 2.5, "mouth": 3.0}
"""Least plausible area of a true part in pixels at 32 px: less than any scene's, and it grows with the picture."""


@dataclass(frozen=True)
class Parts:
    """Numbers of parts in a picture. Blobs too small or too far off to be a true part also count as `strays`."""

    heads: int
    hats: int
    eyes: int
    mouths: int
    strays: int

    @property
    def exact(self) -> bool:
        """Whether the picture has exactly the right parts."""
        return (self.heads, self.hats, self.eyes, self.mouths, self.strays) == (1, 1, 2, 1, 0)

    @property
    def duplicated(self) -> bool:
        """Whether the picture has too many of any part."""
        return self.heads > 1 or self.hats > 1 or self.eyes > 2 or self.mouths > 1


class Memberships(NamedTuple):
    """How much each pixel [H, W] has the colour of a part, in [0, 1]."""

    head: Plane
    hat: Plane
    eye: Plane
    mouth: Plane


def memberships(picture: Tensor) -> Memberships:
    """Memberships of the pixels of a picture [3, H, W] in [-1, 1]."""
    red, green, blue = (picture.detach().float().cpu().numpy().clip(-1, 1) + 1) / 2
    redness = red - np.maximum(green, blue)
    hat_colours = (
        blue - np.maximum(red, green),
        green - np.maximum(red, blue),
        np.minimum(red, blue) - green,
    )
    hat_colour, brightest = np.maximum.reduce(hat_colours), np.maximum.reduce((red, green, blue))
    dark_hue = np.maximum(hat_colour, green - red)
    return Memberships(
        head=_ramp(red - blue, 0.16, 0.34) * _ramp(redness, 0.50, 0.32),
        hat=_ramp(hat_colour, 0.13, 0.25),
        # Dark, but not in a hat's hue, as its darkest stripes are. Those of green hats turn to teal, so red tells them.
        eye=_ramp(brightest, 0.46, 0.16) * _ramp(dark_hue / np.maximum(brightest, 0.2), 0.5, 0.35),
        mouth=_ramp(redness, 0.30, 0.56),
    )


def count_parts(picture: Tensor) -> Parts:
    """Count the parts of a picture [3, H, W] in [-1, 1]."""
    planes = memberships(picture)
    scale = (picture.shape[-1] / 32) ** 2
    blobs = {name: _blobs(plane) for name, plane in planes._asdict().items()}
    face = (planes.head > WEAK) | (planes.hat > WEAK)
    head = planes.head > WEAK
    strays = 0
    for name, found in blobs.items():
        for blob in found:
            neighbourhood = _rim(blob.mask)
            attached = {
                "head": True,
                "hat": bool((neighbourhood & head).any()),
                "eye": float(face[neighbourhood].mean()) > 0.5,
                "mouth": float(head[neighbourhood].mean()) > 0.5,
            }[name]
            strays += blob.area < SCENE_AREAS[name] * scale or not attached
    return Parts(
        heads=len(blobs["head"]),
        hats=len(blobs["hat"]),
        eyes=len(blobs["eye"]),
        mouths=len(blobs["mouth"]),
        strays=strays,
    )


def exact_rate(pictures: Tensor | Iterable[Tensor]) -> float:
    """Share of pictures [N, 3, H, W] in [-1, 1] with exactly the right parts."""
    exact = [count_parts(picture).exact for picture in pictures]
    return sum(exact) / len(exact)


class _Blob(NamedTuple):
    mask: Mask
    area: float


def _ramp(values: Any, zero: float, one: float) -> Plane:
    """Linear from 0 at `zero` to 1 at `one`, which may be the smaller, and clipped."""
    return np.clip((values - zero) / (one - zero), 0, 1)


def _blobs(membership: Plane) -> list[_Blob]:
    """Blobs of at least SMALLEST pixels (hysteresis thresholding with 8-connectivity)."""
    labels, count = ndimage.label(membership > WEAK, NEIGHBOURS)
    index = np.arange(1, count + 1)
    peaks = np.atleast_1d(ndimage.maximum(membership, labels, index)) if count else np.zeros(0)
    areas = np.atleast_1d(ndimage.sum_labels(membership, labels, index)) if count else np.zeros(0)
    kept = (peaks > STRONG) & (areas >= SMALLEST)
    return [_Blob(labels == label, area) for label, area in zip(index[kept], areas[kept], strict=True)]


def _rim(mask: Mask) -> Mask:
    """The pixels around a region, two deep as the first may be a mixture of two colours."""
    return ndimage.binary_dilation(mask, NEIGHBOURS, iterations=2) & ~mask
