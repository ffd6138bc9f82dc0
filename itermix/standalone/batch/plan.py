"""What a batch is to do: the pictures of a folder or a list, where each goes, and what it costs."""

from __future__ import annotations

import codecs
import contextlib
import functools
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from itermix.parameters import SIZE_MULTIPLE, Sampling, Size
from itermix.picture.phases import described, walk
from itermix.picture.phases import plan as phases
from itermix.settings import UpscaleSettings
from itermix.standalone import server, sources
from itermix.standalone.batch.journal import results_in
from itermix.standalone.files import shown
from itermix.standalone.images import PictureError
from itermix.steps.samplers import model_calls
from itermix.steps.schedule import steps_asked, steps_by_host

SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
"""What a folder's files must end in to be taken for pictures."""

API_STEPS = 50
"""Steps of a request that doesn't say how many, in every WebUI."""

FUNCTIONS = {
    "Heun": "sample_heun",
    "HeunPP2": "sample_heunpp2",
    "DPM2": "sample_dpm_2",
    "DPM2 a": "sample_dpm_2_ancestral",
    "DPM++ 2S a": "sample_dpmpp_2s_ancestral",
    "DPM++ SDE": "sample_dpmpp_sde",
    "PLMS": "plms",
    "DPM adaptive": "sample_dpm_adaptive",
    "Restart": "restart_sampler",
    "UniPC": "unipc",
}
"""{the WebUIs' name of a sampler: its function}, of those that don't call the model once a step."""


@dataclass(frozen=True)
class Picture:
    """One picture of a batch.

    Attributes:
        source: its file.
        target: path of the result in the folder of results.
        size: (width, height) of the source in pixels.
        generation: request fields: those asked for, and what the picture's infotext says besides.
        content: SHA-256 of the source file.
        prompt: where its prompt comes from, in words.
        notes: sentences about what is not as its user may expect.
    """

    source: Path
    target: PurePath
    size: Size
    generation: Mapping[str, Any]
    content: str
    prompt: str = ""
    notes: tuple[str, ...] = ()

    def key(self, settings: UpscaleSettings) -> str:
        """SHA-256 of the source's content and of all that is asked for: another key is another result."""
        asked = {"content": self.content, "generation": self.generation, "settings": _changed(settings)}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def request(self, settings: UpscaleSettings) -> bytes:
        """The request's JSON body; reads the source anew.

        Raises:
            PictureError: the file can't be read, is broken, or is not what it was.
        """
        source = sources.read(self.source)
        if hashlib.sha256(source.data).hexdigest() != self.content:
            raise PictureError(f"{shown(self.source)} was changed while the batch ran; the next run makes it")
        return server.request(source, settings, self.generation)


@functools.lru_cache(maxsize=8)
def _changed(settings: UpscaleSettings) -> Mapping[str, Any]:
    """What differs from the defaults, which is looked for once and not for every picture."""
    return settings.changed()


def looked_at(file: Path, target: PurePath, given: Mapping[str, Any]) -> Picture:
    """The picture of a file; `given` are request fields that go before those of its infotext.

    Raises:
        PictureError: the file can't be read as a picture.
    """
    source = sources.read(file, pixels=False)
    made = source.generation
    prompt = f"no prompt ({made.place})" if made.place else "no prompt"
    if "prompt" in given:
        prompt = "the given prompt"
    elif made.fields:
        prompt = f"prompt of its {made.place}"
    content = hashlib.sha256(source.data).hexdigest()
    return Picture(file, target, source.size, {**made.fields, **given}, content, prompt, source.notes)


@dataclass(frozen=True)
class Files:
    """What is found in a folder or a list.

    Attributes:
        pictures: {target in the folder of results: file}.
        left_out: {ending: how many files} that are no pictures by their names.
    """

    pictures: dict[PurePath, Path]
    left_out: Counter[str]


def found(source: Path, out: Path) -> Files:
    """The pictures of a folder and its sub-folders, or of a list of paths, one a line.

    Hidden files and folders are left out, and `out` itself where it is inside, and all results that a journal in one of
    the folders knows. The paths of a list are taken from its folder on; those outside of it keep their name alone.

    Raises:
        OSError: the folder, the list or a journal can't be read.
        PlanError: the list isn't a text, or two pictures would get one target, or a picture would be overwritten.
    """
    left_out: Counter[str] = Counter()
    if source.is_dir():
        root, files = source, sorted(_walked(source, os.path.realpath(out), left_out))
    else:
        root = source.parent.absolute()
        files = list(dict.fromkeys(_listed(source, root)))
    targets: dict[PurePath, Path] = {}
    for file in files:
        inside = file.relative_to(root) if file.is_relative_to(root) else PurePath(file.name)
        target = inside.with_suffix(".png")
        if target in targets:
            raise PlanError(f"{targets[target]} and {file} would both become {target}: rename one of them.")
        targets[target] = file
    taken = {os.path.realpath(file) for file in files}
    folder = os.path.realpath(out)
    for target, file in targets.items():
        if os.path.join(folder, target) in taken:
            raise PlanError(f"{file} would be written over {out / target}, which is one of the pictures: choose "
                            "another folder for the results.")  # fmt: skip
    return Files(targets, left_out)


