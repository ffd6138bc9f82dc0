"""Which server gets which picture when, with servers that answer at once and a clock that only the scheduler moves."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from itermix.standalone import server as webui
from itermix.standalone.batch import scheduler
from itermix.standalone.batch.scheduler import NoServer, Policy, Scheduler, Server
from itermix.standalone.client import Answer
from itermix.standalone.images import PictureError

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

    paths = (webui.SCRIPTS,)
    size = 8, 8

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
            webui.result(server.url, answer, self.size)  # which raises
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
        self.servers = servers
        questions = dict.fromkeys(self.paths, webui.check_script)
        Scheduler(servers, self, Policy(**policy), self, questions).run(pictures)
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


def refusing(*refused: str, reason: str = "no such upscaler"):
    """Refuses these pictures, or all if none is named."""

    def answer(asked: str) -> Answer:
        if asked == webui.SCRIPTS:
            return SCRIPTS
        no = not refused or asked in refused
        return (422, json.dumps({"detail": reason}).encode()) if no else MADE

    return answer


PICTURES = [str(number) for number in range(30)]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_one_server_refuses_another_makes(clock, status):
    def bad(asked: str) -> Answer:
        return SCRIPTS if asked == webui.SCRIPTS else (status, b'{"detail": "no such upscaler"}')

    fleet = Fleet(clock, bad=bad, good=good)
    servers = fleet.run(*PICTURES)
    assert fleet.lost == {}
    assert fleet.made == dict.fromkeys(PICTURES, "good")
    assert len([name for _, name, _ in fleet.sent if name == "bad"]) < 10
    assert (servers[0].pictures, servers[1].pictures) == (0, 30)
    assert list(servers[0].refused) == ["no such upscaler"]
    assert servers[0].errors == servers[0].refused["no such upscaler"] > 0
    assert servers[1].refused == {}
    assert fleet.said == ["http://bad stands back, since it refuses what others make: no such upscaler"]


def test_a_server_that_refuses_stands_back_for_longer_each_time(clock):
    def slow(asked: str) -> Answer:
        clock.now += 1 if asked != webui.SCRIPTS else 0
        return good(asked)

    fleet = Fleet(clock, bad=refusing(), good=slow)
    servers = fleet.run(*map(str, range(200)))
    times = [time for time, name, _ in fleet.sent if name == "bad"]
    rests = [after - before for before, after in itertools.pairwise(times)]
    assert rests[:5] == [2, 3, 5, 9, 17]  # 1, 2, 4, ... and until the other's picture is made
    assert len(fleet.made) == 200
    assert servers[0].errors == servers[0].refused["no such upscaler"] == len(times) > 5
    assert servers[0].problem == "no such upscaler"
    assert {reason for _, reason in fleet.reasons} == {"no such upscaler"}


def test_a_picture_that_all_refuse_has_failed_and_none_of_them_stands_back(clock):
    fleet = Fleet(clock, a=refusing("3", "4"), b=refusing("3", "4", reason="too large"))
    servers = fleet.run(*PICTURES)
    assert set(fleet.lost) == {"3", "4"}
    assert set(fleet.lost.values()) <= {
        "http://a: no such upscaler; http://b: too large",
        "http://b: too large; http://a: no such upscaler",
    }
    assert len(fleet.made) == 28
    assert [picture for _, _, picture in fleet.sent].count("3") == 2
    assert [(server.refused, server.problem) for server in servers] == [({}, "")] * 2
    assert fleet.said == []


def test_one_reason_of_all_is_given_once(clock):
    fleet = Fleet(clock, a=refusing(), b=refusing(), c=refusing())
    servers = fleet.run("1")
    assert fleet.lost == {"1": "no such upscaler"}
    states = {(server.failures, server.problem, server.rests_until) for server in servers}
    assert states == {(0, "", 0.0)}  # none is at fault, and none has to rest


def test_one_server_alone_has_the_last_word(clock):
    fleet = Fleet(clock, a=refusing("1"))
    fleet.run("1", "2")
    assert (fleet.lost, fleet.made) == ({"1": "no such upscaler"}, {"2": "a"})
    assert clock.now < 1001


def test_a_refused_picture_waits_for_a_server_that_is_down_for_a_while(clock):
    def restarting(asked: str) -> Answer:
        return (0, b"gone") if 1000 < clock.now < 1090 else good(asked)

    fleet = Fleet(clock, bad=refusing(), good=restarting)
    fleet.run(*PICTURES[:5])
    assert fleet.lost == {}
    assert fleet.made == dict.fromkeys(PICTURES[:5], "good")


def test_a_refused_picture_does_not_wait_for_a_server_that_never_was_usable(clock):
    fleet = Fleet(clock, bad=refusing(), gone=lambda asked: (0, b"gone"))
    _, gone = fleet.run(*PICTURES)
    assert fleet.lost == dict.fromkeys(PICTURES, "no such upscaler")
    assert gone.problem.endswith("gone")  # that it doesn't answer is no matter of the pictures
    assert gone.failures > 0
    assert clock.now < 1600


def test_a_server_that_mends_itself_goes_on(clock):
    def slow(asked: str) -> Answer:
        clock.now += 1 if asked != webui.SCRIPTS else 0
        return good(asked)

    def mended(asked: str) -> Answer:
        return (refusing() if clock.now < 1050 else slow)(asked)

    fleet = Fleet(clock, bad=mended, good=slow)
    fleet.run(*map(str, range(300)))
    assert len(fleet.made) == 300
    assert Counter(fleet.made.values())["bad"] > 20
    assert fleet.said[-1] == "http://bad is back."


def test_attempts_are_failures_and_not_refusals(clock):
    fleet = Fleet(clock, bad=refusing(), busy=busy)
    fleet.run("1", attempts=3)
    assert fleet.lost["1"].endswith("status 503. (3 attempts)")
    assert [name for _, name, _ in fleet.sent].count("bad") == 1


def test_a_picture_that_cannot_be_kept_fails_alone(clock):
    class Full(Fleet):
        def accept(self, picture, answer, server, seconds):
            if picture == "2":
                raise PictureError("2 can't be written: File name too long")
            super().accept(picture, answer, server, seconds)

    fleet = Full(clock, a=good)
    (server,) = fleet.run("1", "2", "3")
    assert fleet.lost == {"2": "2 can't be written: File name too long"}
    assert (set(fleet.made), server.pictures, server.errors) == ({"1", "3"}, 3, 0)


def test_every_server_is_asked_everything_first_and_again_after_it_failed(clock):
    def fails_once(asked: str) -> Answer:
        if asked.startswith("/"):
            return SCRIPTS
        return BUSY if len(fleet.sent) == 1 else MADE

    fleet = Fleet(clock, a=fails_once)
    fleet.paths = ("/1", "/2", "/3")
    fleet.run("1")
    assert [path for _, _, path in fleet.asked] == ["/1", "/2", "/3"] * 2
    assert fleet.made == {"1": "a"}


def test_a_server_that_answers_a_later_question_wrongly_gets_no_picture(clock):
    def lacks(asked: str) -> Answer:
        return (200, b"[]") if asked == "/2" else good(webui.SCRIPTS)

    fleet = Fleet(clock, a=lacks)
    fleet.paths = ("/1", "/2")
    with pytest.raises(NoServer, match="has no script"):
        fleet.run("1")
    assert fleet.sent == []


def test_how_long_is_waited_for_what(clock, monkeypatch):
    """Answers come when the scheduler waits for them, three seconds later."""
    pending, waited, timeouts, taken = [], [], [], []

    class Late(Fleet):
        def send(self, server, path, body, timeout):
            timeouts.append((path, timeout))
            future = Future()
            pending.append((future, super().send(server, path, body, timeout).result()))
            return future

        def accept(self, picture, answer, server, seconds):
            super().accept(picture, answer, server, seconds)
            taken.append(seconds)

    def wait(futures, timeout, return_when):
        waited.append((timeout, return_when))
        clock.now += 3
        while pending:
            future, answer = pending.pop()
            future.set_result(answer)

    monkeypatch.setattr(scheduler.concurrent.futures, "wait", wait)
    fleet = Late(clock, a=good)
    (server,) = fleet.run("1", "2", timeout=77)
    assert timeouts == [(webui.SCRIPTS, scheduler.PROBE_SECONDS), (webui.IMG2IMG, 77), (webui.IMG2IMG, 77)]
    assert set(waited) == {(scheduler.TICK, "FIRST_COMPLETED")}
    assert (server.pictures, server.seconds, clock.now, taken) == (2, 6.0, 1009.0, [3.0, 3.0])


def test_a_worker_that_is_gone_is_no_answer(clock):
    class Gone(Fleet):
        def send(self, server, path, body, timeout):
            future = super().send(server, path, body, timeout)
            if body is None or len(self.sent) > 1:
                return future
            broken = Future()
            broken.set_exception(RuntimeError("the actor died"))
            return broken

    fleet = Gone(clock, a=good)
    (server,) = fleet.run("1")
    assert fleet.reasons == [("1", f"No WebUI answers at http://a{webui.IMG2IMG}: the actor died")]
    assert (fleet.made, server.errors, server.failures, server.problem) == ({"1": "a"}, 1, 0, "")


def test_rests_differ_by_chance(clock, monkeypatch):
    drawn = []

    def uniform(low, high):
        drawn.append((low, high))
        return 0.5

    monkeypatch.setattr(scheduler.random, "Random", lambda: SimpleNamespace(uniform=uniform))
    fleet = Fleet(clock, a=busy)
    fleet.run("1", attempts=3, rest=8)
    (first, *_), (second, *_), (third, *_) = fleet.sent
    assert drawn == [(0.5, 1.5)] * 3
    assert second - first == pytest.approx(4, abs=2 * scheduler.TICK)
    assert third - second == pytest.approx(8, abs=2 * scheduler.TICK)


def test_what_the_user_is_told_of_a_server_that_fails(clock):
    def fails(asked: str) -> Answer:
        return SCRIPTS if asked == webui.SCRIPTS else BUSY if len(fleet.sent) <= 4 else MADE

    fleet = Fleet(clock, a=fails)
    (server,) = fleet.run("1", "2")
    reason = f"The WebUI at http://a{webui.IMG2IMG} refused the request with status 503."
    assert fleet.said == [
        f"http://a is taken out, and tried again now and then: {reason}",
        "http://a is back.",
    ]
    assert (server.errors, server.pictures, server.out) == (4, 2, False)
    assert [reason for _, reason in fleet.reasons] == [reason] * 4


@pytest.mark.parametrize(("times", "said"), [(2, []), (3, ["taken out", "back"])])
def test_a_server_that_fails_twice_is_not_spoken_of_but_three_times_it_is(clock, times, said):
    def fails(asked: str) -> Answer:
        return SCRIPTS if asked == webui.SCRIPTS else BUSY if len(fleet.sent) <= times else MADE

    fleet = Fleet(clock, a=fails)
    (server,) = fleet.run("1")
    assert len(fleet.said) == len(said)
    assert all(f"http://a is {what}" in sentence for what, sentence in zip(said, fleet.said))
    assert (server.errors, server.failures) == (times, 0)


def test_a_server_that_cannot_upscale_is_spoken_of_at_once(clock):
    fleet = Fleet(clock, a=good, b=lambda asked: (0, b"gone"))
    one, other = fleet.run("1", "2")
    assert fleet.said == [
        f"http://b is taken out, and tried again now and then: No WebUI answers at http://b{webui.SCRIPTS}: gone"
    ]
    assert (one.usable, one.ever_usable, other.usable, other.ever_usable) == (True, True, False, False)
    assert (other.errors, other.pictures) == (0, 0)
    assert [name for _, name, _ in fleet.sent] == ["a", "a"]


def test_no_server_at_all(clock):
    fleet = Fleet(clock, a=lambda asked: (0, b"gone"), b=lambda asked: (0, b"gone"))
    with pytest.raises(NoServer) as error:
        fleet.run("1")
    gone = [f"No WebUI answers at http://{name}{webui.SCRIPTS}: gone" for name in "ab"]
    assert str(error.value) == "; ".join(gone)
    same = Fleet(clock, a=lambda asked: (200, b"{}"))
    with pytest.raises(NoServer, match=r"^The WebUI at http://a has no script Iterative Mixing upscale: install the"):
        same.run("1")


def test_a_picture_that_cannot_be_asked_for_fails_and_the_next_is_made(clock):
    class Missing(Fleet):
        def request(self, picture):
            if picture == "1":
                raise PictureError("1 can't be read")
            return super().request(picture)

    fleet = Missing(clock, a=good)
    fleet.run("1", "2")
    assert (fleet.lost, fleet.made) == ({"1": "1 can't be read"}, {"2": "a"})
    fleet = Missing(clock, a=good, b=good)
    fleet.run("1", "2")
    assert (fleet.lost, fleet.made) == ({"1": "1 can't be read"}, {"2": "b"})  # whose turn it is anyway


def test_what_is_at_work_when_it_is_told_to_stop_is_finished_and_nothing_else_begun(clock):
    class Stopped(Fleet):
        def accept(self, picture, answer, server, seconds):
            super().accept(picture, answer, server, seconds)
            asked.stopping = True

    fleet = Stopped(clock, a=good)
    server = Server("http://a")
    asked = Scheduler([server], fleet, Policy(), fleet, {webui.SCRIPTS: webui.check_script})
    assert asked.stopping is False
    asked.run(["1", "2"])
    assert (fleet.made, fleet.lost, len(fleet.sent)) == ({"1": "a"}, {}, 1)


def test_one_picture_at_a_time_to_each_server_in_their_order(clock):
    fleet = Fleet(clock, a=good, b=good)
    fleet.run(*PICTURES[:6])
    assert [(name, picture) for _, name, picture in fleet.sent] == list(zip("ababab", "012345"))


def test_a_login_is_used_and_not_shown(clock):
    class Locked(Fleet):
        def run(self, *pictures):
            self.servers = [Server("http://u:secret@a"), Server("http://b")]
            questions = {webui.SCRIPTS: webui.check_script}
            Scheduler(self.servers, self, Policy(), self, questions).run(pictures)

        def send(self, server, path, body, timeout):
            return super().send(server.replace("u:secret@", ""), path, body, timeout)

    fleet = Locked(clock, a=refusing(), b=good)
    fleet.run("1", "2")
    assert fleet.said == ["http://a stands back, since it refuses what others make: no such upscaler"]
    fleet = Locked(clock, a=refusing("1"), b=refusing("1", reason="too large"))
    fleet.run("1")
    assert set(fleet.lost["1"].split("; ")) == {"http://a: no such upscaler", "http://b: too large"}
