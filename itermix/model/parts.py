"""Parts of a picture, and what belongs to them of all that comes with it: conditioning, hints, surroundings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

View = tuple[slice, slice]
"""Rows and columns of a picture that the model sees as one."""

Place = tuple[float, float, float, float]
"""Left, top, right and bottom in a picture, as shares of its sides. What ends beyond 1 goes on at the opposite edge."""


@dataclass(frozen=True)
class Parts:
    """K parts of each picture of a batch, by which to find what belongs to them of what came with the whole pictures.

    Attributes:
        x: the pictures, [N, C, H, W]; None: each is a part of its own.
        views: the parts, in the pictures once these have surroundings.
        pad, mode: these surroundings (left, right, above, below), as torch pads them.
        places: of each crop, where it lies but for the jitter; none where the picture is thinned out.
    """

    x: Tensor | None = None
    views: Sequence[View] = ()
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    mode: str = "reflect"
    places: Sequence[Place] = ()

    def surrounded(self, x: Tensor) -> Tensor:
        """Pictures like x, [N, C, H, W], with their surroundings."""
        return padded(x, self.pad, self.mode)

    def __call__(self, value: Any) -> Any:
        """Of a tensor, or of tensors in dicts, lists and tuples; see `of_views`."""
        return value if self.x is None else of_views(value, self.x, self.views, self.surrounded)

    def of_hint(self, hint: Tensor, factor: int) -> Tensor:
        """[N * K, C, h, w]: what belongs to the parts of a hint [B, C, any, any] for the whole pictures, of which N is
        a multiple of B; `factor` pixels of it are one of x. Lines stay as sharp as they were."""
        if self.x is None:
            return hint
        size = [side * factor for side in self.x.shape[-2:]]
        whole = hint if list(hint.shape[-2:]) == size else F.interpolate(hint, size, mode="nearest-exact")
        whole = padded(whole, [side * factor for side in self.pad], self.mode)
        cut = [_of_hint(whole, view, factor) for view in self.views]
        return torch.stack([part.repeat(len(self.x) // len(hint), 1, 1, 1) for part in cut], dim=1).flatten(0, 1)


def _of_hint(hint: Tensor, view: View, factor: int) -> Tensor:
    """The part of a hint [B, C, H, W] that is a view of pictures of which one pixel is `factor` of it."""
    if any(side.step for side in view):  # thinned out
        sizes = [len(range(*side.indices(all_ // factor))) for side, all_ in zip(view, hint.shape[-2:])]
        return F.interpolate(hint, [size * factor for size in sizes], mode="nearest-exact")
    rows, columns = (slice(side.start * factor, side.stop * factor) for side in view)
    return hint[..., rows, columns]


WHOLE = Parts()
"""Of pictures that are shown as they are."""


def padded(x: Tensor, pad: Sequence[int], mode: str) -> Tensor:
    """x [N, C, H, W] with (left, right, above, below) more pixels, as torch pads; in a circle as often as it takes."""
    if mode != "circular":
        return F.pad(x, list(pad), mode=mode)
    left, right, above, below = pad
    height, width = x.shape[-2:]
    rows = torch.arange(-above, height + below, device=x.device) % height
    return x[..., rows, :][..., torch.arange(-left, width + right, device=x.device) % width]


def folded(x: Tensor, height: int, width: int) -> Tensor:
    """[..., height, width]: the sums of what of x [..., H, W] lies on one pixel where it goes round a picture."""
    for dim, side in ((-2, height), (-1, width)):
        shape = list(x.shape)
        shape[dim] = side
        place = torch.arange(x.shape[dim], device=x.device) % side
        x = x.new_zeros(shape).index_add_(dim, place, x)
    return x


def stacked(x: Tensor, views: Sequence[View]) -> Tensor:
    """[N * K, C, h, w]: the K views of each picture of x [N, C, H, W], which are of one size, beside each other."""
    return torch.stack([x[..., rows, columns] for rows, columns in views], dim=1).flatten(0, 1)


def of_views(value: Any, x: Tensor, views: Sequence[View], surrounded: Callable[[Tensor], Tensor]) -> Any:
    """What the views of the `surrounded` pictures x [N, C, H, W] need of what came with x.

    A tensor of pictures like x is cut like it, another with one row for each picture gets one for each view; anything
    else stays as it is. In dicts, lists and tuples it is so with all that they hold.
    """
    if isinstance(value, dict):
        return {key: of_views(item, x, views, surrounded) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(of_views(item, x, views, surrounded) for item in value)
    if not isinstance(value, Tensor) or not value.ndim or len(value) != len(x):
        return value
    if value.ndim in (4, 5) and value.shape[-2:] == x.shape[-2:]:
        planes = value.flatten(1, -3)
        return stacked(surrounded(planes), views).unflatten(1, value.shape[1:-2])
    return value.repeat_interleave(len(views), dim=0)
