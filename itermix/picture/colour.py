"""Keeping the colours: every channel's mean and contrast are those of the source."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itermix.parameters import Part, parameter


@dataclass(frozen=True, init=False)
class ColourSettings(Part):
    """Whether colours are kept on the latent."""

    match_colours: bool = parameter(
        False,
        "Match colours",
        "Give each channel of the latent the mean and the contrast of the source after every phase. DemoFusion does "
        "so with those of its first.",
        "match colours",
        "Phases",
    )

    def finished(self, samples: Tensor, latent: Tensor, where: Tensor | None = None) -> Tensor:
        samples = super().finished(samples, latent, where)
        return match_statistics(samples, latent, where) if self.match_colours else samples


def match_statistics(x: Tensor, reference: Tensor, where: Tensor | None = None) -> Tensor:
    """x [B, C, H, W] with the mean and the standard deviation that each channel of each image has in `reference`.

    DemoFusion's code resets the statistics of its later phases to those of the first in this way. A channel without
    any contrast only gets the mean.

    Args:
        reference: like x.
        where: [H, W] or wider, in [0, 1]: what of the picture counts and is changed; None: all of it.
    """
    weight = torch.ones_like(x) if where is None else where.to(x).expand_as(x)

    def statistics(values: Tensor) -> tuple[Tensor, Tensor]:
        values, total = values.double(), weight.double()
        area = total.sum(dim=(2, 3), keepdim=True).clamp_min(1e-9)
        mean = (total * values).sum(dim=(2, 3), keepdim=True) / area
        return mean, ((total * (values - mean) ** 2).sum(dim=(2, 3), keepdim=True) / area).sqrt()

    (mean, deviation), (wanted_mean, wanted_deviation) = statistics(x), statistics(reference)
    gain = torch.where(deviation > 0, wanted_deviation / deviation, 1.0)
    matched = (x.double() - mean) * gain + wanted_mean
    return torch.lerp(x, matched.to(x), weight)
