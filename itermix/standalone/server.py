"""A client of a running WebUI: one picture through its img2img API with the upscale script."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from itermix import __version__
from itermix.parameters import Size, shortened
from itermix.settings import UpscaleSettings
from itermix.settings.infotext import UNFINISHED
from itermix.standalone import sources
from itermix.standalone.client import NO_ANSWER, Answer, exchange, without_login
from itermix.standalone.files import shown
from itermix.standalone.generation import parsed
from itermix.standalone.images import INFOTEXT, PictureError, opened, png
from itermix.standalone.sources import Source

SCRIPT = "Iterative Mixing upscale"
"""Title of the WebUI script that the request names."""

IMG2IMG = "/sdapi/v1/img2img"
SCRIPTS = "/sdapi/v1/scripts"
SCHEMA = "/itermix/v1/schema"
UPSCALERS = "/sdapi/v1/upscalers"
SAMPLERS = "/sdapi/v1/samplers"
SCHEDULERS = "/sdapi/v1/schedulers"

TIMEOUT = 3600
"""Seconds to wait for a picture."""

OF_THE_SERVER = {401, 403, 404, 405, 407, 408, 425, 429}
"""Client errors that are not about the request: another server, or the same one later, may take it."""

MOST_OF_A_REASON = 1000
"""Bytes that are told of why nothing answers."""

NO_ROUTE = re.compile(r"|(404 )?not found", re.IGNORECASE)
"""What servers say of a path that they don't have."""


class ServerError(OSError):
    """The WebUI can't be reached, or refused the request; the message is for the person who made it.

    Attributes:
        refused: whether it is the request that it won't take, so that asking it again is of no use.
    """

    def __init__(self, message: str, refused: bool = False):
        super().__init__(message)
        self.refused = refused


def upscale(
    server: str, picture: Path, settings: UpscaleSettings, generation: Mapping[str, Any], mask: bytes | None = None
) -> tuple[bytes, Source]:
    """(PNG data of a picture file upscaled by the WebUI at the address `server`, with the infotext inside; the source).

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
    source = sources.read(picture)
    body = request(source, settings, {**source.generation.fields, **generation}, mask)
    answer = exchange(server + IMG2IMG, body, TIMEOUT)
    return result(server, answer, settings.target(*source.size)), source


def request(
    source: Source, settings: UpscaleSettings, generation: Mapping[str, Any], mask: bytes | None = None
) -> bytes:
    """The JSON body that asks for the upscaled picture. Raises PictureError if it can't be sent."""
    masked = {} if mask is None else {"mask": base64.b64encode(mask).decode()}
    width, height = source.size
    payload = {
        **generation,
        "init_images": [base64.b64encode(source.sent()).decode()],
        "width": width,
        "height": height,
        "script_name": SCRIPT,
        "script_args": [{**settings.changed(), **masked}],
    }
    if settings.analysis:
        payload["save_images"] = True  # beside which the WebUI puts it
    return json.dumps(payload, allow_nan=False).encode()


def result(server: str, answer: Answer, size: Size) -> bytes:
    """PNG data of the picture in a WebUI's answer, with its infotext.

    Raises:
        ServerError: there is none, or it is not of the `size` (width, height) that was asked for.
    """
    answered = content(server, IMG2IMG, answer)
    try:
        infotext = json.loads(answered["info"])["infotexts"][0]
        data = base64.b64decode(answered["images"][0].rpartition(",")[2], validate=True)
        image = opened(data, "The picture", most=size[0] * size[1])
        if image.format != "PNG" or INFOTEXT not in opened(data, "", pixels=False, most=size[0] * size[1]).info:
            data = png(image, infotext)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError, PictureError) as error:
        reason = shortened(shown(f"{type(error).__name__}: {error}"))
        raise ServerError(f"The answer of {without_login(server)} holds no picture: {reason}") from error
    if image.size != size:
        got, wanted = (f"{width}x{height}" for width, height in (image.size, size))
        raise ServerError(f"The picture of {without_login(server)} is of {got} in the place of {wanted}")
    return data


def check_finished(data: bytes, size: Size) -> None:
    """Raises ServerError if a PNG's infotext says that a later part of it failed or was stopped."""
    infotext = opened(data, "The picture", pixels=False, most=size[0] * size[1]).info[INFOTEXT]
    unfinished = parsed(infotext)[2].get(UNFINISHED)
    if unfinished:
        raise ServerError(f"The picture was not finished: {unfinished}")


Check = Callable[[str, Answer], None]
"""Raises ServerError if the answer of a server (its address) to a GET says that it isn't one for the request."""


def questions(settings: UpscaleSettings, given: Mapping[str, Any]) -> dict[str, Check]:
    """{path: check}: what to ask a server before it gets a picture with these settings and request fields."""
    found: dict[str, Check] = {SCRIPTS: check_script, SCHEMA: _settings_known(settings)}
    if settings.upscaler != UpscaleSettings().upscaler and not settings.upscaler.startswith("Latent"):
        found[UPSCALERS] = _has(UPSCALERS, "upscaler", settings.upscaler)  # latent ones aren't in this list
    if "sampler_name" in given:
        found[SAMPLERS] = _has(SAMPLERS, "sampler", given["sampler_name"])
    if "scheduler" in given:
        found[SCHEDULERS] = _has(SCHEDULERS, "scheduler", given["scheduler"])
    return found


