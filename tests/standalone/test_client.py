"""One request and its answer, with a server that does as it is told."""

from __future__ import annotations

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from itermix.standalone import client
from itermix.standalone.client import NO_ANSWER, AddressError, address, exchange, place, without_login


class Echo:
    """A server that keeps (method, path, headers, body) of what it gets, and answers with status, headers and body."""

    def __init__(self) -> None:
        self.got: list[tuple] = []
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"there")
        self.wait = 0.0
        echo = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                echo.got.append((self.command, self.path, dict(self.headers), body))
                time.sleep(echo.wait)
                status, headers, content = echo.answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:  # of the client that has waited long enough
                pass

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def echo(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    echo = Echo()
    threading.Thread(target=echo.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield echo
    echo.http.shutdown()
    echo.http.server_close()


def test_a_get_and_a_post(echo):
    assert exchange(f"{echo.url}/a/b", None, 60) == (200, b"there")
    assert exchange(f"{echo.url}/c", b'{"x": 1}', 60) == (200, b"there")
    (get, path, headers, body), (post, other, with_body, sent) = echo.got
    assert (get, path, body) == ("GET", "/a/b", b"")
    assert (post, other, sent) == ("POST", "/c", b'{"x": 1}')
    for each in (headers, with_body):
        assert each["Content-Type"] == "application/json"
        assert "Authorization" not in each


@pytest.mark.parametrize(
    ("login", "sent"),
    [
        ("user:pass", "Basic dXNlcjpwYXNz"),
        ("user", "Basic dXNlcjo="),
        ("us%40er:p%3Ass", "Basic dXNAZXI6cDpzcw=="),
        (":pass", "Basic OnBhc3M="),
    ],
)
def test_a_login_is_sent_in_the_header_alone(echo, login, sent):
    assert exchange(echo.url.replace("//", f"//{login}@"), None, 60) == (200, b"there")
    ((_, _, headers, _),) = echo.got
    assert headers["Authorization"] == sent
    assert headers["Host"] == echo.url.removeprefix("http://")


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
def test_an_error_is_an_answer_like_others(echo, status):
    echo.answer = status, {}, b"why"
    assert exchange(echo.url, None, 60) == (status, b"why")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 399])
def test_of_a_status_that_sends_elsewhere_the_address_is_told(echo, status):
    echo.answer = status, {"Location": f"{echo.url}/login"}, b"body"
    assert exchange(echo.url, b"{}", 60) == (status, f"{echo.url}/login".encode())
    echo.answer = status, {}, b"body"
    assert exchange(echo.url, None, 60) == (status, b"")
    assert len(echo.got) == 2


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_packed_answers_are_unpacked(echo, encoding):
    echo.answer = 200, {"Content-Encoding": encoding}, gzip.compress(b"there")
    assert exchange(echo.url, None, 60) == (200, b"there")
    echo.answer = 200, {"Content-Encoding": encoding}, b"not packed"
    status, reason = exchange(echo.url, None, 60)
    assert (status, reason) == (NO_ANSWER, b"Not a gzipped file (b'no')")
    echo.answer = 200, {"Content-Encoding": "identity"}, b"there"
    assert exchange(echo.url, None, 60) == (200, b"there")


def test_why_there_is_no_answer(echo):
    assert exchange("http://127.0.0.1:1", None, 60) == (NO_ANSWER, b"[Errno 111] Connection refused")
    echo.wait = 5
    assert exchange(echo.url, None, 0.05) == (NO_ANSWER, b"timed out")


def test_an_error_without_words_is_told_by_its_name(echo, monkeypatch):
    class Opener:
        def open(self, request, timeout):
            raise EOFError

    monkeypatch.setattr(client, "build_opener", lambda *_: Opener())
    assert exchange(echo.url, None, 60) == (NO_ANSWER, b"EOFError")


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://user:secret@127.0.0.1:9", "http://127.0.0.1:9"),
        ("user:secret@127.0.0.1:9", "127.0.0.1:9"),
        ("127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_the_proxy_before_a_server_is_named_without_its_login(echo, monkeypatch, proxy, shown):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    _, reason = exchange(echo.url.replace("//", "//me:hidden@"), None, 60)
    refused = "[Errno 111] Connection refused"
    assert reason.decode() == (
        f"{refused} (through the proxy {shown} of http_proxy; no_proxy=127.0.0.1 would go without it)"
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for server in ("http://me:hidden@127.0.0.1:1", "http://127.0.0.1:1"):
        assert exchange(server, None, 60) == (NO_ANSWER, refused.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://host:443", "http://host:443"),
        ("https://host:80", "https://host:80"),
        ("http://Host.:80/sd//", "http://host/sd"),
        ("https://u@H:443", "https://u@h"),
        ("http://caf\u00e9.example:7860", "http://caf\u00e9.example:7860"),
        ("http://127.1:7860", "http://127.1:7860"),
        ("http://[FE80::0:1]", "http://[fe80::1]"),
        ("http://host/X/", "http://host/X"),
    ],
)
def test_an_address_as_requests_take_it(text, expected):
    assert address(text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("host:7860", "host:7860"),
        ("http://host/a b", "http://host/a b"),
        ("http://a b", "http://a b"),
        ("ftp://u:secret@host/x", "ftp://host/x"),
        ("http://host/?key=secret", "http://host/?..."),
        ("http://host#secret", "http://host#..."),
        ("http://h\n\u00e9", r"http://h\n\xe9"),
        ("u:secret@host", "host"),
        ("http://u:s\ne@cret@h:x", "http://h:x"),
        ("http://host/?a\nb", "http://host/?..."),
    ],
)
def test_what_is_no_address_is_shown_without_secrets(text, shown):
    with pytest.raises(AddressError) as error:
        address(text)
    allowed = "Allowed: an address such as http://127.0.0.1:7860, without what comes after a ? or #."
    assert str(error.value) == f"--server {shown} is not possible. {allowed}"


def test_one_server_is_one_place():
    here = {place(url) for url in ("http://localhost:80", "http://127.0.0.1", "http://u:p@[::1]", "http://LOCALHOST")}
    assert here == {("localhost", 80, "")}
    assert place("https://host/sd") == ("host", 443, "/sd")
    assert place("http://host:7860") == ("host", 7860, "")


def test_an_address_without_its_login():
    assert without_login("http://u:p@host:1/a?b#c") == "http://host:1/a?b#c"
    assert without_login("http://u:p@q@host") == "http://host"
    assert without_login("http://host:1") == "http://host:1"
