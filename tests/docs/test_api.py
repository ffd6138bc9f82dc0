"""The example of docs/api.md that needs no WebUI; the others run in tests/webui/test_examples.py."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"


class Denoiser(torch.nn.Module):
    def forward(self, x, sigma, **_):
        return x / (1 + sigma.view(-1, 1, 1, 1) ** 2)


def test_the_python_entry():
    sampling = pytest.importorskip("k_diffusion.sampling")
    (block,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", (DOCS / "api.md").read_text(encoding="utf-8"), re.DOTALL)
        if "import itermix" in block
    )
    names = {
        "sample_dpmpp_2m": sampling.sample_dpmpp_2m,
        "denoiser": Denoiser(),
        "enlarged_latent": torch.zeros(1, 4, 16, 16),
        "sigmas": sampling.get_sigmas_karras(5, 0.03, 14.6),
    }
    exec(block, names)
    assert names["larger"].shape == (1, 4, 16, 16)
    for call, expected in re.findall(r"^(itermix\.plan.*?)  # (.*)$", block, re.MULTILINE):
        assert eval(call, names) == eval(expected)
