"""What a request may ask for at most, so that none of them exhausts the server. docs/security.md lists it."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException, Request
from modules import shared

from itermix.parameters import Parameter, SettingsError

BODY = 100_000
"""Bytes of a body that our routes read; the largest that the page sends has some hundred."""

STEPS = Parameter(int, 20, "Steps", "", "", "", low=1, high=1000, step=1, name="steps")
SIDES = tuple(Parameter(int, 512, "", "", "", "", low=1, high=16384, name=name) for name in ("width", "height"))

MEGAPIXELS = Parameter(
    int,
    100,
    "Largest picture, in megapixels",
    "What would become larger is refused before anything is made. 100 is 10000x10000.",
    "",
    "",
    low=1,
    high=1000,
    step=1,
    name="max_megapixels",
)
"""Declared as a setting is, but the owner's of the WebUI: an option of its settings page, out of reach of requests."""

OPTION = f"itermix_{MEGAPIXELS.name}"


def check_size(width: int, height: int, name: str = "target size") -> None:
    """Raises SettingsError if a picture may not become so large."""
    most = getattr(shared.opts, OPTION, MEGAPIXELS.default)
    if width * height > most * 1_000_000:
        allowed = f"Allowed: at most {most:g} megapixels, the limit on the WebUI's settings page (Iterative Mixing)."
        raise SettingsError(name, f"{width}x{height}", allowed)


def checked_body(request: Request) -> Request:
    """The request of a route that takes a body, reading no more than BODY bytes of it. Raises HTTPException.

    It has to say that its body is JSON: a form or a script of another site can't, unless the WebUI's CORS allows it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        detail = f"Iterative Mixing: Content-Type = {kind!r} is not possible. Allowed: application/json."
        raise HTTPException(status_code=415, detail=detail)
    read = 0

    async def receive() -> Any:
        nonlocal read
        message = await request.receive()
        read += len(message.get("body", b""))
        if read > BODY:
            detail = f"Iterative Mixing: the body of the request is too large. Allowed: at most {BODY} bytes."
            raise HTTPException(status_code=413, detail=detail)
        return message

    return Request(request.scope, receive)
