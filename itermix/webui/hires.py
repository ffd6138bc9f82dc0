"""Iterative mixing in the place of hires fix, with hires fix's own controls.

The WebUI's hires pass enlarges, samples and decodes; here it is run once for each phase, from the result of the one
before, with the mixing attached to its sampling. So upscaler, steps, sampler, schedule, checkpoint, prompts and extra
networks of hires fix are those of every phase.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from modules import errors

from itermix.mixing import frames
from itermix.parameters import SettingsError
from itermix.picture.phases import Phase, walk
from itermix.picture.repairs import BEFORE
from itermix.settings import Settings
from itermix.settings.infotext import UNFINISHED
from itermix.steps.samplers import SamplerRefused, check
from itermix.webui import analysis, cleanup, controlnet, fidelity, host, latent_upscaler, repairs, sides
from itermix.webui.job import Job, Wrapped, tasks
from itermix.webui.limits import check_size
from itermix.webui.progress import Task, shared_out

CHANGED = ("hr_upscale_to_x", "hr_upscale_to_y", "truncate_x", "truncate_y", "latent_scale_mode")


def replace(p: Any, job: Job) -> None:
    """Let this txt2img request mix in its hires pass; without one it fails with a sentence when it samples."""
    Wrapped(p, "sample", job, sample)
    Wrapped(p, "sample_hr_pass", job, sample_hr_pass)


def sample(p: Any, job: Job, original: Callable, *args: Any, **kwargs: Any) -> Any:
    """`sample` of the request: shares out the progress."""
    todo = check_request(p, job)
    if p.firstpass_image is not None:  # of the gallery; Forge hides the infotext in an alpha channel
        p.firstpass_image = p.firstpass_image.convert("RGB")
    else:
        todo.insert(0, Task(f"first pass, {p.width}x{p.height}", p.steps * p.width * p.height))
    p.denoising_strength = job.checked().denoise
    p.extra_generation_params["Denoising strength"] = p.denoising_strength  # as the WebUI does, before it is ours
    p.extra_generation_params.pop(UNFINISHED, None)  # of the iteration before
    job.analyses.clear()
    with shared_out(todo, 2, note=host.batch_note(p)) as job.progress:
        if p.firstpass_image is None:
            job.begin()
        samples = original(*args, **kwargs)
    if job.steps:  # which are among ours; Forge Neo notes them as it samples
        p.extra_generation_params.pop("Hires steps", None)
    return samples


def check_request(p: Any, job: Job) -> list[Task]:
    """Raises what can't be done of the request; gives what is to be done after the first pass."""
    settings = job.checked()
    if not p.enable_hr:
        allowed = "Allowed in txt2img: true together with hires fix, whose second pass it replaces."
        raise SettingsError("enabled", True, allowed)
    analysis.check(p, settings)
    way = way_of(p, settings)
    check_size(*way[-1].target)
    sampler = p.hr_sampler_name or p.sampler_name
    check(host.sampler(p, sampler).func)
    host.check_inversion(p, settings)
    repairs.check(p, settings)
    if settings.nn_upscaler:
        latent_upscaler.check(settings)
        latent_upscaler.load(p.sd_model)
    return tasks(way, settings, p.hr_second_pass_steps or p.steps, sampler, exact=True)


def way_of(p: Any, settings: Settings) -> list[Phase]:
    """The phases of the hires pass, the last to the WebUI's own size."""
    return walk((p.width, p.height), sides.of_hires(p, settings))


