"""The hints of sd-webui-controlnet in the phases of a hires pass.

It makes two hints when a request begins, one of the first pass's size and one of the last's, and shows the network the
nearer one. In a phase between them neither fits. The ControlNet of Forge fits its hints itself, and in img2img every
phase is a generation of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn import functional as F


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
    networks = [getattr(script, "latest_network", None) for script in p.scripts.alwayson_scripts]
    params = [param for network in networks for param in getattr(network, "control_params", None) or ()]
    return [param for param in params if is_picture(param.hr_hint_cond)]


def acts(p: Any) -> bool:
    """Whether sd-webui-controlnet has a unit that acts on the sampling."""
    return any(getattr(script, "latest_network", None) is not None for script in p.scripts.alwayson_scripts)


def is_picture(hint: Any) -> bool:
    return isinstance(hint, Tensor) and hint.ndim == 4


def resized(hint: Tensor, size: tuple[int, int]) -> Tensor:
    """The hint [B, C, H, W] at `size` (width, height); lines stay as sharp as they were."""
    width, height = size
    return hint if hint.shape[-2:] == (height, width) else F.interpolate(hint, (height, width), mode="nearest-exact")
