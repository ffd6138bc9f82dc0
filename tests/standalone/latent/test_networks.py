"""The networks of the latent model: shapes, that nothing is lost on the way, and what training folds into them."""

import pytest
import torch
from safetensors.torch import load_file

from itermix.standalone.latent import train
from itermix.standalone.latent.autoencoder import Autoencoder
from itermix.standalone.latent.model import SCALE_FACTOR, WEIGHTS, Denoiser, load, training_sigmas
from itermix.standalone.latent.text import TOKENS, WIDTH
from itermix.standalone.latent.unet import UNet, timestep_embedding


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet().eval().requires_grad_(False)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (12, 20)])
def test_the_unet_takes_latents_of_any_multiple(unet, size):
    found = unet(torch.randn(2, 4, *size), torch.tensor([3.0, 980.5]), torch.randn(2, TOKENS, WIDTH))
    assert found.shape == (2, 4, *size)


def test_an_untrained_unet_says_nothing(unet):
    assert not unet(torch.randn(1, 4, 8, 8), torch.tensor([3.0]), torch.randn(1, TOKENS, WIDTH)).any()


def test_timesteps_are_told_apart():
    angles = timestep_embedding(torch.tensor([0.0, 0.5, 500.0]), 64)
    assert angles.shape == (3, 64)
    assert angles[0].tolist() == [1.0] * 32 + [0.0] * 32
    assert (angles[0] - angles[1]).norm() > 0.4


def test_the_noise_levels_are_those_of_stable_diffusion():
    sigmas = training_sigmas()
    assert len(sigmas) == 1000
    assert float(sigmas[0]) == pytest.approx(0.0292, abs=1e-4)
    assert float(sigmas[-1]) == pytest.approx(14.6146, abs=1e-3)


def test_timesteps_of_noise_levels(unet):
    denoiser = Denoiser(unet, torch.zeros(1, TOKENS, WIDTH))
    sigmas = training_sigmas()
    between = (sigmas[7] * sigmas[8]).sqrt()
    levels = torch.stack([sigmas[0], sigmas[500], sigmas[999], between, sigmas[0] / 2, sigmas[999] * 2])
    assert denoiser.timestep(levels).tolist() == pytest.approx([0, 500, 999, 7.5, 0, 999], abs=1e-2)


def test_guidance_goes_from_no_prompt_through_the_prompt():
    class Known(UNet):
        def forward(self, x, timesteps, context):
            return context.mean((1, 2))[:, None, None, None].expand_as(x)

    denoiser = Denoiser(Known(), torch.zeros(1, TOKENS, WIDTH))
    x, sigma, label = torch.ones(1, 4, 8, 8), torch.tensor([2.0]), torch.full((1, TOKENS, WIDTH), 0.25)
    assert denoiser(x, sigma, label).mean() == pytest.approx(1 - 2 * 0.25)
    assert denoiser(x, sigma, label, cfg=3.0).mean() == pytest.approx(1 - 2 * 0.75)


def test_standardising_changes_latents_but_no_picture():
    torch.manual_seed(0)
    autoencoder = Autoencoder().requires_grad_(False)
    for block in autoencoder.decoder:
        if hasattr(block, "conv2"):
            torch.nn.init.normal_(block.conv2.weight, std=0.05)
    pictures = torch.rand(3, 3, 64, 64) * 2 - 1
    before, seen = autoencoder.encode(pictures), autoencoder.decode(autoencoder.encode(pictures))
    train.standardised(autoencoder, before)
    latents = SCALE_FACTOR * autoencoder.encode(pictures)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4
    assert latents.std((0, 2, 3)).tolist() == pytest.approx([1] * 4, abs=1e-3)
    assert torch.allclose(autoencoder.decode(latents / SCALE_FACTOR), seen, atol=1e-4)


def test_the_learning_rate_rises_and_falls_to_nothing():
    rates = [train.learning_rate(1.0, step, 1000) for step in range(1000)]
    assert rates.index(max(rates)) == train.WARMUP - 1
    assert rates[0] < 0.01
    assert rates[-1] < 1e-4


def test_the_weights_are_small_and_complete():
    assert WEIGHTS.stat().st_size < 25_000_000
    assert {tensor.dtype for tensor in load_file(WEIGHTS).values()} == {torch.float16}
    model = load()  # raises if a weight is missing or has no place
    assert not any(p.requires_grad for p in model.denoiser.parameters())
