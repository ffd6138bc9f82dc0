"""Tables of benchmark rows, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from itermix.standalone.evaluation import Group

COLUMNS = {
    "strict": ("strict", 2),
    "psnr": ("PSNR", 1),
    "detail": ("detail", 2),
    "orientation": ("orient.", 2),
    "grain": ("grain", 2),
    "patch_distance": ("patch dist.", 2),
    "mean_drift": ("mean drift", 2),
    "contrast_drift": ("contrast drift", 1),
    "detail_ratio": ("detail ratio", 2),
    "psnr_gain": ("PSNR gain", 1),
}
"""{metric: (heading, digits after the point)}."""

LEGEND = """\
- **strict**: share of pictures with exactly the right parts, counted down to blobs of a few pixels.
- **PSNR**: of the average-pooled result against its source, in dB.
- **detail**: RMS of the top octave inside the textured hat, native renders are 1. **orient.**: coherence of that
  signal, 1 for stripes, 0 for noise. **grain**: its spread in flat background, in 1/255.
- **patch dist.**: 100 times the Fréchet distance of patch features to native renders; it doesn't see shifts of colour.
- **mean drift**, **contrast drift**: how far the mean (in 1/255) and the standard deviation (in %) of a channel have
  moved from the source's.
- **detail ratio**: detail over that of hires fix of equal PSNR. **PSNR gain**: dB above hires fix of equal detail. Both
  interpolate linearly along the hires fix sweep, whose weak end is the enlarged picture; a dash is outside of it.
- After ± one standard error, by bootstrap over the pictures. Noise is paired: picture k has the same in all methods.
"""


def tables(groups: Sequence[Group], rows: Sequence[Mapping[str, Any]]) -> str:
    """Plain text with a table for each group."""
    return "\n\n".join(f"{group.title}\n{table(_of(group, rows))}" for group in groups)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Aligned plain text, with a line for each row."""
    width = max(len(row["method"]) for row in rows)
    heads = "  ".join(f"{heading:>12}" for heading, _ in COLUMNS.values())
    lines = [f"{'':{width}}  {heads}"]
    for row in rows:
        lines.append(f"{row['method']:{width}}  " + "  ".join(f"{cell:>12}" for cell in _cells(row)))
    return "\n".join(lines)


def markdown(groups: Sequence[Group], rows: Sequence[Mapping[str, Any]], command: str) -> str:
    """The whole report; `command` is what makes it again."""
    first = rows[0]
    parts = [
        "# Benchmark of the built-in model\n",
        f"    {command}\n",
        f"{first['n']} pictures per row, {first['sampler']}, {first['steps']} steps (Karras), CFG {first['cfg']:g}, "
        f"first seed {first['seed']}. Larger scales in phases of 2x.\n",
        LEGEND,
        "![Trade-off of detail and fidelity](front.png)\n",
    ]
    for group in groups:
        parts.append(f"## {group.title}\n")
        parts.append("| method | " + " | ".join(heading for heading, _ in COLUMNS.values()) + " |")
        parts.append("|---" * (1 + len(COLUMNS)) + "|")
        parts += [f"| {row['method']} | " + " | ".join(_cells(row)) + " |" for row in _of(group, rows)]
        parts.append("")
    parts.append("![The pictures behind the numbers](contact-sheet.png)\n")
    return "\n".join(parts)


def _of(group: Group, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if (row["source"], row["scale"]) == (group.sources.kind, group.scale)]


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_cell(row.get(name), row.get(f"{name}_se"), digits) for name, (_, digits) in COLUMNS.items()]


def _cell(value: float | None, error: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if error is None else f"{value:.{digits}f} ±{error:.{digits}f}"
