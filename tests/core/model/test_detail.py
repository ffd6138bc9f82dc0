"""Detail: what is fine in every estimate is stronger, and as much so however the schedule is divided."""

import math

import k_diffusion.sampling as kd
import pytest
import torch
from test_mixer import CALLS, Denoiser, ddim, source
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import itermix
from itermix import NoisedLatents, Settings
from itermix.analysis.record import Analysis
from itermix.mixing.filters import low_pass
from itermix.mixing.mixer import Mixer
from itermix.mixing.noising import draw
from itermix.mixing.run import Run, features_of
from itermix.model.detail import CATCH_UP, FINE, DetailSettings, amount, held_in_steps, strengthened
from itermix.steps.parametrisation import flow, ve, vp
from itermix.steps.samplers import FIRST_ORDER, one_call
from itermix.steps.schedule import Schedule

ALPHAS = torch.linspace(0.9999, 0.005, 1000)
SIGMAS = kd.get_sigmas_karras(6, 0.05, 12.0)
UNMIXED = Settings(denoise=1.0, blending="addition", highest=0.0, detail=0.4, fidelity=0.0, seed=3)
AT_ONE_RATIO = {  # of noise to signal, 0.75
    "ve": (ve(), torch.tensor(0.75)),
    "vp": (vp(torch.tensor([0.99, 0.64, 0.1])), torch.tensor(1.0)),
    "flow": (flow(), torch.tensor(3 / 7)),
}


def run_of(sampler, plan, weights, parametrisation):
    """Of a run with detail 0.4 and what else it needs."""
    settings = Settings(blending="addition", detail=0.4)
    return Run(sampler, plan, weights, settings, parametrisation, features=features_of(settings, {}))


def fine_of(x):
    return x - low_pass(x, 2.0)


class Strengthened(Denoiser):
    """The same denoiser with its estimates strengthened by hand, where no step is known."""

    def forward(self, x, sigma):
        denoised = super().forward(x, sigma)
        at = sigma.view(-1, 1, 1, 1)
        return denoised + UNMIXED.detail * at**2 / (at**2 + FINE**2) * fine_of(denoised)


@pytest.mark.parametrize(("parametrisation", "level"), AT_ONE_RATIO.values(), ids=AT_ONE_RATIO)
def test_the_amount_is_that_of_the_noise_to_signal_ratio(parametrisation, level):
    expected = 0.3 * 0.75**2 / (0.75**2 + FINE**2)
    assert amount(0.3, level, parametrisation).item() == pytest.approx(expected, rel=1e-4)
    held = amount(0.3, level, parametrisation, held=0.5).item()
    assert held == pytest.approx(expected * (1 + CATCH_UP / 2), rel=1e-4)


def test_the_amount_vanishes_where_nothing_is_hidden_and_is_whole_in_pure_noise():
    assert amount(0.3, torch.tensor(1e-3), ve()) < 1e-4
    assert amount(0.3, torch.tensor(1.0), flow()) == pytest.approx(0.3)


