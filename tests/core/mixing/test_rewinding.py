"""Rewinding against loops that run the passes one after the other."""

import itertools

import k_diffusion.sampling as kd
import pytest
import torch
from test_mixer import ALPHAS, SAMPLERS, SETTINGS, SIGMAS, STEPS, Denoiser, noised_sequence, run, source

from itermix import NoisedLatents, Settings, SettingsError, weights
from itermix.mixing.noising import first_draw
from itermix.mixing.rewinding import RewindSettings
from itermix.mixing.run import Run
from itermix.sampling import Pass
from itermix.steps.parametrisation import vp
from itermix.steps.samplers import one_call
from itermix.steps.schedule import Schedule, schedule

REWOUND = SETTINGS.replace(rewind=True)
BEGINS = [0, 3, 4]  # of 6 steps at 0.5 and 0.8


@pytest.mark.parametrize(
    ("steps", "least", "most", "expected"),
    [
        (100, 0.5, 0.8, [0, 50, 75]),
        (20, 0.5, 0.8, [0, 10, 15]),
        (6, 0.5, 0.8, [0, 3, 4]),
        (10, 0.5, 1.0, [0, 5, 7, 8, 9]),
        (10, 0.2, 0.4, [0, 2, 3, 4]),
        (10, 0.6, 0.5, [0]),
        (10, 0.05, 0.95, [0]),
        (1, 0.95, 1.0, [0]),
    ],
)
def test_the_passes_begin_where_the_node_s_do(steps, least, most, expected):
    settings = Settings(rewind=True, rewind_min=least, rewind_max=most)
    assert settings.begins(steps) == expected
    assert settings.replace(rewind=False).begins(steps) == [0]


def test_every_pass_has_draws_of_its_own():
    """However many steps and passes there can be, and beside those of the clean-up."""
    most = len(Settings(rewind=True, rewind_min=0.05, rewind_max=1.0).begins(10000))
    draws = [first_draw(number) for number in range(most)]
    assert draws[0] == 0
    assert draws[1] > 1_000_000
    assert min(b - a for a, b in itertools.pairwise(draws)) >= 10000


@pytest.mark.parametrize("noise", ["shared", "independent", "cumulative"])
def test_euler_agrees_with_a_hand_written_loop(noise):
    settings = REWOUND.replace(noise=noise)
    model, w, z0 = Denoiser(), weights(settings, STEPS).tolist(), source()
    for number, begin in enumerate(BEGINS):
        noised = NoisedLatents(z0, kind=noise, seeds=[3, 4], first_draw=first_draw(number))
        z = [noised.at(k, sigma).clone() for k, sigma in enumerate(SIGMAS[begin:-1])]
        x = z[0].clone()
        for k, step in enumerate(range(begin, STEPS)):
            x = w[step] * z[k] + (1 - w[step]) * x
            x = x + (x - model(x, SIGMAS[step].expand(2))) / SIGMAS[step] * (SIGMAS[step + 1] - SIGMAS[step])
        z0 = x
    torch.testing.assert_close(run(kd.sample_euler, settings), x, atol=1e-5, rtol=1e-5)
    if noise == "shared":
        first = noised_sequence(source(), settings)[3]
        again = NoisedLatents(source(), seeds=[3, 4], first_draw=first_draw(1)).at(0, SIGMAS[3])
        assert (first - again).abs().max() > 0.1  # fresh noise


def test_without_a_later_pass_it_is_the_same_to_the_bit():
    plain = run(kd.sample_dpmpp_2m)
    assert torch.equal(run(kd.sample_dpmpp_2m, REWOUND.replace(rewind_max=0.05)), plain)
    assert not torch.equal(run(kd.sample_dpmpp_2m, REWOUND), plain)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_runs_the_passes(name):
    denoiser = Denoiser()
    result = run(SAMPLERS[name], REWOUND, denoiser)
    assert bool(torch.isfinite(result).all())
    levels = [float(sigma[0]) for _, sigma in denoiser.calls]
    for begin in BEGINS:
        assert levels.count(pytest.approx(float(SIGMAS[begin]), rel=1e-4)) >= BEGINS.index(begin) + 1
    assert len(levels) >= sum(STEPS - begin for begin in BEGINS)
    assert torch.equal(run(SAMPLERS[name], REWOUND), result)


def rewinds(sampler, settings=REWOUND, denoiser=None, **arguments):
    """What is told when a pass begins: [(calls, steps done, calls made until then)], and the levels of all calls."""
    denoiser = denoiser or Denoiser()
    told = []
    function = Pass(
        sampler,
        source(),
        [3, 4],
        settings,
        vp(ALPHAS) if "timesteps" in arguments else VE,
        given={"rewound": lambda step, calls, done: told.append((calls, done, len(denoiser.calls)))},
    ).function()
    function(denoiser, None, **arguments)
    return told, [float(level[0]) for _, level in denoiser.calls]


VE = NoisedLatents(source()).parametrisation


@pytest.mark.parametrize(
    ("name", "calls"), [("sample_euler", [3, 4]), ("sample_heun", [6, 8]), ("sample_dpmpp_sde", [6, 8])]
)
def test_a_pass_tells_where_the_first_one_was(name, calls):
    told, levels = rewinds(getattr(kd, name), sigmas=SIGMAS)
    assert [each[0] for each in told] == calls
    assert [each[1] for each in told] == [6 - 3, 6 + 3 - 4]
    for count, _, made in told:
        assert levels[made] == levels[count]


