"""`itermix.sample` with what the README promises: any denoiser, any sampler, from any thread."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import itermix
from itermix import Settings, SettingsError
from itermix.mixing.blending import BLENDINGS
from itermix.sampling import Pass
from itermix.steps.parametrisation import ve

kd = pytest.importorskip("k_diffusion.sampling")
SIGMAS = kd.get_sigmas_karras(5, 0.03, 14.6)
LATENT = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(3))


def function(x, sigma):
    return x / (1 + sigma**2)[:, None, None, None]


class WithParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, sigma):
        return self.gain * function(x, sigma)


def euler(denoiser, x, sigmas, extra_args=None, callback=None):
    """As one writes it without having heard of `torch.no_grad`."""
    for i in range(len(sigmas) - 1):
        denoised = denoiser(x, sigmas[i] * x.new_ones(len(x)), **(extra_args or {}))
        if callback:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    return x


def sampled(sampler=kd.sample_euler, denoiser=function, **settings):
    return itermix.sample(sampler, denoiser, LATENT, SIGMAS, Settings(**settings))


@pytest.mark.parametrize(
    "settings", [{"blending": name} for name in BLENDINGS] + [{"noise": "inverted"}, {"rewind": True}]
)
def test_a_sampler_that_keeps_gradients(settings):
    module = WithParameters()
    result = sampled(euler, module, **settings)
    assert not result.requires_grad
    torch.testing.assert_close(result, sampled(kd.sample_euler, module, **settings))
    assert torch.is_grad_enabled()


class Caller:
    """An object that can be called, with a model's schedule."""

    def __call__(self, x, sigma):
        return function(x, sigma)

    sigmas = torch.linspace(0.02, 15, 50)


@pytest.mark.parametrize("denoiser", [function, lambda x, sigma: function(x, sigma), Caller(), Caller().__call__])
@pytest.mark.parametrize("settings", [{}, {"window": 8, "dilated": 1.0}, {"noise": "inverted"}])
def test_any_denoiser_that_can_be_called(denoiser, settings):
    assert torch.equal(sampled(denoiser=denoiser, **settings), sampled(denoiser=WithParameters(), **settings))


def test_the_schedule_of_a_denoiser_that_is_no_module_is_taken():
    other = sampled(denoiser=Caller(), progress="noise level", blending="addition")
    assert not torch.equal(other, sampled(progress="noise level", blending="addition"))


def test_threads_at_once_give_what_each_gives_alone_and_leave_the_global_generator():
    alone = [sampled(kd.sample_euler_ancestral, seed=seed) for seed in range(8)]
    before = torch.get_rng_state()
    together, ready = {}, threading.Barrier(8)

    def work(seed):
        ready.wait()
        together[seed] = sampled(kd.sample_euler_ancestral, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(together[seed], alone[seed]) for seed in range(8))


def test_threads_share_a_denoiser_and_leave_nothing_on_it():
    denoiser, results = WithParameters(), []
    threads = [threading.Thread(target=lambda: results.append(sampled(denoiser=denoiser, window=8))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(result, results[0]) for result in results)
    assert len(results) == 4
    assert not denoiser._forward_pre_hooks
    assert "forward" not in vars(denoiser)


def test_a_sampling_inside_a_callback_of_another():
    found = []
    itermix.sample(kd.sample_euler, function, LATENT, SIGMAS, Settings(), callback=lambda info: found.append(sampled()))
    assert all(torch.equal(result, sampled()) for result in found)


@pytest.mark.parametrize("blending", BLENDINGS)
@pytest.mark.parametrize("shape", [(1, 2, 3, 4, 8, 8), (2, 8, 8), (8, 8), (0, 2, 8, 8)])
def test_latents_that_are_neither_of_pictures_nor_of_frames_are_refused_before_the_first_call(blending, shape):
    def call(*args, **kwargs):
        raise AssertionError("the model was called")

    latent = torch.zeros(shape)
    run = Pass(
        kd.sample_euler, latent, range(len(latent)), Settings(blending=blending), ve(), torch.zeros(shape)
    ).function()
    for sample in (
        lambda: itermix.sample(kd.sample_euler, call, latent, SIGMAS, Settings(blending=blending)),
        lambda: run(call, latent.clone(), sigmas=SIGMAS),  # as in WebUIs
    ):
        with pytest.raises(SettingsError, match=r"latent = .* Allowed: floating point \[B, C, H, W\]"):
            sample()
