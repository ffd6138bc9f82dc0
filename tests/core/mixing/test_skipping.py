"""Steps that are left out: never more than the bound allows, and the result is the whole run's within the bound."""

import functools
import itertools
import logging
import math

import k_diffusion.sampling as kd
import pytest
import torch
from hypothesis import given
from hypothesis import settings as cases
from hypothesis import strategies as st
from torch import nn

import itermix
from itermix import NoisedLatents, Settings, weights
from itermix.mixing.blending import BLENDINGS
from itermix.mixing.curves import CURVE_NAMES
from itermix.mixing.masks import Mask
from itermix.mixing.noising import NOISES
from itermix.mixing.run import Feature, Run
from itermix.mixing.skipping import (
    BOUNDED,
    EXPANSION,
    Skipping,
    bounds,
    bounds_of,
    reason_for_none,
    second_order,
    steps_to_skip,
)
from itermix.sampling import Pass
from itermix.steps.parametrisation import flow, ve, vp
from itermix.steps.schedule import schedule

SHAPE = (2, 3, 6, 8)
SIGMAS = kd.get_sigmas_karras(20, 0.03, 15.0)
ALPHAS = torch.linspace(0.9999, 0.005, 1000)
PLAIN = Settings(denoise=1.0, blending="addition", alpha=0.2, detail=0.0, fidelity=0.0, seed=3)
SKIPPING = PLAIN.replace(skip_tolerance=0.01)


def source():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def rms(x):
    """[B] of each picture."""
    return x.double().square().mean(dim=(1, 2, 3)).sqrt()


class Denoiser(nn.Module):
    """D(x) = m + Q^T tanh(gain Q (x - m)), with Q orthogonal: brings no two states more than `gain` times apart.

    Keeps the RMS distance of all that it gives from a picture, and how often it was called.
    """

    def __init__(self, gain, seed, falls=True):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.turn, _ = torch.linalg.qr(torch.randn(144, 144, generator=generator))
        self.middle = torch.randn(144, generator=generator)
        self.gain, self.falls = gain, falls
        self.distances, self.calls = [], 0

    def forward(self, x, sigma):
        self.calls += 1
        gain = self.gain / (1 + sigma.view(-1, 1)) if self.falls else self.gain
        x = x.flatten(1) - self.middle
        out = (torch.tanh(gain * (x @ self.turn.T)) @ self.turn + self.middle).view(SHAPE)
        self.distances.append(rms(out - source()).max())
        return out


