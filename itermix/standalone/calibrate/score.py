"""One number for a result, by which settings are ranked; what it is made of is in the report beside it.

    100 x structure                         the source's edges are there, and no others
    + 10 x log2(detail)                     from -1 to +0.32: less detail costs, up to a quarter more is worth something
    - 0.5 for each dB of fidelity below 36  where the picture itself has become another
    - 1 for each % of contrast beyond 1.5, and for each grey level of the mean beyond 1
    - 2 x grain

The same is made of metrics against a native render, where there is one, to see whether both rank alike
(`benchmarks/calibrate_truth.py`). There the right detail is the render's, so more costs as less does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from itermix.standalone.calibrate.numbers import DETAIL
from itermix.standalone.latent.metrics import Array

MORE_DETAIL = 0.32
"""Octaves of strength: a quarter more than the source's."""

ENOUGH_FIDELITY = 36.0
"""dB; errors of 4 grey levels in areas of a latent pixel."""

FREE_CONTRAST, FREE_MEAN = 1.5, 1.0


def score(readings: Mapping[str, Array], known: bool = False) -> Array:
    """[N] of the readings {metric: [N]} of N pictures (`numbers.MEASURED`).

    `known`: whether they are of the native render in the place of the source.
    """
    octaves = np.log2(np.maximum(np.nan_to_num(readings[DETAIL], nan=1.0), 0.01))
    detail = -np.abs(octaves) if known else np.minimum(octaves, MORE_DETAIL)
    return np.asarray(
        100 * readings["structure"]
        + 10 * np.maximum(detail, -1)
        - 0.5 * np.maximum(ENOUGH_FIDELITY - readings["fidelity"], 0)
        - np.maximum(np.abs(readings["contrast"]) - FREE_CONTRAST, 0)
        - np.maximum(readings["mean"] - FREE_MEAN, 0)
        - 2 * np.nan_to_num(readings["grain"], nan=0.0)
    )
