"""The pictures that a checkpoint is tried on: what it makes of prompts, or the user's own at a size that fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from itermix.parameters import SIZE_MULTIPLE
from itermix.standalone import sources
from itermix.standalone.batch.plan import found
from itermix.standalone.calibrate.arguments import LONGEST
from itermix.standalone.images import png
from itermix.standalone.options import UsageError

SHIPPED = Path(__file__).with_name("prompts.txt")

GENERATION: dict[str, Any] = {
    "negative_prompt": "",
    "steps": 20,
    "sampler_name": "DPM++ 2M",
    "scheduler": "Karras",
    "cfg_scale": 7.0,
}
"""Of a request, where neither the options nor the picture's infotext say otherwise."""

SEED = 1000
"""Of the first picture; the next has the next."""

LEAST = 32
"""Pixels of the shorter side."""


def prompts(file: Path) -> list[str]:
    """One on each line; empty lines and those that begin with # are left out. Raises UsageError if there is none."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"--prompts {file} is not possible. Allowed: a text in UTF-8.") from error
    kept = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not kept:
        raise UsageError(f"--prompts {file} is not possible. Allowed: a text with a prompt on a line.")
    return kept


def txt2img(prompt: str, number: int, side: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the request for a source, square; `given` are request fields."""
    return {**GENERATION, "prompt": prompt, "seed": SEED + number, **given, "width": side, "height": side}


def own(folder: Path, out: Path) -> list[Path]:
    """The user's pictures, in the order of their names. Raises UsageError if there is none, PlanError, OSError."""
    if not folder.is_dir():
        raise UsageError(f"--pictures {folder} is not possible. Allowed: a folder of pictures.")
    files = list(found(folder, out).pictures.values())
    if not files:
        raise UsageError(f"--pictures {folder} is not possible. Allowed: a folder with a picture in it.")
    return files


def prepared(source: sources.Source) -> bytes:
    """PNG data of a picture of the user's, reduced to LONGEST and cut to whole latent pixels.

    Raises UsageError: it is too small.
    """
    image = ImageOps.exif_transpose(source.image).convert("RGB")
    share = min(1.0, LONGEST / max(image.size))
    width, height = (max(1, round(side * share)) for side in image.size)
    if min(width, height) < LEAST:
        raise UsageError(
            f"{source.file} is {image.width}x{image.height}. Allowed: pictures of {LEAST} pixels and more a side."
        )
    if share < 1:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    cut = tuple(side // SIZE_MULTIPLE * SIZE_MULTIPLE for side in (width, height))
    left, top = (width - cut[0]) // 2, (height - cut[1]) // 2
    return png(image.crop((left, top, left + cut[0], top + cut[1])))
