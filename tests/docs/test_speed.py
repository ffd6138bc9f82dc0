"""What docs/speed.md and docs/mixing.md show is what the code gives, and what the benchmarks have found."""

import json
import os
import platform
from pathlib import Path

import facts
import k_diffusion.sampling as kd
import mixing_cost
import numpy as np
import pytest
import step_budget
import torch
import webui

from itermix import Settings, weights
from itermix.mixing.blending import BLENDINGS
from itermix.mixing.run import Run
from itermix.mixing.skipping import EXPANSION, bounds_of
from itermix.picture.phases import plan
from itermix.standalone.upscaling import SCHEDULES
from itermix.steps.parametrisation import ve
from itermix.steps.schedule import schedule

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
ROUNDING = 2e-7  # of single precision


def found(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def lines_of(page):
    return (ROOT / "docs" / f"{page}.md").read_text().splitlines()


def test_the_bounds_are_those_of_the_code_and_no_picture_was_farther():
    rows = found("skipping")["rows"]
    assert len(rows) == 54
    for row in rows:
        sampler = getattr(kd, f"sample_{row['sampler']}")
        settings, sigmas = (
            Settings(denoise=1.0, blending="addition", alpha=row["alpha"]),
            kd.get_sigmas_karras(row["steps"], 0.03, 15.0),
        )
        plan = schedule(sampler, {"sigmas": sigmas}, settings)
        bounds = bounds_of(Run(sampler, plan, weights(settings, row["steps"]), settings, ve()))
        assert row["bound"] == pytest.approx(bounds[row["skipped"]])
        assert row["distance"] <= row["bound"] + ROUNDING
        assert row["largest_ratio"] < EXPANSION
        assert row["reach"] < 1


def test_the_model_of_cost_foretells_the_largest_size():
    cost = found("cost")
    largest = cost["operations"]["8"] / cost["operations"]["1"]
    assert cost["a"] * 8**2 + cost["b"] * 8**4 == pytest.approx(largest, rel=0.01)


@pytest.mark.parametrize("name", ["cost", "mixing", "skipping", "step-budget-2x", "webui"])
def test_the_facts_of_the_machine_are_kept(name):
    assert facts.machine().keys() == found(name)["facts"].keys()


def test_the_facts_say_what_computes_and_not_whose_it_is(tmp_path):
    facts.write(tmp_path / "new" / "found.json", facts={"torch": "of another"}, rows=[1])
    text = (tmp_path / "new" / "found.json").read_text()
    assert json.loads(text) == {"facts": {**facts.machine(), "torch": "of another"}, "rows": [1]}
    assert facts.machine()["torch"] == torch.__version__
    assert str(Path.home()) not in text
    assert platform.node() not in text.replace(platform.machine(), "")


def test_the_table_of_what_mixing_costs_is_what_was_found():
    rows = found("mixing")["rows"]
    cases = json.loads(json.dumps(mixing_cost.cases()))
    assert [{key: row[key] for key in case} for row, case in zip(rows, cases, strict=True)] == cases
    assert {row["blending"] for row in rows} == set(BLENDINGS)
    assert set(map(mixing_cost.line, rows)) <= set(lines_of("mixing"))


def test_mixing_takes_less_than_half_a_percent_of_a_model_call():
    rows = found("mixing")["rows"]
    assert max(row["share"] for row in rows) < 0.005
    assert all(row["share"] == sorted(row["shares"])[len(row["shares"]) // 2] for row in rows)


@pytest.mark.parametrize("row", found("mixing")["rows"], ids=lambda row: mixing_cost.line(row).strip("| "))
def test_what_mixing_holds_and_how_often_it_goes_through_a_latent_is_what_was_found(row):
    settings, size = mixing_cost.settings_of(row), (row["shape"], mixing_cost.PRECISIONS[row["precision"]])
    assert mixing_cost.held_latents(settings, 5, *size) == pytest.approx(row["latents"]["5"], abs=0.02)
    assert mixing_cost.passes(settings, *size) == pytest.approx(row["passes"], abs=0.1)


def test_the_table_of_the_steps_is_what_was_found():
    shown = {line for line in lines_of("speed") if line.startswith(tuple(f"| {name} |" for name in SCHEDULES))}
    rows = found("step-budget-2x")["rows"] + found("step-budget-2x-schedules")["rows"]
    assert len(shown) > 10
    assert shown <= set(map(step_budget.line, rows))


def test_the_table_of_the_webuis_is_what_was_found():
    assert set(map(webui.line, found("webui")["rows"])) <= set(lines_of("speed"))


@pytest.mark.parametrize("scale", webui.SCALES)
def test_mixing_and_hires_fix_are_compared_at_as_many_model_calls(scale):
    ours, theirs = (webui.request_for(128, 4, scale, mixing) for mixing in (True, False))
    assert len(plan(128, 128, scale)) == webui.SCALES[scale]
    assert webui.SCALES[scale] * ours["hr_second_pass_steps"] == theirs["hr_second_pass_steps"] == 4
    assert {key for key in ours if ours[key] != theirs[key]} <= {"alwayson_scripts", "hr_second_pass_steps"}


@pytest.mark.skipif(platform.system() != "Linux", reason="Linux alone tells the peak")
def test_the_peak_of_a_process_is_seen_after_the_memory_is_free_again():
    before = webui.resident(os.getpid())
    np.ones(10_000_000)
    assert webui.memory_of(os.getpid(), "VmHWM") - before > 7e7
    assert webui.memory_of(os.getpid(), "VmHWM") - webui.resident(os.getpid()) > 7e7
    assert webui.memory_of(os.getpid(), "VmHWM") - webui.memory_of(os.getpid(), "VmRSS") < 1e7


def test_the_peak_of_a_gpu_is_read_from_the_webuis_answer():
    """As A1111 and Forge answer with a GPU, without one, and where asking torch fails."""
    of_gpu = {"current": 2_000, "peak": 3_000}
    cuda = {"system": {}, "active": {"peak": 1}, "allocated": of_gpu, "reserved": {"peak": 9_000}, "events": {}}
    assert webui.gpu_peak({"ram": {"used": 5}, "cuda": cuda}) == 3_000
    assert webui.gpu_peak({"ram": {}, "cuda": {"error": "unavailable"}}) is None


def test_the_requests_take_turns_and_medians_are_kept(monkeypatch):
    seen = []

    def run(server, request, mixing):
        """As `Server.run`, at once; every request takes a megabyte more than the one before."""
        seen.append((request["hr_scale"], mixing))
        return {
            "seconds": 2.0 + mixing,
            "extra": 99e6 + 10e6 * mixing + 1e6 * len(seen),
            "gpu_peak": 7_000_000 if mixing else 5_000_000,
        }

    monkeypatch.setattr(webui.Server, "run", run)
    row = webui.measured(webui.Server("a WebUI", ""), 128, 4, 2, rounds=3)
    assert seen == [(2, mixing) for mixing in [False, True] + 3 * [False, True, False]]
    assert row["extra_mb"] == {"hires fix": 105, "mixing": 116, "hires fix again": 107}
    assert row["time of mixing"] == 1.5
    assert row["time of hires fix again"] == 1.0
    assert row["memory of mixing"] == pytest.approx(116 / 105)
    assert row["gpu_peak_mb"] == {"hires fix": 5.0, "mixing": 7.0}
    assert webui.line(row) == "| a WebUI | 2x | 105.0 MB | 116.0 MB | 107.0 MB | 1.50 | 1.00 | 5.0 MB | 7.0 MB |"
