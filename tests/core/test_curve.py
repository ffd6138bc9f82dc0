"""The curve that the chart and the API show is that of the sampling."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from itermix import Settings, SettingsError, weights
from itermix.steps.levels import SD_SIGMAS
from itermix.steps.parametrisation import ve
from itermix.steps.schedule import run_by_host
from itermix.webui.curve import SCHEDULES, curve


def test_the_training_schedule_is_that_of_sd():
    assert [round(float(SD_SIGMAS[k]), 4) for k in (0, -1)] == [0.0292, 14.6146]


def test_schedules_are_those_of_k_diffusion():
    sampling = pytest.importorskip("k_diffusion.sampling")
    ends = float(SD_SIGMAS[0]), float(SD_SIGMAS[-1])
    for name, expected in {
        "Karras": sampling.get_sigmas_karras(20, *ends),
        "Exponential": sampling.get_sigmas_exponential(20, *ends),
        "Polyexponential": sampling.get_sigmas_polyexponential(20, *ends, rho=1.0),
    }.items():
        assert torch.allclose(SCHEDULES[name](20).float(), expected[:-1], rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 20, 1000])
def test_schedules_fall_from_the_noisiest_level(name, steps):
    sigmas = SCHEDULES[name](steps)
    assert len(sigmas) == steps
    assert math.isclose(sigmas[0], SD_SIGMAS[-1], rel_tol=1e-9)
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] >= SD_SIGMAS[0] * (1 - 1e-9)


@pytest.mark.parametrize(
    ("settings", "exact", "run"),
    [
        ({"denoise": 1.0}, False, (20, 0, 20)),
        ({"denoise": 0.7}, False, (20, 5, 20)),
        ({}, False, (20, 9, 20)),
        ({"denoise": 0.5}, True, (40, 20, 40)),
        ({"denoise": 1.0}, True, (20, 0, 20)),
        ({"denoise": 0.7}, True, (28, 8, 28)),
        ({"denoise": 1.0, "start_at_step": 3, "end_at_step": 8}, False, (20, 3, 8)),
        ({"denoise": 0.5, "start_at_step": 3}, False, (20, 12, 20)),
        ({"denoise": 0.5, "end_at_step": 3}, True, (40, 20, 23)),
    ],
)
def test_the_steps_that_are_run(settings, exact, run):
    found = curve(Settings(**settings), 20, exact)
    assert (found["steps"], found["first"], found["last"]) == run
    weighted = [step for step, weight in enumerate(found["weights"]) if weight is not None]
    assert weighted == list(range(*run[1:]))
    assert {len(found[name]) for name in ("weights", "sigmas", "progress")} == {run[0]}


def test_steps_that_are_not_there_cannot_be_run():
    with pytest.raises(SettingsError, match="start_at_step = 12"):
        curve(Settings(start_at_step=12), 10, False)


@given(
    st.sampled_from(["cosine", "linear", "logistic", "comfy-cosine"]),
    st.sampled_from(["steps", "noise level", "comfy-steps"]),
    st.floats(0.05, 10),
    st.floats(0.05, 1),
    st.integers(1, 1000),
    st.booleans(),
)
def test_the_weights_are_those_of_the_run(name, progress, alpha, denoise, steps, exact):
    settings = Settings(curve=name, progress=progress, alpha=alpha, denoise=denoise)
    found = curve(settings, steps, exact, "Exponential")
    whole, skipped = run_by_host(denoise, steps, exact)
    sigmas = SCHEDULES["Exponential"](whole)[skipped:]
    assert found["weights"][skipped:] == weights(settings, len(sigmas), ve(SD_SIGMAS).progress(sigmas)).tolist()
    assert found["scheduler"] == "Exponential"
    assert all(0 <= value <= 1 for value in found["progress"] if value is not None)


def test_an_unknown_scheduler_gives_the_levels_of_karras():
    assert curve(Settings(), 5, False, "Automatic") == curve(Settings(), 5, False, "Karras")


class Operations(TorchDispatchMode):
    """Counts what torch computes."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("progress", ["steps", "noise level", "comfy-steps"])
@pytest.mark.parametrize("scheduler", SCHEDULES)
def test_a_curve_of_20000_steps_takes_as_many_operations_as_one_of_20(scheduler, progress):
    counts = set()
    for steps in (1, 1000):
        with Operations() as operations:
            found = curve(Settings(denoise=0.05, progress=progress), steps, exact=True, scheduler=scheduler)
        assert found["steps"] == 20 * steps
        counts.add(operations.count)
    assert len(counts) == 1
