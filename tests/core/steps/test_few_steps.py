"""Every sampler with few steps and every range of them: a picture without noise, or a sentence before any call."""

from __future__ import annotations

import inspect

import pytest
import torch

import itermix
from itermix import Settings, SettingsError
from itermix.steps.samplers import SamplerRefused, able, to_clean

kd = pytest.importorskip("k_diffusion.sampling")
SAMPLERS = sorted(name for name in vars(kd) if name.startswith("sample_"))
ENDS = 0.03, 14.6


class Knowing(torch.nn.Module):
    """A denoiser that sees the picture through any noise, and counts its calls."""

    calls = 0

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def forward(self, x, sigma):
        self.calls += 1
        return self.picture + 0 * x


def ranges(steps):
    """(start_at_step, end_at_step): all, the first, the last, one of the middle, all but the first or the last."""
    return {(0, 99), (0, 1), (steps - 1, steps), (steps // 2, steps // 2 + 1), (1, steps), (0, steps - 1)}


@pytest.mark.filterwarnings("ignore:Should have")  # torchsde, of rounded ends
@pytest.mark.parametrize("steps", range(1, 6))
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_picture_without_noise_or_a_sentence(name, steps):
    latent = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    sigmas = kd.get_sigmas_karras(steps, *ENDS)
    made = 0
    for start, end in sorted(ranges(steps)):
        for rewind in (False, True):
            if end <= start:
                continue
            settings = Settings(denoise=1.0, start_at_step=start, end_at_step=end, rewind=rewind, rewind_max=1.0)
            denoiser = Knowing(latent)
            try:
                result = itermix.sample(getattr(kd, name), denoiser, latent, sigmas, settings, disable=True)
            except (SettingsError, SamplerRefused):
                assert denoiser.calls == 0
                continue
            made += 1
            assert (result - latent).pow(2).mean().sqrt() < 4 * ENDS[0]
    assert made or (steps == 1 and "sigmas" not in inspect.signature(getattr(kd, name)).parameters)


@pytest.mark.parametrize("name", ["sample_dpm_fast", "sample_dpm_adaptive"])
@pytest.mark.parametrize(
    ("steps", "settings", "sentence"),
    [
        (9, {"end_at_step": 8}, "end_at_step = 8 is not possible. Allowed with NAME: all steps that denoise leaves."),
        (9, {"denoise": 0.5, "end_at_step": 2}, "end_at_step = 2 is not possible."),
        (
            1,
            {},
            "steps = 1 is not possible. Allowed with NAME: more of them or more denoise, so that it runs 2 or more.",
        ),
        (9, {"denoise": 0.1}, "steps = 1 is not possible."),
    ],
)
def test_what_samplers_that_stop_above_0_cannot_do_is_said(name, steps, settings, sentence):
    latent = torch.zeros(1, 1, 4, 4)
    asked = Settings(**{"denoise": 1.0, **settings})
    with pytest.raises(SettingsError) as error:
        itermix.sample(getattr(kd, name), Knowing(latent), latent, kd.get_sigmas_karras(steps, *ENDS), asked)
    assert sentence.replace("NAME", name) in str(error.value)


def test_one_step_to_0_is_what_the_model_makes_of_the_state():
    x, told = torch.randn(2, 1, 4, 4), []
    result = to_clean(lambda x, sigma, gain: gain * x / sigma[:, None, None, None], x, torch.tensor([4.0, 0.0]),
                      extra_args={"gain": 2.0}, callback=told.append, noise_sampler=None)  # fmt: skip
    assert torch.equal(result, x / 2)
    (info,) = told
    assert (info["i"], float(info["sigma"]), float(info["sigma_hat"])) == (0, 4.0, 4.0)
    assert torch.equal(info["x"], x)
    assert torch.equal(info["denoised"], result)


def test_it_is_taken_only_where_the_sampler_would_fail():
    fails, other = kd.sample_dpmpp_2m_sde, kd.sample_euler
    assert able(fails, torch.tensor([1.0, 0.0])) is to_clean
    for sampler, sigmas in ((fails, [2.0, 1.0, 0.0]), (fails, [2.0, 1.0]), (other, [1.0, 0.0])):
        assert able(sampler, torch.tensor(sigmas)) is sampler
    assert able(fails, None) is fails
