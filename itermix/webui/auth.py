"""Who may use the routes: the same people as the WebUI's own API."""

from __future__ import annotations

from secrets import compare_digest

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import shared


def authorised(request: Request, given: HTTPBasicCredentials | None = Depends(HTTPBasic(auto_error=False))) -> None:
    """With --api-auth: a user and password from there, or the cookie of a login to the page; else HTTP 401.

    Without --api a page that asks for a login is the only way in, so the cookie is needed then, too.
    """
    passwords = shared.cmd_opts.api_auth
    by_page_alone = not shared.cmd_opts.api and getattr(request.app, "auth", None)
    if not (passwords or by_page_alone) or (passwords and given and known(given)) or logged_in(request):
        return
    # Without a WWW-Authenticate header: it would make the browser ask for a password with every chart.
    raise HTTPException(status_code=401, detail="Incorrect username or password")


def known(given: HTTPBasicCredentials) -> bool:
    """Whether --api-auth, "user:password,user:password", has these. Takes equally long for every wrong password."""
    pairs = [pair.split(":") for pair in shared.cmd_opts.api_auth.split(",")]
    found = [
        compare_digest(user.encode(), given.username.encode())
        & compare_digest(password.encode(), given.password.encode())
        for user, password in pairs
    ]
    return any(found)


def logged_in(request: Request) -> bool:
    """Whether gradio, where it asks for a login, knows this browser. Its cookies are named access-token..."""
    tokens = getattr(request.app, "tokens", {})
    return any(name.startswith("access-token") and value in tokens for name, value in request.cookies.items())
