"""Deep Shrink: the inner blocks of a U-Net work on a smaller picture during the first part of the steps.

Kohya's method for sizes that a model was not trained at (gist.github.com/kohya-ss, "Deep Shrink"; ComfyUI's
PatchModelAddDownscale): what an input block gives is shrunk on its way to the next block, and enlarged again where the
output blocks meet a skip connection of another size. As in ComfyUI's U-Net, the enlargements on the way back are told
the size of the skip connection that comes next, so that they end there and not at twice what they got.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F

from itermix.mixing.blending import DEFAULT_SCALE
from itermix.mixing.curves import CurveSettings
from itermix.mixing.run import Feature, Run
from itermix.parameters import MAX_SCALE, ON, SettingsError, Size, parameter, scale_between
from itermix.steps.samplers import ROUNDING

if TYPE_CHECKING:
    from typing_extensions import Self

SHRINK_METHODS = ("bicubic", "bilinear", "nearest-exact", "area")


@dataclass(frozen=True, init=False)
class DeepShrinkSettings(CurveSettings):
    """What is shrunk, and for how long."""

    deep_shrink: float = parameter(
        0.0,
        "Deep Shrink",
        "Let the inner blocks of the U-Net work on a picture of the size that the model knows, up to this share of "
        "the progress. 0.35 is usual. Against parts that are painted twice. For Stable Diffusion 1, 2 and XL. 0: off.",
        "Deep Shrink",
        "Deep Shrink",
        low=0.0,
        high=1.0,
        step=0.05,
        needs=({"network": ("U-Net",)},),
    )
    deep_shrink_factor: float = parameter(
        0.0,
        "Deep Shrink factor",
        "By how much that picture is smaller. 0: the scale over all phases up to this one, or 2 where there is none.",
        "Deep Shrink factor",
        "Deep Shrink",
        low=0.0,
        high=MAX_SCALE,
        step=0.05,
        needs=({"deep_shrink": ON},),
    )
    deep_shrink_block: int = parameter(
        3,
        "Deep Shrink block",
        "The input block after which it is made smaller; SD 1 and 2 have 1 to 11, SDXL has 1 to 8.",
        "Deep Shrink block",
        "Deep Shrink",
        low=1,
        high=11,
        step=1,
        needs=({"deep_shrink": ON},),
    )
    deep_shrink_method: str = parameter(
        "bicubic",
        "Deep Shrink method",
        "The interpolation that makes it smaller, and larger again.",
        "Deep Shrink method",
        "Deep Shrink",
        choices=SHRINK_METHODS,
        needs=({"deep_shrink": ON},),
    )

    takes = ("unet",)

    def feature(self, given: Mapping[str, Any]) -> Feature | None:
        if not self.deep_shrink:
            return None
        if attached_already := given.get("shrink"):
            return attached_already
        check(given.get("unet"), self)
        return DeepShrink(self, given["unet"])

    def _check_together(self) -> None:
        super()._check_together()
        if 0 < self.deep_shrink_factor < 1:
            raise SettingsError("deep_shrink_factor", self.deep_shrink_factor, "Allowed: 0, or a number from 1 to 8.")

    def of_phase(self, source: Size, target: Size, first: Size | None = None, last: bool = True) -> Self:
        """A factor of 0 becomes the scale over all phases up to this one."""
        settings = super().of_phase(source, target, first, last)
        if not settings.deep_shrink or settings.deep_shrink_factor:
            return settings
        return settings.replace(deep_shrink_factor=scale_between(first or source, target))


class DeepShrink(Feature):
    """What is done in a U-Net's blocks, and whether it is done in the model's current call."""

    def __init__(self, settings: DeepShrinkSettings, unet: nn.Module | None = None):
        """`unet`: the network that it is to be attached to during a run; None if who made it does that."""
        self._unet = unet
        self._until = settings.deep_shrink
        self.block = settings.deep_shrink_block
        self.active = False
        self._factor = settings.deep_shrink_factor or DEFAULT_SCALE
        self._method = settings.deep_shrink_method

    @contextmanager
    def around(self, run: Run, model: nn.Module) -> Iterator[None]:
        assert run.progress is not None
        with ExitStack() as stack:
            if self._unet is not None:
                stack.enter_context(attached(self._unet, self))
            stack.enter_context(self.following(model, last_level(self._until, run.plan.levels, run.progress)))
            yield

    def shrunk(self, h: Tensor) -> Tensor:
        """Features [B, C, H, W] divided by the factor, one pixel at least, while it is active."""
        if not self.active:
            return h
        height, width = (max(1, round(side * (1 / self._factor))) for side in h.shape[-2:])
        return self.resized(h, (height, width))

    def resized(self, h: Tensor, size: Sequence[int], method: str | None = None) -> Tensor:
        """Features [B, C, H, W] at `size` (height, width), while it is active; the same tensor if they have it.

        `method` is an interpolation of torch's in the place of the setting's.
        """
        if not self.active or tuple(h.shape[-2:]) == tuple(size):
            return h
        return F.interpolate(h, size=tuple(size), mode=method or self._method)

    @contextmanager
    def following(self, denoiser: nn.Module, end: float) -> Iterator[None]:
        """Active in those calls denoiser(x, level, ...) whose noise level is `end` or above; with factor 1 in none."""

        def before_call(module: nn.Module, args: tuple) -> None:
            self.active = self._factor != 1 and bool(args[1].max() >= end)

        hook = denoiser.register_forward_pre_hook(before_call)
        try:
            yield
        finally:
            hook.remove()
            self.active = False


def last_level(until: float, levels: Tensor, progress: Tensor) -> float:
    """The noise level down to which it acts, of a schedule's `levels` [n], falling, with this `progress` [n]: that of
    the last step before the share `until` of it; infinity for none."""
    acts = progress.cpu() < until
    return float(levels[acts.to(levels.device)][-1]) * (1 - ROUNDING) if bool(acts.any()) else math.inf


def is_unet(network: Any) -> bool:
    """Whether it has the blocks of the U-Net of Stable Diffusion 1, 2 or XL."""
    return all(hasattr(network, name) for name in ("input_blocks", "middle_block", "output_blocks"))


def check(network: Any, settings: DeepShrinkSettings) -> None:
    """Raises SettingsError if the network isn't a U-Net of Stable Diffusion 1, 2 or XL with such a block."""
    if not is_unet(network):
        allowed = "Allowed with this model: 0. Deep Shrink needs the U-Net of Stable Diffusion 1, 2 or XL."
        raise SettingsError("deep_shrink", settings.deep_shrink, allowed)
    last = len(network.input_blocks) - 1
    if settings.deep_shrink_block > last:
        allowed = f"Allowed with this model: a whole number from 1 to {last}."
        raise SettingsError("deep_shrink_block", settings.deep_shrink_block, allowed)


