"""The always-on script: mixes in the img2img sampling of the WebUI, or in the hires pass in place of hires fix."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from modules import scripts, shared
from torch import Tensor

from itermix.picture.phases import walk
from itermix.settings import Settings
from itermix.settings.infotext import UNFINISHED, written
from itermix.webui import (
    analysis,
    fidelity,
    hires,
    host,
    infotext,
    latent_upscaler,
    masks,
    options,
    prompts,
    repairs,
    results,
    ui,
)
from itermix.webui.errors import USER_ERRORS, kept
from itermix.webui.job import Job, Wrapped, tasks
from itermix.webui.presets import followed, with_preset
from itermix.webui.progress import Task, shared_out

TITLE = "Iterative Mixing"
AnySettings = TypeVar("AnySettings", bound=Settings)


class IterativeMixing(scripts.Script):
    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        prefix = "itermix_img2img" if is_img2img else "itermix_txt2img"
        controls = ui.accordion(prefix, host.samplers(), defaults=options.defaults())
        self.infotext_fields = list(zip(controls, infotext.MIXING))
        self.paste_field_names = infotext.MIXING
        return controls

    def process(self, p: Any, *args: Any) -> None:
        if host.repairs_a_part(p):
            p.itermix = Job(Settings())
            return
        before = getattr(p, "itermix", None)
        if before:  # of a script that runs one request repeatedly, where the last run failed
            before.give_steps_back(p)
        if not (before and before.by_script):
            made = kept(job_of, p, args)
            p.itermix = made if isinstance(made, Job) else Job(made)
        job = p.itermix
        if not job.active:
            return
        if isinstance(job.settings, Settings):
            job.settings = kept(job.ask_for_steps, p) or job.settings
        if isinstance(job.settings, Settings):
            p.extra_generation_params = {**p.extra_generation_params, **written(job.settings)}
            if host.is_img2img(p):
                p.denoising_strength = job.settings.denoise
                job.sources = () if job.by_script else [host.flatten(each) for each in p.init_images or () if each]
                if job.settings.fidelity:
                    fidelity.keep_source(p, job)
        if not host.is_img2img(p):
            Wrapped(p, "init", job, functools.partial(init, hires.check_request))
            hires.replace(p, job)
        elif not job.by_script:
            Wrapped(p, "init", job, functools.partial(init, check_request))
            Wrapped(p, "sample", job, sample)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        if p.itermix.active and (host.is_img2img(p) or p.is_hr_pass):
            p.itermix.attach(p)

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        if host.is_img2img(p):  # a hires pass does it itself, after each of its phases
            fidelity.correct(p, p.itermix, kwargs["images"])

    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
        analysis.await_picture(p, p.itermix)
        if p.itermix.active:
            results.keep(p, p.itermix.sources, pp.image, len(p.itermix.made), p.itermix.settings)
            p.itermix.made.append(pp.image)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        repairs.restore(p)
        p.itermix.give_steps_back(p)
        if p.itermix.refused:
            processed.info = ""  # of no picture
        for value in list(vars(p).values()):
            if isinstance(value, Wrapped):
                value.remove(p)


def job_of(p: Any, args: Sequence[Any]) -> Job:
    """What is asked for by the arguments of the script, or by other extensions."""
    return Job(overridden(settings_of(args, p), p), mask=masks.given(args, p), prompts=prompts.given(args, p))


def settings_of(args: Sequence[Any], p: Any) -> Settings:
    """Of an API dict or of the UI's values in order, for the request `p`. A dict switches mixing on unless it says
    otherwise."""
    if args and isinstance(args[0], dict):
        return Settings(**{"enabled": True, **options.defaults(), **with_preset(masks.without(args[0]), p)})
    return followed(Settings.from_list(masks.controls_without(args)), masks.preset_of(args), p)


def overridden(settings: AnySettings, p: Any) -> AnySettings:
    """The settings with those in `p.itermix_settings` on top, a dict as the API takes it, if somebody put one there.

    It switches mixing on unless it says otherwise. X/Y/Z plots use it, and other extensions may (docs/api.md). One that
    tiles is seamless.
    """
    if host.tiles(p):
        settings = settings.replace(seamless=True)
    changes = getattr(p, "itermix_settings", None)
    if not changes:
        return settings
    return type(settings)(**{**dataclasses.asdict(settings), "enabled": True, **with_preset(masks.without(changes), p)})


def init(check: Callable[[Any, Job], Any], p: Any, job: Job, original: Callable, *args: Any, **kwargs: Any) -> None:
    """`init` of a request, after which the WebUI samples: refuses what can't be done.

    On the page that is no error: there are no iterations then, and the sentence is among the comments. The WebUI would
    print a traceback of an error, and reForge and Forge Classic lose it.
    """
    try:
        host.check_frames(p)  # in img2img the WebUI's own `init` fails with a video, without a word
        original(*args, **kwargs)
        check(p, job)
    except USER_ERRORS as error:
        if not host.alone(p):
            raise
        host.refuse(p, error)
        job.refused = True
        p.n_iter = 0


def check_request(p: Any, job: Job) -> list[Task]:
    """Raises what can't be done of an img2img request at the tab's own size; gives what is to be done."""
    settings = job.checked()
    latent_upscaler.refuse_of_hires(settings)
    repairs.refuse_of_hires(settings)
    analysis.check(p, settings)
    size = p.width, p.height
    return tasks(walk(size, [size]), settings, p.steps, p.sampler_name, exact=shared.opts.img2img_fix_steps)


def sample(p: Any, job: Job, original: Callable, *args: Any, **kwargs: Any) -> Tensor:
    """`sample` of an img2img request at the tab's own size: shares out the progress."""
    todo = check_request(p, job)
    p.extra_generation_params.pop(UNFINISHED, None)  # of the iteration before
    job.analyses.clear()
    with shared_out(todo, 1, note=host.batch_note(p)) as job.progress:
        samples = original(*args, **kwargs)
    job.check_mixed()
    return samples
