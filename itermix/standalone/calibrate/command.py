"""``itermix calibrate`` at work: its bar, its end, and what it prints."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from itermix.standalone import files
from itermix.standalone.batch.plan import PlanError
from itermix.standalone.calibrate import report, session, sources
from itermix.standalone.calibrate.run import Wanted
from itermix.standalone.calibrate.state import OtherCalibration, so_far
from itermix.standalone.client import AddressError, address
from itermix.standalone.options import UsageError, request_of


def run(options: argparse.Namespace) -> int:
    """The whole command; returns the exit code.

    Raises:
        UsageError: options that can't be used.
        OSError: the WebUI can't be used, or a file can't be read or written.
        KeyboardInterrupt: Ctrl-C ended it, after what there is was written.
    """
    if options.choose and not options.keep:
        raise UsageError("--choose needs --keep NAME.")
    try:
        server = address(options.server)
    except AddressError as error:
        raise UsageError(str(error)) from error
    steps = {"steps": options.steps} if options.steps else {}
    given = checked({**request_of(options), **steps}, options)
    wanted_pictures = pictures_of(options)
    facts = session.facts_of(server, given)
    if options.size:
        facts = dataclasses.replace(facts, side=check_side(options.size))
    prompts = () if wanted_pictures else sources.prompts(options.prompts or sources.SHIPPED)
    wanted = Wanted(server, options.scale, 60.0 * options.budget, given, prompts, wanted_pictures, facts.side)
    spent, measured = so_far(options.out)
    ends = datetime.datetime.now() + datetime.timedelta(seconds=max(0.0, wanted.seconds - spent))
    print(
        f"{files.shown(facts.checkpoint or '')} [{facts.hash}]: {wanted.available} sources at most, {options.scale}x."
    )
    if measured:
        print(f"It goes on: {spent / 60:.1f} minutes are spent, and {measured} pictures are measured already.")
    print(f"It ends at about {ends:%H:%M}. Ctrl-C stops it, and the same command goes on.")
    try:
        with bar() as terminal, stopped_by_ctrl_c(terminal) as stopping:
            told = session.run(wanted, facts, options.out, terminal, stopping, options.with_prompts)
            interrupted = stopping()
    except OtherCalibration as error:
        raise UsageError(str(error)) from error
    print_result(told, options.out, interrupted)
    if interrupted:
        if options.keep:
            print("Nothing was kept.")
        raise KeyboardInterrupt
    if not options.keep and told["best"] is not None:
        print(
            "The same command with --keep NAME saves the best as a preset, which Automatic takes with this checkpoint."
        )
    if options.keep:
        try:
            print(files.shown(session.keep(server, told, options.choose, options.keep)))
        except LookupError as error:
            raise UsageError(f"--choose {options.choose} is not possible. {error.args[0]}") from error
    return 0


def pictures_of(options: argparse.Namespace) -> list[Path]:
    """The user's pictures; none if there are to be prompts. Raises UsageError."""
    if options.pictures is None:
        return []
    if options.prompts is not None:
        raise UsageError("--pictures and --prompts can't be used together.")
    try:
        return sources.own(options.pictures, options.out)
    except PlanError as error:
        raise UsageError(str(error)) from error


def checked(given: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The request fields, if all of what is made is the same in the next run. Raises UsageError."""
    if given.get("seed", 0) < 0:
        raise UsageError(f"--picture-seed {given['seed']} is not possible. Allowed: a seed from 0, to be found again.")
    if "prompt" in given and options.pictures is None:
        raise UsageError("--prompt needs --pictures; what a checkpoint makes is in the file of --prompts.")
    return given


def check_side(side: int) -> int:
    if side % 8 or not sources.LEAST <= side <= 2048:
        raise UsageError(f"--size {side} is not possible. Allowed: a multiple of 8 from {sources.LEAST} to 2048.")
    return side


class Terminal:
    """A bar on standard error."""

    def __init__(self, bar: tqdm):
        self._bar = bar

    def planned(self, requests: int, seconds: float) -> None:
        self._bar.total = self._bar.n + requests
        self._bar.refresh()
        ends = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
        self.said(f"{requests} pictures until about {ends:%H:%M}.")

    def made(self, what: str) -> None:
        self._bar.set_postfix_str(what, refresh=False)
        self._bar.update()

    def said(self, sentence: str) -> None:
        tqdm.write(files.shown(sentence), file=sys.stderr)


@contextmanager
def bar() -> Iterator[Terminal]:
    with tqdm(unit=" pictures", smoothing=0.1, file=sys.stderr) as made:
        yield Terminal(made)


@contextmanager
def stopped_by_ctrl_c(terminal: Terminal) -> Iterator[Any]:
    """Gives a function that tells whether to stop; a second Ctrl-C ends at once."""
    pressed = False

    def stop(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        terminal.said("What is at work is finished first; Ctrl-C again ends at once.")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def print_result(told: dict[str, Any], out: Path, interrupted: bool) -> None:
    """The table, short enough for a terminal, and where the rest is."""
    for row in told["rows"]:
        shown = " ".join(f"{label} {row[name]:.{digits}f}" for name, label, digits in TOLD if row.get(name) is not None)
        print(files.shown(f"{row['name']} ({row['n']}): {shown}"))
    print(files.shown(report.best(told).replace("**", "")))
    if not told["complete"]:
        print(
            "Stopped before its end; the same command goes on."
            if interrupted
            else "The time was over before all was tried; more --budget goes on."
        )
    names = ("sheet.html", "sheet.png", "report.md", "report.json")
    print(*(files.shown(out / name) for name in names if (out / name).exists()), sep="\n")


TOLD = (
    ("score", "score", 1),
    ("fidelity", "fidelity", 1),
    ("detail_16", "detail", 2),
    ("spurious", "spurious", 2),
    ("calls", "calls", 0),
    ("seconds", "seconds", 1),
)
