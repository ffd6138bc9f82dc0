"""Numbers as tables and JSON have them."""

from __future__ import annotations

import math


def finite(value: float) -> float | None:
    """Rounded to four digits after the point; None if it has no finite value, as JSON knows none."""
    return round(float(value), 4) if math.isfinite(value) else None


def cell(value: float | None, error: float | None, digits: int) -> str:
    """A number of a table with its standard error, as far as they are known."""
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
