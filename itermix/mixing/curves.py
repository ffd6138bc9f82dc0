"""The weight of the noised source at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itermix.parameters import Part, SettingsError, parameter

CURVE_NAMES = ("cosine", "linear", "logistic", "comfy-cosine")
COMFY_STEPS = "comfy-steps"
PROGRESSES = ("steps", "noise level", COMFY_STEPS)


@dataclass(frozen=True, init=False)
class CurveSettings(Part):
    """How the weight falls."""

    curve: str = parameter(
        "cosine",
        "Weight curve",
        "How the weight of the source falls over the steps. cosine: DemoFusion's, more alpha is less guidance. "
        "comfy-cosine: the ComfyUI node's, more alpha is more guidance. logistic: a soft switch. linear: has no alpha.",
        "curve",
        "Curve",
        choices=CURVE_NAMES,
    )
    alpha: float = parameter(
        0.25,
        "Creativity",
        "How soon your picture stops guiding: more is sooner, with more of the model's own. The papers' alpha: "
        "exponent of the cosine curves (of comfy-cosine more is later), steepness of the logistic one.",
        "alpha",
        "Curve",
        low=0.05,
        high=100.0,
        usual=3.0,
        step=0.05,
        main=1,
        needs=({"curve": ("cosine", "logistic", "comfy-cosine")},),
        formerly="Guidance (alpha)",
    )
    start: float = parameter(
        0.0,
        "Start",
        "Full weight up to this share of the progress; the curve begins here.",
        "start",
        "Curve",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    stop: float = parameter(
        1.0,
        "Stop",
        "The curve ends here, the weight is 0 from here on. Above 1 stretches the curve, so that some weight "
        "remains at the last step.",
        "stop",
        "Curve",
        low=0.0,
        high=100.0,
        usual=4.0,
        step=0.01,
    )
    clamp: float = parameter(
        1.0,
        "Clamp",
        "From this share of the progress on the curve is cut to 0, without changing its shape before.",
        "clamp",
        "Curve",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    lowest: float = parameter(
        0.0, "Lowest weight", "What a curve value of 0 becomes.", "lowest", "Curve", low=0.0, high=1.0, step=0.01
    )
    highest: float = parameter(
        1.0, "Highest weight", "What a curve value of 1 becomes.", "highest", "Curve", low=0.0, high=1.0, step=0.01
    )
    progress: str = parameter(
        "steps",
        "Progress in",
        "What the curve runs along. steps: the share of them that is done. noise level: the model's timestep, as in "
        "DemoFusion's code. comfy-steps: whole steps as the ComfyUI nodes count them, which round start, stop and "
        "clamp down, and whose cosine has no start.",
        "progress",
        "Curve",
        choices=PROGRESSES,
    )

    def _check_together(self) -> None:
        super()._check_together()
        if self.stop <= self.start and self.progress != COMFY_STEPS:
            raise SettingsError("stop", self.stop, f"Allowed: more than start, which is {self.start:g}.")


def cosine(u: Tensor, alpha: float) -> Tensor:
    """((1 + cos(pi u)) / 2)^alpha: DemoFusion (arXiv 2311.16973), eq. 4, with pi for its misprinted 2 pi."""
    return ((1 + torch.cos(torch.pi * u)) / 2) ** alpha


def comfy_cosine(u: Tensor, alpha: float) -> Tensor:
    """1 - ((1 - cos(pi u)) / 2)^alpha: what the ComfyUI Iterative Mixing node computes, for the noised latent."""
    return 1 - ((1 - torch.cos(torch.pi * u)) / 2) ** alpha


def linear(u: Tensor, alpha: float) -> Tensor:
    """1 - u; `alpha` has no part in it (ComfyUI Iterative Mixing node)."""
    return 1 - u


def logistic(u: Tensor, alpha: float, length: float) -> Tensor:
    """1 / (1 + exp(5 alpha (u - 1/2))), the steepness counted along the whole progress (ComfyUI Iterative Mixing node).

    `length` is the stretch from start to stop, as a share of the progress.
    """
    return torch.where(u < 1, torch.sigmoid(-5 * alpha * length * (u - 0.5)), 0.0)


CURVES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "cosine": cosine,
    "comfy-cosine": comfy_cosine,
    "linear": linear,
}


def in_whole_steps(settings: CurveSettings, steps: int) -> Tensor:
    """[steps] weights in double precision, before lowest and highest, where the ComfyUI Iterative Mixing nodes count.

    Start, stop and clamp are int(share * steps) steps. The nodes' cosine knows no start. Their linear curve is full up
    to the start and 1 - i / stop from there, a stop below one step being none. Their logistic one runs over steps - 1,
    and its ends are cut off only before the start and after the stop. The paper's cosine, which they don't have, lies
    between start and stop.
    """
    i = torch.arange(steps, dtype=torch.float64)
    start, stop, clamp = (int(share * steps) for share in (settings.start, settings.stop, settings.clamp))
    if settings.curve == "comfy-cosine":
        weight = comfy_cosine((i / max(stop, 1)).clamp(max=1), settings.alpha)
    elif settings.curve == "cosine":
        weight = cosine(((i - start) / max(stop - start, 1)).clamp(0, 1), settings.alpha)
    else:
        stop, longest = stop or steps, max(steps - 1, 1)
        switch = torch.sigmoid(-5 * settings.alpha * (i - (start + stop) / 2) / longest)
        weight = 1 - i / stop if settings.curve == "linear" else switch
        weight = torch.where(i < start, 1.0, torch.where(i > stop, 0.0, weight))
    return torch.where(i >= clamp, 0.0, weight)


def progress_of(settings: CurveSettings, steps: int, progress: Tensor | None = None) -> Tensor:
    """[steps] progress at the start of each step, as ``settings.progress`` counts it; see `weights`."""
    if settings.progress != "noise level":
        return torch.arange(steps, dtype=torch.float64) / steps
    if progress is None:
        raise SettingsError("progress", settings.progress, "Allowed here: steps, since the noise levels aren't known.")
    return progress


def along(settings: CurveSettings, progress: Tensor) -> Tensor:
    """The weights before lowest and highest, of progress [steps] in double precision."""
    length = settings.stop - settings.start
    u = ((progress - settings.start) / length).clamp(0, 1)
    if settings.curve == "logistic":
        # Up to `start` the weight is full, so that a later start only moves the switch.
        weight = torch.where(progress < settings.start, 1.0, logistic(u, settings.alpha, length))
    else:
        weight = CURVES[settings.curve](u, settings.alpha)
    return torch.where(progress >= settings.clamp, 0.0, weight)


def weights(settings: CurveSettings, steps: int, progress: Tensor | None = None) -> Tensor:
    """Weight of the noised latent at each of `steps` steps.

    Args:
        settings: curve, alpha, start, stop, clamp, lowest, highest and progress are used.
        steps: number of sampler steps, at least 1.
        progress: [steps], 0 at the noisiest end and 1 at the clean end, as `Parametrisation.progress` gives it;
            needed (and used) only when ``settings.progress`` is "noise level".

    Returns:
        float32 [steps] between lowest and highest; index 0 is the noisiest step.

    Raises:
        SettingsError: steps below 1, or noise levels are asked for and `progress` is missing.
    """
    if steps < 1:
        raise SettingsError("steps", steps, "Allowed: a whole number from 1.")
    if settings.progress == COMFY_STEPS:
        weight = in_whole_steps(settings, steps)
    else:
        weight = along(settings, progress_of(settings, steps, progress))
    return (settings.lowest + (settings.highest - settings.lowest) * weight).to(torch.float32)
