"""One run of a sampler with mixing, and what features may do in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from itermix.mixing.blending import BlendingSettings
from itermix.mixing.filters import Workspace
from itermix.mixing.masks import Mask
from itermix.mixing.noising import NoisedSource
from itermix.parameters import Part
from itermix.steps.parametrisation import Parametrisation
from itermix.steps.schedule import Schedule

Callback = Callable[[Mapping[str, Any]], Any]
"""What samplers tell after each of their steps."""


class Feature:
    """What one feature does in a run: nothing, where it doesn't say otherwise.

    Attributes:
        estimates: whether it changes the model's estimates.
        looks: whether it wants to be shown what is `guided` and `evaluated`, which costs time and memory.
    """

    estimates = False
    looks = False

    def begins(self, run: Run, model: Any, steps: list[int]) -> list[int]:
        """The step at which each pass over the schedule begins, of those that it would begin at."""
        return steps

    def around(self, run: Run, model: nn.Module) -> AbstractContextManager[None]:
        """Around all passes of a run."""
        return nullcontext()

    def noised(self, run: Run, model: nn.Module, latent: Tensor, arguments: Mapping[str, Any]) -> NoisedSource | None:
        """Another z' of the latent, which may have frames, than one of drawn noise; `arguments` are the sampler's."""
        return None

    def next_pass(self, step: int, calls: int, done: int) -> None:
        """Before every pass but the first: the steps and the model calls after which the first stood where this one
        begins, and how many steps were sampled until now, but for as many as this one leaves out."""

    def begin(self, run: Run) -> None:
        """Before the first step of each pass, of which `run` is."""

    def guided(self, step: int, level: float, weight: float, noised: Tensor, x: Tensor) -> None:
        """z' [B, C, H, W] is about to be blended into the state x of that shape, with this weight."""

    def estimate(self, x: Tensor, level: Tensor, output: Tensor, step: int | None) -> Tensor:
        """What the sampler gets for the model's output [B, C, H, W] of the state x at `level` (0-dim tensor).

        `step` is the step that this call starts, None for further calls of a step.
        """
        return output

    def evaluated(self, step: int, level: float, x: Tensor, denoised: Tensor) -> None:
        """The model has made `denoised` [B, C, H, W] of the blended state x at the start of a step."""


@dataclass(frozen=True)
class Run:
    """What is known of a run, or of a pass of it, before its first model call.

    Attributes:
        sampler: the sampler function.
        plan: its schedule.
        weights: [levels of the schedule], of the noised latent, as `itermix.weights` gives them.
        settings: of the blending.
        parametrisation: of the state that the sampler works on.
        progress: [levels of the schedule], as `itermix.mixing.curves.progress_of` gives it; needed with a mask.
        mask: what becomes of the weight at each pixel.
        features: what takes part.
        work: of the filters, kept from step to step.
    """

    sampler: Callable[..., Tensor]
    plan: Schedule
    weights: Tensor
    settings: BlendingSettings
    parametrisation: Parametrisation
    progress: Tensor | None = None
    mask: Mask | None = None
    features: Sequence[Feature] = ()
    work: Workspace = field(default_factory=Workspace)

    def begins(self, model: Any) -> list[int]:
        """The step at which each pass begins."""
        steps = [0]
        for feature in self.features:
            steps = feature.begins(self, model, steps)
        return steps

    def after(self, first: int) -> Run:
        """The pass that begins at step `first`. Raises SettingsError if that leaves less than the sampler can run."""
        plan = self.plan.after(first)
        part = slice(0 if plan.own_levels else first, None)
        progress = None if self.progress is None else self.progress[part]
        return dataclasses.replace(self, plan=plan, weights=self.weights[part], progress=progress)


def features_of(settings: Part, given: Mapping[str, Any]) -> list[Feature]:
    """The features that the settings switch on, in the order of the settings.

    Each takes what it needs of `given`, such as a network; it raises SettingsError if that isn't there.
    """
    parts = [part for part in reversed(type(settings).__mro__) if "feature" in vars(part)]
    found: Iterable[Feature | None] = (part.feature(settings, given) for part in parts)  # type: ignore[attr-defined]
    return [feature for feature in found if feature]


def taken(settings: Part) -> set[str]:
    """Names of what the features take from who calls `itermix.sample`."""
    return {name for part in type(settings).__mro__ for name in vars(part).get("takes", ())}
