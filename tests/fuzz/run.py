"""Fuzz everything that takes input from others, with new cases each time.

    python tests/fuzz/run.py                      # 10,000 cases
    python tests/fuzz/run.py --cases 500
    python tests/fuzz/run.py --seed 7             # the same cases again

Those of the routes run in pages of both gradios, whose environments `make` makes first where they aren't there yet.
Every case has to end in a result or in a readable error, within the memory that MEMORY allows to the whole process.
What fails is printed in its smallest form, with the seed; what the slowest case took is printed, too.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEMORY = 3 * 2**30
"""Bytes of data of the process, with torch loaded."""

ENVIRONMENTS = (".venv/installed", ".venv-gradio3/installed", ".venv-gradio4/installed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="of all targets together (default 10000)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    os.chdir(ROOT)
    subprocess.run(["make", "--silent", *ENVIRONMENTS], check=True)
    os.environ["ITERMIX_FUZZ_CASES"] = str(options.cases)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    print(f"seed {options.seed}")
    tests = ["tests/fuzz", "tests/ui/test_fuzz.py"]
    return pytest.main([*tests, "-q", f"--hypothesis-seed={options.seed}", f"--rootdir={ROOT}"])


if __name__ == "__main__":
    sys.exit(main())
