"""What follows a mixing pass: the colours of its source, and the clean-up, both on the latent."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from modules import errors
from torch import Tensor

from itermix.mixing import frames
from itermix.mixing.noising import draw
from itermix.parameters import SettingsError
from itermix.picture.cleanup import SAME_SAMPLER
from itermix.picture.colour import DEMOFUSION, Anchor, anchor_of, match_anchor, match_statistics
from itermix.settings import Settings
from itermix.webui import host

STEP_OF_NOISE = 1_000_000
"""Number of the draw that the clean-up gets its noise from; the mixing's own count its steps."""


def check(settings: Settings) -> None:
    """Raises SettingsError if the WebUI has no such sampler."""
    allowed = [SAME_SAMPLER, *host.samplers()]
    if settings.cleanup_sampler not in allowed:
        raise SettingsError("cleanup_sampler", settings.cleanup_sampler, f"Allowed: {', '.join(allowed)}.")


def finish(p: Any, job: Any, latent: Tensor, samples: Tensor, args: tuple, kwargs: dict) -> Tensor:
    """The latents [B, C, H, W] or [B, C, T, H, W] of a mixing pass, with the colours of `latent`, and cleaned up after
    the last phase.

    An interrupted pass is given back as it is. If the clean-up fails or is interrupted its input is the result, and a
    comment says so. Raises ValueError if the pass gave NaN, which not every WebUI notices.
    """
    settings = job.settings
    if host.stopped():
        return samples
    check_numbers(samples)
    job.finished = True
    if job.analysis:
        job.analyses.append(job.analysis)
    if settings.match_colours:
        samples = with_colours_of(latent.to(samples), samples, getattr(p, "nmask", None), job)
    if job.last and settings.cleanup:
        try:
            cleaned = clean_up(p, job, samples, settings.steps_of_cleanup(kwargs.get("steps") or p.steps), args, kwargs)
            check_numbers(cleaned)
            if host.stopped():
                host.note(p, "clean-up", "it was stopped; this is the picture before it")
            else:
                samples = cleaned
        except Exception as error:
            errors.report("Iterative Mixing: the clean-up failed; this is the picture before it", exc_info=True)
            host.note(p, "clean-up", f"it failed ({error}); this is the picture before it")
    job.samples = samples
    return samples


def with_colours_of(latent: Tensor, samples: Tensor, where: Tensor | None, job: Any) -> Tensor:
    """The samples [B, C, H, W] or [B, C, T, H, W], each of their pictures with the statistics of the latent's, or with
    those of the job's first source."""
    reference, pictures = frames.pictures(latent), frames.pictures(samples)
    masked = None if where is None else where.reshape(-1, *where.shape[-2:])[0]
    if job.settings.colour_formulas == DEMOFUSION:
        anchor = job.anchor() if job.anchor else anchor_of(reference)
        return frames.latents(match_anchor(pictures, anchor, masked), samples)
    return frames.latents(match_statistics(pictures, reference, masked), samples)


def anchor_of_pictures(p: Any, pictures: Tensor) -> Anchor:
    """The statistics of the latents of pictures [B, 3, H, W] in [0, 1].

    The WebUI draws from torch's global generator where it encodes, which is left as it was.
    """
    with torch.random.fork_rng():
        return anchor_of(frames.pictures(host.encoded(pictures, p.sd_model)))


def check_numbers(samples: Tensor) -> None:
    if not bool(torch.isfinite(samples).all()):
        raise ValueError("the model gave values that are not numbers; it may need more than half precision")


def clean_up(p: Any, job: Any, samples: Tensor, steps: int, args: tuple, kwargs: dict) -> Tensor:
    """The latents after a light sampling of their own, without mixing; `args` and `kwargs` are the conditioning."""
    settings = job.settings
    noise = draw(torch.empty_like(samples), [int(seed) for seed in p.seeds], STEP_OF_NOISE)
    before = p.sampler, p.denoising_strength
    same = settings.cleanup_sampler == SAME_SAMPLER
    job.begin()
    try:
        p.sampler = host.sampler(p, host.sampler_name(p) if same else settings.cleanup_sampler)
        p.denoising_strength = settings.cleanup
        with ExitStack() as stack:
            if windows := stack.enter_context(host.windowed(p, settings)):
                stack.enter_context(windows.of_crops(p.sampler.model_wrap_cfg))
            return p.sampler.sample_img2img(p, samples, noise, *args, **{**kwargs, "steps": steps})
    finally:
        p.sampler, p.denoising_strength = before
