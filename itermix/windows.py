"""DemoFusion's two paths: the model sees crops of the picture, and thinned-out pictures, in the place of the whole.

arXiv 2311.16973, sections 3.3 and 3.4, with the formulas of its code. Local: overlapping crops at the size that the
model knows, averaged. Global: the picture's sub-grids h::s, w::s, each of that size, too, taken from the blurred state.
The code averages what a step makes of the states. Here the model's outputs are averaged: the same in samplers whose
step is affine in state and output (Euler, DDIM), and it works with all others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itermix.curves import cosine
from itermix.settings import Settings

View = tuple[slice, slice]
"""Rows and columns of a picture that the model sees as one."""

OfParts = Callable[[Any], Any]
"""What the parts of a batch need of what came with the whole pictures: a tensor, or tensors in dicts, lists, tuples."""

Model = Callable[[Tensor, OfParts], Tensor]
"""(parts [N * K, C, h, w], of_parts) -> what the model makes of them; those of one picture are beside each other."""

LEAST_SIGMA = 0.01
"""Share of the blur that remains at the clean end (DemoFusion's code)."""


class Windows:
    """What one run of a sampler evaluates in the place of each model call.

    Attributes:
        weight: of the global path in the model's current call; 1 - weight is that of the local one.
        blur: standard deviation of the global path's Gaussian in it, in latent pixels.
    """

    def __init__(self, settings: Settings, predicts_noise: bool = False):
        """`predicts_noise`: whether the model's output is its estimate of the noise, not that of the clean picture."""
        self._settings = settings
        self._predicts_noise = predicts_noise
        self._calls = 0
        self.weight = 0.0
        self.blur = 0.0

    @contextmanager
    def following(self, denoiser: nn.Module, progress_at: Callable[[Tensor], float]) -> Iterator[None]:
        """Inside, the weights are those of the noise level in each call denoiser(x, level, ...).

        `progress_at`: level (0-dim tensor) -> progress, 0 at the noisiest end.
        """

        def before_call(module: nn.Module, args: tuple) -> None:
            progress = torch.tensor(progress_at(args[1].flatten()[0]), dtype=torch.float64)
            settings = self._settings
            self.weight = float(cosine(progress, settings.dilated)) if settings.dilated else 0.0
            share = (1 - LEAST_SIGMA) * float(cosine(progress, settings.gaussian_alpha)) + LEAST_SIGMA
            self.blur = settings.gaussian_sigma * share
            self._calls += 1

        hook = denoiser.register_forward_pre_hook(before_call)
        try:
            yield
        finally:
            hook.remove()

    def evaluated(self, model: Model, x: Tensor) -> Tensor:
        """The output of the model for x [N, C, H, W], put together from those for parts of it.

        The model gets at most `window_batch` parts of each picture at once, none of them larger than the window. A
        picture that fits into the window is a part of its own, and all there is.
        """
        height, width = x.shape[-2:]
        window = self._settings.window
        if max(height, width) <= window:
            return model(x, lambda value: value)
        result = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        if self.weight < 1:
            result.add_(self._local(model, x), alpha=1 - self.weight)
        if self.weight > 0:
            result.add_(self._global(model, x), alpha=self.weight)
        return result.to(x.dtype)

    def _local(self, model: Model, x: Tensor) -> Tensor:
        """The mean over all crops that show a pixel, like x but in single precision at least."""
        height, width = x.shape[-2:]
        window = self._settings.window
        margin = jitter_range(window) if self._settings.window_jitter else 0
        # The same in every picture, so that it doesn't matter with which others it is made.
        offsets = np.random.default_rng(self._calls) if margin else None
        views = crops(height, width, window, offsets)
        around = (margin, margin, margin, margin)
        padded = F.pad(x, around)
        total = torch.zeros_like(padded, dtype=torch.promote_types(x.dtype, torch.float32))
        count = total.new_zeros(total.shape[-2:])
        for (rows, columns), part in self._outputs(model, x, padded, views, around):
            total[..., rows, columns] += part
            count[rows, columns] += 1
        rows, columns = slice(margin, margin + height), slice(margin, margin + width)
        return total[..., rows, columns] / count[rows, columns]

    def _global(self, model: Model, x: Tensor) -> Tensor:
        """The sub-grids put together again, like x but in single precision at least.

        The noise that the model finds in the blurred state is taken off the state as it is: where the model gives the
        clean picture, what the blur took from the state comes back.
        """
        height, width = x.shape[-2:]
        scale = dilation(height, width, self._settings.window)
        before = (-width % scale, 0, -height % scale, 0)
        padded = F.pad(x, before)
        blurred = gaussian(padded, 2 * scale - 1, self.blur)
        views = [(slice(h, None, scale), slice(w, None, scale)) for h in range(scale) for w in range(scale)]
        result = torch.empty_like(padded, dtype=torch.promote_types(x.dtype, torch.float32))
        for (rows, columns), part in self._outputs(model, x, blurred, views, before):
            result[..., rows, columns] = part
        if not self._predicts_noise:
            result += padded - blurred
        return result[..., before[2] :, before[0] :]

    def _outputs(
        self, model: Model, x: Tensor, state: Tensor, views: Sequence[View], around: Sequence[int]
    ) -> Iterator[tuple[View, Tensor]]:
        """(view, output [N, C, h, w]) of each view of the state: that of the pictures x, with zeros `around`."""
        most = self._settings.window_batch
        for first in range(0, len(views), most):
            some = views[first : first + most]
            output = model(stacked(state, some), lambda value, some=some: of_views(value, x, some, around))  # type: ignore[misc]
            yield from zip(some, output.unflatten(0, (len(x), len(some))).unbind(dim=1))


def jitter_range(window: int) -> int:
    """How far a crop may be moved: a quarter of what neighbours overlap by."""
    return (window - window // 2) // 4


def crops(height: int, width: int, window: int, jitter: np.random.Generator | None = None) -> list[View]:
    """Crops that cover a picture larger than the window, neighbours overlapping by half of it or more.

    With `jitter` each is moved at random, but at the picture's edges only outwards, so that it stays covered; rows and
    columns then count from `jitter_range(window)` pixels outside of the picture.
    """
    margin = jitter_range(window) if jitter else 0

    def moved(start: int, side: int) -> slice:
        length = min(window, side)
        if jitter:
            low = 0 if start + length == side else -margin
            start += margin + int(jitter.integers(low, 0 if start == 0 else margin, endpoint=True))
        return slice(start, start + length)

    places = [(top, left) for top in starts(height, window) for left in starts(width, window)]
    return [(moved(top, height), moved(left, width)) for top, left in places]


def starts(side: int, window: int) -> list[int]:
    """Where crops begin along a side: at every half window, the last where it ends with the side."""
    last, stride = max(0, side - window), window // 2
    return [min(k * stride, last) for k in range(math.ceil(last / stride) + 1)]


def dilation(height: int, width: int, window: int) -> int:
    """By how much sub-grids are thinned out: the least whole number with which they fit into the window.

    At a window of the size that the model knows it is the scale of DemoFusion's phases.
    """
    return math.ceil(max(height, width) / window)


def parts(settings: Settings, height: int, width: int) -> tuple[int, int]:
    """How many crops and how many sub-grids of a picture (in latent pixels) a model call becomes; 0, 0 if it stays."""
    window = settings.window
    if not window or max(height, width) <= window:
        return 0, 0
    local = len(starts(height, window)) * len(starts(width, window))
    return local, dilation(height, width, window) ** 2 if settings.dilated else 0


def calls(settings: Settings, height: int, width: int) -> int:
    """Model calls, each of `window_batch` parts at most, that take the place of one of the whole picture."""
    return sum(math.ceil(count / settings.window_batch) for count in parts(settings, height, width)) or 1


def work(settings: Settings, height: int, width: int) -> int:
    """Pixels that the model gets to see in the place of those of the whole picture (in latent pixels)."""
    local, thinned = parts(settings, height, width)
    if not local:
        return height * width
    crop = min(settings.window, height) * min(settings.window, width)
    return local * crop + (height * width if thinned else 0)


def gaussian(x: Tensor, size: int, sigma: float) -> Tensor:
    """x [N, C, H, W] under a Gaussian of `size` x `size` pixels, with the mean and the deviation that each image had.

    Outside of the picture it is 0, as in DemoFusion's code. The same tensor for a sigma of 0.
    """
    if not sigma:
        return x
    # In the precision of the weights that sum to 1, since half would change the noise that the model is told of.
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    distance = torch.arange(size, dtype=values.dtype, device=x.device) - size // 2
    kernel = torch.exp(-(distance**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, size)
    blurred = F.conv2d(values, kernel, padding=(0, size // 2), groups=x.shape[1])
    blurred = F.conv2d(blurred, kernel.transpose(2, 3), padding=(size // 2, 0), groups=x.shape[1])
    deviation, mean = torch.std_mean(values, dim=(1, 2, 3), keepdim=True)
    deviation_now, mean_now = torch.std_mean(blurred, dim=(1, 2, 3), keepdim=True)
    gain = torch.where(deviation_now > 0, deviation / deviation_now, 1.0)
    return ((blurred - mean_now) * gain + mean).to(x.dtype)


def stacked(x: Tensor, views: Sequence[View]) -> Tensor:
    """[N * K, C, h, w]: the K views of each picture of x [N, C, H, W], which are of one size, beside each other."""
    return torch.stack([x[..., rows, columns] for rows, columns in views], dim=1).flatten(0, 1)


def of_views(value: Any, x: Tensor, views: Sequence[View], around: Sequence[int]) -> Any:
    """What the views of the pictures x [N, C, H, W], which have zeros `around` them, need of what came with x.

    A tensor of pictures like x is cut like it, another with one row for each picture gets one for each view; anything
    else stays as it is. In dicts, lists and tuples it is so with all that they hold.
    """
    if isinstance(value, dict):
        return {key: of_views(item, x, views, around) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(of_views(item, x, views, around) for item in value)
    if not isinstance(value, Tensor) or not value.ndim or len(value) != len(x):
        return value
    if value.ndim == 4 and value.shape[-2:] == x.shape[-2:]:
        return stacked(F.pad(value, tuple(around)), views)
    return value.repeat_interleave(len(views), dim=0)


@contextmanager
def attached(module: nn.Module, windows: Windows, before_call: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Inside, the module(x, level, **conditioning), and nothing else of it, runs on parts of x.

    `before_call` comes before each call of it, and may raise. What hooks on the module see is the whole.
    """
    forward, own = module.forward, vars(module).get("forward")

    def in_parts(x: Tensor, level: Tensor, **kwargs: Any) -> Tensor:
        def model(part: Tensor, of_parts: OfParts) -> Tensor:
            before_call()
            return forward(part, of_parts(level), **of_parts(kwargs))

        return windows.evaluated(model, x)

    module.forward = in_parts  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own  # type: ignore[method-assign]
