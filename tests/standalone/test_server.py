"""The client of a WebUI, against a server that records the request and answers as told."""

from __future__ import annotations

import base64
import errno
import gzip
import io
import json
import os
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from PIL import Image

from itermix.settings import UpscaleSettings
from itermix.standalone import client, images, server
from itermix.standalone.cli import main

INFOTEXT = """a face, with a hat
in two lines
Negative prompt: blurred
Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.5, Seed: 1234, Size: 64x64, Model: tiny"""
FROM_INFOTEXT = {
    "prompt": "a face, with a hat\nin two lines",
    "negative_prompt": "blurred",
    "steps": 30,
    "sampler_name": "DPM++ 2M",
    "scheduler": "Karras",
    "cfg_scale": 5.5,
    "seed": 1234,
}
RESULT = images.png(Image.new("RGB", (96, 64), "red"), "made by a WebUI\nSteps: 3")


def answer_with(picture: bytes) -> str:
    return json.dumps({"images": [base64.b64encode(picture).decode()], "info": json.dumps({"infotexts": ["how"]})})


class WebUI:
    """What the server got, and what it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict]] = []
        self.logins: list[str | None] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: str | bytes = answer_with(RESULT)
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                recorder.requests.append((self.path, json.loads(body)))
                recorder.logins.append(self.headers["Authorization"])
                self.send_response(recorder.status)
                self.send_header("Content-Type", "application/json")
                for name, value in recorder.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(recorder.body if isinstance(recorder.body, bytes) else recorder.body.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def webui():
    webui = WebUI()
    thread = threading.Thread(target=webui.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield webui
    webui.http.shutdown()
    thread.join()
    webui.http.server_close()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "source.png"
    path.write_bytes(images.png(Image.new("RGB", (48, 32), "blue"), INFOTEXT))
    return path


def test_the_request_has_the_picture_its_infotext_and_the_changed_settings(webui, picture):
    result, source = server.upscale(webui.url, picture, UpscaleSettings(width=96, alpha=0.6), {"seed": 7})
    assert (source.size, source.notes) == ((48, 32), ())
    assert result == RESULT
    ((path, request),) = webui.requests
    assert path == "/sdapi/v1/img2img"
    assert base64.b64decode(request.pop("init_images")[0]) == picture.read_bytes()
    assert request == {
        **FROM_INFOTEXT,
        "seed": 7,
        "width": 48,
        "height": 32,
        "script_name": "Iterative Mixing upscale",
        "script_args": [{"width": 96, "alpha": 0.6}],
    }


def test_the_command_writes_the_png_with_its_infotext(webui, picture, tmp_path, capsys):
    out = tmp_path / "new" / "large.png"
    flags = ["--alpha", "0.6", "--prompt", "a photograph", "--steps", "9", "--picture-seed", "-1", "--sampler", "Euler"]
    assert main(["upscale", str(picture), "--out", str(out), "--server", webui.url, *flags]) == 0
    assert out.read_bytes() == RESULT
    request = webui.requests[0][1]
    assert request["script_args"] == [{"enabled": True, "alpha": 0.6, "steps": 9}]
    assert [request[k] for k in ("prompt", "seed", "sampler_name")] == ["a photograph", -1, "Euler"]
    assert capsys.readouterr().out.strip() == str(out)


def test_other_formats_become_png_with_the_infotext_of_the_answer(webui, picture):
    jpeg = io.BytesIO()
    Image.new("RGB", (48, 32), "red").save(jpeg, "JPEG")
    webui.body = answer_with(jpeg.getvalue())
    data, _ = server.upscale(webui.url, picture, UpscaleSettings(scale=1.0), {})
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.info["parameters"]) == ("PNG", "how")


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (422, {"error": "SettingsError", "detail": "alpha = 99 is not possible."}, "alpha = 99 is not possible."),
        (422, {"detail": [{"loc": ["body", "steps"], "msg": "not a number"}]}, "body.steps: not a number"),
        (500, {"error": "OSError", "detail": "", "errors": "out of memory"}, "out of memory"),
        (404, {"detail": "Not Found"}, "start it with --api"),
        (503, "busy", "503"),
        (200, {"images": []}, "holds no picture"),
        (200, json.loads(answer_with(images.png(Image.new("RGB", (48, 32)), ""))), "is of 48x32 in the place of 96x64"),
        (200, "<html>", "No WebUI answers"),
        (200, "<html><head><title>Sign in &amp; up</title>", "says: Sign in & up. Is there a login page or a proxy"),
        (200, "", "but something else: the answer is empty."),
        (200, "[" * 10**5, "No WebUI answers"),
        (422, {"detail": ["a"]}, "itermix: a\n"),
        (422, {"detail": {"loc": 5, "msg": {"x": 1}}}, "itermix: 5: {'x': 1}\n"),
        (422, {"detail": [["deep", [["er"]]], None, 7]}, "itermix: deep; er; 7\n"),
        (400, {"detail": "sampler\nnot \x1b[31m found"}, "itermix: sampler not \\x1b[31m found\n"),
        (422, [1, 2], "status 422: 1; 2\n"),
        (400, "x" * 10**5, "x..."),
        (404, {"error": "HTTPException", "detail": "Sampler not found", "body": ""}, "itermix: Sampler not found\n"),
        (404, "<html><title>404 Not Found</title>", "start it with --api"),
        (
            401,
            {"detail": "Incorrect username or password"},
            "asks for a user and password, or doesn't know those given",
        ),
        (502, "<title>Bad gateway</title>", "refused the request with status 502: Bad gateway"),
    ],
)
def test_what_went_wrong_is_one_sentence(webui, picture, tmp_path, capsys, status, body, message):
    webui.status = status
    webui.body = body if isinstance(body, str) else json.dumps(body)
    out = tmp_path / "large.png"
    assert main(["upscale", str(picture), "--out", str(out), "--server", webui.url]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not out.exists()


def test_no_server_is_one_sentence(picture, tmp_path, capsys):
    url = "http://127.0.0.1:1"
    assert main(["upscale", str(picture), "--out", str(tmp_path / "x.png"), "--server", url]) == 2
    assert f"No WebUI answers at {url}" in capsys.readouterr().err


def test_a_file_that_is_no_picture_is_one_sentence(webui, tmp_path, capsys):
    path = tmp_path / "text.png"
    path.write_text("no picture")
    assert main(["upscale", str(path), "--out", str(tmp_path / "x.png"), "--server", webui.url]) == 2
    assert f"{path} can't be read as a picture" in capsys.readouterr().err
    assert webui.requests == []


def test_a_picture_larger_than_pillow_opens_is_one_sentence(webui, tmp_path, capsys):
    path = tmp_path / "huge.png"
    data = bytearray(images.png(Image.new("L", (1, 1)), ""))
    data[16:24] = struct.pack(">II", 60_000, 60_000)  # width and height in the header
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    assert main(["upscale", str(path), "--out", str(tmp_path / "x.png"), "--server", webui.url]) == 2
    error = capsys.readouterr().err
    assert f"{path} can't be read as a picture" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_other_address_than_the_given_one_gets_a_request_or_a_login(webui, picture, tmp_path, capsys, status):
    other = WebUI()
    thread = threading.Thread(target=other.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    webui.status, webui.headers = (
        status,
        {"Location": f"{other.url.replace('//', '//user:secret@')}/sdapi/v1/img2img?a=b"},
    )
    out = tmp_path / "x.png"
    login = webui.url.replace("//", "//me:hidden@")
    assert main(["upscale", str(picture), "--out", str(out), "--server", login]) == 2
    other.http.shutdown()
    thread.join()
    other.http.server_close()
    assert other.requests == []
    assert webui.logins == ["Basic bWU6aGlkZGVu"]
    said = capsys.readouterr().err
    assert f"sends on to {other.url}/sdapi/v1/img2img (status {status}), which is not followed: name the" in said
    assert "secret" not in said
    assert "hidden" not in said


def test_a_packed_answer_is_unpacked(webui, picture, tmp_path):
    webui.headers, webui.body = {"Content-Encoding": "gzip"}, gzip.compress(answer_with(RESULT).encode())
    assert server.upscale(webui.url, picture, UpscaleSettings(), {})[0] == RESULT
    webui.body = webui.body[:-9]
    with pytest.raises(server.ServerError, match="No WebUI answers at"):
        server.upscale(webui.url, picture, UpscaleSettings(), {})


def test_a_proxy_that_is_dead_is_named(webui, picture, tmp_path, capsys, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    argv = ["upscale", str(picture), "--out", str(tmp_path / "x.png"), "--server", webui.url]
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "(through the proxy http://127.0.0.1:9 of http_proxy; no_proxy=127.0.0.1 would go without it)" in said
    assert "secret" not in said
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert main(argv) == 0


def test_a_result_larger_than_pillow_opens_is_taken(webui, picture, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # and twice as many are refused
    webui.body = answer_with(RESULT)
    assert server.upscale(webui.url, picture, UpscaleSettings(), {})[0] == RESULT
    assert Image.MAX_IMAGE_PIXELS == 1000
    webui.body = answer_with(images.png(Image.new("RGB", (960, 640)), "not asked for"))
    with pytest.raises(server.ServerError, match="holds no picture: PictureError: The picture can't be read"):
        server.upscale(webui.url, picture, UpscaleSettings(), {})


def test_an_infotext_behind_the_pixels_is_put_before_them(webui, picture):
    bare = images.png(Image.new("RGB", (96, 64), "red"))
    text = b"tEXt" + b"parameters\0late"
    late = bare[:-12] + struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text)) + bare[-12:]
    webui.body = answer_with(late)
    data, _ = server.upscale(webui.url, picture, UpscaleSettings(), {})
    assert images.opened(data, "", pixels=False).info["parameters"] == "how"
    server.check_finished(data, (96, 64))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("x.jpg", "--out x.jpg is not possible. Allowed: a name that ends in .png"),
        ("large", "--out large is not possible. Allowed: a name that ends in .png"),
        ("folder.png", "folder.png: Is a directory"),
        ("source.png", "--out source.png is not possible. Allowed: another file than the picture itself."),
        ("./folder.png/../source.png", "Allowed: another file than the picture itself."),
        ("link.png", "Allowed: another file than the picture itself."),
        ("there.png", "--out there.png is not possible. Allowed: a new file, or --replace to write over this one."),
        ("dangling.png", "--out dangling.png is not possible. Allowed: a new file"),
        ("there.png/x.png", "there.png/x.png: Not a directory"),
        (f"{'x' * 255}.png", "File name too long"),
        ("nul\0.png", "nul\\x00.png"),
    ],
)
def test_the_place_of_the_result_is_looked_at_before_it_is_made(
    webui, picture, tmp_path, capsys, monkeypatch, out, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "there.png").write_text("there")
    (tmp_path / "link.png").symlink_to("source.png")
    (tmp_path / "dangling.png").symlink_to("nowhere/else")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert main(["upscale", "source.png", "--out", out, "--server", webui.url]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert webui.requests == []
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_file_is_written_over_when_told_so_but_never_the_source(webui, picture, tmp_path, capsys):
    out = tmp_path / "there.png"
    out.write_text("there")
    argv = ["upscale", str(picture), "--server", webui.url, "--replace", "--out"]
    assert main([*argv, str(out)]) == 0
    assert out.read_bytes() == RESULT
    assert main([*argv, str(picture)]) == 2
    assert "another file than the picture itself" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.png", "there.png"]


def test_a_full_drive_names_the_file(webui, picture, tmp_path, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "x.png"
    assert main(["upscale", str(picture), "--out", str(out), "--server", webui.url]) == 2
    assert capsys.readouterr().err == f"itermix: {out}: No space left on device\n"
    assert webui.requests == []


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named_and_not_an_object(tmp_path, capsys, data):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    assert main(["upscale", str(path), "--out", str(tmp_path / "y.png"), "--server", "http://127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert f"{path} can't be read as a picture: it is {'broken' if data else 'empty'}" in said
    assert "0x" not in said


ADDRESSES = {
    "http://127.0.0.1:7860": ["http://127.0.0.1:7860/", "HTTP://127.0.0.1:7860//", "http://127.0.0.1:07860"],
    "http://host": ["http://HOST/", "http://host:80", "http://host.", "http://host:"],
    "https://host/sd": ["https://host:443/sd/", "HTTPS://Host./sd"],
    "http://[::1]:7860": ["http://[0:0:0:0:0:0:0:1]:7860/"],
    "http://u:p%40@host:1": ["http://u:p%40@HOST:1/"],
}


@pytest.mark.parametrize(("address", "spellings"), ADDRESSES.items())
def test_spellings_of_an_address(address, spellings):
    for spelling in (address, *spellings):
        assert client.address(spelling) == address
    assert len({client.place(client.address(spelling)) for spelling in (address, *spellings)}) == 1


@pytest.mark.parametrize(
    "address",
    ["", "x", "127.0.0.1:7860", "http://", "http://[::1:7860", "http://h:99999", "http://h:0", "http://h:x", "ftp://h",
     "http://h/?token=secret", "http://h#secret", "http://h/ x", "http://h\n", "http://.", "http://h\udce9", "http://a..b",
     "http://h/\xe9", f"http://{'x' * 64}.de", "http://u:secret@[::1:7860", "http://u:sec/ret@h", "u:secret@h",
     "//u:secret@h", "http://u:secret@", "http://u:s@secret@h:x"],
)  # fmt: skip
def test_what_is_no_address_is_a_sentence_without_its_login(address, picture, tmp_path, capsys):
    for command in (
        ["upscale", str(picture), "--out", str(tmp_path / "x.png")],
        ["batch", str(tmp_path), str(tmp_path)],
    ):
        assert main([*command, f"--server={address}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("itermix: --server ")
        assert "is not possible. Allowed: an address such as http://127.0.0.1:7860" in said
        assert not any(part in said for part in ("secret", "sec/ret", "u:"))
        assert len(said.splitlines()) == 1
