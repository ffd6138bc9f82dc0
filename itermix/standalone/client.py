"""HTTP with a WebUI: one request, one answer.

Needs the standard library alone: Ray's actors get this module sent (`batch.workers`), and must not wait for torch.
"""

from __future__ import annotations

import base64
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

Answer = tuple[int, bytes]
"""HTTP status and body; or NO_ANSWER and the reason."""

NO_ANSWER = 0
"""In the place of a status: no connection, none that lasted, or none in time."""


def without_login(url: str) -> str:
    """The address without the user and password that it may have: http://user:password@host:7860."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def exchange(url: str, body: bytes | None, timeout: float) -> Answer:
    """The answer to a POST of a JSON body, or to a GET if it is None.

    Args:
        url: may have a user and password, which --api-auth asks for.
        timeout: seconds without a sign of the server after which it counts as gone.
    """
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json"}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    try:
        try:
            response = urlopen(Request(without_login(url), body, headers), timeout=timeout)
        except HTTPError as error:
            response = error
        with response:
            return response.status, response.read()
    except (OSError, HTTPException, ValueError) as error:
        return NO_ANSWER, str(getattr(error, "reason", error) or type(error).__name__).encode()
