"""The mixer against k-diffusion's own samplers, each compared with a loop that blends explicitly."""

import dataclasses
import functools

import k_diffusion.sampling as kd
import pytest
import torch
from torch import nn

import itermix
from itermix import NoisedLatents, Settings, weights
from itermix.mixing.blending import BLENDINGS, USES_DENOISED, Guide, addition
from itermix.mixing.filters import Workspace, low_pass
from itermix.mixing.masks import Mask
from itermix.mixing.mixer import Mixer
from itermix.mixing.run import Feature, Run
from itermix.steps.parametrisation import flow, ve, vp
from itermix.steps.samplers import STEP_STARTS, SamplerRefused, name_of, one_call, three_calls, two_calls
from itermix.steps.schedule import Schedule, sigmas_run

STEPS = 6
SIGMAS = kd.get_sigmas_karras(STEPS, 0.05, 12.0)
SETTINGS = Settings(denoise=1.0, blending="addition", alpha=1.3, seed=3, detail=0.0, fidelity=0.0)
ALPHAS = torch.linspace(0.9999, 0.005, 1000)
# How many model calls each of k-diffusion's samplers makes in STEPS steps.
CALLS = {
    "sample_euler": STEPS,
    "sample_euler_ancestral": STEPS,
    "sample_heun": 2 * STEPS - 1,
    "sample_dpm_2": 2 * STEPS - 1,
    "sample_dpm_2_ancestral": 2 * STEPS - 1,
    "sample_dpmpp_2s_ancestral": 2 * STEPS - 1,
    "sample_dpmpp_sde": 2 * STEPS - 1,
    "sample_dpmpp_2m": STEPS,
    "sample_dpmpp_2m_sde": STEPS,
    "sample_dpmpp_3m_sde": STEPS,
    "sample_lms": STEPS,
}


class Denoiser(nn.Module):
    """A smooth made-up denoiser that keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, sigma, shift=0.1):
        self.calls.append((x.clone(), sigma.clone()))
        sigma = sigma.view(-1, 1, 1, 1)
        return torch.tanh(x / (1 + sigma)) + shift / (1 + sigma)


def source(batch=2):
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1)).tanh()


def noised_sequence(z0, settings=SETTINGS, sigmas=SIGMAS):
    """z'_i of all steps, kept, as an explicit loop wants them."""
    seeds = range(settings.seed, settings.seed + len(z0))
    noised = NoisedLatents(z0, kind=settings.noise, seeds=seeds)
    return [noised.at(i, s).clone() for i, s in enumerate(sigmas[:-1])]


def sample_lcm(model, x, sigmas, extra_args=None, callback=None, noise_sampler=None):
    """The consistency-model loop of the WebUIs' LCM sampler: each step goes to the denoised and re-noises it."""
    noise_sampler = noise_sampler or kd.default_noise_sampler(x)
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones(len(x)), **(extra_args or {}))
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = denoised
        if sigmas[i + 1] > 0:
            x += sigmas[i + 1] * noise_sampler(sigmas[i], sigmas[i + 1])
    return x


SAMPLERS = {name: getattr(kd, name) for name in CALLS} | {"sample_lcm": sample_lcm}


def run(sampler, settings=SETTINGS, denoiser=None, **options):
    return itermix.sample(sampler, denoiser or Denoiser(), source(), SIGMAS, settings, **options)


def test_fidelity_is_for_what_decodes():
    assert torch.equal(*(run(kd.sample_dpmpp_2m, SETTINGS.replace(fidelity=share)) for share in (0.0, 1.0)))


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
def test_the_memory_layout_of_the_latent_makes_no_difference(blending):
    """WebUIs give latents with the channels last where they enlarge in latent space."""
    settings = SETTINGS.replace(blending=blending)
    latents = source(), source().contiguous(memory_format=torch.channels_last)
    made = [itermix.sample(kd.sample_euler, Denoiser(), latent, SIGMAS, settings) for latent in latents]
    torch.testing.assert_close(*made)


