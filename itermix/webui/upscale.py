"""The selectable img2img script: enlarge the picture in phases, with a mixing pass in each.

Every phase is a generation of its own, so that whatever else acts on a generation (masks, ControlNet, other scripts)
finds the size of the phase. The iterations of a request run one after the other, each through all of its phases.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from modules import errors, processing, scripts, shared
from PIL import Image

from itermix.analysis.record import Analysis
from itermix.model.prompts import PromptOf
from itermix.parameters import SettingsError, Size
from itermix.picture.phases import described, walk
from itermix.settings import UpscaleSettings
from itermix.settings.infotext import UNFINISHED
from itermix.steps.schedule import steps_asked, steps_by_host
from itermix.webui import (
    analysis,
    cleanup,
    fidelity,
    folder,
    host,
    infotext,
    latent_upscaler,
    masks,
    options,
    prompts,
    repairs,
    results,
    sides,
    ui,
)
from itermix.webui.errors import Refused, as_client_errors
from itermix.webui.job import Job, tasks
from itermix.webui.limits import check_size
from itermix.webui.presets import with_preset
from itermix.webui.progress import shared_out
from itermix.webui.script import IterativeMixing, overridden, settings_of

log = logging.getLogger(__name__)

OWN = len(UpscaleSettings.own_parameters())
"""Controls of the script's own settings, after which come those of the folders."""


class IterativeMixingUpscale(scripts.Script):
    def title(self) -> str:
        return infotext.UPSCALE_TITLE

    def show(self, is_img2img: bool) -> bool:
        return is_img2img

    def ui(self, is_img2img: bool) -> list[Any]:
        offered = not shared.cmd_opts.hide_ui_dir_config
        controls = ui.upscale_controls("itermix_upscale", host.upscalers(), folders=offered)
        self.infotext_fields = list(zip(controls, infotext.SIZES))
        return controls

    def run(self, p: Any, *args: Any) -> Any:
        alone = host.alone(p)
        try:
            return upscaled(p, args)
        except Refused as error:
            if not alone:
                raise
            p.comment(str(error))
            return processing.Processed(p, [])


@as_client_errors()
def upscaled(p: Any, args: Sequence[Any]) -> Any:
    """The WebUI's result of the request `p`, with the script's arguments."""
    if args and isinstance(args[0], dict):
        args = args[:1]  # what follows a shorter list of arguments in A1111 are those of another script
    settings = upscale_settings(p, args)
    folders = folder.wanted(args[OWN:], p)
    if folders:
        p.comment(folder.made(p, *folders, settings, lambda q: upscaled(q, args[:OWN])))
        return processing.Processed(p, [])
    mixing = args if args and isinstance(args[0], dict) else accordion_args(p)
    mask, own = masks.given(mixing, p), prompts.given(mixing, p)
    host.check_upscaler(settings.upscaler)
    if settings.upscaler == latent_upscaler.NAME:
        latent_upscaler.check(settings)
    if not settings.enabled:
        raise SettingsError("enabled", False, "Allowed: true, since this script does nothing but mixing.")
    if not p.init_images or p.init_images[0] is None:
        raise SettingsError("init_images", p.init_images, "Allowed: a picture to enlarge.")
    latent_upscaler.refuse_of_hires(settings)
    repairs.refuse_of_hires(settings)
    analysis.check(p, settings)
    host.check_frames(p)
    Job(settings).checked()
    sources = [host.flatten(picture) for picture in p.init_images]
    size = sources[0].size
    sizes = sides.planned(settings, *size)
    check_size(*sizes[-1])
    steps = steps_by_host(settings, asked(p, settings), p.sampler_name, exact=shared.opts.img2img_fix_steps)
    log.info("Iterative Mixing: %s", described(size, sizes, steps, settings, sides.known()))
    if shared.state.job_count < 0:
        shared.state.job_count = p.n_iter
    made = []
    for q, n in iterations(p):
        note = f", batch {n + 1} of {p.n_iter}" if p.n_iter > 1 else ""
        made.append(iteration(q, numbered(settings, n * p.batch_size), sources, sizes, note, mask, own))
    return joined(made)


def asked(p: Any, settings: UpscaleSettings) -> int:
    """The steps that each phase asks the WebUI for."""
    return steps_asked(settings, p.steps, p.sampler_name, exact=shared.opts.img2img_fix_steps)


def upscale_settings(p: Any, args: Sequence[Any]) -> UpscaleSettings:
    """Of one self-contained API dict, or of this script's controls together with those of the accordion."""
    if args and isinstance(args[0], dict):
        values = with_preset(masks.without(args[0]), p)
        return overridden(UpscaleSettings(**{"enabled": True, **options.defaults(), **values}), p)
    mixing = settings_of(accordion_args(p), p)
    own = dict(zip((parameter.name for parameter in UpscaleSettings.own_parameters()), args))
    return overridden(UpscaleSettings(**{**dataclasses.asdict(mixing), **own, "enabled": True}), p)


def accordion_args(p: Any) -> Sequence[Any]:
    """The values of the accordion's controls."""
    accordion = next(script for script in p.scripts.alwayson_scripts if isinstance(script, IterativeMixing))
    return p.script_args[accordion.args_from : accordion.args_to]


