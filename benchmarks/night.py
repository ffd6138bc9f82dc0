"""A night's batch on fake servers: faults of every kind, strange files, and a driver that is killed again and again.

    python benchmarks/night.py                                   # 10,000 pictures, ten kills
    python benchmarks/night.py --pictures 200 --kills 3 --seed 7

Three servers answer in the shape of a WebUI's API, each with faults at random, and the third refuses everything for
stretches. In the end every picture has to be done that any server takes, once; those that none takes or that can't be
read have failed; and the summary adds up. Prints what was found, as JSON with --out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import random
import re
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "standalone")]

from fake_webui import FakeWebUI, Reply, enlarged, picture_answer, source_of  # noqa: E402
from PIL import Image, PngImagePlugin  # noqa: E402

from itermix.standalone import images  # noqa: E402
from itermix.standalone.batch import run as batch  # noqa: E402
from itermix.standalone.batch import scheduler, workers  # noqa: E402
from itermix.standalone.batch.journal import NAME  # noqa: E402
from itermix.standalone.cli import main as itermix  # noqa: E402

FAULTS = 0.1
"""Share of the answers."""

NAMES = ["{}", "{} \u732b", "{}\udce9", "{}\n", "{}" + "x" * 240, "{}'\"", " {}"]
EXIF = [b"garbage!", b"Exif\0\0II*\0", b"Exif\0\0II*\0\xff\xff\xff\x7f"]


def write(folder: Path, count: int, chance: random.Random) -> dict[str, set[str]]:
    """{"good", "refused", "broken": numbers of the pictures}, written with strange names and metadata."""
    kinds: dict[str, set[str]] = {"good": set(), "refused": set(), "broken": set()}
    for number in range(count):
        name = f"{number:05}"
        kind = "refused" if number % 97 == 5 else "broken" if number % 89 == 7 else "good"
        kinds[kind].add(name)
        path = folder / str(number % 13) / (chance.choice(NAMES).format(name) + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("parameters", f"{kind} {name}\nSteps: 2, Sampler: Euler, Seed: {number}")
        exif = {"exif": chance.choice(EXIF)} if number % 5 == 0 else {}
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (number % 256, number // 256, 0)).save(out, "PNG", pnginfo=chunks, **exif)
        path.write_bytes(out.getvalue()[:40] if kind == "broken" else out.getvalue())
    return kinds


def serve(log: Path, seed: int) -> None:
    """Run the servers, and print their addresses; what they made is appended to the log."""
    file = log.open("a", buffering=1)

    def server(number: int) -> FakeWebUI:
        chance = random.Random(seed + number)
        refuses = [0]

        def reply(request: dict[str, Any]) -> Reply:
            kind, name = request["prompt"].split()
            if kind == "refused":
                return 422, {"detail": "Iterative Mixing: this picture is not possible."}
            if number == 2 and not refuses[0] and chance.random() < 0.02:
                refuses[0] = 3
            if refuses[0]:
                refuses[0] -= 1
                return 400, {"detail": "Sampler not found"}
            if chance.random() < FAULTS:
                return fault(request, chance)
            file.write(f"{name}\n")
            return enlarged(request)

        return FakeWebUI(reply)

    fakes = [server(number).start() for number in range(3)]
    print(*(fake.url for fake in fakes), flush=True)
    signal.pause()


def fault(request: dict[str, Any], chance: random.Random) -> Reply:
    """An answer that is no result."""
    source = source_of(request)
    unfinished = 'x\nSteps: 2, Itermix unfinished: "phase 2 of 2: it failed"'
    which: list[Reply | None] = [
        (500, {"error": "OSError", "errors": "out of memory"}),
        (503, b""),
        (429, {"detail": ["a"]}),
        (401, {}),
        (301, b""),
        (200, b""),
        (200, b"<html><title>Login</title>"),
        (200, b"[" * 10**5),
        (200, {"images": [], "info": "{}"}),
        (200, {"images": ["bm8="], "info": json.dumps({"infotexts": ["x"]})}),
        picture_answer(source, "x\nSteps: 2"),  # of the source's size
        picture_answer(source.resize((16, 16)), unfinished),
        None,
    ]
    answer = chance.choice(which)
    if answer is None:
        raise ConnectionError  # and the connection is closed
    return answer


def drive(source: Path, out: Path, urls: list[str], said: Path) -> int:
    """`itermix batch` in a process of its own, with threads in the place of Ray; gives its number."""
    if pid := os.fork():
        return pid
    scheduler.TICK = 0.01
    scheduler.Policy = functools.partial(scheduler.Policy, rest=0.01, longest_rest=0.5)  # type: ignore[misc,assignment]
    batch._workers = lambda servers, address: workers.Threads()  # type: ignore[assignment]
    code = 99
    try:
        with said.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            code = itermix(["batch", str(source), str(out), *(f"--server={url}" for url in urls), "--attempts=200"])
    finally:
        os._exit(code)


def made(out: Path) -> int:
    """How many results there are."""
    return sum(1 for _ in out.rglob("[!.]*.png"))


def memory(pid: int) -> float:
    """MB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def night(folder: Path, count: int, kills: int, seed: int) -> dict[str, Any]:
    """What was found; raises AssertionError if anything was lost, made twice, or doesn't add up."""
    chance = random.Random(seed)
    source, out, log, said = (folder / name for name in ("in", "out", "log.txt", "said.txt"))
    kinds = write(source, count, chance)
    read, write_end = os.pipe()
    servers = os.fork()
    if not servers:
        os.dup2(write_end, 1)
        sys.stdout = os.fdopen(1, "w")
        serve(log, seed)
    with os.fdopen(read) as pipe:
        os.close(write_end)
        urls = pipe.readline().split()
    start, killed_at, grown = time.monotonic(), [], []
    try:
        for kill in range(kills + 1):
            pid = drive(source, out, urls, said)
            begin, at = made(out), count * (kill + 1) // (kills + 1)
            first = last = 0.0
            while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
                time.sleep(0.05 if count < 1000 else 1.0)
                now = made(out)
                with contextlib.suppress(FileNotFoundError, IndexError):
                    held = memory(pid)
                    last = held or last  # a process that has ended holds nothing
                    first = first or (held if now > begin + 20 else 0.0)
                if kill < kills and now >= at:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    killed_at.append(now)
                    break
            if first:
                grown.append(round(last - first, 1))
            if ended != (0, 0):
                code = os.waitstatus_to_exitcode(ended[1])
                if kill == kills:
                    break
    finally:
        os.kill(servers, signal.SIGKILL)
        os.waitpid(servers, 0)
    with contextlib.closing(sqlite3.connect(out / NAME)) as db:
        states = Counter(state for (state,) in db.execute("SELECT state FROM pictures"))
    results = [path for path in out.rglob("*") if path.is_file() and path.name != NAME]
    for path in results:
        with Image.open(path) as image:
            image.load()
            assert image.size == (16, 16), path
            assert images.INFOTEXT in image.info
    again = sum(number - 1 for number in Counter(log.read_text().splitlines()).values())
    summary = said.read_text().splitlines()
    counts = [int(number) for number in re.findall(r"\d+", summary[-1])]
    found = {
        "pictures": count,
        "good, refused, broken": [len(kinds[kind]) for kind in ("good", "refused", "broken")],
        "killed at": killed_at,
        "made for nothing": again,
        "states": dict(states),
        "summary": summary[-1],
        "growth of each driver's memory in MB": grown,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "servers": [
            line.replace(url, f"server {n}") for n, url in enumerate(urls) for line in summary if f"{url}: " in line
        ],
    }
    assert code == 1, found
    assert len(killed_at) == kills, found
    assert states == {"done": len(kinds["good"]), "failed": count - len(kinds["good"])}, found
    assert {path.name.strip()[:5] for path in results} == kinds["good"], found
    assert len(results) == len(kinds["good"]), found
    assert again <= 3 * kills, found  # what was at work when a driver was killed
    assert sum(counts) == count, found
    assert counts[1] == 0, found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file for what is found")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = json.dumps(night(Path(folder), options.pictures, options.kills, options.seed), indent=2)
    print(found)
    if options.out:
        options.out.write_text(found + "\n")


if __name__ == "__main__":
    main()
