"""What the latent model is for: mixing keeps the picture where hires fix of equal detail doesn't."""

import numpy as np
import pytest

from itermix.settings import Settings
from itermix.standalone.latent import bench, model
from itermix.standalone.upscaling import Method, Model

STEPS = 6
PICTURES = 3


@pytest.fixture(scope="module")
def readings():
    latent = model.load()
    chosen = bench.subjects("tuning", PICTURES)
    built_in = Model(latent.denoiser, "dpmpp_2m", STEPS, bench.CFG, "karras", latent.space())
    some = bench.sources(latent, built_in, chosen, "true")
    truths = bench.drawn(chosen, 2 * model.SIZE)
    methods = [Method("ours", Settings()), Method("weak", 0.3), Method("strong", 0.7), bench.ENLARGED]
    return {
        method.name: bench.measured(list(bench.results(built_in, method, some, 2)), truths, some) for method in methods
    }


def mean(readings, method, metric):
    return float(np.nanmean(readings[method][metric]))


def test_it_is_closer_to_the_source_than_hires_fix(readings):
    assert mean(readings, "ours", "psnr_source") > mean(readings, "weak", "psnr_source") + 1
    assert mean(readings, "ours", "psnr_source") > mean(readings, "strong", "psnr_source") + 3


def test_it_keeps_the_structure_better_than_hires_fix(readings):
    for strength in ("weak", "strong"):
        assert mean(readings, "ours", "structure") > mean(readings, strength, "structure")


def test_it_has_more_detail_than_the_enlarged_picture_and_is_not_oversharpened(readings):
    assert mean(readings, "enlarged", "detail_16") < mean(readings, "ours", "detail_16") < 1.2
    assert abs(mean(readings, "ours", "contrast")) < 3
