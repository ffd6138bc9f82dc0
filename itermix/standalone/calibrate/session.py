"""A calibration from who asks for it to what is left of it in its folder: the same for the command and for the page."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itermix.settings import UpscaleSettings
from itermix.standalone import files
from itermix.standalone import server as webui
from itermix.standalone.batch.journal import Journal
from itermix.standalone.calibrate import report, sheet
from itermix.standalone.calibrate.asking import FACTS, OPTIONS, PROBE_SECONDS, Pictures, answer_of
from itermix.standalone.calibrate.run import Calibration, Found, Listener, Wanted
from itermix.standalone.calibrate.state import State, load
from itermix.standalone.client import exchange, without_login
from itermix.standalone.server import ServerError

PRESETS = "/itermix/v1/presets"

REPORT = "report.json"

SIDE = 512
"""Of the sources that a checkpoint makes, where its WebUI doesn't tell what it was trained for."""


@dataclass(frozen=True)
class Facts:
    """What a WebUI tells of itself.

    Attributes:
        checkpoint, hash, network: of the checkpoint that is loaded, or will be; None where there is none.
        side: pixels of the pictures that it was trained for.
        exact: whether img2img runs exactly the steps that it is asked for.
    """

    checkpoint: str | None
    hash: str | None
    network: str | None
    side: int
    exact: bool


def facts_of(server: str, given: Mapping[str, Any]) -> Facts:
    """Ask a WebUI whether it can take part with these request fields, and with which checkpoint.

    Raises ServerError with a sentence if it can't.
    """
    for path, check in webui.questions(UpscaleSettings(), given).items():
        check(server, exchange(server + path, None, PROBE_SECONDS))
    facts, options = answer_of(server, FACTS), answer_of(server, OPTIONS)
    checkpoint = facts.get("checkpoint") if isinstance(facts, dict) else None
    if not isinstance(checkpoint, dict):
        raise ServerError(
            f"The WebUI at {without_login(server)} tells of no checkpoint: load one there, or update the extension."
        )
    exact = bool(options.get("img2img_fix_steps")) if isinstance(options, dict) else False
    return Facts(checkpoint["name"], checkpoint["hash"], facts.get("network"), facts.get("side") or SIDE, exact)


def asked_for(wanted: Wanted, facts: Facts) -> dict[str, Any]:
    """What must be the same for a folder to go on with."""
    given = [str(path) for path in wanted.pictures] or list(wanted.prompts)
    return {
        "checkpoint": f"{facts.checkpoint} [{facts.hash}]",
        "scale": wanted.scale,
        "size": None if wanted.pictures else wanted.side,
        "sources": hashlib.sha256(json.dumps(given).encode()).hexdigest()[:8],
        "request": dict(wanted.given),
    }


def run(
    wanted: Wanted, facts: Facts, out: Path, listener: Listener, stopping: Callable[[], bool], prompts: bool = False
) -> dict[str, Any]:
    """Do as much as there is time for, write report and sheet to the folder `out`, and give the report.

    `prompts`: whether the report tells them.

    Raises:
        OtherCalibration: the folder has another one.
        ServerError: the WebUI can't be used any longer.
        OSError: a file can't be read or written, or another run has the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with closing(Journal(out)) as journal:
        state = load(out, asked_for(wanted, facts))
        if state.plan.get("seconds") != wanted.seconds:  # more time is another plan
            state.plan = {"seconds": wanted.seconds}
        pictures = Pictures(journal, wanted.server, facts.hash or "", stopping)
        made = Calibration(wanted, state, pictures, facts.exact, listener)
        try:
            made.run()
        finally:
            told = written(made.found, wanted, facts, state, prompts)
    return told


def written(found: Found, wanted: Wanted, facts: Facts, state: State, prompts: bool) -> dict[str, Any]:
    """Report and sheet, in the folder of the state; gives the report."""
    told = report.report(found, wanted, dataclasses.asdict(facts), state.spent, prompts)
    out = state.out
    files.write(out / REPORT, (json.dumps(told, indent=1, allow_nan=False) + "\n").encode())
    files.write(out / "report.md", report.markdown(told).encode())
    if told["best"] is not None:
        sheet.write(found, told, out)
    return told


def keep(server: str, told: Mapping[str, Any], choice: str | None, name: str) -> str:
    """Save a row of a report, the best if there is no choice, as a preset of the WebUI, bound to the checkpoint of the
    report; gives what was done.

    Raises:
        LookupError: no mixing of the report has this name; the message lists those that have one.
        ServerError: the WebUI refuses it, with its sentence.
    """
    rows = {row["name"]: row for row in told["rows"] if "settings" in row}
    if (choice := choice or told["best"]) not in rows:
        raise LookupError(f"Allowed: {'; '.join(rows) or 'none, since nothing was compared'}.")
    row = rows[choice]
    bodies: dict[str, dict[str, Any]] = {
        "save": {"name": name, "settings": row["settings"]},
        "bind": {"name": name, "checkpoint": told["hash"]},
    }
    for verb, body in bodies.items():
        path = f"{PRESETS}/{verb}"
        webui.content(server, path, exchange(server + path, json.dumps(body).encode(), PROBE_SECONDS))
    return f"Kept {choice} as {name}; Automatic takes it with {told['checkpoint']} [{told['hash']}]."