class PredictsNoise(nn.Module):
    """The same as a model of a timestep sampler."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x, timestep):
        signal, noise = (a.view(-1, 1, 1, 1) for a in vp(ALPHAS).amounts(timestep))
        return (x - signal * self.denoiser(x / signal, (noise / signal).flatten())) / noise


def ddim(model, x, timesteps, extra_args=None, callback=None, eta=0.0):
    """Of the WebUIs (arXiv 2010.02502, eq. 12, eta 0). `timesteps` rise; the last step goes to the first of them."""
    for i, (t, following) in enumerate(itertools.pairwise(timesteps.flip(0))):
        noise = model(x, t.expand(len(x)))
        callback({"x": x, "i": i})
        a, following_a = ALPHAS[t], ALPHAS[following]
        x = (following_a / a).sqrt() * (x - (1 - a).sqrt() * noise) + (1 - following_a).sqrt() * noise
    return x


def run(settings, denoiser, sampler=kd.sample_euler, sigmas=SIGMAS, **options):
    """The result, and the noise levels that the model saw."""
    levels = []
    hook = denoiser.register_forward_pre_hook(lambda module, args: levels.append(float(args[1][0])))
    if sampler is ddim:
        timesteps = torch.linspace(1, 999, len(sigmas)).long()
        function = Pass(ddim, source(), [3, 4], settings, vp(ALPHAS)).function()
        result = function(PredictsNoise(denoiser), None, timesteps=timesteps, **options)
    else:
        result = itermix.sample(sampler, denoiser, source(), sigmas, settings, **options)
    hook.remove()
    return result, levels


def bounds_by_hand(settings, sampler=kd.sample_euler, sigmas=SIGMAS):
    arguments = {"sigmas": sigmas}
    parametrisation = ve()
    if sampler is ddim:
        arguments, parametrisation = {"timesteps": torch.linspace(1, 999, len(sigmas)).long()}, vp(ALPHAS)
    plan = schedule(sampler, arguments, settings)
    w = weights(settings, len(plan.levels), parametrisation.progress(plan.levels))
    return bounds_of(Run(sampler, plan, w, settings, parametrisation))


SAMPLERS = [kd.sample_euler, kd.sample_dpmpp_2m, ddim]


def test_these_are_all_samplers_with_a_bound():
    assert {sampler.__name__ for sampler in SAMPLERS} == set(BOUNDED)


@cases(max_examples=60)
@given(
    sampler=st.sampled_from(SAMPLERS),
    curve=st.sampled_from(CURVE_NAMES),
    alpha=st.floats(0.05, 5),
    lowest=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    highest=st.sampled_from([1.0, 1.0, 0.9]),
    start=st.sampled_from([0.0, 0.3]),
    denoise=st.sampled_from([1.0, 0.6]),
    steps=st.integers(2, 30),
    gain=st.floats(0.01, EXPANSION),
    falls=st.booleans(),
    seed=st.integers(0, 50),
    share=st.floats(0, 1),
)
def test_a_run_from_any_step_ends_within_its_bound(
    sampler, curve, alpha, lowest, highest, start, denoise, steps, gain, falls, seed, share
):
    settings = PLAIN.replace(curve=curve, alpha=alpha, lowest=lowest, highest=highest, start=start, denoise=denoise)
    sigmas = kd.get_sigmas_karras(steps, 0.03, 15.0)
    bound = bounds_by_hand(settings, sampler, sigmas)
    tolerance = min(0.5, bound[int(share * (len(bound) - 1))])
    models = [Denoiser(gain, seed, falls) for _ in range(2)]
    whole, levels = run(settings, models[0], sampler, sigmas)
    part, left = run(settings.replace(skip_tolerance=tolerance), models[1], sampler, sigmas)
    skipped = len(levels) - len(left)
    assert left == levels[skipped:]
    assert skipped == (max(k for k in range(len(bound)) if bound[k] <= tolerance) if tolerance else 0)
    farthest = max(distance for model in models for distance in model.distances)
    assert (rms(part - whole) <= farthest * bound[skipped] + 1e-5 * (1 + farthest)).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_some_are_left_out_and_the_picture_is_the_same(sampler):
    models = [Denoiser(0.9, 2) for _ in range(2)]
    whole, levels = run(PLAIN, models[0], sampler)
    part, left = run(SKIPPING, models[1], sampler)
    assert (len(levels), models[0].calls) == (20, 20)
    assert len(left) == models[1].calls <= 17
    assert rms(part - whole).max() <= 0.01 * max(models[0].distances)
    assert not torch.equal(part, whole)


def test_they_start_at_the_noised_source_of_their_level():
    seen = []
    model = Denoiser(0.9, 2)
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    _, levels = run(SKIPPING, model)
    expected = NoisedLatents(source(), seeds=[3, 4]).at(0, torch.tensor(levels[0]))
    torch.testing.assert_close(seen[0], expected)


def test_a_state_that_is_given_is_replaced_by_it():
    """As a WebUI gives it, noised to the first level of its schedule."""
    results = []
    for x in (None, torch.zeros(SHAPE)):
        function = Pass(kd.sample_euler, source(), [3, 4], SKIPPING, ve()).function()
        results.append(function(Denoiser(0.9, 2), x, sigmas=SIGMAS, extra_args={}))
    assert torch.equal(*results)


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_the_callback_gets_the_numbers_of_the_whole_schedule_and_so_does_who_asks(tolerance):
    told, numbers = [], []
    function = Pass(
        kd.sample_euler,
        source(),
        [3, 4],
        PLAIN.replace(skip_tolerance=tolerance),
        ve(),
        given={"left_out": lambda *args: told.append(args)},
    ).function()
    model = Denoiser(0.9, 2)
    function(model, None, sigmas=SIGMAS, extra_args={}, callback=lambda info: numbers.append(info["i"]))
    assert numbers == list(range(20 - model.calls, 20))
    assert told == ([(model, 20 - model.calls)] if tolerance else [])


@pytest.mark.parametrize(
    ("changes", "sampler", "arguments", "reason"),
    [
        *(({"blending": name}, kd.sample_euler, {}, f"not for {name}") for name in BLENDINGS if name != "addition"),
        *(({"noise": name}, kd.sample_euler, {}, "for shared noise") for name in NOISES if name != "shared"),
        ({"normalize_fraction": 0.5}, kd.sample_euler, {}, "that isn't normalized"),
        ({"detail": 0.3}, kd.sample_euler, {}, "without detail"),
        ({}, kd.sample_heun, {}, "not for sample_heun"),
        ({}, kd.sample_euler_ancestral, {}, "not for sample_euler_ancestral"),
        ({}, kd.sample_euler, {"s_churn": 1.0}, "adds no noise"),
        ({}, ddim, {"eta": 0.5}, "adds no noise"),
    ],
)
def test_without_a_bound_nothing_is_left_out_and_the_log_says_why(changes, sampler, arguments, reason, caplog):
    caplog.set_level(logging.INFO, "itermix")
    results = []
    for tolerance in (0.0, 0.5):
        model = Denoiser(0.9, 2)
        result, levels = run(PLAIN.replace(**changes, skip_tolerance=tolerance), model, sampler, **arguments)
        results.append(result)
        assert len(set(levels)) >= 20
        assert ("no step is left out" in caplog.text) == bool(tolerance)
    assert torch.equal(*results)
    assert reason in caplog.text


def test_the_log_says_how_many_are_left_out(caplog):
    caplog.set_level(logging.INFO, "itermix")
    model = Denoiser(0.9, 2)
    run(SKIPPING, model)
    bound = bounds_by_hand(SKIPPING)[20 - model.calls]
    assert f"{20 - model.calls} of 20 steps are left out; the result is within {bound:.2g}" in caplog.text


def test_a_partial_of_a_sampler_is_known():
    model = Denoiser(0.9, 2)
    run(SKIPPING, model, functools.partial(kd.sample_euler, s_noise=1.0))
    assert model.calls < 20


def test_bounds_of_three_steps_in_euler():
    w, r = [1.0, 0.75, 0.5], [0.5, 0.25, 0.0]
    departures = [0, 0.5, 0.25 * 0.25 * 0.5 + 0.75]
    # Each blend multiplies by 1 - w, and each step of Euler by at most r + (1 - r) EXPANSION.
    growth = [0.25 + 0.75 * EXPANSION, EXPANSION]
    expected = [0, departures[1] * 0.25 * growth[0] * 0.5 * growth[1], departures[2] * 0.5 * growth[1]]
    assert bounds(w, r, [0.0] * 3) == pytest.approx(expected)


def test_bounds_of_three_steps_of_second_order():
    w, r, c = [1.0, 0.75, 0.5], [0.5, 0.25, 0.0], [0.0, 0.4, 0.0]
    after_first = 0.25 * 0.125 + 0.75 * (EXPANSION * 0.125 + 2 * 0.4)  # from 0.5 * 0.25 = 0.125
    expected = [0, after_first * 0.5 * EXPANSION, 2.0]  # as far apart as estimates can be
    assert bounds(w, r, c) == pytest.approx(expected)


def test_the_model_cannot_tell_apart_by_more_than_it_reaches():
    """The last step goes to the model's estimate, and two of them are within 1 of the source."""
    assert bounds([1.0, 0.0, 0.0], [0.5, 0.1, 0.0], [0.0, 9.0, 0.0])[1:] == pytest.approx([2.0, 2.0])


