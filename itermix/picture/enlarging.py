"""Correcting a large picture by the small one that it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from itermix.mixing.filters import overlaps
from itermix.parameters import MAX_SCALE, SIZE_MULTIPLE, Parameter, Part, SettingsError, parameter, scaled_side


@dataclass(frozen=True, init=False)
class SizeSettings(Part):
    """The size of the result, and what enlarges the source."""

    scale: float = parameter(
        2.0,
        "Scale",
        "How many times larger than the source picture. Used where width and height are 0.",
        "scale",
        "Size",
        low=1.0,
        high=MAX_SCALE,
        step=0.05,
        needs=({"width": (0,)}, {"height": (0,)}),
    )
    width: int = parameter(
        0,
        "Width",
        "Width of the result in pixels, a multiple of 8. 0: from the scale, or from height and the source's shape.",
        "width",
        "Size",
        low=0,
        high=16384,
        step=SIZE_MULTIPLE,
    )
    height: int = parameter(
        0,
        "Height",
        "Height of the result in pixels, a multiple of 8. 0: from the scale, or from width and the source's shape.",
        "height",
        "Size",
        low=0,
        high=16384,
        step=SIZE_MULTIPLE,
    )
    upscaler: str = parameter("Lanczos", "Upscaler", "Enlarges the picture before the mixing pass.", "upscaler", "Size")
    back_projection: bool = parameter(
        True,
        "Back-projection",
        "Correct the enlarged picture until it gives the source when it is made small again. Upscalers blur a little, "
        "and some change colours. Latent upscalers are not corrected.",
        "back-projection",
        "Size",
    )

    @classmethod
    def own_parameters(cls) -> tuple[Parameter, ...]:
        """The declarations that the mixing alone doesn't have."""
        return SizeSettings.parameters()

    def _check_together(self) -> None:
        super()._check_together()
        for name in ("width", "height"):
            if getattr(self, name) % SIZE_MULTIPLE:
                raise SettingsError(name, getattr(self, name), f"Allowed: a multiple of {SIZE_MULTIPLE}.")

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Size (width, height) in pixels of the result for a source of this size, rounded down to multiples of 8."""
        if self.width and self.height:
            return self.width, self.height
        scale = self.width / width if self.width else self.height / height if self.height else self.scale
        return self.width or scaled_side(width, scale), self.height or scaled_side(height, scale)


RIM = 8  # pixels that an upscaler looks at beyond an edge


def rims(side: int, target: int) -> tuple[int, int]:
    """How many pixels of its opposite edge a side needs before and behind it to be enlarged to `target` without ends,
    and what they become: whole pixels both."""
    least = side // math.gcd(side, target)
    rim = least * math.ceil(RIM / least)
    return rim, rim * target // side


ROUNDS = 3  # each leaves about a third of the error of resamplers


def means(x: Tensor, size: Sequence[int]) -> Tensor:
    """The means [N, C, h, w] of x [N, C, H, W] over h x w equal areas, of whole pixels or not.

    Torch's own "area" takes every pixel that an area touches in full: it blurs at a scale of 1.5, and what is to be put
    back would be far too much.
    """
    of_rows, of_columns = (
        torch.from_numpy(overlaps(side, count) * (count / side)).to(x) for side, count in zip(x.shape[-2:], size)
    )
    return of_rows @ x @ of_columns.T


def missing(large: Tensor, small: Tensor, wraps: bool = False) -> Tensor:
    """What `large` [N, C, H, W] lacks for its means over areas to be `small` [N, C, h, w], enlarged bicubically.

    One step of iterative back-projection (Irani and Peleg, 1991), in single precision at least. H >= h, W >= w. `wraps`
    is that of `smooth`.
    """
    dtype = torch.promote_types(large.dtype, torch.float32)
    lacking = small - means(large.to(dtype), small.shape[-2:])
    return smooth(lacking, large, wraps)


def back_projected(enlarged: Tensor, source: Tensor) -> Tensor:
    """The enlarged pictures [N, C, H, W] with means over areas close to `source` [N, C, h, w], not clamped."""
    for _ in range(ROUNDS):
        enlarged = enlarged + missing(enlarged, source)
    return enlarged


AROUND = 2  # areas that a bicubic looks at beyond an edge


def smooth(of_areas: Tensor, like: Tensor, wraps: bool = False) -> Tensor:
    """The values [N, C, h, w] of areas at the size of the pictures `like` [N, C, H, W].

    `wraps`: the pictures go on at their opposite edge; where areas aren't of whole pixels, they end there all the same.
    """
    sizes = like.shape[-2:]
    pixels = [side // count for side, count in zip(sizes, of_areas.shape[-2:])]
    if not wraps or any(side % count for side, count in zip(sizes, of_areas.shape[-2:])):
        return F.interpolate(of_areas, sizes, mode="bicubic")
    rows, columns = (torch.arange(-AROUND, count + AROUND) % count for count in of_areas.shape[-2:])
    wider = of_areas[..., rows, :][..., columns]
    larger = [side + 2 * AROUND * each for side, each in zip(sizes, pixels)]
    (above, left), (height, width) = (AROUND * each for each in pixels), sizes
    found = F.interpolate(wider, larger, mode="bicubic")
    return found[..., above : above + height, left : left + width]
