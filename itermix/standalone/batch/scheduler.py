"""Which server gets which picture when: retries, servers that fail, and the end.

A server makes one picture at a time. One that fails rests, twice as long after each failure in a row, and then has to
say that it can upscale before it gets another picture; so does every server before its first. The picture goes to the
end of the queue, for whichever server is free.

A picture that a server refuses is next for the others, and the server rests. If one of them makes it, the server is at
fault and stays where it is; if all refuse it, the picture has failed, and none of them.
"""

from __future__ import annotations

import concurrent.futures
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from itermix.standalone import server as webui
from itermix.standalone.batch.workers import Workers
from itermix.standalone.client import NO_ANSWER, Answer, without_login
from itermix.standalone.images import PictureError
from itermix.standalone.server import Check, ServerError

PROBE_SECONDS = 30
"""Time for each answer whether a server can upscale."""

FAILURES_TO_BE_OUT = 3
"""Failures in a row after which the user is told."""

TICK = 0.2
"""Seconds between looks at the clock and at whether to stop."""


@dataclass(frozen=True)
class Policy:
    """What is done about failures.

    Attributes:
        attempts: how often a picture is tried, on whichever servers, before it counts as failed.
        timeout: seconds to wait for a picture.
        give_up: seconds without a picture at work after which the batch ends.
        rest, longest_rest: seconds that a server rests after a first failure, and at most; times 0.5 to 1.5 by chance.
    """

    attempts: int = 5
    timeout: float = webui.TIMEOUT
    give_up: float = 600
    rest: float = 1
    longest_rest: float = 60


class NoServer(OSError):
    """No server can be used; the message says why not."""


@dataclass
class Server:
    """One server and how it has done.

    Attributes:
        url: its address, perhaps with a login.
        pictures, seconds: how many it made, and how long it took for them.
        errors: attempts that failed.
        refused: {why: how many pictures it refused that another made}.
        problem: what went wrong since its last picture; empty if nothing.
        failures: how many times in a row it did.
        answered: how many of the questions it has answered well since it failed.
        usable: whether these were all.
        ever_usable: whether it ever has.
        rests_until: time (`time.monotonic`) before which nothing is sent to it.
        out: whether the user was told that it fails.
    """

    url: str
    pictures: int = 0
    seconds: float = 0.0
    errors: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    failures: int = 0
    answered: int = 0
    usable: bool = False
    ever_usable: bool = False
    rests_until: float = 0.0
    out: bool = False

    @property
    def name(self) -> str:
        return without_login(self.url)


class Batch(Protocol):
    """What the scheduler works for."""

    def request(self, picture: Any) -> bytes:
        """The JSON body that asks for the picture. A PictureError means that it can't be made."""

    def accept(self, picture: Any, answer: Answer, server: Server, seconds: float) -> None:
        """Keep the picture in an answer. A ServerError means that there is none, a PictureError that it has to go."""

    def failed(self, picture: Any, reason: str, for_good: bool) -> None:
        """Hear that an attempt failed, and whether there will be another."""

    def say(self, sentence: str) -> None:
        """Tell the user of a server."""


@dataclass
class _Job:
    """A picture that is to be made, how often it failed, and which servers refuse it why."""

    picture: Any
    failures: int = 0
    refusals: dict[str, str] = field(default_factory=dict)


@dataclass
class _Sent:
    """What a server is at work on; no job: the next of the questions."""

    server: Server
    since: float
    job: _Job | None = None


