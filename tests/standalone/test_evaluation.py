"""The comparison with hires fix, the rows, the benchmark's files and the demonstration's."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from itermix import Settings, SettingsError
from itermix.standalone import bench, demo, evaluation, metrics, network, report
from itermix.standalone import upscaling as up
from itermix.standalone.evaluation import Method, matched, mixings, seed_of

KEYS = {"method", "scale", "source", "n", "sampler", "steps"}
KEYS |= {name + suffix for name in metrics.METRICS for suffix in ("", "_se")}


def readings(psnr: float, detail: float, spread: float = 0.0, count: int = 16) -> metrics.Readings:
    """Of pictures with this PSNR and detail, against a truth of detail 1; `spread` is common to all methods."""
    shared = spread * np.random.default_rng(0).standard_normal(count)
    flat, features = np.ones(count), np.zeros((count, metrics.FEATURES))
    return metrics.Readings(
        strict=flat,
        psnr=psnr + shared,
        energy=flat * 100 * detail**2,
        area=flat * 100,
        orientation=flat,
        grain=flat,
        mean_drift=flat,
        contrast_drift=flat,
        mean=features,
        moment=np.zeros((count, metrics.FEATURES, metrics.FEATURES)),
    )


TRUTH = readings(0, 1)
SWEEP = [readings(40, 0.2), readings(30, 0.4), readings(20, 0.8)]


def test_matched_results_interpolate_along_the_sweep():
    found = matched(readings(35, 0.6), SWEEP, TRUTH)
    assert found["detail_ratio"] == pytest.approx(0.6 / 0.3)
    assert found["psnr_gain"] == pytest.approx(35 - 25)
    assert found["psnr_gain_se"] == 0


def test_a_method_on_the_curve_gains_nothing():
    found = matched(readings(25, 0.6), SWEEP, TRUTH)
    assert found["detail_ratio"] == pytest.approx(1)
    assert found["psnr_gain"] == pytest.approx(0)


def test_what_lies_outside_the_sweep_is_not_extrapolated():
    found = matched(readings(45, 0.9), SWEEP, TRUTH)
    assert found == {"detail_ratio": None, "detail_ratio_se": None, "psnr_gain": None, "psnr_gain_se": None}


def test_detail_is_matched_at_the_weakest_strength_that_reaches_it():
    """Strong hires fix breaks pictures and may lose detail again."""
    found = matched(readings(35, 0.6), [*SWEEP, readings(15, 0.55)], TRUTH)
    assert found["psnr_gain"] == pytest.approx(10)


def test_errors_are_paired():
    """What moves all methods alike doesn't blur their difference."""
    sweep = [readings(40, 0.2, spread=2), readings(30, 0.4, spread=2), readings(20, 0.8, spread=2)]
    assert matched(readings(35, 0.6, spread=2), sweep, TRUTH)["psnr_gain_se"] == pytest.approx(0, abs=1e-9)
    assert matched(readings(35, 0.6, spread=2), SWEEP, TRUTH)["psnr_gain_se"] > 0.3


@pytest.mark.parametrize("settings", [{}, {"detail": 0.0, "cleanup": 0.1}, {"detail": 0.0}])
def test_the_result_at_2x_is_that_of_an_upscale_to_2x(settings):
    """And not what an upscale to 4x comes through, where that lacks what the last phase gets."""
    model = up.Model(network.Guided(network.load()), steps=4)  # of which denoise leaves three
    sources, method = up.true_sources(1, 0), Method("mixing", Settings(**settings))
    alone, *_ = evaluation.evaluate(model, [method], [sources], (2,), references=1)
    both, *_ = evaluation.evaluate(model, [method], [sources], (2, 4), references=1)
    assert torch.equal(alone.pictures["mixing"], both.pictures["mixing"])


def test_the_default_is_measured_against_its_rivals():
    methods = mixings()
    assert [m.name for m in methods if m.recipe == Settings()] == [m.name for m in methods if "(default)" in m.name]
    assert {m.name for m in methods if not m.back_projection} == {"default, guidance alone", "addition, alpha 1"}
    assert len({m.name for m in methods}) == len(methods) == 4


