"""Where requests run: in threads of this process, or in Ray's actors, one for each server."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from itermix.standalone import client
from itermix.standalone.client import Answer

STARTS = 3
"""How often Ray is started at most: it gives its own parts 30 seconds, and on a busy machine they may need more."""


class Workers(Protocol):
    """Something that sends requests to servers; one at a time to each."""

    def send(self, server: str, path: str, body: bytes | None, timeout: float) -> Future[Answer]:
        """Start `client.exchange` with the server's address and the path."""

    def close(self) -> None:
        """Give up what still runs."""


class Threads:
    """Daemon threads, which don't keep the process from ending while a server is at work."""

    def send(self, server: str, path: str, body: bytes | None, timeout: float) -> Future[Answer]:
        future: Future[Answer] = Future()
        arguments = future, server + path, body, timeout
        threading.Thread(target=_into, args=arguments, daemon=True).start()
        return future

    def close(self) -> None:
        pass


def _into(future: Future[Answer], url: str, body: bytes | None, timeout: float) -> None:
    try:
        future.set_result(client.exchange(url, body, timeout))
    except BaseException as error:
        future.set_exception(error)


class RayError(OSError):
    """Ray can't be used; the message says why."""


class RayActors:
    """One actor of Ray for each server; an actor that dies is started again by Ray.

    Args:
        servers: their addresses.
        address: of a Ray cluster; None starts Ray on this machine, for this process alone. In a process that is
            connected to Ray already, that connection is used, and is left open.

    Raises:
        ModuleNotFoundError: Ray isn't installed.
        RayError: it can't be started, or no cluster is at the address.
    """

    def __init__(self, servers: Sequence[str], address: str | None = None):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
        import ray

        self._own = not ray.is_initialized()
        if self._own:
            _connect(ray, address)
        # The function goes along by value, so that a cluster's machines need nothing but Ray.
        ray.cloudpickle.register_pickle_by_value(client)
        exchange = client.exchange

        class Server:
            def exchange(self, url: str, body: bytes | None, timeout: float) -> Answer:
                return exchange(url, body, timeout)

        actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(Server)
        self._actors = {server: actor.remote() for server in servers}

    def send(self, server: str, path: str, body: bytes | None, timeout: float) -> Future[Answer]:
        return self._actors[server].exchange.remote(server + path, body, timeout).future()

    def close(self) -> None:
        import ray

        for actor in self._actors.values():
            ray.kill(actor)
        if self._own:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    options = {"include_dashboard": False} if address is None else {}
    tries = STARTS if address is None else 1
    for left in reversed(range(tries)):
        try:
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
            return
        except Exception as error:  # Ray raises plain ones
            ray.shutdown()
            if not left:
                what = "be started" if address is None else f"be used at {address}"
                raise RayError(f"Ray can't {what}: {error}") from error
