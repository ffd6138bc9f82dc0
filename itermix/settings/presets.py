"""Presets: named values for the settings of mixing, built in and of one's own.

A preset decides every setting but those of UNDECIDED: whether to mix, the seed, the size, the analysis and whether the
picture is seamless are the user's.
"""

from __future__ import annotations

import difflib
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itermix.model.crops import DEMOFUSION
from itermix.parameters import SettingsError, shortened
from itermix.picture import colour
from itermix.settings import Settings, UpscaleSettings
from itermix.settings.infotext import VERSION, detail_today

PRESETS: dict[str, dict[str, Any]] = {
    "Balanced": {},
    "Faithful": {"denoise": 0.4, "blending": "clean wavelet", "alpha": 0.25},
    "Creative": {"denoise": 0.6, "blending": "wavelet", "alpha": 1.0, "detail": 0.0, "fidelity": 0.0},
    # Other projects' values are all written out, so that they stay when the defaults change.
    "DemoFusion paper": {
        "denoise": 1.0,
        "steps": 0,
        "window_auto": False,
        "blending": "addition",
        "curve": "cosine",
        "alpha": 3.0,
        "noise": "shared",
        "progress": "noise level",
        "detail": 0.0,
        "fidelity": 0.0,
    },
    "DemoFusion complete": {
        "denoise": 1.0,
        "steps": 0,
        "window_auto": False,
        "blending": "addition",
        "curve": "cosine",
        "alpha": 3.0,
        "noise": "shared",
        "progress": "noise level",
        "detail": 0.0,
        "fidelity": 0.0,
        "match_colours": True,
        "colour_formulas": colour.DEMOFUSION,
        "window": 128,
        "window_jitter": True,
        "window_formulas": DEMOFUSION,
        "dilated": 1.0,
        "gaussian_sigma": 1.0,
        "gaussian_alpha": 1.0,
    },
    "ComfyUI node": {
        "denoise": 1.0,
        "steps": 0,
        "window_auto": False,
        "blending": "addition",
        "curve": "comfy-cosine",
        "alpha": 2.4,
        "noise": "independent",
        "progress": "comfy-steps",
        "detail": 0.0,
        "fidelity": 0.0,
    },
}
"""{name: {setting: value}}; what a preset doesn't name has its default."""

REASONS = {
    "Balanced": "The defaults: close to the source, with fine detail of the model's own.",
    "Faithful": "Closest to the source, for a trace of the detail.",
    "Creative": "Lets go of the picture earlier: the detail is more of the model's own, and farther from the source.",
    "DemoFusion paper": "The curve of arXiv 2311.16973. Without its dilated sampling it repeats parts beyond 2x.",
    "DemoFusion complete": "All that DemoFusion's code does, at SDXL's window of 128; that of SD 1 is 64. Costs time.",
    "ComfyUI node": "The ComfyUI Iterative Mixing nodes as they come, with new noise in every step. Smooth.",
}
"""{name of a built-in preset: why one would choose it}."""

AUTOMATIC = "Automatic"
"""Names no preset, but that which is bound to the checkpoint that is loaded, and DEFAULT where none is."""

DEFAULT = "Balanced"

UNDECIDED = {
    "enabled",
    "seed",
    "analysis",
    "seamless",
    *(parameter.name for parameter in UpscaleSettings.own_parameters()),
}
DECIDED = tuple(parameter for parameter in Settings.parameters() if parameter.name not in UNDECIDED)

FIRST = (
    *("denoise", "curve", "alpha", "start", "stop", "clamp", "lowest", "highest", "progress", "blending", "cutoff"),
    *("noise", "normalize_fraction", "start_at_step", "end_at_step", "max_scale_per_phase", "save_phases"),
    *("match_colours", "cleanup", "cleanup_steps", "cleanup_sampler"),
)
"""Settings that the first presets that were saved hold."""

NOTHING = {"fidelity": 0.0, "steps": 0, "window_auto": False, "window_overlap": 0.5, "denoise_in": "steps"}
LATER = {parameter.name: parameter.default for parameter in DECIDED if parameter.name not in FIRST} | NOTHING
"""The others, at what presets without them were made with: what does nothing, which the default of most does."""

BEFORE_VERSIONS = 3
"""Version of the infotexts when whole presets had none."""

MAX_PRESETS = 200
MAX_NAME = 60
MAX_CHECKPOINT = 64
"""Characters of what a checkpoint is known by: as many as the longest of its hashes has."""

MAX_FILE = 1_000_000
"""Bytes, more than so many presets need."""


