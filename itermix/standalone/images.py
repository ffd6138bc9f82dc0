"""Pictures as tensors, as images, and as PNG files with an infotext."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

INFOTEXT = "parameters"
"""The PNG text chunk in which WebUIs keep how a picture was made."""


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


def opened(data: bytes, name: str | Path, pixels: bool = True) -> Image.Image:
    """The image in the data of a file; without `pixels` only its size and infotext are looked at.

    Raises:
        PictureError: it isn't one, it is broken, or it is larger than Pillow opens.
    """
    try:
        image = Image.open(io.BytesIO(data))
        if pixels:
            image.load()
    except Exception as error:  # Pillow's readers raise whatever comes up in broken data
        raise PictureError(f"{name} can't be read as a picture: {error}") from error
    return image


def png(image: Image.Image, infotext: str) -> bytes:
    """The data of a PNG file with an infotext."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(INFOTEXT, infotext)
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=chunks)
    return out.getvalue()
