"""Inversion against the closed form: pictures of a normal distribution, whose ODE can be solved."""

import contextlib
import itertools

import k_diffusion.sampling as kd
import pytest
import torch
from torch import nn

import itermix
from itermix import NoisedLatents, Settings, SettingsError
from itermix.mixing.run import Run
from itermix.model.inversion import InversionSettings, invert, of_pictures
from itermix.steps.parametrisation import flow, ve, vp
from itermix.steps.samplers import one_call
from itermix.steps.schedule import Schedule

MEAN, SPREAD = 0.4, 0.6
ALPHAS = torch.linspace(0.99999, 0.005, 1000).double()
KINDS = {"ve": ve, "vp": lambda: vp(ALPHAS), "flow": flow}
UNMIXED = Settings(denoise=1.0, noise="inverted", highest=0.0, fidelity=0.0, detail=0.0)
# Samplers of k-diffusion that draw no noise, and how many model calls they make in a number of steps.
EXACT = {"sample_euler": 1, "sample_heun": 2, "sample_dpm_2": 2, "sample_dpmpp_2m": 1, "sample_lms": 1}


def source(batch=2):
    return MEAN + SPREAD * torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def levels_of(kind, ratios):
    """The levels of a parametrisation at which it has these ratios of noise to signal."""
    if kind == "vp":  # between two timesteps log a is a straight line
        known = ALPHAS.log().numpy()
        wanted = (-(1 + ratios.square()).log()).numpy()
        below = [int((known >= a).sum()) - 1 for a in wanted]
        between = [(known[k] - a) / (known[k] - known[k + 1]) for k, a in zip(below, wanted)]
        return torch.tensor([k + part for k, part in zip(below, between)], dtype=torch.float64)
    return ratios if kind == "ve" else ratios / (1 + ratios)


def ratios(count):
    return torch.linspace(2.3, -3.0, count, dtype=torch.float64).exp()


class Exact:
    """The best denoiser of such pictures, with what it was called with."""

    def __init__(self, parametrisation):
        self.parametrisation = parametrisation
        self.calls = []

    def __call__(self, x, level, share):
        assert level.shape == (len(x),)
        self.calls.append((x, float(level[0]), share))
        signal, amount = self.parametrisation.amounts(level[0])
        ratio = amount / signal
        denoised = (SPREAD**2 * x / signal + ratio**2 * MEAN) / (SPREAD**2 + ratio**2)
        return (x - signal * denoised) / amount if self.parametrisation.predicts_noise else denoised


def solved(ratio):
    """z' in units of the signal at the end of the ODE: every deviation from the mean grows as the spread does."""
    return MEAN + (source() - MEAN) * (SPREAD**2 + ratio**2).sqrt() / SPREAD


