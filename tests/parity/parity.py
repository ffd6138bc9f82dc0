"""The rows of docs/migration.md. Each belongs to the test that holds it, and the page is made of them."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from itermix.mixing.noising import draw

FOLDER = Path(__file__).parent
CHANNELS = 4


@dataclass(frozen=True)
class Row:
    """A line of the page: a setting there, the one that does the same here, and what is to be said."""

    theirs: str
    ours: str
    note: str


def row(theirs: str, ours: str, note: str = "", **sizes: float) -> Callable[[Callable], Callable]:
    """The test below holds this row. `sizes` are measured differences: the note shows them, as in "{late:.2f}", and the
    test gets them by the fixture of that name, to compare with what it finds."""

    def of(test: Callable) -> Callable:
        test.row = Row(theirs, ours, note.format(**sizes))  # type: ignore[attr-defined]
        test.sizes = sizes  # type: ignore[attr-defined]
        return test

    return of


def modules() -> list[ModuleType]:
    """The files of tests that have rows, in the order of the page's sections."""
    found = []
    for file in sorted(FOLDER.glob("test_*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if hasattr(module, "SECTION"):
            found.append(module)
    return sorted(found, key=lambda module: module.ORDER)


def held_by(module: ModuleType) -> list[Any]:
    """The tests of a file, each with its row."""
    return [value for name, value in vars(module).items() if name.startswith("test_")]


class Model(nn.Module):
    """A denoiser (x, sigma) that is neither linear nor blind to a pixel's neighbours; it keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator, dtype=torch.float64) / 8
        self.states: list[Tensor] = []

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.states.append(x.clone())
        scaled = x / (1 + sigma.view(-1, 1, 1, 1) ** 2).sqrt()
        return torch.tanh(F.conv2d(scaled, self.kernel.to(x), padding=1)) + 0.3 * scaled


def picture(height: int = 8, width: int = 8, batch: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CHANNELS, height, width, generator=generator, dtype=torch.float64)


def noises(z0: Tensor, count: int, seed: int = 0) -> list[Tensor]:
    """What "independent" draws for the first steps."""
    return [draw(torch.empty_like(z0), range(seed, seed + len(z0)), step) for step in range(count)]


def karras(steps: int, low: float = 0.03, high: float = 14.6, rho: float = 7.0) -> Tensor:
    """[steps + 1] (arXiv 2206.00364, eq. 5)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def euler(x: Tensor, denoised: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
    """One step (arXiv 2206.00364, algorithm 1 without its correction)."""
    return x + (x - denoised) / sigma * (following - sigma)


def sample_euler(model, x, sigmas, extra_args=None, callback=None):
    """Known to the mixing by its name."""
    for i, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        denoised = model(x, sigma.expand(len(x)), **(extra_args or {}))
        callback({"i": i, "x": x, "sigma": sigma, "denoised": denoised})
        x = euler(x, denoised, sigma, following)
    return x


def apart(xs: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference of two runs of states, of which there are as many."""
    return max(float((x - other).abs().max()) for x, other in zip(xs, others, strict=True))
