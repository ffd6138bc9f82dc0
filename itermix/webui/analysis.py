"""The files of an analysis, beside the picture that the WebUI saves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modules import errors

from itermix.analysis.record import Analysis
from itermix.parameters import SettingsError
from itermix.settings import Settings
from itermix.webui import host
from itermix.webui.job import Job


def check(p: Any, settings: Settings) -> None:
    """Raises SettingsError if there will be no saved picture to put the files beside."""
    if settings.analysis and not host.saves(p):
        allowed = "Allowed where pictures are saved: true. Its files go beside them; in the API that is save_images."
        raise SettingsError("analysis", True, allowed)


def await_picture(p: Any, job: Job) -> None:
    """The next file that the WebUI saves for `p` is its current picture, if it saves it at all."""
    if job.analyses and p.save_samples():
        job.awaited = p.batch_index


def after_saving(saved: Any) -> None:
    """Called by the WebUI after every file that it has saved."""
    job = getattr(saved.p, "itermix", None)
    if isinstance(job, Job) and job.awaited is not None:
        image, job.awaited = job.awaited, None
        write(saved.p, job.analyses, image, saved.filename)


def write(p: Any, analyses: Sequence[Analysis], image: int, picture: str) -> None:
    """Write the files for the picture of this name, which is not lost if that fails."""
    try:
        from itermix.analysis import sheet  # loads matplotlib

        sheet.write(analyses, image, Path(picture))
    except Exception as error:
        errors.report("Iterative Mixing: the analysis could not be saved", exc_info=True)
        p.comment(f"Iterative Mixing: the analysis could not be saved ({error}).")
