"""Crops of a picture in a latent space leave no grid in it."""

import dataclasses

import numpy as np
import pytest

from itermix.settings import Settings
from itermix.standalone import upscaling
from itermix.standalone.latent import bench, model
from itermix.standalone.upscaling import Model

STEPS, WINDOW = 2, 16
SIDE = 2 * model.SIZE // 8


@pytest.fixture(scope="module")
def made():
    """made(settings) -> the latent [4, SIDE, SIDE] of a picture twice as large as its source."""
    latent = model.load()
    whole = Model(latent.denoiser, "dpmpp_2m", STEPS, bench.CFG, "karras", latent.space())
    some = bench.sources(latent, whole, bench.subjects("tuning", 1), "true")
    enlarged = upscaling.enlarge(some.pictures, (2 * model.SIZE,) * 2)
    kept = dataclasses.replace(whole, space=dataclasses.replace(latent.space(), decode=lambda made: made))

    def make(**settings):
        settings = Settings(**{"steps": STEPS, "window_auto": False, **settings})
        return upscaling.mix(kept, enlarged, some, settings, seed=5)[0].double().numpy()

    return make


def grid(difference, stride):
    """How much stronger the spectrum is at the frequencies of a grid of crops than beside them: 1 without a grid."""
    power = (np.abs(np.fft.fft2(difference)) ** 2).sum(axis=0)
    found = []
    for along in (power[0], power[:, 0]):
        for harmonic in range(1, stride // 2):
            place = round(harmonic * SIDE / stride)
            beside = [along[place + k] for k in (-2, -1, 1, 2)]
            found.append(along[place] / np.median(beside))
    return float(np.exp(np.mean(np.log(found))))


def test_the_difference_to_the_whole_picture_has_no_grid_in_its_spectrum(made):
    """A plain mean of crops that begin at the same places in every step has one."""
    whole = made()
    crops = made(window=WINDOW)
    plain = made(window=WINDOW, window_formulas="DemoFusion", window_jitter=False)
    assert np.abs(crops - whole).max() > 0.1
    assert grid(plain - whole, WINDOW // 2) > 4
    assert grid(crops - whole, WINDOW * 3 // 4) < 1.5
