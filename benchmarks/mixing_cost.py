"""What mixing adds to a sampling step, in time and in memory.

    python benchmarks/mixing_cost.py --out benchmarks/results/mixing.json   # needs diffusers, for a network of SD 1.5's
                                                                            # size (random weights)
    python benchmarks/mixing_cost.py --no-model                             # all but the time

Memory: bytes of all tensors alive at once in a run with mixing, less those of one without, against the bytes of one
latent. Passes: how often a step's operations go through as many numbers as a latent has. Time: of what the mixer does
in a step, over that of a model call. One call and a step of every mixing take turns, and the median of the quotients of
a turn counts. It is time of the processor, not of the clock, so that what else runs on the machine disturbs it less.
"""

from __future__ import annotations

import argparse
import statistics
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import facts
import k_diffusion.sampling as kd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import itermix
from itermix.mixing.blending import BLENDINGS
from itermix.mixing.mixer import Mixer
from itermix.mixing.noising import DRAWN_NOISES, NoisedLatents
from itermix.mixing.run import Run, features_of
from itermix.settings import Settings
from itermix.steps.samplers import one_call
from itermix.steps.schedule import Schedule

SQUARE, WIDE = (1, 4, 64, 64), (1, 4, 64, 112)  # SD 1.5 at 512 x 512 and 896 x 512
PRECISIONS = {"single": torch.float32, "half": torch.float16}
HEAD = "| blending | noise | scale | latent | precision | latents | after 50 steps | passes | % of a model call |"


class LiveBytes(TorchDispatchMode):
    """The most bytes alive at once of the storages that operations inside the block make."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        inputs = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage.data_ptr()
                if key not in inputs and key not in self.alive:
                    self.alive[key] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, key, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return out


class Numbers(TorchDispatchMode):
    """How many numbers the operations inside the block go through: of each, those of its largest tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        storages = {t.untyped_storage().data_ptr() for t in given}
        if func._schema.is_mutable or any(t.untyped_storage().data_ptr() not in storages for t in made):  # no view
            self.count += max((t.numel() for t in (*given, *made)), default=0)
        return out


class Still(nn.Module):
    """A model that makes its output alone, so that all other tensors are the sampler's and the mixing's."""

    def forward(self, x, sigma):
        return x.clone()


class Steps:
    """The steps of one mixing, which can be taken one by one; the first two make what is kept."""

    def __init__(self, settings: Settings, shape: Sequence[int], dtype: torch.dtype, count: int) -> None:
        self.levels = kd.get_sigmas_karras(count + 2, 0.03, 14.6)[:-1].to(dtype)
        self.latent, self.x = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
        noised = NoisedLatents(self.latent, kind=settings.noise)
        plan, w = Schedule({}, self.levels, one_call), itermix.weights(settings, len(self.levels)).clamp_min(0.01)
        run = Run(kd.sample_euler, plan, w, settings, noised.parametrisation, features=features_of(settings, {}))
        self.mixer = Mixer(run, noised)
        self.taken = 0
        self.step(), self.step()

    def step(self) -> float:
        """Seconds of the processor that mixing takes in the next step."""
        level = self.levels[self.taken].expand(len(self.x))
        start = time.process_time()
        self.mixer.before_call(self.x, level)
        self.mixer.after_call(self.x, level, self.latent)
        self.taken += 1
        return time.process_time() - start


def held_latents(settings: Settings, steps: int, shape: Sequence[int] = SQUARE, dtype=torch.float32) -> float:
    """Peak of what mixing holds over a run, beyond the same sampler without it and the given noise, in latents."""
    latent, noise = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    sigmas = kd.get_sigmas_karras(steps, 0.03, 14.6).to(dtype)
    settings = settings.replace(denoise=1.0)
    peaks = []
    for run in (
        lambda: kd.sample_euler(Still(), latent + noise * sigmas[0], sigmas, disable=True),
        lambda: itermix.sample(kd.sample_euler, Still(), latent, sigmas, settings, noise=noise, disable=True),
    ):
        with LiveBytes() as live:
            run()
        peaks.append(live.peak)
    return (peaks[1] - peaks[0]) / (latent.numel() * latent.element_size())


def passes(settings: Settings, shape: Sequence[int] = SQUARE, dtype=torch.float32) -> float:
    """Of a step over the latent, each operation for itself."""
    steps = Steps(settings, shape, dtype, 1)
    with Numbers() as numbers:
        steps.step()
    return numbers.count / steps.x.numel()


def cases() -> list[dict[str, Any]]:
    """Every blending, every noise (the default looks at it at the start alone), the default where it costs more."""
    square = {"noise": Settings().noise, "scale": 2.0, "shape": SQUARE, "precision": "single"}
    default = {"blending": Settings().blending, **square}
    found = [{**default, "blending": blending} for blending in BLENDINGS]
    found += [{**default, "blending": "addition", "noise": n} for n in DRAWN_NOISES if n != Settings().noise]
    found += [{**default, "precision": "half"}, {**default, "scale": 1.5}]
    return [*found, {**default, "scale": 1.5, "shape": WIDE}, {**default, "scale": 1.5, "precision": "half"}]


def settings_of(case: dict[str, Any]) -> Settings:
    return Settings(blending=case["blending"], noise=case["noise"], cutoff=case["scale"])


def shares(found: list[dict[str, Any]], turns: int) -> list[list[float]]:
    """Of each case, and of each turn, the time of its step over that of a model call without guidance at 512 px."""
    from diffusers import UNet2DConditionModel

    network: Any = UNet2DConditionModel(cross_attention_dim=768)
    text, x = torch.randn(1, 77, 768), torch.randn(SQUARE)
    steps = [Steps(settings_of(case), case["shape"], PRECISIONS[case["precision"]], turns) for case in found]
    quotients: list[list[float]] = [[] for _ in found]
    with torch.inference_mode():
        network(x, torch.ones(1), encoder_hidden_states=text)
        for _ in range(turns):
            start = time.process_time()
            network(x, torch.ones(1), encoder_hidden_states=text)
            model = time.process_time() - start
            for of_case, step in zip(quotients, steps):
                of_case.append(step.step() / model)
    return quotients


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    size = "x".join(map(str, row["shape"][1:]))
    cells = [row["blending"], row["noise"], f"{row['scale']:g}", size, row["precision"]]
    cells += [f"{row['latents']['5']:.2f}", f"{row['latents']['50']:.2f}", f"{row['passes']:.1f}"]
    return f"| {' | '.join(cells)} | {100 * row['share']:.3f} |" if "share" in row else f"| {' | '.join(cells)} | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-model", action="store_true", help="leave out the network of SD 1.5's size")
    parser.add_argument("--turns", type=int, default=9, help="model calls that are timed (default %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    found = cases()
    for case in found:
        settings, size = settings_of(case), (case["shape"], PRECISIONS[case["precision"]])
        case["latents"] = {str(steps): held_latents(settings, steps, *size) for steps in (5, 50)}
        case["passes"] = passes(settings, *size)
    if not options.no_model:
        for case, quotients in zip(found, shares(found, options.turns)):
            case["share"], case["shares"] = statistics.median(quotients), quotients
    print(HEAD, "|---" * 9 + "|", *map(line, found), sep="\n")
    if options.out:
        facts.write(options.out, rows=found)


if __name__ == "__main__":
    main()
