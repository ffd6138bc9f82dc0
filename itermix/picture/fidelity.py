"""Fidelity: the coarse part of the source, put back into a decoded picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from itermix.mixing.masks import fitted
from itermix.parameters import Part, parameter
from itermix.picture.enlarging import means, missing, smooth


@dataclass(frozen=True, init=False)
class FidelitySettings(Part):
    """How much of the source's colours are put back."""

    fidelity: float = parameter(
        0.5,
        "Fidelity",
        "How much of the source's colours and brightness comes back after each phase. After decoding, the picture "
        "gets this share of its source's means back, over areas of 8 pixels of the source, which are one of its "
        "latent: model and autoencoder drift. What is finer isn't changed. 0: off.",
        "fidelity",
        "Blending",
        low=0.0,
        high=1.0,
        step=0.05,
    )


SEEN = 1e-4  # of an area's weight: with less there are no means to speak of


def put_back(
    x: Tensor,
    source: Tensor,
    areas: Sequence[int],
    share: float,
    mask: Tensor | None = None,
    wraps: bool = False,
) -> None:
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
        wraps: whether the picture goes on at its opposite edge.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    source = source.to(x.device, dtype).expand(len(x), -1, -1, -1)
    masks = [None] * len(x) if mask is None else mask.expand(len(x), -1, -1, -1).split(1)
    for picture, of_source, of_mask in zip(x.split(1), source.split(1), masks):  # one by one, for the memory
        if of_mask is None:
            lacking = missing(picture, means(of_source, areas), wraps)
        else:
            of_pixels, of_its_pixels = (fitted(of_mask, of).to(of_source) for of in (picture, of_source))
            of_areas = _missing_within(picture, of_pixels, of_source, of_its_pixels, areas)
            lacking = smooth(of_areas, picture, wraps) * of_pixels
        picture.copy_(picture + share * lacking)


def _missing_within(x: Tensor, mask: Tensor, source: Tensor, source_mask: Tensor, areas: Sequence[int]) -> Tensor:
    """What the means of x [1, C, H, W] lack of the source's, of each the part within its mask, [1, C, rows, columns].

    Where the mask lets through a share of an area it is that share of what is lacking, so 0 outside of it.
    """
    weight, of_source = means(mask, areas), means(source_mask, areas)
    seen = (weight > SEEN) & (of_source > SEEN)
    lacking = means(source_mask * source, areas) / of_source - means(mask * x, areas) / weight
    share = weight / F.adaptive_max_pool2d(mask, tuple(areas))
    return torch.where(seen, lacking * share, 0.0)