@pytest.mark.parametrize(("parametrisation", "level"), AT_ONE_RATIO.values(), ids=AT_ONE_RATIO)
@pytest.mark.parametrize("by", [torch.tensor(0.3), torch.linspace(0, 1, 128).view(2, 1, 8, 8)], ids=["all", "each"])
def test_the_estimate_in_the_output_is_strengthened(parametrisation, level, by):
    x, output = source(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    given = x.clone(), output.clone()
    new = strengthened(output, x, level, parametrisation, by, 2.0)
    before, after = (parametrisation.denoised(x, level, o, out=torch.empty_like(x)) for o in (output, new))
    torch.testing.assert_close(after, before + by * fine_of(before), atol=1e-5, rtol=1e-5)
    assert all(torch.equal(*pair) for pair in zip((x, output), given))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("parametrisation", [ve(), vp(ALPHAS)])
def test_the_output_keeps_its_precision_whatever_the_states_is(dtype, parametrisation):
    x, output, level = source().double(), source().flip(0).to(dtype), torch.tensor(500.0)
    new = strengthened(output, x, level, parametrisation, torch.tensor(0.3), 2.0)
    exact = strengthened(output.double(), x, level, parametrisation, torch.tensor(0.3), 2.0)
    assert new.dtype == dtype
    torch.testing.assert_close(new.double(), exact, atol=0.02, rtol=0.02)


def test_it_can_be_recorded_and_played_with_other_numbers():
    def call(output, x, level):
        return strengthened(output, x, level, vp(ALPHAS), amount(0.3, level, vp(ALPHAS)), 2.0)

    recorded = make_fx(call)(source(), source(), torch.tensor(100.0))
    others = source().flip(0), source().flip(1), torch.tensor(300.5)
    torch.testing.assert_close(recorded(*others), call(*others))


def sample_unknown(model, x, sigmas, extra_args=None, callback=None, disable=None):
    return kd.sample_heun(model, x, sigmas, callback=callback, disable=disable)


def of_range(sampler):
    """DPM fast or adaptive, which take no schedule."""

    def run(model, x, sigmas, callback=None, **options):
        steps = {"n": 7} if sampler is kd.sample_dpm_fast else {}
        noise = draw(torch.empty_like(x), [3, 4], 0)
        run = itermix.sampling.Pass(sampler, x, [3, 4], UNMIXED.replace(**options), ve(), noise).function()
        return run(model, 12.0 * noise + x, sigma_min=0.05, sigma_max=12.0, disable=True, **steps)

    return run


@pytest.mark.parametrize("name", [*sorted(CALLS.keys() - FIRST_ORDER), "unknown"])
def test_every_call_of_a_sampler_gets_it_the_inner_ones_too(name):
    sampler = sample_unknown if name == "unknown" else getattr(kd, name)
    got = itermix.sample(sampler, Denoiser(), source(), SIGMAS, UNMIXED, disable=True)
    plain = UNMIXED.replace(detail=0.0)
    expected = itermix.sample(sampler, Strengthened(), source(), SIGMAS, plain, disable=True)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert (got - itermix.sample(sampler, Denoiser(), source(), SIGMAS, plain, disable=True)).abs().max() > 0.05


@pytest.mark.parametrize("sampler", [kd.sample_dpm_fast, kd.sample_dpm_adaptive])
def test_so_does_every_call_of_those_that_choose_their_levels(sampler):
    got = of_range(sampler)(Denoiser(), source(), SIGMAS)
    expected = of_range(sampler)(Strengthened(), source(), SIGMAS, detail=0.0)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["sample_euler", "sample_euler_ancestral"])
def test_an_estimate_that_is_held_gets_as_much_more_as_the_step_goes_down(name):
    """An ancestral one goes to sigma_down of k-diffusion's `get_ancestral_step`; here it adds no noise."""
    eta, seen = float("ancestral" in name), []
    options = {"noise_sampler": lambda *levels: torch.zeros_like(source())} if eta else {}

    def keep(info):
        seen.append(info["denoised"].clone())

    itermix.sample(getattr(kd, name), Denoiser(), source(), SIGMAS, UNMIXED, callback=keep, disable=True, **options)
    x = NoisedLatents(source(), seeds=[3, 4]).at(0, SIGMAS[0]).clone()
    for i, denoised in enumerate(seen):
        down, _ = kd.get_ancestral_step(SIGMAS[i], SIGMAS[i + 1], eta)
        held = float((SIGMAS[i] / SIGMAS[i + 1]).log()) if SIGMAS[i + 1] > 0 else 0.0
        plain = Denoiser()(x, SIGMAS[i].expand(2))
        expected = plain + amount(0.4, SIGMAS[i], ve(), held) * fine_of(plain)
        torch.testing.assert_close(denoised, expected, atol=1e-4, rtol=1e-4)
        x = x + (x - denoised) / SIGMAS[i] * (down - SIGMAS[i])


