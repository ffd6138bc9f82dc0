"""Labelled contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from itermix.standalone.images import to_image

if TYPE_CHECKING:
    from itermix.standalone.evaluation import Group

CELL = 128
"""Side of every picture on a sheet, in pixels, where nothing else is said."""

GAP = 6
MARGIN = 16
TITLE_HEIGHT = 34
TITLE_SIZE, LABEL_SIZE, NOTE_SIZE = 18, 15, 12
INK, PALE, PAPER = "#202020", "#666666", "#ffffff"


@dataclass(frozen=True)
class Row:
    """Pictures [N, 3, H, H] in [-1, 1] with a name and a smaller note of a few lines."""

    name: str
    pictures: Tensor
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Rows under a common title."""

    title: str
    rows: Sequence[Row]


def contact_sheet(blocks: Sequence[Block], columns: int = 2, cell: int = CELL) -> Image.Image:
    """Blocks side by side in up to `columns` columns; the rows of a block stand below each other.

    Every picture is `cell` pixels wide: smaller ones are shown with larger pixels, larger ones are reduced.
    """
    columns = min(columns, len(blocks))
    label = max(_text_width(row.name, LABEL_SIZE) for block in blocks for row in block.rows)
    notes = [line for block in blocks for row in block.rows for line in row.note.splitlines()]
    label = max([label, *(_text_width(line, NOTE_SIZE) for line in notes)]) + 2 * GAP
    most = max(len(row.pictures) for block in blocks for row in block.rows)
    titles = max(_text_width(block.title, TITLE_SIZE) for block in blocks)
    width = max(label + most * (cell + GAP), titles) + MARGIN
    bands = [blocks[k : k + columns] for k in range(0, len(blocks), columns)]
    heights = [TITLE_HEIGHT + max(len(block.rows) for block in band) * (cell + GAP) + MARGIN for band in bands]
    sheet = Image.new("RGB", (MARGIN + columns * width, MARGIN + sum(heights)), PAPER)
    for k, band in enumerate(bands):
        for column, block in enumerate(band):
            _paste_block(sheet, block, MARGIN + column * width, MARGIN + sum(heights[:k]), label, cell)
    return sheet


def sheet_of_groups(groups: Sequence[Group], path: Path) -> None:
    """Write the sheet of a benchmark: one block per group, with the sources on top and each method's numbers."""
    blocks = []
    for group in groups:
        rows = [Row("source", group.sources.pictures[: len(next(iter(group.pictures.values())))])]
        for name, pictures in group.pictures.items():
            readings = group.readings[name]
            detail = readings.rms / group.reference.rms
            note = f"strict {readings.strict.mean():.2f}\nPSNR {readings.psnr.mean():.1f} dB\ndetail {detail:.2f}"
            rows.append(Row(name, pictures, note))
        blocks.append(Block(group.title, rows))
    contact_sheet(blocks).save(path)


def _paste_block(sheet: Image.Image, block: Block, left: int, top: int, label: int, cell: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((left, top), block.title, INK, _font(TITLE_SIZE))
    for k, row in enumerate(block.rows):
        y = top + TITLE_HEIGHT + k * (cell + GAP)
        draw.text((left, y + 2), row.name, INK, _font(LABEL_SIZE))
        draw.multiline_text((left, y + 24), row.note, PALE, _font(NOTE_SIZE))
        for column, picture in enumerate(row.pictures):
            smaller = picture.shape[-1] <= cell
            how = Image.Resampling.NEAREST if smaller else Image.Resampling.LANCZOS
            sheet.paste(to_image(picture).resize((cell, cell), how), (left + label + column * (cell + GAP), y))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # of Pillow before 10.1, which A1111 has: one size alone
        return ImageFont.load_default()


def _text_width(text: str, size: int) -> int:
    return int(_font(size).getlength(text)) + 1
