"""Try the mutants of `make mutants`: mutmut makes them and keeps what came of them, the tests are run here.

    python tools/try_mutants.py                                         # all that have not been tried
    python tools/try_mutants.py "itermix.mixing.*" "itermix.steps.*"    # of these, in this order
    python tools/try_mutants.py --alive "itermix.mixing.*"              # of these also those that have survived

`mutmut run` begins pytest anew for every mutant, which takes longer than the tests where hundreds of them reach it.
Here they are collected once, and a mutant gets a fork. It runs the tests that reach the mutant until one fails: that
which killed the last mutant of the function, then a case of each test, the quickest first, those of the file's own test
file before others, then their further cases.
"""

import argparse
import contextlib
import fnmatch
import gc
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
from mutmut.__main__ import create_file_mutants
from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.file_utils import (
    change_cwd,
    copy_also_copy_files,
    copy_src_dir,
    setup_source_paths,
    walk_mutatable_files,
    walk_source_files,
)
from mutmut.utils.format_utils import mangled_name_from_mutant_name

TESTS = {"itermix.standalone.": "tests/standalone/", "itermix.": "tests/core/"}
"""{beginning of a mutant's name: folder of the tests that are for it, and don't only pass through it}."""

OWN = 4
"""How many times as long as others a test of the file's own test file may take and come before them."""

SURVIVED, KILLED, BROKEN, NO_TESTS, TIMEOUT = 0, 1, 3, 33, 36
"""Mutmut's codes of what came of a mutant."""


class Reach(NamedTuple):
    """What a test takes, in seconds of a processor and of the clock, and the functions that it calls."""

    cpu: float
    wall: float
    functions: frozenset[str]


class Attempt(NamedTuple):
    """A mutant at work in a process of its own, which writes the failed test's place among its tests to `pipe`."""

    data: SourceFileMutationData
    mutant: str
    tests: list[pytest.Item]
    pipe: int
    start: float


