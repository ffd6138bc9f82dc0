"""The always-on script: mixes in the img2img sampling of the WebUI."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from modules import scripts
from PIL import Image
from torch import Tensor

from itermix.settings import Settings, UpscaleSettings
from itermix.webui import host, infotext, ui
from itermix.webui.errors import kept
from itermix.webui.sampling import MixedSampling, mixed

TITLE = "Iterative Mixing"


@dataclass
class Job:
    """What is to be done with one processing object of the WebUI, kept on it as `itermix`."""

    settings: Settings | Exception
    source: tuple[int, int] | None = None  # size (width, height) of the picture that was enlarged, if one was
    pictures: Sequence[Image.Image] = ()  # the source pictures, where a latent mode is to enlarge them

    @property
    def active(self) -> bool:
        return isinstance(self.settings, Exception) or self.settings.enabled


class IterativeMixing(scripts.Script):
    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible if is_img2img else False

    def ui(self, is_img2img: bool) -> list[Any]:
        return ui.accordion("itermix_img2img" if is_img2img else "itermix_txt2img")

    def process(self, p: Any, *args: Any) -> None:
        # The selectable script makes its own job before; it stands above the accordion.
        if not hasattr(p, "itermix"):
            p.itermix = Job(kept(settings_of, args))
        settings = p.itermix.settings
        if isinstance(settings, Settings) and settings.enabled:
            p.denoising_strength = settings.denoise
            p.extra_generation_params.update(infotext.of(settings))

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        job = p.itermix
        if not job.active:
            return
        if job.pictures:
            error = kept(replace_latent, p, job)
            job.settings = error or job.settings
        MixedSampling(p.sampler, functools.partial(mix, p, job)).attach()


def settings_of(args: Sequence[Any]) -> Settings:
    """Of an API dict or of the UI's values in order. A dict switches mixing on unless it says otherwise."""
    if args and isinstance(args[0], dict):
        return Settings(**{"enabled": True, **args[0]})
    return Settings.from_list(args)


def replace_latent(p: Any, job: Job) -> None:
    """Put the source enlarged in latent space in the place of the encoded pixels."""
    assert isinstance(job.settings, UpscaleSettings)
    latent = host.enlarged_latents(job.pictures, (p.width, p.height), job.settings.upscaler, p.sd_model)
    latent = latent.to(p.init_latent).expand_as(p.init_latent)
    if p.mask is not None and p.inpainting_fill in (2, 3):  # the masked part starts from noise or from nothing
        latent = latent * p.mask + p.init_latent * p.nmask
    p.init_latent = latent


def mix(p: Any, job: Job, func: Callable, latent: Tensor, noise: Tensor) -> Callable:
    """The sampler function that mixes, for MixedSampling; raises what was wrong before."""
    settings = job.settings
    if isinstance(settings, Exception):
        raise settings
    if job.source:
        settings = settings.of_phase(job.source, (p.width, p.height))
    parametrisation = host.parametrisation(p.sampler)
    if settings.seed < 0:
        return mixed(func, latent, noise, p.seeds, settings, parametrisation)
    first = settings.seed + p.iteration * p.batch_size
    return mixed(func, latent, None, range(first, first + len(latent)), settings, parametrisation)
