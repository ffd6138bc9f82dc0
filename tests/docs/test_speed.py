"""What docs/speed.md shows is what the code gives."""

import json
from pathlib import Path

import k_diffusion.sampling as kd
import pytest

from itermix import Settings, weights
from itermix.noising import ve
from itermix.schedule import schedule
from itermix.skipping import EXPANSION, bounds_of

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ROUNDING = 2e-7  # of single precision


def test_the_bounds_are_those_of_the_code_and_no_picture_was_farther():
    rows = json.loads((RESULTS / "skipping.json").read_text())
    assert len(rows) == 54
    for row in rows:
        sampler = getattr(kd, f"sample_{row['sampler']}")
        settings, sigmas = (
            Settings(denoise=1.0, blending="addition", alpha=row["alpha"]),
            kd.get_sigmas_karras(row["steps"], 0.03, 15.0),
        )
        plan = schedule(sampler, {"sigmas": sigmas}, settings)
        bounds = bounds_of(sampler, plan, weights(settings, row["steps"]), ve())
        assert row["bound"] == pytest.approx(bounds[row["skipped"]])
        assert row["distance"] <= row["bound"] + ROUNDING
        assert row["largest_ratio"] < EXPANSION
        assert row["reach"] < 1


def test_the_model_of_cost_foretells_the_largest_size():
    found = json.loads((RESULTS / "cost.json").read_text())
    largest = found["operations"]["8"] / found["operations"]["1"]
    assert found["a"] * 8**2 + found["b"] * 8**4 == pytest.approx(largest, rel=0.01)
