"""What is to be done with one processing object of the WebUI: kept on it as `itermix`, from its settings to its end."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from modules import shared
from PIL import Image
from torch import Tensor

from itermix.analysis.record import Analysis
from itermix.mixing import frames
from itermix.mixing.masks import mask_of, values_of
from itermix.model import windows
from itermix.model.crops import places as places_of
from itermix.model.inversion import Denoise
from itermix.model.prompts import PromptOf, of_crops
from itermix.parameters import Part, Size
from itermix.picture.phases import Phase
from itermix.sampling import Pass
from itermix.settings import Settings, UpscaleSettings
from itermix.steps.levels import BY_LEVEL
from itermix.steps.schedule import run_by_host, steps_asked, steps_by_host
from itermix.webui import checkpoints, cleanup, crops, host, masks, sides
from itermix.webui.errors import as_client_errors, kept
from itermix.webui.progress import Progress, Task
from itermix.webui.prompts import Prompts, check_model, note
from itermix.webui.sampling import MixedSampling

log = logging.getLogger(__name__)


@dataclass
class Job:
    """The settings of a request, and how far its phases have come.

    Attributes:
        settings: the mixing; what was wrong with the request instead, to be raised where the WebUI shows it.
        by_script: whether the selectable script made it, which stands above the accordion.
        phase: which enlargement it is, if a picture was enlarged.
        pictures: the source pictures, where a latent mode is to enlarge them.
        progress: where to tell that a sampling begins.
        finished: whether the last pass of mixing came to its end.
        samples: the latents that it made.
        made: the finished pictures of the request.
        sources: the pictures of a batch that they are compared with on the page.
        mask: how much of the weight each part of the picture gets, stretched over it.
        prompts: those that crops have of their own; None if they don't.
        weights: the same of each latent pixel of the sampling that runs, with the Perlin noise; None if it is all.
        first: gives the latents of the first source, before it was enlarged; None if it isn't.
        kept_to: the pictures [B or 1, 3, H, W], in [0, 1], that fidelity keeps the result to.
        analysis: of the pass that runs.
        analyses: of the finished passes that made the picture, if they were wanted.
        awaited: number in its batch of the picture that the WebUI saves next, where an analysis goes beside it.
        refused: whether the request ends without a picture, with a sentence in the page's comments.
        steps: (those that the request named, those that the WebUI is asked for in their place).
    """

    settings: Settings | Exception
    by_script: bool = False
    phase: Phase | None = None
    pictures: Sequence[Image.Image] = ()
    progress: Progress | None = None
    finished: bool = False
    samples: Tensor | None = None
    made: list[Image.Image] = field(default_factory=list)
    sources: Sequence[Image.Image] = ()
    mask: Image.Image | None = None
    prompts: PromptOf | None = None
    weights: Tensor | None = None
    first: Callable[[], Tensor] | None = None
    kept_to: Tensor | None = None
    analysis: Analysis | None = None
    analyses: list[Analysis] = field(default_factory=list)
    awaited: int | None = None
    refused: bool = False
    steps: tuple[int, int] | None = None

    @property
    def last(self) -> bool:
        """Whether the clean-up comes next."""
        return self.phase is None or self.phase.last

    @property
    def active(self) -> bool:
        return isinstance(self.settings, Exception) or self.settings.enabled

    def checked(self) -> Settings:
        """The settings; raises what was wrong with the request."""
        if isinstance(self.settings, Exception):
            raise self.settings
        cleanup.check(self.settings)
        windows.check(self.settings)
        if self.prompts:
            check_model(self.prompts)
        return self.settings

    def begin(self) -> None:
        """Tell that the next sampling begins."""
        if self.progress:
            self.progress.begin()

    def check_mixed(self) -> None:
        """Raises RuntimeError if the last sampling was to mix and came to its end without, though nobody stopped it."""
        if not self.finished and not host.stopped():
            raise RuntimeError(
                "Iterative Mixing: nothing was mixed, since another extension has replaced the sampler. Switch that "
                "extension off or this one"
            )

    def why(self, error: Exception) -> str:
        """What failed in a phase; and what helps, if there is a way."""
        if not self.cannot_be_decoded(error):
            return f"it failed ({error})"
        assert self.phase is not None
        width, height = self.phase.target
        return f"there is not enough memory to decode {width}x{height} ({error}): {host.tiled_decoding()}"

    def cannot_be_decoded(self, error: Exception) -> bool:
        """Whether it was the memory that failed a phase after its sampling."""
        return self.finished and out_of_memory(error)

    def of_pass(self, latent: Tensor) -> Settings:
        """The settings of a pass over a latent [B, C, H, W], of what is left of the picture by a cut."""
        settings = self.checked()
        height, width = (side * sides.latent_pixels() for side in latent.shape[-2:])
        if self.phase:
            settings = dataclasses.replace(self.phase, target=(width, height)).settings(settings)
        return settings.of_model((width, height), sides.known())

    def of_crops(self, p: Any, settings: Settings, latent: Tensor) -> Prompts | None:
        """The prompts that the crops of a latent have of their own in a pass with these settings."""
        if not self.prompts:
            return None
        places = places_of(settings, *latent.shape[-2:])
        if places or self.last:
            note(p, self.prompts, bool(places))
        texts = of_crops(self.prompts, places)
        return Prompts(p, texts) if texts else None

    def ask_for_steps(self, p: Any) -> None:
        """Ask the WebUI for the steps that the settings say; in the hires pass for those that the request names, if it
        does."""
        assert isinstance(self.settings, Settings)
        hires = not host.is_img2img(p)
        name = steps_field(p)
        named = getattr(p, name)
        if hires and named:
            self.settings = self.settings.replace(steps=named)
            return
        sampler = (hires and p.hr_sampler_name) or p.sampler_name
        asked = steps_asked(self.settings, named, sampler, exact=hires or shared.opts.img2img_fix_steps)
        self.steps = named, asked
        setattr(p, name, asked)

    def give_steps_back(self, p: Any) -> None:
        """Let the request ask for its own steps again: after its end, or where it failed before that."""
        if self.steps and getattr(p, steps_field(p)) == self.steps[1]:
            setattr(p, steps_field(p), self.steps[0])

    def attach(self, p: Any) -> None:
        """Mix in the next sampling of `p`."""
        self.finished = False
        if self.pictures:
            self.settings = kept(self._replace_latent, p) or self.settings
        mixing, finish = functools.partial(self._mixing, p), functools.partial(cleanup.finish, p, self)
        MixedSampling(p.sampler, mixing, finish).attach()

    def _replace_latent(self, p: Any) -> None:
        """Put the source enlarged in latent space in the place of the encoded pixels."""
        assert isinstance(self.settings, UpscaleSettings)
        latent = host.enlarged_latents(self.pictures, (p.width, p.height), self.settings.upscaler, p.sd_model)
        latent = latent.to(p.init_latent).expand_as(p.init_latent)
        if starts_from_nothing(p):
            latent = latent * p.mask + p.init_latent * p.nmask
        p.init_latent = latent

    def begun(self, p: Any, sampler: Any, steps: int, exact: bool) -> AbstractContextManager[None]:
        """Inside, a sampler object begins where the denoise of `p` means it to, with a model of flow matching.

        `steps` and `exact` are those of `run_by_host`, but that an option of the WebUI makes all img2img exact.
        """
        assert isinstance(self.settings, Settings)
        denoise = p.denoising_strength
        of_level = self.settings.denoise_in == BY_LEVEL and denoise < 1 and checkpoints.is_flow(p.sd_model)
        if not of_level or not hasattr(sampler, "get_sigmas"):  # DDIM and its like know no levels of flow
            return nullcontext()
        whole, skipped = run_by_host(denoise, steps, exact or shared.opts.img2img_fix_steps)
        return host.begun_at_level(sampler, denoise, whole - skipped)

    @contextmanager
    def _mixing(self, p: Any, func: Callable, latent: Tensor, noise: Tensor) -> Iterator[Callable]:
        """The sampler function that mixes, for MixedSampling; raises what was wrong before."""
        settings = self.of_pass(latent)
        self.begin()
        log.debug("Iterative Mixing: mixes with %s", dict(settings.changed()))
        settings = settings.replace(denoise=1.0)  # the WebUI has left out the steps that it leaves out
        parametrisation = host.parametrisation(p.sampler)
        self.analysis = Analysis(host.preview) if settings.analysis else None
        mask = None if self.mask is None else values_of(masks.of_sampling(self.mask, p))
        start: Tensor | None = noise
        seeds: Sequence[int] = p.seeds
        if settings.seed >= 0:
            first = settings.seed + p.iteration * p.batch_size
            start, seeds = None, range(first, first + len(latent))
        pictures = frames.pictures(latent)
        weights = mask_of(settings, pictures, frames.seeds(seeds, frames.count(latent)), mask)
        self.weights = weights.values if weights else None

        def rewound(step: int, calls: int, done: int) -> None:
            p.sampler.model_wrap_cfg.step = calls  # by which the WebUI schedules prompts
            if self.progress:
                self.progress.rewind(step, done)

        def left_out(denoiser: Any, steps: int) -> None:
            host.leave_out(denoiser, steps)
            if self.progress:
                self.progress.skip(steps)

        prompts = self.of_crops(p, settings, latent)
        with (
            self.begun(p, p.sampler, getattr(p, steps_field(p)) or p.steps, exact=not host.is_img2img(p)),
            host.deep_shrunk(p.sd_model, settings) as shrink,
            crops.windowed(p, settings, prompts) as parts,
        ):
            inverting = functools.partial(self._inverting, p, settings, prompts)
            given: dict[str, Any] = {"mask": mask, "shrink": shrink, "windows": parts, "inverting": inverting}
            given |= {"rewound": rewound, "left_out": left_out, "analysis": self.analysis}
            yield Pass(func, latent, seeds, settings, parametrisation, start, given).function()

    @contextmanager
    def _inverting(
        self, p: Any, settings: Settings, prompts: Prompts | None, denoiser: Any, extra_args: dict[str, Any]
    ) -> Iterator[Denoise]:
        """What the model makes of a state without guidance, for `Pass`, which asks from the cleanest level up. By the
        negative prompt it is the same for all crops."""
        own = windows.replaced(prompts, "acts", settings.inversion_prompt) if prompts else nullcontext()
        with own, host.unguided(p, denoiser, extra_args, settings.inversion_prompt) as denoise:

            def counted(x: Tensor, level: Tensor, share: float) -> Tensor:
                if self.progress:
                    self.progress.advance(1 - share)
                return denoise(x, level, share)

            yield counted
        self.begin()


def out_of_memory(error: Exception) -> bool:
    """Whether torch says so: on graphics cards by its own kind of error, elsewhere in words."""
    words = "out of memory", "not enough memory", "can't allocate memory"
    own = isinstance(error, RuntimeError) and any(each in str(error) for each in words)
    return own or isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError))


def steps_field(p: Any) -> str:
    """Where a request has the steps of the sampling that mixes."""
    return "steps" if host.is_img2img(p) else "hr_second_pass_steps"


def starts_from_nothing(p: Any) -> bool:
    """Whether the masked part of an inpainting starts from latent noise or zeros, where there is no source to keep."""
    return host.is_img2img(p) and p.mask is not None and p.inpainting_fill in (2, 3)


def tasks(way: Sequence[Phase], settings: Settings, steps: int, sampler: str, exact: bool) -> list[Task]:
    """All samplings of these phases. Work: steps times the pixels that the model sees.

    `steps`, `sampler` and `exact` are those of `steps_by_host`. Raises SettingsError if they leave no step.
    """
    side = sides.latent_pixels()

    def task(name: str, size: Size, settings: Part, steps: int, runs: float = 1.0) -> Task:
        width, height = size
        work = steps * side**2 * settings.pixels_seen(height // side, width // side)
        return Task(f"{name}, {width}x{height}", work, runs, steps)

    whole, skipped = run_by_host(settings.denoise, steps, exact)
    counted = whole - skipped  # by the WebUI, with steps that its sampler or the range of steps leaves out
    run = steps_by_host(settings, steps, sampler, exact)
    runs = sum(run - begin for begin in settings.begins(run)) / counted
    found: list[Task] = []
    for phase in way:
        own = phase.settings(settings).of_model(phase.target, sides.known())
        before, after = own.before_phase(run), own.after_phase(steps)
        found += [task(f"{phase}, {more.name}", phase.target, more.settings, more.steps) for more in before]
        found.append(task(str(phase), phase.target, own, counted, runs))
        found += [task(more.name, phase.target, more.settings, more.steps) for more in after]
    return found


class Wrapped:
    """A method of one processing object that runs `function(p, job, method, ...)` in its place."""

    def __init__(self, p: Any, name: str, job: Job, function: Callable):
        current = getattr(p, name)
        if isinstance(current, Wrapped):  # of the run before, in a script that runs one object repeatedly; or of a copy
            current.remove(p)
        self._name = name
        self._own = vars(p).get(name)
        self._call = functools.partial(function, p, job, getattr(p, name))
        setattr(p, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with as_client_errors():
            return self._call(*args, **kwargs)

    def remove(self, p: Any) -> None:
        """Put back what was there: in its own object, or in a copy, since others show copies to all scripts."""
        if self._own is None:
            delattr(p, self._name)  # what was there is the method of the class
        else:
            setattr(p, self._name, self._own)