def decided(values: Mapping[str, Any]) -> dict[str, Any]:
    """{name: value} of every setting that a preset of these values decides; what they don't name has its default."""
    return {parameter.name: values.get(parameter.name, parameter.default) for parameter in DECIDED}


def expanded(values: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Settings in which a "preset" may be named, without it: all that the preset decides, and the others on top.

    `own` are further presets. Raises SettingsError for a preset that isn't known.
    """
    rest = dict(values)
    if "preset" not in rest:
        return rest
    name = rest.pop("preset")
    known = {**PRESETS, **(own or {})}
    return {**decided(known[_known(name, known, "preset")]), **rest}


class PresetFileError(ValueError):
    """A file of presets that can't be used; the message says why. It is left as it is."""


@dataclass(frozen=True)
class _Kept:
    """A preset in a file: all that it decides, and the hashes of the checkpoints that it is bound to."""

    values: Mapping[str, Any]
    checkpoints: tuple[str, ...] = ()


class PresetFile:
    """Presets of one's own, in a JSON file: {name: {setting: value}}.

    Each holds all that it decides, so that it stays the same when the defaults change, and beside that the `version` of
    the infotexts in which its values mean what they do, and the `checkpoints` that it is bound to. The file is read
    anew each time, replaced as a whole or not at all, and never written while what it holds can't be read.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()

    def load(self) -> dict[str, dict[str, Any]]:
        """{name: all that the preset decides}; empty if there is no file. Raises PresetFileError."""
        return {name: dict(kept.values) for name, kept in self._read().items()}

    def bound(self) -> dict[str, str]:
        """{checkpoint: name of the preset that is bound to it}. Raises PresetFileError."""
        return {checkpoint: name for name, kept in self._read().items() for checkpoint in kept.checkpoints}

    def bind(self, name: str, checkpoint: str) -> None:
        """Bind a preset to a checkpoint, in the place of the one that was. Raises as `save` does."""
        _check_checkpoint(checkpoint)
        with self._lock:
            presets = _without(self._read(), checkpoint)
            if sum(len(each.checkpoints) for each in presets.values()) >= MAX_PRESETS:
                allowed = f"Allowed: at most {MAX_PRESETS} checkpoints with a preset; unbind one first."
                raise SettingsError("checkpoint", checkpoint, allowed)
            kept = presets[_known(name, presets, "name")]
            self._write({**presets, name: _Kept(kept.values, (*kept.checkpoints, checkpoint))})

    def unbind(self, checkpoint: str) -> None:
        """Raises SettingsError if none is bound to it, PresetFileError if the file can't be read."""
        with self._lock:
            if checkpoint not in (bound := self.bound()):
                allowed = f"Allowed: {', '.join(bound) or 'none, since no preset is bound to a checkpoint'}."
                raise SettingsError("checkpoint", checkpoint, allowed)
            self._write(_without(self._read(), checkpoint))

    def _read(self) -> dict[str, _Kept]:
        try:
            if self.path.stat().st_size > MAX_FILE:
                raise self._error(f"it is larger than {MAX_FILE} bytes")
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(str(error)) from error
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._error(f"it isn't JSON, {error}") from error
        if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
            raise self._error("its shape isn't {name: {setting: value}}")
        if len(found) > MAX_PRESETS:
            raise self._error(f"it holds {len(found)} presets, more than {MAX_PRESETS}")
        presets: dict[str, _Kept] = {}
        for name, values in found.items():
            try:
                _check_name(name, presets)
                presets[name] = _checked(values)
            except SettingsError as error:
                allowed = error.allowed.removesuffix(".")
                raise self._error(f"in {shortened(repr(name))}, {error.what}. {allowed}") from error
        return presets

    def save(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep what a preset decides of these settings, in the place of one of the same name if there is one.

        Raises:
            SettingsError: a name or a setting that isn't possible.
            PresetFileError: the file can't be read, or can't be written.
        """
        settings = UpscaleSettings(**values)
        with self._lock:
            presets = self._read()
            _check_name(name, (taken for taken in presets if taken != name))
            if name not in presets and len(presets) >= MAX_PRESETS:
                allowed = f"Allowed: at most {MAX_PRESETS} presets; delete one first."
                raise SettingsError("name", name, allowed)
            bound = presets[name].checkpoints if name in presets else ()
            self._write({**presets, name: _Kept({p.name: getattr(settings, p.name) for p in DECIDED}, bound)})

    def rename(self, name: str, new_name: str) -> None:
        """Give a preset another name, in the same place. Raises SettingsError or PresetFileError, as `save` does."""
        with self._lock:
            presets = self._read()
            _known(name, presets, "name")
            _check_name(new_name, (taken for taken in presets if taken != name))
            self._write({new_name if key == name else key: kept for key, kept in presets.items()})

    def delete(self, name: str) -> None:
        """Raises SettingsError if there is no such preset, PresetFileError if the file can't be read."""
        with self._lock:
            presets = self._read()
            del presets[_known(name, presets, "name")]
            self._write(presets)

    def _write(self, presets: Mapping[str, _Kept]) -> None:
        target = self.path.resolve()  # the file itself, where a link stands for it
        try:
            descriptor, temporary = tempfile.mkstemp(suffix=".tmp", dir=target.parent)
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    whole = {name: _written(kept) for name, kept in presets.items()}
                    json.dump(whole, file, indent=2, ensure_ascii=False)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, target)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise PresetFileError(
                f"Iterative Mixing: {self.path} can't be written: {error.strerror}. The presets are as they were."
            ) from error

    def _error(self, what: str) -> PresetFileError:
        return PresetFileError(
            f"Iterative Mixing: the presets in {self.path} can't be used: {what}. "
            "The file is left as it is, and nothing is saved to it until it is mended or moved away."
        )


def _written(kept: _Kept) -> dict[str, Any]:
    """What a file has of a preset."""
    bound = {"checkpoints": list(kept.checkpoints)} if kept.checkpoints else {}
    return {**kept.values, **bound, "version": VERSION}


def _without(presets: Mapping[str, _Kept], checkpoint: str) -> dict[str, _Kept]:
    """The presets, none of them bound to this checkpoint."""
    return {
        name: _Kept(kept.values, tuple(each for each in kept.checkpoints if each != checkpoint))
        for name, kept in presets.items()
    }


def _check_checkpoint(checkpoint: Any) -> None:
    if (
        not isinstance(checkpoint, str)
        or not checkpoint.isalnum()
        or not checkpoint.isascii()
        or len(checkpoint) > MAX_CHECKPOINT
    ):
        allowed = f"Allowed: a hash of at most {MAX_CHECKPOINT} letters and digits, as GET facts tells it."
        raise SettingsError("checkpoint", checkpoint, allowed)


def _checked(values: Mapping[str, Any]) -> _Kept:
    """All that these values decide; raises SettingsError for one that isn't a preset's or isn't allowed.

    A whole preset without a version is of before presets had one. One that isn't whole was written by hand, and means
    what it would mean today.
    """
    values = dict(values)
    version = values.pop("version", None)
    checkpoints = values.pop("checkpoints", [])
    if not isinstance(checkpoints, list):
        raise SettingsError("checkpoints", checkpoints, "Allowed: a list of hashes.")
    for checkpoint in checkpoints:
        _check_checkpoint(checkpoint)
    if version is not None and type(version) is not int:
        raise SettingsError("version", version, "Allowed: a whole number.")
    for name in values:
        if name in UNDECIDED:
            raise SettingsError(name, values[name], "Allowed: settings that a preset decides.")
    if values.keys() >= {parameter.name for parameter in DECIDED} - LATER.keys():
        values = {**LATER, **values}
        version = BEFORE_VERSIONS if version is None else version
    found = decided(Settings(**values).changed())
    if version is not None and "detail" in values:
        found["detail"] = detail_today(found, version)
    return _Kept(found, tuple(checkpoints))


def _check_name(name: Any, others: Iterable[str]) -> None:
    """Raises SettingsError for a name that isn't possible beside those of the built-in presets and `others`."""
    if not isinstance(name, str) or name != name.strip() or not name.isprintable() or not 1 <= len(name) <= MAX_NAME:
        allowed = f"Allowed: 1 to {MAX_NAME} printable characters, without blanks at the ends."
        raise SettingsError("name", name, allowed)
    for taken in (AUTOMATIC, *PRESETS, *others):
        if taken.casefold() == name.casefold():
            kind = "a built-in preset" if taken in (AUTOMATIC, *PRESETS) else "another preset"
            raise SettingsError("name", name, f"Allowed: a name of its own; {taken} is {kind}.")


def _known(name: Any, presets: Iterable[str], field: str) -> str:
    """The name if a preset has it; raises SettingsError with the nearest one otherwise."""
    names = list(presets)
    if isinstance(name, str) and name in names:
        return name
    near = difflib.get_close_matches(str(name), names)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise SettingsError(field, name, f"{hint}Allowed: {', '.join(names) or 'none, since there are no presets'}.")
