"""Correcting a large picture by the small one that it was made from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from itermix.mixing.filters import overlaps
from itermix.mixing.masks import fitted

ROUNDS = 3  # each leaves about a third of the error of resamplers
SEEN = 1e-4  # of an area's weight: with less there are no means to speak of


def means(x: Tensor, size: Sequence[int]) -> Tensor:
    """The means [N, C, h, w] of x [N, C, H, W] over h x w equal areas, of whole pixels or not.

    Torch's own "area" takes every pixel that an area touches in full: it blurs at a scale of 1.5, and what is to be put
    back would be far too much.
    """
    of_rows, of_columns = (
        torch.from_numpy(overlaps(side, count) * (count / side)).to(x) for side, count in zip(x.shape[-2:], size)
    )
    return of_rows @ x @ of_columns.T


def missing(large: Tensor, small: Tensor) -> Tensor:
    """What `large` [N, C, H, W] lacks for its means over areas to be `small` [N, C, h, w], enlarged bicubically.

    One step of iterative back-projection (Irani and Peleg, 1991), in single precision at least. H >= h, W >= w.
    """
    dtype = torch.promote_types(large.dtype, torch.float32)
    lacking = small.to(dtype) - means(large.to(dtype), small.shape[-2:])
    return _smooth(lacking, large)


def back_projected(enlarged: Tensor, source: Tensor) -> Tensor:
    """The enlarged pictures [N, C, H, W] with means over areas close to `source` [N, C, h, w], not clamped."""
    for _ in range(ROUNDS):
        enlarged = enlarged + missing(enlarged, source)
    return enlarged


def put_back(x: Tensor, source: Tensor, areas: Sequence[int], share: float, mask: Tensor | None = None) -> None:
    """Give decoded pictures x [B, C, H, W], in place, a share of what their means over areas lack of their source's.

    x <- x + share * mask * bicubic(means(source) - means(x)), not clamped: a step of ILVR (arXiv 2108.02938) after the
    last model call, which would else have the last word on what the source decides. Smooth, since areas of one
    correction each would show their edges as grain. In pixels, since latents of the same picture can be far apart.

    Args:
        x: of any float type; the step is made in single precision at least.
        source: [B or 1, C, h, w] of any size, in the range of x.
        areas: how many areas (rows, columns) x and the source are divided into, of whole pixels or not.
        share: from 0 to 1.
        mask: how much of it each pixel gets, [B or 1, 1, h, w] in [0, 1] of any size. Means are then of what it lets
            through, and an area that it lets through in part gets as much less: a correction in full up to the mask's
            edge would show there.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    source = source.to(x.device, dtype).expand(len(x), -1, -1, -1)
    masks = [None] * len(x) if mask is None else mask.expand(len(x), -1, -1, -1).split(1)
    for picture, of_source, of_mask in zip(x.split(1), source.split(1), masks):  # one by one, for the memory
        if of_mask is None:
            lacking = missing(picture, means(of_source, areas))
        else:
            of_pixels = fitted(of_mask, picture).to(picture.device, dtype)
            of_areas = _missing_within(picture.to(dtype), of_pixels, of_source, fitted(of_mask, of_source), areas)
            lacking = _smooth(of_areas, picture) * of_pixels
        picture.copy_(picture + share * lacking)


def _missing_within(x: Tensor, mask: Tensor, source: Tensor, source_mask: Tensor, areas: Sequence[int]) -> Tensor:
    """What the means of x [1, C, H, W] lack of the source's, of each the part within its mask, [1, C, rows, columns].

    Where the mask lets through a share of an area it is that share of what is lacking, so 0 outside of it.
    """
    weight, of_source = means(mask, areas), means(source_mask.to(source), areas)
    seen = (weight > SEEN) & (of_source > SEEN)
    lacking = means(source_mask.to(source) * source, areas) / of_source - means(mask * x, areas) / weight
    share = weight / F.adaptive_max_pool2d(mask, tuple(areas))
    return torch.where(seen, lacking * share, 0.0)


def _smooth(of_areas: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(of_areas, like.shape[-2:], mode="bicubic", align_corners=False)
