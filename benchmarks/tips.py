"""The tips of the ComfyUI Iterative Mixing nodes' page, each tried on the latent model.

    python benchmarks/tips.py --out benchmarks/results/tips.json && python tools/make_tips.py

What a tip speaks of is varied and the rest stays the preset ComfyUI node, with DPM++ 2M, Karras' schedule and CFG 3.
The pictures are held-out renders of the tuning half, and picture k has the same noise in all rows. What is in the file
already is kept, if it is of the same weights; `--tips` makes some of the rows alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import facts
import torch
from torch import nn

from itermix.model.deep_shrink import DeepShrink, attached, check, last_level
from itermix.settings import Settings
from itermix.settings.presets import expanded
from itermix.standalone.cells import finite
from itermix.standalone.latent import bench, model
from itermix.standalone.upscaling import Method, Model

STEPS = 20
MEASURED = ("psnr", "structure", "detail_16", "grain", "flecks")


@dataclass(frozen=True)
class Variant:
    """What is tried.

    Attributes:
        name: of the row.
        changes: what differs from the preset ComfyUI node.
        steps: that are run.
        scale: of the whole way.
        shrink: factor of Deep Shrink up to 0.35 of the steps, at block 3; 0: without.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    steps: int = STEPS
    scale: int = 2
    shrink: float = 0.0

    @property
    def settings(self) -> Settings:
        return Settings(**expanded({"preset": "ComfyUI node", **self.changes}))


@dataclass(frozen=True)
class Tip:
    """What the page asks for, where it is here, and what is tried; without variants it can't be on this model."""

    asks: str
    here: str
    variants: tuple[Variant, ...] = ()


AS_IT_COMES = Variant("as it comes")
IN_TWO = Variant("4x in two phases", scale=4)
ONE_PHASE = {"max_scale_per_phase": 4.0}
IN_ONE = Variant("4x in one phase", ONE_PHASE, scale=4)

TIPS = {
    "clean-up": Tip(
        "Clean up the grain by a second sampler at a denoise of 0.05 to 0.25.",
        "*Clean-up*",
        (AS_IT_COMES, *(Variant(f"clean-up {d}", {"cleanup": d}) for d in (0.05, 0.15, 0.25))),
    ),
    "denoise": Tip(
        "1. Play with the denoise: 1 has the most grain and the most detail, less needs less of a clean-up.",
        "*Denoise*",
        (AS_IT_COMES, *(Variant(f"denoise {d}", {"denoise": d}) for d in (0.7, 0.4))),
    ),
    "steps": Tip(
        "2. Start with 20 to 40 steps; fewer go astray.",
        "*Hires steps*, or *Sampling steps* in img2img",
        (AS_IT_COMES, Variant("8 steps", steps=8), Variant("40 steps", steps=40)),
    ),
    "scale": Tip(
        "3. Scale by no more than 2x at a time: 4x in two phases.",
        "*Scale per phase* 2, as it comes",
        (IN_TWO, IN_ONE),
    ),
    "controlnet": Tip(
        "4. ControlNet, of depth or pose, of the small picture.",
        "the WebUI's ControlNet, in every phase; [how](together.md)",
    ),
    "ip-adapter": Tip(
        "5. An IP-Adapter with the small picture.",
        "the WebUI's ControlNet with an IP-Adapter; [how](together.md)",
    ),
    "deep shrink": Tip(
        "6. PatchModelAddDownscale, with the scale so far as its factor.",
        "*Deep Shrink* 0.35; *Deep Shrink factor* 0 is the scale so far. While the weight of the source is near 1, as "
        "it is in these steps, the mixing overwrites what they do",
        (AS_IT_COMES, Variant("2x, factor 2", shrink=2.0)),
    ),
    "deep shrink, less guidance": Tip(
        "The same where the guidance lets go earlier.",
        "*Deep Shrink* 0.35, *Creativity* 0.5",
        (
            Variant("alpha 0.5", {"alpha": 0.5}),
            Variant("alpha 0.5, factor 2", {"alpha": 0.5}, shrink=2.0),
        ),
    ),
    "deep shrink in one phase": Tip(
        "The same where 4x is one phase.",
        "*Deep Shrink* 0.35, *Scale per phase* 4",
        (IN_ONE, Variant("4x in one phase, factor 4", ONE_PHASE, scale=4, shrink=4.0)),
    ),
    "alpha": Tip(
        "Try alpha_1 between 0.1 and 2.0.",
        "*Creativity*",
        (AS_IT_COMES, *(Variant(f"alpha {alpha}", {"alpha": alpha}) for alpha in (0.1, 0.5, 1.0, 2.0))),
    ),
    "schedule": Tip(
        "Choose between the blending schedules.",
        "*Weight curve* comfy-cosine, linear, logistic",
        (AS_IT_COMES, Variant("linear", {"curve": "linear"}), Variant("logistic", {"curve": "logistic"})),
    ),
    "stop": Tip(
        "A stop below 1 ends the blending earlier, one above 1 stretches it past the end.",
        "*Stop*",
        (AS_IT_COMES, *(Variant(f"stop {stop}", {"stop": stop}) for stop in (0.5, 1.5))),
    ),
    "normalize": Tip(
        "Normalize by a share of the noisiest latents, against a bias in them.",
        "*Normalize fraction*",
        (AS_IT_COMES, Variant("normalize fraction 0.25", {"normalize_fraction": 0.25})),
    ),
}


