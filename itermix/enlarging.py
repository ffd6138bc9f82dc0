"""Correcting a large picture by the small one that it was made from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from itermix.filters import overlaps

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


def missing(large: Tensor, small: Tensor) -> Tensor:
    """What `large` [N, C, H, W] lacks for its means over areas to be `small` [N, C, h, w], enlarged bicubically.

    One step of iterative back-projection (Irani and Peleg, 1991), in single precision at least. H >= h, W >= w.
    """
    dtype = torch.promote_types(large.dtype, torch.float32)
    lacking = small.to(dtype) - means(large.to(dtype), small.shape[-2:])
    return F.interpolate(lacking, large.shape[-2:], mode="bicubic", align_corners=False)


def back_projected(enlarged: Tensor, source: Tensor) -> Tensor:
    """The enlarged pictures [N, C, H, W] with means over areas close to `source` [N, C, h, w], not clamped."""
    for _ in range(ROUNDS):
        enlarged = enlarged + missing(enlarged, source)
    return enlarged


def put_back(x: Tensor, latent: Tensor, scale: float, share: float, mask: Tensor | None = None) -> None:
    """Give x [B, C, H, W], in place, a share of what it lacks of the picture that guided it, z0 [B, C, H, W].

    `mask` [B or 1, 1, H, W] is how much of it each pixel gets.

    What counts of z0 is what a picture smaller by `scale` can hold. It is the step of ILVR (arXiv 2108.02938) after the
    last model call, which would else have the last word on what the source decides; smooth, since areas of one
    correction each would show their edges as grain.
    """
    height, width = (max(1, round(side / scale)) for side in x.shape[-2:])
    dtype = torch.promote_types(x.dtype, torch.float32)
    small = means(latent.to(x.device, dtype), (height, width))
    lacking = missing(x, small)
    if mask is not None:
        lacking *= mask.to(lacking)
    x.add_(lacking.to(x.dtype), alpha=share)
