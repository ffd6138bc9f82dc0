"""The tables of large pictures are what was measured, and show what mixing is worth."""

import fnmatch
import json
import shlex
from pathlib import Path

import cost
import large
import make_large
import pytest
import tile_memory
from webui_methods import methods_of
from webui_quality import RENDERS, SOFT, name_in_package

ROOT = Path(__file__).parents[2]


def found(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def test_the_table_is_made_of_what_was_found():
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert make_large.page(text) == text


def test_what_a_picture_costs_follows_from_the_counted_operations():
    counted = found("cost")
    assert list(counted["ways"]) == [str(scale) for scale in cost.SCALES]
    for scale in cost.SCALES:
        ways = cost.ways(scale, lambda of: counted["a"] * of**2 + counted["b"] * of**4)
        assert {name: vars(way) for name, way in ways.items()} == counted["ways"][str(scale)]


@pytest.mark.parametrize("name", large.RUNS)
def test_every_run_is_kept_with_its_command_and_all_that_it_measures(name):
    run, kept = large.RUNS[name], found("large")["runs"][name]
    assert shlex.split(kept["command"])[1:] == run.command(Path("out") / "large" / name)
    known = [method.name for method in methods_of(large.PRESETS)] if run.webui else run.methods
    asked = {name_in_package(method) for method in known if any(fnmatch.fnmatchcase(method, p) for p in run.methods)}
    assert asked <= {row["method"] for row in kept["rows"]}
    assert {row["n"] for row in kept["rows"]} == {run.pictures}


@pytest.mark.parametrize("kind", [RENDERS, SOFT])
@pytest.mark.parametrize("scale", make_large.SCALES)
def test_no_two_runs_measure_the_same(kind, scale):
    runs = [name for name, run in large.RUNS.items() if (run.kind, run.scale) == (kind, scale)]
    rows = [row["method"] for name in runs for row in found("large")["runs"][name]["rows"]]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(("scale", "share"), [(2, 0.5), (4, 0.5), (8, 0.25)])
def test_mixing_has_the_better_structure_for_a_share_of_the_operations_of_hires_fix(scale, share):
    ways = found("cost")["ways"][str(scale)]
    ours, theirs = (ways[name]["steps"] * ways[name]["cost"] for name in ("mixing", "hires fix"))
    assert ours <= share * theirs
    rows = make_large.measured(found("large")["runs"], RENDERS, scale)
    for preset in large.PRESETS:
        assert rows[preset]["structure"] > rows["hires fix 0.5"]["structure"]


def test_what_was_not_run_is_said():
    row = {"n": 1, **dict.fromkeys(large.METRICS, 0.5), **{f"{metric}_se": None for metric in large.METRICS}}
    few = {**row, "n": 2, "structure_se": 0.25}
    assert make_large.quality(row, None) == [
        "1",
        "0.5 / 0.5",
        "0.50",
        "0.500 / 0.500 / 0.500",
        "0.50",
        "not run",
        "",
        "",
    ]
    assert make_large.quality(None, few) == ["not run", "", "", "", "", "2", "0.50", "0.500 ± 0.250"]
    assert len(make_large.HEADS) == 7 + len(make_large.quality(row, few))


def test_a_run_that_wants_a_webui_stays_as_it_was_without_one(monkeypatch, tmp_path, capsys):
    kept = {"facts": {}, "runs": {"8x-others": {"command": "of before", "rows": []}}}
    results = tmp_path / "large.json"
    results.write_text(json.dumps(kept))
    monkeypatch.setattr(large, "RESULTS", results)
    monkeypatch.setattr("sys.argv", ["large.py", "--out", str(tmp_path), "--only", "8x-others"])
    large.main()
    assert json.loads(results.read_text()) == kept
    assert "8x-others wants --server" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiles", "tiles-sd15"])
def test_the_table_of_memory_is_what_was_found(name):
    shown = (ROOT / "docs" / "tiles.md").read_text(encoding="utf-8").splitlines()
    assert {tile_memory.line(row) for row in found(name)["rows"]} <= set(shown)
