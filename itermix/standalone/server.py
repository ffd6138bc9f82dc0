"""A client of a running WebUI: one picture through its img2img API with the upscale script."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from itermix.settings import UpscaleSettings
from itermix.standalone.images import INFOTEXT, opened, png

SCRIPT = "Iterative Mixing upscale"
"""Title of the WebUI script that the request names."""

TIMEOUT = 3600
"""Seconds to wait for a picture."""

INFOTEXT_KEYS = {
    "Steps": ("steps", int),
    "Sampler": ("sampler_name", str),
    "Schedule type": ("scheduler", str),
    "CFG scale": ("cfg_scale", float),
    "Seed": ("seed", int),
}
"""{key in an infotext: (field of a request, its type)}."""


class ServerError(OSError):
    """The WebUI can't be reached, or refused the request; the message is for the person who made it."""


def generation_of(picture: Image.Image) -> dict[str, Any]:
    """Request fields that the picture's own infotext gives (PNG text chunk `parameters`); empty without one."""
    infotext = picture.info.get(INFOTEXT)
    if not isinstance(infotext, str):
        return {}
    text, _, last = infotext.strip().rpartition("\n")
    if not re.match(r"Steps: \d", last):
        text, last = infotext, ""
    prompt, _, negative = text.partition("Negative prompt:")
    fields: dict[str, Any] = {"prompt": prompt.strip(), "negative_prompt": negative.strip()}
    for key, value in re.findall(r"(?:^|, )([\w ]+): ([^,]*)", last):
        name, kind = INFOTEXT_KEYS.get(key, (None, str))
        if name:
            with contextlib.suppress(ValueError):  # a key that only looks like one of ours, inside another's value
                fields[name] = kind(value)
    return fields


def upscale(server: str, picture: Path, settings: UpscaleSettings, generation: Mapping[str, Any]) -> bytes:
    """PNG data of a picture file upscaled by the WebUI at the address `server`, with the infotext inside.

    Args:
        server: such as "http://127.0.0.1:7860"; the WebUI must run with --api.
        picture: an image file.
        settings: what differs from the defaults is sent.
        generation: request fields (prompt, steps, ...) that go before those of the picture's infotext.

    Raises:
        OSError, PictureError: the file can't be read, or isn't an image.
        ServerError: no answer, or a refusal, with the WebUI's own sentence.
    """
    data = picture.read_bytes()
    image = opened(data, picture)
    payload = {
        **generation_of(image),
        **generation,
        "init_images": [base64.b64encode(data).decode()],
        "width": image.width,
        "height": image.height,
        "script_name": SCRIPT,
        "script_args": [dict(settings.changed())],
    }
    answer = _post(f"{server.rstrip('/')}/sdapi/v1/img2img", payload)
    try:
        result = base64.b64decode(answer["images"][0].rpartition(",")[2], validate=True)
        return _png(result, json.loads(answer["info"])["infotexts"][0])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ServerError(f"The answer of {server} holds no picture: {error!r}") from error


def _post(url: str, payload: Mapping[str, Any]) -> Any:
    try:
        request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise ServerError(_refusal(url, error)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ServerError(f"No WebUI answers at {url}: {reason}") from error


def _refusal(url: str, error: urllib.error.HTTPError) -> str:
    """What the WebUI says in `detail`: a sentence, or a list of fields with a message each; else the status."""
    if error.code == 404:
        return f"The WebUI has no API at {url}: start it with --api."
    try:
        answer = json.load(error)
        detail = answer.get("detail") or answer.get("errors")
    except (ValueError, AttributeError):
        detail = None
    if isinstance(detail, list):
        detail = "; ".join(f"{'.'.join(map(str, field.get('loc', [])))}: {field.get('msg', '')}" for field in detail)
    return str(detail or f"The WebUI refused the request: {error.code} {error.reason}")


def _png(data: bytes, infotext: str) -> bytes:
    """The picture as PNG with its infotext; data that is so already stays as it is."""
    image = opened(data, "The picture")
    return data if image.format == "PNG" and INFOTEXT in image.info else png(image, infotext)
