"""Stand-ins for the trained model, for tests in which it doesn't matter what a picture shows, and for WebUIs."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from fake_webui import FakeWebUI, enlarged
from safetensors.torch import save_file
from torch import Tensor, nn

from itermix.standalone.batch import scheduler
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


@pytest.fixture
def short_rests(monkeypatch):
    """Servers that fail rest for milliseconds, so that the tests need no seconds."""
    monkeypatch.setattr(scheduler, "Policy", functools.partial(scheduler.Policy, rest=0.01, longest_rest=0.1))
    monkeypatch.setattr(scheduler, "TICK", 0.01)


@pytest.fixture
def fakes():
    """start(n, reply) -> n running servers."""
    running = []

    def start(count=1, reply=enlarged):
        started = [FakeWebUI(reply).start() for _ in range(count)]
        running.extend(started)
        return started

    yield start
    for fake in running:
        fake.stop()
