"""The benchmark: one command for the report, its numbers as JSON, the plot of the trade-off, and the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from itermix.standalone import plots, report, sheets
from itermix.standalone.evaluation import DIRECT, ENLARGED, SWEEP, add_true_renders, evaluate, rows, write_json
from itermix.standalone.upscaling import Method, Model, Sources, model_sources, true_sources


@dataclass(frozen=True)
class Effort:
    """Size of a benchmark: pictures per row, sampler steps, native renders to compare with."""

    pictures: int
    steps: int
    references: int


FULL = Effort(pictures=64, steps=16, references=512)
QUICK = Effort(pictures=6, steps=12, references=128)

SOURCES = {
    "model": model_sources,
    "true": lambda model, count, seed: true_sources(count, seed),
}
"""{kind: function of a model, how many pictures, and a seed, picture k being that of seed + k}."""


def run(
    model: Model,
    out: Path,
    sources: Iterable[Sources],
    scales: Sequence[int],
    mixings: Sequence[Method],
    references: int,
    command: str,
) -> None:
    """Measure the mixings against direct sampling and the hires fix sweep.

    Writes report.md, report.json, front.png and contact-sheet.png to `out`, and prints the tables.

    Args:
        sources: what is upscaled, of one kind or several; taken once.
        scales: 2, 4 or both.
        mixings: what is measured, with settings as their recipes.
        references: native renders per scale that detail and patch distance are measured against.
        command: the command line, for the report.

    Raises:
        SettingsError: settings that don't fit the number of steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    groups = evaluate(model, [ENLARGED, DIRECT, *SWEEP, *mixings], sources, scales, references)
    add_true_renders(groups)
    found = rows(groups, model)
    write_json(out / "report.json", found)
    (out / "report.md").write_text(report.markdown(groups, found, command))
    plots.front(groups, out / "front.png")
    sheets.sheet_of_groups(groups, out / "contact-sheet.png")
    print(report.tables(groups, found))
