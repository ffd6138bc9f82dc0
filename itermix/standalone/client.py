"""HTTP with a WebUI: its address, and one request, one answer.

Needs the standard library alone: Ray's actors get this module sent (`batch.workers`), and must not wait for torch.
"""

from __future__ import annotations

import base64
import gzip
import ipaddress
import re
import zlib
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, getproxies, proxy_bypass

Answer = tuple[int, bytes]
"""HTTP status and body, or with a status of 300 to 399 the address that is named; or NO_ANSWER and the reason."""

NO_ANSWER = 0
"""In the place of a status: no connection, none that lasted, or none in time."""

MAX_STEPS = 10_000
"""Steps that a request may ask for; what goes beyond is a slip, or no number that a WebUI has written."""

PORTS = {"http": 80, "https": 443}


class AddressError(ValueError):
    """An address that no request can be sent to; the message shows it without its login."""


def address(text: str) -> str:
    """An address of a server as requests take it: without a slash at its end, and without what goes without saying.

    Raises AddressError for what is none.
    """
    try:
        parts = urlsplit(text)
        if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment or not _plain(text, parts):
            raise ValueError(text)
        port = PORTS[parts.scheme] if parts.port is None else parts.port
        if not port:
            raise ValueError(text)
    except ValueError as error:
        shown = _without_secrets(text)
        allowed = "Allowed: an address such as http://127.0.0.1:7860, without what comes after a ? or #."
        raise AddressError(f"--server {shown} is not possible. {allowed}") from error
    login, at, _ = parts.netloc.rpartition("@")
    host = _host(parts.hostname)
    host = f"[{host}]" if ":" in host else host
    host += f":{port}" if port != PORTS[parts.scheme] else ""
    return f"{parts.scheme}://{login}{at}{host}{parts.path.rstrip('/')}"


def _without_secrets(text: str) -> str:
    """What can be shown of a text that is no address: without what may be a login, or a key behind a ? or #."""
    bare = re.sub(r"^(\w+://)?.*@", r"\1", text, flags=re.DOTALL)
    return ascii(re.sub(r"([?#]).+", r"\1...", bare, flags=re.DOTALL))[1:-1]


def _plain(text: str, parts: SplitResult) -> bool:
    """Whether the address has nothing that would have to be encoded first, but for letters in the name of a host."""
    return text.isprintable() and " " not in text and parts.path.isascii() and bool(parts.hostname.encode("idna"))  # type: ignore[union-attr]


def _host(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.rstrip(".")


def place(address: str) -> tuple[str, int, str]:
    """(host, port, path) of an address: the same for every way to write one server."""
    parts = urlsplit(address)
    host = str(parts.hostname)
    here = host == "localhost" or host in ("127.0.0.1", "::1")
    return "localhost" if here else host, parts.port or PORTS[parts.scheme], parts.path


def without_login(url: str) -> str:
    """The address without the user and password that it may have: http://user:password@host:7860."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class _Stay(HTTPRedirectHandler):
    """Nothing is sent to an address that wasn't given: what is sent may have a login."""

    def redirect_request(self, *_: Any) -> None:
        return None


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
            response = build_opener(_Stay).open(Request(without_login(url), body, headers), timeout=timeout)
        except HTTPError as error:
            response = error
        with response:
            content = response.read()
            if 300 <= response.status < 400:
                return response.status, response.headers.get("Location", "").encode()
            return response.status, _decoded(content, response.headers.get("Content-Encoding", ""))
    except (OSError, HTTPException, ValueError, EOFError, zlib.error) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        return NO_ANSWER, f"{reason}{_proxy(parts)}".encode()


def _decoded(content: bytes, encoding: str) -> bytes:
    """What a proxy may have packed, though nobody asked for it."""
    return gzip.decompress(content) if encoding.lower() in ("gzip", "x-gzip") else content


def _proxy(parts: SplitResult) -> str:
    """What to know of the proxy that the environment puts before a server, if it does."""
    proxy = getproxies().get(parts.scheme)
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    shown = without_login(proxy) if "//" in proxy else proxy.rpartition("@")[2]
    return f" (through the proxy {shown} of {parts.scheme}_proxy; no_proxy={parts.hostname} would go without it)"
