"""Perlin noise: smooth random patches, the same picture at every size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from itermix.mixing.masks import MaskSettings
from itermix.parameters import ON, parameter


@dataclass(frozen=True, init=False)
class PerlinSettings(MaskSettings):
    """How uneven the guidance is."""

    perlin: float = parameter(
        0.0,
        "Perlin noise",
        "Guide unevenly: take up to this share of the weight away in smooth random patches. Their seed is that of the "
        "noise. 0: off.",
        "Perlin noise",
        "Mask",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    perlin_scale: float = parameter(
        10.0,
        "Perlin scale",
        "How many of the largest patches lie along the picture's longer side.",
        "Perlin scale",
        "Mask",
        low=1.0,
        high=100.0,
        step=1.0,
        needs=({"perlin": ON},),
    )

    def pixels(self, latent: Tensor, seeds: Sequence[int], picture: Tensor | None) -> Tensor | None:
        """The mask, times 1 - strength * Perlin noise."""
        values = super().pixels(latent, seeds, picture)
        if not self.perlin:
            return values
        height, width = latent.shape[-2:]
        patches = torch.stack([perlin(height, width, self.perlin_scale, seed) for seed in seeds])
        freed = 1 - self.perlin * patches[:, None]
        return freed if values is None else values * freed


OCTAVES, PERSISTENCE, LACUNARITY = 4, 0.5, 2
"""Layers of noise; the amplitude of each is this share of the one before, and its patches so many times smaller. As in
the ComfyUI Iterative Mixing node."""

STREAM = 0x9E71
"""Told to the generator beside a picture's seed, so that the patches have nothing to do with its other noise."""

Plane = NDArray[np.float64]


def perlin(height: int, width: int, scale: float, seed: int) -> Tensor:
    """[height, width] in [0, 1], both ends reached: gradient noise in octaves (Perlin, "Improving noise", 2002).

    Args:
        height, width: in pixels.
        scale: how many of the largest patches lie along the longer side, above 0. What is asked for at another size
            with the same scale and seed is the same picture.
        seed: of a generator of its own.
    """
    generator = np.random.default_rng([seed, STREAM])
    total = np.zeros((height, width))
    for octave in range(OCTAVES):
        cells = scale * LACUNARITY**octave  # along the longer side
        pixel = cells / max(height, width)
        total += PERSISTENCE**octave * _layer(height, width, pixel, int(np.ceil(cells)) + 1, generator)
    total -= total.min()
    return torch.from_numpy(total / (total.max() or 1.0)).float()


def _layer(height: int, width: int, pixel: float, points: int, generator: np.random.Generator) -> Plane:
    """[height, width]: one octave, on a lattice of `points` x `points` of which a pixel is the part `pixel`."""
    angles = generator.uniform(0, 2 * np.pi, (points, points))
    (row, down), (column, right) = (np.divmod((np.arange(side) + 0.5) * pixel, 1) for side in (height, width))
    row, column = row.astype(int)[:, None], column.astype(int)[None]
    down, right = down[:, None], right[None]

    def from_corner(i: int, j: int) -> Plane:
        """The slope of a corner of each pixel's cell, at the pixel."""
        angle = angles[row + i, column + j]
        return np.sin(angle) * (down - i) + np.cos(angle) * (right - j)

    top, bottom = (_between(from_corner(i, 0), from_corner(i, 1), right) for i in (0, 1))
    return _between(top, bottom, down)


def _between(start: Plane, end: Plane, t: Plane) -> Plane:
    """From `start` to `end` along Perlin's 6 t^5 - 15 t^4 + 10 t^3, which has no kinks where cells meet."""
    return start + (end - start) * (t * t * t * (t * (6 * t - 15) + 10))
