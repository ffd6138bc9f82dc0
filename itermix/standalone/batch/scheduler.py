"""Which server gets which picture when: retries, servers that fail, and the end.

A server makes one picture at a time. One that fails rests, twice as long after each failure in a row, and then has to
say that it can upscale before it gets another picture; so does every server before its first. The picture goes to the
end of the queue, for whichever server is free.
"""

from __future__ import annotations

import concurrent.futures
import random
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from itermix.standalone import server as webui
from itermix.standalone.batch.workers import Workers
from itermix.standalone.client import NO_ANSWER, Answer, without_login
from itermix.standalone.images import PictureError
from itermix.standalone.server import ServerError

PROBE_SECONDS = 30
"""Time for the answer whether a server can upscale."""

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
        problem: what went wrong since its last picture; empty if nothing.
        failures: how many times in a row it did.
        usable: whether it has said that it can upscale, and not failed since.
        ever_usable: whether it ever has.
        rests_until: time (`time.monotonic`) before which nothing is sent to it.
        out: whether the user was told that it fails.
    """

    url: str
    pictures: int = 0
    seconds: float = 0.0
    errors: int = 0
    problem: str = ""
    failures: int = 0
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
        """Keep the picture in an answer. A ServerError means that there is none."""

    def failed(self, picture: Any, reason: str, for_good: bool) -> None:
        """Hear that an attempt failed, and whether there will be another."""

    def say(self, sentence: str) -> None:
        """Tell the user of a server."""


@dataclass
class _Sent:
    """What a server is at work on; no picture: whether it can upscale."""

    server: Server
    since: float
    picture: Any = None
    attempt: int = 0


class Scheduler:
    """Makes the pictures of a batch on servers. The random numbers of the rests are its own.

    Attributes:
        stopping: may be set by a signal handler: what is at work is finished, and nothing else begun.
    """

    def __init__(self, servers: Iterable[Server], workers: Workers, policy: Policy, batch: Batch):
        self.servers = list(servers)
        self.stopping = False
        self._workers, self._policy, self._batch = workers, policy, batch
        self._random = random.Random()
        self._sent: dict[Future[Answer], _Sent] = {}
        self._queue: deque[tuple[Any, int]] = deque()

    def run(self, pictures: Iterable[Any]) -> None:
        """Return when all pictures are done or failed, or what was at work when it was told to stop.

        Raises:
            NoServer: none can upscale, at first or for too long.
        """
        self._queue = deque((picture, 1) for picture in pictures)
        last_at_work = time.monotonic()
        while (self._queue and not self.stopping) or self._at_work():
            self._send()
            if self._sent:
                concurrent.futures.wait(self._sent, TICK, concurrent.futures.FIRST_COMPLETED)
            else:
                time.sleep(TICK)
            for future in [future for future in self._sent if future.done()]:
                self._received(self._sent.pop(future), future)
            if self._at_work():
                last_at_work = time.monotonic()
            elif self._queue:
                self._check_hope(time.monotonic() - last_at_work)

    def _at_work(self) -> bool:
        return any(sent.attempt for sent in self._sent.values())

    def _send(self) -> None:
        busy = {sent.server.url for sent in self._sent.values()}
        now = time.monotonic()
        for server in self.servers:
            if server.url in busy or now < server.rests_until or self.stopping:
                continue
            if not server.usable:
                future = self._workers.send(server.url, webui.SCRIPTS, None, PROBE_SECONDS)
                self._sent[future] = _Sent(server, now)
            elif self._queue:
                picture, attempt = self._queue.popleft()
                try:
                    body = self._batch.request(picture)
                except PictureError as error:
                    self._batch.failed(picture, str(error), for_good=True)
                    continue
                future = self._workers.send(server.url, webui.IMG2IMG, body, self._policy.timeout)
                self._sent[future] = _Sent(server, time.monotonic(), picture, attempt)

    def _received(self, sent: _Sent, future: Future[Answer]) -> None:
        server = sent.server
        seconds = time.monotonic() - sent.since
        try:
            answer = future.result()
        except Exception as error:  # of Ray: its actor is gone
            answer = NO_ANSWER, str(error).encode()
        if not sent.attempt:
            try:
                webui.check_script(server.url, answer)
            except ServerError as error:
                self._rest(server, str(error), out=True)
            else:
                server.usable = server.ever_usable = True
            return
        try:
            self._batch.accept(sent.picture, answer, server, seconds)
        except ServerError as error:
            if error.final:
                self._batch.failed(sent.picture, str(error), for_good=True)
            else:
                self._retry(sent, str(error))
            return
        server.pictures += 1
        server.seconds += seconds
        server.failures, server.problem = 0, ""
        if server.out:
            server.out = False
            self._batch.say(f"{server.name} is back.")

    def _retry(self, sent: _Sent, reason: str) -> None:
        sent.server.errors += 1
        for_good = sent.attempt >= self._policy.attempts
        self._batch.failed(sent.picture, f"{reason} ({sent.attempt} attempts)" if for_good else reason, for_good)
        if not for_good:
            self._queue.append((sent.picture, sent.attempt + 1))
        self._rest(sent.server, reason)

    def _rest(self, server: Server, problem: str, out: bool = False) -> None:
        server.problem = problem
        server.failures += 1
        server.usable = False
        rest = min(self._policy.rest * 2 ** (server.failures - 1), self._policy.longest_rest)
        server.rests_until = time.monotonic() + rest * self._random.uniform(0.5, 1.5)
        if not server.out and (out or server.failures >= FAILURES_TO_BE_OUT):
            server.out = True
            self._batch.say(f"{server.name} is taken out, and tried again now and then: {problem}")

    def _check_hope(self, idle: float) -> None:
        """Raises NoServer if it is of no use to wait any longer."""
        problems = "\n".join(server.problem for server in self.servers)
        if all(server.problem and not server.ever_usable for server in self.servers):
            raise NoServer(problems)
        if idle > self._policy.give_up:
            raise NoServer(f"No server was usable for {idle:.0f} seconds:\n{problems}")
