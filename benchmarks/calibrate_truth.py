"""Whether what `itermix calibrate` ranks by agrees with the truth, on the latent model, whose truth is known.

    python benchmarks/calibrate_truth.py --out out/calibrate-truth

Every method enlarges held-out pictures of the tuning half to 512 px, as two kinds of sources: *true*, sharp renders,
and *soft* ones. It is judged once as `itermix calibrate` judges, which sees the source alone, and once against the
native render. Printed is Spearman's rank correlation over the methods, with its standard error by bootstrap over the
pictures, and the same within each picture on average. OUT/pictures keeps the results, so that a run that is stopped goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from itermix.settings import Settings
from itermix.standalone.calibrate import search
from itermix.standalone.images import to_image, to_picture
from itermix.standalone.latent import bench, model
from itermix.standalone.upscaling import Method, Model, Sources

SCALE = 2
KINDS = ("true", "soft")


@dataclasses.dataclass(frozen=True)
class Way:
    """A method, and the steps that it is sampled with."""

    method: Method
    steps: int


def ways(steps: int, tried: int) -> list[Way]:
    """Hires fix, presets and settings that the search tries, where the request has so many steps."""
    balanced, *others = search.presets()
    mixing = [balanced, *others, *search.around(balanced, tried)]
    names = {parameter.name for parameter in Settings.parameters()}
    found = [Way(method, steps) for method in bench.SWEEP]
    for each in mixing:
        values = {name: value for name, value in each.values.items() if name in names}
        found.append(Way(Method(each.name, Settings(**values)), each.steps(steps)))
    return found


def made(latent: model.LatentModel, way: Way, source: Sources, file: Path) -> Tensor:
    """The result [1, 3, H, W] in [-1, 1] of one source, from its file if that is there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        built_in = Model(latent.denoiser, "dpmpp_2m", way.steps, bench.CFG, "karras", latent.space())
        (result,) = bench.results(built_in, way.method, source, SCALE)
        to_image(result[0]).save(file)
    return to_picture(Image.open(file))[None]


def pictures(out: Path, chosen: Sequence[Way], count: int, steps: int) -> None:
    latent = model.load()
    built_in = Model(latent.denoiser, "dpmpp_2m", steps, bench.CFG, "karras", latent.space())
    subjects = bench.subjects("tuning", count)
    with torch.no_grad():
        sources = {kind: bench.sources(latent, built_in, subjects, kind) for kind in KINDS}
        for k in range(count):
            for kind, some in sources.items():
                one = Sources(kind, some.pictures[k : k + 1], some.labels[k : k + 1], some.seed + k)
                for way in chosen:
                    made(latent, way, one, out / "pictures" / kind / str(k) / f"{way.method.name}, {way.steps}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--settings", type=int, default=15, help="that the search tries")
    given = parser.parse_args()
    pictures(given.out, ways(given.steps, given.settings), given.pictures, given.steps)
