"""Keeping the colours: mean and contrast of the latent are those of the source."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itermix.parameters import Part, parameter

DEMOFUSION = "DemoFusion"
COLOUR_FORMULAS = ("channels", DEMOFUSION)

First = Callable[[], Tensor] | None
"""What gives the latents of the first source, as in `Part.finished`."""


@dataclass(frozen=True, init=False)
class ColourSettings(Part):
    """Whether colours are kept on the latent."""

    match_colours: bool = parameter(
        False,
        "Match colours",
        "Give the latent the mean and the contrast of the source after every phase, each channel its own; Colour "
        "formulas has DemoFusion's.",
        "match colours",
        "Phases",
    )

    def finished(self, samples: Tensor, latent: Tensor, where: Tensor | None = None, first: First = None) -> Tensor:
        samples = super().finished(samples, latent, where, first)
        return self._matched(samples, latent, where, first) if self.match_colours else samples

    def _matched(self, samples: Tensor, latent: Tensor, where: Tensor | None, first: First) -> Tensor:
        return match_statistics(samples, latent, where)


@dataclass(frozen=True, init=False)
class ColourFormulaSettings(ColourSettings):
    """Whose statistics are kept."""

    colour_formulas: str = parameter(
        "channels",
        "Colour formulas",
        "What Match colours gives. channels: each channel the mean and the contrast that it has in the source of the "
        "phase. DemoFusion: as in its code, the whole latent the one mean and the one contrast of the first source, "
        "before it was enlarged.",
        "colour formulas",
        "Phases",
        choices=COLOUR_FORMULAS,
    )

    def _matched(self, samples: Tensor, latent: Tensor, where: Tensor | None, first: First) -> Tensor:
        if self.colour_formulas == DEMOFUSION:
            return match_anchor(samples, anchor_of(latent if first is None else first()), where)
        return super()._matched(samples, latent, where, first)


def match_statistics(x: Tensor, reference: Tensor, where: Tensor | None = None) -> Tensor:
    """x [B, C, H, W] with the mean and the standard deviation that each channel of each image has in `reference`.

    A channel without any contrast only gets the mean.

    Args:
        reference: like x.
        where: [H, W] or wider, in [0, 1]: what of the picture counts and is changed; None: all of it.
    """
    weight = torch.ones_like(x) if where is None else where.to(x).expand_as(x)
    return _matched(x, weight, _statistics(x, weight, (2, 3)), _statistics(reference, weight, (2, 3)))


Anchor = tuple[Tensor, Tensor]
"""Mean and deviation of each image as a whole, [B or 1, 1, 1, 1] in double precision."""


def anchor_of(latent: Tensor) -> Anchor:
    """What `match_anchor` gives a later picture, of the latents [B, C, H, W] of the first."""
    return _statistics(latent, torch.ones_like(latent), (1, 2, 3))


def match_anchor(x: Tensor, anchor: Anchor, where: Tensor | None = None) -> Tensor:
    """x [B, C, H, W] with one mean and one standard deviation of all that an image has: (x - mean) / deviation *
    anchor_deviation + anchor_mean, as DemoFusion's code resets its later phases. There it is of a batch, here of each
    image.

    `where` is that of `match_statistics`.
    """
    weight = torch.ones_like(x) if where is None else where.to(x).expand_as(x)
    mean, deviation = anchor
    return _matched(x, weight, _statistics(x, weight, (1, 2, 3)), (mean.to(x.device), deviation.to(x.device)))


def _statistics(values: Tensor, weight: Tensor, dims: tuple[int, ...]) -> Anchor:
    """Mean and deviation over `dims`, which stay as 1; the deviation is that of torch.std, with n - 1."""
    values, weight = values.double(), weight.double()
    area = weight.sum(dim=dims, keepdim=True).clamp_min(1e-9)
    mean = (weight * values).sum(dim=dims, keepdim=True) / area
    variance = (weight * (values - mean) ** 2).sum(dim=dims, keepdim=True) / area
    n = math.prod(values.shape[dim] for dim in dims)
    return mean, (variance * n / max(n - 1, 1)).sqrt()


def _matched(x: Tensor, weight: Tensor, own: Anchor, wanted: Anchor) -> Tensor:
    (mean, deviation), (wanted_mean, wanted_deviation) = own, wanted
    gain = torch.where(deviation > 0, wanted_deviation / deviation, 1.0)
    matched = (x.double() - mean) * gain + wanted_mean
    return torch.lerp(x, matched.to(x), weight)
