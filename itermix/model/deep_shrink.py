"""Deep Shrink: the inner blocks of a U-Net work on a smaller picture during the first part of the steps.

Kohya's method for sizes that a model was not trained at (gist.github.com/kohya-ss, "Deep Shrink"; ComfyUI's
PatchModelAddDownscale): what an input block gives is shrunk on its way to the next block, and enlarged again where the
output blocks meet a skip connection of another size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from itermix.mixing.curves import progress_of
from itermix.mixing.mixer import DEFAULT_SCALE, ROUNDING
from itermix.settings import Settings, SettingsError


class DeepShrink:
    """What is done in a U-Net's blocks, and whether it is done in the model's current call."""

    def __init__(self, settings: Settings):
        self.block = settings.deep_shrink_block
        self.active = False
        self._factor = settings.deep_shrink_factor or DEFAULT_SCALE
        self._method = settings.deep_shrink_method

    def shrunk(self, h: Tensor) -> Tensor:
        """Features [B, C, H, W] divided by the factor, one pixel at least, while it is active."""
        if not self.active:
            return h
        height, width = (max(1, round(side / self._factor)) for side in h.shape[-2:])
        return self.resized(h, (height, width))

    def resized(self, h: Tensor, size: Sequence[int]) -> Tensor:
        """Features [B, C, H, W] at `size` (height, width); the same tensor if they have it."""
        return h if tuple(h.shape[-2:]) == tuple(size) else F.interpolate(h, size=tuple(size), mode=self._method)

    @contextmanager
    def following(self, denoiser: nn.Module, end: float) -> Iterator[None]:
        """Active in those calls denoiser(x, level, ...) whose noise level is `end` or above."""

        def before_call(module: nn.Module, args: tuple) -> None:
            self.active = bool(args[1].max() >= end)

        hook = denoiser.register_forward_pre_hook(before_call)
        try:
            yield
        finally:
            hook.remove()
            self.active = False


def last_level(settings: Settings, levels: Tensor, progress: Tensor) -> float:
    """The noise level down to which `deep_shrink` acts, of a schedule's `levels` [n], falling; infinity for none.

    `progress` [n] is that of the model's timesteps, used where the settings run along it.
    """
    acts = progress_of(settings, len(levels), progress.cpu()) < settings.deep_shrink
    return float(levels[acts.to(levels.device)][-1]) * (1 - ROUNDING) if bool(acts.any()) else math.inf


def check(network: Any, settings: Settings) -> None:
    """Raises SettingsError if the network isn't a U-Net of Stable Diffusion 1, 2 or XL with such a block."""
    if not all(hasattr(network, name) for name in ("input_blocks", "middle_block", "output_blocks")):
        allowed = "Allowed with this model: 0. Deep Shrink needs the U-Net of Stable Diffusion 1, 2 or XL."
        raise SettingsError("deep_shrink", settings.deep_shrink, allowed)
    last = len(network.input_blocks) - 1
    if settings.deep_shrink_block > last:
        allowed = f"Allowed with this model: a whole number from 1 to {last}."
        raise SettingsError("deep_shrink_block", settings.deep_shrink_block, allowed)


@contextmanager
def attached(unet: Any, shrink: DeepShrink) -> Iterator[None]:
    """Hooks on the blocks of a U-Net that `check` accepts. They are gone afterwards, however it ends.

    The U-Net itself joins features and skip connection, so the features get their size where the block before ends.
    """
    sizes: list[tuple[int, int]] = []  # of the skip connections that are still to come

    def begin(module: nn.Module, args: tuple) -> None:
        sizes.clear()

    def keep_size(module: nn.Module, args: tuple, h: Tensor) -> None:
        sizes.append((h.shape[-2], h.shape[-1]))

    def shrunk(module: nn.Module, args: tuple) -> tuple:
        return (shrink.shrunk(args[0]), *args[1:])

    def restored(module: nn.Module, args: tuple, h: Tensor) -> Tensor:
        return shrink.resized(h, sizes.pop())

    with ExitStack() as hooks:
        hooks.callback(unet.input_blocks[0].register_forward_pre_hook(begin).remove)
        for module in unet.input_blocks:
            hooks.callback(module.register_forward_hook(keep_size).remove)
        after = [*unet.input_blocks, unet.middle_block][shrink.block + 1]
        hooks.callback(after.register_forward_pre_hook(shrunk).remove)
        for module in [unet.middle_block, *unet.output_blocks[:-1]]:
            hooks.callback(module.register_forward_hook(restored).remove)
        yield
