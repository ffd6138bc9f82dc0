"""Write docs/calibrated.md from the reports in docs/data/calibrated: python tools/make_calibrated.py

A report is the report.json of `itermix calibrate`, as it is attached to an issue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itermix.standalone.calibrate import report
from itermix.standalone.cells import cell

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "calibrated.md"
REPORTS = ROOT / "docs" / "data" / "calibrated"

HEAD = """# What is best for which checkpoint

Reports of [`itermix calibrate`](calibrate.md). To add yours, attach the `report.json` of its folder to an issue: it has
settings, versions and numbers, and neither prompts nor pictures. This page is made of them by

    python tools/make_calibrated.py

"Best" is by the score, which sees the source alone, and has no eye. The tables have what was tried on all pictures;
what the search left behind is in `docs/data/calibrated`.
"""


def page() -> str:
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(REPORTS.glob("*.json"))]
    lines = [["checkpoint", "network", "", "sampling", "best by the numbers", "score", "against"]]
    lines.append(["---"] * len(lines[0]))
    lines += [line(each) for each in reports]
    table = "\n".join(f"| {' | '.join(each)} |" for each in lines)
    return "\n".join([HEAD, table, "", *(part for each in reports for part in section(each))]).rstrip() + "\n"


def line(told: Mapping[str, Any]) -> list[str]:
    """Of the table of all checkpoints."""
    rows = {row["name"]: row for row in told["rows"]}
    best = rows[told["best"]]
    hires = max((row for row in told["rows"] if row["kind"] == "hires fix"), key=lambda row: row["score"])
    name = f"{told['checkpoint']} [{told['hash']}]"
    against = f"{hires['name']}: {cell(hires['score'], hires['score_se'], 1)}"
    size = f"{told['scale']}x of {', '.join(told['sizes'])}, {told['pictures']} pictures"
    score = cell(best["score"], best["score_se"], 1)
    return [name, told["network"] or "-", size, report.generation(told), told["best"], score, against]


def section(told: Mapping[str, Any]) -> list[str]:
    """What was tried on all pictures of one report."""
    version = f"WebUI {told['webui'] or 'not known'}, itermix {told['itermix']}, {told['minutes']:g} minutes"
    rows = [row for row in told["rows"] if row["n"] == told["pictures"]]
    return [f"## {told['checkpoint']}", "", f"{version}.", "", report.best(told), "", report.table(rows), ""]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
