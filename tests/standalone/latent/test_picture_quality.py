"""What guidance buys in a latent space: sampled from as far up the schedule, the picture is kept."""

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
    assert Settings().denoise == 0.5
    methods = [Method("ours", Settings()), Method("with detail", Settings(detail=0.3)), Method("hires fix", 0.7)]
    return {
        method.name: bench.measured(list(bench.results(built_in, method, some, 2)), truths, some) for method in methods
    }


def mean(readings, method, metric):
    return float(np.nanmean(readings[method][metric]))


def test_it_is_far_closer_to_source_and_truth_than_hires_fix_of_the_same_strength(readings):
    for metric in ("psnr_source", "psnr"):
        assert mean(readings, "ours", metric) > mean(readings, "hires fix", metric) + 6


def test_it_keeps_the_structure_that_hires_fix_loses(readings):
    for metric in ("precision", "recall", "structure"):
        assert mean(readings, "ours", metric) > mean(readings, "hires fix", metric) + 0.15


def test_the_default_is_neither_soft_nor_oversharpened(readings):
    assert 0.85 < mean(readings, "ours", "detail_16") < 1.1
    assert abs(mean(readings, "ours", "contrast")) < 3


def test_detail_is_a_choice_that_costs_structure(readings):
    assert mean(readings, "with detail", "detail_16") > mean(readings, "ours", "detail_16") + 0.2
    assert mean(readings, "with detail", "structure") < mean(readings, "ours", "structure")