def unknown(model, x, sigmas, extra_args=None, callback=None):
    return kd.sample_heun(model, x, sigmas, extra_args=extra_args, callback=callback, disable=True)


def test_a_sampler_that_nobody_knows_too():
    told, levels = rewinds(unknown, sigmas=SIGMAS)
    assert [count for count, *_ in told] == [6, 8]
    assert all(levels[made] == levels[count] for count, _, made in told)


def test_dpm_fast_and_dpm_adaptive():
    ends = {"sigma_min": 0.05, "sigma_max": 12.0}
    told, levels = rewinds(kd.sample_dpm_fast, n=18, **ends)  # 7 blocks, passes begin at 3 and 5
    assert [count for count, *_ in told] == [9, 15]
    assert [levels[made] for _, _, made in told] == pytest.approx([levels[count] for count, *_ in told], rel=1e-4)
    told, levels = rewinds(kd.sample_dpm_fast, n=12, **ends)  # the last of 5 blocks is a single call
    assert [count for count, *_ in told] == [6, 9, 11]
    assert len(levels) == 12 + 6 + 3 + 1
    told, levels = rewinds(kd.sample_dpm_adaptive, **ends)
    assert [levels[made] for _, _, made in told] == pytest.approx(
        [float(schedule(kd.sample_dpm_adaptive, ends, REWOUND).levels[k]) for k in (50, 75)], rel=1e-4
    )


def ddim(model, x, timesteps, extra_args=None, callback=None):
    for i, k in enumerate(range(len(timesteps) - 1, 0, -1)):
        t, a, a_next = timesteps[k], ALPHAS[timesteps[k]], ALPHAS[timesteps[k - 1]]
        e = model(x, t * x.new_ones(len(x)))
        callback({"i": i, "x": x})
        x = a_next.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + (1 - a_next).sqrt() * e
    return x


def test_timestep_samplers():
    timesteps = torch.tensor([1, 101, 301, 501, 701, 801, 951])
    told, levels = rewinds(ddim, timesteps=timesteps)
    assert [count for count, *_ in told] == [3, 4]
    assert levels == [951, 801, 701, 501, 301, 101, 501, 301, 101, 301, 101]


def unipc(model, x, timesteps, extra_args=None, callback=None):
    raise AssertionError("is not to be run")


def test_what_unipc_can_not_run_is_refused_before_it_begins():
    with pytest.raises(SettingsError, match="3 steps or more are left"):
        rewinds(unipc, timesteps=torch.tensor([1, 201, 401, 601]))


def test_a_stop_between_the_passes_leaves_no_hook():
    denoiser = Denoiser()

    def stop(step, calls, runs):
        raise KeyboardInterrupt

    function = Pass(kd.sample_euler, source(), [3, 4], REWOUND, VE, given={"rewound": stop}).function()
    with pytest.raises(KeyboardInterrupt):
        function(denoiser, None, sigmas=SIGMAS)
    assert len(denoiser.calls) == STEPS
    assert not denoiser._forward_pre_hooks
    assert not denoiser._forward_hooks


@pytest.mark.parametrize("sampler", [kd.sample_euler, kd.sample_heun, unknown])
def test_the_callback_counts_the_steps_of_the_whole_schedule(sampler):
    told = []
    run(sampler, REWOUND, callback=lambda info: told.append((info["i"], float(info["sigma"]))))
    expected = [step for begin in BEGINS for step in range(begin, STEPS)]
    assert [i for i, _ in told] == expected
    assert [sigma for _, sigma in told] == pytest.approx([float(SIGMAS[step]) for step in expected])


def test_inverted_noise_is_not_rewound():
    with pytest.raises(SettingsError, match=r"rewind = True is not possible\. Allowed with inverted noise: false"):
        Settings(rewind=True, noise="inverted")


def test_who_asks_is_told_where_the_first_pass_was():
    told = []
    RewindSettings(rewind=True).feature({"rewound": lambda *args: told.append(args)}).next_pass(3, 4, 5)
    RewindSettings(rewind=True).feature({}).next_pass(3, 4, 5)
    assert told == [(3, 4, 5)]
    assert RewindSettings().feature({"rewound": told.append}) is None


def test_a_pass_has_the_weights_and_the_progress_of_its_levels():
    """All of them, to find its own between them, where the sampler chooses its levels."""
    sigmas, w, progress = torch.tensor([3.0, 2.0, 1.0, 0.0]), torch.tensor([1.0, 0.6, 0.2]), torch.tensor([0, 0.3, 0.7])
    for own, left in ((False, slice(2, None)), (True, slice(None))):
        plan = Schedule({"sigmas": sigmas}, sigmas[:-1], one_call, own)
        part = Run(kd.sample_euler, plan, w, SETTINGS, VE, progress).after(2)
        assert torch.equal(part.plan.arguments["sigmas"], sigmas[2:])
        assert torch.equal(part.plan.levels, sigmas[:-1][left])
        assert torch.equal(part.weights, w[left])
        assert torch.equal(part.progress, progress[left])
        assert Run(kd.sample_euler, plan, w, SETTINGS, VE).after(2).progress is None
