"""The benchmark of the latent model: its rows, and that nothing in it depends on the other methods."""

import json

import numpy as np
import pytest
import torch

from itermix.settings import Settings
from itermix.standalone.latent import bench, metrics, model
from itermix.standalone.upscaling import Method, Model


@pytest.fixture(scope="module")
def latent():
    return model.load()


def test_the_halves_are_told_apart_and_always_the_same():
    tuning, confirmation = (bench.subjects(part, 5) for part in ("tuning", "confirmation"))
    assert not set(tuning) & set(confirmation)
    assert list(bench.subjects("tuning", 3)) == list(tuning)[:3]


def test_a_run_writes_rows_and_a_sheet(latent, tmp_path):
    case = bench.Case("true", 2, "euler", "karras", 2)
    ours, sweep = Method("ours", Settings()), [Method("hires fix 0.3", 0.3)]
    chosen = bench.subjects("tuning", 2)
    rows = bench.run(latent, tmp_path, chosen, [case], [ours], "itermix bench --model latent", sweep)
    by_name = {row["method"]: row for row in rows}
    assert set(by_name) == {bench.ROUND_TRIP, "enlarged", "hires fix 0.3", "ours"}
    assert by_name["ours"]["settings"] == {}
    assert by_name[bench.ROUND_TRIP]["psnr"] > 30  # the autoencoder doesn't hide what methods differ by
    assert by_name["enlarged"]["psnr_source"] > 40
    assert json.loads((tmp_path / "report.json").read_text()) == rows
    report = (tmp_path / "report.md").read_text()
    assert "    itermix bench --model latent\n" in report  # what makes it again
    assert f"| ours | 2 | {by_name['ours']['psnr_source']:.1f} ± " in report
    assert (tmp_path / "true-2x-euler-karras-2.png").exists()


def test_a_picture_has_its_own_noise_whatever_was_made_before(latent):
    chosen = bench.subjects("tuning", 2)
    built_in = Model(latent.denoiser, "euler_ancestral", 2, bench.CFG, "karras", latent.space())
    some = bench.sources(latent, built_in, chosen, "true")
    both = list(bench.results(built_in, Method("ours", Settings()), some, 2))
    again = bench.sources(latent, built_in, {name: chosen[name] for name in list(chosen)[1:]}, "true", first=1)
    assert torch.equal(next(bench.results(built_in, Method("ours", Settings()), again, 2)), both[1])


def test_soft_sources_lack_the_finest_octave_of_renders_and_nothing_else(latent):
    chosen = bench.subjects("tuning", 2)
    built_in = Model(latent.denoiser, "euler", 2, bench.CFG, "karras", latent.space())
    sharp, soft = (bench.sources(latent, built_in, chosen, kind).pictures for kind in ("true", "soft"))
    error = metrics.psnr((soft + 1) / 2, (sharp + 1) / 2)
    assert (error > 20).all()
    detail = metrics.detail((soft + 1) / 2, (sharp + 1) / 2)
    assert detail["detail_8"].mean() < 0.95


def test_rows_tell_what_is_gained_over_hires_fix_of_equal_detail():
    def readings(psnr, detail):
        numbers = {"psnr_source": psnr, "precision": 0.5, "structure": 0.5, "detail_16": detail}
        return {name: np.full(3, float(value)) for name, value in numbers.items()}

    found = {"weak": readings(20, 0.5), "strong": readings(10, 1.5), "ours": readings(18, 1.0)}
    *_, row = bench.rows_of(
        bench.Case("true", 2, "euler", "karras", 2), found, ["weak", "strong"], {"ours": Settings()}
    )
    assert row["psnr_source_gain"] == pytest.approx(3)
    assert row["structure_gain"] == pytest.approx(0)


def test_a_row_knows_what_is_not_there():
    readings = {"psnr_source": np.array([20.0, 22.0]), "grain": np.array([np.nan, 1.0])}
    (row,) = bench.rows_of(bench.Case("true", 2, "euler", "karras", 2), {"ours": readings}, [], {})
    assert row["psnr_source"] == 21
    assert row["psnr_source_se"] == 1
    assert row["grain"] == 1
    assert row["grain_se"] is None
