"""What is measured of an enlarged picture where nobody knows the truth: against its source, and against hires fix.

Pictures are tensors [N, 3, H, W] in [0, 1]. The metrics are those of the latent benchmark (`latent.metrics`), whose
*truth* is here the source, enlarged. `measured` gives, per picture:

fidelity     PSNR in dB of the result to the source, both averaged over the areas of a latent pixel of the source: the
             bands that a latent of the source's size holds. What is finer is the model's to paint.
psnr_source  the same in all bands of the source.
detail_16    strength of the octave of 16 to 32 px of the result, two latent pixels, as a share of the enlarged
             source's; above 1 there is more of it. `over_hires_fix` tells how much more than in hires fix of equal
             fidelity.
precision    share of the result's edges where the source has one; falls with doubled parts, halos and flecks.
recall       share of the source's edges that the result has; falls with blur and lost parts.
structure    their harmonic mean.
spurious     share of the area, in %, around edges that are far from any of the source: parts that aren't there.
contrast     change of the deviation of the channels, in %.
mean         how far the means of the channels have moved, in grey levels.
grain        spread of what is fine where the source is flat, in grey levels; NaN where hardly anything is.
flecks       blobs that stand out of it, for every 100 000 px of flat area.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from itermix.standalone.latent import metrics
from itermix.standalone.latent.metrics import LATENT_PIXEL, Array

DETAIL = "detail_16"

SHOWN = {
    "fidelity": ("fidelity, dB", 1),
    **{name: metrics.SHOWN[name] for name in ("psnr_source", DETAIL)},
    "over_hires_fix": ("detail over hires fix", 2),
    **{
        name: metrics.SHOWN[name] for name in ("precision", "recall", "spurious", "contrast", "mean", "grain", "flecks")
    },
}
"""{metric: (heading, digits after the point)} of tables."""

MEASURED = tuple(name for name in (*SHOWN, "structure") if name != "over_hires_fix")


def measured(result: Tensor, source: Tensor) -> dict[str, Array]:
    """{metric: [N]} of results [N, 3, H, W] of sources [N, 3, h, w]; H and W are whole multiples of h and w.

    Raises:
        ValueError: sizes that don't fit each other, or sides of the source that aren't multiples of a latent pixel.
    """
    found = metrics.measured(result, None, source)
    return {name: found[name] for name in MEASURED if name in found} | {"fidelity": fidelity(result, source)}


def fidelity(result: Tensor, source: Tensor) -> Array:
    """[N] in dB; see above."""
    if any(side % LATENT_PIXEL for side in source.shape[-2:]):
        raise ValueError(
            f"Sides of {tuple(source.shape[-2:])} px are no multiples of a latent pixel, {LATENT_PIXEL} px"
        )
    held = F.avg_pool2d(source, LATENT_PIXEL)
    return metrics.psnr(metrics.pool(result, held), held)


def over_hires_fix(method: Mapping[str, Array], front: Sequence[Mapping[str, Array]]) -> tuple[float, float]:
    """How much more detail a method has than hires fix of equal fidelity, and the standard error of that.

    Args:
        front: readings of hires fix from weak to strong, over the same pictures as the method's. The first may be the
            source enlarged, which is hires fix of no strength.

    NaN outside of the front.
    """
    if len(front) < 2:
        return math.nan, math.nan
    return metrics.gain_at_equal_detail(method, front[::-1], DETAIL, "fidelity")


def mean(readings: Mapping[str, Array]) -> dict[str, float]:
    """{metric: mean over the pictures that have it}, NaN where none has."""
    return {name: metrics.mean_and_error(np.asarray(values))[0] for name, values in readings.items()}
