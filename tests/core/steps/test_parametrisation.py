"""How much signal and noise a state has at levels that lie between those of the model."""

import math

import pytest
import torch

from itermix.steps.parametrisation import vp

ALPHAS = torch.tensor([0.81, 0.64, 0.16, 0.04], dtype=torch.float64)


@pytest.mark.parametrize(
    ("level", "alpha"), [(0.0, 0.81), (1.0, 0.64), (1.5, math.sqrt(0.64 * 0.16)), (2.5, 0.08), (3.0, 0.04)]
)
def test_between_two_timesteps_the_signal_is_their_geometric_mean(level, alpha):
    signal, noise = vp(ALPHAS).amounts(torch.tensor(level, dtype=torch.float64))
    assert float(signal) == pytest.approx(math.sqrt(alpha))
    assert float(noise) == pytest.approx(math.sqrt(1 - alpha))


def test_a_level_beyond_the_last_timestep_has_its_amounts():
    signal, _ = vp(ALPHAS).amounts(torch.tensor(3.5, dtype=torch.float64))
    assert float(signal) == pytest.approx(0.2)
