"""Where a pass on a flow schedule begins, and HiFlow's two terms (arXiv 2504.06232) against mixing's low-pass.

    python benchmarks/flow.py --out out/flow [--pictures N] [--part confirmation]

No model is trained with flow matching for this. The small latent model predicts the noise; its state x with noise
sigma is that of rectified flow times 1 / (1 - t), where sigma = t / (1 - t), and its estimate of the clean picture is
the same in both. So it is sampled in flow's variables, by Euler on schedules with a shift, 2x, on pictures of the
tuning half, or of the other. What flow's loss would have made of the estimates, this can't show.

Writes flow.json and flow.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import facts
import torch
from k_diffusion.sampling import get_sigmas_karras, sample_euler
from torch import Tensor, nn

from itermix.mixing.filters import low_pass
from itermix.mixing.noising import draw
from itermix.parameters import Known
from itermix.picture.phases import walk
from itermix.sampling import Pass
from itermix.settings import Settings
from itermix.standalone import upscaling
from itermix.standalone.latent import bench, model
from itermix.standalone.latent.autoencoder import FACTOR
from itermix.standalone.upscaling import Method, Model, Sources
from itermix.steps.levels import BY_LEVEL, begun_at, flow_level, noise_of
from itermix.steps.parametrisation import flow

SCALE = 2
CASES = ((8, "true", 3.0), (8, "soft", 3.0), (8, "true", 1.0), (20, "true", 3.0))
"""(steps, kind of sources, shift)."""

DENOISES = (0.2, 0.4, 0.5, 0.6, 0.7)

ALPHA, BETA = 1.0, 0.5
"""The first of HiFlow's direction and acceleration weights, which fall to 0; those of its code for the first stage."""

UNMIXED = {"highest": 0.0, "lowest": 0.0}
ALONE = {"detail": 0.0, "fidelity": 0.0}


@dataclass(frozen=True)
class Case:
    """What a table is measured over: how many steps of which schedule, and which sources."""

    steps: int
    kind: str
    shift: float

    @property
    def title(self) -> str:
        kind = {"true": "sharp renders", "soft": "soft renders"}[self.kind]
        return f"{kind}, {SCALE}x, shift {self.shift:g}, {self.steps} steps of Euler"

    def sigmas(self, settings: Settings) -> Tensor:
        """[steps + 1] sigmas of flow, falling to 0."""
        whole = int(self.steps / settings.denoise)
        if settings.denoise_in != BY_LEVEL:
            return self.schedule(whole)[-(self.steps + 1) :]
        return begun_at(self.schedule, flow_level(noise_of(settings.denoise)), self.steps, self.steps)

    def schedule(self, steps: int) -> Tensor:
        """[steps + 1] sigmas with the shift: s t / (1 + (s - 1) t)."""
        t = torch.linspace(1, 0, steps + 1)
        return self.shift * t / (1 + (self.shift - 1) * t)


@dataclass(frozen=True)
class Way:
    """A method: settings of mixing; with terms of HiFlow in the place of blending, where there is a reference.

    `reference` is "picture", the enlarged source, or "trajectory", the model's own estimates at its native size, from
    the noised source, at every noise level of the large picture.
    """

    name: str
    settings: Settings
    reference: str = ""
    beta: float = 0.0


ALL = (
    Way("hires fix 0.5", Settings(denoise=0.5, **UNMIXED, **ALONE)),
    Way("default", Settings()),
    Way("default, denoise in steps", Settings(denoise_in="steps")),
    Way("low-pass alone", Settings(**ALONE)),
    *(
        Way(f"HiFlow's {terms}, {reference}", Settings(**UNMIXED, **ALONE), reference, beta)
        for reference in ("picture", "trajectory")
        for terms, beta in (("direction", 0.0), ("direction and acceleration", BETA))
    ),
)
WAYS = {way.name: way for way in ALL}


class InFlow(nn.Module):
    """The denoiser in rectified flow's variables: x = (1 - t) z0 + t e."""

    def __init__(self, denoiser: nn.Module):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, t: Tensor, **args: Any) -> Tensor:
        signal = (1 - t)[:, None, None, None]
        return self.denoiser(x / signal, t / (1 - t), **args)


class HiFlow(nn.Module):
    """A denoiser in flow's variables whose estimates are drawn to a reference [steps][1, C, H, W].

    Direction: D <- D + a LP(R - D). Acceleration, v <- v + b (v' + u - u' - v) with u = (x - R) / t the velocity to the
    reference and ' that of the step before, is D <- D - b ((D - R) - t / t' (D' - R')), since v = (x - D) / t.
    a and b fall in a straight line over the steps.
    """

    def __init__(self, denoiser: nn.Module, reference: Sequence[Tensor], beta: float):
        super().__init__()
        self.denoiser = denoiser
        self._reference = reference
        self._beta = beta
        self._step = 0
        self._before: tuple[Tensor, Tensor] | None = None  # (t, D - R)

    def forward(self, x: Tensor, t: Tensor, **args: Any) -> Tensor:
        made, reference = self.denoiser(x, t, **args), self._reference[self._step]
        falling = 1 - self._step / len(self._reference)
        low = torch.stack([low_pass(plane, SCALE) for plane in (reference - made)[0]])[None]
        made = made + ALPHA * falling * low
        if self._before:
            then, apart = self._before
            made = made - self._beta * falling * (made - reference - t / then * apart)
        self._step, self._before = self._step + 1, (t, made - reference)
        return made