def check_script(server: str, answer: Answer) -> None:
    """Raises ServerError if this answer to a GET of SCRIPTS is not that of a WebUI that can upscale."""
    listed = content(server, SCRIPTS, answer)
    titles = listed.get("img2img") if isinstance(listed, dict) else None
    if not isinstance(titles, list) or SCRIPT.lower() not in titles:
        raise ServerError(f"The WebUI at {without_login(server)} has no script {SCRIPT}: install the extension there.")


def _settings_known(settings: UpscaleSettings) -> Check:
    def check(server: str, answer: Answer) -> None:
        properties = _part(_list_of(server, SCHEMA, answer), "properties")
        if not isinstance(properties, dict):
            return
        other = f"the extension there is not of version {__version__}, which this is. Update it."
        for name, value in settings.changed().items():
            if name not in properties:
                raise ServerError(f"The WebUI at {without_login(server)} has no setting {name}: {other}")
            allowed = _part(properties[name], "enum")
            if isinstance(allowed, list) and value not in allowed:
                raise ServerError(f"The WebUI at {without_login(server)} has no {name} {value}: {other}")

    return check


def _has(path: str, kind: str, name: str) -> Check:
    """Whether a list of the WebUI has the name, also with a schedule behind it, as older ones write samplers."""

    def check(server: str, answer: Answer) -> None:
        content = _list_of(server, path, answer)
        if not isinstance(content, list):
            return
        names = {_part(item, key) for item in content for key in ("name", "label")}
        names |= {alias for item in content for alias in _part(item, "aliases") or ()}
        known = {text.lower() for text in names if isinstance(text, str)}
        asked = name.lower()
        if known and not any(asked == each or asked.startswith(f"{each} ") for each in known):
            raise ServerError(f"The WebUI at {without_login(server)} has no {kind} {shown(name)}.")

    return check


def _part(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, dict) else None


def _list_of(server: str, path: str, answer: Answer) -> Any:
    """What is in an answer to a GET; None where the WebUI doesn't have the path, as older ones don't."""
    status, _ = answer
    return None if status in OF_THE_SERVER or status == 422 else content(server, path, answer)


def content(server: str, path: str, answer: Answer) -> Any:
    """What is in the JSON of an answer. Raises ServerError, with a sentence, if it is none of a WebUI's."""
    status, body = answer
    url = without_login(server + path)
    if status == NO_ANSWER:
        raise ServerError(f"No WebUI answers at {url}: {shown(body[:MOST_OF_A_REASON].decode(errors='replace'))}")
    words = _words(body)
    if 300 <= status < 400:
        to = without_login(body.decode(errors="replace")).partition("?")[0] or "nowhere"
        raise ServerError(
            f"{url} sends on to {shortened(shown(to))} (status {status}), which is not followed: name the address "
            "at which the WebUI itself is."
        )
    if status == 404 and NO_ROUTE.fullmatch(words):
        raise ServerError(f"The WebUI has no API at {url}: start it with --api.")
    if status == 401:
        raise ServerError(
            f"The WebUI at {url} asks for a user and password, or doesn't know those given: give them as "
            "http://user:password@host:port."
        )
    if status != 200:
        sentence = f"The WebUI at {url} refused the request with status {status}{': ' if words else '.'}"
        of_webui = words and body.lstrip()[:1] == b"{"
        refused = 400 <= status < 500 and (status == 404 or status not in OF_THE_SERVER)
        raise ServerError(words if of_webui else sentence + words, refused)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        said = f"what answers says: {words}" if words else "the answer is empty" if not body else str(error)
        raise ServerError(
            f"No WebUI answers at {url}, but something else: {shortened(shown(said))}. Is there a login page or a "
            "proxy before it?"
        ) from error


def _words(body: bytes) -> str:
    """What an answer that is no result says, in one line: FastAPI's `detail`, which is a sentence or a list of fields
    with a message each, or anything else; the title of a page; a text."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode(errors="replace")
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        said = html.unescape(title[1]) if title else "" if "<" in text[:200] else text
    else:
        said = _said(content)
    return shortened(shown(" ".join(said.split())))


def _said(content: Any, depth: int = 0) -> str:
    if isinstance(content, dict):
        if "msg" in content:
            loc = content.get("loc") or []
            where = ".".join(map(str, loc if isinstance(loc, list) else [loc]))
            return f"{where}: {content['msg']}"
        parts = (content.get(key) for key in ("detail", "errors", "error", "message"))
        return next((_said(part, depth + 1) for part in parts if part), "") if depth < 9 else ""
    if isinstance(content, list):
        return "; ".join(filter(None, (_said(part, depth + 1) for part in content[:20]))) if depth < 9 else ""
    return "" if content is None else str(content)
