"""Attaching the mixing to one call of one sampler object of the WebUI, and detaching it.

`sample_img2img` of the sampler instance is wrapped, because it is where every WebUI brings together the clean latent
and the final start noise; inside that call `func`, because it gets the schedule that is really run; inside that call
the denoiser gets a forward pre-hook, because there the sampler's own state can be edited before the model sees it. All
three are undone on return, exception and interrupt.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor


class MixedSampling:
    """Stands in for `sample_img2img` of one sampler object, for one call."""

    def __init__(
        self,
        sampler: Any,
        mixing: Callable[[Callable, Tensor, Tensor], AbstractContextManager[Callable]],
        finish: Callable[[Tensor, Tensor, tuple, dict], Tensor],
    ):
        """
        Args:
            sampler: the WebUI's sampler object.
            mixing: (func, latent, noise) -> a context with a sampler function that mixes, for the time of the call;
                what it raises fails the generation.
            finish: (latent, samples, conditioning args, conditioning kwargs) -> what becomes of the samples.
        """
        self._sampler = sampler
        self._mixing = mixing
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
            with self._mixing(func, x.to(noise), noise) as self._sampler.func:
                samples = self._sampler.sample_img2img(p, x, noise, *args, **kwargs)
        finally:
            self._sampler.func = func
        return self._finish(x, samples, args, kwargs)
