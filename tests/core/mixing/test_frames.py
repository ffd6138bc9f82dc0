"""The frames of a video model's latent [B, C, T, H, W] are mixed as pictures of their own."""

import k_diffusion.sampling as kd
import pytest
import torch
from torch import nn

from itermix import Settings, sample
from itermix.mixing import frames
from itermix.mixing.blending import BLENDINGS

CHANNELS, HEIGHT, WIDTH = 16, 12, 10
SIGMAS = torch.tensor([9.0, 4.0, 2.0, 0.8, 0.3, 0.0])
SETTINGS = Settings(denoise=1.0, lowest=0.1)


class Video(nn.Module):
    """Looks at every frame for itself, and takes nothing but [B, C, T, H, W]."""

    def forward(self, x, sigma, shift=0.1):
        batch, channels, *_ = x.shape
        assert x.shape == (batch, channels, *x.shape[2:3], *x.shape[-2:])
        assert sigma.shape == (batch,)
        blurred = nn.functional.avg_pool3d(x, (1, 3, 3), stride=1, padding=(0, 1, 1))
        return (blurred + shift) / (1 + sigma.view(-1, 1, 1, 1, 1) ** 2) ** 0.5


class Picture(nn.Module):
    """The same model for [B, C, H, W]."""

    def forward(self, x, sigma, shift=0.1):
        return Video()(x[:, :, None], sigma, shift)[:, :, 0]


def latent(batch=1, count=1):
    return torch.randn(batch, CHANNELS, count, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def euler_of_another_name(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """Nothing is known of it, so it runs one step at a time."""
    return kd.sample_euler(model, x, sigmas, extra_args, callback, disable)


CHANGES = [
    *({"blending": name} for name in BLENDINGS),
    *({"noise": name} for name in ("independent", "cumulative", "inverted")),
    {"perlin": 0.5},
    {"detail": 0.3},
    {"rewind": True},
    {"normalize_fraction": 0.5},
    {"start_at_step": 1},
    {"window": 8, "dilated": 3.0},
    {"window": 8, "window_jitter": True},
]


@pytest.mark.parametrize("sampler", [kd.sample_euler, kd.sample_heun, kd.sample_dpmpp_2m, euler_of_another_name])
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_one_frame_is_mixed_as_a_picture_to_the_bit(sampler, changes):
    z, settings = latent(batch=2), SETTINGS.replace(**changes)
    mask = torch.linspace(0, 1, 20).expand(2, 1, 20, 20)
    as_frames = sample(sampler, Video(), z, SIGMAS, settings, mask=mask)
    as_pictures = sample(sampler, Picture(), z[:, :, 0], SIGMAS, settings, mask=mask)
    assert torch.equal(as_frames[:, :, 0], as_pictures)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("blending", BLENDINGS)
def test_frames_are_mixed_as_the_pictures_of_a_batch(blending, batch):
    z, noise = latent(batch, count=3), latent(batch, count=3).flip(3)
    settings, mask = SETTINGS.replace(blending=blending), torch.rand(batch, 1, 5, 5)
    as_frames = sample(kd.sample_euler, Video(), z, SIGMAS, settings, noise, mask=mask)
    pictures, its_noise = frames.pictures(z), frames.pictures(noise)
    of_each = mask.repeat_interleave(3, dim=0)
    as_pictures = sample(kd.sample_euler, Picture(), pictures, SIGMAS, settings, its_noise, mask=of_each)
    assert torch.allclose(frames.pictures(as_frames), as_pictures, atol=1e-6)


def test_no_two_frames_get_the_same_noise():
    states = []
    z = torch.zeros_like(latent(2, 3))
    sample(kd.sample_euler, Video(), z, SIGMAS, SETTINGS, callback=lambda info: states.append(info["x"].clone()))
    start = frames.pictures(states[0]).flatten(1)
    apart = torch.nn.functional.cosine_similarity(start[:, None], start[None], dim=-1)
    assert bool((apart - torch.eye(6)).abs().max() < 0.15)


def test_what_becomes_of_the_pictures_becomes_of_the_latent():
    z = latent(2, 3)
    before = z.clone()
    with frames.edited(z) as pictures:
        pictures.mul_(2)
    assert torch.equal(z, 2 * before)
    assert torch.equal(frames.latents(frames.pictures(z), z), z)


def test_seeds_of_frames_lie_above_all_seeds_of_latents():
    assert frames.seeds([5, 6], 3) == [5, 5 + 2**64, 5 + 2**65, 6, 6 + 2**64, 6 + 2**65]
