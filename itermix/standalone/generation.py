"""How a picture was made, as its file tells: fields of a WebUI's API request from its infotext.

The one reader of metadata. Whatever a file has in its place, nothing here raises: what can't be read is told of. Only
an infotext of a WebUI counts; what other programs write is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from itermix.standalone.client import MAX_STEPS
from itermix.standalone.images import INFOTEXT

FIELDS = {
    "Steps": ("steps", int),
    "Sampler": ("sampler_name", str),
    "Schedule type": ("scheduler", str),
    "CFG scale": ("cfg_scale", float),
    "Distilled CFG Scale": ("distilled_cfg_scale", float),
    "Seed": ("seed", int),
    "Variation seed": ("subseed", int),
    "Variation seed strength": ("subseed_strength", float),
}
"""{key in an infotext: (field of a request, its type)}. Numbers that aren't finite are left out.

The checkpoint and the clip skip stay the WebUI's: a request can override options, but A1111 keeps the value of one that
its file of options doesn't have.
"""

CHARSETS = (b"UNICODE\0", b"ASCII\0\0\0", b"JIS\0\0\0\0\0", b"\0\0\0\0\0\0\0\0")
"""Names of encodings that an EXIF comment may begin with. Programs don't keep to them."""

ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "latin-1")

PNG_TEXT, EXIF_COMMENT = "PNG text", "EXIF comment"

STEPS = re.compile(r"Steps: \d+(,|\s*$)")
"""How the last line of an infotext begins, but for what extensions put after it."""

MAX_NUMBER = 2**64


@dataclass(frozen=True)
class Generation:
    """How a picture was made.

    Attributes:
        fields: of a request (prompt, steps, ...); empty where the file doesn't tell.
        place: where the infotext is, or what is there in its place; empty if nothing is.
        problems: what of the metadata can't be read.
    """

    fields: dict[str, Any]
    place: str = ""
    problems: tuple[str, ...] = ()


def generation_of(image: Image.Image) -> Generation:
    """How the picture was made, by its own infotext.

    Settings of this extension in it don't count: what is to be done now is asked for anew.
    """
    problems: list[str] = []
    texts = {PNG_TEXT: _texts(image.info.get(INFOTEXT))}
    comment = _tried("EXIF", problems, lambda: _comment(image), None)
    texts[EXIF_COMMENT] = _texts(comment)
    for place, candidates in texts.items():
        for text in candidates:
            if is_infotext(text):
                return Generation(fields_of(text), place, tuple(problems))
    other = [place for place, candidates in texts.items() if any(candidates)]
    if comment is not None and not isinstance(comment, (str, bytes)):
        problems.append("its EXIF comment is no text")
    return Generation({}, f"{other[0]}, which is no infotext" if other else "", tuple(problems))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none that can be read."""
    found = _tried("EXIF", [], lambda: exif_of(image).get(ExifTags.Base.Orientation, 1), 1)
    return found if found in range(1, 9) else 1


def _tried(what: str, problems: list[str], read: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return read()
    except Exception as error:  # Pillow's readers raise whatever comes up in broken data
        problems.append(f"its {what} can't be read: {type(error).__name__}")
        return otherwise


def _comment(image: Image.Image) -> Any:
    return exif_of(image).get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)


def exif_of(image: Image.Image) -> Image.Exif:
    """The image's EXIF; of a PNG only what comes before the pixels, since Pillow would decode them to look further."""
    return image.getexif() if image.format != "PNG" or "exif" in image.info else Image.Exif()


def fields_of(infotext: str) -> dict[str, Any]:
    """Request fields of an infotext."""
    prompt, negative, parameters = parsed(infotext)
    fields: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative}
    for key, (name, kind) in FIELDS.items():
        try:
            value = kind(parameters[key])
        except (ValueError, KeyError):  # it isn't there, or is no number
            continue
        if name == "steps" and not 1 <= value <= MAX_STEPS:
            continue
        if isinstance(value, str) or abs(value) < MAX_NUMBER:
            fields[name] = value
    return fields


def is_infotext(text: str) -> bool:
    """Whether it has the line of parameters, without which WebUIs write none."""
    return any(STEPS.match(line) for line in _lines(text))


def _lines(text: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", text)


def parsed(infotext: str) -> tuple[str, str, dict[str, str]]:
    """(prompt, negative prompt, {key: value}); values lose their quotes and keep what is escaped inside.

    The parameters are the last line that begins with the steps: extensions write lines of their own after it.
    """
    lines = _lines(infotext.strip())
    at = max((number for number, line in enumerate(lines) if STEPS.match(line)), default=len(lines))
    text, parameters = "\n".join(lines[:at]), "".join(lines[at : at + 1])
    prompt, *negative = re.split(r"^Negative prompt:", text, maxsplit=1, flags=re.MULTILINE)
    pairs = re.findall(r'(?:^|,)\s*([^:,"]+): ("(?:\\.|[^"\\])*"|[^,]*)', parameters)
    return prompt.strip(), "".join(negative).strip(), {key: value.strip().strip('"') for key, value in pairs}


def _texts(data: Any) -> list[str]:
    """What a text may say: of bytes, what they are in the encodings that programs write, the likely ones first."""
    if isinstance(data, str):
        data = data.strip("\0")
        return [data] if data else []
    if not isinstance(data, bytes):
        return []
    bare = [data.removeprefix(charset) for charset in CHARSETS if data.startswith(charset)] or [data]
    found = []
    for errors in ("strict", "replace"):
        for encoding in ENCODINGS:
            try:
                found.append(bare[0].decode(encoding, errors).strip("\0\ufeff"))
            except UnicodeDecodeError:
                continue
    return [text for text in found if text.strip()]
