"""docs/tips.md is what was measured, of what is tried."""

import json
import math
from pathlib import Path

import facts
import make_tips
import tips

from itermix import Settings

ROOT = Path(__file__).parents[2]
FOUND = json.loads((ROOT / "benchmarks" / "results" / "tips.json").read_text())


def test_the_page_is_made_of_what_was_found():
    assert (ROOT / "docs" / "tips.md").read_text(encoding="utf-8") == make_tips.page()


def test_every_variant_was_measured_and_nothing_else():
    named = {}
    for tip in tips.TIPS.values():
        for variant in tip.variants:
            assert named.setdefault(variant.name, variant) == variant
            assert isinstance(variant.settings, Settings)
    assert set(FOUND["rows"]) == set(named)
    assert FOUND["facts"].keys() == facts.machine().keys()
    for row in FOUND["rows"].values():
        assert list(row) == list(tips.MEASURED)
        assert all(len(values) == FOUND["pictures"] for values in row.values())


def test_a_cell_tells_the_mean_and_the_difference_picture_by_picture():
    assert make_tips.cell("psnr", [20.0, 22.0], None) == "21.0"
    assert make_tips.cell("psnr", [20.0, 22.0], [19.0, 21.0]) == "21.0 (+1.0 ± 0.0)"
    assert make_tips.cell("grain", [1.0, None, 3.0], [2.0, 5.0, 6.0]) == "2.00 (-2.00 ± 1.00)"
    assert make_tips.cell("grain", [math.nan, None], None) == "-"
