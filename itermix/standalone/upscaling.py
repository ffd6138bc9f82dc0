"""The built-in models at work: source pictures, direct sampling, hires fix, and iterative mixing in phases.

All noise of a picture comes from a seed of its own, so two methods that start from the same sources get the same noise
and can be compared picture by picture.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import k_diffusion.sampling
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from itermix.analysis.record import Analysis
from itermix.mixing.filters import shrunk
from itermix.mixing.masks import mask_of
from itermix.mixing.noising import draw
from itermix.model.crops import dilation
from itermix.model.parts import padded
from itermix.model.windows import Windows, attached
from itermix.parameters import MAX_SEED, Known, Sampling, SettingsError, Size
from itermix.picture.cleanup import SAME_SAMPLER
from itermix.picture.enlarging import back_projected, rims
from itermix.picture.fidelity import put_back
from itermix.picture.phases import plan, walk
from itermix.sampling import sample
from itermix.settings import Settings, UpscaleSettings
from itermix.standalone import pictures
from itermix.standalone.network import MULTIPLE, NULL, RESOLUTION, SIGMA_MAX, SIGMA_MIN
from itermix.standalone.parts import count_parts
from itermix.steps.samplers import able

SAMPLERS = ("dpmpp_2m", "dpmpp_2m_sde", "euler", "euler_ancestral")
"""k-diffusion's samplers that can be chosen, without their prefix `sample_`."""

SOURCE_CFG = 2.0
"""Guidance with which source pictures are sampled."""

UPSCALERS = {
    "Lanczos": Image.Resampling.LANCZOS,
    "Bicubic": Image.Resampling.BICUBIC,
    "Nearest": Image.Resampling.NEAREST,
}
UPSCALER, BACK_PROJECTION = (UpscaleSettings().upscaler, UpscaleSettings().back_projection)

STREAM = 10_000_000
"""Distance between the seeds of one picture's noises: of its source, of direct sampling, of each phase."""

BATCH_PIXELS = 16 * 64 * 64
"""Pixels that are sampled at once, which bounds the memory."""

ALIGNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
"""Noise levels of Align Your Steps (arXiv 2404.14507) for Stable Diffusion 1.5, for 10 steps."""


@dataclass(frozen=True)
class Space:
    """What a model samples, and with which noise levels.

    Attributes:
        factor: pixels along one side of what it samples.
        multiple: sides of pictures in pixels must be multiples of it.
        sigma_min, sigma_max: the range of noise levels.
        channels: of what it samples.
        known: sides that the model knows, of what it samples.
        nothing: the condition "anything" in place of each of those given, for inversion without a prompt.
        encode: pictures [N, 3, H, W] in [-1, 1] to what it samples, [N, channels, H / factor, W / factor].
        decode: the way back, not clamped.
    """

    factor: int
    multiple: int
    sigma_min: float
    sigma_max: float
    channels: int
    known: int
    nothing: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor] = lambda pictures: pictures
    decode: Callable[[Tensor], Tensor] = lambda pictures: pictures


PIXELS = Space(1, MULTIPLE, SIGMA_MIN, SIGMA_MAX, 3, RESOLUTION, lambda labels: torch.full_like(labels, NULL))
"""Of the built-in model that paints pixels."""


