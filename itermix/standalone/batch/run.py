"""``itermix batch``: the pictures of a folder or a list through one or many WebUIs."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from tqdm import tqdm

from itermix.parameters import SettingsError
from itermix.settings import UpscaleSettings
from itermix.standalone import server as webui
from itermix.standalone.batch.journal import NAME, Journal, JournalError
from itermix.standalone.batch.plan import Picture, PlanError, found, looked_at, model_calls_of
from itermix.standalone.batch.scheduler import NoServer, Policy, Scheduler, Server
from itermix.standalone.batch.workers import RayActors, Threads, Workers
from itermix.standalone.client import AddressError, Answer, address, place, without_login
from itermix.standalone.files import OF_THE_DRIVE, check_place, shown
from itermix.standalone.images import PictureError

ALL_DONE, SOME_NOT_DONE = 0, 1
"""Exit codes."""

NAMED = 3
"""Files that an error names at most."""


class Batch:
    """The pictures of one run and what becomes of them; the scheduler tells it.

    Attributes:
        settings, given: what is asked for, and the request fields among it.
        pictures: {target: picture} of those that can be read.
        failures: {target: why there will be no result}.
        todo: targets that are to be made.
        done: targets that this run made.
    """

    def __init__(self, files: Mapping[PurePath, Path], settings: UpscaleSettings, given: Mapping[str, Any]):
        self.settings = settings
        self.given = given
        self.pictures: dict[PurePath, Picture] = {}
        self.failures: dict[PurePath, str] = {}
        self.todo: list[PurePath] = []
        self.done: set[PurePath] = set()
        self._problems: dict[PurePath, str] = {}  # of those that are to be tried again
        self._files = files
        self._journal: Journal
        self._bar: tqdm
        for target, file in tqdm(files.items(), desc="looking", unit=" pictures", leave=False, delay=2, file=TERMINAL):
            try:
                self.pictures[target] = looked_at(file, target, given)
            except PictureError as error:
                self.failures[target] = str(error)

    def choose(self, out: Path, made: Mapping[PurePath, str], replace: bool) -> None:
        """Find out what is to be made, where these results (`Journal.made`) are in the folder `out`.

        Raises:
            PlanError: a file is in the way.
        """
        others: list[PurePath] = []
        strange: list[PurePath] = []
        folded: list[PurePath] = []
        results = {_same(out / target) for target in made}
        for target, picture in self.pictures.items():
            if target not in made and (there := _same(out / target)):
                (folded if there in results else strange).append(target)
            elif target not in made or (made[target] != picture.key(self.settings) and replace):
                self.todo.append(target)
            elif made[target] != picture.key(self.settings):
                others.append(target)
        for target in folded:
            del self.pictures[target]
            self.failures[target] = (
                f"{shown(out / target)} is the result of another picture: this drive takes names for one that differ "
                "in capitals or accents"
            )
        if strange:
            raise PlanError(
                f"{_named(strange)} in {out} was not made by a batch: choose another folder for the results."
            )
        if others:
            raise PlanError(
                f"{_named(others)} in {out} was made from another picture or with other settings. "
                "Choose another folder, or replace such results with --replace."
            )

    def make(self, journal: Journal, servers: Sequence[Server], workers: Workers, policy: Policy) -> bool:
        """Make what is to be made; returns whether Ctrl-C ended it.

        Raises:
            NoServer: none can be used, at first or for too long.
        """
        self._journal = journal
        self._enter()
        scheduler = Scheduler(servers, workers, policy, self, webui.questions(self.settings, self.given))
        with (
            tqdm(total=len(self.todo), unit=" pictures", smoothing=0.05, file=TERMINAL) as self._bar,
            self._stopped_by_ctrl_c(scheduler),
        ):
            try:
                scheduler.run(self.pictures[target] for target in self.todo)
            except KeyboardInterrupt:
                return True
        return scheduler.stopping

    def request(self, picture: Picture) -> bytes:
        body = picture.request(self.settings)
        with _failing_one_picture():
            self._journal.check_free(picture.target)
            check_place(self._journal.out / picture.target)
        return body

    def accept(self, picture: Picture, answer: Answer, server: Server, seconds: float) -> None:
        size = self.settings.target(*picture.size)
        data = webui.result(server.url, answer, size)
        webui.check_finished(data, size)
        with _failing_one_picture():
            self._journal.done(picture.target, picture.key(self.settings), data, server.name, seconds)
        self.done.add(picture.target)
        self._bar.update()

    def failed(self, picture: Picture, reason: str, for_good: bool) -> None:
        self._journal.failed(picture.target, reason, for_good)
        self._problems[picture.target] = reason
        if for_good:
            self.failures[picture.target] = reason
            self.say(f"{picture.target}: {reason}")
            self._bar.update()

    def say(self, sentence: str) -> None:
        tqdm.write(shown(sentence), file=TERMINAL)

    def left(self) -> dict[PurePath, str]:
        """{target: what went wrong the last time, if anything} of what was neither made nor failed for good."""
        ended = self.done | self.failures.keys()
        return {target: self._problems.get(target, "") for target in self.todo if target not in ended}

    def _enter(self) -> None:
        targets = [*self.todo, *self.failures]
        self._journal.wait((target, self._files[target]) for target in targets)
        for target, reason in self.failures.items():
            self._journal.failed(target, reason, for_good=True)

    @contextmanager
    def _stopped_by_ctrl_c(self, scheduler: Scheduler) -> Iterator[None]:
        def stop(*_: Any) -> None:
            if scheduler.stopping:
                raise KeyboardInterrupt
            scheduler.stopping = True
            self.say("The pictures at work are finished first; Ctrl-C again ends at once.")

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class _StandardError:
    """Standard error, which may be gone in the middle of a night's batch: its pictures are made all the same."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


