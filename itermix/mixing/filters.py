"""What of a picture is low: the part of it that the smaller picture it was enlarged from can hold.

Both filters are A^+ A, the projection onto what a way A of making a picture smaller sees of it, as in DDNM
(arXiv 2212.00490): applied twice they change nothing more, and they span as many dimensions as the smaller
picture has pixels. Mixing filters at every step, so this is what counts. A filter with a gradual slope (a Gaussian, a
windowed sinc) takes a share of the finest detail away each time until none is left; a projection leaves what it doesn't
pass free for good. (An ideal filter in the frequency domain projects too, but rings, and holds down the band just below
its cut-off, where enlarged pictures are dim.)

They pass a constant exactly, shift nothing, and look at nothing outside the picture, which goes on as its mirror image;
or at its opposite edge, where the `work` says so.
Any height, width, scale from 1 and float type will do; scale 1 filters nothing. `low_pass` and `haar_low` take x
[..., H, W] and return a tensor like it: `out` if it is given, which must be contiguous and may be x. `work` keeps what
they need besides for the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]


def low_pass(x: Tensor, scale: float, out: Tensor | None = None, work: Workspace | None = None) -> Tensor:
    """What linear antialiased resizing by 1 / scale sees of x; to one half, so does bicubic (Keys' a = -1/2)."""
    return _projected(x, around if work and work.wraps else triangles, scale, out, work)


def haar_low(x: Tensor, scale: float, out: Tensor | None = None, work: Workspace | None = None) -> Tensor:
    """The means over areas of scale x scale; for a power of 2 it is the low band of the Haar wavelet transform."""
    height, width = x.shape[-2:]
    if height % shrunk(height, scale) or width % shrunk(width, scale):
        return _projected(x, overlaps, scale, out, work)
    return _block_means(x, scale, out, work)


def shrunk(size: int, scale: float) -> int:
    """Samples of the smaller picture along a side of `size`."""
    return max(1, round(size / scale))


def triangles(size: int, count: int) -> Matrix:
    """[count, size]: weights of a linear resize from `size` to `count`, mirrored at the ends; columns sum to 1."""
    stretch = size / count
    centres = (np.arange(count)[:, None] + 0.5) * stretch - 0.5
    samples = np.arange(size)
    with_mirrored = np.stack([samples, -1 - samples, 2 * size - 1 - samples])[:, None]
    return np.clip(1 - np.abs(with_mirrored - centres) / stretch, 0, None).sum(axis=0)


def around(size: int, count: int) -> Matrix:
    """`triangles` of a side whose ends meet."""
    stretch = size / count
    centres = (np.arange(count)[:, None] + 0.5) * stretch - 0.5
    going_round = (np.arange(size) + size * np.arange(-1, 2)[:, None])[:, None]
    return np.clip(1 - np.abs(going_round - centres) / stretch, 0, None).sum(axis=0)


def overlaps(size: int, count: int) -> Matrix:
    """[count, size]: how much of each sample lies in each of `count` equal stretches of them; columns sum to 1."""
    edges = np.linspace(0, size, count + 1)[:, None]
    samples = np.arange(size)
    return np.clip(np.minimum(edges[1:], samples + 1) - np.maximum(edges[:-1], samples), 0, None)


def projection(smaller: Callable[[int, int], Matrix], size: int, scale: float) -> Matrix:
    """[size, size], symmetric: A^+ A of A = smaller(size, shrunk(size, scale)), whose rows are independent."""
    a = smaller(size, shrunk(size, scale))
    return a.T @ np.linalg.solve(a @ a.T, a)


class Workspace:
    """What every step of a run would make anew: the matrices on the device, and space to compute in.

    Attributes:
        wraps: whether pictures go on at their opposite edge.
    """

    def __init__(self, wraps: bool = False) -> None:
        self.wraps = wraps
        self._kept: dict[tuple, Tensor] = {}

    def matrix(self, smaller: Callable[[int, int], Matrix], size: int, scale: float, like: Tensor) -> Tensor:
        """`projection` [size, size], in the type and on the device of `like`."""
        key = (smaller, size, scale, like.device, like.dtype)
        if key not in self._kept:
            self._kept[key] = torch.from_numpy(projection(smaller, size, scale)).to(like)
        return self._kept[key]

    def space(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of this shape on the device of `like`, in single precision at least, the same one each time."""
        key = (name, *shape, like.device, like.dtype)
        if key not in self._kept:
            dtype = torch.promote_types(like.dtype, torch.float32)
            self._kept[key] = torch.empty(shape, dtype=dtype, device=like.device)
        return self._kept[key]


def _projected(
    x: Tensor, smaller: Callable[[int, int], Matrix], scale: float, out: Tensor | None, work: Workspace | None
) -> Tensor:
    """x [..., H, W] with its columns and rows projected, in single precision at least: half would lose the constant.

    One plane after the other, since the space that is kept through the model's calls should be small.
    """
    work = work or Workspace()
    out = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    height, width = x.shape[-2:]
    columns_done = work.space("columns", (height, width), x)
    for plane, target in zip(x.reshape(-1, height, width), out.view(-1, height, width)):
        single = plane if plane.dtype == columns_done.dtype else work.space("single", plane.shape, plane).copy_(plane)
        torch.mm(work.matrix(smaller, height, scale, columns_done), single, out=columns_done)
        result = target if target.dtype == columns_done.dtype else single
        torch.mm(columns_done, work.matrix(smaller, width, scale, columns_done), out=result)
        if result is not target:
            target.copy_(result)
    return out


def _block_means(x: Tensor, scale: float, out: Tensor | None, work: Workspace | None) -> Tensor:
    """`haar_low` where the areas are whole pixels: means of blocks, without a matrix."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    rows, columns = (shrunk(size, scale) for size in x.shape[-2:])
    means = (work or Workspace()).space("means", (*x.shape[:-2], rows, columns), x)
    torch.mean(_in_blocks(x, rows, columns), dim=(-3, -1), dtype=means.dtype, out=means)
    _in_blocks(out, rows, columns).copy_(means[..., None, :, None])
    return out


def _in_blocks(x: Tensor, rows: int, columns: int) -> Tensor:
    """A view [..., rows, H / rows, columns, W / columns] of x [..., H, W]."""
    return x.unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1))
