"""What follows a mixing pass on its latents, as the settings ask for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from modules import errors
from torch import Tensor

from itermix.mixing import frames
from itermix.mixing.noising import draw
from itermix.parameters import Sampling, SettingsError
from itermix.picture.cleanup import SAME_SAMPLER
from itermix.settings import Settings
from itermix.webui import crops, host

STEP_OF_NOISE = 1_000_000
"""Number of the draw that the clean-up gets its noise from; the mixing's own count its steps."""


def check(settings: Settings) -> None:
    """Raises SettingsError if the WebUI has no such sampler."""
    allowed = [SAME_SAMPLER, *host.samplers()]
    if settings.cleanup_sampler not in allowed:
        raise SettingsError("cleanup_sampler", settings.cleanup_sampler, f"Allowed: {', '.join(allowed)}.")


def finish(p: Any, job: Any, latent: Tensor, samples: Tensor, args: tuple, kwargs: dict) -> Tensor:
    """What comes of the latents [B, C, H, W] or [B, C, T, H, W] of a mixing pass over `latent`.

    An interrupted pass is given back as it is. What follows it can't lose it, see `or_before`. Raises ValueError if the
    pass gave NaN, which not every WebUI notices.
    """
    if host.stopped():
        return samples
    settings = job.of_pass(latent)
    check_numbers(samples)
    job.finished = True
    if job.analysis:
        job.analyses.append(job.analysis)
    where = getattr(p, "nmask", None)
    where = None if where is None else where.reshape(-1, *where.shape[-2:])[0]

    def finished(samples: Tensor) -> Tensor:
        pictures, source = frames.pictures(samples), frames.pictures(latent.to(samples))
        return frames.latents(settings.finished(pictures, source, where, job.first), samples)

    samples = or_before(p, "matching of colours", finished, samples)
    for more in settings.after_phase(kwargs.get("steps") or p.steps):
        samples = or_before(p, more.name, functools.partial(run, p, job, more, args, kwargs), samples)
    job.samples = samples
    return samples


def or_before(p: Any, name: str, step: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
    """What a step makes of the samples; the samples, and a comment that says so, if it fails or is interrupted."""
    try:
        made = step(samples)
        check_numbers(made)
        if not host.stopped():
            return made
        problem = "it was stopped"
    except Exception as error:
        errors.report(f"Iterative Mixing: the {name} failed; this is the picture before it", exc_info=True)
        problem = f"it failed ({error})"
    host.note(p, name, f"{problem}; this is the picture before it")
    return samples


def encoded(p: Any, pictures: Tensor) -> Tensor:
    """The latents [B, C, h, w] of pictures [B, 3, H, W] in [0, 1].

    The WebUI draws from torch's global generator where it encodes, which is left as it was.
    """
    with torch.random.fork_rng():
        return frames.pictures(host.encoded(pictures, p.sd_model))


def check_numbers(samples: Tensor) -> None:
    if not bool(torch.isfinite(samples).all()):
        raise ValueError("the model gave values that are not numbers; it may need more than half precision")


def run(p: Any, job: Any, sampling: Sampling, args: tuple, kwargs: dict, samples: Tensor) -> Tensor:
    """The latents after a sampling of their own, without mixing; `args` and `kwargs` are the conditioning."""
    noise = draw(torch.empty_like(samples), [int(seed) for seed in p.seeds], STEP_OF_NOISE)
    before = p.sampler, p.denoising_strength
    job.begin()
    try:
        p.sampler = host.sampler(p, sampling.sampler or host.sampler_name(p))
        p.denoising_strength = sampling.denoise
        with ExitStack() as stack:
            prompts = job.of_crops(p, sampling.settings, samples)
            if windows := stack.enter_context(crops.windowed(p, sampling.settings, prompts)):
                stack.enter_context(windows.of_crops(p.sampler.model_wrap_cfg))
            stack.enter_context(job.begun(p, p.sampler, sampling.steps, exact=True))
            return p.sampler.sample_img2img(p, samples, noise, *args, **{**kwargs, "steps": sampling.steps})
    finally:
        p.sampler, p.denoising_strength = before
