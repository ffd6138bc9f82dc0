"""Masks against closed forms, and in sampling."""

import k_diffusion.sampling as kd
import pytest
import torch
from test_blending import blended, guide_for, images
from test_mixer import SETTINGS, SIGMAS, STEPS, Denoiser, noised_sequence, run, source

import itermix
from itermix import Settings, SettingsError, weights
from itermix.mixing.blending import BLENDINGS
from itermix.mixing.masks import MASK_MODES, Mask, fitted, mask_of
from itermix.mixing.perlin import perlin

NAMES = sorted(BLENDINGS)
SHAPE = (2, 4, 6, 5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masks", [1, 2])
def test_each_pixel_is_blended_with_its_own_weight(name, masks):
    """As every weight of a few, blended with everywhere, is at the pixels that have it."""
    x, z = images(1, SHAPE), images(2, SHAPE)
    weight = torch.randint(1, 5, (masks, 1, *SHAPE[2:]), generator=torch.Generator().manual_seed(3)) / 4
    expected = torch.zeros(SHAPE, dtype=torch.float64)
    for value in weight.unique().tolist():
        expected = torch.where(weight == value, blended(name, x, z, value), expected)
    torch.testing.assert_close(blended(name, x, z, weight.double()), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_weights_of_pixels_come_in_the_precision_of_the_state(name, dtype):
    x, z = images(1, SHAPE, dtype), images(2, SHAPE, dtype)
    weight = torch.rand(1, 1, *SHAPE[2:], generator=torch.Generator().manual_seed(3))
    made = blended(name, x, z, weight.to(dtype), guide_for(x))
    assert made.dtype == dtype
    exact = blended(name, *(t.double() for t in (x, z)), weight.double(), guide_for(x.double()))
    tolerance = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.15}[dtype]
    torch.testing.assert_close(made.double(), exact, atol=tolerance, rtol=tolerance)


def halves(value=1.0, size=8):
    """[1, 1, size, size]: `value` in the left half, 0 in the right."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., : size // 2] = value
    return mask


def states_of(mask, blending):
    """[(state before the blend, state that the model sees)] of the steps of Euler."""
    states = []

    def watching(model, x, sigmas, extra_args=None, callback=None):
        for i in range(len(sigmas) - 1):
            before = x.clone()
            denoised = model(x, sigmas[i].expand(len(x)))
            states.append((before, x.clone()))
            callback({"x": x, "i": i})
            x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        return x

    watching.__name__ = "sample_euler"
    settings = SETTINGS.replace(blending=blending, lowest=0.5, seed=0)
    itermix.sample(watching, Denoiser(), source(), SIGMAS, settings, mask=mask)
    return states


@pytest.mark.parametrize("blending", NAMES)
def test_where_the_mask_is_black_the_state_stays_as_it_is_to_the_bit(blending):
    states = states_of(halves(), blending)
    assert len(states) == STEPS
    for before, seen in states:
        assert torch.equal(before[..., 4:], seen[..., 4:])
    assert all((before - seen)[..., :4].abs().max() > 1e-3 for before, seen in states[1:])


@pytest.mark.parametrize("blending", NAMES)
def test_a_white_mask_is_no_mask(blending):
    settings = SETTINGS.replace(blending=blending)
    masked = run(kd.sample_dpmpp_2m, settings, mask=torch.ones(1, 1, 3, 3))
    torch.testing.assert_close(masked, run(kd.sample_dpmpp_2m, settings), atol=1e-5, rtol=1e-5)


def test_a_black_mask_is_no_mixing():
    free = run(kd.sample_dpmpp_2m, SETTINGS, mask=torch.zeros(1, 1, 8, 8))
    assert torch.equal(free, run(kd.sample_dpmpp_2m, SETTINGS.replace(highest=0.0)))


@pytest.mark.parametrize("mode", MASK_MODES)
def test_euler_agrees_with_a_hand_written_loop(mode):
    mask = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    settings = SETTINGS.replace(mask_mode=mode, lowest=0.0, highest=0.9)
    model, z, w = Denoiser(), noised_sequence(source(), settings), weights(settings, STEPS).tolist()
    x = z[0].clone()
    for i in range(STEPS):
        m = mask * w[i] if mode == "multiply" else 0.9 * (mask > i / STEPS)
        x = m * z[i] + (1 - m) * x
        x = x + (x - model(x, SIGMAS[i].expand(2))) / SIGMAS[i] * (SIGMAS[i + 1] - SIGMAS[i])
    torch.testing.assert_close(run(kd.sample_euler, settings, mask=mask), x, atol=1e-5, rtol=1e-5)


def differential_diffusion(model, z0, mask, noise):
    """arXiv 2306.00950, algorithm 1, with Euler for the step."""
    x = z0 + SIGMAS[0] * noise
    for i in range(STEPS):
        keep = (mask > i / STEPS).float()
        x = keep * (z0 + SIGMAS[i] * noise) + (1 - keep) * x
        x = x + (x - model(x, SIGMAS[i].expand(2))) / SIGMAS[i] * (SIGMAS[i + 1] - SIGMAS[i])
    return x


def test_the_threshold_is_differential_diffusion():
    mask = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(8))
    settings = SETTINGS.replace(mask_mode="threshold", curve="linear", alpha=5.0)
    made = run(kd.sample_euler, settings, mask=mask, noise=noise)
    torch.testing.assert_close(made, differential_diffusion(Denoiser(), source(), mask, noise), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("mode", "lowest"), [("multiply", 1.0), ("threshold", 0.0)])
def test_a_sampler_with_levels_of_its_own(mode, lowest):
    """DPM adaptive looks its weight and its progress up at the levels that it comes to."""
    denoiser = Denoiser()
    settings = SETTINGS.replace(mask_mode=mode, blending="addition", lowest=lowest)
    made = itermix.sample(
        kd.sample_dpm_adaptive, denoiser, source(), SIGMAS, settings, mask=halves(), **{"rtol": 0.05, "atol": 0.0078}
    )
    noise = itermix.NoisedLatents(source(), seeds=[3, 4])
    z = noise.at(0, denoiser.calls[3][1][0])  # the second step's first call
    seen = denoiser.calls[3][0]
    torch.testing.assert_close(seen[..., :4], z[..., :4], atol=1e-4, rtol=1e-4)
    assert (seen - z)[..., 4:].abs().max() > 1e-2
    assert bool(torch.isfinite(made).all())


def test_the_weight_at_a_step():
    values = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 2, 2)
    multiplied = Mask(values)
    assert multiplied.weight(0.5, 0.9).flatten().tolist() == [0.0, 0.125, 0.25, 0.5]
    assert multiplied.weight(0.0, 0.9) == 0.0
    threshold = Mask(values, "threshold", 0.1, 0.8)
    assert threshold.weight(0.3, 0.25).flatten().tolist() == pytest.approx([0.1, 0.1, 0.8, 0.8])
    assert threshold.weight(0.3, 1.0) == 0.1


def test_perlin_noise_is_a_mask_of_each_picture():
    latent = torch.zeros(2, 3, 12, 16)
    settings = Settings(perlin=0.6, perlin_scale=3.0)
    (first, second), mask = mask_of(settings, latent, [7, 8]).values, halves(size=16)
    torch.testing.assert_close(first[0], 1 - 0.6 * perlin(12, 16, 3.0, 7))
    torch.testing.assert_close(second[0], 1 - 0.6 * perlin(12, 16, 3.0, 8))
    both = mask_of(settings, latent, [7, 8], mask).values
    torch.testing.assert_close(both, torch.stack([first, second]) * fitted(mask, latent))
    assert mask_of(Settings(), latent, [7, 8]) is None


def test_perlin_noise_in_a_sampling():
    settings = SETTINGS.replace(perlin=1.0)
    values = mask_of(settings, source(), [3, 4]).values
    expected = run(kd.sample_euler, SETTINGS, mask=values)
    assert torch.equal(run(kd.sample_euler, settings), expected)
    assert not torch.equal(expected, run(kd.sample_euler, SETTINGS))


def test_a_mask_is_resized_and_keeps_its_ends():
    latent = torch.zeros(1, 4, 10, 14)
    large = fitted(halves(size=280), latent)
    assert large.shape == (1, 1, 10, 14)
    assert large.unique().tolist() == [0.0, 1.0]
    assert float(fitted(halves(size=30)[..., 1:], latent).mean()) == pytest.approx(14 / 29, abs=0.01)
    assert fitted(torch.rand(1, 1, 3, 2), latent).shape == (1, 1, 10, 14)
    assert torch.equal(fitted(halves(0.3), torch.zeros(1, 1, 8, 8)), halves(0.3))


@pytest.mark.parametrize(
    "wrong",
    [
        torch.tensor(0.5),
        torch.zeros(8, 8),
        torch.zeros(1, 3, 8, 8),
        torch.zeros(3, 1, 8, 8),
        torch.zeros(1, 1, 0, 8),
        torch.full((1, 1, 8, 8), 1.1),
        torch.full((1, 1, 8, 8), -0.1),
        torch.full((1, 1, 8, 8), float("nan")),
        torch.ones(1, 1, 8, 8, dtype=torch.uint8),
    ],
)
def test_what_is_no_mask_is_refused_before_the_first_model_call(wrong):
    denoiser = Denoiser()
    with pytest.raises(SettingsError, match=r"Allowed: floating point \[2 or 1, 1, height, width\], from 0 to 1") as e:
        run(kd.sample_euler, SETTINGS, denoiser, mask=wrong)
    assert e.value.name == "mask"
    assert not denoiser.calls


def test_a_picture_that_is_none_is_named_with_what_is_allowed():
    latent = torch.zeros(2, 4, 10, 14)
    allowed = r" is not possible. Allowed: floating point \[2 or 1, 1, height, width\], from 0 to 1."
    with pytest.raises(SettingsError, match=r"mask = \(3, 1, 2, 2\)" + allowed):
        fitted(torch.zeros(3, 1, 2, 2), latent)
    with pytest.raises(SettingsError, match="mask = 'torch.float32 -1.0 to 2.0'" + allowed):
        fitted(torch.tensor([[[[-1.0, 2.0]]]]), latent)


def test_what_becomes_narrower_and_higher_at_once_loses_no_line():
    line = torch.zeros(1, 1, 2, 16)
    line[..., 0] = 1
    assert fitted(line, torch.zeros(1, 1, 4, 2))[..., 0].min() > 0.05
