"""A client of a running WebUI: one picture through its img2img API with the upscale script."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from itermix.infotext import UNFINISHED
from itermix.settings import UpscaleSettings
from itermix.standalone.client import NO_ANSWER, Answer, exchange, without_login
from itermix.standalone.generation import generation_of, parsed
from itermix.standalone.images import INFOTEXT, PictureError, opened, png

SCRIPT = "Iterative Mixing upscale"
"""Title of the WebUI script that the request names."""

IMG2IMG = "/sdapi/v1/img2img"
SCRIPTS = "/sdapi/v1/scripts"

TIMEOUT = 3600
"""Seconds to wait for a picture."""

OF_THE_SERVER = {401, 403, 404, 405, 408, 425, 429}
"""Client errors that are not about the picture: another server, or the same one later, may take it."""


class ServerError(OSError):
    """The WebUI can't be reached, or refused the request; the message is for the person who made it.

    Attributes:
        final: whether it is the request that is wrong, so that asking again is of no use.
    """

    def __init__(self, message: str, final: bool = False):
        super().__init__(message)
        self.final = final


def upscale(
    server: str, picture: Path, settings: UpscaleSettings, generation: Mapping[str, Any], mask: bytes | None = None
) -> bytes:
    """PNG data of a picture file upscaled by the WebUI at the address `server`, with the infotext inside.

    Args:
        server: such as "http://127.0.0.1:7860"; the WebUI must run with --api.
        picture: an image file.
        settings: what differs from the defaults is sent.
        generation: request fields (prompt, steps, ...) that go before those of the picture's infotext.
        mask: data of the file of a mask.

    Raises:
        OSError, PictureError: the file can't be read, or isn't an image.
        ServerError: no answer, or a refusal, with the WebUI's own sentence.
    """
    data = picture.read_bytes()
    image = opened(data, picture)
    body = request(data, image, settings, {**generation_of(image), **generation}, mask)
    return result(server, exchange(server.rstrip("/") + IMG2IMG, body, TIMEOUT))


def request(
    data: bytes,
    image: Image.Image,
    settings: UpscaleSettings,
    generation: Mapping[str, Any],
    mask: bytes | None = None,
) -> bytes:
    """The JSON body that asks for the upscaled picture."""
    masked = {} if mask is None else {"mask": base64.b64encode(mask).decode()}
    payload = {
        **generation,
        "init_images": [base64.b64encode(data).decode()],
        "width": image.width,
        "height": image.height,
        "script_name": SCRIPT,
        "script_args": [{**settings.changed(), **masked}],
    }
    if settings.analysis:
        payload["save_images"] = True  # beside which the WebUI puts it
    return json.dumps(payload).encode()


def result(server: str, answer: Answer) -> bytes:
    """PNG data of the picture in a WebUI's answer, with its infotext.

    Raises:
        ServerError: there is none, or it was not finished.
    """
    content = _content(server, IMG2IMG, answer)
    try:
        infotext = json.loads(content["info"])["infotexts"][0]
        data = _png(base64.b64decode(content["images"][0].rpartition(",")[2], validate=True), infotext)
    except (LookupError, TypeError, AttributeError, ValueError, PictureError) as error:
        raise ServerError(f"The answer of {without_login(server)} holds no picture: {error!r}") from error
    return data


def check_finished(data: bytes) -> None:
    """Raises ServerError if a PNG's infotext says that a later part of it failed or was stopped."""
    unfinished = parsed(opened(data, "The picture", pixels=False).info[INFOTEXT])[2].get(UNFINISHED)
    if unfinished:
        raise ServerError(f"The picture was not finished: {unfinished}")


def check_script(server: str, answer: Answer) -> None:
    """Raises ServerError if this answer to a GET of SCRIPTS is not that of a WebUI that can upscale."""
    content = _content(server, SCRIPTS, answer)
    if not isinstance(content, dict) or SCRIPT.lower() not in (content.get("img2img") or ()):
        raise ServerError(f"The WebUI at {without_login(server)} has no script {SCRIPT}: install the extension there.")


def _content(server: str, path: str, answer: Answer) -> Any:
    status, body = answer
    url = without_login(server.rstrip("/") + path)
    if status == NO_ANSWER:
        raise ServerError(f"No WebUI answers at {url}: {body.decode(errors='replace')}")
    if status != 200:
        final = 400 <= status < 500 and status not in OF_THE_SERVER
        raise ServerError(_refusal(url, status, body), final)
    try:
        return json.loads(body)
    except ValueError as error:
        raise ServerError(f"No WebUI answers at {url}: {error}") from error


def _refusal(url: str, status: int, body: bytes) -> str:
    """What the WebUI says in `detail`: a sentence, or a list of fields with a message each; else the status."""
    if status == 404:
        return f"The WebUI has no API at {url}: start it with --api."
    if status == 401:
        return f"The WebUI at {url} asks for a user and password: give them as http://user:password@host:port."
    try:
        answer = json.loads(body)
        detail = answer.get("detail") or answer.get("errors")
    except (ValueError, AttributeError):
        detail = None
    if isinstance(detail, list):
        detail = "; ".join(f"{'.'.join(map(str, field.get('loc', [])))}: {field.get('msg', '')}" for field in detail)
    return str(detail or f"The WebUI at {url} refused the request with status {status}.")


def _png(data: bytes, infotext: str) -> bytes:
    """The picture as PNG with its infotext; data that is so already stays as it is."""
    image = opened(data, "The picture")
    return data if image.format == "PNG" and INFOTEXT in image.info else png(image, infotext)