def test_where_the_model_predicts_noise_the_sampler_gets_what_the_estimate_implies():
    timesteps = torch.tensor([950, 700, 400, 100])
    noised = NoisedLatents(source(), vp(ALPHAS), seeds=[3, 4])
    x = noised.at(0, timesteps[0]).clone()
    mixer = Mixer(run_of(ddim, Schedule({}, timesteps, one_call), torch.zeros(4), vp(ALPHAS)), noised)
    got = mixer.run(Denoiser(), x.clone(), timesteps)
    ratios = ((1 - ALPHAS[timesteps]) / ALPHAS[timesteps]).sqrt()
    for i, t in enumerate(timesteps):
        a, a_next = ALPHAS[t], ALPHAS[timesteps[i + 1]] if i < 3 else ALPHAS[0]
        denoised = (x - (1 - a).sqrt() * Denoiser()(x, t.expand(2))) / a.sqrt()
        held = float((ratios[i] / ratios[i + 1]).log()) if i < 3 else 0.0
        denoised = denoised + amount(0.4, ratios[i], ve(), held) * fine_of(denoised)
        x = a_next.sqrt() * denoised + ((1 - a_next) / (1 - a)).sqrt() * (x - a.sqrt() * denoised)
    torch.testing.assert_close(got, x, atol=2e-4, rtol=1e-4)


def test_from_pure_noise_in_a_flow_the_first_step_is_finite():
    levels = torch.tensor([1.0, 0.7, 0.3, 0.0])
    noised = NoisedLatents(source(), flow(), seeds=[3, 4])
    mixer = Mixer(
        run_of(kd.sample_euler, Schedule({}, levels[:-1], one_call), torch.zeros(3), noised.parametrisation), noised
    )
    assert torch.isfinite(mixer.run(Denoiser(), noised.at(0, levels[0]).clone(), levels)).all()


class Keeping(nn.Module):
    """It gives the same tensor at every call, as hosts keep their models' outputs for previews."""

    def __init__(self):
        super().__init__()
        self.kept = source()

    def forward(self, x, sigma):
        return self.kept


def test_a_tensor_that_the_model_keeps_is_left_alone():
    model = Keeping()
    got = itermix.sample(kd.sample_dpmpp_2m, model, source(), SIGMAS, UNMIXED, disable=True)
    assert torch.equal(model.kept, source())
    end = source() + amount(0.4, SIGMAS[-2], ve()) * fine_of(source())
    torch.testing.assert_close(got, end, atol=1e-5, rtol=1e-5)


def test_the_analysis_sees_the_estimates_that_are_used():
    numbers = []
    for model, detail in ((Denoiser(), 0.4), (Strengthened(), 0.0)):
        analysis = Analysis(lambda latents: latents)
        settings = UNMIXED.replace(detail=detail, highest=1.0)
        itermix.sample(kd.sample_dpmpp_2m, model, source(), SIGMAS, settings, analysis=analysis, disable=True)
        numbers.append([step["denoised"]["std"] for step in analysis.numbers(0)["steps"]])
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)


