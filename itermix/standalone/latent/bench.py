"""The benchmark of the small latent model: every method against hires fix and, where there is one, against the truth.

Two kinds of sources, since they behave differently: held-out renders, sharp at their own pixels, whose truth at every
size is known; and samples of the model, which its autoencoder has blurred. Noise is paired: picture k has the same in
all methods.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from itermix.presets import expanded
from itermix.settings import Settings
from itermix.standalone import upscaling
from itermix.standalone.images import to_image
from itermix.standalone.latent import metrics, pictures
from itermix.standalone.latent.model import SIZE, LatentModel
from itermix.standalone.upscaling import Method, Model, Sources

CFG = 3.0
SEED = 40_000
STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
ENLARGED = Method("enlarged", 0.0)
SWEEP = tuple(Method(f"hires fix {strength:g}", strength) for strength in STRENGTHS)
ROUND_TRIP = "truth, encoded and decoded"

COLUMNS = {
    "psnr_source": ("PSNR src", 2),
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 3),
    "detail_16": ("det. 16", 3),
    "detail_32": ("det. 32", 3),
    "direction_16": ("dir. 16", 3),
    "precision": ("precis.", 3),
    "recall": ("recall", 3),
    "structure": ("F", 3),
    "spurious": ("spur. %", 2),
    "contrast": ("contr. %", 2),
    "mean": ("mean", 2),
    "grain": ("grain", 2),
    "flecks": ("flecks", 2),
}
"""{metric: (heading, digits after the point)}."""

PARTS = {"tune": "tuning", "confirm": "confirmation"}
"""{name on the command line: half of the held-out pictures}. What was tuned on one is confirmed, once, on the other."""

Readings = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """What a row is measured over: which sources, how much larger, and how they are sampled."""

    kind: str
    scale: int
    sampler: str
    schedule: str
    steps: int
    cfg: float = CFG

    @property
    def title(self) -> str:
        origin = {"model": "samples of the model", "true": "held-out renders"}[self.kind]
        return f"{origin}, {self.scale}x to {SIZE * self.scale} px, {self.sampler}, {self.schedule}, {self.steps} steps"


def mixings() -> list[Method]:
    """The default, what of it is guidance alone, and the other presets of ours."""
    return [
        Method(f"{Settings().blending} (default)", Settings()),
        Method("default, guidance alone", Settings(detail=0.0, fidelity=0.0), back_projection=False),
        Method("Faithful", Settings(**expanded({"preset": "Faithful"}))),
        Method("Creative", Settings(**expanded({"preset": "Creative"}))),
    ]


def subjects(part: str, count: int) -> dict[str, str]:
    """{name: SVG elements} of the first `count` pictures of "tuning" or "confirmation", which are in random order."""
    return dict(list(pictures.held_out(part).items())[:count])


def drawn(chosen: Mapping[str, str], size: int) -> Tensor:
    """Native renders [N, 3, size, size] in [-1, 1]."""
    renders = np.stack([pictures.truth(name, body, size) for name, body in chosen.items()])
    return torch.from_numpy(renders).permute(0, 3, 1, 2).float() / 127.5 - 1


def sources(latent: LatentModel, model: Model, chosen: Mapping[str, str], kind: str, first: int = 0) -> Sources:
    """The pictures to be upscaled: renders ("true") or samples of the model of the same names ("model")."""
    seed = SEED + first
    prompts = [pictures.prompt(name, pictures.background(name)) for name in chosen]
    labels = latent.text.encode(prompts)
    if kind == "true":
        return Sources(kind, drawn(chosen, SIZE), labels, seed)
    sampled = dataclasses.replace(model, sampler="dpmpp_2m", steps=30, schedule="karras")
    found = upscaling.direct(sampled, labels, (SIZE, SIZE), seed, CFG)
    return Sources(kind, _rounded(found), labels, seed)


def results(model: Model, method: Method, some: Sources, scale: int) -> Iterator[Tensor]:
    """The large pictures [1, 3, H, W] in [-1, 1] of each source in turn, in whole grey levels."""
    for k in range(len(some)):
        one = Sources(some.kind, some.pictures[k : k + 1], some.labels[k : k + 1], some.seed + k)
        *_, last = upscaling.phases(model, method, one, (SIZE * scale, SIZE * scale))
        yield _rounded(last)


def measured(results: Sequence[Tensor], truths: Tensor | None, some: Sources) -> dict[str, np.ndarray]:
    """{metric: [N]}, see `metrics`."""
    rows = [
        metrics.measured(
            (result + 1) / 2,
            None if truths is None else (truths[k : k + 1] + 1) / 2,
            (some.pictures[k : k + 1] + 1) / 2,
        )
        for k, result in enumerate(results)
    ]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def run(
    latent: LatentModel,
    out: Path,
    part: str,
    count: int,
    cases: Sequence[Case],
    mixings: Sequence[Method],
    sweep: Sequence[Method] = SWEEP,
) -> list[dict[str, Any]]:
    """Measure mixings against hires fix in every case, print the tables, and write them and the pictures to `out`.

    Raises:
        SettingsError: settings that don't fit the number of steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    chosen = subjects(part, count)
    rows: list[dict[str, Any]] = []
    with tqdm(total=len(cases) * (len(mixings) + len(sweep) + 1), unit="method") as bar:
        for case in cases:
            model = Model(latent.denoiser, case.sampler, case.steps, case.cfg, case.schedule, latent.space())
            some = sources(latent, model, chosen, case.kind)
            truths = drawn(chosen, SIZE * case.scale) if case.kind == "true" else None
            found: dict[str, Readings] = {}
            if truths is not None:
                there_and_back = [latent.decode(latent.encode(truth[None])).clamp(-1, 1) for truth in truths]
                found[ROUND_TRIP] = measured([_rounded(x) for x in there_and_back], truths, some)
            sheet = [some.pictures] + ([] if truths is None else [truths])
            for method in (ENLARGED, *sweep, *mixings):
                bar.set_postfix_str(f"{case.title}: {method.name}")
                made = list(results(model, method, some, case.scale))
                found[method.name] = measured(made, truths, some)
                sheet.append(torch.cat(made))
                bar.update()
            rows += rows_of(case, found, [method.name for method in sweep], {m.name: m.recipe for m in mixings})
            of_case = [row for row in rows if row["case"] == dataclasses.asdict(case)]
            print(f"\n{case.title}, {len(some)} pictures\n{table(of_case)}", flush=True)
            write_sheet(sheet, out / f"{case.kind}-{case.scale}x-{case.sampler}-{case.schedule}-{case.steps}.png")
            (out / "report.json").write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
    return rows