class Trial:
    """What a pytest session does in the place of its tests."""

    def __init__(self, patterns: Sequence[str], alive: bool, seconds: float, processes: int):
        self.patterns = patterns
        self.ends_to_try = (None, SURVIVED, NO_TESTS) if alive else (None,)
        self.seconds = seconds
        self.processes = processes
        self.known = Path("reached.jsonl").absolute()
        self.reached: dict[str, Reach] = {}
        self.killers: dict[str, pytest.Item] = {}
        self.running: dict[int, Attempt] = {}
        self.ends: list[int] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests can't be collected")
        self.find_reached(session)
        with change_cwd(".."):
            every = [SourceFileMutationData(path=path) for path in walk_mutatable_files()]
            for data in every:
                data.load()
        gc.freeze()
        for pattern in self.patterns:
            for data in every:
                for mutant, end in data.exit_code_by_key.items():
                    if end in self.ends_to_try and fnmatch.fnmatch(mutant, pattern):
                        self.begin(session, data, mutant)
        while self.running:
            self.reap()
        return True

    def find_reached(self, session: pytest.Session) -> None:
        """Run every test that is new, in a fork, so that nothing of it is kept here."""
        self.known.touch()
        self.load()
        new = [item for item in session.items if item.nodeid not in self.reached]
        print(f"{len(new)} of {len(session.items)} tests are run to see what they reach")
        pid = os.fork()
        if not pid:
            os._exit(self.find_reached_by(session, new))
        if os.waitpid(pid, 0)[1]:
            raise session.Interrupted("not all tests pass")
        self.load()
        set_mutant_under_test("")

    def find_reached_by(self, session: pytest.Session, tests: list[pytest.Item]) -> bool:
        """Write down what each test reaches; returns whether one has failed."""
        set_mutant_under_test("stats")
        wrong = False
        with self.known.open("a", buffering=1) as file:
            for item in tests:
                state()._stats.clear()
                cpu, wall = time.process_time(), time.monotonic()
                if failed(session, item, None):
                    print(f"{item.nodeid} fails without any mutant", file=sys.__stderr__)
                    session.testsfailed, wrong = 0, True
                    continue
                spent = (time.process_time() - cpu, time.monotonic() - wall)
                file.write(json.dumps([item.nodeid, *spent, sorted(state()._stats)]) + "\n")
        return wrong

    def load(self) -> None:
        for line in self.known.read_text(encoding="utf-8").splitlines():
            test, cpu, wall, functions = json.loads(line)
            self.reached[test] = Reach(cpu, wall, frozenset(functions))

    def tests_of(self, session: pytest.Session, mutant: str, path: Path) -> list[pytest.Item]:
        """The tests that a mutant gets, in their order."""
        function = mangled_name_from_mutant_name(mutant)
        folder = folder_of(mutant)
        reaching = [
            item
            for item in session.items
            if item.nodeid.startswith(folder) and function in self.reached[item.nodeid].functions
        ]
        killer = self.killers.get(function)

        def rank(item: pytest.Item) -> tuple[bool, float]:
            own = path.stem in item.path.stem
            return item is not killer, self.reached[item.nodeid].cpu / (OWN if own else 1)

        reaching.sort(key=rank)
        turns: Counter[str] = Counter()  # a case of each test, before another of the same
        in_turn = []
        for item in reaching:
            test = item.nodeid.partition("[")[0]
            in_turn.append((turns[test], item))
            turns[test] += 1
        in_turn.sort(key=lambda pair: pair[0])
        chosen, left = [], self.seconds
        for _, item in in_turn:
            if (left := left - self.reached[item.nodeid].cpu) > 0 or not chosen:
                chosen.append(item)
        return chosen

    def begin(self, session: pytest.Session, data: SourceFileMutationData, mutant: str) -> None:
        tests = self.tests_of(session, mutant, Path(data.path))
        if not tests:
            return self.end(data, mutant, NO_TESTS, 0.0)
        while len(self.running) >= self.processes:
            self.reap()
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                self.run(session, mutant, tests, write)
            finally:
                os._exit(BROKEN)
        os.close(write)
        self.running[pid] = Attempt(data, mutant, tests, read, time.monotonic())
        return None

    def run(self, session: pytest.Session, mutant: str, tests: list[pytest.Item], pipe: int) -> NoReturn:
        """In a fork: end the process as the tests end, or by a signal once one takes much longer than it should."""
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        set_mutant_under_test(mutant)
        for place, item in enumerate(tests):
            reach = self.reached[item.nodeid]
            signal.setitimer(signal.ITIMER_PROF, 2 + 5 * reach.cpu)
            signal.setitimer(signal.ITIMER_REAL, 20 + 5 * reach.wall)
            if failed(session, item, tests[place + 1] if place + 1 < len(tests) else None):
                os.write(pipe, str(place).encode())
                os._exit(KILLED)
        os._exit(SURVIVED)

    def reap(self) -> None:
        """Wait for the end of a mutant."""
        pid, status = os.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what its tests have started
        data, mutant, tests, pipe, start = self.running.pop(pid)
        with os.fdopen(pipe) as file:
            place = file.read()
        code = os.waitstatus_to_exitcode(status)
        if place:
            self.killers[mangled_name_from_mutant_name(mutant)] = tests[int(place)]
        self.end(
            data, mutant, TIMEOUT if code in (-signal.SIGPROF, -signal.SIGALRM) else code, time.monotonic() - start
        )

    def end(self, data: SourceFileMutationData, mutant: str, code: int, seconds: float) -> None:
        data.exit_code_by_key[mutant] = code
        data.durations_by_key[mutant] = seconds
        with change_cwd(".."):
            data.save()
        self.ends.append(code)
        if code not in (KILLED, BROKEN, TIMEOUT):
            print(f"alive: {mutant}", flush=True)
        if len(self.ends) % 50 == 0:
            alive = sum(code not in (KILLED, BROKEN, TIMEOUT) for code in self.ends)
            print(f"{len(self.ends)} tried, {alive} alive: {time.process_time():.0f} s", flush=True)


def failed(session: pytest.Session, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
    return session.testsfailed > 0


def folder_of(mutant: str) -> str:
    """Where the tests are that are for it."""
    return next(folder for begin, folder in TESTS.items() if mutant.startswith(begin))


def folders_of(patterns: Sequence[str]) -> tuple[str, ...]:
    """Where the tests are for all mutants that patterns may mean."""
    begins = [pattern.partition("*")[0] for pattern in patterns]
    further = {folder for known, folder in TESTS.items() for begin in begins if known.startswith(begin)}
    return tuple({folder_of(begin) for begin in begins} | further)


def make(processes: int) -> None:
    """Write the mutants of all functions that have changed since."""
    Path("mutants").mkdir(exist_ok=True)
    copy_src_dir()
    copy_also_copy_files()
    setup_source_paths()
    set_mutant_under_test("mutant_generation")
    with Pool(processes) as pool:
        for result in pool.imap_unordered(create_file_mutants, walk_source_files()):
            if result.error:
                raise result.error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "patterns", nargs="*", default=["itermix.*"], help="Of the mutants' names, which begin with itermix."
    )
    parser.add_argument("--alive", action="store_true", help="Also those that have survived.")
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="Of a processor, for the tests of one mutant, beyond which the slowest are left out (default 2).",
    )
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    make(options.processes)
    folders = folders_of(options.patterns)
    selection = [path for path in config().pytest_add_cli_args_test_selection if f"{path}/".startswith(folders)]
    arguments = config().pytest_add_cli_args
    os.chdir("mutants")
    set_mutant_under_test("")
    quiet = ["--rootdir=.", "--tb=native", "-q", "--capture=sys"]
    trial = Trial(options.patterns, options.alive, options.seconds, options.processes)
    sys.exit(pytest.main([*quiet, *selection, *arguments], plugins=[trial]))
