"""Whether what `itermix calibrate` ranks by agrees with the truth, on the latent model, whose truth is known.

    python benchmarks/calibrate_truth.py --out out/calibrate-truth

Every method enlarges held-out pictures of the tuning half to 512 px, as two kinds of sources: *true*, sharp renders,
and *soft* ones. It is judged once as `itermix calibrate` judges, which sees the source alone, and once against the
native render. Printed is Spearman's rank correlation over the methods' means, with its standard error by bootstrap over
the pictures; the same within each picture on average; over the better half of the methods alone, which are harder to
tell apart; and by how much the mixing that the score puts first is behind the best by the truth. OUT has the results
and their numbers, so that a run that is stopped goes on, and correlations.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import facts
import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from itermix.settings import Settings
from itermix.standalone import files
from itermix.standalone import metrics as statistics
from itermix.standalone.calibrate import numbers, search
from itermix.standalone.calibrate.score import score
from itermix.standalone.images import png, to_image, to_picture
from itermix.standalone.latent import bench, metrics, model
from itermix.standalone.latent.metrics import Array
from itermix.standalone.upscaling import Method, Model, Sources

SCALE = 2
KINDS = ("true", "soft")

AGAINST = ("score", "structure", "psnr", "ssim", "direction_16")
"""What is known of the truth: the score with the render in the place of the source, and metrics by themselves."""

Readings = dict[str, dict[str, float | None]]
"""{"free": metrics against the source alone, "known": against the native render}."""


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
        found.append(Way(Method(each.name, Settings(**values)), steps))
    return found


def sampled(latent: model.LatentModel, steps: int) -> Model:
    return Model(latent.denoiser, "dpmpp_2m", steps, bench.CFG, "karras", latent.space())


def made(latent: model.LatentModel, way: Way, source: Sources, file: Path) -> Tensor:
    """The result [1, 3, H, W] in [-1, 1] of one source, from its file if that is there."""
    if not file.exists():
        (result,) = bench.results(sampled(latent, way.steps), way.method, source, SCALE)
        files.write(file, png(to_image(result[0])))
    return to_picture(Image.open(file))[None]


def name_of(way: Way) -> str:
    return f"{way.method.name}, {way.steps} steps"


def judged(result: Tensor, truth: Tensor, source: Tensor) -> Readings:
    """The numbers of one result [1, 3, H, W] in [-1, 1], without the truth and with it."""
    result, truth, source = ((x + 1) / 2 for x in (result, truth, source))
    known = metrics.measured(result, truth, source)
    known["fidelity"] = numbers.fidelity(result, metrics.pool(truth, source))
    found = {"free": numbers.measured(result, source), "known": known}
    return {
        kind: {name: float(value[0]) if np.isfinite(value[0]) else None for name, value in values.items()}
        for kind, values in found.items()
    }


def readings(
    out: Path, chosen: Sequence[Way], part: str, count: int, kinds: Sequence[str] = KINDS
) -> dict[str, Readings]:
    """{"kind/number of the picture/method": readings} of a half of the held-out pictures, made and measured as far as
    they aren't there."""
    file = out / "readings.json"
    found: dict[str, Readings] = json.loads(file.read_text()) if file.exists() else {}
    latent = model.load()
    subjects = bench.subjects(part, count)
    truths = bench.drawn(subjects, SCALE * model.SIZE)
    with torch.no_grad():
        sources = {kind: bench.sources(latent, sampled(latent, chosen[0].steps), subjects, kind) for kind in kinds}
        for k in range(count):
            for kind, some in sources.items():
                one = Sources(kind, some.pictures[k : k + 1], some.labels[k : k + 1], some.seed + k)
                for way in chosen:
                    place = f"{kind}/{k}/{name_of(way)}"
                    if place not in found:
                        result = made(latent, way, one, out / "pictures" / f"{place}.png")
                        found[place] = judged(result, truths[k : k + 1], one.pictures)
            file.write_text(json.dumps(found))
    return found


def arrays(found: Mapping[str, Readings], kind: str, which: str, names: Sequence[str], count: int) -> dict[str, Array]:
    """{metric: [methods, pictures]}."""
    rows = [[found[f"{kind}/{k}/{name}"][which] for k in range(count)] for name in names]
    return {
        metric: np.array([[np.nan if each[metric] is None else each[metric] for each in row] for row in rows], float)
        for metric in rows[0][0]
    }


def correlations(free: Mapping[str, Array], known: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    """{what is known: {"rho", "se", "within", "better half"}} of metrics [methods, pictures]."""
    ours = score(free)
    theirs = {**known, "score": score(known, known=True)}
    count = ours.shape[1]
    drawn = statistics.resamples(count)
    found = {}
    for metric in AGAINST:
        truth = theirs[metric]
        better = np.argsort(-np.nanmean(truth, axis=1))[: (len(truth) + 1) // 2]
        found[metric] = {
            "rho": rho(ours, truth),
            "se": float(np.std([rho(ours[:, some], truth[:, some]) for some in drawn])),
            "within": float(np.mean([rho(ours[:, [k]], truth[:, [k]]) for k in range(count)])),
            "better half": rho(ours[better], truth[better]),
        }
    return found


def first(free: Mapping[str, Array], known: Mapping[str, Array], hires: int) -> dict[str, float]:
    """How far the mixing that the score puts first is behind the best by the truth, in points: {"behind", "se"}.

    The first `hires` methods are no mixings.
    """
    ours, theirs = score(free)[hires:], score(known, known=True)[hires:]
    apart = theirs[theirs.mean(axis=1).argmax()] - theirs[ours.mean(axis=1).argmax()]
    behind, se = metrics.mean_and_error(apart)
    return {"behind": behind, "se": se}


def rho(ours: Array, theirs: Array) -> float:
    """Spearman's correlation of the means over the pictures."""
    return float(spearmanr(np.nanmean(ours, axis=1), np.nanmean(theirs, axis=1)).statistic)


def line(kind: str, metric: str, of: Mapping[str, float]) -> str:
    """A row of the table in docs/calibrate.md."""
    cells = [f"{of['rho']:.2f} ± {of['se']:.2f}", f"{of['within']:.2f}", f"{of['better half']:.2f}"]
    return f"| {kind} | {metric} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--settings", type=int, default=15, help="that the search tries")
    given = parser.parse_args()
    chosen = ways(given.steps, given.settings)
    found = readings(given.out, chosen, "tuning", given.pictures)
    names = [name_of(way) for way in chosen]
    kept: dict[str, Any] = {}
    best: dict[str, Any] = {}
    for kind in KINDS:
        free, known = (arrays(found, kind, which, names, given.pictures) for which in ("free", "known"))
        kept[kind] = correlations(free, known)
        best[kind] = first(free, known, len(bench.SWEEP))
        print(*(line(kind, metric, of) for metric, of in kept[kind].items()), sep="\n")
        behind = f"{best[kind]['behind']:.2f} ± {best[kind]['se']:.2f}"
        print(f"The first by the score is behind the best by the truth by {behind}", flush=True)
    asked = {"pictures": given.pictures, "steps": given.steps, "methods": len(names)}
    facts.write(given.out / "correlations.json", asked=asked, correlations=kept, first=best)


if __name__ == "__main__":
    main()
