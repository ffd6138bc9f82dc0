"""The demonstration: a few pictures, upscaled every way, on one sheet."""

from __future__ import annotations

from pathlib import Path

from itermix.analysis import sheet
from itermix.analysis.record import Analysis
from itermix.standalone import report, sheets
from itermix.standalone.evaluation import DIRECT, ENLARGED, SEEDS, Group, evaluate, mixings, rows, write_json
from itermix.standalone.network import RESOLUTION
from itermix.standalone.upscaling import Method, Model, model_sources, phases

PICTURES = 3
REFERENCES = 64


def methods() -> list[Method]:
    """Enlarging alone, direct sampling, hires fix weak and strong, and the mixings."""
    return [ENLARGED, DIRECT, *(Method(f"hires fix {strength:g}", strength) for strength in (0.3, 0.5)), *mixings()]


def run(model: Model, out: Path, count: int = PICTURES, seed: int = SEEDS["demo"]) -> list[Group]:
    """Upscale `count` pictures of the model 2x and 4x; write contact-sheet.png and metrics.json, print the metrics."""
    out.mkdir(parents=True, exist_ok=True)
    groups = evaluate(model, methods(), [model_sources(model, count, seed)], references=REFERENCES, shown=count)
    found = rows(groups, model)
    write_json(out / "metrics.json", found)
    sheets.sheet_of_groups(groups, out / "contact-sheet.png")
    print(report.tables(groups, found))
    return groups


def analyse(model: Model, out: Path, seed: int = SEEDS["demo"]) -> list[Path]:
    """Write the analysis of the first picture's way to 4x with the default mixing; gives the names of the files."""
    source = model_sources(model, 1, seed)
    analyses: list[Analysis] = []
    for _ in phases(model, mixings()[0], source, (4 * RESOLUTION, 4 * RESOLUTION), analyses):
        pass
    return sheet.write(analyses, 0, out / "first-picture.png")
