"""What no sampler could start from is refused by `itermix.sample` with a sentence."""

import pytest
import torch

import itermix
from itermix import Settings, SettingsError

LATENT, SIGMAS = torch.zeros(1, 4, 8, 8), torch.tensor([2.0, 1.0, 0.0])


def refused(latent, sigmas):
    def sampler(*args, **options):
        raise AssertionError("it must not begin")

    with pytest.raises(SettingsError) as error:
        itermix.sample(sampler, torch.nn.Identity(), latent, sigmas, Settings())
    assert "Allowed: " in str(error.value)
    return error.value.name


@pytest.mark.parametrize(
    "sigmas", [[], [1.0], [1.0, 1.0, 0.0], [0.0, 1.0], [2.0, 1.0, -1.0], [torch.nan, 0.0], [torch.inf, 0.0]]
)
def test_schedules(sigmas):
    assert refused(LATENT, torch.tensor(sigmas)) == "sigmas"


@pytest.mark.parametrize(
    "latent",
    [
        LATENT[0],
        LATENT[None, None],
        LATENT[:0],
        LATENT.long(),
        LATENT.bool(),
        torch.full_like(LATENT, torch.nan),
        LATENT + torch.inf,
    ],
    ids=["one picture's", "six dimensions", "none", "whole numbers", "booleans", "NaN", "infinite"],
)
def test_latents(latent):
    assert refused(latent, SIGMAS) == "latent"


def test_a_schedule_in_two_dimensions():
    assert refused(LATENT, SIGMAS[None]) == "sigmas"
