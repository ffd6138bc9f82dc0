"""Correcting a large picture by the small one that it was made from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 3  # each leaves about a third of the error of resamplers


def missing(large: Tensor, small: Tensor) -> Tensor:
    """What `large` [N, C, H, W] lacks for its means over areas to be `small` [N, C, h, w], enlarged bicubically.

    One step of iterative back-projection (Irani and Peleg, 1991), in single precision at least. H >= h, W >= w.
    """
    dtype = torch.promote_types(large.dtype, torch.float32)
    lacking = small.to(dtype) - F.interpolate(large.to(dtype), small.shape[-2:], mode="area")
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
    small = F.interpolate(latent.to(x.device, dtype), (height, width), mode="area")
    lacking = missing(x, small)
    if mask is not None:
        lacking *= mask.to(lacking)
    x.add_(lacking.to(x.dtype), alpha=share)
