"""Iterative mixing without a WebUI: one function around a k-diffusion style sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from itermix.curves import weights
from itermix.mixing import DEFAULT_SCALE, Callback, Mixer
from itermix.noising import NoisedLatents, ve
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
        settings: `enabled` is the WebUI's switch and has no part here; seed -1 counts as 0.
        noise: unit noise of the first step, shape of `latent`; drawn from the seed if None.
        extra_args, callback, sampler_options: handed to the sampler.

    Returns:
        The sampled latent, shape of `latent`. The same arguments give the same bits; noise that the sampler draws from
        torch's global generator comes from the seed too, and that generator is left as it was.

    Raises:
        SettingsError: settings that don't fit these arguments.
        SamplerRefused: a sampler that can't be mixed.
    """
    check_inputs(latent, sigmas)
    run = sigmas_run(sigmas, settings)
    seed = max(settings.seed, 0)
    parametrisation = ve(getattr(denoiser, "sigmas", None))
    noised = NoisedLatents(latent, parametrisation, settings.noise, noise, range(seed, seed + len(latent)))
    noised.normalize(run[:-1], settings.normalize_fraction)
    w = weights(settings, len(run) - 1, parametrisation.progress(run[:-1]))
    mixer = Mixer(sampler, noised, w, settings.blending, settings.cutoff or DEFAULT_SCALE)
    x = noised.at(0, run[0]).clone()
    with torch.random.fork_rng([latent.device] if latent.is_cuda else []), mixer.running(denoiser, callback) as checked:
        torch.manual_seed(seed)
        return sampler(denoiser, x, run, extra_args=extra_args, callback=checked, **sampler_options)


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


def sigmas_run(sigmas: Tensor, settings: Settings) -> Tensor:
    """What `steps_range` leaves of sigmas [steps + 1]; a run that ends early goes straight to 0 in its last step."""
    first, last = steps_range(settings, len(sigmas) - 1)
    run = sigmas[first : last + 1].clone()
    if last < len(sigmas) - 1:
        run[-1] = 0
    return run


def steps_range(settings: Settings, steps: int) -> tuple[int, int]:
    """(first, last) of the steps first, first + 1, ... last - 1 that are run out of `steps`.

    `denoise` leaves its share of them at the clean end, at least one; `start_at_step` and `end_at_step` count from
    there. Raises SettingsError if nothing is left.
    """
    skipped = steps - max(1, round(settings.denoise * steps))
    first = skipped + settings.start_at_step
    last = min(skipped + settings.end_at_step, steps)
    if first >= last:
        allowed = f"Allowed: less than the {steps - skipped} steps that denoise leaves."
        raise SettingsError("start_at_step", settings.start_at_step, allowed)
    return first, last
