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
from collections.abc import Mapping, Sequence
from pathlib import Path

import facts
import numpy as np
from calibrate_truth import KINDS, Readings, Way, arrays, name_of, readings
from webui_quality import held_out

from itermix.settings import Settings
from itermix.settings.presets import expanded
from itermix.standalone.calibrate.score import score
from itermix.standalone.cells import cell
from itermix.standalone.images import png
from itermix.standalone.latent import bench, model
from itermix.standalone.latent.metrics import mean_and_error
from itermix.standalone.upscaling import Method

SHARP = KINDS[0]
KEPT = "what calibrate put first"
BEST_PRESETS, BEST_STRENGTHS = ("Balanced", "Faithful"), (0.2, 0.3)
"""By docs/quality.md. The others are farther behind than the standard errors are wide."""

DENOISE = (0.2, 0.3)
"""Of the mixings that are no presets."""

MEASURES = ("score", "F, hundredths")
Measures = Mapping[str, Sequence[float]]
"""{measure: of each picture}."""


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


def measures(found: Mapping[str, Readings], kind: str, chosen: Sequence[Way], count: int) -> dict[str, Measures]:
    """{method: its measures against the native renders}."""
    known = arrays(found, kind, "known", [name_of(way) for way in chosen], count)
    values = score(known, known=True), 100 * known["structure"]
    return {
        way.method.name: {measure: each[k].round(4).tolist() for measure, each in zip(MEASURES, values)}
        for k, way in enumerate(chosen)
    }


def lines(values: Mapping[str, Measures]) -> list[str]:
    """The table: the means of every method, and how far it is ahead of what was put first."""
    heads = [head for measure in MEASURES for head in (measure, "ahead of the first")]
    made = [f"|  | {' | '.join(heads)} |", f"|{' --- |' * (len(heads) + 1)}"]
    for name, of in values.items():
        cells = []
        for measure in MEASURES:
            own = np.array(of[measure])
            cells += [cell(*mean_and_error(each), 1) for each in (own, own - values[KEPT][measure])]
        made.append(f"| {name} | {' | '.join(cells)} |")
    return made


def confirm(out: Path, report: Path, kinds: Sequence[str], count: int, steps: int) -> None:
    first = kept(report)
    print(f"{KEPT}: {dict(first.changed())}")
    chosen = ways(first, steps)
    found = readings(out, chosen, "confirmation", count, kinds)
    told = {kind: measures(found, kind, chosen, count) for kind in kinds}
    for kind, values in told.items():
        print(f"\n{kind}, {count} pictures\n", *lines(values), sep="\n")
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