def rows_of(
    case: Case, found: Mapping[str, Readings], sweep: Sequence[str], recipes: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row for each method: means, their standard errors, and what it gains over hires fix of equal detail."""
    rows = []
    for name, readings in found.items():
        row: dict[str, Any] = {"case": dataclasses.asdict(case), "method": name, "n": len(readings["psnr_source"])}
        for metric, values in readings.items():
            row |= {metric: _finite(np.nanmean(values)), f"{metric}_se": _finite(_standard_error(values))}
        if isinstance(recipes.get(name), Settings):
            row["settings"] = dict(recipes[name].changed())
        if len(sweep) > 1 and name in recipes:
            for metric in ("psnr_source", "precision", "structure"):
                gain, error = metrics.gain_at_equal_detail(readings, [found[other] for other in sweep], metric)
                row |= {f"{metric}_gain": _finite(gain), f"{metric}_gain_se": _finite(error)}
        rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Aligned plain text, with a line for each row."""
    columns = {metric: shown for metric, shown in COLUMNS.items() if metric in rows[0]}
    columns |= {"psnr_source_gain": ("PSNR gain", 2), "precision_gain": ("prec. gain", 3)}
    width = max(len(row["method"]) for row in rows)
    lines = [" " * width + "".join(f"{heading:>11}" for heading, _ in columns.values())]
    for row in rows:
        values = [(row.get(metric), digits) for metric, (_, digits) in columns.items()]
        cells = "".join(f"{'-' if value is None else f'{value:.{digits}f}':>11}" for value, digits in values)
        lines.append(f"{row['method']:{width}}{cells}")
    return "\n".join(lines)


def write_sheet(rows: Sequence[Tensor], file: Path, shown: int = 6) -> None:
    """Rows of pictures [N, 3, h, w] under each other, the smaller enlarged with square pixels."""
    side = max(row.shape[-1] for row in rows)
    sheet = Image.new("RGB", (side * min(shown, len(rows[0])), side * len(rows)))
    for down, row in enumerate(rows):
        for right, picture in enumerate(row[:shown]):
            sheet.paste(to_image(picture).resize((side, side), Image.Resampling.NEAREST), (right * side, down * side))
    sheet.save(file)


def _rounded(x: Tensor) -> Tensor:
    """Pictures in [-1, 1] in the 256 levels that a file has."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def _standard_error(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else math.nan


def _finite(value: float) -> float | None:
    """Rounded to four digits after the point; None if it has no finite value, as JSON knows none."""
    return round(float(value), 4) if math.isfinite(value) else None
