"""Iterative mixing without a WebUI: one function around a k-diffusion style sampler."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from itermix.mixing import frames
from itermix.mixing.curves import progress_of, weights
from itermix.mixing.filters import Workspace
from itermix.mixing.masks import mask_of
from itermix.mixing.mixer import Mixer
from itermix.mixing.noising import NoisedLatents, NoisedSource, first_draw
from itermix.mixing.run import Callback, Run, features_of, taken
from itermix.parameters import SettingsError
from itermix.settings import Settings
from itermix.steps.parametrisation import Parametrisation, ve
from itermix.steps.schedule import schedule

_alone = threading.RLock()
"""Held by `sample`: samplers draw from torch's global generator, and the denoiser has hooks while one runs."""


def sample(
    sampler: Callable[..., Tensor],
    denoiser: Callable[..., Tensor],
    latent: Tensor,
    sigmas: Tensor,
    settings: Settings,
    noise: Tensor | None = None,
    **given: Any,
) -> Tensor:
    """Sample from z'(sigma_0) down, mixing z' into the state at every step.

    Args:
        sampler: called as ``sampler(denoiser, x, sigmas=, callback=, **options)``, such as
            ``k_diffusion.sampling.sample_euler``.
        denoiser: any module or function (x, sigma, **extra_args) -> denoised; with `window` it gets parts of x, and of
            the `extra_args` what belongs to them (`windows.of_views`). Its `sigmas`, if it has them, are taken as the
            model's training schedule (k-diffusion's DiscreteSchedule).
        latent: z0, the enlarged picture that guides, [B, C, H, W] (pixels in [-1, 1] or a latent), or [B, C, T, H, W]
            of a video model, whose T frames are pictures of their own to all but the sampler and the model.
        sigmas: [steps + 1], falling to 0; `steps_range` says what denoise and the range of steps leave of them.
        settings: `enabled`, `inversion_prompt`, `analysis`, `denoise_in` and `fidelity` are for what calls this and
            have no part here, the last since it acts on decoded pictures (`fidelity.put_back`); seed -1 counts as 0.
        noise: unit noise of the first step, shape of `latent`; drawn from the seed if None.
        given: options of the sampler, such as `extra_args` and `callback`; and what features need:
            mask: how much of the weight each pixel gets, [B or 1, 1, h, w] in [0, 1], 0 is free; of any size, resized,
                and the same in all frames.
            unet: the network that the denoiser runs, for `deep_shrink`: with input_blocks, middle_block and
                output_blocks, as those of Stable Diffusion 1, 2 and XL.
            inversion_args: in the place of `extra_args` for the model calls of inverted noise; best without guidance.
            analysis: an `itermix.analysis.record.Analysis` that looks on, and holds the numbers afterwards.

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
    needed = taken(settings)
    options = {"extra_args": None} | {name: value for name, value in given.items() if name not in needed}
    with _alone, torch.no_grad(), torch.random.fork_rng([latent.device] if latent.is_cuda else []):
        mixed = Pass(sampler, latent, range(seed, seed + len(latent)), settings, parametrisation, noise, given)
        torch.manual_seed(seed)
        return mixed.run(model, None, sigmas=sigmas, **options)


class _AsModule(nn.Module):
    """A function as a module, which can have hooks."""

    def __init__(self, denoiser: Callable[..., Tensor]):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, level: Tensor, **args: Any) -> Tensor:
        return self.denoiser(x, level, **args)


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


@dataclass(frozen=True)
class Pass:
    """A run of a sampler with mixing, as the command line, the WebUI and `sample` ask for it.

    Attributes:
        sampler: a k-diffusion function or a timestep sampler.
        latent: z0 [B, C, H, W], enlarged and clean; or [B, C, T, H, W], whose frames are pictures of their own
            everywhere but for the sampler and the model.
        seeds: one per row of `latent`.
        settings: the mixing.
        parametrisation: of the state that the sampler works on.
        noise: unit noise of the first step, shape of `latent`; None: drawn from `seeds`.
        given: what features need: `mask` [B or 1, 1, h, w], and what each `feature` of the settings reads.
    """

    sampler: Callable[..., Tensor]
    latent: Tensor
    seeds: Sequence[int]
    settings: Settings
    parametrisation: Parametrisation
    noise: Tensor | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    def function(self) -> Callable[..., Tensor]:
        """The sampler with mixing, under the name and with the signature that WebUIs inspect."""

        @functools.wraps(self.sampler)
        def mixed(*args: Any, **kwargs: Any) -> Tensor:
            return self.run(*args, **kwargs)

        return mixed

    def run(self, model: Any, x: Tensor | None, *args: Any, callback: Callback | None = None, **kwargs: Any) -> Tensor:
        """The mixed result for a state x like the latent; from z' of the first noise level if it is None.

        The sampler's schedule is in the keyword arguments. Raises SettingsError or SamplerRefused, before the first
        model call, if the picture can't be made this way.
        """
        check_shape(self.latent)
        whole = self.planned(kwargs)
        begins = whole.begins(model)
        passes = [whole.after(first) for first in begins]
        stood = [(begins[0], begins[0])]  # where the first pass was when it came to the beginnings of the others
        source = self.latent
        with contextlib.ExitStack() as stack:
            for feature in whole.features:
                stack.enter_context(feature.around(whole, model))
            for number, (first, part) in enumerate(zip(begins, passes)):
                noised = self.noised(whole, model, source, number, kwargs)
                noised.normalize(whole.plan.levels[first:], self.settings.normalize_fraction)
                if x is None or number:
                    begin = part.plan.begin if number else part.plan.levels[0]
                    x = frames.latents(noised.at(0, begin, out=torch.empty_like(noised.latent)), self.latent)
                elif first or self.settings.start_at_step or not isinstance(noised, NoisedLatents):
                    with frames.edited(x) as pictures:
                        noised.at(0, part.plan.levels[0], out=pictures)
                steps, calls = stood[number]
                if number:
                    done = sum(len(whole.plan.levels) - begin for begin in begins[:number]) - first
                    for feature in whole.features:
                        feature.next_pass(steps, calls, done)
                mixer = Mixer(part, noised)
                result = mixer.run(model, x, *args, callback=callback and functools.partial(_later, callback, steps))
                source = result.to(self.latent)
                if not number:
                    stood += [mixer.before(later.plan.begin) for later in passes[1:]]
                del noised, mixer  # before the next pass makes its own
        return result

    def planned(self, arguments: dict[str, Any]) -> Run:
        """The schedule in the sampler's arguments, the weights, the mask and the features."""
        settings = self.settings
        plan = schedule(self.sampler, arguments, settings)
        by_level, steps = self.parametrisation.progress(plan.levels), len(plan.levels)
        w, progress = weights(settings, steps, by_level), progress_of(settings, steps, by_level)
        drawn, count = self.given.get("mask"), frames.count(self.latent)
        if drawn is not None and drawn.ndim and len(drawn) > 1:
            drawn = drawn.repeat_interleave(count, dim=0)
        mask = mask_of(settings, frames.pictures(self.latent), frames.seeds(self.seeds, count), drawn)
        features = features_of(settings, self.given)
        work = Workspace(settings.seamless)
        return Run(self.sampler, plan, w, settings, self.parametrisation, progress, mask, features, work)

    def noised(self, whole: Run, model: Any, source: Tensor, number: int, arguments: dict[str, Any]) -> NoisedSource:
        """z' of the source, which is like the latent, in pass `number`: a feature's, or of drawn noise."""
        for feature in whole.features:
            if other := feature.noised(whole, model, source, arguments):
                return other
        noise = None if number or self.noise is None else frames.pictures(self.noise)
        seeds = frames.seeds(self.seeds, frames.count(source))
        pictures, kind = frames.pictures(source), self.settings.noise
        return NoisedLatents(pictures, self.parametrisation, kind, noise, seeds, first_draw(number))


def _later(callback: Callback, steps: int, info: Mapping[str, Any]) -> Any:
    """What a sampler's callback is told by one that began so many steps later."""
    return callback({**info, "i": info["i"] + steps})
