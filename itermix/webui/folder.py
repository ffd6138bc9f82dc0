"""A folder of pictures through the upscale script, with the journal of `itermix batch`: it goes on where it stopped."""

from __future__ import annotations

import copy
import dataclasses
import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any

from modules import shared
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from itermix.parameters import SettingsError
from itermix.settings import UpscaleSettings
from itermix.standalone.batch.journal import Journal
from itermix.standalone.batch.plan import Files, Picture, PlanError, found, looked_at
from itermix.webui import host
from itermix.webui.errors import Refused

log = logging.getLogger(__name__)

MOST_NAMED = 3
HERE = "this WebUI"


def wanted(folders: Sequence[str], p: Any) -> tuple[Path, Path] | None:
    """The folders (source, target) in the values of the two controls; None if there are none.

    Raises SettingsError where the WebUI lets nobody name folders of its machine: in the API, and with
    --hide-ui-dir-config.
    """
    source, target = (str(folder or "").strip() for folder in [*folders, "", ""][:2])
    if not (source or target):
        return None
    if p.is_api or shared.cmd_opts.hide_ui_dir_config:
        raise SettingsError("source folder", source, "Allowed: none, but from the page of a WebUI that shows folders.")
    for name, folder in (("source folder", source), ("target folder", target)):
        if not folder:
            raise SettingsError(name, folder, "Allowed: a path, if the other folder is given.")
    if not Path(source).is_dir():
        raise SettingsError("source folder", source, "Allowed: a folder of this machine.")
    return Path(source), Path(target)


def made(p: Any, source: Path, target: Path, settings: UpscaleSettings, one: Callable[[Any], Any]) -> str:
    """Make what isn't there of the folder's results, each by `one` of a request of its own; says what was done.

    What is there is kept, also what was made otherwise.

    What a picture's infotext says of its generation goes before what the page says. Raises SettingsError for folders
    that can't be used.
    """
    try:
        files = found(source, target)
        target.mkdir(parents=True, exist_ok=True)
        with closing(Journal(target)) as journal:
            return _made(p, files, journal, settings, one)
    except (PlanError, OSError) as error:
        raise SettingsError("target folder", str(target), f"{str(error).removesuffix('.')}.") from error


def _made(p: Any, files: Files, journal: Journal, settings: UpscaleSettings, one: Callable[[Any], Any]) -> str:
    given = host.generation_of(p)
    there, done = journal.made(), 0
    kept: list[bool] = []  # of what is there, whether it was made from this
    problems: list[PurePath] = []
    journal.wait((target, file) for target, file in files.pictures.items() if target not in there)
    shared.state.job_count = 0  # counted as they come
    for target, file in files.pictures.items():
        if shared.state.interrupted or shared.state.stopping_generation:
            break
        shared.state.skipped = False
        try:
            picture = looked_at(file, target, {})
            picture = dataclasses.replace(picture, generation={**given, **picture.generation})
            key = picture.key(settings)
            if target in there:
                kept.append(there[target] == key)
                continue
            start = time.monotonic()
            data = png(one(request(p, picture)))
            if data is None:  # it was stopped
                continue
            journal.done(target, key, data, HERE, time.monotonic() - start)
            done += 1
        except Exception as error:  # of any kind: the others are to be made
            fault = not isinstance(error, (Refused, ValueError, OSError))
            log.error("Iterative Mixing: %s has no result: %s", file, error, exc_info=fault)
            journal.failed(target, str(error), for_good=False)
            problems.append(target)
    left = len(files.pictures) - done - len(problems) - len(kept)
    return "".join(told(len(files.pictures), done, kept, problems, left))


def told(count: int, done: int, kept: Sequence[bool], problems: Sequence[PurePath], left: int) -> Iterator[str]:
    yield f"Iterative Mixing: of {count} pictures {done} made"
    if kept:
        yield f", {len(kept)} were there"
    if otherwise := kept.count(False):
        yield f" ({otherwise} made otherwise, left as they are: take another folder to make them anew)"
    if problems:
        more = f" and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        yield f", {len(problems)} failed ({', '.join(map(str, problems[:MOST_NAMED]))}{more}; the console says why)"
    yield f", {left} left for the next time." if left else "."


def request(p: Any, picture: Picture) -> Any:
    """The page's request for one picture, whose result is saved in the folder alone."""
    q = copy.copy(p)
    host.set_generation(q, picture.generation)
    with Image.open(picture.source) as image:
        q.init_images = [ImageOps.exif_transpose(image).convert("RGBA" if "A" in image.mode else "RGB")]
    q.extra_generation_params = dict(p.extra_generation_params)
    q.comments = {}
    q.do_not_save_samples = q.do_not_save_grid = True
    q.n_iter = q.batch_size = 1
    return q


def png(result: Any) -> bytes | None:
    """A PNG file of the result with its infotext; None if there is no whole one."""
    if not result.images or host.stopped():
        return None
    info = PngInfo()
    info.add_text("parameters", result.infotexts[0])
    data = io.BytesIO()
    result.images[0].save(data, "PNG", pnginfo=info)
    return data.getvalue()
