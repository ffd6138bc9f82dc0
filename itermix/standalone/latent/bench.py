"""The benchmark of the small latent model: every method against hires fix and, where there is one, against the truth.

Kinds of sources, since they behave differently: held-out renders, sharp at their own pixels; the same soft at their own
pixels, as pictures are that were enlarged before or painted by a weak model; and samples of the model. Of the first two
the truth at every size is known. Noise is paired: picture k has the same in all methods.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from itermix.settings import Settings
from itermix.settings.presets import expanded
from itermix.standalone import upscaling
from itermix.standalone.cells import cell, finite
from itermix.standalone.images import to_image
from itermix.standalone.latent import metrics, pictures
from itermix.standalone.latent.model import SIZE, LatentModel
from itermix.standalone.upscaling import Method, Model, Sources

CFG = 3.0
SEED = 40_000
STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
ENLARGED = Method("enlarged", 0.0)
ROUND_TRIP = "truth, encoded and decoded"

PARTS = {"tune": "tuning", "confirm": "confirmation"}
"""{name on the command line: half of the held-out pictures}. What was tuned on one is confirmed, once, on the other."""

Readings = Mapping[str, np.ndarray]


def sweep_of(strengths: Iterable[float]) -> tuple[Method, ...]:
    return tuple(Method(f"hires fix {strength:g}", strength) for strength in strengths)


SWEEP = sweep_of(STRENGTHS)


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
        origin = {"model": "samples of the model", "true": "held-out renders", "soft": "soft renders"}[self.kind]
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
    """The pictures to be upscaled: renders ("true"), renders of a quarter of the size, enlarged and through the
    autoencoder ("soft"), or samples of the model of the same names ("model")."""
    seed = SEED + first
    prompts = [pictures.prompt(name, pictures.background(name)) for name in chosen]
    labels = latent.text.encode(prompts)
    if kind == "true":
        return Sources(kind, drawn(chosen, SIZE), labels, seed)
    if kind == "soft":
        return Sources(kind, softened(latent, chosen, SIZE), labels, seed)
    sampled = dataclasses.replace(model, sampler="dpmpp_2m", steps=30, schedule="karras")
    found = upscaling.direct(sampled, labels, (SIZE, SIZE), seed, CFG)
    return Sources(kind, _rounded(found), labels, seed)


def softened(latent: LatentModel, chosen: Mapping[str, str], size: int) -> Tensor:
    """Renders [N, 3, size, size] in [-1, 1] of a quarter of the size, enlarged and through the autoencoder."""
    enlarged = upscaling.enlarge(drawn(chosen, size // 4), (size, size))
    return _rounded(latent.decode(latent.encode(enlarged)))


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
    chosen: Mapping[str, str],
    cases: Sequence[Case],
    mixings: Sequence[Method],
    command: str,
    sweep: Sequence[Method] = SWEEP,
) -> list[dict[str, Any]]:
    """Measure mixings against hires fix in every case, and print the tables.

    Writes report.json, report.md, which begins with the command line, and a sheet of pictures for each case to `out`.

    Args:
        chosen: {name: SVG elements} of the pictures, see `subjects`.

    Raises:
        SettingsError: settings that don't fit the number of steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    page = f"# Benchmark of the latent model\n\n    {command}\n"
    with tqdm(total=len(cases) * (len(mixings) + len(sweep) + 1), unit="method") as bar:
        for case in cases:
            model = Model(latent.denoiser, case.sampler, case.steps, case.cfg, case.schedule, latent.space())
            some = sources(latent, model, chosen, case.kind)
            truths = drawn(chosen, SIZE * case.scale) if case.kind != "model" else None
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
            text = f"\n## {case.title}, {len(some)} pictures\n\n{table(of_case)}\n"
            print(text, flush=True)
            page += text
            (out / "report.md").write_text(page, encoding="utf-8")
            write_sheet(sheet, out / f"{case.kind}-{case.scale}x-{case.sampler}-{case.schedule}-{case.steps}.png")
            (out / "report.json").write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
    return rows


def rows_of(
    case: Case, found: Mapping[str, Readings], sweep: Sequence[str], recipes: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row for each method: what `summary` tells, and of those in `recipes` what `gains` tells."""
    rows = []
    for name, readings in found.items():
        row: dict[str, Any] = {"case": dataclasses.asdict(case), "method": name, **summary(readings)}
        if isinstance(recipes.get(name), Settings):
            row["settings"] = dict(recipes[name].changed())
        if name in recipes:
            row |= gains(readings, [found[other] for other in sweep])
        rows.append(row)
    return rows


def summary(readings: Readings) -> dict[str, Any]:
    """How many pictures there are, and {metric: mean} and {metric_se: its standard error}."""
    found: dict[str, Any] = {"n": len(next(iter(readings.values())))}
    for metric, values in readings.items():
        mean, error = metrics.mean_and_error(values)
        found |= {metric: finite(mean), f"{metric}_se": finite(error)}
    return found


def gains(readings: Readings, front: Sequence[Readings]) -> dict[str, float | None]:
    """{metric_gain: what there is more of it than in a front of two strengths or more at equal detail}, and _gain_se.

    All over the same pictures, of which there is one at least.
    """
    found: dict[str, float | None] = {}
    for metric in metrics.AT_EQUAL_DETAIL if len(front) > 1 else ():
        gain, error = metrics.gain_at_equal_detail(readings, front, metric)
        found |= {f"{metric}_gain": finite(gain), f"{metric}_gain_se": finite(error)}
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown with a line for each row: means, one standard error after ±."""
    columns = {metric: shown for metric, shown in metrics.SHOWN.items() if metric in rows[0]}
    if any(f"{metrics.AT_EQUAL_DETAIL[0]}_gain" in row for row in rows):
        for metric in metrics.AT_EQUAL_DETAIL:
            heading, digits = metrics.SHOWN[metric]
            columns[f"{metric}_gain"] = (f"{heading}, equal detail", digits)
    heads = ["method", "n", *(heading for heading, _ in columns.values())]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        cells = [cell(row.get(metric), row.get(f"{metric}_se"), digits) for metric, (_, digits) in columns.items()]
        lines.append([row["method"], str(row["n"]), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
