import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from itermix import Settings, SettingsError, weights
from itermix.mixing.curves import COMFY_STEPS, CURVE_NAMES, along, in_whole_steps, progress_of
from itermix.steps.parametrisation import flow, ve, vp

settings_of_curves = st.fixed_dictionaries(
    {
        "curve": st.sampled_from(CURVE_NAMES),
        "alpha": st.floats(0.05, 10),
        "start": st.floats(0, 0.9),
        "stop": st.floats(0.91, 4),
        "clamp": st.floats(0, 1),
        "lowest": st.floats(0, 0.5),
        "highest": st.floats(0.5, 1),
    }
)


def test_cosine_values_of_the_paper():
    """The table of DemoFusion's weight: alpha 1, 2.4 and 3 at u = 0, .1, .25, .5, .75, .9."""
    expected = {
        1.0: [1, 0.976, 0.854, 0.500, 0.146, 0.024],
        2.4: [1, 0.942, 0.684, 0.189, 0.010, 0.000],
        3.0: [1, 0.928, 0.622, 0.125, 0.003, 0.000],
    }
    for alpha, row in expected.items():
        got = weights(Settings(alpha=alpha), 20)[[0, 2, 5, 10, 15, 18]]
        torch.testing.assert_close(got, torch.tensor(row), atol=6e-4, rtol=0)


def test_comfy_cosine_values_of_the_node():
    expected = {
        1.0: [1, 0.976, 0.854, 0.500, 0.146, 0.024],
        2.4: [1, 1.0, 0.990, 0.811, 0.316, 0.058],
        3.0: [1, 1.0, 0.997, 0.875, 0.378, 0.072],
    }
    for alpha, row in expected.items():
        got = weights(Settings(curve="comfy-cosine", alpha=alpha), 20)[[0, 2, 5, 10, 15, 18]]
        torch.testing.assert_close(got, torch.tensor(row), atol=6e-4, rtol=0)


def test_linear_and_logistic_closed_forms():
    torch.testing.assert_close(weights(Settings(curve="linear"), 4), torch.tensor([1.0, 0.75, 0.5, 0.25]))
    got = weights(Settings(curve="logistic", alpha=2.0, start=0.2, stop=0.8), 10)
    expected = [1, 1] + [1 / (1 + math.exp(10 * (i / 10 - 0.5))) for i in range(2, 8)] + [0, 0]
    torch.testing.assert_close(got, torch.tensor(expected))


def test_the_two_cosines_move_in_opposite_directions():
    for step in range(1, 19):
        paper = [weights(Settings(alpha=a), 20)[step] for a in (0.5, 1, 2, 4)]
        node = [weights(Settings(curve="comfy-cosine", alpha=a), 20)[step] for a in (0.5, 1, 2, 4)]
        assert paper == sorted(paper, reverse=True)
        assert node == sorted(node)


@given(settings_of_curves, st.integers(1, 200))
def test_every_curve_falls_within_its_bounds(values, steps):
    settings = Settings(**values)
    w = weights(settings, steps)
    assert w.dtype == torch.float32
    assert w.shape == (steps,)
    assert torch.isfinite(w).all()
    assert (w.diff() <= 1e-6).all()
    assert w.min() >= settings.lowest - 1e-6
    assert w.max() <= settings.highest + 1e-6


@given(settings_of_curves, st.integers(1, 200))
def test_in_whole_steps_every_curve_falls_too_or_rises_if_its_ends_are_turned(values, steps):
    settings = Settings(**values, progress="comfy-steps")
    turned = settings.replace(lowest=settings.highest, highest=settings.lowest)
    for w, falls in ((weights(settings, steps), 1), (weights(turned, steps), -1)):
        assert torch.isfinite(w).all()
        assert (falls * w.diff() <= 1e-6).all()
        assert settings.lowest - 1e-6 <= w.min() <= w.max() <= settings.highest + 1e-6


def test_in_whole_steps_the_papers_cosine_lies_between_start_and_stop():
    """Which are steps 2 and 6 of 9."""
    w = weights(Settings(progress="comfy-steps", alpha=1.0, start=0.3, stop=0.7), 9)
    expected = [1, 1] + [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(5)] + [0, 0]
    torch.testing.assert_close(w, torch.tensor(expected))


@given(settings_of_curves, st.integers(2, 100))
def test_clamp_cuts_without_changing_what_comes_before(values, steps):
    clamped = weights(Settings(**values), steps)
    free = weights(Settings(**{**values, "clamp": 1.0}), steps)
    cut = torch.arange(steps, dtype=torch.float64) / steps >= values["clamp"]
    assert (clamped[cut] == torch.tensor(values["lowest"], dtype=torch.float32)).all()
    assert (clamped[~cut] == free[~cut]).all()


@pytest.mark.parametrize("curve", [c for c in CURVE_NAMES if c != "logistic"])
def test_start_and_stop_squeeze_the_curve_between_them(curve):
    whole = weights(Settings(curve=curve, alpha=1.7), 10)
    squeezed = weights(Settings(curve=curve, alpha=1.7, start=0.25, stop=0.75), 20)
    assert (squeezed[:5] == 1).all()
    torch.testing.assert_close(squeezed[5:15], whole)
    assert (squeezed[15:] == 0).all()