def test_nothing_is_known_of_a_run_that_does_not_start_at_the_noised_source():
    assert bounds([0.0, 0.0], [0.5, 0.0], [0.0, 0.0]) == [0, math.inf]


def test_full_weight_makes_all_before_it_needless():
    assert bounds([1.0] * 4, [0.5, 0.5, 0.5, 0.0], [0.0] * 4) == [0] * 4
    assert steps_to_skip([0.0, 0.0, 0.0, 0.0], 0.0) == 3


def test_the_last_step_under_the_tolerance_counts():
    assert [steps_to_skip([0.0, 0.1, 0.05, 0.3], t) for t in (0.0, 0.04, 0.05, 0.1, 0.3)] == [0, 0, 2, 2, 3]


def test_the_weight_of_the_estimate_before_is_the_samplers_own():
    """A step from 0 with the estimates 0 before and 1 now gives (1 - r) (1 + c)."""
    sigmas = torch.tensor([8.0, 3.0, 1.0, 0.2, 0.0])
    found = second_order(sigmas.tolist())
    for j in (1, 2):
        estimates = iter([0.0, 1.0])
        two_steps = sigmas[j - 1 : j + 2]
        x = torch.zeros(1, 1, 1, 1)
        end = kd.sample_dpmpp_2m(lambda x, sigma, e=estimates: torch.full_like(x, next(e)), x, two_steps, disable=True)
        ratio = float(sigmas[j + 1] / sigmas[j])
        assert float(end) == pytest.approx((1 - ratio) * (1 + found[j]), rel=1e-4)
    assert found[0] == found[3] == 0


