import pytest
import torch

from itermix import NoisedLatents, SettingsError
from itermix.mixing.noising import draw
from itermix.steps.parametrisation import flow, ve, vp

KINDS = ("shared", "independent", "cumulative")
ALPHAS = torch.linspace(0.9999, 0.005, 1000)
# (parametrisation, levels falling from the noisiest, signal, noise) in closed form
SIGMAS = torch.tensor([14.6, 5.0, 1.3, 0.4])
TIMESTEPS = torch.tensor([951, 601, 301, 51])
FLOWS = torch.tensor([0.98, 0.7, 0.4, 0.1])
CASES = {
    "ve": (ve, SIGMAS, torch.ones(4), SIGMAS),
    "vp": (lambda: vp(ALPHAS), TIMESTEPS, ALPHAS[TIMESTEPS].sqrt(), (1 - ALPHAS[TIMESTEPS]).sqrt()),
    "flow": (flow, FLOWS, 1 - FLOWS, FLOWS),
}


def latent(batch=2, side=64):
    return 0.7 + 0.5 * torch.randn(batch, 4, side, side, generator=torch.Generator().manual_seed(9))


def sequence(noised, levels):
    return torch.stack([noised.at(step, level).clone() for step, level in enumerate(levels)])


def unit_noise(z0, case, kind, seeds=(0, 1)):
    parametrisation, levels, signal, amount = CASES[case]
    z = sequence(NoisedLatents(z0, parametrisation(), kind, seeds=seeds), levels)
    shape = (-1, 1, 1, 1, 1)
    return (z - signal.view(shape) * z0) / amount.view(shape)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_mean_zero_and_variance_one_at_every_level(case, kind):
    noise = unit_noise(latent(), case, kind)
    n = noise[0].numel()
    assert noise.mean(dim=(1, 2, 3, 4)).abs().max() < 4 / n**0.5
    assert (noise.var(dim=(1, 2, 3, 4)) - 1).abs().max() < 4 * (2 / n) ** 0.5


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_noise_of_different_levels_correlates_as_its_kind_says(case, kind):
    """shared: 1. independent: 0. cumulative: Cov(N_s, N_t) = min(s, t)^2, so a correlation of min / max."""
    _, _, signal, amount = CASES[case]
    noise = unit_noise(latent(), case, kind).flatten(1)
    ratio = amount / signal
    pairs = torch.minimum(ratio[:, None], ratio) / torch.maximum(ratio[:, None], ratio)
    expected = {"shared": torch.ones(4, 4), "independent": torch.eye(4), "cumulative": pairs}[kind]
    assert (torch.corrcoef(noise) - expected).abs().max() < 5 / noise.shape[1] ** 0.5


def test_progress_without_a_known_schedule_is_that_of_a_continuous_timestep():
    """k-diffusion's VDenoiser: t = 2 / pi * atan(sigma), so sigma = 1 is half way."""
    sigmas = torch.tensor([1e9, 1 + 2**0.5, 1.0, 2**0.5 - 1, 0.0])
    torch.testing.assert_close(ve().progress(sigmas), torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64))


def test_cumulative_noise_can_skip_levels_and_go_back_up():
    z0 = latent()
    noised = NoisedLatents(z0, kind="cumulative")
    high = noised.at(0, torch.tensor(8.0)).clone() - z0
    low = noised.at(3, torch.tensor(2.0)).clone() - z0
    again = noised.at(4, torch.tensor(4.0)).clone() - z0
    assert low.std() == pytest.approx(2.0, rel=0.02)
    assert again.std() == pytest.approx(4.0, rel=0.02)
    assert torch.corrcoef(torch.stack([high.flatten(), low.flatten()]))[0, 1] == pytest.approx(2 / 8, abs=0.02)
    assert torch.corrcoef(torch.stack([again.flatten(), low.flatten()]))[0, 1] == pytest.approx(2 / 4, abs=0.02)


