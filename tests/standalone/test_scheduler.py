"""Which server gets which picture when, with servers that answer at once and a clock that only the scheduler moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from itermix.standalone import server as webui
from itermix.standalone.batch import scheduler
from itermix.standalone.batch.scheduler import NoServer, Policy, Scheduler, Server
from itermix.standalone.client import Answer

SCRIPTS = 200, b'{"img2img": ["iterative mixing upscale"]}'
MADE = 200, b"made"
BUSY = 503, b"{}"


class Clock:
    """In the place of the module `time`: sleeping takes no time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Fleet:
    """Servers by what they answer; workers for the scheduler, and a batch of pictures that are names.

    Attributes:
        sent: (time, server, picture) of every picture that was sent.
        asked: (time, server, path) of every other request.
        made: {picture: its server}.
        lost: {picture: why it failed for good}.
        reasons: (picture, why) of every attempt that failed.
        said: sentences for the user.
    """

    def __init__(self, clock: Clock, **answers: Callable[[str], Answer]):
        self.clock, self.answers = clock, answers
        self.sent: list[tuple[float, str, str]] = []
        self.asked: list[tuple[float, str, str]] = []
        self.made: dict[str, str] = {}
        self.lost: dict[str, str] = {}
        self.reasons: list[tuple[str, str]] = []
        self.said: list[str] = []

    def send(self, server: str, path: str, body: bytes | None, timeout: float) -> Future[Answer]:
        future: Future[Answer] = Future()
        name = server.removeprefix("http://")
        if body is None:
            self.asked.append((self.clock.now, name, path))
            future.set_result(self.answers[name](path))
        else:
            self.sent.append((self.clock.now, name, body.decode()))
            future.set_result(self.answers[name](body.decode()))
        return future

    def close(self) -> None:
        pass

    def request(self, picture: str) -> bytes:
        return picture.encode()

    def accept(self, picture: str, answer: Answer, server: Server, seconds: float) -> None:
        if answer != MADE:
            webui.result(server.url, answer)  # which raises
        assert picture not in self.made
        self.made[picture] = server.name.removeprefix("http://")

    def failed(self, picture: str, reason: str, for_good: bool) -> None:
        self.reasons.append((picture, reason))
        if for_good:
            self.lost[picture] = reason

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def run(self, *pictures: str, **policy: float) -> list[Server]:
        servers = [Server(f"http://{name}") for name in self.answers]
        Scheduler(servers, self, Policy(**policy), self).run(pictures)
        return servers


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    monkeypatch.setattr(scheduler.random, "Random", lambda: SimpleNamespace(uniform=lambda low, high: 1.0))
    return clock


def good(asked: str) -> Answer:
    return SCRIPTS if asked == webui.SCRIPTS else MADE


def busy(asked: str) -> Answer:
    return SCRIPTS if asked == webui.SCRIPTS else BUSY


def test_a_server_that_fails_rests_twice_as_long_each_time(clock):
    fleet = Fleet(clock, a=busy)
    fleet.run("1", attempts=9, rest=1, longest_rest=60)
    times = [time - 1000 for time, *_ in fleet.sent]
    rests = [after - before for before, after in itertools.pairwise(times)]
    assert rests == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60], abs=scheduler.TICK + 1e-6)
    assert all(rest >= least - 1e-6 for rest, least in zip(rests, (1, 2, 4, 8, 16, 32, 60, 60)))
    assert fleet.lost["1"].endswith("refused the request with status 503. (9 attempts)")


def test_it_ends_when_no_server_was_usable_for_too_long(clock):
    def once(asked: str) -> Answer:
        return MADE if asked == "1" else SCRIPTS if not fleet.made else (0, b"gone")

    fleet = Fleet(clock, a=once)
    with pytest.raises(NoServer, match=r"for 6[01]\d seconds:"):
        fleet.run("1", "2")
    assert 1600 < clock.now < 1661
    assert fleet.made == {"1": "a"}
    assert fleet.lost == {}
