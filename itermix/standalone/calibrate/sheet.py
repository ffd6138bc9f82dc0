"""What was tried, to be looked at: a sheet as PNG, and a page of one file with a slider over each pair."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from itermix.standalone.calibrate import report, search
from itermix.standalone.calibrate.run import Found
from itermix.standalone.images import opened, to_picture
from itermix.standalone.sheets import Block, Row, contact_sheet

SOURCE = "source"
MOST_PICTURES, MOST_SETTINGS = 6, 3
CROP = 256
"""Side of the part that is shown at full size, in pixels."""

QUALITY = 95
"""Of the pictures in the page, as WebP."""

TEMPLATE = Path(__file__).with_name("sheet.html")


def names(found: Found) -> list[str]:
    """What is shown: hires fix, the presets, and the best of the settings that were tried."""
    ranked = [name for name in found.ranked() if name not in search.PRESETS][:MOST_SETTINGS]
    every = [*(each.name for each in search.hires_fix()), *search.PRESETS, *ranked]
    return [name for name in every if name not in found.failed]


def pictures(found: Found, number: int) -> dict[str, Image.Image]:
    """{name: picture at the result's size} of one source, which comes first, enlarged with square pixels."""
    made = {}
    for name in names(found):
        file = found.files[name, number]
        made[name] = opened(file.read_bytes(), file).convert("RGB")
    size = next(iter(made.values())).size
    source = found.sources[number].image.convert("RGB").resize(size, Image.Resampling.NEAREST)
    return {SOURCE: source, **made}


def differing(images: Sequence[Image.Image], side: int) -> tuple[int, int]:
    """(left, top) of the square of `side` pixels in which pictures of one size differ most."""
    grey = np.stack([np.asarray(image.convert("L"), np.float32) for image in images])
    apart: NDArray[np.float32] = ndimage.uniform_filter(grey.std(axis=0), min(side, *grey.shape[1:]), mode="constant")
    top, left = np.unravel_index(apart.argmax(), apart.shape)
    height, width = apart.shape
    return (
        int(np.clip(left - side // 2, 0, max(0, width - side))),
        int(np.clip(top - side // 2, 0, max(0, height - side))),
    )


def write(found: Found, told: Mapping[str, Any], out: Path) -> None:
    """sheet.png and sheet.html of a calibration that has compared something."""
    shown = found.shared()[:MOST_PICTURES]
    all_of_them = [pictures(found, k) for k in shown]
    crops = [differing([image for name, image in each.items() if name != SOURCE], CROP) for each in all_of_them]
    notes = {row["name"]: note(row) for row in told["rows"]}
    blocks = []
    for title, part in (("Whole", False), ("Where they differ most, at full size", True)):
        rows = []
        for name in all_of_them[0]:
            cut = [cell(each[name], crop if part else None) for each, crop in zip(all_of_them, crops)]
            rows.append(Row(name, torch.stack([to_picture(image) for image in cut]), notes.get(name, "")))
        blocks.append(Block(title, rows))
    contact_sheet(blocks, columns=1, cell=CROP).save(out / "sheet.png")
    page = [
        {"title": f"Picture {k + 1}", "images": {name: url(image) for name, image in each.items()}, "crop": crop}
        for k, each, crop in zip(shown, all_of_them, crops)
    ]
    (out / "sheet.html").write_text(filled(told, page), encoding="utf-8")


def cell(image: Image.Image, crop: tuple[int, int] | None) -> Image.Image:
    """The part at `crop`, at full size; or the picture, its middle where it isn't square."""
    if crop is not None:
        return image.crop((*crop, crop[0] + CROP, crop[1] + CROP))
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side)).resize((CROP, CROP), Image.Resampling.LANCZOS)


def note(row: Mapping[str, Any]) -> str:
    """Lines below a row's name on the sheet."""
    parts = (("score", "score", 1), ("fidelity", "fidelity", 1), ("detail_16", "detail", 2), ("calls", "calls", 0))
    return "\n".join(f"{label} {row[name]:.{digits}f}" for name, label, digits in parts if row.get(name) is not None)


def url(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"


def filled(told: Mapping[str, Any], page: Sequence[Mapping[str, Any]]) -> str:
    """The page of one file."""
    hires = [row["name"] for row in told["rows"] if row["kind"] == "hires fix"]
    data = {"pictures": page, "left": hires[0] if hires else SOURCE, "right": told["best"]}
    summary, *table = report.best(told), *report.table(told["rows"]).splitlines()
    parts = {
        "TITLE": html.escape(f"Calibration of {told['checkpoint'] or 'a checkpoint'}"),
        "SUMMARY": html.escape(summary.replace("**", "")),
        "TABLE": html_table(table),
        "JSON_DATA": json.dumps(data).replace("</", "<\\/"),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in parts.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def html_table(lines: Sequence[str]) -> str:
    """A table in Markdown as HTML."""
    head, _, *rows = ([html.escape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines)
    heads = "".join(f"<th>{each}</th>" for each in head)
    body = "".join(f"<tr>{''.join(f'<td>{each}</td>' for each in row)}</tr>" for row in rows)
    return f"<table><tr>{heads}</tr>{body}</table>"
