"""What is to be done with one processing object of the WebUI: kept on it as `itermix`, from its settings to its end."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor

from itermix.analysis import Analysis
from itermix.sampling import mixed
from itermix.settings import Settings, UpscaleSettings
from itermix.webui import cleanup, host
from itermix.webui.errors import kept
from itermix.webui.progress import Progress, Task
from itermix.webui.sampling import MixedSampling

log = logging.getLogger(__name__)


@dataclass
class Job:
    """The settings of a request, and how far its phases have come.

    Attributes:
        settings: the mixing; what was wrong with the request instead, to be raised where the WebUI shows it.
        by_script: whether the selectable script made it, which stands above the accordion.
        source: size (width, height) of the picture that was enlarged, if one was.
        first: size of the one that the first phase enlarged.
        pictures: the source pictures, where a latent mode is to enlarge them.
        last: whether this phase is the last, after which the clean-up comes.
        progress, task: where to tell that a sampling begins, and which task comes next.
        finished: whether the last pass of mixing came to its end.
        samples: the latents that it made.
        made: the finished pictures of an img2img request.
        analysis: of the pass that runs.
        analyses: of the finished passes that made the picture, if they were wanted.
        awaited: number in its batch of the picture that the WebUI saves next, where an analysis goes beside it.
    """

    settings: Settings | Exception
    by_script: bool = False
    source: tuple[int, int] | None = None
    first: tuple[int, int] | None = None
    pictures: Sequence[Image.Image] = ()
    last: bool = True
    progress: Progress | None = None
    task: int = 0
    finished: bool = False
    samples: Tensor | None = None
    made: list[Image.Image] = field(default_factory=list)
    analysis: Analysis | None = None
    analyses: list[Analysis] = field(default_factory=list)
    awaited: int | None = None

    @property
    def active(self) -> bool:
        return isinstance(self.settings, Exception) or self.settings.enabled

    def checked(self) -> Settings:
        """The settings; raises what was wrong with the request."""
        if isinstance(self.settings, Exception):
            raise self.settings
        cleanup.check(self.settings)
        return self.settings

    def begin(self) -> None:
        """Tell that the next sampling begins."""
        if self.progress:
            self.progress.begin(self.task)
        self.task += 1

    def check_mixed(self) -> None:
        """Raises RuntimeError if the last sampling was to mix and came to its end without, though nobody stopped it."""
        if not self.finished and not host.stopped():
            raise RuntimeError(
                "Iterative Mixing: nothing was mixed, since another extension has replaced the sampler. Switch that "
                "extension off or this one"
            )

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

    @contextmanager
    def _mixing(self, p: Any, func: Callable, latent: Tensor, noise: Tensor) -> Iterator[Callable]:
        """The sampler function that mixes, for MixedSampling; raises what was wrong before."""
        settings = self.checked()
        self.begin()
        if self.source:
            height, width = (side * host.LATENT_PIXELS for side in latent.shape[-2:])
            settings = settings.of_phase(self.source, (width, height), self.first)
        log.debug("Iterative Mixing: mixes with %s", dict(settings.changed()))
        changes = {"denoise": 1.0}  # the WebUI has left out the steps that denoise leaves out
        if starts_from_nothing(p):
            changes["fidelity"] = 0.0
        settings = settings.replace(**changes)
        parametrisation = host.parametrisation(p.sampler)
        self.analysis = Analysis(host.preview) if settings.analysis else None
        with host.deep_shrunk(p.sd_model, settings) as shrink:
            if settings.seed < 0:
                yield mixed(func, latent, noise, p.seeds, settings, parametrisation, shrink, self.analysis)
            else:
                first = settings.seed + p.iteration * p.batch_size
                seeds = range(first, first + len(latent))
                yield mixed(func, latent, None, seeds, settings, parametrisation, shrink, self.analysis)


def starts_from_nothing(p: Any) -> bool:
    """Whether the masked part of an inpainting starts from latent noise or zeros, where there is no source to keep."""
    return host.is_img2img(p) and p.mask is not None and p.inpainting_fill in (2, 3)


def tasks(sizes: Sequence[tuple[int, int]], settings: Settings, steps: int) -> list[Task]:
    """The samplings of phases to these sizes, and of the clean-up. Work: steps times pixels."""
    found = [
        Task(f"phase {k} of {len(sizes)}, {width}x{height}", steps * width * height)
        for k, (width, height) in enumerate(sizes, 1)
    ]
    if settings.cleanup:
        width, height = sizes[-1]
        found.append(Task(f"clean-up, {width}x{height}", settings.steps_of_cleanup(steps) * width * height))
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
        return self._call(*args, **kwargs)

    def remove(self, p: Any) -> None:
        """Put back what was there: in its own object, or in a copy, since others show copies to all scripts."""
        if self._own is None:
            delattr(p, self._name)  # what was there is the method of the class
        else:
            setattr(p, self._name, self._own)