@contextmanager
def attached(unet: Any, shrink: DeepShrink) -> Iterator[None]:
    """Hooks on the blocks of a U-Net that `check` accepts. They are gone afterwards, however it ends.

    The U-Net itself joins features and skip connection, so the features get their size where the block before ends. In
    the steps where Deep Shrink doesn't act the hooks change nothing: what doesn't fit then is joined as the U-Net does.
    """
    sizes: list[tuple[int, int]] = []  # of the skip connections that are still to come

    def begin(module: nn.Module, args: tuple) -> None:
        sizes.clear()

    def keep_size(module: nn.Module, args: tuple, h: Tensor) -> None:
        sizes.append((h.shape[-2], h.shape[-1]))

    def shrunk(module: nn.Module, args: tuple) -> tuple:
        return (shrink.shrunk(args[0]), *args[1:])

    def enlarged(module: nn.Module, args: tuple) -> tuple:
        # Of the doubled features, nearest gives what it gives of the features themselves.
        return (shrink.resized(args[0], sizes[-1], "nearest"), *args[1:])

    def restored(module: nn.Module, args: tuple, h: Tensor) -> Tensor:
        return shrink.resized(h, sizes.pop())

    with ExitStack() as hooks:
        hooks.callback(unet.input_blocks[0].register_forward_pre_hook(begin).remove)
        for module in unet.input_blocks:
            hooks.callback(module.register_forward_hook(keep_size).remove)
        after = [*unet.input_blocks, unet.middle_block][shrink.block + 1]
        hooks.callback(after.register_forward_pre_hook(shrunk).remove)
        for convolution in after_enlargements(unet):
            hooks.callback(convolution.register_forward_pre_hook(enlarged).remove)
        for module in [unet.middle_block, *unet.output_blocks[:-1]]:
            hooks.callback(module.register_forward_hook(restored).remove)
        yield


def after_enlargements(unet: Any) -> list[nn.Module]:
    """What gets the enlarged features in each `Upsample` of the output blocks: nearest to twice the size, convolved."""
    named = [module for module in unet.output_blocks.modules() if type(module).__name__ == "Upsample"]
    return [module.conv for module in named if hasattr(module, "conv")]  # torch's own of that name has none
