"""How a picture was made, as its file tells: fields of a WebUI's API request from its infotext."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from PIL import ExifTags, Image

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
"""{key in an infotext: (field of a request, its type)}.

The checkpoint and the clip skip stay the WebUI's: a request can override options, but A1111 keeps the value of one that
its file of options doesn't have.
"""

CHARSET_BYTES = 8
"""Length of the name of its encoding that an EXIF comment begins with."""


def generation_of(image: Image.Image) -> dict[str, Any]:
    """Request fields (prompt, steps, ...) that the picture's own infotext gives; empty without one.

    Settings of this extension in it don't count: what is to be done now is asked for anew.
    """
    infotext = infotext_of(image)
    if infotext is None:
        return {}
    prompt, negative, parameters = parsed(infotext)
    fields: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative}
    for key, (name, kind) in FIELDS.items():
        with contextlib.suppress(ValueError, KeyError):  # it isn't there, or is no number
            fields[name] = kind(parameters[key])
    return fields


def infotext_of(image: Image.Image) -> str | None:
    """The infotext of an image: PNG keeps it as a text, JPEG and WebP as EXIF's UserComment."""
    text = image.info.get(INFOTEXT)
    if isinstance(text, str):
        return text
    comment = exif_of(image).get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    return _comment(comment) if isinstance(comment, bytes) else comment


def exif_of(image: Image.Image) -> Image.Exif:
    """The image's EXIF; of a PNG only what comes before the pixels, since Pillow would decode them to look further."""
    return image.getexif() if image.format != "PNG" or "exif" in image.info else Image.Exif()


def parsed(infotext: str) -> tuple[str, str, dict[str, str]]:
    """(prompt, negative prompt, {key: value}); values lose their quotes and keep what is escaped inside."""
    text, _, last = infotext.strip().rpartition("\n")
    if not re.match(r"Steps: \d", last):
        text, last = infotext, ""
    prompt, *negative = re.split(r"^Negative prompt:", text, maxsplit=1, flags=re.MULTILINE)
    pairs = re.findall(r'(?:^|,)\s*([^:,"]+): ("(?:\\.|[^"\\])*"|[^,]*)', last)
    return prompt.strip(), "".join(negative).strip(), {key: value.strip().strip('"') for key, value in pairs}


def _comment(data: bytes) -> str:
    """The text of an EXIF UserComment; its "UNICODE" is UTF-16, in an order of bytes that isn't told."""
    charset, text = data[:CHARSET_BYTES], data[CHARSET_BYTES:]
    if not charset.startswith(b"UNICODE"):
        return text.decode(errors="replace").strip("\0")
    big = text[0::2].count(0) >= text[1::2].count(0)  # most of an infotext is ASCII
    return text.decode("utf-16-be" if big else "utf-16-le", errors="replace")
