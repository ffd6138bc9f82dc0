"""A small night on fake servers: benchmarks/night.py has the large one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the drivers are forks")
def test_nothing_is_lost_and_nothing_made_twice(tmp_path):
    command = [
        sys.executable,
        "benchmarks/night.py",
        "--pictures",
        "200",
        "--kills",
        "3",
        "--out",
        str(tmp_path / "found"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((tmp_path / "found").read_text())
    assert found["states"] == {"done": 194, "failed": 6}
    assert len(found["killed at"]) == 3
