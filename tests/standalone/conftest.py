"""Stand-ins for the trained model, for tests in which it doesn't matter what a picture shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from itermix.standalone.network import SIGMA_DATA, Denoiser, Guided
from itermix.standalone.upscaling import Model


class Shrinking(nn.Module):
    """The best denoiser for pixels that are independent of each other, of EDM's standard deviation and mean 0."""

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        return x * (SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2))[:, None, None, None]


@pytest.fixture
def model() -> Model:
    return Model(Guided(Shrinking()), steps=4)  # type: ignore[arg-type]  # called like a Denoiser


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the weights of a fresh denoiser."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file({name: tensor.half() for name, tensor in Denoiser().state_dict().items()}, path)
    return path
