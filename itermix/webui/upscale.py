"""The selectable img2img script: enlarge the picture, then one mixing pass over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modules import processing, scripts

from itermix.settings import SettingsError, UpscaleSettings
from itermix.webui import host, ui
from itermix.webui.errors import as_client_errors
from itermix.webui.script import IterativeMixing, Job, settings_of

TITLE = "Iterative Mixing upscale"


class IterativeMixingUpscale(scripts.Script):
    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> bool:
        return is_img2img

    def ui(self, is_img2img: bool) -> list[Any]:
        return ui.upscale_controls("itermix_upscale", host.upscalers())

    def run(self, p: Any, *args: Any) -> Any:
        with as_client_errors():
            settings = upscale_settings(p, args)
            host.check_upscaler(settings.upscaler)
            if not settings.enabled:
                raise SettingsError("enabled", False, "Allowed: true, since this script does nothing but mixing.")
            if not p.init_images or p.init_images[0] is None:
                raise SettingsError("init_images", p.init_images, "Allowed: a picture to enlarge.")
        with enlarged(p, settings):
            return processing.process_images(p)


def upscale_settings(p: Any, args: Sequence[Any]) -> UpscaleSettings:
    """Of one self-contained API dict, or of this script's controls together with those of the accordion."""
    if args and isinstance(args[0], dict):
        return UpscaleSettings(**{"enabled": True, **args[0]})
    accordion = next(script for script in p.scripts.alwayson_scripts if isinstance(script, IterativeMixing))
    mixing = settings_of(p.script_args[accordion.args_from : accordion.args_to])
    own = dict(zip((parameter.name for parameter in UpscaleSettings.own_parameters()), args))
    return UpscaleSettings(**{**dataclasses.asdict(mixing), **own, "enabled": True})


@contextmanager
def enlarged(p: Any, settings: UpscaleSettings) -> Iterator[None]:
    """Inside the block `p` generates from its enlarged pictures; afterwards it is as before, for a batch's next one."""
    changed = ("init_images", "image_mask", "width", "height", "resize_mode", "denoising_strength")
    before = {name: getattr(p, name) for name in changed}
    try:
        pictures = [host.flatten(picture) for picture in p.init_images]
        size = settings.target(*pictures[0].size)
        p.init_images = [host.enlarge(picture, size, settings.upscaler) for picture in pictures]
        p.width, p.height = size
        p.resize_mode = 0
        if p.image_mask is not None:
            p.image_mask = p.image_mask.resize(size)
        p.itermix = Job(settings, pictures[0].size, pictures if host.is_latent(settings.upscaler) else ())
        yield
    finally:
        for name, value in before.items():
            setattr(p, name, value)
        vars(p).pop("itermix", None)
