"""`itermix calibrate` on the latent model in a real WebUI, and what it put first against the truth, on other pictures.

    python benchmarks/calibrate_latent.py sources --out out/calibrate-latent
    python -m itermix calibrate --server http://127.0.0.1:7860 --pictures out/calibrate-latent/pictures \\
        --out out/calibrate-latent/calibrated --budget 10 --keep Mine
    python benchmarks/calibrate_latent.py confirm --out out/calibrate-latent

*sources* writes held-out renders of the tuning half, each with its prompt, as pictures of one's own. *confirm* paints
pictures of the confirmation half in the package by what the calibration puts first, by mixings with less denoise, and
by what docs/quality.md finds best of presets and hires fix. It prints the means against the native renders, and by how
much each of the others is ahead of what was put first, picture by picture: by the score, with the render in the place
of the source, and by F, of the edges, in hundredths. OUT/confirmed has the pictures and the numbers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import facts
from calibrate_truth import KINDS, Readings, Way, arrays, name_of, readings
from webui_quality import held_out

from itermix.settings import Settings
from itermix.settings.presets import expanded
from itermix.standalone.calibrate.score import score
from itermix.standalone.cells import cell
from itermix.standalone.images import png
from itermix.standalone.latent import bench, model
from itermix.standalone.latent.metrics import Array, mean_and_error
from itermix.standalone.upscaling import Method

SHARP = KINDS[0]
KEPT = "what calibrate put first"
BEST_PRESETS, BEST_STRENGTHS = ("Balanced", "Faithful"), (0.2, 0.3)
"""By docs/quality.md. The others are farther behind than the standard errors are wide."""

DENOISE = (0.2, 0.3)
"""Of the mixings that are no presets."""

MEASURES = {"score": 1, "F, hundredths": 1}
"""{name: digits after the point}."""


def write_sources(folder: Path, count: int, steps: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for picture in held_out("tuning", model.SIZE, [], seed=1, count=count):
        how = f"Steps: {steps}, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: {bench.CFG}, Seed: {picture.seed}"
        (folder / f"{picture.seed:02d} {picture.name}.png").write_bytes(png(picture.source, f"{picture.prompt}\n{how}"))


def kept(report: Path) -> Settings:
    """What a report puts first."""
    told = json.loads(report.read_text(encoding="utf-8"))
    (row,) = (row for row in told["rows"] if row["name"] == told["best"])
    names = {parameter.name for parameter in Settings.parameters()}
    return Settings(**{name: value for name, value in row["settings"].items() if name in names})


def ways(first: Settings, steps: int) -> list[Way]:
    """What the calibration put first, and what it is held against; `steps` are of hires fix."""
    methods = [Method(KEPT, first)]
    methods += [Method(name, Settings(**expanded({"preset": name}))) for name in BEST_PRESETS]
    methods += [Method(f"denoise {denoise:g}", Settings(denoise=denoise)) for denoise in DENOISE]
    methods += [Method(f"hires fix {strength:g}", strength) for strength in BEST_STRENGTHS]
    return [Way(method, steps) for method in methods]


def measures(found: dict[str, Readings], kind: str, chosen: Sequence[Way], count: int) -> dict[str, Array]:
    """{measure: [methods, pictures]} against the native renders."""
    known = arrays(found, kind, "known", [name_of(way) for way in chosen], count)
    return dict(zip(MEASURES, (score(known, known=True), 100 * known["structure"])))


def line(name: str, values: dict[str, Array], number: int) -> str:
    """Of the table: a way's means, and how far the first is behind it."""
    cells = []
    for measure, digits in MEASURES.items():
        own = values[measure][number]
        cells += [cell(*mean_and_error(each), digits) for each in (own, own - values[measure][0])]
    return f"| {name} | {' | '.join(cells)} |"


def confirm(out: Path, report: Path, kinds: Sequence[str], count: int, steps: int) -> None:
    first = kept(report)
    print(f"{KEPT}: {dict(first.changed())}")
    chosen = ways(first, steps)
    found = readings(out, chosen, "confirmation", count, kinds)
    told = {}
    for kind in kinds:
        values = measures(found, kind, chosen, count)
        heads = [head for measure in MEASURES for head in (measure, "ahead of the first")]
        print(f"\n{kind}, {count} pictures\n\n|  | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 1)}")
        print(*(line(way.method.name, values, k) for k, way in enumerate(chosen)), sep="\n", flush=True)
        told[kind] = {
            way.method.name: {measure: list(of[k]) for measure, of in values.items()} for k, way in enumerate(chosen)
        }
    asked = {"pictures": count, "steps of hires fix": steps}
    facts.write(out / "confirmed.json", asked=asked, kept=dict(first.changed()), values=told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("sources", "confirm"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[SHARP])
    parser.add_argument("--steps", type=int, help="of the sources' infotext (default 12), or of hires fix (20)")
    given = parser.parse_args()
    if given.part == "sources":
        write_sources(given.out / "pictures", given.pictures, given.steps or 12)
    else:
        report = given.out / "calibrated" / "report.json"
        confirm(given.out / "confirmed", report, given.kinds, given.pictures, given.steps or 20)


if __name__ == "__main__":
    main()
