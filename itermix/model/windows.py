"""DemoFusion's two paths: the model sees crops of the picture, and thinned-out pictures, in the place of the whole.

arXiv 2311.16973, sections 3.3 and 3.4, with the formulas of its code. Local: overlapping crops at the size that the
model knows, averaged. Global: the picture's sub-grids h::s, w::s, each of that size, too, taken from the blurred state.
The code averages what a step makes of the states. Here the model's outputs are averaged: the same in samplers whose
step is affine in state and output (Euler, DDIM), and it works with all others.

In the code the noise that is found in the blurred state is taken off the state as it is. Fine noise, which the blur has
hidden, stays in it then. By default it is the clean picture instead that holds for the state as it is.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itermix.mixing.blending import USES_DENOISED
from itermix.mixing.curves import CurveSettings, cosine
from itermix.mixing.run import Feature, Run
from itermix.model.crops import DEMOFUSION, calls, crops, dilation, feather, parts, places, surroundings
from itermix.model.detail import DetailSettings
from itermix.model.parts import WHOLE, Parts, View, folded, stacked
from itermix.parameters import ON, SIZE_MULTIPLE, Known, SettingsError, Size, parameter
from itermix.steps.parametrisation import Parametrisation

if TYPE_CHECKING:
    from typing_extensions import Self

FORMULAS = ("clean picture", DEMOFUSION)
WINDOW_MULTIPLE = 8  # latent pixels: sides that every U-Net can halve
SHOWN = {"window": ON, "window_auto": ON}
"""Of which one at least is on where the model may be shown crops."""


@dataclass(frozen=True, init=False)
class WindowSettings(DetailSettings, CurveSettings):
    """The parts that the model sees."""

    window: int = parameter(
        0,
        "Window",
        "Show the model crops of this size, in latent pixels, in the place of the whole picture: 128 is what SDXL "
        "knows, 64 what SD 1 knows. 0: none, unless the automatic window has one.",
        "window",
        "Windows",
        low=0,
        high=256,
        step=WINDOW_MULTIPLE,
    )
    window_jitter: bool = parameter(
        True,
        "Window jitter",
        "Move the crops a little at random in every step, so that no seams build up.",
        "window jitter",
        "Windows",
        needs=(SHOWN,),
    )
    window_batch: int = parameter(
        4,
        "Windows per call",
        "How many crops the model gets at once: more is faster on a graphics card and takes more memory.",
        "windows per call",
        "Windows",
        low=1,
        high=64,
        step=1,
        needs=(SHOWN,),
    )
    window_formulas: str = parameter(
        "clean picture",
        "Window formulas",
        "What counts of a thinned-out picture. clean picture: what the model finds in it is taken for the clean "
        "picture, and crops that reach over the edge see its mirror image there. DemoFusion: as in its code, what "
        "counts is the noise that is found, so that some noise is left; and over the edge there is nothing. Not for "
        "the clean blendings, nor with detail.",
        "window formulas",
        "Windows",
        choices=FORMULAS,
        needs=(SHOWN,),
    )
    dilated: float = parameter(
        0.0,
        "Dilated sampling",
        "Show the model the picture thinned out to the window, too, as DemoFusion does, and how soon this gives way to "
        "the crops: an exponent, more is sooner. 0: crops alone, which the mixing holds together.",
        "dilated sampling",
        "Windows",
        low=0.0,
        high=10.0,
        step=0.05,
        needs=(SHOWN,),
    )
    gaussian_sigma: float = parameter(
        1.0,
        "Gaussian sigma",
        "Blur, in latent pixels, of what is thinned out, at the noisiest level. 0: none.",
        "Gaussian sigma",
        "Windows",
        low=0.0,
        high=4.0,
        step=0.05,
        needs=(SHOWN, {"dilated": ON}),
    )
    gaussian_alpha: float = parameter(
        1.0,
        "Gaussian alpha",
        "How soon that blur goes away: an exponent, more is sooner.",
        "Gaussian alpha",
        "Windows",
        low=0.0,
        high=10.0,
        step=0.05,
        needs=(SHOWN, {"dilated": ON}, {"gaussian_sigma": ON}),
    )

    def unguided(self) -> Self:
        return super().unguided().replace(dilated=0.0)

    @property
    def overlapping(self) -> float:
        """Share of a crop that its neighbour shows, too."""
        return 0.5

    @property
    def wraps(self) -> bool:
        """Whether the picture goes on at its opposite edge."""
        return False

    @property
    def may_crop(self) -> bool:
        """Whether the model is shown crops, of pictures that are large enough."""
        return bool(self.window)

    def calls(self, height: int, width: int, count: int) -> int:
        """Counted in steps, progress is 0 in the first call: it has no crops."""
        local, thinned = (math.ceil(views / self.window_batch) for views in parts(self, height, width))
        without = local if thinned and self.progress != "noise level" else 0
        return super().calls(height, width, count) * (local + thinned or 1) - without

    def pixels_seen(self, height: int, width: int) -> int:
        local, thinned = parts(self, height, width)
        whole = super().pixels_seen(height, width)
        if not local:
            return whole
        return local * min(self.window, height) * min(self.window, width) + (whole if thinned else 0)

    def words_of_all(self, steps: int, sizes: Sequence[Size], known: Known | None = None) -> str:
        side = known.factor if known else SIZE_MULTIPLE
        found = [calls(self.of_model(size, known), size[1] // side, size[0] // side) for size in sizes]
        own = f", {', then '.join(map(str, found))} calls of the model in the place of one"
        return super().words_of_all(steps, sizes, known) + (own if max(found, default=1) > 1 else "")

    def feature(self, given: Mapping[str, Any]) -> Feature | None:
        if not self.window:
            return None
        check(self)
        return given.get("windows") or Windows(self, attaches=True)

    def _check_together(self) -> None:
        super()._check_together()
        if self.window % WINDOW_MULTIPLE:
            raise SettingsError("window", self.window, f"Allowed: a multiple of {WINDOW_MULTIPLE}, or 0.")


@dataclass(frozen=True, init=False)
class CropSettings(WindowSettings):
    """When crops are shown without being asked for, and how they are put together."""

    window_auto: bool = parameter(
        True,
        "Automatic window",
        "Show the model crops of the size that it knows wherever the picture is larger than *Windows per call* of "
        "them. From there on crops cost less time than the whole, and the memory doesn't grow with the picture.",
        "automatic window",
        "Windows",
        needs=({"window": (0,)},),
    )
    window_overlap: float = parameter(
        0.25,
        "Window overlap",
        "Share of a crop that its neighbour shows, too, where one gives way to the other. Less is faster.",
        "window overlap",
        "Windows",
        low=0.1,
        high=0.75,
        step=0.05,
        needs=(SHOWN, {"window_formulas": FORMULAS[:1]}),
    )
    seamless: bool = parameter(
        False,
        "Seamless",
        "The picture goes on at its opposite edge, as a texture does: filters, crops, fidelity and what "
        "enlarges in the upscale script look there. The WebUI's option *Tiling* switches it on.",
        "seamless",
        "Windows",
    )

    @property
    def overlapping(self) -> float:
        return 0.5 if self.window_formulas == DEMOFUSION else self.window_overlap

    @property
    def wraps(self) -> bool:
        return self.seamless

    @property
    def may_crop(self) -> bool:
        return bool(self.window) or self.window_auto

    def of_model(self, size: Size, known: Known | None) -> Self:
        settings = super().of_model(size, known)
        if not self.window_auto or self.window or not known:
            return settings
        width, height = (side // known.factor for side in size)
        if width * height <= self.window_batch * known.side**2:
            return settings
        return settings.replace(window=known.side)


Model = Callable[[Tensor, Parts], Tensor]
"""(parts [N * K, C, h, w], what they are) -> what the model makes of them; those of a picture are beside each other."""

LEAST_SIGMA = 0.01
"""Share of the blur that remains at the clean end (DemoFusion's code)."""


class Windows(Feature):
    """What one run of a sampler evaluates in the place of each model call.

    Attributes:
        weight: of the global path in the model's current call; 1 - weight is that of the local one.
        blur: standard deviation of the global path's Gaussian in it, in latent pixels.
    """

    def __init__(self, settings: WindowSettings, noise_of: Parametrisation | None = None, attaches: bool = False):
        """
        Args:
            settings: of the windows.
            noise_of: how the state is made of signal and noise, if the model gives its estimate of that noise.
            attaches: whether to be attached to the model during a run; else who made it does that.
        """
        self._attaches = attaches
        self._settings = settings
        self._noise_of = noise_of
        self._exact = settings.window_formulas == DEMOFUSION
        self._calls = 0
        self._noise = 0.0
        self.weight = 0.0
        self.blur = 0.0

    @contextmanager
    def around(self, run: Run, model: nn.Module) -> Iterator[None]:
        assert run.progress is not None
        progress = run.progress.tolist()
        at = functools.partial(run.parametrisation.between, levels=run.plan.levels, values=progress)
        with ExitStack() as stack:
            if self._attaches:
                stack.enter_context(attached(model, self))
            stack.enter_context(self.following(model, at))
            yield

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
            if self._noise_of:
                self._noise = float(self._noise_of.amounts(args[1].flatten()[0])[1])
            self._calls += 1

        hook = denoiser.register_forward_pre_hook(before_call)
        try:
            yield
        finally:
            hook.remove()

    def of_crops(self, denoiser: nn.Module) -> AbstractContextManager[None]:
        """As `following`, with crops alone: what the weights come to at the clean end."""
        return self.following(denoiser, lambda level: 1.0)

    def put_together(self, model: Model, x: Tensor) -> Tensor:
        """The output of the model for x [N, C, H, W] or [N, C, T, H, W], put together from those for parts of it.

        The model gets at most `window_batch` parts of each picture at once, none of them larger than the window. A
        picture that fits into the window is a part of its own, and all there is.
        """
        height, width = x.shape[-2:]
        window = self._settings.window
        if max(height, width) <= window:
            return model(x, WHOLE)
        if x.ndim == 5:  # here, frames are channels more
            shape = x.shape[1:3]

            def of_planes(shown: Tensor, parts: Parts) -> Tensor:
                return model(shown.unflatten(1, shape), parts).flatten(1, 2)

            return self.put_together(of_planes, x.flatten(1, 2)).unflatten(1, shape)
        result = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        if self.weight < 1:
            result.add_(self._local(model, x), alpha=1 - self.weight)
        if self.weight > 0:
            result.add_(self._global(model, x), alpha=self.weight)
        return result.to(x.dtype)

    def _local(self, model: Model, x: Tensor) -> Tensor:
        """The mean over all crops that show a pixel, like x but in single precision at least.

        A crop counts the less the nearer the pixel is to its edge, but for DemoFusion's formulas.
        """
        height, width = x.shape[-2:]
        settings = self._settings
        # The same in every picture, so that it doesn't matter with which others it is made.
        jitter = np.random.default_rng(self._calls) if settings.window_jitter else None
        pad = surroundings(settings, height, width, jitter is not None)
        views = crops(settings, height, width, jitter)
        moved = [side.start if settings.wraps else 0 for side in views[0]]
        parts = Parts(x, views, pad, self._mode("reflect"), places(settings, height, width, *moved))
        state = parts.surrounded(x)
        total = torch.zeros_like(state, dtype=torch.promote_types(x.dtype, torch.float32))
        count = total.new_zeros(total.shape[-2:])
        share = total.new_ones(())
        if not self._exact:
            share = feather(min(settings.window, height), min(settings.window, width)).to(total)
        for (rows, columns), part in self._outputs(model, state, parts):
            total[..., rows, columns] += share * part
            count[rows, columns] += share
        if settings.wraps:
            return folded(total, height, width) / folded(count, height, width)
        before, _, above, _ = pad
        rows, columns = slice(above, above + height), slice(before, before + width)
        return total[..., rows, columns] / count[rows, columns]

    def _global(self, model: Model, x: Tensor) -> Tensor:
        """The sub-grids put together again, like x but in single precision at least."""
        height, width = x.shape[-2:]
        scale = dilation(height, width, self._settings.window)
        above, before = -height % scale, -width % scale
        views = [(slice(h, None, scale), slice(w, None, scale)) for h in range(scale) for w in range(scale)]
        parts = Parts(x, views, (before, 0, above, 0), self._mode("replicate"))
        state = parts.surrounded(x)
        blurred = gaussian(state, 2 * scale - 1, self.blur)
        result = torch.empty_like(state, dtype=torch.promote_types(x.dtype, torch.float32))
        for (rows, columns), part in self._outputs(model, blurred, parts):
            result[..., rows, columns] = part
        if self._exact and not self._noise_of:
            result += state - blurred  # the clean picture at which the noise found is that of the state as it is
        elif self._noise_of and not self._exact:
            result += (state - blurred) / self._noise  # the noise at which the picture found is
        return result[..., above:, before:]

    def _mode(self, usual: str) -> str:
        """What lies around the picture."""
        return "circular" if self._settings.wraps else "constant" if self._exact else usual

    def _outputs(self, model: Model, state: Tensor, parts: Parts) -> Iterator[tuple[View, Tensor]]:
        """(view, output [N, C, h, w]) of each part of the state: that of pictures with surroundings."""
        most = self._settings.window_batch
        for first in range(0, len(parts.views), most):
            these = slice(first, first + most)
            some = dataclasses.replace(parts, views=parts.views[these], places=parts.places[these])
            output = model(stacked(state, some.views), some)
            yield from zip(some.views, output.unflatten(0, (len(state), len(some.views))).unbind(dim=1))


def check(settings: WindowSettings) -> None:
    """Raises SettingsError if the settings can't be used together, in this phase or where a window comes by itself."""
    if not settings.may_crop or settings.window_formulas != DEMOFUSION:
        return
    if settings.blending in USES_DENOISED or settings.detail:
        of = f"the blending {settings.blending}" if settings.blending in USES_DENOISED else "detail"
        allowed = f"Allowed with {of}, which needs the clean picture: {FORMULAS[0]}."
        raise SettingsError("window_formulas", settings.window_formulas, allowed)


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


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, the object's attribute is this value; then what it was again, be it the object's own or its class's."""
    own = name in vars(owner) or hasattr(getattr(type(owner), name, None), "__set__")  # of a property, too
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before) if own else delattr(owner, name)


AroundCall = Callable[[Parts, dict[str, Any]], AbstractContextManager[dict[str, Any]]]
"""(parts, their conditioning) -> a context for a call of the model, with the conditioning that it gets."""


@contextmanager
def attached(
    module: nn.Module, windows: Windows, around_call: AroundCall = lambda _, own: nullcontext(own)
) -> Iterator[None]:
    """Inside, the module(x, level, **conditioning), and nothing else of it, runs on parts of x.

    `around_call` is entered for each call of it, and may raise. What hooks on the module see is the whole.
    """
    forward = module.forward

    def in_parts(x: Tensor, level: Tensor, **kwargs: Any) -> Tensor:
        def model(shown: Tensor, parts: Parts) -> Tensor:
            with around_call(parts, parts(kwargs)) as own:
                return forward(shown, parts(level), **own)

        return windows.put_together(model, x)

    with replaced(module, "forward", in_parts):
        yield