def test_seed_sets_do_not_overlap():
    starts = sorted(evaluation.SEEDS.values())
    assert min(np.diff([*starts, metrics.REFERENCE_SEED])) >= 10_000
    assert seed_of("17") == 17
    with pytest.raises(SettingsError, match=r"seeds = '-1'.*tune, confirm"):
        seed_of("-1")


def test_phases_on_the_way_to_4x_are_the_results_at_2x(model):
    sources = [evaluation.upscaling.true_sources(2, 0)]
    method = [Method("mixing", Settings())]
    both = evaluation.evaluate(model, method, sources, (2, 4), references=4)
    alone = evaluation.evaluate(model, method, sources, (2,), references=4)
    assert [group.scale for group in both] == [2, 4]
    assert both[0].pictures["mixing"].equal(alone[0].pictures["mixing"])
    assert both[1].pictures["mixing"].shape == (2, 3, 128, 128)


def test_a_single_large_phase_has_no_result_on_the_way(model):
    method = [Method("one phase", Settings(max_scale_per_phase=4.0)), Method("enlarged", 0.0)]
    groups = evaluation.evaluate(model, method, [evaluation.upscaling.true_sources(1, 0)], references=2)
    assert [list(group.readings) for group in groups] == [["enlarged"], ["one phase", "enlarged"]]


@pytest.fixture
def few_resamples(monkeypatch):
    """For what is written, not for how sure it is of its numbers, of which test_metrics.py is."""
    resamples = metrics.resamples
    monkeypatch.setattr(metrics, "resamples", lambda count, rounds=0: resamples(count, 10))


def test_bench_writes_its_report(model, few_resamples, tmp_path, capsys):
    methods = [Method("mixing", Settings(alpha=0.6)), Method("other", Settings(alpha=3.0))]
    sources = [bench.SOURCES[kind](model, 2, 0) for kind in ("model", "true")]
    bench.run(model, tmp_path, sources, (2,), methods, references=4, command="itermix bench")
    rows = json.loads((tmp_path / "report.json").read_text())
    assert all(set(row) >= KEYS for row in rows)
    assert {row["source"] for row in rows} == {"model", "true"}
    names = [row["method"] for row in rows if row["source"] == "true"]
    sweep = [method.name for method in evaluation.SWEEP]
    assert names == ["enlarged", "direct", *sweep, "mixing", "other", "true render"]
    mixing = next(row for row in rows if row["method"] == "mixing")
    assert mixing["settings"] == {"alpha": 0.6}
    assert {"detail_ratio", "psnr_gain", "detail_ratio_se", "psnr_gain_se"} <= set(mixing)
    text = (tmp_path / "report.md").read_text()
    assert "itermix bench" in text
    assert text.count("| mixing |") == 2
    for name in ("front.png", "contact-sheet.png"):
        assert f"({name})" in text
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 400
    assert "hires fix 0.7" in capsys.readouterr().out


def test_demo_writes_sheet_and_metrics_and_the_same_numbers_again(model, few_resamples, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demo, "REFERENCES", 8)
    for name in "ab":
        demo.run(dataclasses.replace(model, steps=2), tmp_path / name, count=1)
    rows = json.loads((tmp_path / "a" / "metrics.json").read_text())
    assert all(set(row) >= KEYS for row in rows)
    assert {row["scale"] for row in rows} == {2, 4}
    assert {"direct", "hires fix 0.3", *(method.name for method in mixings())} <= {row["method"] for row in rows}
    assert len(rows) == 2 * len(demo.methods())
    with Image.open(tmp_path / "a" / "contact-sheet.png") as sheet:
        assert sheet.width > 2 * 128
    assert "4x (32 to 128 px)" in capsys.readouterr().out
    assert (tmp_path / "a" / "metrics.json").read_bytes() == (tmp_path / "b" / "metrics.json").read_bytes()


def test_a_table_shows_what_is_missing_as_a_dash():
    row = {"method": "direct", "strict": 0.25, "strict_se": 0.1, "psnr": None, "psnr_se": None}
    line = report.table([row]).splitlines()[1]
    assert line.split() == ["direct", "0.25", "±0.10", *"-" * 9]
