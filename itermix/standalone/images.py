"""Pictures as tensors, as images, and as PNG files with an infotext."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from itermix.standalone.files import shown

INFOTEXT = "parameters"
"""The PNG text chunk in which WebUIs keep how a picture was made."""

PNG_HEAD = b"\x89PNG\r\n\x1a\n"

OF_THE_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
"""PNG chunks without which the picture would be another."""


class PictureError(OSError):
    """A picture file that can't be read; the message is for the person who gave it."""


def to_image(picture: Tensor) -> Image.Image:
    """A picture [3, H, W] in [-1, 1], clamped, as an 8 bit RGB image."""
    levels = ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def to_picture(image: Image.Image) -> Tensor:
    """An image as a picture [3, H, W] in [-1, 1]."""
    levels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32))
    return levels.permute(2, 0, 1) / 127.5 - 1


def opened(data: bytes, name: str | Path, pixels: bool = True, most: int | None = None) -> Image.Image:
    """The image in the data of a file; without `pixels` only its size and infotext are looked at.

    `most`: pixels that it may have, where it is known how large it has to be; else as many as Pillow opens.

    Raises:
        PictureError: it isn't one, it is broken, or it is larger.
    """
    if not data:
        raise PictureError(f"{shown(name)} can't be read as a picture: it is empty")
    try:
        with _allowed(most):
            image = Image.open(io.BytesIO(data))
        if pixels:
            image.load()
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{shown(name)} can't be read as a picture: it is broken, or of a kind that isn't known here"
        ) from error
    except Exception as error:  # Pillow's readers raise whatever comes up in broken data
        raise PictureError(f"{shown(name)} can't be read as a picture: {shown(str(error))}") from error
    return image


@contextmanager
def _allowed(most: int | None) -> Iterator[None]:
    """Inside, Pillow opens pictures of `most` pixels, if that is more than it opens by itself."""
    before = Image.MAX_IMAGE_PIXELS
    if most is not None and before is not None:
        Image.MAX_IMAGE_PIXELS = max(before, most)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def without_metadata(data: bytes) -> bytes:
    """The data of a PNG file, of which only what the pixels need is left; what isn't one stays as it is."""
    if not data.startswith(PNG_HEAD):
        return data
    kept, at = [PNG_HEAD], len(PNG_HEAD)
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind in OF_THE_PIXELS:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)


def png(image: Image.Image, infotext: str | None = None) -> bytes:
    """The data of a PNG file, with an infotext if there is one."""
    chunks = PngImagePlugin.PngInfo()
    if infotext is not None:
        chunks.add_text(INFOTEXT, infotext)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=chunks)
    return out.getvalue()
