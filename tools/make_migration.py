"""Write docs/migration.md from the tests that hold its rows: python tools/make_migration.py"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests" / "parity"), str(ROOT / "tests" / "core" / "picture")]

from parity import held_by, modules  # noqa: E402  # the tests' own

PAGE = ROOT / "docs" / "migration.md"
HEAD = """# Coming from something else

Where a row says *the same*, the numbers are those of the original's formulas, and where they are not, it says by how
much. Each row is held by a test of `tests/parity`, a loop of our own from the formulas of the papers and of the
originals' code; `python tools/make_migration.py` makes this page from them.
"""


def section(module: ModuleType) -> str:
    rows = [test.row for test in held_by(module)]
    cells = [module.HEADS, ["---"] * 3, *((row.theirs, row.ours, row.note) for row in rows)]
    return module.SECTION + "\n" + "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def page() -> str:
    return "\n".join([HEAD, *map(section, modules())])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