@pytest.mark.parametrize(
    ("parametrisation", "ratios"),
    [(ve(), [0.8, 0.625, 0.4, 0.0]), (flow(), [0.0, 0.25, 0.25, 0.0])],
    ids=["ve", "flow"],
)
def test_the_ratios_are_those_of_the_noise_to_the_signal(parametrisation, ratios):
    plan = schedule(kd.sample_euler, {"sigmas": torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])}, PLAIN)
    w = [1.0, 0.9, 0.6, 0.3]
    found = bounds_of(Run(kd.sample_euler, plan, torch.tensor(w), Settings(), parametrisation))
    assert found == pytest.approx(bounds(w, ratios, [0.0] * 4), rel=1e-4)


def test_bounds_of_four_steps_by_hand():
    """A run that starts at step 1 is 0.05 away after its blend: 0.15 in the estimate and 2 c in that before, ..."""
    found = bounds([0.5, 0.9, 0.9, 0.9], [0.5, 0.5, 0.5, 0.0], [0.0, 0.25, 0.5, 0.0])
    assert found == pytest.approx([0.0, 0.040125, 0.1965, 0.311625])


def test_dpmpp_2m_has_the_bounds_of_its_second_order():
    sigmas, w = torch.tensor([8.0, 4.0, 1.0, 0.0]), [1.0, 0.9, 0.8]
    plan = schedule(kd.sample_dpmpp_2m, {"sigmas": sigmas}, PLAIN)
    found = bounds_of(Run(kd.sample_dpmpp_2m, plan, torch.tensor(w), PLAIN, ve()))
    assert found == pytest.approx(bounds(w, [0.5, 0.25, 0.0], [0.0, 1.0, 0.0]))
    assert found != pytest.approx(bounds(w, [0.5, 0.25, 0.0], [0.0] * 3))


def test_from_pure_noise_the_first_step_goes_to_the_models_estimate():
    plan = schedule(kd.sample_euler, {"sigmas": torch.tensor([1.0, 0.5, 0.0])}, PLAIN)  # of noise to signal infinity, 1
    found = bounds_of(Run(kd.sample_euler, plan, torch.tensor([0.5, 0.9]), PLAIN, flow()))
    assert found == pytest.approx(bounds([0.5, 0.9], [0.0, 0.0], [0.0, 0.0]))


