"""Pictures of a WebUI, each asked for once: what the journal of a batch has is never asked for again."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from itermix.parameters import Size
from itermix.standalone import server as webui
from itermix.standalone.batch.journal import Journal
from itermix.standalone.calibrate.search import Candidate
from itermix.standalone.client import exchange, without_login
from itermix.standalone.images import png
from itermix.standalone.server import IMG2IMG, ServerError
from itermix.standalone.sources import Source

TXT2IMG = "/sdapi/v1/txt2img"
PROBE_SECONDS = 30

FACTS = "/itermix/v1/facts"
OPTIONS = "/sdapi/v1/options"

ATTEMPTS = 3
REST = 2.0
"""Seconds after a first failure; twice as many after the next."""


class Stopped(Exception):
    """Who has asked for the pictures wants no more of them."""


@dataclass(frozen=True)
class Asked:
    """A request for a picture.

    Attributes:
        path: route of the WebUI.
        body: its JSON.
        size: (width, height) of the picture.
        name: of its file, without what tells requests apart.
    """

    path: str
    body: bytes
    size: Size
    name: PurePath

    def key(self, checkpoint: str) -> str:
        """SHA-256 of all that the picture depends on."""
        return hashlib.sha256(b"\0".join([checkpoint.encode(), self.path.encode(), self.body])).hexdigest()

    def target(self, checkpoint: str) -> PurePath:
        """Where the picture goes: another request has another place."""
        plain = re.sub(r"[^\w.=%-]+", " ", self.name.name)
        return self.name.with_name(f"{plain} {self.key(checkpoint)[:8]}.png")


def source(name: str, body: Mapping[str, Any]) -> Asked:
    """For a picture that the checkpoint makes from a prompt."""
    return Asked(TXT2IMG, json.dumps(body).encode(), (body["width"], body["height"]), PurePath("sources") / name)


def enlarged(candidate: Candidate, source: Source, generation: Mapping[str, Any], scale: int, exact: bool) -> Asked:
    """For a source, larger.

    Hires fix is img2img of the picture enlarged by Lanczos with all of the steps within its share of the schedule,
    which is what the WebUI's hires pass does.

    Args:
        generation: request fields, with steps.
        exact: whether img2img of this WebUI runs exactly the steps that it is asked for.
    """
    width, height = (side * scale for side in source.size)
    name = PurePath("results") / source.file.stem / candidate.name
    if candidate.mixes:
        body = webui.request(source, candidate.settings(scale), generation)
    else:
        larger = png(source.image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
        steps = generation["steps"] if exact else int(generation["steps"] / candidate.strength)
        fields = {"init_images": [base64.b64encode(larger).decode()], "width": width, "height": height}
        body = json.dumps(
            {**generation, **fields, "steps": steps, "denoising_strength": candidate.strength}, allow_nan=False
        ).encode()
    return Asked(IMG2IMG, body, (width, height), name)


class Pictures:
    """The pictures of one WebUI with one checkpoint, in the folder of a journal.

    Args:
        server: address.
        checkpoint: what the WebUI's is known by.
        stopping: asked before each request whether no more is wanted.
    """

    def __init__(self, journal: Journal, server: str, checkpoint: str, stopping: Callable[[], bool]):
        self.asked = 0
        self._journal, self._server, self._checkpoint, self._stopping = journal, server, checkpoint, stopping

    def is_made(self, asked: Asked) -> bool:
        return self._journal.made().get(asked.target(self._checkpoint)) == asked.key(self._checkpoint)

    def made(self, asked: Asked) -> Path:
        """The file of a picture, made first if it isn't there.

        Raises:
            Stopped: no more is wanted.
            ServerError: the WebUI refuses it, or has not made it in ATTEMPTS.
            OSError: it can't be written.
        """
        target = asked.target(self._checkpoint)
        if not self.is_made(asked):
            self._journal.wait([(target, Path(asked.name))])
            start = time.monotonic()
            data = self._answered(asked, target)
            self._journal.done(
                target, asked.key(self._checkpoint), data, without_login(self._server), time.monotonic() - start
            )
        return self._journal.out / target

    def seconds(self, asked: Asked) -> float:
        """How long the WebUI took for a picture that is made."""
        return self._journal.seconds(asked.target(self._checkpoint))

    def kept(self, name: str, data: bytes) -> Path:
        """The file of a picture that nobody has to make."""
        target = PurePath("sources") / f"{name} {hashlib.sha256(data).hexdigest()[:8]}.png"
        if target not in self._journal.made():
            self._journal.wait([(target, Path(name))])
            self._journal.done(target, hashlib.sha256(data).hexdigest(), data, "", 0.0)
        return self._journal.out / target

    def _answered(self, asked: Asked, target: PurePath) -> bytes:
        for attempt in range(1, ATTEMPTS + 1):
            if self._stopping():
                raise Stopped
            self.asked += 1
            answer = exchange(self._server + asked.path, asked.body, webui.TIMEOUT)
            try:
                data = webui.result(self._server, answer, asked.size)
                webui.check_finished(data, asked.size)
                return data
            except ServerError as error:
                last = error.refused or attempt == ATTEMPTS
                self._journal.failed(target, str(error), for_good=error.refused)
                if last:
                    raise
            self._rest(REST * 2 ** (attempt - 1))
        raise AssertionError

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._stopping():
                raise Stopped
            time.sleep(min(0.2, seconds))


def answer_of(server: str, path: str) -> Any:
    """The content of an answer to a GET. Raises ServerError with a sentence."""
    return webui.content(server, path, exchange(server + path, None, PROBE_SECONDS))
