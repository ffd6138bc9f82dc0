"""When to blend in a sampler's run, and doing it in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from itermix.mixing import frames
from itermix.mixing.blending import BLENDINGS, USES_DENOISED, USES_NOISED, Guide
from itermix.mixing.noising import NoisedSource
from itermix.mixing.run import Callback, Run
from itermix.steps.samplers import ROUNDING, STATE_IN_CALLBACK, SamplerRefused, able, name_of


class Mixer:
    """Blends z' into the sampler's state at the start of every step of one run.

    The state is edited in place just before the model sees it, so that the sampler's own update and the model's output
    start from the same blended state. Weight 0 leaves it untouched, to the bit. Blendings that use the model's running
    estimate of the clean picture get that of the step before; it costs them one more latent of memory. So does a mask.

    Where a step starts is known in three ways: by the number of the model's call; by the sampler's callback, where that
    alone shows the state (UniPC); or, for samplers of which nothing is known, by running one step at a time.
    """

    def __init__(self, run: Run, noised: NoisedSource):
        """`run` is the pass that is to be mixed, `noised` z' of the picture that guides it."""
        self._sampler = able(run.sampler, run.plan.arguments.get("sigmas"))
        self._schedule = run.plan
        self._run = run
        self._noised = noised
        self._weights = run.weights.tolist()
        self._progress = None if run.progress is None else run.progress.tolist()
        blending = run.settings.blending
        self._blend = BLENDINGS[blending]
        self._uses_noised, self._uses_denoised = blending in USES_NOISED, blending in USES_DENOISED
        self._state_in_callback = name_of(run.sampler) in STATE_IN_CALLBACK
        self._looking = [feature for feature in run.features if feature.looks]
        self._signals = self._signals_of_steps()
        self._denoised: Tensor | None = None
        self._calls = 0
        self._started: list[tuple[Tensor, int]] = []  # (level, calls before it) of every step
        self._step = -1
        self._level: Tensor | None = None
        self._starts_step = False
        for feature in run.features:
            feature.begin(run)

    def run(self, denoiser: nn.Module, x: Tensor, *args: Any, callback: Callback | None = None) -> Tensor:
        """The sampler's result from the state x [B, C, H, W] or, with frames, [B, C, T, H, W], mixed.

        Nothing stays on the denoiser, however the run ends. Raises SamplerRefused if its steps aren't as expected.
        """
        if self._schedule.starts is None:
            return self._run_step_by_step(denoiser, x, *args, callback=callback)

        def checked(info: Mapping[str, Any]) -> Any:
            self.after_step(info)
            return callback(info) if callback else None

        with self._hooked(denoiser, self.before_call):
            result = self._sampler(denoiser, x, *args, callback=checked, **self._schedule.arguments)
        if not self._schedule.own_levels and self._step != len(self._weights) - 1:
            raise self._refusal()
        return result

    def _run_step_by_step(self, denoiser: nn.Module, x: Tensor, *args: Any, callback: Callback | None) -> Tensor:
        """As `run`, with a call of the sampler for each step. It remembers nothing of the steps before."""

        def count(x: Tensor, level: Tensor) -> None:
            self._calls += 1

        with self._hooked(denoiser, count):
            for step, level in enumerate(self._schedule.levels):
                self._started.append((level, self._calls))
                with frames.edited(x) as pictures:
                    self._start(step, pictures, level)

                def counted(info: Mapping[str, Any], step: int = step) -> Any:
                    return callback({**info, "i": step}) if callback else None

                x = self._sampler(denoiser, x, *args, callback=counted, **self._schedule.step(step))
        return x

    @contextmanager
    def _hooked(self, denoiser: nn.Module, before_call: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
        def before(module: nn.Module, args: tuple) -> None:
            with frames.edited(args[0]) as x:
                before_call(x, args[1])

        def after(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            x, of_pictures = frames.pictures(args[0]), frames.pictures(output)
            return frames.latents(self.after_call(x, args[1], of_pictures), output)

        hooks = denoiser.register_forward_pre_hook(before), denoiser.register_forward_hook(after)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def before(self, level: Tensor) -> tuple[int, int]:
        """(steps, model calls) of the run before its first step at this noise level (0-dim tensor) or below."""
        for step, (at, calls) in enumerate(self._started):
            if bool(at <= level * (1 + ROUNDING)):
                return step, calls
        return len(self._started), self._calls

    def before_call(self, x: Tensor, level: Tensor) -> None:
        """To be called with the model's input x [B, C, H, W] and its noise level [B] before every model call."""
        assert self._schedule.starts is not None
        step = self._schedule.starts(self._calls, len(self._weights))
        if step is not None:
            self._started.append((level.flatten()[0], self._calls))
        self._calls += 1
        self._starts_step = step is not None
        if step is None:
            return
        if step >= len(self._weights) and not self._schedule.own_levels:
            raise self._refusal()
        level, before = level.flatten()[0], self._level
        # DPM adaptive tries a step again from the state that it has, which is blended already.
        again = self._schedule.own_levels and before is not None and bool(level == before)
        self._step, self._level = step, level
        if not (again or (self._state_in_callback and step > 0)):
            self._start(step, x, level)

    def after_call(self, x: Tensor, level: Tensor, output: Tensor) -> Tensor:
        """What the sampler gets for the model's output [B, C, H, W]; to be called with the same after every call."""
        level = level.flatten()[0]
        step = self._step if self._starts_step else None
        for feature in self._run.features:
            output = feature.estimate(x, level, output, step)
        if step is not None and (self._uses_denoised or self._looking):
            if self._denoised is None or self._denoised.dtype != x.dtype:  # samplers may go on in another precision
                self._denoised = torch.empty_like(x)
            self._noised.parametrisation.denoised(x, level, output, out=self._denoised)
            for feature in self._looking:
                feature.evaluated(step, float(level), x, self._denoised)
        self._starts_step = False
        return output

    def after_step(self, info: Mapping[str, Any]) -> None:
        """To be called with the sampler's callback argument; raises SamplerRefused if the steps aren't as expected."""
        if self._state_in_callback and self._step == info["i"] + 1:
            # The model has seen a forecast of this state, at its level.
            assert self._level is not None
            with frames.edited(info["x"]) as x:
                self._start(self._step, x, self._level)
        elif info["i"] != self._step:
            raise self._refusal()

    def _start(self, step: int, x: Tensor, level: Tensor) -> None:
        """Blend the state x [B, C, H, W] at the start of a step, at `level` (0-dim tensor)."""
        self._step, self._starts_step = step, True
        weight = self._weight(step, level)
        if not isinstance(weight, Tensor):
            if weight:
                self._guide(step, x, level, weight)
            return
        weight = weight.to(x)
        free = x.clone()
        self._guide(step, x, level, weight)
        torch.where(weight > 0, x, free, out=x)  # what filters and norms make of weight 0 may differ in the last bit

    def _guide(self, step: int, x: Tensor, level: Tensor, weight: Tensor | float) -> None:
        """Blend the state with a weight, of all or of each pixel [B or 1, 1, H, W]."""
        if step == 0:  # sampling starts at z', whatever it was given, and no blend changes that
            self._noised.at(step, level, out=x)
            self._look(step, level, weight, x, x)
            return
        scale, work = self._run.settings.held_scale, self._run.work
        guide = Guide(scale, work=work)
        if self._uses_denoised:
            assert self._denoised is not None
            signal = self._signals[step] if self._signals else self._signal(level)
            latent = self._noised.latent.to(x)
            guide = Guide(scale, latent, self._denoised.to(x), signal, work)
        noised = self._noised.at(step, level).to(x) if self._uses_noised or self._looking else None
        self._look(step, level, weight, noised, x)
        self._blend(x, noised, weight, guide)

    def _look(self, step: int, level: Tensor, weight: Tensor | float, noised: Tensor | None, x: Tensor) -> None:
        """Let the features that want to look at z' and the state."""
        if self._looking:
            assert noised is not None
            mean = float(weight.mean()) if isinstance(weight, Tensor) else weight
            for feature in self._looking:
                feature.guided(step, float(level), mean, noised, x)

    def _signals_of_steps(self) -> list[float]:
        """The amount of signal at the start of each step, on the host before the run: a read in a step would wait for
        a GPU. Empty where it isn't used, and where the sampler chooses its levels while it runs."""
        if not self._uses_denoised or self._schedule.own_levels:
            return []
        return [self._signal(level) for level in self._schedule.levels.cpu()]

    def _signal(self, level: Tensor) -> float:
        return float(self._noised.parametrisation.amounts(level)[0])

    def _weight(self, step: int, level: Tensor) -> Tensor | float:
        """The weight at a step: of all, or of each pixel if there is a mask."""
        own = self._schedule.own_levels
        weight = self._between(self._weights, level) if own else self._weights[step]
        if self._run.mask is None:
            return weight
        assert self._progress is not None
        return self._run.mask.weight(weight, self._between(self._progress, level) if own else self._progress[step])

    def _between(self, values: list[float], level: Tensor) -> float:
        """The value at a level between those of the schedule."""
        return self._noised.parametrisation.between(level, self._schedule.levels, values)

    def _refusal(self) -> SamplerRefused:
        return SamplerRefused(
            f"{name_of(self._sampler)} calls the model in another way than is known here, so its steps can't be told "
            "apart"
        )
