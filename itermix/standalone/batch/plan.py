"""What a batch is to do: the pictures of a folder or a list, where each goes, and what it costs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from PIL import ExifTags, Image

from itermix import windows
from itermix.phases import Size, described
from itermix.phases import plan as phases
from itermix.rewinding import starts
from itermix.samplers import model_calls
from itermix.schedule import steps_by_host
from itermix.settings import INVERTED, SAME_SAMPLER, SIZE_MULTIPLE, Settings, UpscaleSettings
from itermix.standalone import server
from itermix.standalone.generation import exif_of, generation_of
from itermix.standalone.images import PictureError, opened

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
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
    """

    source: Path
    target: PurePath
    size: Size
    generation: Mapping[str, Any]
    content: str

    def key(self, settings: UpscaleSettings) -> str:
        """SHA-256 of the source's content and of all that is asked for: another key is another result."""
        asked = {"content": self.content, "generation": self.generation, "settings": settings.changed()}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def request(self, settings: UpscaleSettings) -> bytes:
        """The request's JSON body; reads the source anew.

        Raises:
            PictureError: the file can't be read, is broken, or is not what it was.
        """
        data = _read(self.source)
        if hashlib.sha256(data).hexdigest() != self.content:
            raise PictureError(f"{self.source} was changed while the batch ran; the next run makes it")
        return server.request(data, opened(data, self.source), settings, self.generation)


def looked_at(source: Path, target: PurePath, given: Mapping[str, Any]) -> Picture:
    """The picture of a file; `given` are request fields that go before those of its infotext.

    Raises:
        PictureError: the file can't be read as a picture.
    """
    data = _read(source)
    image = opened(data, source, pixels=False)
    generation = {**generation_of(image), **given}
    return Picture(source, target, upright_size(image), generation, hashlib.sha256(data).hexdigest())


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PictureError(f"{file} can't be read: {error.strerror}") from error


def upright_size(image: Image.Image) -> Size:
    """(width, height) as shown: WebUIs turn a picture as its EXIF says."""
    turned = exif_of(image).get(ExifTags.Base.Orientation, 1) >= 5
    return image.size[::-1] if turned else image.size


def found(source: Path, out: Path) -> dict[PurePath, Path]:
    """{target in `out`: file} of all pictures in a folder and its sub-folders, or in a list of paths, one a line.

    Hidden files and folders are left out, and `out` itself where it is inside. The paths of a list are taken from its
    folder on; those outside of it keep their name alone.

    Raises:
        OSError: the folder or the list can't be read.
        PlanError: the list isn't a text, or two pictures would get one target, or a picture would be overwritten.
    """
    if source.is_dir():
        root, files = source, sorted(_walked(source, out.resolve()))
    else:
        root = source.parent.absolute()
        files = list(_listed(source, root))
    targets: dict[PurePath, Path] = {}
    for file in files:
        inside = file.relative_to(root) if file.is_relative_to(root) else PurePath(file.name)
        target = inside.with_suffix(".png")
        if target in targets:
            raise PlanError(f"{targets[target]} and {file} would both become {target}: rename one of them.")
        targets[target] = file
    sources = {file.resolve() for file in files}
    for target, file in targets.items():
        if (out / target).resolve() in sources:
            raise PlanError(f"{file} would be written over {out / target}, which is one of the pictures: choose "
                            "another folder for the results.")  # fmt: skip
    return targets


class PlanError(ValueError):
    """A batch that can't be done as asked; the message is for the person who did."""


def _walked(root: Path, out: Path) -> Iterable[Path]:
    for folder, folders, names in os.walk(root, onerror=_raise):
        here = Path(folder)
        folders[:] = [name for name in folders if not name.startswith(".") and (here / name).resolve() != out]
        yield from (here / name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES)


def _raise(error: OSError) -> None:
    raise error


def _listed(file: Path, root: Path) -> Iterable[Path]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise PlanError(f"{file} is neither a folder nor a list of pictures, which is a text.") from error
    for line in filter(None, map(str.strip, lines)):
        yield Path(os.path.normpath(root / line))  # without "..", to see what is in the folder and what isn't


def model_calls_of(picture: Picture, settings: UpscaleSettings) -> tuple[str, int | None]:
    """The phases in words, and how often the model will be called, each time for both prompts if there is guidance; or
    None where the sampler decides it while it runs.

    Raises:
        SettingsError: settings that don't fit the picture.
    """
    sizes = phases(
        *picture.size, target=settings.target(*picture.size), max_scale_per_phase=settings.max_scale_per_phase
    )
    steps = picture.generation.get("steps", API_STEPS)
    sampler = picture.generation.get("sampler_name", "")
    run = steps_by_host(settings, steps, sampler)
    steps_of_passes = _passes(sampler, run, settings)
    calls: list[int | None] = []
    for size in sizes:
        calls += [_calls_with(settings, size, _calls(sampler, left)) for left in steps_of_passes]
        if settings.noise == INVERTED:
            levels = run // 3 + 1 if sampler == "DPM fast" else run  # it has blocks of three calls
            calls.append(_calls_with(settings, size, levels))
    if settings.cleanup:
        cleaner = sampler if settings.cleanup_sampler == SAME_SAMPLER else settings.cleanup_sampler
        whole_calls = _calls(cleaner, settings.steps_of_cleanup(steps))
        calls.append(_calls_with(settings.replace(dilated=0.0), sizes[-1], whole_calls))
    return described(picture.size, sizes, run, settings), None if None in calls else sum(filter(None, calls))


def _passes(sampler: str, steps: int, settings: UpscaleSettings) -> list[int]:
    """Steps of each pass of a phase; those of DPM fast are calls, which it makes in blocks of three."""
    if sampler == "DPM fast":
        return [max(1, steps - 3 * block) for block in starts(settings, steps // 3 + 1)]
    return [steps - start for start in starts(settings, steps)]


def _calls_with(settings: Settings, size: Size, calls: int | None) -> int | None:
    """So many model calls with a picture of this size (width, height), as the windows split them up."""
    width, height = (side // SIZE_MULTIPLE for side in size)
    return calls and windows.calls_of_run(settings, height, width, calls)


def _calls(sampler: str, steps: int) -> int | None:
    """`sampler` by the WebUI's name of it; older ones have the schedule in it, "DPM2 a Karras"."""
    return model_calls(FUNCTIONS.get(sampler.removesuffix(" Karras"), ""), steps)
