"""What mixing adds to a sampling step, in time and in memory.

    python benchmarks/mixing_cost.py            # needs diffusers, for a network of SD 1.5's size (random weights)
    python benchmarks/mixing_cost.py --no-model # memory alone

Time: what the mixer does before and after the model calls of a run, against the model calls of the same run. Memory:
bytes of all tensors alive at once in a run with mixing, less those of one without, against the bytes of one latent.
"""

from __future__ import annotations

import argparse
import time
import weakref
from typing import Any
from unittest import mock

import k_diffusion.sampling as kd
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import itermix
from itermix.mixing import Mixer
from itermix.settings import BLENDINGS, DRAWN_NOISES

LATENT = (1, 4, 64, 64)  # SD 1.5 at 512 px


class LiveBytes(TorchDispatchMode):
    """The most bytes alive at once of the storages that operations inside the block make."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        inputs = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage.data_ptr()
                if key not in inputs and key not in self.alive:
                    self.alive[key] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, key, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return out


class Still(nn.Module):
    """A model that makes nothing, so that all the tensors are the sampler's and the mixing's."""

    def forward(self, x, sigma):
        return x


class Timed(nn.Module):
    """The network as a denoiser, with the time that it takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.text = torch.randn(1, 77, 768)
        self.seconds = 0.0

    def forward(self, x, sigma):
        start = time.perf_counter()
        scale = (1 + sigma.view(-1, 1, 1, 1) ** 2).rsqrt()
        noise = self.network(x * scale, sigma.log(), encoder_hidden_states=self.text).sample
        self.seconds += time.perf_counter() - start
        return x - sigma.view(-1, 1, 1, 1) * noise


def held_latents(settings: itermix.Settings, steps: int) -> float:
    """Peak of what mixing holds over a run, beyond the same sampler without it, in latents."""
    latent, noise = torch.randn(LATENT), torch.randn(LATENT)
    sigmas = kd.get_sigmas_karras(steps, 0.03, 14.6)
    peaks = []
    for run in (
        lambda: kd.sample_euler(Still(), latent + noise * sigmas[0], sigmas, disable=True),
        lambda: itermix.sample(kd.sample_euler, Still(), latent, sigmas, settings, noise=noise, disable=True),
    ):
        with LiveBytes() as live:
            run()
        peaks.append(live.peak)
    return (peaks[1] - peaks[0]) / (latent.numel() * latent.element_size())


def share_of_a_step(settings: itermix.Settings, model: Timed, steps: int) -> float:
    """Time of the mixing over the time of the model, in one run."""
    seconds = 0.0

    class TimedMixer(Mixer):
        def before_call(self, *args):
            nonlocal seconds
            start = time.perf_counter()
            super().before_call(*args)
            seconds += time.perf_counter() - start

        def after_call(self, *args):
            nonlocal seconds
            start = time.perf_counter()
            super().after_call(*args)
            seconds += time.perf_counter() - start

    model.seconds = 0.0
    sigmas = kd.get_sigmas_karras(steps, 0.03, 14.6)
    with mock.patch("itermix.sampling.Mixer", TimedMixer), torch.inference_mode():
        itermix.sample(kd.sample_euler, model, torch.randn(LATENT), sigmas, settings, disable=True)
    return seconds / model.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-model", action="store_true", help="leave out the network of SD 1.5's size")
    parser.add_argument("--steps", type=int, default=5, help="steps of a timed run (default %(default)s)")
    options = parser.parse_args()

    cases = [itermix.Settings(blending=b) for b in BLENDINGS]
    cases += [itermix.Settings(noise=n) for n in DRAWN_NOISES if n != itermix.Settings().noise]
    print("Extra memory in latents, the given start noise not counted, at 5 and at 50 steps:")
    for case in cases:
        print(f"  {case.blending:20s} {case.noise:12s} {held_latents(case, 5):.2f}  {held_latents(case, 50):.2f}")
    if options.no_model:
        return
    from diffusers import UNet2DConditionModel

    network: Any = UNet2DConditionModel(cross_attention_dim=768)
    size = sum(p.numel() for p in network.parameters()) / 1e6
    print(f"Time of mixing as a share of the model's, a network of {size:.0f} M parameters at 512 px without guidance:")
    model = Timed(network)
    for case in cases:
        print(f"  {case.blending:20s} {case.noise:12s} {100 * share_of_a_step(case, model, options.steps):.4f} %")


if __name__ == "__main__":
    main()