@pytest.mark.parametrize("curve", [c for c in CURVE_NAMES if c != "logistic"])
def test_stop_above_one_stretches(curve):
    stretched = weights(Settings(curve=curve, stop=2.0), 10)
    torch.testing.assert_close(stretched, weights(Settings(curve=curve), 20)[:10])
    assert stretched[-1] > 0.1


def test_lowest_and_highest_are_the_ends_of_the_range():
    w = weights(Settings(lowest=0.25, highest=0.75, stop=0.9), 10)
    assert w[0] == 0.75
    assert w[9] == 0.25


def test_progress_in_noise_level_follows_the_timestep_as_in_the_paper():
    alphas = torch.linspace(0.9999, 0.005, 1000)
    timesteps = torch.tensor([951, 701, 451, 201])
    settings = Settings(progress="noise level", alpha=3.0)
    expected = [((1 + math.cos(math.pi * (1 - t / 1000))) / 2) ** 3 for t in (951, 701, 451, 201)]
    torch.testing.assert_close(weights(settings, 4, vp(alphas).progress(timesteps)), torch.tensor(expected))

    sigmas = ((1 - alphas) / alphas).sqrt()
    torch.testing.assert_close(weights(settings, 4, ve(sigmas).progress(sigmas[timesteps])), torch.tensor(expected))

    u = flow().progress(torch.tensor([1.0, 0.75, 0.5, 0.25]))
    torch.testing.assert_close(weights(settings, 4, u), weights(settings.replace(progress="steps"), 4))


def test_noise_levels_that_are_not_known_are_an_error():
    with pytest.raises(SettingsError) as error:
        weights(Settings(progress="noise level"), 10)
    assert (error.value.name, error.value.value) == ("progress", "noise level")
    assert error.value.allowed == "Allowed here: steps, since the noise levels aren't known."


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_is_an_error(steps):
    with pytest.raises(SettingsError) as error:
        weights(Settings(), steps)
    assert (error.value.name, error.value.value) == ("steps", steps)
    assert error.value.allowed == "Allowed: a whole number from 1."


def test_one_step_has_full_weight():
    assert weights(Settings(), 1).tolist() == [1.0]


def in_steps(curve, steps=10, **settings):
    return in_whole_steps(Settings(progress=COMFY_STEPS, curve=curve, **settings), steps).tolist()


def test_in_whole_steps_the_nodes_cosine_ends_at_the_stop_and_knows_no_start():
    """With alpha 1/2 it is 1 - sin(pi u / 2); the stop is step 5, or 1 at the least."""
    expected = [1 - math.sin(math.pi * min(i / 5, 1) / 2) for i in range(10)]
    assert in_steps("comfy-cosine", alpha=0.5, start=0.2, stop=0.55) == pytest.approx(expected)
    assert in_steps("comfy-cosine", alpha=0.5, stop=0.05) == pytest.approx([1] + [0] * 9)
    assert in_steps("cosine", alpha=0.5, start=0.2, stop=0.2) == pytest.approx([1] * 3 + [0] * 7)


def test_in_whole_steps_the_line_is_that_from_the_first_step_to_the_stop():
    """From step 2 to step 8; a stop below one step is none."""
    assert in_steps("linear", start=0.2, stop=0.8) == pytest.approx([1, 1, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0, 0])
    assert in_steps("linear", stop=0.05) == pytest.approx([1 - i / 10 for i in range(10)])


def test_in_whole_steps_the_switch_lies_in_the_middle_of_start_and_stop():
    def switch(x):
        return 1 / (1 + math.exp(x))

    expected = [1, 1] + [switch(5 * 0.5 * (i - 5) / 9) for i in range(2, 9)] + [0]
    assert in_steps("logistic", alpha=0.5, start=0.2, stop=0.8) == pytest.approx(expected)
    assert in_steps("logistic", 2, alpha=0.5) == pytest.approx([switch(-5 * 0.5), switch(0)])


@pytest.mark.parametrize("curve", CURVE_NAMES)
def test_in_whole_steps_the_clamp_is_a_step_too(curve):
    free = in_steps(curve)
    assert in_steps(curve, clamp=0.55) == [*free[:5], 0, 0, 0, 0, 0]
    assert min(free[:6]) > 0


def test_the_progress_in_steps_is_the_share_that_is_done_and_the_clamp_is_reached_by_it():
    progress = progress_of(Settings(), 4)
    assert progress.tolist() == [0, 0.25, 0.5, 0.75]
    assert along(Settings(curve="linear", clamp=0.5), progress).tolist() == [1, 0.75, 0, 0]


@pytest.mark.parametrize("curve", CURVE_NAMES)
def test_weights_are_computed_in_double_precision(curve):
    settings = Settings(curve=curve)
    assert progress_of(settings, 4).dtype == torch.float64
    assert along(settings, progress_of(settings, 4)).dtype == torch.float64
    assert in_whole_steps(settings, 4).dtype == torch.float64
