"""When to blend in a sampler's run, and doing it in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from itermix.blending import BLENDINGS, USES_DENOISED, Guide
from itermix.noising import NoisedLatents
from itermix.samplers import SamplerRefused, name_of, step_starts

Callback = Callable[[Mapping[str, Any]], Any]
DEFAULT_SCALE = 2.0  # of the enlargement, where it isn't known


class Mixer:
    """Blends z' into the sampler's state at the first model call of every step of one run.

    The state is edited in place just before the model sees it, so that the sampler's own update and the model's output
    start from the same blended state. Weight 0 leaves it untouched, to the bit. Blendings that use the model's running
    estimate of the clean picture get that of the step before; it costs them one more latent of memory.
    """

    def __init__(
        self,
        sampler: Callable,
        noised: NoisedLatents,
        weights: Tensor,
        blending: str,
        scale: float = DEFAULT_SCALE,
        detail: float = 0.0,
    ):
        """
        Args:
            sampler: the sampler function that will run; `step_starts` raises SamplerRefused if it can't be mixed.
            noised: z' of the picture that guides.
            weights: [steps], of the noised latent, as `itermix.weights` gives them.
            blending: a name in `BLENDINGS`.
            scale: how many times the picture that guides was enlarged; says what of it is low.
            detail: share by which the clean blendings strengthen what is not low.
        """
        self._name = name_of(sampler)
        self._step_of_call = step_starts(sampler)
        self._noised = noised
        self._weights = weights.tolist()
        self._blend = BLENDINGS[blending]
        self._uses_denoised = blending in USES_DENOISED
        self._scale = scale
        self._detail = detail
        self._denoised: Tensor | None = None
        self._calls = 0
        self._step = -1
        self._starts_step = False

    def before_call(self, x: Tensor, level: Tensor) -> None:
        """To be called with the model's input x [B, C, H, W] and its noise level [B] before every model call."""
        step = self._step_of_call(self._calls, len(self._weights))
        self._calls += 1
        self._starts_step = step is not None
        if step is None:
            return
        self._step = step
        if step >= len(self._weights):
            raise self._refusal()
        if weight := self._weights[step]:
            self._mix(x, level.flatten()[0], weight)

    def _mix(self, x: Tensor, level: Tensor, weight: float) -> None:
        noised = self._noised.at(self._step, level).to(x)
        if self._step == 0:
            x.copy_(noised)  # sampling starts at z', whatever it was given; a filtering blend would leave a part of it
        if not self._uses_denoised:
            guide = Guide(self._scale)
        elif self._denoised is None:  # the model has not been asked yet
            return
        else:
            signal, _ = self._noised.parametrisation.amounts(level)
            guide = Guide(self._scale, self._noised.latent.to(x), self._denoised.to(x), float(signal), self._detail)
        self._blend(x, noised, weight, guide)

    def after_call(self, x: Tensor, level: Tensor, output: Tensor) -> None:
        """To be called with the same and with the model's output [B, C, H, W] after every model call."""
        if self._starts_step and self._uses_denoised:
            self._denoised = self._noised.parametrisation.denoised(x, level.flatten()[0], output)

    def after_step(self, info: Mapping[str, Any]) -> None:
        """To be called with the sampler's callback argument; raises SamplerRefused if the steps aren't as expected."""
        if info["i"] != self._step:
            raise self._refusal()

    def _refusal(self) -> SamplerRefused:
        return SamplerRefused(
            f"Iterative Mixing: {self._name} calls the model in a way that isn't known here, so its steps can't be "
            "told apart. Use another sampler, for example DPM++ 2M or Euler."
        )

    @contextmanager
    def running(self, denoiser: nn.Module, callback: Callback | None) -> Iterator[Callback]:
        """Mix all calls of `denoiser` inside the block; gives the callback to hand to the sampler.

        Nothing stays on the denoiser after the block, however it ends. A block that ends without an exception but
        without all steps raises SamplerRefused.
        """

        def checked(info: Mapping[str, Any]) -> Any:
            self.after_step(info)
            return callback(info) if callback else None

        hooks = (
            denoiser.register_forward_pre_hook(lambda module, args: self.before_call(*args[:2])),
            denoiser.register_forward_hook(lambda module, args, output: self.after_call(args[0], args[1], output)),
        )
        try:
            yield checked
        finally:
            for hook in hooks:
                hook.remove()
        if self._step != len(self._weights) - 1:
            raise self._refusal()
