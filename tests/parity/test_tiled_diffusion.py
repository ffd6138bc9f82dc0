"""Tiled Diffusion's DemoFusion mode."""

import inspect

import pytest
import torch
from parity import Model, apart, euler, karras, noises, picture, row, sample_euler

from itermix import Settings, sample, weights
from itermix.mixing.curves import cosine
from itermix.model.crops import crops
from itermix.model.inversion import invert
from itermix.model.windows import Windows
from itermix.settings import UpscaleSettings
from itermix.settings.presets import expanded
from itermix.steps.parametrisation import ve
from itermix.steps.schedule import run_by_host

ORDER = 2
SECTION = """## Tiled Diffusion's DemoFusion mode
"""
HEADS = ("Tiled Diffusion", "here", "note")

PAPER = Settings(**expanded({"preset": "DemoFusion paper"}))
STEPS = 20


@row(
    "Cosine scale 1 (3)",
    "*Creativity* 3, *Blending* addition, *Progress in* steps, or the preset *DemoFusion paper*",
    "The same exponent. There the cosine is a step ahead, up to {ahead:.2f} of weight less at 20 steps; and the mix "
    "enters the model's input alone, here also the sampler's state.",
    ahead=0.12,
)
def test_cosine_scale_1(sizes):
    ours = weights(PAPER.replace(progress="steps"), STEPS).double()
    theirs = cosine((torch.arange(STEPS, dtype=torch.float64) + 1) / STEPS, 3.0)
    assert float((ours - theirs).max()) == pytest.approx(sizes["ahead"], abs=0.005)
    torch.testing.assert_close(ours[1:], theirs[:-1], atol=1e-6, rtol=0)
    # The mix in the input alone: the state goes on from what it was.
    z0, sigmas, noise, model = picture(), karras(STEPS), noises(picture(), 1)[0], Model()
    x = z0 + sigmas[0] * noise
    for i, sigma in enumerate(sigmas[:-1]):
        shown = (1 - ours[i]) * x + ours[i] * (z0 + sigma * noise)
        x = euler(x, model(shown, sigma.expand(1)), sigma, sigmas[i + 1])
    mixed = Model()
    result = sample(sample_euler, mixed, z0, sigmas, PAPER.replace(progress="steps"))
    assert apart([mixed.states[0]], [model.states[0]]) < 1e-5
    assert apart([result], [x]) > 0.1


def windows_at(progress, settings):
    """As they are in a model call at this progress."""
    windows, model = Windows(settings), Model()
    with windows.following(model, lambda level: progress):
        model(picture(), torch.ones(1))
    return windows


@row(
    "Cosine scale 2 and 3 (1), window, jitter",
    "*Dilated sampling*, *Gaussian alpha*, *Window*, *Window overlap*, *Window jitter*, or the preset "
    "*DemoFusion complete*; [how](demofusion.md)",
    "The same exponents. Neighbouring crops overlap by a quarter; *Window overlap* 0.5 is an overlap of 64 with a "
    "window of 128.",
)
def test_cosine_scales_2_and_3():
    settings = Settings(window=16, dilated=1.3, gaussian_sigma=0.8, gaussian_alpha=0.7)
    for u in (0.0, 0.3, 0.9):
        windows = windows_at(u, settings)
        factor = float(cosine(torch.tensor(u, dtype=torch.float64), 1.0))
        assert windows.weight == pytest.approx(factor**1.3)
        assert windows.blur == pytest.approx(0.8 * (0.99 * factor**0.7 + 0.01))
    rows = sorted({view[0].start for view in crops(Settings(window=16, window_overlap=0.5), 48, 48)})
    assert rows == list(range(0, 33, 8))


@row(
    "Sigma (0.6)",
    "*Gaussian sigma*: half of it",
    "Without its mixture mode it takes half of what is set.",
)
def test_sigma():
    """DemoFusion's blur of 0.99 c3 + 0.01 times sigma; nothing in ours halves it."""
    assert windows_at(0.0, Settings(window=16, gaussian_sigma=0.3)).blur == pytest.approx(0.6 / 2)


@row(
    "local and global batch size",
    "*Windows per call*",
    "One for both; the result doesn't depend on it.",
)
def test_batch_sizes():
    results = []
    for batch in (1, 3, 64):
        settings = PAPER.replace(window=8, window_batch=batch, window_jitter=False)
        results.append(sample(sample_euler, Model(), picture(16, 16), karras(4), settings))
    assert apart(results[1:], results[:1] * 2) < 1e-9


@row(
    "mixture mode",
    "-",
    "Not built: every thinned-out picture is blurred.",
)
def test_mixture_mode():
    assert not [p.name for p in Settings.parameters() if "mixture" in p.label.lower()]


@row(
    "integer scale",
    "*Scale*",
    "Any from 1 to 8.",
)
def test_scale():
    assert [UpscaleSettings(scale=scale).scale for scale in (1, 1.7, 8)] == [1.0, 1.7, 8.0]


@row(
    "Substage denoise",
    "*Denoise*",
    "The same share of the steps: int(n denoise) + 1 of n.",
)
def test_substage_denoise():
    for denoise in (0.3, 0.6, 0.85):
        whole, skipped = run_by_host(denoise, STEPS, exact=False)
        assert whole - skipped == int(denoise * STEPS) + 1


@row(
    "every phase's picture in the gallery",
    "*Save every phase*",
    "Off by default.",
)
def test_every_phase():
    assert not Settings().save_phases


@row(
    "noise inversion",
    "*Noise* inverted; [how](inversion.md)",
    "Its *Renoise strength* has no counterpart.",
)
def test_noise_inversion():
    """Sampled down without mixing it is the source again, as far as the steps are fine."""

    def known(x, sigma, share=0.0):
        sigma = sigma.view(-1, 1, 1, 1)
        return x / (1 + sigma**2)

    z0 = picture()
    settings = Settings(denoise=1.0, noise="inverted", highest=0.0, detail=0.0)
    result = sample(sample_euler, lambda x, sigma: known(x, sigma), z0, karras(400), settings)
    assert float((result - z0).square().mean().sqrt()) < 0.03
    assert "renoise" not in inspect.signature(invert).parameters
    assert ve().amounts(torch.tensor(2.0))[1] == 2.0