TERMINAL = _StandardError()


@contextmanager
def _failing_one_picture() -> Iterator[None]:
    """What hinders one file fails its picture; what would hinder every other, too, ends the batch."""
    try:
        yield
    except JournalError:
        raise
    except OSError as error:
        if error.errno in OF_THE_DRIVE:
            raise
        raise PictureError(f"{shown(error.filename)} can't be written: {error.strerror}") from error


def _same(path: Path) -> tuple[int, int] | None:
    """What is the same for all names of one file; None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@dataclass(frozen=True)
class Order:
    """What a batch is to make.

    Attributes:
        source: a folder, or a list of paths.
        out: folder of the results and the journal.
        settings, given: what is asked for, and request fields that go before those of the pictures' infotexts.
        replace: whether results that were made otherwise are made anew.
    """

    source: Path
    out: Path
    settings: UpscaleSettings
    given: Mapping[str, Any]
    replace: bool = False


def run(
    order: Order, servers: Sequence[str], policy: Policy, *, ray_address: str | None = None, dry_run: bool = False
) -> int:
    """The whole command; prints the summary, or the plan, and returns the exit code.

    Args:
        servers: addresses of WebUIs, each once.
        ray_address: of a Ray cluster; without it several servers start Ray on this machine, and one needs none.
        dry_run: whether to print what would be done, and write nothing.

    Raises:
        PlanError, SettingsError: something can't be done as asked.
        OSError: a folder, the journal or a result can't be read or written, or no server can be used.
        KeyboardInterrupt: Ctrl-C ended it, after the summary.
    """
    servers = _checked(servers)
    out = order.out
    files = found(order.source, out)
    if not files.pictures:
        raise PlanError(f"There is no picture in {order.source}{_left_out(files.left_out, ', but ')}.")
    batch = Batch(files.pictures, order.settings, order.given)
    if files.left_out:
        print(f"Left out, since their names aren't those of pictures{_left_out(files.left_out)}.")
    if dry_run:
        made = {}
        if (out / NAME).exists():
            with closing(Journal(out)) as journal:
                made = journal.made()
        batch.choose(out, made, order.replace)
        return _print_plan(batch)
    out.mkdir(parents=True, exist_ok=True)
    with closing(Journal(out)) as journal:
        batch.choose(out, journal.made(), order.replace)
        fleet = [Server(url) for url in servers]
        interrupted = False
        if batch.todo:
            with closing(_workers(servers, ray_address)) as workers:
                try:
                    interrupted = batch.make(journal, fleet, workers, policy)
                except NoServer as error:
                    if not batch.done:
                        raise
                    TERMINAL.write(f"{shown(f'itermix: {error}')}\n")
    _print_summary(batch, fleet)
    if interrupted:
        raise KeyboardInterrupt
    return SOME_NOT_DONE if batch.failures or batch.left() else ALL_DONE


def _workers(servers: Sequence[str], ray_address: str | None) -> Workers:
    if len(servers) == 1 and ray_address is None:
        return Threads()
    try:
        return RayActors(servers, ray_address)
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        what = "Several servers need" if ray_address is None else "--ray-address needs"
        raise PlanError(f'{what} Ray. Install it with: pip install "sd-webui-itermix[batch]"') from error


def _checked(servers: Sequence[str]) -> list[str]:
    """The addresses as they are used. Raises PlanError for what is none, or for one server in two spellings."""
    try:
        addresses = [address(server) for server in servers]
    except AddressError as error:
        raise PlanError(str(error)) from error
    places: dict[tuple[str, int, str], str] = {}
    for one in addresses:
        if other := places.get(place(one)):
            spelled = "" if one == other else f", also as {without_login(other)}"
            raise PlanError(f"--server {without_login(one)} is given twice{spelled}.")
        places[place(one)] = one
    return addresses


def _left_out(counts: Counter[str], before: str = ": ") -> str:
    """How many files of each ending, the most first, in an order that no file system decides."""
    most = sorted(counts.items(), key=lambda pair: (-pair[1], not pair[0], pair[0]))[:NAMED]
    shares = ", ".join(f"{count} of {shown(suffix) or 'no ending'}" for suffix, count in most)
    more = f" and {sum(counts.values())} in all" if len(counts) > NAMED else ""
    return f"{before}{shares}{more}" if counts else ""


def _named(targets: Sequence[PurePath]) -> str:
    more = f" and {len(targets) - NAMED} more" if len(targets) > NAMED else ""
    return ", ".join(map(str, targets[:NAMED])) + more


def _print_plan(batch: Batch) -> int:
    total, unknown = 0, 0
    most = "at most " if batch.settings.skip_tolerance else ""  # the WebUI's schedule decides what is left out
    for target in batch.todo:
        try:
            picture = batch.pictures[target]
            phases, calls = model_calls_of(picture, batch.settings)
            total += calls or 0
            unknown += calls is None
            number = "model calls as the sampler decides" if calls is None else f"{most}{calls} model calls"
            print(f"{shown(target)}: {phases}: {number}; {'; '.join((picture.prompt, *map(shown, picture.notes)))}")
        except SettingsError as error:
            batch.failures[target] = str(error).removeprefix("Iterative Mixing: ")
    more = f" and those of {unknown} that aren't known" if unknown else ""
    _print_counts(batch, f"{len(batch.left())} to make with {most}{total} model calls{more}")
    return SOME_NOT_DONE if batch.failures else ALL_DONE


def _print_summary(batch: Batch, servers: Sequence[Server]) -> None:
    for server in servers:
        rate = f" at {60 * server.pictures / server.seconds:.3g} a minute" if server.pictures else ""
        errors = f", failed attempts: {server.errors}" if server.errors else ""
        problem = f"; {server.problem}" if server.problem else ""
        refused = "".join(f"; refused {number} that others made: {why}" for why, number in server.refused.items())
        problem = "" if server.problem in server.refused else problem
        print(shown(f"{server.name}: pictures: {server.pictures}{rate}{errors}{problem}{refused}"))
    for target in batch.todo:
        if target in batch.done and (notes := batch.pictures[target].notes):
            print(shown(f"{target}: {'; '.join(notes)}"))
    for target, problem in batch.left().items():
        print(shown(f"{target} is left{f': {problem}' if problem else ''}"))
    _print_counts(batch, f"{len(batch.done)} done, {len(batch.left())} left")


def _print_counts(batch: Batch, counts: str) -> None:
    for target, reason in batch.failures.items():
        print(shown(f"{target} failed: {reason}"))
    before = len(batch.pictures) - len(batch.todo)
    print(f"{counts}, {len(batch.failures)} failed, {before} done before.")