def sample_hr_pass(
    p: Any, job: Job, original: Callable, samples: Any, decoded: Any, seeds: Any, subseeds: Any, *args: Any
) -> Any:
    """The hires pass in phases. What fails or is stopped ends it with the picture of the phase before."""
    if host.stopped():
        return original(samples, decoded, seeds, subseeds, *args)
    before = {name: getattr(p, name) for name in CHANGED}
    settings = job.checked()
    cut = any(before[name] for name in ("truncate_x", "truncate_y"))
    pictures = None if decoded is None else host.of_hires(p, decoded)
    if settings.repairs == BEFORE:
        samples, pictures, decoded = repaired(p, samples, pictures)
    # What fidelity keeps to, and the page compares with.
    first = None if pictures is None else fidelity.of_first_pass(p, samples, pictures)
    job.first = functools.cache(functools.partial(latents_of_first_pass, p, samples, pictures))
    done: Any = None  # the decoded pictures of the last finished phase, as the WebUI gives them
    try:
        for phase in way_of(p, settings):
            job.phase, job.finished, size = phase, False, phase.target
            p.hr_upscale_to_x, p.hr_upscale_to_y = size
            p.truncate_x, p.truncate_y = (before["truncate_x"], before["truncate_y"]) if job.last else (0, 0)
            if phase.number > 1:
                host.hires_checkpoint(p)
            problem = "it was stopped"
            try:
                if settings.fidelity:
                    first = fidelity.of_first_pass(p, samples, pictures) if first is None else first
                    job.kept_to = fidelity.left_by_cut(p, first)
                start = enlarged(p, samples, pictures, size) if settings.nn_upscaler else samples
                with contextlib.nullcontext() if job.last else controlnet.hints_of_size(p, size, cut):
                    result = original(start, decoded, seeds, subseeds, *args)
                job.check_mixed()
                result = fidelity.correct_decoded(p, job, result)
            except (SettingsError, SamplerRefused):
                raise
            except Exception as error:
                errors.report(f"Iterative Mixing: {phase} failed", exc_info=True)
                problem = job.why(error)
                result = None
            if result is None or not job.finished:
                before_it = "the first pass" if done is None else f"phase {phase.number - 1}"
                host.note(p, str(phase), f"{problem}; this is the picture of {before_it}")
                done = done or host.decoded(p, samples, pictures)
                break
            done = result
            if not job.last:
                samples, pictures = job.samples, host.pictures_of(done)
                decoded = host.for_hires(p, pictures)
                if settings.save_phases and host.saves(p):
                    save(p, job, pictures, f"-phase-{phase.number}")
        job.sources = [] if first is None else host.images_of(first)
        if host.stopped() and host.saves(p):  # what the WebUI takes for incomplete then, and does not save
            save(p, job, host.pictures_of(done))
        return done
    finally:
        p.is_hr_pass = False
        for name, value in before.items():
            setattr(p, name, value)


def repaired(p: Any, samples: Any, pictures: torch.Tensor | None) -> tuple[Any, torch.Tensor, Any]:
    """(samples, pictures, decoded) of `sample_hr_pass`, of the first pass with what others repair in it."""
    mended = repairs.repaired(p, fidelity.of_first_pass(p, samples, pictures))
    latents = None if p.latent_scale_mode is None else host.encoded(mended, p.sd_model)
    return latents, mended * 2 - 1, host.for_hires(p, mended * 2 - 1)


def latents_of_first_pass(p: Any, samples: Any, pictures: torch.Tensor | None) -> torch.Tensor:
    """The latents [B, C, h, w] of the first pass, or of the picture of the gallery in its place, in [-1, 1]."""
    if samples is not None:
        return frames.pictures(samples)
    return cleanup.encoded(p, fidelity.of_first_pass(p, samples, pictures))


def save(p: Any, job: Job, pictures: torch.Tensor, suffix: str = "") -> None:
    """Save pictures [B, 3, H, W] in [-1, 1] as the WebUI would, and what analyses there are beside them."""
    for k, name in enumerate(host.save_batch(p, pictures, suffix)):
        if job.analyses:
            analysis.write(p, job.analyses, k, name)


def enlarged(p: Any, samples: Any, pictures: Any, size: tuple[int, int]) -> Any:
    """The latents enlarged by the network, so that a latent mode of the WebUI's finds them at the size `size`.

    Of a picture of the gallery there are no latents, unless its upscaler is a latent one.
    """
    if samples is None:
        samples = host.encoded((pictures + 1) / 2, p.sd_model)
    p.latent_scale_mode = {"mode": "nearest-exact", "antialias": False}  # Forge Neo lists none, and has all of them
    return latent_upscaler.enlarge(samples, size, p.sd_model)
