"""Inverted noise with the trained built-in model."""

from __future__ import annotations

import pytest
import torch

from itermix import Settings
from itermix.standalone import network
from itermix.standalone import upscaling as up

pytestmark = pytest.mark.xdist_group("inversion")  # one process for all that use the sources

ALONE = Settings(denoise=1.0, highest=0.0, fidelity=0.0, detail=0.0)  # the start, and nothing mixed after it
ADDITION = Settings(denoise=1.0, blending="addition", alpha=1.0, fidelity=0.0, detail=0.0)


def trained(steps):
    return up.Model(network.Guided(network.load()), "euler", steps)


@pytest.fixture(scope="module")
def sources():
    return up.model_sources(trained(16), 4, 300_000)


def error(pictures, sources, settings, steps=16):
    """Root of the mean square of what a sampling of the pictures differs from them; they are in [-1, 1]."""
    made = up.mix(trained(steps), pictures, sources, settings.replace(steps=steps), 0)
    return float((made - pictures).square().mean().sqrt())


def test_sampling_without_mixing_reconstructs_the_source(sources):
    errors = [error(sources.pictures, sources, ALONE.replace(noise="inverted"), steps) for steps in (16, 32)]
    assert errors[0] < 0.06
    assert errors[1] < 0.03
    assert error(sources.pictures, sources, ALONE) > 0.25


def test_without_the_prompt_it_reconstructs_less(sources):
    with_prompt = ALONE.replace(noise="inverted")
    without = error(sources.pictures, sources, with_prompt.replace(inversion_prompt=False))
    assert error(sources.pictures, sources, with_prompt) < without < 0.15


def test_mixing_comes_nearer_to_the_enlarged_source_than_with_drawn_noise(sources):
    enlarged = up.enlarge(sources.pictures, (64, 64))
    drawn, inverted = (error(enlarged, sources, ADDITION.replace(noise=noise)) for noise in ("shared", "inverted"))
    assert inverted < 0.5 * drawn


def test_the_model_is_shown_the_label_or_none_without_guidance(model, monkeypatch):
    calls = []

    def forward(self, x, sigma, label, cfg=1.0):
        calls.append((label, cfg))
        return x / 2

    monkeypatch.setattr(type(model.denoiser), "forward", forward)
    sources = up.true_sources(2, seed=0)
    guided = up.Model(model.denoiser, "euler", 3, cfg=4.0)
    for prompt, expected in ((True, sources.labels), (False, torch.full((2,), network.NULL))):
        calls.clear()
        settings = Settings(denoise=1.0, steps=3, noise="inverted", inversion_prompt=prompt)
        up.mix(guided, sources.pictures, sources, settings, 0)
        assert [cfg for _, cfg in calls] == [1.0] * 3 + [4.0] * 3
        assert all(torch.equal(label, expected) for label, _ in calls[:3])
        assert all(torch.equal(label, sources.labels) for label, _ in calls[3:])
