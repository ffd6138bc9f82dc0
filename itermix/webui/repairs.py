"""Repairs before the mixing: what other extensions do to finished pictures is done to those of the first pass.

A repair is what an always-on script does in `postprocess_image`, as ADetailer does. The WebUI's own operations on
finished pictures are none: they may enlarge, and stay where they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from modules.scripts_auto_postprocessing import ScriptPostprocessingForMainUI
from torch import Tensor

from itermix.parameters import SettingsError
from itermix.picture.repairs import AFTER, BEFORE
from itermix.settings import Settings
from itermix.webui import host
from itermix.webui.fidelity import tensor_of


def check(p: Any, settings: Settings) -> None:
    """Raises SettingsError where the hires pass would go on with another model, since a repair may load its own."""
    if settings.repairs == BEFORE and host.cannot_go_back(p):
        allowed = f"Allowed in this WebUI, where the hires pass has a checkpoint or modules of its own: {AFTER}."
        raise SettingsError("repairs", BEFORE, allowed)


def refuse_of_hires(settings: Settings) -> None:
    """Raises SettingsError in img2img, where there is no hires pass."""
    if settings.repairs == BEFORE:
        allowed = f"Allowed in img2img: {AFTER}. The script Iterative Mixing upscale repairs after every phase."
        raise SettingsError("repairs", BEFORE, allowed)


def repaired(p: Any, pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W], in [0, 1], as the repairs leave them, which then don't act on the request's result.

    What they draw from torch's generator has no part in what follows. Raises SettingsError if one changes the size.
    """
    restore(p)  # of the iteration before
    acting = those_of(p.scripts, lambda script: not isinstance(script, ScriptPostprocessingForMainUI))
    done = []
    with torch.random.fork_rng(devices=[]):
        for k, picture in enumerate(host.images_of(pictures)):
            p.batch_index = k
            finished = host.finished(picture, k)
            acting.postprocess_image(p, finished)
            if finished.image.size != picture.size:
                width, height = finished.image.size
                allowed = f"Allowed with repairs that keep the size; one has made {width}x{height} of the first pass."
                raise SettingsError("repairs", BEFORE, allowed)
            done.append(finished.image)
    host.hires_checkpoint(p)
    leave_out(p)
    return tensor_of(done)


def leave_out(p: Any) -> None:
    """Let the request do without repairs from here on, by a copy of the runner of scripts, which all requests share."""
    resting = those_of(p.scripts, lambda script: isinstance(script, ScriptPostprocessingForMainUI))
    own = copy.copy(p.scripts)
    own.postprocess_image, own.itermix_original = resting.postprocess_image, p.scripts
    p.scripts = own


def those_of(runner: Any, wanted: Callable[[Any], bool]) -> Any:
    """A copy of a runner of scripts, with those that are wanted."""
    some = copy.copy(runner)
    some.alwayson_scripts = [script for script in runner.alwayson_scripts if wanted(script)]
    some.callback_map = {}  # where most WebUIs keep the order of all
    return some


def restore(p: Any) -> None:
    """Give the request the WebUI's runner of scripts back, if it has its own."""
    if hasattr(p.scripts, "itermix_original"):
        p.scripts = p.scripts.itermix_original
