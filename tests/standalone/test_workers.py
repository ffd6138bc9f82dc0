"""Where requests run: threads, and actors of a Ray that only writes down what it is told."""

from __future__ import annotations

import logging
import os
import sys
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from itermix.standalone import client
from itermix.standalone.batch.workers import STARTS, RayActors, RayError, Threads

ANSWER = 200, b"{}"


class Ray:
    """In the place of the module.

    Attributes:
        told: what it was told, in order.
        fails: how often it can't be started.
    """

    def __init__(self, connected: bool = False, fails: int = 0):
        self.told: list[tuple] = []
        self.connected = connected
        self.fails = fails
        self.cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: self.told.append(("sent", module)))

    def is_initialized(self):
        return self.connected

    def init(self, address, **options):
        self.told.append(("init", address, options))
        if self.fails:
            self.fails -= 1
            raise ConnectionError("no cluster")

    def shutdown(self):
        self.told.append(("shutdown",))

    def kill(self, actor):
        self.told.append(("kill", actor))

    def remote(self, **options):
        self.told.append(("actors", options))

        def actor(kind):
            one = kind()

            def exchange(*args):
                future = Future()
                future.set_result(one.exchange(*args))
                return SimpleNamespace(future=lambda: future)

            return SimpleNamespace(exchange=SimpleNamespace(remote=exchange))

        return lambda kind: SimpleNamespace(remote=lambda: actor(kind))


@pytest.fixture
def use(monkeypatch):
    """use(ray) -> it, as the module that will be imported."""
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.setattr(client, "exchange", lambda *args: (200, repr(args).encode()))

    def use(ray):
        monkeypatch.setitem(sys.modules, "ray", ray)
        return ray

    return use


OF_EACH = {"log_to_driver": False, "logging_level": logging.ERROR}
ACTORS = [("sent", client), ("actors", {"num_cpus": 0, "max_restarts": -1})]


def test_a_ray_of_its_own_is_started_and_ended(use):
    ray = use(Ray())
    actors = RayActors(["http://a", "http://b"])
    assert ray.told == [("init", "local", {**OF_EACH, "include_dashboard": False}), *ACTORS]
    ray.told.clear()
    actors.close()
    assert [what for what, *_ in ray.told] == ["kill", "kill", "shutdown"]
    assert ray.told[0] != ray.told[1]


def test_nothing_is_reported_to_others_unless_it_is_wanted(use, monkeypatch):
    use(Ray())
    RayActors([])
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    RayActors([])
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_a_cluster_is_connected_to_by_its_address(use):
    ray = use(Ray())
    RayActors(["http://a"], "10.0.0.1:6379")
    assert ray.told == [("init", "10.0.0.1:6379", OF_EACH), *ACTORS]


def test_a_connection_that_is_there_is_used_and_left_open(use):
    ray = use(Ray(connected=True))
    RayActors(["http://a"], "10.0.0.1:6379").close()
    assert [what for what, *_ in ray.told] == ["sent", "actors", "kill"]


def test_a_request_goes_to_the_actor_of_its_server(use):
    use(Ray())
    actors = RayActors(["http://a", "http://b"])
    answer = actors.send("http://b", "/path", b"body", 7.0).result()
    assert answer == (200, b"('http://b/path', b'body', 7.0)")


def test_ray_is_started_again_and_a_cluster_is_not(use):
    ray = use(Ray(fails=STARTS - 1))
    RayActors([])
    assert [what for what, *_ in ray.told] == ["init", "shutdown"] * (STARTS - 1) + ["init", "sent", "actors"]
    ray = use(Ray(fails=STARTS))
    with pytest.raises(RayError, match=r"^Ray can't be started: no cluster$"):
        RayActors([])
    assert [what for what, *_ in ray.told] == ["init", "shutdown"] * STARTS
    ray = use(Ray(fails=1))
    with pytest.raises(RayError, match=r"^Ray can't be used at auto: no cluster$"):
        RayActors([], "auto")
    assert [what for what, *_ in ray.told] == ["init", "shutdown"]


def test_threads_hand_on_the_answer_and_what_was_raised(monkeypatch):
    seen = []

    def exchange(*args):
        seen.append((args, threading.current_thread().daemon))
        return ANSWER

    monkeypatch.setattr(client, "exchange", exchange)
    workers = Threads()
    assert workers.send("http://a", "/path", b"body", 7.0).result(60) == ANSWER
    assert seen == [(("http://a/path", b"body", 7.0), True)]
    monkeypatch.setattr(client, "exchange", None)
    with pytest.raises(TypeError):
        workers.send("http://a", "/path", None, 7.0).result(60)
    workers.close()
