"""Masks: how much of the weight each pixel gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from itermix.mixing.curves import CurveSettings
from itermix.parameters import ON, SettingsError, parameter

MULTIPLY, THRESHOLD = MASK_MODES = ("multiply", "threshold")


@dataclass(frozen=True, init=False)
class MaskSettings(CurveSettings):
    """What a mask does."""

    mask_mode: str = parameter(
        "multiply",
        "Mask mode",
        "What a mask does, in which white is the most guidance and black none. multiply: the weight of a pixel is that "
        "of the curve times its value. threshold: its weight is the highest for as long as the progress is below its "
        "value, and the lowest from there on, in the place of the curve (Differential Diffusion).",
        "mask mode",
        "Mask",
        choices=MASK_MODES,
        needs=({"mask": ON, "perlin": ON},),
    )

    takes = ("mask",)

    def pixels(self, latent: Tensor, seeds: Sequence[int], picture: Tensor | None) -> Tensor | None:
        """How much of the weight each pixel of a latent [B, C, H, W] gets, [B or 1, 1, H, W] in [0, 1]; None: all.

        `seeds` are one per image; `picture` [B or 1, 1, h, w] in [0, 1] is what the user has drawn.
        """
        return None if picture is None else fitted(picture, latent)


@dataclass(frozen=True)
class Mask:
    """What becomes of the weight at each pixel.

    Attributes:
        values: [B or 1, 1, H, W] in [0, 1], of the size of the latent; 0 is free.
        mode: a name in `MASK_MODES`.
        lowest, highest: what a threshold switches between.
    """

    values: Tensor
    mode: str = MULTIPLY
    lowest: float = 0.0
    highest: float = 1.0

    def weight(self, weight: float, progress: float) -> Tensor | float:
        """The weight of each pixel [B or 1, 1, H, W] at a step with this weight and progress; a number if all have one.

        "multiply": weight * m. "threshold": `highest` while the progress is below m, `lowest` from there on, whatever
        the curve says. From 1 to 0 that is Differential Diffusion (arXiv 2306.00950, algorithm 1): what of the noised
        source is kept in step i of n is where m > i / n.
        """
        if self.mode == THRESHOLD:
            held = self.values > progress
            return torch.where(held, self.highest, self.lowest) if bool(held.any()) else self.lowest
        return weight * self.values if weight else 0.0


def mask_of(settings: MaskSettings, latent: Tensor, seeds: Sequence[int], picture: Tensor | None = None) -> Mask | None:
    """The mask of a run, None if nothing is masked.

    Args:
        settings: mask_mode, lowest and highest are used, and those of what else frees pixels.
        latent: what the mask is to cover, [B, C, H, W].
        seeds: one per image.
        picture: [B or 1, 1, h, w] in [0, 1]; it is resized.

    Raises:
        SettingsError: the picture isn't one.
    """
    values = settings.pixels(latent, seeds, picture)
    if values is None:
        return None
    return Mask(values.to(latent.device), settings.mask_mode, settings.lowest, settings.highest)


def values_of(image: Any) -> Tensor:
    """[1, 1, H, W] in [0, 1], white is 1, of a Pillow image: its brightness, whatever is transparent."""
    deep = image.mode.startswith("I")  # of 16 bits
    levels = np.asarray(image if deep else image.convert("L"), dtype=np.float32)
    return torch.from_numpy(levels / (65535 if deep else 255))[None, None].clamp(0, 1)


def fitted(picture: Tensor, latent: Tensor) -> Tensor:
    """A picture [B or 1, 1, h, w] at the size of `latent` [B, C, H, W], on the CPU, in single precision.

    Raises SettingsError for another shape, for NaN, and for values that aren't in [0, 1].
    """
    allowed = f"Allowed: floating point [{len(latent)} or 1, 1, height, width], from 0 to 1."
    if picture.ndim != 4 or picture.shape[1] != 1 or len(picture) not in (1, len(latent)) or not picture.numel():
        raise SettingsError("mask", tuple(picture.shape), allowed)
    if not picture.is_floating_point() or not bool(((picture >= 0) & (picture <= 1)).all()):
        raise SettingsError("mask", f"{picture.dtype} {picture.min()} to {picture.max()}", allowed)
    values = picture.detach().float().cpu()
    size = latent.shape[-2:]
    if all(before >= after for before, after in zip(values.shape[-2:], size)):
        return F.interpolate(values, size, mode="area")  # keeps edges that lie between latent pixels
    return F.interpolate(values, size, mode="bilinear", antialias=True).clamp(0, 1)
