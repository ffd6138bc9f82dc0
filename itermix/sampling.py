"""Iterative mixing without a WebUI: one function around a k-diffusion style sampler."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from itermix.analysis.record import Analysis
from itermix.mixing import frames
from itermix.mixing.curves import progress_of, weights
from itermix.mixing.masks import mask_of
from itermix.mixing.mixer import DEFAULT_SCALE, Callback, Mixer
from itermix.mixing.noising import NoisedLatents, NoisedSource
from itermix.model import deep_shrink, windows
from itermix.model.deep_shrink import DeepShrink
from itermix.model.inversion import Denoise, Inverting, invert
from itermix.model.windows import Windows
from itermix.settings import INVERTED, Settings, SettingsError
from itermix.steps.parametrisation import Parametrisation, ve
from itermix.steps.rewinding import first_draw, starts
from itermix.steps.samplers import able
from itermix.steps.schedule import Schedule, schedule
from itermix.steps.skipping import bounds_of, reason_for_none, steps_to_skip

log = logging.getLogger(__name__)

_alone = threading.RLock()
"""Held by `sample`: samplers draw from torch's global generator, and the denoiser has hooks while one runs."""


def sample(
    sampler: Callable[..., Tensor],
    denoiser: Callable[..., Tensor],
    latent: Tensor,
    sigmas: Tensor,
    settings: Settings,
    noise: Tensor | None = None,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    unet: nn.Module | None = None,
    inversion_args: dict[str, Any] | None = None,
    mask: Tensor | None = None,
    analysis: Analysis | None = None,
    **sampler_options: Any,
) -> Tensor:
    """Sample from z'(sigma_0) down, mixing z' into the state at every step.

    Args:
        sampler: called as ``sampler(denoiser, x, sigmas, extra_args=, callback=, **sampler_options)``, such as
            ``k_diffusion.sampling.sample_euler``.
        denoiser: any module or function (x, sigma, **extra_args) -> denoised; with `window` it gets parts of x, and of
            the `extra_args` what belongs to them (`windows.of_views`). Its `sigmas`, if it has them, are taken as the
            model's training schedule (k-diffusion's DiscreteSchedule).
        latent: z0, the enlarged picture that guides, [B, C, H, W] (pixels in [-1, 1] or a latent), or [B, C, T, H, W]
            of a video model, whose T frames are pictures of their own to all but the sampler and the model.
        sigmas: [steps + 1], falling to 0; `steps_range` says what denoise and the range of steps leave of them.
        settings: `enabled`, `inversion_prompt`, `analysis` and `fidelity` are for what calls this and have no part
            here, the last since it acts on decoded pictures (`enlarging.put_back`); seed -1 counts as 0.
        noise: unit noise of the first step, shape of `latent`; drawn from the seed if None.
        extra_args, callback, sampler_options: handed to the sampler.
        unet: the network that the denoiser runs, for `deep_shrink`: with input_blocks, middle_block and output_blocks,
            as those of Stable Diffusion 1, 2 and XL.
        inversion_args: in the place of `extra_args` for the model calls of inverted noise; best without guidance.
        mask: how much of the weight each pixel gets, [B or 1, 1, h, w] in [0, 1], 0 is free; of any size, resized, and
            the same in all frames.
        analysis: looks on, and holds the numbers afterwards.

    Returns:
        The sampled latent, shape of `latent`, without a gradient. The same arguments give the same bits; noise that the
        sampler draws from torch's global generator comes from the seed too, and that generator is left as it was. Calls
        from several threads wait for each other; what else draws from that generator meanwhile gets other numbers.

    Raises:
        SettingsError: settings that don't fit these arguments.
        SamplerRefused: a sampler that can't be mixed.
    """
    check_inputs(latent, sigmas)
    seed = max(settings.seed, 0)
    parametrisation = ve(getattr(denoiser, "sigmas", None))
    model = denoiser if isinstance(denoiser, nn.Module) else _AsModule(denoiser)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone)
        stack.enter_context(torch.no_grad())
        shrink = None
        if settings.deep_shrink:
            deep_shrink.check(unet, settings)
            shrink = DeepShrink(settings)
            stack.enter_context(deep_shrink.attached(unet, shrink))
        parts = None
        if settings.window:
            windows.check(settings)
            parts = Windows(settings)
            stack.enter_context(windows.attached(model, parts))
        args = extra_args if inversion_args is None else inversion_args
        run = mixed(
            sampler,
            latent,
            noise,
            range(seed, seed + len(latent)),
            settings,
            parametrisation,
            shrink=shrink,
            parts=parts,
            inverting=functools.partial(_inverting, args or {}),
            mask=mask,
            analysis=analysis,
        )
        stack.enter_context(torch.random.fork_rng([latent.device] if latent.is_cuda else []))
        torch.manual_seed(seed)
        return run(model, None, sigmas=sigmas, extra_args=extra_args, callback=callback, **sampler_options)