def karras(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """[steps + 1] noise levels of Karras et al. (2022), falling to 0."""
    return k_diffusion.sampling.get_sigmas_karras(steps, sigma_min, sigma_max)


def exponential(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """[steps + 1] noise levels, evenly spaced in their logarithm, falling to 0."""
    return k_diffusion.sampling.get_sigmas_exponential(steps, sigma_min, sigma_max)


def align_your_steps(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """[steps + 1] noise levels between those of `ALIGNED`, as WebUIs interpolate them in their logarithm, and 0.

    They are optimal for Stable Diffusion 1.5, whatever the range, and were not made for the built-in models.
    """
    places = np.linspace(0, 1, steps), np.linspace(0, 1, len(ALIGNED))
    return torch.tensor([*np.exp(np.interp(*places, np.log(ALIGNED))), 0.0], dtype=torch.float32)


SCHEDULES = {"karras": karras, "exponential": exponential, "align-your-steps": align_your_steps}


@dataclass(frozen=True)
class Model:
    """A built-in denoiser and how it is sampled.

    Attributes:
        denoiser: the network with guidance, called as denoiser(x, sigma, label=, cfg=).
        sampler: a name in `SAMPLERS`.
        steps: model calls of one sampling, from 1; of a mixing pass only where its settings say none.
        cfg: guidance of upscaling; 1 is the plain conditional model.
        schedule: a name in `SCHEDULES`.
        space: what is sampled.
    """

    denoiser: nn.Module
    sampler: str = SAMPLERS[0]
    steps: int = 25
    cfg: float = 1.0
    schedule: str = "karras"
    space: Space = PIXELS

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise SettingsError("sampler", self.sampler, f"Allowed: {', '.join(SAMPLERS)}.")
        if self.steps < 1:
            raise SettingsError("steps", self.steps, "Allowed: a whole number from 1.")
        if self.schedule not in SCHEDULES:
            raise SettingsError("schedule", self.schedule, f"Allowed: {', '.join(SCHEDULES)}.")

    def sigmas(self, steps: int) -> Tensor:
        """[steps + 1] noise levels, falling to 0."""
        return SCHEDULES[self.schedule](steps, self.space.sigma_min, self.space.sigma_max)

    @property
    def function(self) -> Callable[..., Tensor]:
        """k-diffusion's sampler function."""
        return getattr(k_diffusion.sampling, f"sample_{self.sampler}")


@dataclass(frozen=True)
class Sources:
    """Pictures to be upscaled.

    Attributes:
        kind: "model" (samples of the model), "true" (renders), or "soft" (renders that are soft at their own pixels).
        pictures: [N, 3, h, w] in [-1, 1].
        labels: what the denoiser is told, [N, ...]: int64, their hat colours, or the encoded prompts.
        seed: picture k gets its noise from seed + k.
    """

    kind: str
    pictures: Tensor
    labels: Tensor
    seed: int

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Method:
    """A way to a large picture.

    Attributes:
        name: how reports call it.
        recipe: settings of iterative mixing; or the strength of hires fix, where 0 only enlarges; or None for sampling
            the large picture from nothing but its label.
        upscaler: a name in `UPSCALERS`, which enlarges before each phase.
        back_projection: whether what mixing gets is corrected by what was enlarged.
        mask: how much of the weight each pixel gets, [1, 1, h, w] in [0, 1]; stretched over the picture.
    """

    name: str
    recipe: Settings | float | None
    upscaler: str = UPSCALER
    back_projection: bool = BACK_PROJECTION
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.upscaler not in UPSCALERS:
            allowed = f"Allowed with the built-in model: {', '.join(UPSCALERS)}."
            raise SettingsError("upscaler", self.upscaler, allowed)
        if isinstance(self.recipe, Settings) and self.recipe.nn_upscaler:
            raise SettingsError("nn_upscaler", True, "Allowed with the built-in model: false; it has no latents.")
        if isinstance(self.recipe, Settings) and self.recipe.deep_shrink:
            allowed = "Allowed with the built-in model: 0; its blocks are not those of Stable Diffusion."
            raise SettingsError("deep_shrink", self.recipe.deep_shrink, allowed)

    @property
    def most(self) -> float:
        """Largest enlargement in one phase."""
        return (self.recipe if isinstance(self.recipe, Settings) else Settings()).max_scale_per_phase


def model_sources(model: Model, count: int, seed: int) -> Sources:
    """Samples of the model at its own resolution, those with exactly the right parts first.

    Up to four times `count` pictures are tried, so all are exact unless the model is badly trained.
    """
    found: list[tuple[Tensor, int]] = []
    others: list[tuple[Tensor, int]] = []
    for first in range(0, 4 * count, count):
        labels = torch.arange(first, first + count) % len(pictures.HAT_NAMES)
        for picture, label in zip(direct(model, labels, (RESOLUTION, RESOLUTION), seed + first, SOURCE_CFG), labels):
            (found if count_parts(picture).exact else others).append((picture, int(label)))
        if len(found) >= count:
            break
    kept = (found + others)[:count]
    return Sources("model", torch.stack([p for p, _ in kept]), torch.tensor([label for _, label in kept]), seed)


def true_sources(count: int, seed: int) -> Sources:
    """Renders at the model's resolution."""
    return Sources("true", true_renders(count, seed, RESOLUTION), scenes_of(count, seed).label, seed)


def true_renders(count: int, seed: int, side: int) -> Tensor:
    """The scenes of `true_sources` rendered natively, [N, 3, side, side]."""
    return pictures.render(scenes_of(count, seed), side)


def scenes_of(count: int, seed: int) -> pictures.Scenes:
    """The scenes of `true_sources`."""
    return pictures.sample_scenes(count, torch.Generator().manual_seed(seed))


def phases(
    model: Model, method: Method, sources: Sources, size: Size, analyses: list[Analysis] | None = None
) -> Iterator[Tensor]:
    """The pictures [N, 3, H, W] in [-1, 1] after each phase; the last are of `size`.

    `analyses` gets one of each mixing pass, where there is one source.

    Raises:
        SettingsError: settings that don't fit the number of steps.
    """
    if method.recipe is None:
        yield direct(model, sources.labels, size, sources.seed + STREAM, model.cfg)
        return
    source = current = sources.pictures
    height, width = source.shape[-2:]
    sizes = plan(width, height, target=size, max_scale_per_phase=method.most, multiple=model.space.multiple)
    for phase in walk((width, height), sizes):
        seed = sources.seed + (1 + phase.number) * STREAM
        current = prepared(current, phase.target, method)
        if isinstance(method.recipe, Settings):
            settings = phase.settings(method.recipe)
            settings = settings.of_model(phase.target, Known(model.space.known, model.space.factor))
            if settings.seed >= 0:
                seed = settings.seed + (phase.number - 1) * STREAM
            analysis = Analysis(model.space.decode) if analyses is not None else None
            current = mix(model, current, sources, settings, seed, method.mask, analysis)
            if analyses is not None and analysis:
                analyses.append(analysis)
            if settings.fidelity:
                current = kept_to(source, current, settings, seed, method.mask, model.space.factor)
        elif method.recipe > 0:
            current = hires_fix(model, current, sources.labels, method.recipe, seed)
        yield current


def prepared(pictures: Tensor, size: Size, method: Method) -> Tensor:
    """Pictures [N, 3, H, W] in [-1, 1] enlarged to a size (width, height) as the method does it before it samples."""
    if not isinstance(method.recipe, Settings):
        return enlarge(pictures, size, method.upscaler)
    if method.recipe.seamless:
        (right, away), (down, off) = (rims(*sides) for sides in zip(pictures.shape[:1:-1], size))
        wider = padded(pictures, (right, right, down, down), "circular")
        with_edges = dataclasses.replace(method, recipe=method.recipe.replace(seamless=False))
        width, height = size
        larger = prepared(wider, (width + 2 * away, height + 2 * off), with_edges)
        return larger[..., off : off + height, away : away + width]
    large = enlarge(pictures, size, method.upscaler)
    return back_projected(large, pictures).clamp(-1, 1) if method.back_projection else large


def enlarge(pictures: Tensor, size: Size, upscaler: str = UPSCALER) -> Tensor:
    """Pictures [N, C, H, W] in [-1, 1] resized with Pillow in floating point; `upscaler` is a name in `UPSCALERS`."""
    planes = [
        np.asarray(Image.fromarray(plane).resize(size, UPSCALERS[upscaler]))
        for plane in pictures.float().flatten(0, 1).numpy()
    ]
    return torch.from_numpy(np.stack(planes)).unflatten(0, pictures.shape[:2]).clamp(-1, 1)


def direct(model: Model, labels: Tensor, size: Size, seed: int, cfg: float) -> Tensor:
    """Pictures [N, 3, H, W] of the labels [N, ...] from pure noise; picture k from seed + k."""
    width, height = (side // model.space.factor for side in size)
    blank = torch.zeros(len(labels), model.space.channels, height, width)
    sigmas = model.sigmas(model.steps)

    def run(zeros: Tensor, labels: Tensor, seed: int) -> Tensor:
        return model.space.decode(_denoised_from(model, zeros, labels, sigmas, seed, cfg))

    return _in_batches(run, blank, labels, seed)


def hires_fix(model: Model, enlarged: Tensor, labels: Tensor, strength: float, seed: int) -> Tensor:
    """Noise the enlarged pictures [N, 3, H, W] up to a share of the schedule and denoise them, as WebUIs do.

    As in the hires pass of the WebUI all of the model's steps are run within that share, `strength` in (0, 1].
    """
    sigmas = within(model, strength)
    space = model.space

    def run(enlarged: Tensor, labels: Tensor, seed: int) -> Tensor:
        return space.decode(_denoised_from(model, space.encode(enlarged), labels, sigmas, seed, model.cfg))

    return _in_batches(run, enlarged, labels, seed)


def within(model: Model, strength: float) -> Tensor:
    """[steps + 1] noise levels of all of the model's steps within a share of the schedule, in (0, 1]."""
    return model.sigmas(int(model.steps / strength))[-(model.steps + 1) :]


def sampled_again(model: Model, latent: Tensor, labels: Tensor, sampling: Sampling, seed: int) -> Tensor:
    """What the model samples, [N, C, H, W], after a sampling of its own, without mixing, as in a WebUI.

    Raises:
        SettingsError: a sampler that isn't in `SAMPLERS`.
    """
    if sampling.sampler and sampling.sampler not in SAMPLERS:
        allowed = f"Allowed with the built-in model: {SAME_SAMPLER}, {', '.join(SAMPLERS)}."
        raise SettingsError("cleanup_sampler", sampling.sampler, allowed)
    light = dataclasses.replace(model, sampler=sampling.sampler or model.sampler, steps=sampling.steps)
    with contextlib.ExitStack() as stack:
        if sampling.settings.window:
            parts = Windows(sampling.settings)
            stack.enter_context(attached(model.denoiser, parts))
            stack.enter_context(parts.of_crops(model.denoiser))
        return _denoised_from(light, latent, labels, within(light, sampling.denoise), seed, model.cfg)


def kept_to(
    source: Tensor, pictures: Tensor, settings: Settings, seed: int, mask: Tensor | None = None, factor: int = 1
) -> Tensor:
    """Decoded pictures [N, 3, H, W] of a phase, with the share of the source's means that `settings.fidelity` says.

    Args:
        source: the first phase's, [N, 3, h, w] in [-1, 1].
        settings, seed, mask: of `mix`.
        factor: pixels along one side of a latent pixel: the areas are so large in the source.
    """
    areas = [shrunk(side, factor) for side in source.shape[-2:]]
    seeds = [(seed + k) % (MAX_SEED + 1) for k in range(len(pictures))]
    weights = mask_of(settings, pictures, seeds, mask)
    pictures = pictures.clone()
    put_back(pictures, source, areas, settings.fidelity, weights.values if weights else None, settings.seamless)
    return pictures.clamp_(-1, 1)


def mix(
    model: Model,
    enlarged: Tensor,
    sources: Sources,
    settings: Settings,
    seed: int,
    mask: Tensor | None = None,
    analysis: Analysis | None = None,
) -> Tensor:
    """One pass of iterative mixing over the enlarged pictures [N, 3, H, W], with the noise of `seed` + k, and what
    follows it before decoding. The sources are those of the first phase.

    `mask` is that of `Method`. An `analysis` looks on, where there is one picture.

    Raises:
        SettingsError: settings that don't fit the number of steps.
    """
    check_sub_grids(settings, *(side // model.space.factor for side in enlarged.shape[-2:]))
    sigmas, begin, steps = model.sigmas(model.steps), seed, settings.steps or model.steps
    if settings.steps:
        sigmas = within(dataclasses.replace(model, steps=steps), settings.denoise)
        settings = settings.replace(denoise=1.0)

    def run(enlarged: Tensor, labels: Tensor, seed: int) -> Tensor:
        latent = model.space.encode(enlarged)
        result = sample(
            model.function,
            model.denoiser,
            latent,
            sigmas,
            settings.replace(seed=seed % (MAX_SEED + 1)),
            extra_args={"label": labels, "cfg": model.cfg},
            inversion_args={"label": labels if settings.inversion_prompt else model.space.nothing(labels)},
            mask=mask,
            analysis=analysis,
            **_sampler_options(model, latent, seed),
        )
        some = sources.pictures[seed - begin :][: len(latent)]
        result = settings.finished(result, latent, first=lambda: model.space.encode(some))
        for more in settings.after_phase(steps):
            result = sampled_again(model, result, labels, more, seed + STREAM)
        return model.space.decode(result)

    return _in_batches(run, enlarged, sources.labels, seed)


def check_sub_grids(settings: Settings, height: int, width: int) -> None:
    """Raises SettingsError if sub-grids of what is sampled would have sides that the built-in models don't take."""
    window = settings.window
    if not window or not settings.dilated or max(height, width) <= window:
        return
    scale = dilation(height, width, window)
    if any(-(-side // scale) % MULTIPLE for side in (height, width)):
        reason = f"Thinned out {scale} times, its sides are no multiples of {MULTIPLE}"
        allowed = f"Allowed with the built-in models at {width}x{height}: 0, or dilated = 0. {reason}."
        raise SettingsError("window", window, allowed)


def _denoised_from(model: Model, clean: Tensor, labels: Tensor, sigmas: Tensor, seed: int, cfg: float) -> Tensor:
    """Noise what the model samples, clean [N, C, H, W], to the first of sigmas and sample down."""
    noise = draw(torch.empty_like(clean), range(seed, seed + len(clean)), 0)
    return able(model.function, sigmas)(
        model.denoiser,
        clean + sigmas[0] * noise,
        sigmas,
        extra_args={"label": labels, "cfg": cfg},
        **_sampler_options(model, clean, seed),
    )


def _sampler_options(model: Model, like: Tensor, seed: int) -> dict:
    """No bar, and the noise that a stochastic sampler adds at each step from each picture's own seed.

    Every sampler in `SAMPLERS` asks once for each step, so fresh unit noise is as good as a Brownian tree's.
    """
    if "noise_sampler" not in inspect.signature(model.function).parameters:
        return {"disable": True}
    seeds = range(seed + STREAM // 2, seed + STREAM // 2 + len(like))
    step = itertools.count()
    return {"disable": True, "noise_sampler": lambda sigma, sigma_next: draw(torch.empty_like(like), seeds, next(step))}


def _in_batches(run: Callable[[Tensor, Tensor, int], Tensor], pictures: Tensor, labels: Tensor, seed: int) -> Tensor:
    """run(pictures, labels, seed of the first) over parts of the batch; gives [N, 3, H, W] clamped to [-1, 1]."""
    count = max(1, BATCH_PIXELS // pictures[0, 0].numel())
    with torch.no_grad():
        done = [run(pictures[k : k + count], labels[k : k + count], seed + k) for k in range(0, len(pictures), count)]
    return torch.cat(done).clamp(-1, 1)
