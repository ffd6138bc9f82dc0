"""The analysis of the built-in model's passes, and the command line's files."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

import itermix.standalone.upscaling as up
from itermix import Settings, SettingsError
from itermix.standalone import cli, demo, server
from itermix.standalone.evaluation import ENLARGED, mixings
from itermix.standalone.options import mixing_of
from itermix.standalone.sources import read
from itermix.standalone.upscaling import Method, phases


def test_every_phase_has_one_and_the_picture_is_the_same(model):
    sources = up.true_sources(1, seed=0)
    method = Method("mixing", Settings(cleanup=0.1))
    analyses: list = []
    *_, with_it = phases(model, method, sources, (128, 128), analyses)
    *_, without = phases(model, method, sources, (128, 128))
    assert torch.equal(with_it, without)
    assert len(analyses) == 2
    for analysis, side in zip(analyses, (64, 96)):  # the second is larger than what is kept
        assert [row["step"] for row in analysis.numbers(0)["steps"]] == list(range(Settings().steps))
        assert analysis.pictures(0)[0]["denoised"].shape == (3, side, side)


def test_the_last_picture_is_the_result(model):
    """The last estimate of the clean picture is the result, where nothing comes after."""
    sources = up.true_sources(1, seed=0)
    analyses: list = []
    *_, result = phases(model, Method("mixing", Settings(fidelity=0.0)), sources, (64, 64), analyses)
    shown = analyses[0].pictures(0)[Settings().steps - 1]["denoised"]
    assert ((result[0] + 1) * 127.5 - shown).abs().max() <= 1


@pytest.fixture
def quick(untrained, tmp_path):
    """quick(command, ...) runs a command of the built-in model in few steps, into a folder; gives its files' names."""

    def run(command, *more, weights=True):
        out = tmp_path / "out"
        target = out if command == "demo" else out / "picture.png"
        given = ["--weights", str(untrained)] if weights else []
        given += ["--replace"] if command == "upscale" else []
        assert cli.main([command, "--out", str(target), "--steps", "3", *given, *more]) == 0
        return {path.name for path in out.iterdir()}, out

    return run


def test_upscale_writes_it_beside_the_picture(quick, capsys):
    names, out = quick("upscale", "--analysis", "--scale", "4")
    ends = {f"picture-analysis-phase-{k}.{end}" for k in (1, 2) for end in ("png", "json")}
    assert names == {"picture.png"} | ends
    assert all(str(out / name) in capsys.readouterr().out for name in ["picture.png"])
    numbers = json.loads((out / "picture-analysis-phase-2.json").read_text())
    assert len(numbers["steps"]) == 3
    with Image.open(out / "picture.png") as image:
        assert "analysis" not in image.info["parameters"]
    assert quick("upscale", "--scale", "2")[0] == names


def test_plot_compares_the_noised_sequence_with_itself(quick):
    names, out = quick("plot", "--analysis", "--noise", "independent", "--denoise", "1", weights=False)
    assert names == {"picture.png", "picture-analysis.png", "picture-analysis.json"}
    numbers = json.loads((out / "picture-analysis.json").read_text())
    assert [row["similarity"] for row in numbers["steps"]] == pytest.approx([1.0] * 3, abs=1e-4)
    assert numbers["steps"][0]["noised"]["std"] == pytest.approx(15, rel=0.05)  # the highest sigma
    assert abs(numbers["similarities"]["values"][0][1]) < 0.1
    assert all("denoised" not in row for row in numbers["steps"])


def test_plot_has_the_steps_that_are_run(quick):
    _, out = quick("plot", "--analysis", "--denoise", "0.7", "--start-at-step", "1", weights=False)
    first, last = json.loads((out / "picture-analysis.json").read_text())["steps"]
    assert (first["level"], last["level"]) == pytest.approx(tuple(up.karras(4)[2:4].tolist()))
    assert first["weight"] == 1


def test_demo_writes_that_of_its_first_picture(quick, monkeypatch):
    monkeypatch.setattr(demo, "methods", lambda: [ENLARGED, *mixings()[:1]])  # all of them: test_evaluation.py
    monkeypatch.setattr(demo, "REFERENCES", 4)
    names, _ = quick("demo", "--analysis", "--pictures", "1")
    ends = {f"first-picture-analysis-phase-{k}.{end}" for k in (1, 2) for end in ("png", "json")}
    assert names == {"contact-sheet.png", "metrics.json"} | ends


def test_a_curve_or_a_rival_has_none(quick):
    with pytest.raises(SettingsError, match=r"analysis = True.*option of its own"):
        mixing_of("analysis=true alpha=1")


def test_a_webui_is_asked_to_save_the_picture(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    source = read(tmp_path / "picture.png")
    for settings, saved in ((up.UpscaleSettings(analysis=True), True), (up.UpscaleSettings(), None)):
        request = json.loads(server.request(source, settings, {}))
        assert request.get("save_images") is saved
        assert request["script_args"][0].get("analysis") is saved