class _AsModule(nn.Module):
    """A function as a module, which can have hooks."""

    def __init__(self, denoiser: Callable[..., Tensor]):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, level: Tensor, **args: Any) -> Tensor:
        return self.denoiser(x, level, **args)


@contextlib.contextmanager
def _inverting(args: dict[str, Any], denoiser: nn.Module, extra_args: dict[str, Any]) -> Iterator[Denoise]:
    yield lambda x, level, share: denoiser(x, level, **args)


def check_inputs(latent: Tensor, sigmas: Tensor) -> None:
    """Raises SettingsError for a latent or a schedule that no sampler could start from."""
    check_shape(latent)
    if not bool(torch.isfinite(latent).all()):
        raise SettingsError("latent", "NaN or infinity", "Allowed: finite numbers.")
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise SettingsError("sigmas", tuple(sigmas.shape), "Allowed: a one-dimensional schedule of at least 2 values.")
    if not bool(torch.isfinite(sigmas).all() and (sigmas.diff() < 0).all() and sigmas[-1] >= 0):
        raise SettingsError("sigmas", sigmas.tolist(), "Allowed: falling from step to step, to 0 at the least.")


def check_shape(latent: Tensor) -> None:
    """Raises SettingsError for a latent that is neither one of pictures nor one of a video model."""
    if latent.ndim not in (4, 5) or not latent.numel() or not latent.is_floating_point():
        given = f"{latent.dtype} {tuple(latent.shape)}"
        allowed = "Allowed: floating point [B, C, H, W] or [B, C, frames, H, W], at least one picture."
        raise SettingsError("latent", given, allowed)


