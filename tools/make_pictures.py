"""Make the pictures of the docs that need no WebUI: python tools/make_pictures.py"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from itermix.standalone.cli import main

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
CURVES = ("preset=DemoFusion paper", "preset=ComfyUI node", "curve=linear", "curve=logistic alpha=2")


def curves() -> None:
    """The weights of the default and of others, and what is mixed in."""
    others = [flag for text in CURVES for flag in ("--mixing", text)]
    main(["plot", "--out", str(PICTURES / "curves.png"), *others])


def demo() -> None:
    """The README's sheet, as `make demo` makes it."""
    with tempfile.TemporaryDirectory() as folder:
        main(["demo", "--out", folder])
        shutil.copy(Path(folder) / "contact-sheet.png", PICTURES / "demo.png")


if __name__ == "__main__":
    curves()
    demo()