class PlanError(ValueError):
    """A batch that can't be done as asked; the message is for the person who did."""


def _walked(root: Path, out: str, left_out: Counter[str]) -> Iterable[Path]:
    results: set[Path] = set()
    for folder, folders, names in os.walk(root, onerror=_raise):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith(".") and os.path.realpath(here / name) != out]
        results |= {here / result for result in results_in(here)}
        for name in names:
            if name.startswith(".") or here / name in results:
                continue
            if (suffix := Path(name).suffix.lower()) in SUFFIXES:
                yield here / name
            else:
                left_out[suffix] += 1


def _raise(error: OSError) -> None:
    raise error


def _listed(file: Path, root: Path) -> Iterable[Path]:
    for number, line in enumerate(_lines(file), 1):
        try:
            path = _named_in(line, root)
        except ValueError as error:
            raise PlanError(f"Line {number} of {file}, {line}, is no path of a file.") from error
        if path:
            yield path


def _lines(file: Path) -> list[str]:
    """The lines of a text as an editor of any system saves it; what isn't UTF-8 is kept as names of files keep it."""
    data = file.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        text = data.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")
    if "\0" in text:
        raise PlanError(f"{file} is neither a folder nor a list of pictures, which is a text.")
    return re.split(r"\r\n|\n|\r", text)


def _named_in(line: str, root: Path) -> Path | None:
    """The path in a line, if it has one: with blanks or quotes around it, or as older editors of Windows write it."""
    bare = line.strip(" \t")
    quoted = re.fullmatch(r'"(.+)"', bare)
    spellings = [bare, *([quoted[1]] if quoted else []), line]
    with contextlib.suppress(UnicodeDecodeError):
        spellings.append(os.fsencode(bare).decode("cp1252"))
    if not bare:
        return None
    paths = [Path(os.path.normpath(root / text)) for text in spellings]  # without "..", to see what is in the folder
    path = next((path for path in paths if os.path.lexists(path)), paths[1] if quoted else paths[0])
    if not path.name or root.is_relative_to(path):
        raise ValueError
    return path


def model_calls_of(picture: Picture, settings: UpscaleSettings) -> tuple[str, int | None]:
    """The phases in words, and how often the model will be called, each time for both prompts if there is guidance; or
    None where the sampler decides it while it runs.

    Raises:
        SettingsError: settings that don't fit the picture.
    """
    steps, sampler = picture.generation.get("steps", API_STEPS), picture.generation.get("sampler_name", "")
    return _cost(picture.size, steps, sampler, settings)


@functools.lru_cache(maxsize=1000)  # most of a folder's pictures are alike
def _cost(size: Size, steps: int, sampler: str, settings: UpscaleSettings) -> tuple[str, int | None]:
    sizes = phases(*size, target=settings.target(*size), max_scale_per_phase=settings.max_scale_per_phase)
    asked = steps_asked(settings, steps, sampler)
    run = steps_by_host(settings, asked, sampler)
    # Steps of DPM fast are calls, which it makes in blocks of three, each of which has one level.
    levels, block = (run // 3 + 1, 3) if sampler == "DPM fast" else (run, 1)
    calls: list[int | None] = []
    for phase in walk(size, sizes):
        whole = phase.settings(settings)
        passes = [Sampling("pass", max(1, run - block * begin), whole, "") for begin in whole.begins(levels)]
        for each in (*whole.before_phase(levels), *passes, *whole.after_phase(asked)):
            calls.append(_calls(each, phase.target, sampler))
    return described(size, sizes, run, settings), None if None in calls else sum(filter(None, calls))


def _calls(sampling: Sampling, size: Size, sampler: str) -> int | None:
    """Model calls of a sampling of a picture of this size (width, height), with `sampler` where it has none of its own.

    Names are the WebUI's; older ones have the schedule in them, "DPM2 a Karras".
    """
    calls: int | None = sampling.steps
    if sampling.sampler is not None:
        function = FUNCTIONS.get((sampling.sampler or sampler).removesuffix(" Karras"), "")
        calls = model_calls(function, sampling.steps)
    width, height = (side // SIZE_MULTIPLE for side in size)
    return calls and sampling.settings.calls(height, width, calls)
