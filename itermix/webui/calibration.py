"""`itermix calibrate` from the page: of the WebUI that runs, through its own API, in a thread beside it."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from modules import shared
from modules.paths_internal import data_path

from itermix.parameters import Parameter, SettingsError
from itermix.webui.presets import OWN

log = logging.getLogger(__name__)

MINUTES = Parameter(int, 20, "Minutes", "", "", "", low=1, high=600, step=1, name="minutes")
SCALE = Parameter(int, 2, "Scale", "", "", "", low=2, high=4, step=1, name="scale")

FOLDER = Path(data_path) / "itermix-calibrations"
"""What a calibration makes stays here, so that it goes on where it stopped."""

NOTHING, RUNNING, ENDED, FAILED = "nothing", "running", "ended", "failed"


class Calibration:
    """The one of this WebUI. It is the listener of its run, too (`itermix.standalone.calibrate.run.Listener`)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._state, self._sentence, self._what = NOTHING, "", ""
        self._made = self._planned = 0
        self._end = 0.0
        self._report: dict[str, Any] | None = None
        self._out: Path | None = None

    def start(self, server: tuple[str, int], minutes: int, scale: int) -> None:
        """Begin, or go on with what was stopped, where the WebUI hears at this (host, port).

        Raises SettingsError if it can't.
        """
        if not shared.cmd_opts.api:
            allowed = "Allowed: a WebUI that was started with --api, through which the pictures are made."
            raise SettingsError("--api", False, allowed)
        with self._lock:
            if self._state == RUNNING:
                raise SettingsError("calibration", "another", "Allowed: one at a time; stop the one that runs.")
            self._state, self._sentence, self._what = RUNNING, "", ""
            self._made = self._planned = 0
            self._end = time.time() + 60 * minutes
            self._stop.clear()
        arguments = address(*server), minutes, scale
        threading.Thread(target=self._run, args=arguments, name="itermix calibration", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def told(self) -> dict[str, Any]:
        """{"state", "sentence", "what", "made", "planned", "end", "best", "rows", "sheet"}.

        end: seconds since 1970 at which it is over at the latest. rows: names of what can be kept.
        """
        report = self._report or {}
        rows = [row["name"] for row in report.get("rows", ()) if "settings" in row]
        return {
            "state": self._state,
            "sentence": self._sentence,
            "what": self._what,
            "made": self._made,
            "planned": self._planned,
            "end": round(self._end),
            "best": report.get("best"),
            "rows": rows,
            "sheet": self._out is not None and (self._out / "sheet.html").exists(),
        }

    def sheet(self) -> bytes:
        """Raises SettingsError if there is none."""
        if self._out is None or not (self._out / "sheet.html").exists():
            raise SettingsError("sheet", None, "Allowed: after a calibration that has compared something.")
        return (self._out / "sheet.html").read_bytes()

    def keep(self, name: Any, row: Any) -> str:
        """Save a row's settings under a name, bound to the checkpoint, and say so.

        Raises SettingsError, PresetFileError.
        """
        report = self._report or {}
        rows = {each["name"]: each for each in report.get("rows", ()) if "settings" in each}
        chosen = report.get("best") if row is None else row
        if chosen not in rows:
            raise SettingsError("row", row, f"Allowed: {'; '.join(rows) or 'none, since nothing was compared'}.")
        OWN.save(name, rows[chosen]["settings"])
        OWN.bind(name, report["hash"])
        return f"Kept {chosen} as {name}; Automatic takes it with {report['checkpoint']}."

    def planned(self, requests: int, seconds: float) -> None:
        self._planned = self._made + requests

    def made(self, what: str) -> None:
        self._made, self._what = self._made + 1, what

    def said(self, sentence: str) -> None:
        log.info("Iterative Mixing, calibration: %s", sentence)

    def _run(self, server: str, minutes: int, scale: int) -> None:
        try:
            self._report = self._calibrated(server, minutes, scale)
        except Exception as error:  # of any kind: nobody else would hear of it
            log.error("Iterative Mixing, calibration: %s", error, exc_info=not isinstance(error, (OSError, ValueError)))
            self._state, self._sentence = FAILED, str(error) or type(error).__name__
            return
        self._state, self._sentence = ENDED, ended(self._report, self._stop.is_set())

    def _calibrated(self, server: str, minutes: int, scale: int) -> dict[str, Any]:
        # What it measures with (scipy, scikit-image) is loaded when it is wanted; every WebUI has it.
        from itermix.standalone.calibrate import session, sources
        from itermix.standalone.calibrate.run import Wanted

        facts = session.facts_of(server, {})
        prompts = sources.prompts(sources.SHIPPED)
        wanted = Wanted(server, scale, 60.0 * minutes, {}, prompts, (), facts.side)
        self._out = FOLDER / f"{facts.hash}-{scale}x"
        return session.run(wanted, facts, self._out, self, self._stop.is_set)


def address(server: str, port: int) -> str:
    """Where this WebUI hears itself, with the login that its API wants."""
    scheme = "https" if getattr(shared.cmd_opts, "tls_certfile", None) else "http"
    here = "127.0.0.1" if server in ("0.0.0.0", "::") else server
    login = f"{shared.cmd_opts.api_auth.split(',')[0]}@" if shared.cmd_opts.api_auth else ""
    return f"{scheme}://{login}{f'[{here}]' if ':' in here else here}:{port}"


def ended(report: dict[str, Any], stopped: bool) -> str:
    """A sentence on how it ended."""
    if report["best"] is None:
        return "Nothing could be compared in this time. Start again, with more minutes: it goes on."
    best = f"Best by the numbers: {report['best']}."
    if report["complete"]:
        return best
    return f"{best} {'It was stopped' if stopped else 'The time was over'} before all was tried; start again to go on."


HERE = Calibration()
