"""Samplers that choose noise levels of their own, and samplers of which nothing is known."""

from itertools import pairwise

import k_diffusion.sampling as kd
import pytest
import torch
from torch import nn

import itermix
from itermix import Settings, SettingsError, weights
from itermix.mixing.blending import BLENDINGS
from itermix.sampling import Pass
from itermix.steps.parametrisation import ve, vp
from itermix.steps.samplers import SamplerRefused, model_calls, one_call
from itermix.steps.schedule import schedule, steps_asked, steps_by_host, steps_range, timesteps_run

STEPS = 8
SIGMAS = kd.get_sigmas_karras(STEPS, 0.05, 12.0)
ALPHAS = torch.linspace(0.9999, 0.005, 1000)
# Weight 1 in every step: each blended state is z' itself.
TIED = Settings(denoise=1.0, blending="addition", lowest=1.0, seed=3, fidelity=0.0)


class Denoiser(nn.Module):
    """A smooth made-up denoiser that keeps what it was called with."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, level):
        self.calls.append((x.clone(), float(level[0])))
        return torch.tanh(x) * 0.7 + 0.1


def source():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).tanh()


def noise():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def tied(calls, parametrisation=None):
    """Indexes of the calls [(x, level)] whose state is z' of their level."""
    found = []
    for k, (x, level) in enumerate(calls):
        signal, amount = (parametrisation or ve()).amounts(torch.tensor(level))
        if torch.allclose(x, signal * source() + amount * noise(), atol=1e-4):
            found.append(k)
    return found


def run(sampler, settings=TIED, **options):
    model = Denoiser()
    result = itermix.sample(sampler, model, source(), SIGMAS, settings, noise=noise(), **options)
    assert torch.isfinite(result).all()
    return model.calls, result


@pytest.mark.parametrize(
    ("calls", "starts"), [(3, [0, 2]), (6, [0, 3, 5]), (7, [0, 3, 6]), (8, [0, 3, 6]), (1, [0]), (2, [0])]
)
def test_dpm_fast_is_mixed_once_in_each_of_its_blocks(calls, starts):
    model, infos = Denoiser(), []
    sampler = Pass(kd.sample_dpm_fast, source(), [0, 1], TIED, ve(), noise()).function()
    sampler(model, source(), sigma_min=torch.tensor(0.05), sigma_max=torch.tensor(12.0), n=calls, callback=infos.append)
    assert len(model.calls) == calls
    assert tied(model.calls) == starts
    levels = torch.linspace(torch.tensor(12.0).log(), torch.tensor(0.05).log(), len(starts) + 1).exp()
    assert [model.calls[k][1] for k in starts] == pytest.approx(levels[:-1].tolist(), rel=1e-4)
    assert [info["i"] for info in infos] == list(range(len(starts)))


@pytest.mark.parametrize("progress", ["steps", "noise level"])
def test_the_blocks_of_dpm_fast_have_the_weights_of_as_many_steps(progress, monkeypatch):
    settings = TIED.replace(lowest=0.0, progress=progress)
    plan = schedule(kd.sample_dpm_fast, {"sigmas": SIGMAS}, settings)
    assert len(plan.levels) == STEPS // 3 + 1
    expected = weights(settings, len(plan.levels), ve().progress(plan.levels)).tolist()
    assert weights_used(kd.sample_dpm_fast, settings, monkeypatch) == pytest.approx(expected[1:])


def weights_used(sampler, settings, monkeypatch):
    """From the second step on: at the first the state is z', and nothing is blended."""
    used, addition = [], BLENDINGS["addition"]
    monkeypatch.setitem(BLENDINGS, "addition", lambda x, z, w, guide: used.append(w) or addition(x, z, w, guide))
    run(sampler, settings)
    return used


def test_dpm_adaptive_is_mixed_once_in_each_step_that_it_takes_and_not_again_where_it_tries_one_again():
    infos = []
    calls, _ = run(kd.sample_dpm_adaptive, callback=infos.append, h_init=3.0)
    tries = len(infos)
    assert infos[-1]["n_reject"] > 0
    assert len(calls) == 3 * tries
    assert tied(calls) == list(range(0, 3 * tries, 3))
    assert [info["i"] for info in infos] == list(range(tries))


