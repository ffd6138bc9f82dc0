"""A picture that is to be upscaled, from its file: what is sent of it, and what its user should know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from itermix.parameters import Size
from itermix.standalone.files import shown
from itermix.standalone.generation import Generation, generation_of, orientation_of
from itermix.standalone.images import PictureError, opened, png, without_metadata

SENT_AS_THEY_ARE = {"PNG", "JPEG", "MPO", "WEBP", "BMP", "TIFF", "GIF"}
"""Formats that every WebUI reads."""

WIDE = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
"""Pillow's modes of one channel with more than 8 bits, of which WebUIs make white."""


@dataclass(frozen=True)
class Source:
    """A picture file.

    Attributes:
        file: its path.
        data: what it holds.
        image: the picture, whose pixels may not have been looked at.
        size: (width, height) as shown: WebUIs turn a picture as its EXIF says.
        generation: how it was made.
        notes: sentences about what is not as its user may expect.
        bare: whether the file can be read without its metadata alone.
    """

    file: Path
    data: bytes
    image: Image.Image
    size: Size
    generation: Generation
    notes: tuple[str, ...]
    bare: bool

    def sent(self) -> bytes:
        """The data of a file that every WebUI reads alike: the file's own, or that of a PNG of the picture.

        Raises PictureError if its levels can't be told.
        """
        image = self.image
        if image.format in SENT_AS_THEY_ARE and image.mode not in WIDE and frames_of(image) == 1:
            return without_metadata(self.data) if self.bare else self.data
        upright = ImageOps.exif_transpose(image) if orientation_of(image) > 1 else image
        if upright.mode in WIDE:
            return png(_eight_bits(upright, self.file))
        return png(upright if upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else upright.convert("RGB"))


def read(file: Path, pixels: bool = True) -> Source:
    """The picture of a file; without `pixels` they are not looked at.

    Raises:
        PictureError: the file can't be read as a picture.
    """
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:  # of names with a NUL inside
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PictureError(f"{shown(file)} can't be read: {reason}") from error
    bare = False
    try:
        image = opened(data, file, pixels)
    except PictureError:
        if without_metadata(data) == data:
            raise
        image, bare = opened(without_metadata(data), file, pixels), True
    generation = generation_of(image)
    notes = [*generation.problems]
    if bare:
        notes.append("its metadata is broken, and left out")
    notes += _what_is_left_out(image)
    size = image.size[::-1] if orientation_of(image) >= 5 else image.size
    return Source(file, data, image, size, generation, tuple(notes), bare)


def frames_of(image: Image.Image) -> int:
    """How many pictures the file has: pages, or those of an animation; not the previews and maps of photographs."""
    try:
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except Exception:  # Pillow's readers raise whatever comes up in broken data
        return 1


def _what_is_left_out(image: Image.Image) -> list[str]:
    found = []
    if (frames := frames_of(image)) > 1:
        found.append(f"the first of its {frames} pictures is taken alone")
    if image.mode in WIDE:
        found.append("its levels become those of 8 bits")
    return found


def _eight_bits(image: Image.Image, file: Path) -> Image.Image:
    """A picture of one channel with many levels as one of 256: of 16 bits, or of whole or broken numbers up to 1."""
    levels = np.asarray(image).astype(np.float64)
    low, high = float(levels.min()), float(levels.max())
    whole = 65535.0 if image.mode.startswith("I;16") or high > 255 else 255.0 if high > 1 or image.mode == "I" else 1.0
    if not (low >= 0 and high <= whole):  # NaN, too
        raise PictureError(
            f"{shown(file)} can't be sent: its levels go from {low:g} to {high:g}, so white can't be told"
        )
    return Image.fromarray((levels * (255 / whole)).round().astype(np.uint8))
