"""Iterative mixing without a WebUI: one function around a k-diffusion style sampler."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from itermix import deep_shrink
from itermix.analysis import Analysis
from itermix.curves import weights
from itermix.deep_shrink import DeepShrink
from itermix.enlarging import put_back
from itermix.mixing import DEFAULT_SCALE, Callback, Mixer
from itermix.noising import NoisedLatents, Parametrisation, ve
from itermix.schedule import schedule
from itermix.settings import Settings, SettingsError


def sample(
    sampler: Callable[..., Tensor],
    denoiser: nn.Module,
    latent: Tensor,
    sigmas: Tensor,
    settings: Settings,
    noise: Tensor | None = None,
    extra_args: dict[str, Any] | None = None,
    callback: Callback | None = None,
    unet: nn.Module | None = None,
    analysis: Analysis | None = None,
    **sampler_options: Any,
) -> Tensor:
    """Sample from z'(sigma_0) down, mixing z' into the state at every step.

    Args:
        sampler: called as ``sampler(denoiser, x, sigmas, extra_args=, callback=, **sampler_options)``, such as
            ``k_diffusion.sampling.sample_euler``.
        denoiser: any module with forward(x, sigma, **extra_args) -> denoised. Its `sigmas`, if it has them, are taken
            as the model's training schedule (k-diffusion's DiscreteSchedule).
        latent: z0, the enlarged picture that guides, [B, C, H, W] (pixels in [-1, 1] or a latent).
        sigmas: [steps + 1], falling to 0; `steps_range` says what denoise and the range of steps leave of them.
        settings: `enabled` and `analysis` are switches of what calls this and have no part here; seed -1 counts as 0.
        noise: unit noise of the first step, shape of `latent`; drawn from the seed if None.
        extra_args, callback, sampler_options: handed to the sampler.
        unet: the network that the denoiser runs, for `deep_shrink`: with input_blocks, middle_block and output_blocks,
            as those of Stable Diffusion 1, 2 and XL.
        analysis: looks on, and holds the numbers afterwards.

    Returns:
        The sampled latent, shape of `latent`. The same arguments give the same bits; noise that the sampler draws from
        torch's global generator comes from the seed too, and that generator is left as it was.

    Raises:
        SettingsError: settings that don't fit these arguments.
        SamplerRefused: a sampler that can't be mixed.
    """
    check_inputs(latent, sigmas)
    seed = max(settings.seed, 0)
    parametrisation = ve(getattr(denoiser, "sigmas", None))
    with contextlib.ExitStack() as stack:
        shrink = None
        if settings.deep_shrink:
            deep_shrink.check(unet, settings)
            shrink = DeepShrink(settings)
            stack.enter_context(deep_shrink.attached(unet, shrink))
        run = mixed(
            sampler, latent, noise, range(seed, seed + len(latent)), settings, parametrisation, shrink, analysis
        )
        stack.enter_context(torch.random.fork_rng([latent.device] if latent.is_cuda else []))
        torch.manual_seed(seed)
        return run(denoiser, None, sigmas=sigmas, extra_args=extra_args, callback=callback, **sampler_options)


def check_inputs(latent: Tensor, sigmas: Tensor) -> None:
    """Raises SettingsError for a latent or a schedule that no sampler could start from."""
    if latent.ndim != 4 or not latent.numel() or not latent.is_floating_point():
        given = f"{latent.dtype} {tuple(latent.shape)}"
        raise SettingsError("latent", given, "Allowed: floating point [B, C, H, W], at least one picture.")
    if not bool(torch.isfinite(latent).all()):
        raise SettingsError("latent", "NaN or infinity", "Allowed: finite numbers.")
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise SettingsError("sigmas", tuple(sigmas.shape), "Allowed: a one-dimensional schedule of at least 2 values.")
    if not bool(torch.isfinite(sigmas).all() and (sigmas.diff() < 0).all() and sigmas[-1] >= 0):
        raise SettingsError("sigmas", sigmas.tolist(), "Allowed: falling from step to step, to 0 at the least.")


def mixed(
    sampler: Callable[..., Tensor],
    latent: Tensor,
    noise: Tensor | None,
    seeds: Sequence[int],
    settings: Settings,
    parametrisation: Parametrisation,
    shrink: DeepShrink | None = None,
    analysis: Analysis | None = None,
) -> Callable[..., Tensor]:
    """The sampler function with mixing, and with the signature that WebUIs inspect.

    Args:
        sampler: a k-diffusion function or a timestep sampler, later called with its schedule in keyword arguments and
            with a state x [B, C, H, W]; with None for x it starts at z' of its first noise level.
        latent: z0 [B, C, H, W], enlarged and clean.
        noise: unit noise of the first step [B, C, H, W]; None: drawn from `seeds`.
        seeds: one per image.
        settings: the mixing.
        parametrisation: of the state that the sampler works on.
        shrink: attached to the model's network; active in the first steps.
        analysis: looks on.

    Raises:
        SettingsError, SamplerRefused: when called, before the first model call, if the picture can't be made this way.
    """

    @functools.wraps(sampler)
    def run(model: Any, x: Tensor | None, *args: Any, callback: Callback | None = None, **kwargs: Any) -> Tensor:
        plan = schedule(sampler, kwargs, settings)
        noised = NoisedLatents(latent, parametrisation, settings.noise, noise, seeds)
        noised.normalize(plan.levels, settings.normalize_fraction)
        progress = parametrisation.progress(plan.levels)
        w = weights(settings, len(plan.levels), progress)
        scale = settings.cutoff or DEFAULT_SCALE
        mixer = Mixer(sampler, plan, noised, w, settings.blending, scale, settings.detail, analysis)
        if x is None:
            x = noised.at(0, plan.levels[0]).clone()
        elif settings.start_at_step:
            x.copy_(noised.at(0, plan.levels[0]))
        with contextlib.ExitStack() as stack:
            if shrink:
                end = deep_shrink.last_level(settings, plan.levels, progress)
                stack.enter_context(shrink.following(model, end))
            result = mixer.run(model, x, *args, callback=callback)
        if settings.fidelity:
            put_back(result, latent, scale, settings.fidelity)
        return result

    return run