def test_cumulative_noise_at_flows_noisiest_level_is_finite():
    noised = NoisedLatents(latent(), flow(), "cumulative")
    for step, level in enumerate([1.0, 1.0, 0.5, 0.0]):
        assert torch.isfinite(noised.at(step, torch.tensor(level))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_noise_for_an_image_in_any_batch(kind):
    z0 = latent(batch=3)
    whole = sequence(NoisedLatents(z0, kind=kind, seeds=[5, 6, 7]), SIGMAS)
    alone = sequence(NoisedLatents(z0[2:], kind=kind, seeds=[7]), SIGMAS)
    assert torch.equal(whole[:, 2:], alone)
    assert not torch.equal(whole[:, 0] - z0[0], whole[:, 1] - z0[1])


@pytest.mark.parametrize("kind", KINDS)
def test_given_noise_is_that_of_the_first_step_and_stays_as_it_was(kind):
    z0, noise = latent(), torch.randn(2, 4, 64, 64)
    before = noise.clone()
    z = sequence(NoisedLatents(z0, kind=kind, noise=noise), SIGMAS)
    torch.testing.assert_close(z[0], z0 + SIGMAS[0] * noise)
    assert torch.equal(z[3], z0 + SIGMAS[3] * noise) == (kind == "shared")
    assert torch.equal(noise, before)


@pytest.mark.parametrize("kind", KINDS)
def test_no_other_generator_moves(kind):
    before = torch.get_rng_state()
    sequence(NoisedLatents(latent(), kind=kind), SIGMAS)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_two_latents_are_kept(kind):
    z0, noise = latent(), torch.randn(2, 4, 64, 64)
    noised = NoisedLatents(z0, kind=kind, noise=noise)
    for step in range(50):
        noised.at(step, torch.tensor(15.0 - step / 4))
    own = {t.data_ptr() for t in vars(noised).values() if isinstance(t, torch.Tensor) and t.numel() == z0.numel()}
    assert len(own - {z0.data_ptr(), noise.data_ptr()}) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_normalize_takes_the_mean_of_the_noisiest_share_off_the_whole_sequence(kind):
    z0 = latent()
    plain = sequence(NoisedLatents(z0, kind=kind), SIGMAS)
    noised = NoisedLatents(z0, kind=kind)
    noised.normalize(SIGMAS, 0.5)
    normalized = sequence(noised, SIGMAS)
    bias = plain[:2].mean(dim=(2, 3, 4)).mean(dim=0)
    torch.testing.assert_close(normalized, plain - bias.view(1, 2, 1, 1, 1))


def test_normalize_of_nothing_changes_nothing():
    noised = NoisedLatents(latent())
    noised.normalize(SIGMAS, 0.0)
    assert torch.equal(sequence(noised, SIGMAS), sequence(NoisedLatents(latent()), SIGMAS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_survives_the_largest_noise_level(dtype):
    z = NoisedLatents(latent().to(dtype)).at(0, torch.tensor(160.0))
    assert z.dtype == dtype
    assert torch.isfinite(z).all()
    assert z.float().std() == pytest.approx(160, rel=0.02)


@pytest.mark.parametrize(
    ("wrong", "name", "value", "allowed"),
    [
        ({"kind": "pink"}, "noise", "pink", "Allowed: shared, independent, cumulative."),
        ({"noise": torch.zeros(1, 4)}, "noise", (1, 4), "Allowed: the latent's shape, (2, 4, 64, 64)."),
        ({"seeds": range(3)}, "seeds", [0, 1, 2], "Allowed: one per image, which is 2."),
    ],
)
def test_wrong_arguments_are_an_error(wrong, name, value, allowed):
    with pytest.raises(SettingsError) as error:
        NoisedLatents(latent(), **wrong)
    assert (error.value.name, error.value.value, error.value.allowed) == (name, value, allowed)


def test_the_noise_of_a_seed_and_a_step_stays_the_same_in_every_version():
    """Pictures are made again by their seeds. This number is what numpy's SeedSequence makes of 7 and 7."""
    generator = torch.Generator().manual_seed(93150241580874706)
    assert torch.equal(draw(torch.empty(1, 4, 8, 8), [7], 7)[0], torch.randn(4, 8, 8, generator=generator))


@pytest.mark.parametrize("kind", KINDS)
def test_z_is_contiguous_however_the_latent_lies(kind):
    lying = latent().to(memory_format=torch.channels_last)
    z = NoisedLatents(lying, kind=kind).at(0, torch.tensor(2.0))
    assert z.is_contiguous()
    torch.testing.assert_close(z, NoisedLatents(latent(), kind=kind).at(0, torch.tensor(2.0)))