def numbered(settings: UpscaleSettings, before: int) -> UpscaleSettings:
    """The settings for what comes after that many pictures: a noise seed of its own counts through all iterations."""
    seed = settings.seed if settings.seed < 0 else settings.seed + before
    return UpscaleSettings(**{**dataclasses.asdict(settings), "seed": seed})


def iterations(p: Any) -> Iterator[tuple[Any, int]]:
    """A request of one iteration for each of those of `p`, with the seeds that the WebUI would give it, and its number.

    Ends when the user interrupts or lets the WebUI stop after the current image.
    """
    seed, subseed = (processing.get_fixed_seed(value) for value in (p.seed, p.subseed))
    for n in range(p.n_iter):
        if n and (shared.state.interrupted or shared.state.stopping_generation):
            return
        first = n * p.batch_size
        this = slice(first, first + p.batch_size)
        q = copy.copy(p)
        q.n_iter = 1
        # Numbers stay numbers, because other extensions read them.
        q.seed = seed[this] if isinstance(seed, list) else seed + first * (p.subseed_strength == 0)
        q.subseed = subseed[this] if isinstance(subseed, list) else subseed + first
        for name in ("prompt", "negative_prompt"):
            text = getattr(p, name)
            setattr(q, name, text[this] if isinstance(text, list) else text)
        yield q, n


def iteration(
    p: Any,
    settings: UpscaleSettings,
    sources: list[Image.Image],
    sizes: list[Size],
    note: str,
    mask: Image.Image | None,
    own: PromptOf | None,
) -> Any:
    """All phases of one iteration; gives the WebUI's result of the last one that was finished."""
    finished: tuple[Any, Any, list[Image.Image]] | None = None
    way, begun = walk(sources[0].size, sizes), sources
    originals = fidelity.tensor_of([source.resize(way[0].first) for source in sources])
    first = functools.cache(functools.partial(cleanup.encoded, p, originals))
    analyses: list[Analysis] = []
    todo = tasks(way, settings, asked(p, settings), p.sampler_name, exact=shared.opts.img2img_fix_steps)
    with shared_out(todo, jobs=1, counted_by_host=0, note=note) as progress:
        for step in way:
            job = Job(settings, by_script=True, phase=step, progress=progress, mask=mask, prompts=own)
            job.analyses, job.first = analyses, first
            if settings.fidelity and p.image_mask is None:  # else it keeps what the WebUI encodes: filled, cut
                job.kept_to = originals
            q = of_phase(p, settings, job, sources)
            problem = "it was stopped"
            try:
                result = processing.process_images(q)
                job.check_mixed()
            except Exception as error:
                if finished is None:
                    if job.cannot_be_decoded(error):
                        raise RuntimeError(f"{step}: {job.why(error)}") from error
                    raise
                errors.report(f"Iterative Mixing: {step} failed", exc_info=True)
                problem, result = job.why(error), None
            if finished and (result is None or not job.finished):
                what = f"{step}: {problem}; this is the picture of phase {step.number - 1}"
                mark(finished[1], what)
                break
            finished = q, result, job.made
            if not job.finished:  # the first was stopped: the WebUI gives what there is of it
                return result
            sources = job.made
    assert finished is not None
    q, result, pictures = finished
    for k, picture in enumerate(pictures):
        results.keep(q, begun, picture, k, settings)
    if host.saves(p) and not q.save_samples():  # was not to be the last, or was stopped after its end
        for k, picture in enumerate(pictures):
            name = host.save(p, picture, result.all_seeds[k], result.all_prompts[k], result.infotexts[k])
            if analyses:
                analysis.write(p, analyses, k, name)
    return result


def of_phase(p: Any, settings: UpscaleSettings, job: Job, sources: list[Image.Image]) -> Any:
    """The request of one phase: `p` generating from its enlarged sources."""
    assert job.phase is not None
    size = job.phase.target
    q = copy.copy(p)
    q.itermix = job
    q.extra_generation_params = dict(p.extra_generation_params)
    q.comments = {}
    q.do_not_save_grid = True
    q.do_not_save_samples = p.do_not_save_samples or not (job.last or settings.save_phases)
    how = settings.upscaler, settings.back_projection, settings.seamless
    q.init_images = [host.enlarge(picture, size, *how) for picture in sources]
    q.width, q.height = size
    q.resize_mode = 0
    if q.image_mask is not None:
        q.image_mask = q.image_mask.resize(size)
    job.pictures = sources if host.is_latent(settings.upscaler) else ()
    return q


def mark(result: Any, what: str) -> None:
    """Say in the result of a phase that it was to be enlarged further."""
    result.comments += f"Iterative Mixing, {what}.\n"
    result.extra_generation_params[UNFINISHED] = what
    result.infotexts = [host.with_parameter(text, UNFINISHED, what) for text in result.infotexts]
    result.info = result.infotexts[0]
    for picture, text in zip(result.images, result.infotexts):
        picture.info["parameters"] = text


def joined(results: Sequence[Any]) -> Any:
    """One result of the WebUI with the pictures of several."""
    first, *others = results
    for other in others:
        for name in ("images", "infotexts", "all_prompts", "all_negative_prompts", "all_seeds", "all_subseeds"):
            setattr(first, name, [*getattr(first, name), *getattr(other, name)])
        first.comments += other.comments
    return first
