"""Where a pass with a model of flow matching begins."""

import k_diffusion.sampling as kd
import pytest
import torch

from itermix.steps.levels import SD_SIGMAS, begun_at, flow_level, noise_of
from itermix.steps.parametrisation import flow


def simple(shift):
    """steps -> a schedule of flow that is even in time, with a shift."""

    def sigmas(steps):
        t = torch.linspace(1, 0, steps + 1)
        return shift * t / (1 + (shift - 1) * t)

    return sigmas


def karras(steps):
    return kd.get_sigmas_karras(steps, 3e-4, 1.0)


def one_more(steps):
    """As Forge Neo's DDIM, which gives a step more than it is asked for."""
    return simple(3.0)(steps + 1)


def repeats(steps):
    """As Forge Neo's Beta, which leaves out levels that it has had."""
    return torch.unique((simple(1.0)(steps) * 300).round()).flip(0) / 300


SCHEDULES = {
    "shift 1": simple(1.0),
    "shift 3": simple(3.0),
    "shift 12": simple(12.0),
    "karras": karras,
    "one more": one_more,
    "repeats": repeats,
}


def test_what_denoise_means_is_stable_diffusions_level_at_that_share_of_karras_schedule():
    many = kd.get_sigmas_karras(10_001, float(SD_SIGMAS[0]), float(SD_SIGMAS[-1]))
    for denoise in (0.05, 0.4, 0.5, 0.7, 1.0):
        assert noise_of(denoise) == pytest.approx(float(many[round((1 - denoise) * 10_000)]), rel=1e-5)
    assert [round(noise_of(denoise), 2) for denoise in (0.4, 0.5, 0.7)] == [0.69, 1.27, 3.75]


@pytest.mark.parametrize("noise", [0.01, 1.0, 14.6])
def test_the_level_has_that_much_noise_over_its_signal(noise):
    signal, amount = flow().amounts(torch.tensor(flow_level(noise), dtype=torch.float64))
    assert float(amount / signal) == pytest.approx(noise)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("run", [1, 2, 8, 30])
@pytest.mark.parametrize("denoise", [0.05, 0.3, 0.5, 0.9, 0.99])
def test_every_schedule_begins_there_and_falls_to_0(name, run, denoise):
    level = flow_level(noise_of(denoise))
    for whole in (run, 2 * run, 20 * run):
        found = begun_at(SCHEDULES[name], level, run, whole)
        assert found.shape == (whole + 1,)
        left = found[-(run + 1) :]
        assert float(left[0]) == pytest.approx(level, rel=1e-5)
        assert (left.diff() < 0).all()
        assert left[-1] == 0
        assert (found[: -(run + 1)] >= left[0]).all()


@pytest.mark.parametrize("steps", [10, 40])
def test_a_schedule_that_begins_there_by_itself_stays_as_it_is(steps):
    own = simple(3.0)(steps)
    assert torch.allclose(begun_at(simple(3.0), float(own[-9]), 8, steps), own)


def test_its_steps_are_those_of_the_scheduler():
    """Even in time before the shift, but for what 31 steps fall short of the level."""
    found = begun_at(simple(3.0), flow_level(noise_of(0.5)), 8, 8)
    time = found / (3.0 - 2.0 * found)
    assert torch.allclose(time.diff(), time.diff().mean().expand(8), rtol=0.02)
