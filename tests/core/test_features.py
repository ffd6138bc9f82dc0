"""A feature is one file and one line in a list: one is put in, and another taken out, in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIST = Path("itermix/settings/__init__.py")

EXAMPLE = '''
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from itermix.mixing.run import Feature
from itermix.parameters import Part, parameter


@dataclass(frozen=True, init=False)
class ExampleSettings(Part):
    """What the example does."""

    example: float = parameter(
        0.0, "An example", "Adds this to each of the model's outputs. 0: off.", "example", "Example", low=0.0, high=1.0
    )

    def feature(self, given: Mapping[str, Any]) -> Feature | None:
        return Example(self.example) if self.example else None


class Example(Feature):
    def __init__(self, example: float):
        self._example = example

    def estimate(self, x: Tensor, level: Tensor, output: Tensor, step: int | None) -> Tensor:
        return output + self._example
'''

RUN = """
import torch, k_diffusion.sampling as kd
from itermix import Settings, sample
def run(**values):
    return sample(kd.sample_euler, lambda x, sigma: 0 * x, torch.zeros(1, 4, 8, 8), torch.tensor([2.0, 1.0, 0.0]),
                  Settings(denoise=1.0, lowest=0.0, highest=0.0, **values), disable=True)
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of what the agreement of all surfaces is told from."""
    for name in ("itermix", "scripts", "tools", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "docs").mkdir()
    return tmp_path


def edited(file, *replaced):
    text = file.read_text(encoding="utf-8")
    for before, after in replaced:
        assert text.count(before) == 1
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")


def python(folder, *args):
    env = os.environ | {"PYTHONPATH": str(folder)}  # before this project, if it is installed
    done = subprocess.run([sys.executable, *args], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passed(folder, *files):
    """Runs these tests of the copy; how many have passed."""
    said = python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    return int(re.search(r"(\d+) passed", said)[1])


def test_a_feature_that_is_put_in_is_in_every_surface_and_takes_part(copy):
    (copy / "itermix" / "model" / "example.py").write_text(EXAMPLE, encoding="utf-8")
    edited(
        copy / LIST,
        (
            "from itermix.model.inversion import",
            "from itermix.model.example import ExampleSettings\nfrom itermix.model.inversion import",
        ),
        ("    AnalysisSettings,\n", "    ExampleSettings,\n    AnalysisSettings,\n"),
    )
    edited(copy / "tests/core/test_registry.py", ('"skip_tolerance": 0.3}', '"skip_tolerance": 0.3, "example": 0.4}'))
    python(copy, "tools/make_parameters.py")
    assert "| `example` | An example | 0.0 |" in (copy / "docs/parameters.md").read_text(encoding="utf-8")
    shown = "from itermix.settings.infotext import written; print(written(Settings(example=0.5)))"
    assert "'Itermix example': 0.5" in python(copy, "-c", f"from itermix import Settings; {shown}")
    assert "--example" in python(copy, "-m", "itermix", "upscale", "--help")
    assert (
        passed(copy, "tests/core/test_registry.py", "tests/core/test_layers.py", "tests/core/settings/test_schema.py")
        > 50
    )
    assert python(copy, "-c", RUN + "print(float((run(example=0.25) - run()).mean()))").strip() == "0.25"


def test_a_feature_goes_with_its_file_and_its_line(copy):
    (copy / "itermix/mixing/perlin.py").unlink()
    edited(
        copy / LIST,
        ("from itermix.mixing.perlin import PerlinSettings\n", ""),
        ("    PerlinSettings,\n", ""),
    )
    python(copy, "tools/make_parameters.py")
    assert "perlin" not in (copy / "docs/parameters.md").read_text(encoding="utf-8")
    assert "perlin" not in python(copy, "-m", "itermix", "upscale", "--help")
    others = ["test_registry.py", "test_layers.py", "settings/test_schema.py", "settings/test_presets.py"]
    others += ["mixing/test_rewinding.py"]
    assert passed(copy, *(f"tests/core/{name}" for name in others)) > 200
    refused = python(
        copy, "-c", "import itermix\ntry: itermix.Settings(perlin=0.5)\nexcept itermix.SettingsError as e: print(e)"
    )
    assert "perlin = 0.5 is not possible" in refused