def estimates(denoiser: nn.Module, source: Tensor, sigmas: Tensor, seed: int, args: Mapping[str, Any]) -> list[Tensor]:
    """The model's estimate [1, C, h, w] at each of sigmas but the last, of a latent of its native size."""
    found: list[Tensor] = []
    x = (1 - sigmas[0]) * source + sigmas[0] * draw(torch.empty_like(source), [seed], 0)
    sample_euler(
        denoiser, x, sigmas, extra_args=dict(args), callback=lambda info: found.append(info["denoised"]), disable=True
    )
    return found


def large(latent: model.LatentModel, small: Tensor, size: tuple[int, int]) -> Tensor:
    """A latent [1, C, h, w] decoded, enlarged and encoded, as that of a source is."""
    pictures = latent.decode(small).clamp(-1, 1)
    return latent.encode(upscaling.prepared(pictures, size, Method("", Settings())))


def result(latent: model.LatentModel, case: Case, way: Way, one: Sources) -> Tensor:
    """The large picture [1, 3, H, W] in [-1, 1] of one source, in whole grey levels."""
    side, seed = model.SIZE * SCALE, one.seed + 2 * upscaling.STREAM
    (phase,) = walk((model.SIZE, model.SIZE), [(side, side)])
    settings = phase.settings(way.settings).of_model(phase.target, Known(model.SIZE // FACTOR, FACTOR))
    settings, sigmas = settings.replace(denoise=1.0), case.sigmas(way.settings)
    args = {"label": one.labels, "cfg": bench.CFG}
    z0 = latent.encode(upscaling.prepared(one.pictures, phase.target, Method("", settings)))
    denoiser: nn.Module = InFlow(latent.denoiser)
    if way.reference:
        reference = [z0] * case.steps
        if way.reference == "trajectory":
            small = estimates(denoiser, latent.encode(one.pictures), sigmas, seed + upscaling.STREAM, args)
            reference = [large(latent, each, phase.target) for each in small]
        denoiser = HiFlow(denoiser, reference, way.beta)
    mixed = Pass(sample_euler, z0, [seed], settings, flow())
    sampled = mixed.run(denoiser, None, sigmas=sigmas, extra_args=args, disable=True)
    made = latent.decode(settings.finished(sampled, z0, first=lambda: latent.encode(one.pictures))).clamp(-1, 1)
    if settings.fidelity:
        made = upscaling.kept_to(one.pictures, made, settings, seed, factor=FACTOR)
    return ((made + 1) * 127.5).round() / 127.5 - 1


def results(latent: model.LatentModel, case: Case, way: Way, sources: Sources) -> list[Tensor]:
    """Of each source; picture k has its noise from the seed + k."""
    rows = range(len(sources))
    some = (
        Sources(sources.kind, sources.pictures[k : k + 1], sources.labels[k : k + 1], sources.seed + k) for k in rows
    )
    return [result(latent, case, way, one) for one in some]


def row(case: Case, way: Way, readings: bench.Readings) -> dict[str, Any]:
    """What was measured, where it began, and what `bench.summary` tells."""
    begin = float(case.sigmas(way.settings)[0])
    where = {"sigma": round(begin, 3), "noise": round(begin / (1 - begin), 3)}
    return {"case": asdict(case), "method": way.name, **where, **bench.summary(readings)}


def levels(steps: int = 8) -> str:
    """Where denoise begins in noise levels, and the noise / signal at which as many steps of schedules begin."""
    even, shifted = Case(steps, "true", 1.0), Case(steps, "true", 3.0)
    low = float(shifted.schedule(1000)[-2])
    lines = [
        ["denoise", "noise / signal", "sigma of flow", "in steps: shift 1", "shift 3", "shift 3, Karras"],
        ["---"] * 6,
    ]
    for denoise in DENOISES:
        whole, noise = int(steps / denoise), noise_of(denoise)
        own = (even.schedule(whole), shifted.schedule(whole), get_sigmas_karras(whole, low, 1.0))
        begins = (float(sigmas[-(steps + 1)]) for sigmas in own)
        cells = (noise, flow_level(noise), *(begin / (1 - begin) for begin in begins))
        lines.append([f"{denoise:g}", *(f"{value:.2f}" for value in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--cases", type=int, nargs="+", default=range(1, len(CASES) + 1), help="their numbers, from 1")
    parser.add_argument("--part", choices=("tuning", "confirmation"), default="tuning")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    latent = model.load()
    chosen = bench.subjects(given.part, given.pictures)
    truths = bench.drawn(chosen, SCALE * model.SIZE)
    found: list[dict[str, Any]] = []
    page = f"# Flow\n\n    {shlex.join(['python', *sys.argv])}\n\n{levels()}\n"
    print(levels(), flush=True)
    for number in given.cases:
        case = Case(*CASES[number - 1])
        any_model = Model(latent.denoiser, "euler", case.steps, bench.CFG, space=latent.space())
        sources = bench.sources(latent, any_model, chosen, case.kind)
        rows = []
        for way in (WAYS[name] for name in given.ways):
            with torch.no_grad():
                readings = bench.measured(results(latent, case, way, sources), truths, sources)
            rows.append(row(case, way, readings))
            print(bench.table(rows[-1:]), flush=True)
        found += rows
        page += f"\n## {case.title}\n\n{bench.table(rows)}\n"
        facts.write(given.out / "flow.json", rows=found)
        (given.out / "flow.md").write_text(page)


if __name__ == "__main__":
    main()
