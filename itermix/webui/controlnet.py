"""The hints of ControlNet in the phases of a hires pass, and in the parts of a picture that the model is shown.

sd-webui-controlnet makes two hints when a request begins, one of the first pass's size and one of the last's, and shows
the network the nearer one. In a phase between them neither fits. The ControlNet of Forge fits its hints itself, and in
img2img every phase is a generation of its own.

In parts the network gets what of its hint belongs to them, and so do the regions of its units and the masks of
IP-Adapters, whose images every part is shown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeGuard

from torch import Tensor
from torch.nn import functional as F

from itermix.model.parts import Parts
from itermix.model.windows import replaced
from itermix.webui.sides import latent_pixels


@contextmanager
def hints_of_size(p: Any, size: tuple[int, int], cut: bool) -> Iterator[None]:
    """Inside, the hints of the request's hires pass have this size (width, height).

    They are resized from those of the last phase; or from those of the first pass, if what follows the last phase's
    enlargement is `cut` to another shape.
    """
    before = [(unit, unit.hr_hint_cond) for unit in units(p)]
    try:
        for unit, hint in before:
            unit.hr_hint_cond = resized(unit.hint_cond if cut else hint, size)
        yield
    finally:
        for unit, hint in before:
            unit.hr_hint_cond = hint


def units(p: Any) -> list[Any]:
    """What sd-webui-controlnet holds of every unit that has a picture as its hint for the hires pass."""
    return [param for param in acting(p) if is_picture(param.hr_hint_cond)]


def acting(p: Any) -> list[Any]:
    """What sd-webui-controlnet holds of every unit that acts on the sampling."""
    networks = [getattr(script, "latest_network", None) for script in p.scripts.alwayson_scripts]
    return [param for network in networks for param in getattr(network, "control_params", None) or ()]


@contextmanager
def hints_of_parts(p: Any, parts: Parts) -> Iterator[None]:
    """Inside, the hints and the regions of sd-webui-controlnet's units are those of the parts.

    It takes a hires pass for one where the hint of that is no farther from the size of what it sees: both hints become
    those of the parts.
    """
    with ExitStack() as stack:
        for unit in acting(p):
            hires = is_picture(unit.hr_hint_cond)
            whole = unit.hr_hint_cond if hires else unit.hint_cond
            if is_picture(whole):
                hint = parts.of_hint(whole, latent_pixels())
                stack.enter_context(replaced(unit, "hint_cond", hint))
                if hires:
                    stack.enter_context(replaced(unit, "hr_hint_cond", hint))
            if is_picture(region := getattr(unit, "effective_region_mask", None)):
                region = parts.of_hint(region, 1)
                stack.enter_context(replaced(unit, "effective_region_mask", region))
                adapter = unit.control_model
                if hasattr(adapter, "image_emb"):  # which would repeat the region for each of the rows
                    within = functools.partial(within_region, region)
                    stack.enter_context(replaced(adapter, "apply_effective_region_mask", within))
        yield


def within_region(region: Tensor, tokens: Tensor) -> Tensor:
    """The tokens [B, h * w, C] of pictures, where their regions [B, 1, H, W] are."""
    height, width = region.shape[-2:]
    rows = max(1, round(height * (tokens.shape[1] / (height * width)) ** 0.5))
    smaller = F.interpolate(region.to(tokens), (rows, tokens.shape[1] // rows), mode="bilinear")
    return tokens * smaller.flatten(2).transpose(1, 2)


def marks(context: Tensor) -> int:
    """How many tokens before encoded prompts [R, T, C] are sd-webui-controlnet's, which tells by one whose numbers are
    all the same if a prompt is negative."""
    first = context[:, 0]
    return int(bool(((first == first[:, :1]) & (first != 0)).all()))


@contextmanager
def masks_of_parts(options: dict[str, Any], parts: Parts) -> Iterator[None]:
    """Inside, the masks of the IP-Adapters in the options of a transformer of Forge's family are those of the parts."""
    patches = options.get("patches_replace", {}).get("attn2", {}).values()
    with ExitStack() as stack:
        for patch in patches:
            if any(isinstance(mask, Tensor) for mask in getattr(patch, "masks", ())):
                masks = [mask if mask is None else parts.of_hint(mask[:, None], 1)[:, 0] for mask in patch.masks]
                stack.enter_context(replaced(patch, "masks", masks))
        yield


class InParts:
    """Stands before the ControlNets of a patcher of Forge's family, which would be run on the whole picture before the
    model is, and runs them on its parts."""

    def __init__(self, network: Any):
        """`network`: the last of them, through which the others are found."""
        self.previous_controlnet = network
        self.transformer_options: dict[str, Any] = {}
        self._more: tuple[Any, ...] = ()

    def get_control(self, x: Tensor, timestep: Tensor, c: Any, chunks: int, *more: Any) -> None:
        """Of the whole picture: nothing. `more`: reForge's options of the transformer."""
        self._more = more

    def of_parts(self, parts: Parts, shown: Tensor, level: Tensor, c: dict[str, Any], chunks: int) -> Any:
        """What the networks say of the parts [N * K, C, h, w], of which the model is told `c`, in so many chunks."""
        with ExitStack() as stack:
            for network in self._networks():
                for name, factor in (("cond_hint_original", latent_pixels()), ("advanced_mask_weighting", 1)):
                    if is_picture(whole := getattr(network, name, None)):
                        stack.enter_context(replaced(network, name, parts.of_hint(whole, factor)))
                stack.enter_context(replaced(network, "cond_hint", None))
                if hasattr(network, "transformer_options"):
                    stack.enter_context(replaced(network, "transformer_options", c["transformer_options"]))
            more = [c["transformer_options"]] if self._more else []
            return self.previous_controlnet.get_control(shown, level, c.copy(), chunks, *more)

    def pre_run(self, *args: Any) -> None:
        """Asked of each network in the list, as the next is."""

    cleanup = pre_run

    def _networks(self) -> Iterator[Any]:
        network = self.previous_controlnet
        while network is not None:
            yield network
            network = network.previous_controlnet

    def __getattr__(self, name: str) -> Any:
        """What it is asked for besides is said by the networks."""
        if name.startswith("__"):  # of copying, which asks before there is a network
            raise AttributeError(name)
        return getattr(vars(self)["previous_controlnet"], name)


def is_picture(hint: Any) -> TypeGuard[Tensor]:
    return isinstance(hint, Tensor) and hint.ndim == 4


def resized(hint: Tensor, size: tuple[int, int]) -> Tensor:
    """The hint [B, C, H, W] at `size` (width, height); lines stay as sharp as they were."""
    width, height = size
    return hint if hint.shape[-2:] == (height, width) else F.interpolate(hint, (height, width), mode="nearest-exact")
