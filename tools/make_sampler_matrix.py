"""Measure every sampler and scheduler of the listed WebUIs with mixing: python tools/make_sampler_matrix.py [NAME ...]

Writes the rows of these WebUIs into docs/data/sampler-matrix.json, leaves those of others there as they are, and makes
docs/samplers.md of all. Without a name all are measured; see docs/development.md for the list. --page makes the page
only.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "data" / "sampler-matrix.json"
PAGE = ROOT / "docs" / "samplers.md"
Row = dict[str, Any]

HEAD = """# Samplers and schedulers

Made by `python tools/make_sampler_matrix.py` from [data/sampler-matrix.json](data/sampler-matrix.json), which it
measures in running WebUIs.

Every sampler is mixed once a step, at the noise level that the step starts from. Nothing is ever switched to another
sampler. How it is done depends on the sampler:

- Where it is known which of its model calls start a step, the state is blended just before these.
- **Restart, DPM adaptive and UniPC** choose noise levels of their own. A step's weight is that of its noise level.
- **DPM fast** takes blocks of up to three model calls; a block is its step.
- **UniPC** shows its model only a forecast of the next state. The state itself is blended where UniPC hands it to its
  callback.
- **All others**, from other extensions or newer WebUIs, are run one step at a time. That is right for any sampler, but
  one that remembers earlier steps (SA-Solver, RES) forgets them, and is then of first order.
- A sampler without noise levels, the UniPC of Forge Neo and the RES Solver of reForge are refused before sampling
  with a sentence that names another.

Start at step and end at step can't be set for samplers that choose their steps themselves.

## Samplers

In a cell: model calls per step / blends per step in img2img; in the hires pass after the semicolon, if they differ
there. Each was run with weight 1, where a state that was blended is z' of its noise level and nothing else is. The last
step to sigma 0 has one call, so two calls a step are fewer on average. *refused*: see the reasons below. *failed*: the
WebUI fails there without mixing, too.
"""


def measured(name: str) -> list[Row]:
    """The rows of one listed WebUI."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "webui")]
    import hosts
    import matrix
    import requests

    host = next(host for host in hosts.listed() if host.name == name)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        webui = hosts.WebUI(host, Path(folder) / "data", hosts.EXTENSIONS)
        try:
            version = requests.get(f"{webui.url}/internal/sysinfo", timeout=60).json()["Version"]
            samplers = [sampler["name"] for sampler in webui.get("samplers")]
            cells = [(sampler, "Automatic") for sampler in samplers]
            cells += [("Euler", scheduler) for scheduler in webui.schedulers() if scheduler != "Automatic"]
            for sampler, scheduler in cells:
                for where in matrix.PASSES:
                    row = matrix.measure(webui, where, sampler, scheduler)
                    rows.append({"host": name, "version": version, **row})
                    print(row, flush=True)
        finally:
            webui.stop()
    return rows


def cell(row: Row) -> str:
    if row["status"] != "mixed":
        return row["status"]
    good = row["finite"] and row["effective"]
    return f"{row['calls_per_step']:g} / {row['blends_per_step']:g}" + ("" if good else " **without effect**")


def table(rows: list[Row], key: str) -> str:
    """One line for each value of `key`, one column for each WebUI."""
    found = sorted({row["host"] for row in rows})
    lines = [f"| {key} | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    for value in dict.fromkeys(row[key] for row in rows):
        cells = []
        for host in found:
            both = [cell(row) for row in rows if row["host"] == host and row[key] == value]
            cells.append("; ".join(dict.fromkeys(both)) or "-")
        lines.append(f"| {value} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(rows: list[Row]) -> str:
    versions = sorted({f"{row['host']} ({row['version']})" for row in rows})
    of_samplers = [row for row in rows if row["scheduler"] == "Automatic"]
    of_schedulers = [row for row in rows if row["scheduler"] != "Automatic"]
    reasons = [
        f"- {row['host']}, {row['sampler']}, {row['scheduler']}, {row['pass']}: {row['reason']}"
        for row in rows
        if row["status"] != "mixed"
    ]
    parts = [
        HEAD,
        f"WebUIs: {', '.join(versions)}.\n",
        table(of_samplers, "sampler"),
        "\n## Schedulers\n\nWith Euler.\n",
        table(of_schedulers, "scheduler"),
        *(["\n## Reasons\n", *reasons] if reasons else []),
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    kept: list[Row] = json.loads(DATA.read_text()) if DATA.exists() else []
    names = sys.argv[1:]
    if names != ["--page"]:
        sys.path.insert(0, str(ROOT / "tests" / "webui"))
        import hosts

        for name in names or [host.name for host in hosts.listed()]:
            kept = [row for row in kept if row["host"] != name] + measured(name)
            DATA.parent.mkdir(exist_ok=True)
            DATA.write_text("[\n" + ",\n".join(json.dumps(row) for row in kept) + "\n]\n")
    PAGE.write_text(page(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