def low_by_hand(name, x):
    """The low part at scale 2 of 8 x 8 pictures, by explicit means of blocks or of mirrored 1 3 3 1 weights."""
    weights = [0.5, 0.5] if "wavelet" in name else [0.125, 0.375, 0.375, 0.125]
    rows = torch.zeros(4, 8)
    for i in range(4):
        for k, weight in enumerate(weights, start=2 * i - (len(weights) - 2) // 2):
            rows[i, -1 - k if k < 0 else 15 - k if k > 7 else k] += weight
    low = torch.linalg.pinv(rows) @ rows
    return torch.einsum("ij,bcjk,lk->bcil", low, x, low)


def blend_by_hand(name, x, z, w, z0, denoised, signal=1.0):
    """The blended state, written out for the blendings that filter or use the denoised of the step before."""
    if name in ("addition", "slerp", "norm-only"):
        x = x.clone()
        BLENDINGS[name](x, z.clone(), w, Guide())
        return x
    if name in ("low-pass", "wavelet"):
        return x + w * low_by_hand(name, z - x)
    if denoised is None:  # before the first model call there is no estimate
        return z
    if name in ("clean low-pass", "clean wavelet"):
        return x + signal * w * low_by_hand(name, z0 - denoised)
    m = signal * (w * z0 + (1 - w) * denoised)
    return m + (w * z + (1 - w) * x - m) / (w**2 + (1 - w) ** 2) ** 0.5


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
@pytest.mark.parametrize("noise", ["shared", "independent", "cumulative"])
def test_euler_agrees_with_a_hand_written_loop(blending, noise):
    settings = SETTINGS.replace(blending=blending, noise=noise)
    model, z, w = Denoiser(), noised_sequence(source(), settings), weights(settings, STEPS).tolist()
    x, denoised = z[0].clone(), None
    for i in range(STEPS):
        x = blend_by_hand(blending, x, z[i], w[i], source(), denoised)
        denoised = model(x, SIGMAS[i].expand(2))
        x = x + (x - denoised) / SIGMAS[i] * (SIGMAS[i + 1] - SIGMAS[i])
    torch.testing.assert_close(run(kd.sample_euler, settings), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
def test_dpmpp_2m_agrees_with_a_hand_written_loop(blending):
    """DPM-Solver++(2M), arXiv 2211.01095, algorithm 2, with the blend at the start of every step."""
    settings = SETTINGS.replace(blending=blending)
    model, z, w = Denoiser(), noised_sequence(source(), settings), weights(settings, STEPS).tolist()
    x, old = z[0].clone(), None
    for i in range(STEPS):
        x = blend_by_hand(blending, x, z[i], w[i], source(), old)
        denoised = model(x, SIGMAS[i].expand(2))
        s, t = SIGMAS[i], SIGMAS[i + 1]
        if t == 0:
            x = denoised
        else:
            h = (s / t).log()
            d = denoised
            if old is not None:
                r = (SIGMAS[i - 1] / s).log() / h
                d = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
            x = (t / s) * x - torch.expm1(-h) * d
        old = denoised
    torch.testing.assert_close(run(kd.sample_dpmpp_2m, settings), x, atol=1e-5, rtol=1e-5)


def test_heun_agrees_with_a_hand_written_loop_that_blends_at_step_starts_only():
    model, z, w = Denoiser(), noised_sequence(source()), weights(SETTINGS, STEPS).tolist()
    x = z[0].clone()
    for i in range(STEPS):
        x = w[i] * z[i] + (1 - w[i]) * x
        dt = SIGMAS[i + 1] - SIGMAS[i]
        d = (x - model(x, SIGMAS[i].expand(2))) / SIGMAS[i]
        trial = x + d * dt
        if SIGMAS[i + 1] == 0:
            x = trial
        else:
            d2 = (trial - model(trial, SIGMAS[i + 1].expand(2))) / SIGMAS[i + 1]
            x = x + (d + d2) / 2 * dt
    torch.testing.assert_close(run(kd.sample_heun), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
def test_heun_uses_the_denoised_of_the_step_start_not_of_its_trial_point(blending):
    settings = SETTINGS.replace(blending=blending)
    model, z, w = Denoiser(), noised_sequence(source()), weights(settings, STEPS).tolist()
    x, denoised = z[0].clone(), None
    for i in range(STEPS):
        x = blend_by_hand(blending, x, z[i], w[i], source(), denoised)
        dt, denoised = SIGMAS[i + 1] - SIGMAS[i], model(x, SIGMAS[i].expand(2))
        d = (x - denoised) / SIGMAS[i]
        if SIGMAS[i + 1] > 0:
            trial = x + d * dt
            d = (d + (trial - model(trial, SIGMAS[i + 1].expand(2))) / SIGMAS[i + 1]) / 2
        x = x + d * dt
    torch.testing.assert_close(run(kd.sample_heun, settings), x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("blending", sorted(USES_DENOISED))
def test_a_sampler_that_works_in_the_models_output_does_not_spoil_the_estimate(blending):
    settings = SETTINGS.replace(blending=blending)
    z, w = noised_sequence(source()), weights(settings, STEPS).tolist()
    fresh = {
        float(s): torch.randn(z[0].shape, generator=torch.Generator().manual_seed(i)) for i, s in enumerate(SIGMAS)
    }
    x, denoised = z[0].clone(), None
    for i in range(STEPS):
        x = blend_by_hand(blending, x, z[i], w[i], source(), denoised)
        denoised = Denoiser()(x, SIGMAS[i].expand(2))
        x = denoised + SIGMAS[i + 1] * fresh[float(SIGMAS[i + 1])] * (SIGMAS[i + 1] > 0)
    got = run(sample_lcm, settings, noise_sampler=lambda sigma, sigma_next: fresh[float(sigma_next)])
    torch.testing.assert_close(got, x, atol=1e-5, rtol=1e-5)


def ddim(model, x, timesteps, callback):
    """A timestep sampler of the WebUIs: the model predicts the noise (arXiv 2010.02502, eq. 12, eta 0)."""
    for i, (t, following) in enumerate(zip(timesteps, [*timesteps[1:], 0])):
        noise = model(x, t.expand(len(x)))
        callback({"x": x, "i": i})
        a, a_next = ALPHAS[t], ALPHAS[following]
        x = (a_next / a).sqrt() * (x - (1 - a).sqrt() * noise) + (1 - a_next).sqrt() * noise
    return x


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
def test_where_the_model_predicts_noise_the_estimate_is_converted(blending):
    timesteps, w = torch.tensor([950, 700, 400, 100]), [1.0, 0.8, 0.5, 0.2]
    model = Denoiser()
    z, noised = [], NoisedLatents(source(), vp(ALPHAS), seeds=[3, 4])
    z = [noised.at(i, t).clone() for i, t in enumerate(timesteps)]
    x, denoised = z[0].clone(), None
    for i, t in enumerate(timesteps):
        a, a_next = ALPHAS[t], ALPHAS[timesteps[i + 1]] if i < 3 else ALPHAS[0]
        x = blend_by_hand(blending, x, z[i], w[i], source(), denoised, a.sqrt())
        noise = model(x, t.expand(2))
        denoised = (x - (1 - a).sqrt() * noise) / a.sqrt()
        x = a_next.sqrt() * denoised + (1 - a_next).sqrt() * noise
    mixer = Mixer(
        Run(
            ddim,
            Schedule({}, timesteps, one_call),
            torch.tensor(w),
            Settings(blending=blending),
            noised.parametrisation,
        ),
        noised,
    )
    got = mixer.run(model, z[0].clone(), timesteps)
    torch.testing.assert_close(got, x, atol=2e-5, rtol=1e-5)


def test_the_cut_off_of_the_settings_reaches_the_blending():
    settings = SETTINGS.replace(blending="wavelet")
    assert not torch.equal(run(kd.sample_euler, settings), run(kd.sample_euler, settings.replace(cutoff=4.0)))
    # Nothing is left free at scale 1: all of the state counts as low.
    torch.testing.assert_close(run(kd.sample_euler, settings.replace(cutoff=1.0)), run(kd.sample_euler))


class Certain(nn.Module):
    """The ideal denoiser where all pictures are even grey of one value: what it knows is the posterior mean."""

    def forward(self, x, sigma):
        return torch.full_like(x, -0.3)


def noise_ratios(sampler, blending, noise, alpha):
    """noise(x) / sigma of the blended state at every step; all clean parts are even, so all that deviates is noise."""
    levels = kd.get_sigmas_karras(20, 0.03, 15.0)
    settings = Settings(denoise=1.0, blending=blending, noise=noise, alpha=alpha, detail=0.0, fidelity=0.0)
    ratios = []
    itermix.sample(
        sampler,
        Certain(),
        torch.full((1, 3, 64, 64), 0.4),
        levels,
        settings,
        callback=lambda info: ratios.append(float(info["x"].std() / info["sigma"])),
        disable=True,
    )
    return ratios


CLEAN = ("clean low-pass", "clean wavelet")


@pytest.mark.parametrize("alpha", [0.25, 1.0, 3.0])
@pytest.mark.parametrize(
    ("blending", "noise", "samplers"),
    [(name, "shared", ("sample_euler", "sample_dpmpp_2m")) for name in ("addition", "low-pass", "wavelet")]
    + [("variance-preserving", "independent", ("sample_euler", "sample_dpmpp_2m"))]
    + [(name, "shared", ("sample_euler", "sample_dpmpp_2m", "sample_euler_ancestral")) for name in CLEAN],
)
def test_the_state_keeps_as_much_noise_as_the_model_expects(blending, noise, samplers, alpha):
    for name in samplers:
        ratios = noise_ratios(getattr(kd, name), blending, noise, alpha)
        assert min(ratios) > 0.95
        assert max(ratios) < 1.1


def test_added_independent_noise_leaves_too_little():
    assert min(noise_ratios(kd.sample_euler, "addition", "independent", 1.0)) < 0.8


@pytest.mark.parametrize("name", [n for n in SAMPLERS if CALLS.get(n, STEPS) > STEPS or "2m" in n or "euler" in n])
def test_single_step_samplers_agree_with_the_sampler_run_one_interval_at_a_time(name):
    """Where a step has no memory, blending and running one interval of the schedule is the definition of mixing.

    The 2M solvers remember one step, so only their first step is compared.
    """
    sampler, model = SAMPLERS[name], Denoiser()
    noise = functools.partial(_noise_of_step, shape=source().shape)
    options = (
        {} if name in ("sample_euler", "sample_heun", "sample_dpm_2", "sample_dpmpp_2m") else {"noise_sampler": noise}
    )
    z, w = noised_sequence(source()), weights(SETTINGS, STEPS).tolist()
    steps = 1 if "2m" in name else STEPS
    x, starts = z[0].clone(), []
    for i in range(steps):
        x = w[i] * z[i] + (1 - w[i]) * x
        starts.append(x.clone())
        x = sampler(model, x, SIGMAS[i : i + 2], disable=True, **options)

    mixed = Denoiser()
    result = run(sampler, denoiser=mixed, disable=True, **options)
    seen = [call for call in mixed.calls if any(torch.equal(call[1], s.expand(2)) for s in SIGMAS)]
    for start in starts:
        assert min((call[0] - start).abs().max() for call in seen) < 1e-5
    if steps == STEPS:
        torch.testing.assert_close(result, x, atol=1e-5, rtol=1e-5)


def _noise_of_step(sigma, sigma_next, shape):
    generator = torch.Generator().manual_seed(int(1e4 * float(sigma)))
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_blend_a_step_at_the_step_starts_level(name, monkeypatch):
    blends = []
    monkeypatch.setitem(
        BLENDINGS, "addition", lambda x, z, w, guide: blends.append((x.data_ptr(), w)) or addition(x, z, w, guide)
    )
    model, seen = Denoiser(), []
    levels = NoisedLatents.at
    monkeypatch.setattr(
        NoisedLatents,
        "at",
        lambda self, step, level, **out: seen.append(float(level)) or levels(self, step, level, **out),
    )
    states = []
    run(SAMPLERS[name], denoiser=model, callback=lambda info: states.append(info["x"].data_ptr()))
    assert len(model.calls) == CALLS.get(name, STEPS)
    # At the first step z' is put in its place.
    assert [w for _, w in blends] == weights(SETTINGS, STEPS).tolist()[1:]
    # The blended tensor is the sampler's own state, which it shows its callback.
    assert [pointer for pointer, _ in blends] == states[1:]
    assert seen[1:] == pytest.approx(SIGMAS[:-1].tolist())


def test_churn_is_mixed_at_the_raised_noise_level(monkeypatch):
    seen = []
    levels = NoisedLatents.at
    monkeypatch.setattr(
        NoisedLatents,
        "at",
        lambda self, step, level, **out: seen.append(float(level)) or levels(self, step, level, **out),
    )
    run(kd.sample_euler, s_churn=2.0)
    assert seen[1:] == pytest.approx((SIGMAS[:-1] * (1 + 2.0 / STEPS)).tolist())


@pytest.mark.parametrize("name", SAMPLERS)
def test_weight_zero_everywhere_is_the_sampler_alone_to_the_bit(name):
    sampler = SAMPLERS[name]
    got = run(sampler, SETTINGS.replace(highest=0.0))
    torch.manual_seed(SETTINGS.seed)
    assert torch.equal(got, sampler(Denoiser(), noised_sequence(source())[0], SIGMAS))


@pytest.mark.parametrize("name", SAMPLERS)
def test_two_runs_with_one_seed_are_equal_to_the_bit_and_another_seed_differs(name):
    assert torch.equal(run(SAMPLERS[name]), run(SAMPLERS[name]))
    assert not torch.equal(run(SAMPLERS[name]), run(SAMPLERS[name], SETTINGS.replace(seed=4)))


def test_weight_one_at_every_step_leaves_only_the_last_denoised():
    got = run(kd.sample_euler, SETTINGS.replace(lowest=1.0))
    expected = Denoiser()(noised_sequence(source())[-1], SIGMAS[-2].expand(2))
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
def test_sampling_starts_at_the_noised_latent_whatever_state_it_is_given(blending):
    """A WebUI's DDIM starts from another noise level than that of its first step."""

    @functools.wraps(kd.sample_euler)
    def elsewhere(model, x, sigmas, **options):
        return kd.sample_euler(model, x + 5, sigmas, **options)

    settings = SETTINGS.replace(blending=blending)
    assert torch.equal(run(elsewhere, settings), run(kd.sample_euler, settings))


def test_denoise_and_the_steps_range_choose_the_steps():
    model = Denoiser()
    run(kd.sample_euler, SETTINGS.replace(denoise=0.5), denoiser=model)
    assert [float(s[0]) for _, s in model.calls] == pytest.approx(SIGMAS[3:6].tolist())

    model = Denoiser()
    got = run(kd.sample_euler, SETTINGS.replace(start_at_step=2, end_at_step=4), denoiser=model)
    assert [float(s[0]) for _, s in model.calls] == pytest.approx(SIGMAS[2:4].tolist())
    torch.testing.assert_close(got, model(*model.calls[-1]))  # the last step goes straight to sigma 0

    with pytest.raises(itermix.SettingsError) as error:
        run(kd.sample_euler, SETTINGS.replace(denoise=0.5, start_at_step=3))
    assert (error.value.name, error.value.value) == ("start_at_step", 3)
    assert error.value.allowed == "Allowed: less than the 3 steps that denoise leaves."


@pytest.mark.parametrize("lowest", [0.0, 0.5])
@pytest.mark.parametrize("end", [1, 2, 3])
def test_only_a_run_that_ends_early_gets_another_end(lowest, end):
    sigmas = torch.tensor([3.0, 2.0, 1.0, lowest])
    run_through = sigmas_run(sigmas, Settings(denoise=1.0, end_at_step=end)).tolist()
    assert run_through == [*sigmas[:end].tolist(), 0.0 if end < 3 else lowest]
    assert sigmas.tolist() == [3.0, 2.0, 1.0, lowest]


@pytest.mark.parametrize("shape", [(1,), (0,), (3, 1)])
def test_a_schedule_without_a_step_is_an_error(shape):
    with pytest.raises(itermix.SettingsError) as error:
        itermix.sample(kd.sample_euler, Denoiser(), source(), torch.ones(shape), SETTINGS)
    assert (error.value.name, error.value.value) == ("sigmas", shape)
    assert error.value.allowed == "Allowed: a one-dimensional schedule of at least 2 values."


def test_one_step_is_enough():
    got = itermix.sample(kd.sample_euler, Denoiser(), source(), torch.tensor([2.0, 0.0]), SETTINGS)
    z = noised_sequence(source(), sigmas=torch.tensor([2.0, 0.0]))[0]
    torch.testing.assert_close(got, Denoiser()(z, torch.tensor([2.0, 2.0])))


def test_the_model_may_be_called_with_more_arguments_by_position():
    def sample_once(model, x, sigmas, extra_args, callback):
        return model(x, sigmas[:1].expand(len(x)), 0.7)

    sigmas = torch.tensor([2.0, 0.0])
    got = itermix.sample(sample_once, Denoiser(), source(), sigmas, SETTINGS)
    z = noised_sequence(source(), sigmas=sigmas)[0]
    torch.testing.assert_close(got, Denoiser()(z, torch.tensor([2.0, 2.0]), 0.7))


def test_no_seed_counts_as_seed_0():
    no_seed, zero, one = (run(kd.sample_euler, SETTINGS.replace(seed=seed)) for seed in (-1, 0, 1))
    assert torch.equal(no_seed, zero)
    assert not torch.equal(zero, one)


@pytest.mark.parametrize("known", [None, torch.linspace(0.03, 15.0, 1000)], ids=["unknown", "known"])
def test_progress_in_noise_level_takes_the_models_own_schedule(known, monkeypatch):
    blends = []
    monkeypatch.setitem(BLENDINGS, "addition", lambda x, z, weight, guide: blends.append(weight))
    settings, model = SETTINGS.replace(progress="noise level"), Denoiser()
    if known is not None:
        model.sigmas = known
    run(kd.sample_euler, settings, denoiser=model)
    assert blends == weights(settings, STEPS, ve(known).progress(SIGMAS[:-1])).tolist()[1:]
    assert blends != weights(SETTINGS, STEPS).tolist()[1:]


@pytest.mark.parametrize("kind", ["shared", "independent", "cumulative"])
def test_extra_args_and_callback_reach_the_sampler_and_given_noise_is_used(kind):
    noise, infos, unmixed = torch.randn(2, 3, 8, 8), [], SETTINGS.replace(highest=0.0, noise=kind)
    got = run(kd.sample_euler, unmixed, noise=noise, extra_args={"shift": 0.7}, callback=infos.append)
    assert [info["i"] for info in infos] == list(range(STEPS))
    expected = kd.sample_euler(Denoiser(), source() + SIGMAS[0] * noise, SIGMAS, extra_args={"shift": 0.7})
    assert torch.equal(got, expected)


def test_normalize_fraction_takes_the_bias_off_the_start():
    model = Denoiser()
    run(kd.sample_euler, SETTINGS.replace(normalize_fraction=0.1), denoiser=model)
    assert model.calls[0][0].mean(dim=(1, 2, 3)).abs().max() < 1e-5


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [None, RuntimeError, Stop, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["model", "callback"])
def test_nothing_is_left_behind(error, where):
    model, before = Denoiser(), dict(vars(Denoiser()))
    state = torch.get_rng_state()

    def fail(*args):
        if error:
            raise error

    if where == "model":
        model.register_forward_hook(fail)
    own = len(model._forward_hooks)
    if error:
        with pytest.raises(error):
            run(kd.sample_euler_ancestral, denoiser=model, callback=fail if where == "callback" else None)
    else:
        run(kd.sample_euler_ancestral, denoiser=model)
    assert len(model._forward_pre_hooks) == 0
    assert len(model._forward_hooks) == own
    assert set(vars(model)) == set(before)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_sampler_of_k_diffusion_is_known():
    theirs = {name for name in dir(kd) if name.startswith("sample_")}
    assert theirs == set(CALLS) | {"sample_dpm_fast", "sample_dpm_adaptive"}
    assert theirs - {"sample_dpm_fast"} <= set(STEP_STARTS)  # its pattern depends on the number of its calls


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_sampler_that_makes_too_few_or_too_many_calls_is_refused(calls):
    """Here of two steps, none of which it tells its callback."""

    def sample_euler(model, x, sigmas, extra_args, callback):
        for _ in range(calls):
            model(x, sigmas[0].expand(len(x)))
        return x

    with pytest.raises(SamplerRefused, match="steps can't be told apart"):
        itermix.sample(sample_euler, Denoiser(), source(), torch.tensor([2.0, 1.0, 0.0]), SETTINGS)


def test_a_pattern_that_depends_on_the_number_of_steps_is_followed(monkeypatch):
    def sample_heunpp2(model, x, sigmas, extra_args=None, callback=None):
        for i in range(STEPS):
            for _ in range(min(3, STEPS - i)):
                model(x, sigmas[i].expand(len(x)))
            callback({"x": x, "i": i})
        return x

    blends = []
    monkeypatch.setitem(BLENDINGS, "addition", lambda x, z, weight, guide: blends.append(weight))
    run(sample_heunpp2)
    assert blends == weights(SETTINGS, STEPS).tolist()[1:]


def test_a_partial_is_known_by_its_functions_name():
    assert name_of(functools.partial(functools.partial(kd.sample_heun, s_churn=1.0), s_noise=1.0)) == "sample_heun"


def test_an_object_that_samples_is_known_by_its_class():
    class Walk:
        def __call__(self, model, x, sigmas, **options):
            return x

    assert name_of(Walk()) == "Walk"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("sample_heunpp2", "0..1..2.3"), ("plms", "0.123"), ("sample_heun", "0.1.2.3"), ("sample_euler", "0123")],
)
def test_step_starts_among_the_calls(name, pattern):
    starts = STEP_STARTS[name]
    found = [starts(call, 4) for call in range(len(pattern))]
    assert "".join("." if step is None else str(step) for step in found) == pattern


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
def test_a_state_in_another_precision_is_blended_in_its_own(blending):
    """Here the state is in double precision, the latent and what the model gives in single."""
    noised, levels = NoisedLatents(source(), seeds=[3, 4]), torch.tensor([2.0, 1.0])
    plan = Schedule({}, levels, one_call)
    mixer = Mixer(
        Run(kd.sample_euler, plan, torch.tensor([1.0, 0.6]), Settings(blending=blending), noised.parametrisation),
        noised,
    )
    z = noised_sequence(source(), sigmas=torch.tensor([2.0, 1.0, 0.0]))
    x = torch.zeros(2, 3, 8, 8, dtype=torch.float64)
    mixer.before_call(x, levels[:1].expand(2))
    torch.testing.assert_close(x.float(), z[0])
    mixer.after_call(x, levels[:1].expand(2), 0.5 * z[0])
    expected = blend_by_hand(blending, x.float(), z[1], 0.6, source(), 0.5 * z[0])
    mixer.before_call(x, levels[1:].expand(2))
    torch.testing.assert_close(x.float(), expected)


class Looking(Feature):
    """Keeps what it is told, and adds 1 to every estimate."""

    estimates = looks = True

    def __init__(self):
        self.runs, self.guides, self.estimated, self.evaluations = [], [], [], []

    def begin(self, run):
        self.runs.append(run)

    def guided(self, step, level, weight, noised, x):
        self.guides.append((step, level, weight, noised.clone(), x.clone()))

    def estimate(self, x, level, output, step):
        self.estimated.append((x.clone(), level, output, -1 if step is None else step))
        return output + 1

    def evaluated(self, step, level, x, denoised):
        self.evaluations.append((step, level, x.clone(), denoised.clone()))


def mixer_of(levels, w, blending="addition", starts=one_call, own=False, sampler=kd.sample_euler, noised=None, **known):
    """A mixer of a run over these levels with these weights, and z' of every level."""
    noised, levels = noised or NoisedLatents(source(1), flow(), seeds=[3]), torch.tensor(levels)
    plan, settings = Schedule({}, levels, starts, own), Settings(blending=blending)
    run = Run(sampler, plan, torch.tensor(w), settings, noised.parametrisation, **known)
    return Mixer(run, noised), [noised.at(k, level).clone() for k, level in enumerate(levels)]


def state(k):
    return torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(20 + k))


def test_features_are_told_of_every_call():
    """Two calls a step, of a single picture."""
    looking = Looking()
    mixer, z = mixer_of([0.9, 0.5], [1.0, 0.25], starts=two_calls, features=[looking])
    assert looking.runs == [mixer._run]
    states, levels = [state(k) for k in range(3)], torch.tensor([0.9, 0.5, 0.5])
    outputs = [state(10 + k) for k in range(3)]
    before = states[2].clone()
    for x, level, output in zip(states, levels, outputs):
        mixer.before_call(x, level[None])
        assert torch.equal(mixer.after_call(x, level[None], output), output + 1)
    blended = 0.25 * z[1] + 0.75 * before
    seen = [z[0], state(1), blended]
    torch.testing.assert_close(states, seen)
    torch.testing.assert_close(looking.guides, [(0, 0.9, 1.0, z[0], z[0]), (1, 0.5, 0.25, z[1], before)])
    torch.testing.assert_close(looking.estimated, [*zip(seen, levels, outputs, [0, -1, 1])])
    found = [(0, 0.9, z[0], outputs[0] + 1), (1, 0.5, blended, outputs[2] + 1)]
    torch.testing.assert_close(looking.evaluations, found)


def test_an_estimate_comes_in_the_precision_that_the_state_has():
    looking = Looking()
    mixer, z = mixer_of([0.9, 0.5], [1.0, 0.5], "variance-preserving", features=[looking])
    for level, dtype in ((0.9, torch.float32), (0.5, torch.float64)):
        x = state(0).to(dtype)
        mixer.before_call(x, torch.tensor([level]))
        mixer.after_call(x, torch.tensor([level]), state(1).to(dtype))
        assert looking.evaluations[-1][-1].dtype == dtype
    expected = blend_by_hand("variance-preserving", state(0), z[1], 0.5, source(1), state(1) + 1, 0.5)
    torch.testing.assert_close(x.float(), expected)


def test_an_estimate_is_that_of_the_clean_picture_where_the_model_predicts_noise():
    looking, noised, level = Looking(), NoisedLatents(source(1), vp(ALPHAS), seeds=[3]), torch.tensor(700)
    mixer, z = mixer_of([700, 100], [1.0, 0.5], features=[looking], noised=noised)
    x = state(0)
    mixer.before_call(x, level[None])
    noise = mixer.after_call(x, level[None], state(1))
    a = ALPHAS[700]
    torch.testing.assert_close(looking.evaluations[0][-1], (z[0] - (1 - a).sqrt() * noise) / a.sqrt())


def test_each_pixel_gets_its_weight_and_those_without_stay_to_the_bit():
    """Norm-only makes another state even of weight 0; here of one in double precision."""
    values = torch.zeros(1, 1, 8, 8)
    values[..., :3], values[..., 3:5] = 1.0, 0.5
    for blending in ("norm-only", "addition"):
        looking = Looking()
        known = {"progress": torch.tensor([0.0, 0.5]), "mask": Mask(values), "features": [looking]}
        mixer, z = mixer_of([0.9, 0.5], [0.8, 1.0], blending, **known)
        start, x = state(0).double(), state(1).double()
        mixer.before_call(start, torch.tensor([0.9]))
        # Sampling starts at z', whatever the weight.
        torch.testing.assert_close(start[..., :5].float(), z[0][..., :5])
        assert torch.equal(start[..., 5:], state(0).double()[..., 5:])
        mixer.after_call(start, torch.tensor([0.9]), start)
        mixer.before_call(x, torch.tensor([0.5]))
        assert torch.equal(x[..., 5:], state(1).double()[..., 5:])
        scaled = state(1) * (z[1].norm() / state(1).norm()) if blending == "norm-only" else state(1)
        torch.testing.assert_close(x[..., :3].float(), z[1][..., :3])
        torch.testing.assert_close(x[..., 3:5].float(), (0.5 * z[1] + 0.5 * scaled)[..., 3:5])
        means = [guide[2] for guide in looking.guides]
        assert means == pytest.approx([0.8 * 0.5, 0.5])  # half of the picture is free


def test_a_sampler_with_levels_of_its_own_gets_what_lies_between_those_of_the_schedule():
    """Three calls a step; a step that is tried again, from the same level, has been blended already."""
    noised = NoisedLatents(source(1), flow(), seeds=[3])
    for blending in ("addition", "clean low-pass"):
        mixer, _ = mixer_of([0.9, 0.5, 0.1], [1.0, 0.6, 0.2], blending, three_calls, True)
        denoised = None
        for step, (level, weight) in enumerate([(0.9, 1.0), (0.7, 0.8), (0.7, None), (0.3, 0.4), (0.05, 0.2)]):
            at, x = torch.tensor(level), state(step)
            mixer.before_call(x, at[None])
            if weight is None:
                assert torch.equal(x, state(step))
            else:
                z = noised.at(step, at).clone()
                expected = blend_by_hand(blending, state(step), z, weight, source(1), denoised, 1 - level)
                torch.testing.assert_close(x, expected, atol=1e-5, rtol=1e-5)
            denoised = state(10 + step)
            mixer.after_call(x, at[None], denoised)
            for _ in range(2):
                inner = state(0)
                mixer.before_call(inner, at[None])
                assert torch.equal(inner, state(0))
                mixer.after_call(inner, at[None], state(50))


def test_a_mask_gets_the_progress_of_the_step():
    """At 0.7 the weight between is 0.8 and the progress 0.2; where the levels are known they are those of the step."""
    values, level = torch.full((1, 1, 8, 8), 0.1), torch.tensor(0.7)
    values[..., 4:] = 0.3
    z = NoisedLatents(source(1), flow(), seeds=[3]).at(1, level)
    for mode, own, expected in (
        ("multiply", True, (0.08, 0.24)),
        ("multiply", False, (0.06, 0.18)),
        ("threshold", True, (0.2, 0.9)),
        ("threshold", False, (0.2, 0.2)),
    ):
        known = {"progress": torch.tensor([0.0, 0.4, 0.8]), "mask": Mask(values, mode, 0.2, 0.9)}
        mixer, _ = mixer_of([0.9, 0.5, 0.1], [1.0, 0.6, 0.2], own=own, **known)
        mixer.before_call(state(0), torch.tensor([0.9]))
        x = state(1)
        mixer.before_call(x, level[None])
        made = [torch.lerp(state(1), z, weight) for weight in expected]
        torch.testing.assert_close(x, torch.cat([made[0][..., :4], made[1][..., 4:]], dim=-1))


def test_where_the_callback_alone_shows_the_state_it_is_blended_there():
    """As UniPC calls: a forecast goes to the model, and then the state of its level to the callback."""

    def unipc():
        raise AssertionError("it isn't run here")

    mixer, z = mixer_of([0.9, 0.5, 0.1], [1.0, 0.6, 0.2], own=True, sampler=unipc)
    x = state(0)
    mixer.before_call(x, torch.tensor([0.9]))
    assert torch.equal(x, z[0])
    for step, (level, weight) in enumerate([(0.5, 0.6), (0.1, 0.2)]):
        forecast, x = state(1), state(2)
        mixer.before_call(forecast, torch.tensor([level]))
        assert torch.equal(forecast, state(1))
        mixer.after_step({"i": step, "x": x})
        torch.testing.assert_close(x, weight * z[step + 1] + (1 - weight) * state(2))
    mixer.after_step({"i": 2, "x": x})  # the last, of which no forecast was made
    torch.testing.assert_close(x, 0.2 * z[2] + 0.8 * state(2))
    with pytest.raises(SamplerRefused):
        mixer.after_step({"i": 3, "x": x})


def test_a_callback_that_counts_other_steps_is_refused():
    mixer, _ = mixer_of([0.9, 0.5], [1.0, 0.5])
    for level in (0.9, 0.5):
        mixer.before_call(state(0), torch.tensor([level]))
    mixer.after_step({"i": 1, "x": state(0)})
    with pytest.raises(SamplerRefused, match="sample_euler calls the model in another way"):
        mixer.after_step({"i": 0, "x": state(0)})


def of_half(model, x, gain, *, sigmas, callback):
    """A sampler that gets something between the state and its schedule."""
    for i, sigma in enumerate(sigmas[:-1]):
        denoised = gain * model(x, sigma.expand(len(x)))
        callback({"x": x, "i": i})
        x = denoised
    return x


@pytest.mark.parametrize("starts", [one_call, None], ids=["known", "step by step"])
def test_what_stands_before_the_schedule_and_the_callback_reach_the_sampler(starts):
    sigmas, noised, numbers = torch.tensor([3.0, 2.0, 1.0, 0.0]), NoisedLatents(source(1), seeds=[3]), []
    plan = Schedule({"sigmas": sigmas}, sigmas[:-1], starts)
    run = Run(of_half, plan, torch.tensor([1.0, 1.0, 1.0]), SETTINGS, noised.parametrisation)
    result = Mixer(run, noised).run(Denoiser(), state(0), 0.5, callback=lambda info: numbers.append(info["i"]))
    assert numbers == [0, 1, 2]
    torch.testing.assert_close(result, 0.5 * Denoiser()(noised.at(2, sigmas[2]), sigmas[2:3]))


def test_one_step_of_a_sampler_that_fails_there():
    sigmas, noised = torch.tensor([2.0, 0.0]), NoisedLatents(source(1), seeds=[3])
    plan = Schedule({"sigmas": sigmas}, sigmas[:1], one_call)
    run = Run(kd.sample_dpmpp_2m_sde, plan, torch.tensor([1.0]), SETTINGS, noised.parametrisation)
    expected = Denoiser()(noised.at(0, sigmas[0]), sigmas[:1])
    torch.testing.assert_close(Mixer(run, noised).run(Denoiser(), state(0)), expected)


def test_the_filters_of_seamless_pictures_go_on_at_the_opposite_edge():
    for blending in ("low-pass", "clean low-pass"):
        mixer, z = mixer_of([0.9, 0.5], [1.0, 0.6], blending, work=Workspace(wraps=True))
        x, denoised = state(1), state(2)
        mixer.before_call(state(0), torch.tensor([0.9]))
        mixer.after_call(state(0), torch.tensor([0.9]), denoised)
        mixer.before_call(x, torch.tensor([0.5]))
        moved = z[1] - state(1) if blending == "low-pass" else 0.5 * (source(1) - denoised)
        torch.testing.assert_close(x, state(1) + 0.6 * low_pass(moved, 2.0, work=Workspace(wraps=True)))


def test_z_is_made_only_for_those_that_look_at_it():
    class Counting(NoisedLatents):
        steps = ()

        def at(self, step, level, out=None):
            self.steps = (*self.steps, step)
            return super().at(step, level, out)

    for blending, features, made in (
        ("clean low-pass", [], (0,)),
        ("clean low-pass", [Looking()], (0, 1)),
        ("addition", [], (0, 1)),
    ):
        noised = Counting(source(1), flow(), seeds=[3])
        mixer, _ = mixer_of([0.9, 0.5], [1.0, 0.6], blending, noised=noised, features=features)
        noised.steps = ()
        for level in (0.9, 0.5):
            mixer.before_call(state(0), torch.tensor([level]))
            mixer.after_call(state(0), torch.tensor([level]), state(1))
        assert noised.steps == made


def of_two_calls(model, x, sigmas, callback):
    for i, sigma in enumerate(sigmas[:-1]):
        x = model(model(x, sigma.expand(len(x))), sigma.expand(len(x)))
        callback({"x": x, "i": i})
    return x


def test_of_a_sampler_that_is_run_step_by_step_the_first_call_of_each_step_starts_it():
    looking, sigmas, noised = Looking(), torch.tensor([3.0, 2.0, 0.0]), NoisedLatents(source(1), seeds=[3])
    plan = Schedule({"sigmas": sigmas}, sigmas[:-1], None)
    run = Run(of_two_calls, plan, torch.tensor([1.0, 0.5]), SETTINGS, noised.parametrisation, features=[looking])
    Mixer(run, noised).run(Denoiser(), state(0))
    assert [told[-1] for told in looking.estimated] == [0, -1, 1, -1]
    assert [told[:2] for told in looking.evaluations] == [(0, 3.0), (1, 2.0)]
    assert [told[:3] for told in looking.guides] == [(0, 3.0, 1.0), (1, 2.0, 0.5)]


def test_how_much_signal_the_steps_have_is_known_before_the_run():
    """To read it from a level of the sampler's would wait for a GPU."""
    asked = []

    def amounts(level):
        asked.append(level)
        return flow().amounts(level)

    noised = NoisedLatents(source(1), dataclasses.replace(flow(), amounts=amounts), seeds=[3])
    mixer, _ = mixer_of([0.9, 0.5], [1.0, 0.6], "clean low-pass", noised=noised)
    x, denoised = state(1), state(2)
    mixer.before_call(state(0), torch.tensor([0.9]))
    mixer.after_call(state(0), torch.tensor([0.9]), denoised)
    asked.clear()
    mixer.before_call(x, torch.tensor([0.5]))
    assert not asked
    torch.testing.assert_close(x, state(1) + 0.5 * 0.6 * low_pass(source(1) - denoised, 2.0))
