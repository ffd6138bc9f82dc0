"""Attaching the mixing to one call of one sampler object of the WebUI, and detaching it.

`sample_img2img` of the sampler instance is wrapped, because it is where every WebUI brings together the clean latent
and the final start noise; inside that call `func`, because it gets the schedule that is really run; inside that call
the denoiser gets a forward pre-hook, because there the sampler's own state can be edited before the model sees it. All
three are undone on return, exception and interrupt.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from itermix.curves import weights
from itermix.mixing import DEFAULT_SCALE, Mixer
from itermix.noising import NoisedLatents, Parametrisation
from itermix.samplers import SamplerRefused, name_of, step_starts
from itermix.sampling import sigmas_run, steps_range
from itermix.settings import Settings, SettingsError
from itermix.webui.errors import as_client_errors


class MixedSampling:
    """Stands in for `sample_img2img` of one sampler object, for one call."""

    def __init__(
        self,
        sampler: Any,
        mix: Callable[[Callable, Tensor, Tensor], Callable],
        finish: Callable[[Tensor, Tensor, tuple, dict], Tensor],
    ):
        """
        Args:
            sampler: the WebUI's sampler object.
            mix: (func, latent, noise) -> a sampler function that mixes; what it raises fails the generation.
            finish: (latent, samples, conditioning args, conditioning kwargs) -> what becomes of the samples.
        """
        self._sampler = sampler
        self._mix = mix
        self._finish = finish
        self._replaced: Any = None

    def attach(self) -> None:
        """Mix the next `sample_img2img` of the sampler. Replaces an earlier attachment, since WebUIs reuse samplers
        over the iterations of a batch and some announce a sampling twice."""
        current = vars(self._sampler).get("sample_img2img")
        self._replaced = current._replaced if isinstance(current, MixedSampling) else current
        self._sampler.sample_img2img = self

    def detach(self) -> None:
        if self._replaced is None:
            del self._sampler.sample_img2img  # what was there is the method of the class
        else:
            self._sampler.sample_img2img = self._replaced

    def __call__(self, p: Any, x: Tensor, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.detach()
        func = self._sampler.func
        try:
            with as_client_errors():
                self._sampler.func = self._mix(func, x.to(noise), noise)
                samples = self._sampler.sample_img2img(p, x, noise, *args, **kwargs)
        finally:
            self._sampler.func = func
        return self._finish(x, samples, args, kwargs)


def mixed(
    func: Callable,
    latent: Tensor,
    noise: Tensor | None,
    seeds: Sequence[int],
    settings: Settings,
    parametrisation: Parametrisation,
) -> Callable:
    """The WebUI's sampler function `func` with mixing and with the signature that the WebUI inspects.

    Args:
        func: a k-diffusion function, called with `sigmas`, or a timestep sampler, called with `timesteps`.
        latent: z0 [B, C, H, W], enlarged and clean.
        noise: unit noise of the first step [B, C, H, W], the WebUI's start noise; None: drawn from `seeds`.
        seeds: one per image.
        settings: the mixing; `denoise` is the WebUI's matter, which gives the part of the schedule that it leaves.
        parametrisation: of the state that `func` works on.

    Raises:
        SettingsError, SamplerRefused: when called, before the first model call, if the picture can't be made this way.
    """

    whole = settings.replace(denoise=1.0)

    @functools.wraps(func)
    def sampler(model: Any, x: Tensor, *args: Any, callback: Callable | None = None, **kwargs: Any) -> Tensor:
        step_starts(func)
        if "timesteps" in kwargs:
            kwargs["timesteps"] = timesteps_run(kwargs["timesteps"], whole)
            levels = kwargs["timesteps"][1:].flip(0)
        elif "sigmas" in kwargs:
            kwargs["sigmas"] = sigmas_run(kwargs["sigmas"], whole)
            levels = kwargs["sigmas"][:-1]
        else:
            raise SamplerRefused(
                f"Iterative Mixing: {name_of(func)} has no schedule to mix along. Use DPM++ 2M or Euler."
            )
        noised = NoisedLatents(latent, parametrisation, settings.noise, noise, seeds)
        noised.normalize(levels, settings.normalize_fraction)
        w = weights(settings, len(levels), parametrisation.progress(levels))
        mixer = Mixer(func, noised, w, settings.blending, settings.cutoff or DEFAULT_SCALE, settings.detail)
        if settings.start_at_step:
            x.copy_(noised.at(0, levels[0]))
        with mixer.running(model, callback) as checked:
            return func(model, x, *args, callback=checked, **kwargs)

    return sampler


def timesteps_run(timesteps: Tensor, settings: Settings) -> Tensor:
    """What `steps_range` leaves of a timestep sampler's rising `timesteps` [steps + 1].

    The first of them is where the last step goes to. Raises SettingsError if there is no step.
    """
    n = len(timesteps)
    if n < 2:
        allowed = "Allowed: more of them or more denoise, so that the sampler runs at least one."
        raise SettingsError("steps", max(n - 1, 0), allowed)
    first, last = steps_range(settings, n - 1)
    return torch.cat([timesteps[:1], timesteps[n - last : n - first]])