class Scheduler:
    """Makes the pictures of a batch on servers. The random numbers of the rests are its own.

    Args:
        questions: {path: check} of what every server is asked before its first picture and after each failure.

    Attributes:
        stopping: may be set by a signal handler: what is at work is finished, and nothing else begun.
    """

    def __init__(
        self,
        servers: Iterable[Server],
        workers: Workers,
        policy: Policy,
        batch: Batch,
        questions: Mapping[str, Check],
    ):
        self.servers = list(servers)
        self.stopping = False
        self._workers, self._policy, self._batch = workers, policy, batch
        self._random = random.Random()
        self._sent: dict[Future[Answer], _Sent] = {}
        self._questions = list(questions.items())
        self._queue: deque[_Job]
        self._refused: list[_Job] = []

    def run(self, pictures: Iterable[Any]) -> None:
        """Return when all pictures are done or failed, or what was at work when it was told to stop.

        Raises:
            NoServer: none can upscale, at first or for too long.
        """
        self._queue = deque(map(_Job, pictures))
        last_at_work = time.monotonic()
        while (self._left() and not self.stopping) or self._at_work():
            self._send()
            if self._sent:
                concurrent.futures.wait(self._sent, TICK, concurrent.futures.FIRST_COMPLETED)
            else:
                time.sleep(TICK)
            for future in [future for future in self._sent if future.done()]:
                self._received(self._sent.pop(future), future)
            self._give_up_what_all_refuse()
            if self._at_work():
                last_at_work = time.monotonic()
            elif self._left():
                self._check_hope(time.monotonic() - last_at_work)

    def _left(self) -> bool:
        return bool(self._queue or self._refused)

    def _at_work(self) -> bool:
        return any(sent.job for sent in self._sent.values())

    def _send(self) -> None:
        busy = {sent.server.url for sent in self._sent.values()}
        now = time.monotonic()
        for server in self.servers:
            if server.url in busy or now < server.rests_until or self.stopping:
                continue
            if not server.usable:
                path, _ = self._questions[server.answered]
                future = self._workers.send(server.url, path, None, PROBE_SECONDS)
                self._sent[future] = _Sent(server, now)
            elif job := self._next_for(server):
                try:
                    body = self._batch.request(job.picture)
                except PictureError as error:
                    self._batch.failed(job.picture, str(error), for_good=True)
                    continue
                future = self._workers.send(server.url, webui.IMG2IMG, body, self._policy.timeout)
                self._sent[future] = _Sent(server, time.monotonic(), job)

    def _next_for(self, server: Server) -> _Job | None:
        """What others have refused comes first: it tells whose fault that was."""
        for number, job in enumerate(self._refused):
            if server.url not in job.refusals:
                return self._refused.pop(number)
        return self._queue.popleft() if self._queue else None

    def _received(self, sent: _Sent, future: Future[Answer]) -> None:
        server = sent.server
        seconds = time.monotonic() - sent.since
        try:
            answer = future.result()
        except Exception as error:  # of Ray: its actor is gone
            answer = NO_ANSWER, str(error).encode()
        if sent.job is None:
            _, check = self._questions[server.answered]
            try:
                check(server.url, answer)
            except ServerError as error:
                self._rest(server, str(error), out=True)
                return
            server.answered += 1
            if server.answered == len(self._questions):
                server.usable = server.ever_usable = True
            return
        try:
            self._batch.accept(sent.job.picture, answer, server, seconds)
        except ServerError as error:
            if error.refused:
                self._refuse(sent.job, server, str(error))
            else:
                self._retry(sent.job, server, str(error))
            return
        except PictureError as error:
            self._batch.failed(sent.job.picture, str(error), for_good=True)
        for url, reason in sent.job.refusals.items():
            self._blame(next(other for other in self.servers if other.url == url), reason)
        server.pictures += 1
        server.seconds += seconds
        server.failures, server.problem = 0, ""
        if server.out:
            server.out = False
            self._batch.say(f"{server.name} is back.")

    def _retry(self, job: _Job, server: Server, reason: str) -> None:
        server.errors += 1
        job.failures += 1
        for_good = job.failures >= self._policy.attempts
        self._batch.failed(job.picture, f"{reason} ({job.failures} attempts)" if for_good else reason, for_good)
        if not for_good and job.refusals:
            self._refused.append(job)
        elif not for_good:
            self._queue.append(job)
        self._rest(server, reason)

    def _refuse(self, job: _Job, server: Server, reason: str) -> None:
        job.refusals[server.url] = reason
        self._refused.append(job)
        if self._may_take(job):
            self._batch.failed(job.picture, reason, for_good=False)
            self._rest(server, reason, ask=False)

    def _may_take(self, job: _Job) -> bool:
        """Whether there is a server that has not refused the picture, and will perhaps be able to take it."""
        return any(server.url not in job.refusals and (server.ever_usable or not server.out) for server in self.servers)

    def _give_up_what_all_refuse(self) -> None:
        for job in [job for job in self._refused if not self._may_take(job)]:
            self._refused.remove(job)
            reasons = set(job.refusals.values())
            named = (f"{without_login(url)}: {reason}" for url, reason in job.refusals.items())
            self._batch.failed(job.picture, reasons.pop() if len(reasons) == 1 else "; ".join(named), for_good=True)
            for server in self.servers:
                if server.problem and server.problem == job.refusals.get(server.url):
                    server.failures, server.problem, server.rests_until = 0, "", 0.0  # it wasn't its fault

    def _blame(self, server: Server, reason: str) -> None:
        """Count that a server refused what another has made."""
        server.refused[reason] = server.refused.get(reason, 0) + 1
        server.errors += 1
        if not server.out:
            server.out = True
            self._batch.say(f"{server.name} stands back, since it refuses what others make: {reason}")

    def _rest(self, server: Server, problem: str, out: bool = False, ask: bool = True) -> None:
        """Let a server rest; unless told otherwise it is asked anew whether it can upscale."""
        server.problem = problem
        server.failures += 1
        if ask:
            server.usable, server.answered = False, 0
        rest = min(self._policy.rest * 2 ** (server.failures - 1), self._policy.longest_rest)
        server.rests_until = time.monotonic() + rest * self._random.uniform(0.5, 1.5)
        if ask and not server.out and (out or server.failures >= FAILURES_TO_BE_OUT):
            server.out = True
            self._batch.say(f"{server.name} is taken out, and tried again now and then: {problem}")

    def _check_hope(self, idle: float) -> None:
        """Raises NoServer if it is of no use to wait any longer."""
        problems = "; ".join(dict.fromkeys(server.problem for server in self.servers if server.problem))
        if all(server.problem and not server.ever_usable for server in self.servers):
            raise NoServer(problems)
        if idle > self._policy.give_up:
            raise NoServer(f"No server was usable for {idle:.0f} seconds: {problems}")
