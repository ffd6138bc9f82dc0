"""What the tests of `itermix batch` share: a folder of pictures, the command, and what it leaves."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

from fake_webui import FakeWebUI
from PIL import Image

from itermix.standalone import images
from itermix.standalone.batch.journal import NAME
from itermix.standalone.cli import main


def infotext(name: str, seed: int = 5) -> str:
    return f"{name}\nNegative prompt: blurred\nSteps: 2, Sampler: Euler, CFG scale: 2.0, Seed: {seed}, Size: 16x16"


def write(folder: Path, *names: str) -> Path:
    """A folder of pictures of noise, each with its name for a prompt."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.Random(number).randbytes(16 * 16 * 3)
        how = infotext(name.encode(errors="replace").decode(), seed=number)
        path.write_bytes(images.png(Image.frombytes("RGB", (16, 16), pixels), how))
    return folder


def batch(source: Path, out: Path, *servers: FakeWebUI | str, flags: str = "") -> int:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return main(["batch", str(source), str(out), *(word for url in urls for word in ("--server", url)), *flags.split()])


def results(out: Path) -> dict[str, Image.Image]:
    """{path in the folder: picture}; the journal is the only other file."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != NAME]
    return {path.relative_to(out).as_posix(): images.opened(path.read_bytes(), path) for path in files}


def journal(out: Path, columns: str = "target, state") -> list[tuple]:
    with closing(sqlite3.connect(out / NAME)) as db:
        return db.execute(f"SELECT {columns} FROM pictures ORDER BY target").fetchall()
