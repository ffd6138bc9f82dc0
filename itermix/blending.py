"""Blending: x <- B(z', x, weight), with `weight` the weight of the noised latent z'.

Each function works in place on `x` [B, C, H, W] and may use `noised` (same shape and dtype) as scratch space, so that
mixing needs no third latent. Every image of a batch is blended on its own. At weight 1 each gives z'.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NEARLY_PARALLEL = 1e-3  # below this sine the arc and the straight line agree to 1e-6


def addition(x: Tensor, noised: Tensor, weight: float) -> None:
    """weight * z' + (1 - weight) * x: DemoFusion (arXiv 2311.16973), eq. 4."""
    x.lerp_(noised, weight)


def slerp(x: Tensor, noised: Tensor, weight: float) -> None:
    """Spherical interpolation; along a straight line where no arc is defined (parallel, opposite or zero vectors)."""
    length_x, length_noised = _lengths(x), _lengths(noised)
    product = length_x * length_noised
    cosine = (_dots(x, noised) / product.clamp_min(torch.finfo(torch.float32).tiny)).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    straight = (sine < NEARLY_PARALLEL) | (product == 0)
    sine = sine.masked_fill(straight, 1)
    for_noised = torch.where(straight, weight, torch.sin(weight * angle) / sine)
    for_x = torch.where(straight, 1 - weight, torch.sin((1 - weight) * angle) / sine)
    _weighted_sum(x, for_x, noised, for_noised)


def norm_only(x: Tensor, noised: Tensor, weight: float) -> None:
    """weight * z' + (1 - weight) * x * |z'| / |x| (ComfyUI Iterative Mixing node); a zero x stays zero."""
    length = _lengths(x)
    ratio = torch.where(length == 0, 0.0, _lengths(noised) / length)
    _weighted_sum(x, (1 - weight) * ratio, noised, torch.full_like(ratio, weight))


BLENDINGS: dict[str, Callable[[Tensor, Tensor, float], None]] = {
    "addition": addition,
    "slerp": slerp,
    "norm-only": norm_only,
}


def _lengths(x: Tensor) -> Tensor:
    """Euclidean length of each image, [B], in single precision at least: half would overflow."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.promote_types(x.dtype, torch.float32))


def _dots(x: Tensor, y: Tensor) -> Tensor:
    """Dot product of each pair of images, [B], in single precision at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.bmm(x.flatten(1)[:, None].to(dtype), y.flatten(1)[:, :, None].to(dtype))[:, 0, 0]


def _weighted_sum(x: Tensor, for_x: Tensor, noised: Tensor, for_noised: Tensor) -> None:
    """x <- for_x * x + for_noised * noised with a factor [B] per image."""
    shape = (-1,) + (1,) * (x.ndim - 1)
    noised.mul_(for_noised.view(shape).to(x.dtype))
    x.mul_(for_x.view(shape).to(x.dtype)).add_(noised)
