"""The WebUI's own hires fix: what of its settings means what."""

import itertools

import pytest
import torch
from parity import karras, noises, picture, row, sample_euler

from itermix import Settings, sample
from itermix.picture.phases import described, plan
from itermix.steps.schedule import steps_by_host

ORDER = 1
SECTION = """## Hires fix

Leave your hires fix settings as they are and tick *Iterative Mixing* below it. *Upscale by*, *Resize to*, *Upscaler*,
*Hires steps*, sampler, checkpoint and prompts keep their meaning.
"""
HEADS = ("hires fix", "here", "note")


def other(x, sigma):
    """A model of another mind than the source: its pictures are about 0.5 everywhere, with a deviation of 0.2."""
    sigma = sigma.view(-1, 1, 1, 1)
    return (0.04 * x + sigma**2 * 0.5) / (0.04 + sigma**2)


def made(source, **settings):
    defaults = {"denoise": 1.0, "detail": 0.0}
    return sample(sample_euler, other, source, karras(20), Settings(**{**defaults, **settings}))


@row(
    "Denoising strength",
    "*Creativity*",
    "Not used while mixing is on. Low strength: lower alpha. High strength: higher alpha.",
)
def test_strength():
    source = picture()
    distances = [float((made(source, alpha=alpha) - source).square().mean()) for alpha in (0.05, 0.25, 1.0, 5.0)]
    assert distances == sorted(distances)
    assert distances[-1] > 1.2 * distances[0]


@row(
    "-",
    "*Denoise*",
    "0.5: the pass starts half-way up the schedule, and the mixing keeps the composition. 1 is pure noise. All hires "
    "steps are run, whatever it is.",
)
def test_denoise():
    assert Settings().denoise == 0.5
    assert {steps_by_host(Settings(denoise=d), 20, "Euler", exact=True) for d in (0.1, 0.5, 0.7, 1.0)} == {20}


@row(
    "Upscale by 3 or 4",
    "the same",
    "In phases of at most *Scale per phase*, each with all hires steps.",
)
@pytest.mark.parametrize("scale", [3, 4])
def test_phases(scale):
    sizes = [(512, 512), *plan(512, 512, scale=scale)]
    assert sizes[-1] == (512 * scale, 512 * scale)
    assert all(after[0] <= Settings().max_scale_per_phase * before[0] for before, after in itertools.pairwise(sizes))
    assert described(sizes[0], sizes[1:], 20).endswith("20 steps each")


@row(
    "an upscaler for crispness",
    "the same",
    "Any will do. What it invents is kept only as far as the smaller picture could hold it.",
)
def test_what_an_upscaler_invents():
    source = torch.zeros(1, 4, 16, 16, dtype=torch.float64)
    fine, coarse = torch.ones_like(source), torch.ones_like(source)
    fine[..., 1::2] = -1  # from pixel to pixel, which half of the pixels can't hold
    coarse[..., 8:] = -1
    same = {"noise": noises(source, 1)[0], "alpha": 0.25}
    noise = same.pop("noise")
    plain, *others = (
        sample(sample_euler, other, z0, karras(20), Settings(denoise=1.0, detail=0.0, **same), noise=noise)
        for z0 in (source, fine, coarse)
    )
    invented, held = (float(((x - plain) * pattern).mean()) for x, pattern in zip(others, (fine, coarse)))
    assert abs(invented) < 0.05
    assert held > 0.5