def error_at_the_top(kind, count):
    """The largest, in units of the signal, after so many steps of one size."""
    evenly = torch.arange(count, 0, -1, dtype=torch.float64) * 3 / count
    parametrisation, levels = KINDS[kind](), levels_of(kind, evenly)
    found = invert(Exact(parametrisation), source(), levels, parametrisation)
    signal, _ = parametrisation.amounts(levels[0])
    return float((found.at(0, levels[0]) / signal - solved(evenly[0])).abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_it_approaches_the_solution_of_the_ode_with_the_first_order(kind):
    errors = [error_at_the_top(kind, count) for count in (100, 200, 400)]
    assert errors[-1] < 0.05
    assert [a / b for a, b in itertools.pairwise(errors)] == pytest.approx([2, 2], rel=0.1)


def test_it_is_ddim_backwards():
    """arXiv 2010.02502, eq. 13, from a timestep to the next noisier one."""
    timesteps = torch.tensor([801, 401, 201, 1])
    parametrisation = vp(ALPHAS)
    model = Exact(parametrisation)
    found = invert(model, source(), timesteps, parametrisation)
    z, a, e = source(), torch.tensor(1.0).double(), None
    for step in (3, 2, 1, 0):
        e = model(z if e is not None else ALPHAS[1].sqrt() * z, timesteps[min(step + 1, 3)].expand(2), step)
        z = (z - (1 - a).sqrt() * e) / a.sqrt()
        a = ALPHAS[timesteps[step]]
        z = a.sqrt() * z + (1 - a).sqrt() * e
        torch.testing.assert_close(found.at(step, timesteps[step]), z)


@pytest.mark.parametrize("kind", KINDS)
def test_it_stands_at_each_level_once_and_at_the_lowest_twice(kind):
    parametrisation, levels = KINDS[kind](), levels_of(kind, ratios(5))
    model = Exact(parametrisation)
    found = invert(model, source(), levels, parametrisation)
    assert [share for _, _, share in model.calls] == [0.8, 0.8, 0.6, 0.4, 0.2]
    assert [level for _, level, _ in model.calls] == [float(levels[step]) for step in (4, 4, 3, 2, 1)]
    for step, (x, _, _) in zip((4, 3, 2, 1), model.calls[1:]):
        assert torch.equal(found.at(step, levels[step]), x)


@pytest.mark.parametrize("kind", KINDS)
def test_between_the_levels_and_above_it_is_on_the_lines_of_eulers_steps(kind):
    parametrisation, r = KINDS[kind](), torch.tensor([8.0, 3.0, 1.0, 0.2], dtype=torch.float64)
    levels = levels_of(kind, r)
    found = invert(Exact(parametrisation), source(), levels, parametrisation)
    signals, _ = parametrisation.amounts(levels)
    ends = [found.at(k, level).clone() / s for k, (level, s) in enumerate(zip(levels, signals))]
    for ratio, a, b in ((9.0, 0, 1), (8.0, 0, 1), (5.0, 0, 1), (1.5, 1, 2), (0.1, 3, 4)):
        level = levels_of(kind, torch.tensor([ratio], dtype=torch.float64))[0]
        signal, _ = parametrisation.amounts(level)
        upper, lower = ends[a], (*ends, source())[b]
        low = float((*r, 0.0)[b])
        share = (ratio - low) / (float(r[a]) - low)
        torch.testing.assert_close(found.at(0, level) / signal, lower + share * (upper - lower))


def test_flows_noisiest_level_holds_no_signal_and_is_finite():
    levels = torch.tensor([1.0, 0.7, 0.3])
    found = invert(Exact(flow()), source(), levels, flow())
    assert torch.isfinite(found.at(0, levels[0])).all()
    clean = found.at(0, levels[1]).clone()
    noise = (clean - 0.3 * Exact(flow())(clean, levels[1].expand(2), 1)) / 0.7
    torch.testing.assert_close(found.at(0, levels[0]), noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_survives_the_largest_noise_level(dtype):
    levels = ratios(20) * 16
    found = invert(Exact(ve()), source().to(dtype), levels, ve())
    z = found.at(0, levels[0])
    assert z.dtype == dtype
    assert z.float().std() == pytest.approx(float(levels[0]), rel=0.2)


def test_normalize_takes_the_mean_of_the_noisiest_share_off_the_whole_sequence():
    levels = ratios(4)
    plain, normalized = (invert(Exact(ve()), source(), levels, ve()) for _ in range(2))
    normalized.normalize(levels, 0.5)
    bias = sum(plain.at(k, levels[k]).mean(dim=(1, 2, 3)) for k in range(2)) / 2
    for k, level in enumerate(levels):
        torch.testing.assert_close(normalized.at(k, level), plain.at(k, level) - bias.view(2, 1, 1, 1))


class Denoiser(nn.Module):
    """The same, as a module that k-diffusion's samplers call; `mean` is its prompt."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, sigma, mean=MEAN):
        self.calls.append((float(sigma[0]), mean))
        sigma = sigma.view(-1, 1, 1, 1)
        return (SPREAD**2 * x + sigma**2 * mean) / (SPREAD**2 + sigma**2)


def run(sampler, steps=30, settings=UNMIXED, denoiser=None, **options):
    sigmas = kd.get_sigmas_karras(steps, 0.02, 12.0).double()
    return itermix.sample(sampler, denoiser or Denoiser(), source(), sigmas, settings, disable=True, **options)


@pytest.mark.parametrize("name", EXACT)
def test_sampling_without_mixing_finds_back_to_the_source(name):
    few, many = ((run(getattr(kd, name), steps) - source()).square().mean().sqrt() for steps in (30, 60))
    assert few < 0.12 * SPREAD
    assert many < 0.6 * few
    drawn = run(getattr(kd, name), settings=UNMIXED.replace(noise="shared")) - source()
    assert drawn.square().mean().sqrt() > SPREAD


@pytest.mark.parametrize("name", ["sample_dpm_fast", "sample_dpm_adaptive"])
def test_samplers_with_noise_levels_of_their_own_find_back_too(name):
    found = run(getattr(kd, name), 60)
    assert (found - source()).square().mean().sqrt() < 0.15 * SPREAD


@pytest.mark.parametrize("name", EXACT)
def test_each_step_costs_one_more_call_which_comes_before(name):
    model = Denoiser()
    run(getattr(kd, name), 6, denoiser=model)
    sigmas = kd.get_sigmas_karras(6, 0.02, 12.0).double().tolist()
    assert [sigma for sigma, _ in model.calls[:6]] == pytest.approx([sigmas[k] for k in (5, 5, 4, 3, 2, 1)])
    assert len(model.calls) == 6 + (6 if EXACT[name] == 1 else 11)


def test_only_the_steps_that_are_run_are_inverted():
    sigmas = kd.get_sigmas_karras(10, 0.02, 12.0).double().tolist()
    for changes, first, last in (
        ({"denoise": 0.5}, 5, 10),
        ({"start_at_step": 2, "end_at_step": 6}, 2, 6),
    ):
        model = Denoiser()
        run(kd.sample_euler, 10, UNMIXED.replace(**changes), model)
        way = [last - 1, *range(last - 1, first, -1), *range(first, last)]
        assert [sigma for sigma, _ in model.calls] == pytest.approx([sigmas[k] for k in way])


def test_one_step_is_enough():
    model = Denoiser()
    found = itermix.sample(kd.sample_euler, model, source(), torch.tensor([0.1, 0.0]).double(), UNMIXED)
    assert len(model.calls) == 2
    assert (found - source()).abs().max() < 0.05


def test_every_other_sampler_finds_the_levels_that_it_asks_for():
    for options in ({"s_churn": 5.0}, {"s_churn": 5.0, "s_tmax": 3.0}):
        found = run(kd.sample_euler, settings=UNMIXED.replace(highest=1.0, blending="addition"), **options)
        assert torch.isfinite(found).all()


def test_mixing_uses_the_inverted_latents():
    """At full weight to the end only the last denoised is left, of the least noisy of them."""
    settings = UNMIXED.replace(blending="addition", highest=1.0, lowest=1.0)
    sigmas = kd.get_sigmas_karras(30, 0.02, 12.0).double()
    model = Denoiser()
    noised = invert(lambda x, level, share: model(x, level), source(), sigmas[:-1], ve())
    expected = model(noised.at(29, sigmas[-2]), sigmas[-2].expand(2))
    torch.testing.assert_close(run(kd.sample_euler, settings=settings), expected)


def test_it_has_arguments_of_its_own():
    model = Denoiser()
    run(kd.sample_euler, 4, denoiser=model, extra_args={"mean": 0.1}, inversion_args={"mean": 0.9})
    assert [mean for _, mean in model.calls] == [0.9] * 4 + [0.1] * 4
    model = Denoiser()
    run(kd.sample_euler, 4, denoiser=model, extra_args={"mean": 0.1})
    assert [mean for _, mean in model.calls] == [0.1] * 8
    model = Denoiser()
    run(kd.sample_euler, 4, denoiser=model, extra_args={"mean": 0.1}, inversion_args={})
    assert [mean for _, mean in model.calls] == [MEAN] * 4 + [0.1] * 4


def test_no_noise_is_drawn():
    before = torch.get_rng_state()
    first = run(kd.sample_euler, settings=UNMIXED.replace(seed=1))
    assert torch.equal(run(kd.sample_euler, settings=UNMIXED.replace(seed=2), noise=torch.zeros(2, 3, 8, 8)), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 3])
def test_nothing_is_left_behind_by_a_stop(error, call):
    model = Denoiser()

    def stop(module, args):
        if len(module.calls) == call:
            raise error

    hook = model.register_forward_pre_hook(stop)
    with pytest.raises(error):
        run(kd.sample_euler, 5, denoiser=model)
    hook.remove()
    assert len(model.calls) == call
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


def test_noise_that_is_drawn_can_not_be_inverted():
    with pytest.raises(SettingsError, match=r"Allowed: shared, independent, cumulative\."):
        NoisedLatents(source(), kind="inverted")


@pytest.mark.parametrize("kind", ["ve", "flow"])
def test_without_noise_it_is_the_source(kind):
    parametrisation, levels = KINDS[kind](), levels_of(kind, ratios(3))
    found = invert(Exact(parametrisation), source(), levels, parametrisation)
    torch.testing.assert_close(found.at(2, torch.tensor(0.0).double()), source())


def test_who_knows_a_way_without_guidance_gives_it():
    asked = []

    @contextlib.contextmanager
    def inverting(model, extra_args):
        asked.append((model, extra_args))
        yield Exact(ve())

    feature = InversionSettings(noise="inverted").feature({"inverting": inverting, "inversion_args": {"mean": 9.0}})
    model, levels = Denoiser(), ratios(3)
    run = Run(kd.sample_euler, Schedule({}, levels, one_call), torch.ones(3), UNMIXED, ve())
    noised = feature.noised(run, model, source(), {"extra_args": {"mean": 0.1}})
    assert asked == [(model, {"mean": 0.1})]
    expected = invert(Exact(ve()), source(), levels, ve())
    assert torch.equal(noised.at(0, levels[0]), expected.at(0, levels[0]))
    assert InversionSettings().feature({"inverting": inverting}) is None


def test_the_model_of_a_video_sees_the_frames_together():
    seen = []

    def denoise(x, level, share):
        seen.append((x.shape, level.tolist(), share))
        return 2 * x

    latent = torch.randn(2, 3, 4, 5, 6)
    pictures = latent.transpose(1, 2).flatten(0, 1)
    made = of_pictures(denoise, latent)(pictures, torch.full((8,), 0.5), 0.25)
    assert torch.equal(made, 2 * pictures)
    assert seen == [(latent.shape, [0.5, 0.5], 0.25)]