@contextlib.contextmanager
def deep_shrunk(denoiser: nn.Module, network: nn.Module, levels: torch.Tensor, factor: float) -> Iterator[None]:
    """Deep Shrink as it comes on the latent model's U-Net, which the built-in commands don't offer it."""
    settings = Settings(deep_shrink=0.35, deep_shrink_factor=factor)
    check(network, settings)
    shrink = DeepShrink(settings)
    progress = torch.arange(len(levels), dtype=torch.float64) / len(levels)
    with attached(network, shrink), shrink.following(denoiser, last_level(0.35, levels, progress)):
        yield


def measured(variant: Variant, latent: model.LatentModel, number: int) -> dict[str, float | None]:
    """{metric: its number for one picture}, None where it has none."""
    name, body = list(bench.subjects("tuning", number + 1).items())[number]
    whole = int(variant.steps / variant.settings.denoise)  # as in the hires pass, and by the node's scheduler
    sampled = Model(latent.denoiser, "dpmpp_2m", whole, bench.CFG, "karras", latent.space())
    sources = bench.sources(latent, sampled, {name: body}, "true", number)
    method = Method(variant.name, variant.settings)
    with contextlib.ExitStack() as stack:
        if variant.shrink:
            levels = sampled.sigmas(whole)[:-1]
            stack.enter_context(deep_shrunk(latent.denoiser, latent.denoiser.unet, levels, variant.shrink))
        results = list(bench.results(sampled, method, sources, variant.scale))
    found = bench.measured(results, bench.drawn({name: body}, model.SIZE * variant.scale), sources)
    return {metric: finite(float(found[metric][0])) for metric in MEASURED}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--tips", nargs="+", choices=TIPS, default=list(TIPS))
    options = parser.parse_args()
    digest = hashlib.sha256(model.WEIGHTS.read_bytes()).hexdigest()
    rows: dict[str, dict[str, list[float | None]]] = {}
    if options.out.exists():
        before = json.loads(options.out.read_text())
        rows = before["rows"] if before["weights"] == digest else {}
    latent = model.load()
    for variant in (variant for name in options.tips for variant in TIPS[name].variants):
        row = rows.setdefault(variant.name, {metric: [] for metric in MEASURED})
        for number in range(len(row[MEASURED[0]]), options.pictures):
            for metric, value in measured(variant, latent, number).items():
                row[metric].append(value)
            print(variant.name, number + 1, flush=True)
            facts.write(options.out, weights=digest, pictures=options.pictures, rows=rows)


if __name__ == "__main__":
    main()