def test_what_is_masked_is_not_strengthened():
    model, mask = Keeping(), torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    got = itermix.sample(kd.sample_euler, model, source(), SIGMAS, UNMIXED, mask=mask, disable=True)
    torch.testing.assert_close(got[..., :4], source()[..., :4], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(got[..., 4:], source()[..., 4:], atol=1e-3)


class Gaussian(nn.Module):
    """The exact posterior mean of pictures [B, C, H, W] that are normal, with deviations falling as 1 / frequency."""

    def __init__(self, side):
        super().__init__()
        down, right = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
        frequency = (down[:, None] ** 2 + right**2).sqrt().clamp_min(1 / side)
        self.variance = (STRENGTH / frequency) ** 2

    def drawn(self, seeds):
        white = draw(torch.empty(len(seeds), 3, SIDE, SIDE), seeds, 0)
        return torch.fft.irfft2(torch.fft.rfft2(white) * self.variance.sqrt(), s=white.shape[-2:])

    def forward(self, x, sigma):
        share = self.variance / (self.variance + sigma.view(-1, 1, 1, 1) ** 2)
        return torch.fft.irfft2(torch.fft.rfft2(x) * share, s=x.shape[-2:])


SIDE, STRENGTH = 48, 0.08
COUNTS = (8, 12, 20, 40)
STEADY = {"dpmpp_2m": 0.05, "dpmpp_2m_sde": 0.05, "euler": 0.05, "euler_ancestral": 0.1}


def details(sampler, schedule, settings):
    """Deviation of what is fine in the results of 8, 12, 20 and 40 steps, that of a true picture is 1."""
    model, seeds = Gaussian(SIDE), range(4)
    truth, found = model.drawn(range(100, 140)), []
    for steps in COUNTS:
        sigmas, options = getattr(kd, f"get_sigmas_{schedule}")(steps, 0.03, 15.0), {"disable": True}
        if sampler in ("dpmpp_2m_sde", "euler_ancestral"):
            drawn = iter(range(1, 1000))
            options["noise_sampler"] = lambda *levels, drawn=drawn: draw(
                torch.empty(4, 3, SIDE, SIDE), seeds, next(drawn)
            )
        guide = low_pass(model.drawn(seeds), 2.0)
        result = itermix.sample(getattr(kd, f"sample_{sampler}"), model, guide, sigmas, settings, **options)
        found.append(float(fine_of(result).std() / fine_of(truth).std()))
    return found


def drift(values):
    """Half of the range, as a share of its middle."""
    return (max(values) - min(values)) / (max(values) + min(values))


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
@pytest.mark.parametrize(("sampler", "most"), STEADY.items())
def test_detail_is_as_strong_however_many_steps_there_are(sampler, most, schedule):
    """Euler's methods alone fall short in few steps; see below."""
    assert drift(details(sampler, schedule, Settings(denoise=0.7, detail=0.3))) < most
    assert drift(details(sampler, schedule, Settings(detail=0.3))) < max(most, 0.07)  # docs/mixing.md says so


@pytest.mark.parametrize("schedule", ["karras", "exponential"])
def test_what_is_fine_comes_stronger_by_half_of_detail_in_the_exponent(schedule):
    plain, strong = (details("dpmpp_2m", schedule, Settings(denoise=0.7, detail=detail)) for detail in (0.0, 0.4))
    gains = [after / before for before, after in zip(plain, strong)]
    assert gains == pytest.approx([1.22] * len(COUNTS), rel=0.05)
    assert drift(details("euler", schedule, Settings(denoise=0.7, detail=0.0))) > 0.05


def test_steps_hold_what_they_go_down_by_but_for_the_last_and_from_pure_noise():
    levels = torch.tensor([1.0, 0.75, 0.5])  # of noise to signal infinity, 3 and 1
    held = held_in_steps(run_of(kd.sample_euler, Schedule({}, levels, one_call), torch.zeros(3), flow()))
    assert held == pytest.approx([0.0, math.log(3), 0.0])


@pytest.mark.parametrize("parametrisation", [ve(), vp(ALPHAS)], ids=["ve", "vp"])
def test_the_memory_layout_of_the_output_makes_no_difference(parametrisation):
    x, level, by = source(), torch.tensor(300.0), torch.tensor(0.3)
    expected = strengthened(x, x.flip(0), level, parametrisation, by, 2.0)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(strengthened(last, x.flip(0), level, parametrisation, by, 2.0), expected)
    assert not torch.allclose(expected, x, atol=1e-3)


def test_a_phase_that_is_not_said_to_come_before_others_is_the_last():
    detail = DetailSettings(detail=0.3)
    assert detail.of_phase((8, 8), (16, 16)).detail == 0.3
    assert detail.of_phase((8, 8), (16, 16), last=False).detail == 0.0
