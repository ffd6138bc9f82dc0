import importlib.util
import json
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
TOOLS = DOCS.parent / "tools"
ROWS = json.loads((DOCS / "data" / "sampler-matrix.json").read_text())


def test_the_page_of_samplers_is_that_of_the_data():
    spec = importlib.util.spec_from_file_location("make_sampler_matrix", TOOLS / "make_sampler_matrix.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "samplers.md").read_text(encoding="utf-8") == module.page(ROWS)


def test_every_sampler_was_mixed_once_a_step_or_the_reason_is_given():
    assert {row["host"] for row in ROWS} >= {"A1111 1.10.1", "Forge", "reForge"}
    for row in ROWS:
        if row["status"] == "mixed":
            assert (row["blends_per_step"], row["finite"], row["effective"]) == (1, True, True), row
        else:
            assert row["status"] in ("refused", "failed")
            assert row["reason"]