def test_a_repeated_try_starts_from_the_state_of_the_first():
    settings = TIED.replace(lowest=0.0, curve="linear")
    calls, _ = run(kd.sample_dpm_adaptive, settings, h_init=3.0)
    starts = calls[::3]
    repeated = [(a, b) for a, b in pairwise(starts) if a[1] == b[1]]
    assert repeated
    for (before, _), (after, _) in repeated:
        assert torch.equal(before, after)


def test_the_weight_of_dpm_adaptive_is_that_of_the_noise_level(monkeypatch):
    settings = TIED.replace(lowest=0.0, curve="linear", progress="noise level")
    levels = sorted({level for _, level in run(kd.sample_dpm_adaptive, settings)[0][::3]}, reverse=True)
    used = weights_used(kd.sample_dpm_adaptive, settings, monkeypatch)
    expected = [w for level in levels if (w := 1 - float(ve().progress(torch.tensor([level]))[0])) > 0]
    assert used == pytest.approx(expected[1:], abs=2e-3)


def restart_sampler(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """Restart sampling (arXiv 2306.14878): Heun's steps, and once from sigmas[6] up to sigmas[3] and down again."""
    way = [*range(7), *range(3, len(sigmas))]
    for i, (k, following) in enumerate((a, b) for a, b in pairwise(way) if a < b):
        if k == 3 and i > 3:
            x = x + (sigmas[3] ** 2 - sigmas[6] ** 2).sqrt() * torch.randn_like(x)
        sigma, lower = sigmas[k], sigmas[following]
        d = (x - model(x, sigma.expand(len(x)))) / sigma
        callback({"x": x, "i": i})
        if lower > 0:
            trial = x + d * (lower - sigma)
            d = (d + (trial - model(trial, lower.expand(len(x)))) / lower) / 2
        x = x + d * (lower - sigma)
    return x


def test_restart_is_mixed_on_its_way_up_again_with_the_weight_of_the_noise_level(monkeypatch):
    calls, _ = run(restart_sampler)
    starts = tied(calls)
    assert starts == list(range(0, len(calls), 2))
    assert [calls[k][1] for k in starts] == pytest.approx([*SIGMAS[:6].tolist(), *SIGMAS[3:-1].tolist()])
    settings = TIED.replace(lowest=0.1)
    of_steps = weights(settings, STEPS).tolist()
    used = weights_used(restart_sampler, settings, monkeypatch)
    assert used == pytest.approx([*of_steps[1:6], *of_steps[3:]], rel=1e-5)


def unipc(model, x, timesteps, extra_args=None, callback=None, is_img2img=True):
    """The order of events in UniPC (arXiv 2302.04867) of the WebUIs: the model sees a forecast of the next state, with
    which the state itself is corrected, and the callback gets that; its levels are its own. Here of order 1."""
    levels = torch.linspace(float(timesteps[-1]), 0, len(timesteps) + 1)
    signals, amounts = vp(ALPHAS).amounts(levels)
    e = model(x, levels[0].expand(len(x)))
    for i in range(len(timesteps)):
        estimate = (x - amounts[i] * e) / signals[i]
        forecast = signals[i + 1] * estimate + amounts[i + 1] * e
        if i == len(timesteps) - 1:
            x = forecast
        else:
            following = model(forecast, levels[i + 1].expand(len(x)))
            x = signals[i + 1] * estimate + amounts[i + 1] * (e + following) / 2
            e = following
        callback({"x": x, "i": i})
    return x


TIMESTEPS = torch.arange(1, 800, 100)


def run_unipc(settings, states):
    model = Denoiser()
    sampler = Pass(unipc, source(), [0, 1], settings, vp(ALPHAS), noise()).function()
    result = sampler(
        model,
        torch.zeros(2, 3, 8, 8),
        timesteps=TIMESTEPS,
        is_img2img=True,
        callback=lambda info: states.append(info["x"].clone()),
    )
    return model, result


def test_the_state_of_unipc_is_mixed_where_its_callback_shows_it():
    states = []
    model, result = run_unipc(TIED, states)
    assert tied(model.calls, vp(ALPHAS)) == [0]  # what the model sees later is a forecast
    assert len(states) == len(model.calls) == len(TIMESTEPS)
    levels = [level for _, level in model.calls]
    assert levels == pytest.approx(torch.linspace(701, 0, 9)[:-1].tolist())
    assert tied(list(zip(states, levels[1:])), vp(ALPHAS)) == list(range(len(TIMESTEPS) - 1))
    assert torch.equal(states[-1], result)  # the last state is the result, which nothing is mixed into


def test_without_weight_unipc_is_itself_to_the_bit():
    got = run_unipc(TIED.replace(lowest=0.0, highest=0.0), [])[1]
    expected = unipc(Denoiser(), torch.zeros(2, 3, 8, 8), TIMESTEPS, callback=lambda info: None)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
def test_every_blending_works_with_unipc(blending):
    plain, mixed_states = [], []
    run_unipc(TIED.replace(highest=0.0, lowest=0.0), plain)
    _, result = run_unipc(Settings(denoise=1.0, blending=blending), mixed_states)
    assert torch.isfinite(result).all()
    assert not torch.equal(plain[0], mixed_states[0])


@pytest.mark.parametrize("per_step", [1, 2, 3])
def test_an_unknown_sampler_is_run_one_step_at_a_time(per_step):
    """It may call the model as it likes, also at other sizes."""

    def sample_mystery(model, x, sigmas, extra_args=None, callback=None):
        for i in range(len(sigmas) - 1):
            for _ in range(per_step):
                denoised = model(x, sigmas[i].expand(len(x)))
            model(x[..., ::2, ::2], sigmas[i].expand(len(x)))
            callback({"x": x, "i": i})
            x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        return x

    estimates = Settings(denoise=1.0, seed=3)  # uses the model's estimate
    for settings in (TIED, TIED.replace(lowest=0.2), estimates):
        infos = []
        _, got = run(sample_mystery, settings, callback=infos.append)
        _, expected = run(kd.sample_euler, settings)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        assert [info["i"] for info in infos] == list(range(STEPS))


def test_an_unknown_timestep_sampler_is_run_one_step_at_a_time():
    def mystery(model, x, timesteps, extra_args=None, callback=None):
        for i in reversed(range(1, len(timesteps))):
            e = model(x, timesteps[i].expand(len(x)))
            callback({"x": x, "i": len(timesteps) - 1 - i})
            a, following = ALPHAS[timesteps[i]], ALPHAS[timesteps[i - 1]]
            x = (following / a).sqrt() * (x - (1 - a).sqrt() * e) + (1 - following).sqrt() * e
        return x

    def ddim(model, x, timesteps, **options):
        return mystery(model, x, timesteps, **options)

    results = []
    for sampler in (mystery, ddim):
        infos = []
        run_ = Pass(sampler, source(), [0, 1], TIED.replace(lowest=0.3), vp(ALPHAS), noise()).function()
        results.append(run_(Denoiser(), source(), timesteps=TIMESTEPS, callback=infos.append))
        assert [info["i"] for info in infos] == list(range(len(TIMESTEPS) - 1))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("name", ["sample_heun", "sample_dpm_2", "sample_euler"])
def test_one_step_at_a_time_is_what_a_sampler_without_memory_does_anyway(name):
    sampler = getattr(kd, name)

    def stranger(model, x, sigmas, **options):
        return sampler(model, x, sigmas, **options)

    settings = Settings(blending="wavelet", seed=3)
    torch.testing.assert_close(run(stranger, settings)[1], run(sampler, settings)[1], atol=1e-5, rtol=1e-5)


def test_a_known_name_with_other_calls_is_refused_and_not_mixed_wrongly():
    def sample_heun(model, x, sigmas, extra_args=None, callback=None):
        return kd.sample_euler(model, x, sigmas, callback=callback)

    with pytest.raises(SamplerRefused, match=r"sample_heun calls the model in another way .* Use another sampler, for"):
        run(sample_heun)


def test_a_sampler_that_ends_early_is_refused():
    def sample_euler(model, x, sigmas, extra_args=None, callback=None):
        return model(x, sigmas[0].expand(len(x)))

    with pytest.raises(SamplerRefused, match="steps can't be told apart"):
        run(sample_euler)


@pytest.mark.parametrize(
    ("name", "parameters", "why"),
    [("sample_unipc", "sigmas", "UniPC keeps its state"), ("sample_odd", "steps", "sample_odd takes no schedule")],
)
def test_what_has_no_noise_levels_or_no_reachable_state_is_refused_before_the_first_call(name, parameters, why):
    made = {}
    exec(f"def {name}(model, x, {parameters}): raise AssertionError", made)
    with pytest.raises(SamplerRefused, match=f"{why}.* Use another sampler, for example DPM"):
        run(made[name])


@pytest.mark.parametrize("field", ["start_at_step", "end_at_step"])
@pytest.mark.parametrize(
    ("sampler", "arguments"),
    [
        (kd.sample_dpm_fast, {"sigma_min": 0.05, "sigma_max": 12.0, "n": 8}),
        (kd.sample_dpm_adaptive, {"sigma_min": 0.05, "sigma_max": 12.0}),
        (unipc, {"timesteps": TIMESTEPS}),
    ],
)
def test_a_sampler_that_chooses_its_steps_cannot_leave_some_out(sampler, arguments, field):
    with pytest.raises(SettingsError, match=f"{field} = 2 .*chooses its noise levels itself: "):
        schedule(sampler, arguments, Settings(**{field: 2}))


def test_what_such_a_sampler_allows_is_said():
    for sampler, arguments, least in (
        (kd.sample_dpm_fast, {"sigma_min": 0.05, "sigma_max": 12.0, "n": 8}, 8),
        (kd.sample_dpm_adaptive, {"sigma_min": 0.05, "sigma_max": 12.0}, 10000),
        (unipc, {"timesteps": TIMESTEPS}, 8),
    ):
        begin = f"Allowed with {sampler.__name__}, which chooses its noise levels itself: "
        for field, value, allowed in (("start_at_step", 1, "0."), ("end_at_step", least - 1, f"at least {least}.")):
            with pytest.raises(SettingsError) as error:
                schedule(sampler, arguments, Settings(**{field: value}))
            assert (error.value.name, error.value.value, error.value.allowed) == (field, value, begin + allowed)
        schedule(sampler, arguments, Settings(end_at_step=least))


def ddim(model, x, timesteps):
    raise AssertionError


def test_the_schedule_of_a_timestep_sampler():
    """Rising timesteps, of which the first is where the last step goes to: half of four steps are left."""
    timesteps = torch.tensor([1, 201, 401, 601, 801])
    plan = schedule(ddim, {"timesteps": timesteps, "x": 1}, Settings(denoise=0.5))
    assert (plan.arguments["timesteps"].tolist(), plan.arguments["x"]) == ([1, 201, 401], 1)
    assert (plan.levels.tolist(), plan.starts, plan.own_levels) == ([401, 201], one_call, False)
    assert timesteps_run(timesteps, Settings(denoise=1.0, start_at_step=1, end_at_step=3)).tolist() == [1, 401, 601]
    assert timesteps_run(timesteps[:2], Settings()).tolist() == [1, 201]


@pytest.mark.parametrize("count", [0, 1])
def test_timesteps_without_a_step_are_refused(count):
    with pytest.raises(SettingsError) as error:
        timesteps_run(TIMESTEPS[:count], Settings())
    assert (error.value.name, error.value.value) == ("steps", 0)
    assert error.value.allowed == "Allowed: more of them or more denoise, so that the sampler runs at least one."


def test_unipc_takes_levels_of_its_own_and_three_timesteps_at_the_least():
    plan = schedule(unipc, {"timesteps": TIMESTEPS[:3]}, TIED)
    assert plan.levels.tolist() == pytest.approx([201, 134, 67])
    assert plan.own_levels
    with pytest.raises(SettingsError) as error:
        schedule(unipc, {"timesteps": TIMESTEPS[:2]}, TIED)
    assert (error.value.name, error.value.value) == ("steps", 2)
    assert error.value.allowed == "Allowed with UniPC: more of them or more denoise, so that it runs 3 or more."


def test_from_a_later_step_on_unipc_keeps_its_levels_to_find_the_weights_by():
    plan = schedule(unipc, {"timesteps": TIMESTEPS}, TIED)
    later = plan.after(5)
    assert later.arguments["timesteps"].tolist() == [1, 101, 201]
    assert torch.equal(later.levels, plan.levels)
    assert (later.starts, later.own_levels) == (plan.starts, True)
    with pytest.raises(SettingsError) as error:
        plan.after(6)
    assert (error.value.name, error.value.value) == ("rewind_max and steps", 8)
    assert error.value.allowed == "Allowed with UniPC: so that 3 steps or more are left at these."


def test_a_timestep_sampler_may_begin_with_its_last_step():
    plan = schedule(ddim, {"timesteps": TIMESTEPS}, TIED).after(6)
    assert (plan.arguments["timesteps"].tolist(), plan.levels.tolist(), plan.starts) == ([1, 101], [101], one_call)


@pytest.mark.parametrize(
    ("calls", "first", "left", "starts"),
    [(9, 1, 6, [0, 3, 5]), (9, 2, 3, [0, 2]), (9, 3, 1, [0]), (8, 1, 5, [0, 3]), (7, 2, 1, [0])],
)
def test_a_block_later_dpm_fast_has_three_calls_less(calls, first, left, starts):
    plan = schedule(kd.sample_dpm_fast, {"sigma_min": 0.05, "sigma_max": 12.0, "n": calls}, TIED)
    later = plan.after(first)
    assert later.arguments == {"sigma_min": 0.05, "sigma_max": plan.levels[first].item(), "n": left}
    assert torch.equal(later.levels, plan.levels[first:])
    assert [call for call in range(left) if later.starts(call, len(starts)) is not None] == starts
    assert not later.own_levels


def test_dpm_adaptive_begins_lower():
    plan = schedule(kd.sample_dpm_adaptive, {"sigma_min": 0.05, "sigma_max": 12.0}, TIED)
    later = plan.after(50)
    assert later.arguments == {"sigma_min": 0.05, "sigma_max": plan.levels[50].item()}
    assert torch.equal(later.levels, plan.levels)
    assert (later.starts, later.own_levels) == (plan.starts, True)


def test_a_start_after_the_last_step_is_refused():
    assert steps_range(Settings(start_at_step=3), 8) == (7, 8)
    with pytest.raises(SettingsError) as error:
        steps_range(Settings(start_at_step=4), 8)
    assert (error.value.name, error.value.value) == ("start_at_step", 4)
    assert error.value.allowed == "Allowed: less than the 4 steps that denoise leaves."


@pytest.mark.parametrize(
    ("steps", "sampler", "exact", "asked"),
    [(8, "Euler", False, 14), (8, "DDIM", False, 18), (8, "Euler", True, 8), (8, "PLMS", True, 10), (0, "", False, 20)],
)
def test_the_steps_that_a_webui_is_asked_for(steps, sampler, exact, asked):
    """Of `asked` steps of img2img it runs 1 + half of them at a denoise of 0.5, and DDIM two less."""
    assert steps_asked(Settings(steps=steps), 20, sampler, exact) == asked
    if not exact:
        assert steps_asked(Settings(steps=steps), 20, sampler) == asked


def test_denoise_leaves_out_the_noisy_part_of_dpm_fast_too():
    calls, _ = run(kd.sample_dpm_fast, TIED.replace(denoise=0.5))
    assert len(calls) == STEPS // 2
    assert calls[0][1] == pytest.approx(float(SIGMAS[STEPS // 2]))


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("sample_euler", [2, 3, 4]),
        ("sample_heun", [3, 5, 7]),
        ("sample_heunpp2", [3, 6, 9]),
        ("plms", [3, 4, 5]),
        ("sample_mystery", [2, 3, 4]),
        ("restart_sampler", [None] * 3),
        ("sample_dpm_adaptive", [None] * 3),
        ("unipc", [None] * 3),
    ],
)
def test_model_calls_of_so_many_steps(name, calls):
    assert [model_calls(name, steps) for steps in (2, 3, 4)] == calls


@pytest.mark.parametrize(
    ("settings", "steps", "sampler", "exact", "run"),
    [
        ({"denoise": 0.7}, 20, "DPM++ 2M", False, 15),
        ({}, 20, "DDIM", False, 9),
        ({}, 20, "DPM++ 2M", True, 20),
        ({}, 20, "PLMS", True, 18),
        ({}, 3, "Euler", False, 2),
        ({}, 1, "Euler", False, 1),
        ({"denoise": 1.0}, 20, "Euler", False, 20),
        ({"denoise": 1.0}, 20, "", True, 20),
        ({"denoise": 0.05}, 20, "Euler", False, 2),
        ({"start_at_step": 2, "end_at_step": 9}, 20, "Euler", False, 7),
        ({"end_at_step": 12}, 10, "Euler", False, 6),
    ],
)
def test_the_steps_that_a_webui_runs(settings, steps, sampler, exact, run):
    """tests/webui/test_img2img.py counts them in real ones."""
    assert steps_by_host(Settings(**settings), steps, sampler, exact) == run


def test_a_start_after_the_steps_that_a_webui_runs_is_refused():
    with pytest.raises(SettingsError, match=r"start_at_step = 15 .*less than the 11 steps that denoise leaves"):
        steps_by_host(Settings(start_at_step=15), 20)