def mixed(
    sampler: Callable[..., Tensor],
    latent: Tensor,
    noise: Tensor | None,
    seeds: Sequence[int],
    settings: Settings,
    parametrisation: Parametrisation,
    *,
    shrink: DeepShrink | None = None,
    parts: Windows | None = None,
    inverting: Inverting | None = None,
    mask: Tensor | None = None,
    rewound: Callable[[int, int, int], None] | None = None,
    on_skip: Callable[[Any, int], None] | None = None,
    analysis: Analysis | None = None,
) -> Callable[..., Tensor]:
    """The sampler function with mixing, and with the signature that WebUIs inspect.

    Args:
        sampler: a k-diffusion function or a timestep sampler, later called with its schedule in keyword arguments and
            with a state x like `latent`; with None for x it starts at z' of its first noise level.
        latent: z0 [B, C, H, W], enlarged and clean; or [B, C, T, H, W], whose frames are pictures of their own
            everywhere but for the sampler and the model.
        noise: unit noise of the first step, shape of `latent`; None: drawn from `seeds`.
        seeds: one per row of `latent`.
        settings: the mixing.
        parametrisation: of the state that the sampler works on.
        shrink: attached to the model's network; active in the first steps.
        parts: attached to the model; told the noise level of each of its calls.
        inverting: what inverts the latent, where the noise is to be inverted.
        mask: [B or 1, 1, h, w], see `itermix.mixing.masks.fitted`.
        rewound: called before every pass but the first with (step, calls, done): the steps and the model calls after
            which the first stood where this one begins, and how many steps were sampled until now, but for as many as
            this one leaves out.
        on_skip: called with the model and how many steps `skip_tolerance` leaves out, before the first model call,
            if there are any.
        analysis: looks on.

    Raises:
        SettingsError, SamplerRefused: when called, before the first model call, if the picture can't be made this way.
    """

    @functools.wraps(sampler)
    def run(model: Any, x: Tensor | None, *args: Any, callback: Callback | None = None, **kwargs: Any) -> Tensor:
        check_shape(latent)
        pictures, count = frames.pictures(latent), frames.count(latent)
        seeds_of_pictures = frames.seeds(seeds, count)
        plan = schedule(sampler, kwargs, settings)
        by_level = parametrisation.progress(plan.levels)
        progress = progress_of(settings, len(plan.levels), by_level)
        w = weights(settings, len(plan.levels), by_level)
        scale = settings.cutoff or DEFAULT_SCALE
        of_pictures = mask if mask is None or len(mask) == 1 else mask.repeat_interleave(count, dim=0)
        pixels = mask_of(settings, pictures, seeds_of_pictures, of_pictures)
        skipped = _steps_skipped(sampler, plan, w, settings, parametrisation, masked=pixels is not None)
        if skipped and on_skip:
            on_skip(model, skipped)
        begins = [skipped] if skipped else starts(settings, len(plan.levels))
        passes = [plan.after(first) for first in begins]
        source = pictures
        stood: list[tuple[int, int]] = []  # where the first pass was when it came to the beginnings of the others
        with contextlib.ExitStack() as stack:
            if shrink:
                end = deep_shrink.last_level(settings, plan.levels, by_level)
                stack.enter_context(shrink.following(model, end))
            if parts:
                at = functools.partial(parametrisation.between, levels=plan.levels, values=progress.tolist())
                stack.enter_context(parts.following(model, at))
            noised: NoisedSource
            for number, (first, part) in enumerate(zip(begins, passes)):
                if settings.noise == INVERTED:
                    assert inverting is not None
                    with inverting(model, kwargs.get("extra_args") or {}) as denoise:
                        noised = invert(_of_pictures(denoise, latent), pictures, plan.levels, parametrisation)
                else:
                    given = None if number or noise is None else frames.pictures(noise)
                    noised = NoisedLatents(
                        source, parametrisation, settings.noise, given, seeds_of_pictures, first_draw(number)
                    )
                noised.normalize(plan.levels[first:], settings.normalize_fraction)
                if x is None or number:
                    begin = part.begin if number else part.levels[0]
                    x = frames.latents(noised.at(0, begin, out=torch.empty_like(pictures)), latent)
                elif settings.start_at_step or skipped or settings.noise == INVERTED:
                    with frames.edited(x) as state:
                        noised.at(0, part.levels[0], out=state)
                step, calls = stood[number - 1] if number else (skipped, skipped)
                tell = callback and functools.partial(_later, callback, step)
                if number and analysis:
                    analysis.next_pass()
                if number and rewound:
                    done = sum(len(plan.levels) - begin for begin in begins[:number])
                    rewound(step, calls, done - first)
                of_part = slice(0 if part.own_levels else first, None)
                mixer = Mixer(
                    able(sampler, part.arguments.get("sigmas")),
                    part,
                    noised,
                    w[of_part],
                    settings.blending,
                    scale,
                    settings.detail,
                    progress[of_part],
                    pixels,
                    analysis,
                )
                result = mixer.run(model, x, *args, callback=tell)
                source = frames.pictures(result.to(latent))
                stood = stood or [mixer.before(later.begin) for later in passes[1:]]
                del noised, mixer  # before the next pass makes its own
        return result

    return run


def _of_pictures(denoise: Denoise, latent: Tensor) -> Denoise:
    """The model of `latent`'s shape as one of its pictures, which all are at one level."""

    def of_pictures(x: Tensor, level: Tensor, share: float) -> Tensor:
        return frames.pictures(denoise(frames.latents(x, latent), level[: len(latent)], share))

    return of_pictures


def _later(callback: Callback, steps: int, info: Mapping[str, Any]) -> Any:
    """What a sampler's callback is told by one that began so many steps later."""
    return callback({**info, "i": info["i"] + steps})


def _steps_skipped(
    sampler: Callable,
    plan: Schedule,
    weights: Tensor,
    settings: Settings,
    parametrisation: Parametrisation,
    masked: bool,
) -> int:
    """How many of the first steps `skip_tolerance` leaves out; says so in the log."""
    if not settings.skip_tolerance:
        return 0
    reason = reason_for_none(sampler, plan.arguments, settings)
    if masked:
        reason = "there is a bound for one weight of all pixels"
    if reason:
        log.info("Iterative Mixing: no step is left out, since %s", reason)
        return 0
    bounds = bounds_of(sampler, plan, weights, parametrisation)
    skipped = steps_to_skip(bounds, settings.skip_tolerance)
    log.info(
        "Iterative Mixing: %d of %d steps are left out; the result is within %.2g",
        skipped,
        len(bounds),
        bounds[skipped],
    )
    return skipped
