"""The client of a WebUI, against a server that records the request and answers as told."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from PIL import Image

from itermix.settings import UpscaleSettings
from itermix.standalone import images, server
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
RESULT = images.png(Image.new("RGB", (16, 16), "red"), "made by a WebUI\nSteps: 3")


def answer_with(picture: bytes) -> str:
    return json.dumps({"images": [base64.b64encode(picture).decode()], "info": json.dumps({"infotexts": ["how"]})})


class WebUI:
    """What the server got, and what it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict]] = []
        self.status = 200
        self.body = answer_with(RESULT)
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                recorder.requests.append((self.path, json.loads(body)))
                self.send_response(recorder.status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(recorder.body.encode())

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
    result = server.upscale(webui.url + "/", picture, UpscaleSettings(scale=3.0, alpha=0.6), {"seed": 7})
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
        "script_args": [{"scale": 3.0, "alpha": 0.6}],
    }


def test_the_command_writes_the_png_with_its_infotext(webui, picture, tmp_path, capsys):
    out = tmp_path / "new" / "large.png"
    flags = ["--alpha", "0.6", "--prompt", "a photograph", "--steps", "9", "--picture-seed", "-1", "--sampler", "Euler"]
    assert main(["upscale", str(picture), "--out", str(out), "--server", webui.url, *flags]) == 0
    assert out.read_bytes() == RESULT
    request = webui.requests[0][1]
    assert request["script_args"] == [{"enabled": True, "alpha": 0.6}]
    assert [request[k] for k in ("prompt", "steps", "seed", "sampler_name")] == ["a photograph", 9, -1, "Euler"]
    assert capsys.readouterr().out.strip() == str(out)


def test_other_formats_become_png_with_the_infotext_of_the_answer(webui, picture):
    jpeg = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(jpeg, "JPEG")
    webui.body = answer_with(jpeg.getvalue())
    with Image.open(io.BytesIO(server.upscale(webui.url, picture, UpscaleSettings(), {}))) as image:
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
        (200, "<html>", "No WebUI answers"),
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