class Estimating(Feature):
    estimates = True


def test_the_reason_is_a_sentence(caplog):
    caplog.set_level(logging.INFO, "itermix")
    for known, changes, sampler, reason in (
        ({"mask": Mask(torch.ones(1, 1, 6, 8))}, {}, kd.sample_euler, "one weight of all pixels"),
        ({}, {"blending": "slerp"}, kd.sample_euler, "the blending addition, not for slerp"),
        ({}, {"noise": "independent"}, kd.sample_euler, "shared noise that isn't normalized"),
        ({}, {"normalize_fraction": 0.5}, kd.sample_euler, "shared noise that isn't normalized"),
        ({"features": [Estimating()]}, {}, kd.sample_euler, "the model's own estimates, without detail"),
        ({}, {"rewind": True}, kd.sample_euler, "a run that isn't rewound"),
        ({}, {}, kd.sample_heun, "Euler, DPM++ 2M and DDIM, not for sample_heun"),
    ):
        settings = PLAIN.replace(**changes)
        plan = schedule(sampler, {"sigmas": SIGMAS}, settings)
        run = Run(sampler, plan, torch.ones(20), settings, ve(), **known)
        assert reason_for_none(run, settings) == f"there is a bound for {reason}"
        caplog.clear()
        assert Skipping(settings, None).begins(run, None, [0, 7]) == [0, 7]
        sentence = f"Iterative Mixing: no step is left out, since there is a bound for {reason}"
        assert [record.getMessage() for record in caplog.records] == [sentence]


def test_a_sampler_that_adds_noise_is_a_reason_and_one_that_could_is_none():
    plan = schedule(kd.sample_euler, {"sigmas": SIGMAS, "s_churn": 1.0}, PLAIN)
    run = Run(kd.sample_euler, plan, torch.ones(20), PLAIN, ve())
    assert reason_for_none(run, PLAIN) == "there is a bound only where the sampler adds no noise"
    plan = schedule(kd.sample_euler, {"sigmas": SIGMAS, "s_churn": 0.0}, PLAIN)
    assert reason_for_none(Run(kd.sample_euler, plan, torch.ones(20), PLAIN, ve()), PLAIN) is None


def test_what_is_left_out_is_logged_and_told(caplog):
    """Full weight overwrites all before the last step; its own bound is 0."""
    caplog.set_level(logging.INFO, "itermix")
    told = []
    plan = schedule(kd.sample_euler, {"sigmas": SIGMAS}, PLAIN)
    run = Run(kd.sample_euler, plan, torch.ones(20), PLAIN, ve())
    skipping = Skipping(PLAIN.replace(skip_tolerance=0.1), lambda *args: told.append(args))
    assert skipping.begins(run, "model", [0]) == [19]
    assert told == [("model", 19)]
    sentence = "Iterative Mixing: 19 of 20 steps are left out; the result is within 0"
    assert [record.getMessage() for record in caplog.records] == [sentence]


@pytest.mark.parametrize("k", [0, 1, 4])
def test_a_schedule_without_its_first_steps(k):
    plan = schedule(kd.sample_euler, {"sigmas": SIGMAS, "x": 1}, PLAIN).after(k)
    assert plan.arguments.keys() == {"sigmas", "x"}
    assert torch.equal(plan.arguments["sigmas"], SIGMAS[k:])
    assert torch.equal(plan.levels, SIGMAS[k:-1])
    assert plan.end == 0
    timesteps = torch.arange(1, 1000, 99)
    plan = schedule(ddim, {"timesteps": timesteps}, PLAIN).after(k)
    assert torch.equal(plan.arguments["timesteps"], timesteps[: len(timesteps) - k])
    assert torch.equal(plan.levels, timesteps[1:].flip(0)[k:])
    assert plan.end == 1
