"""Servers in the shape of a WebUI's API. As a program: three of them with the built-in model, each a process.

    python fake_webui.py LOG    prints a line "URL PID" for each; the second refuses pictures at random with HTTP 500

The names of the pictures that were made are appended to LOG, when the answer is out.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image

from itermix.settings import UpscaleSettings
from itermix.settings.infotext import written
from itermix.standalone.images import png, to_image, to_picture

Reply = tuple[int, Any]


def picture_answer(image: Image.Image, infotext: str) -> Reply:
    """As img2img answers with a picture."""
    data = base64.b64encode(png(image, infotext)).decode()
    return 200, {"images": [data], "info": json.dumps({"infotexts": [infotext]})}


def source_of(request: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(request["init_images"][0])))


def enlarged(request: dict[str, Any]) -> Reply:
    """The picture enlarged, without any model."""
    source = source_of(request)
    settings = UpscaleSettings(**request["script_args"][0])
    return picture_answer(source.resize(settings.target(*source.size)), infotext_of(request, settings))


def infotext_of(request: dict[str, Any], settings: UpscaleSettings) -> str:
    facts = {"Steps": request.get("steps", 50), "Seed": request.get("seed", -1), **written(settings)}
    return f"{request.get('prompt', '')}\n" + ", ".join(f"{key}: {value}" for key, value in facts.items())


class FakeWebUI:
    """A server on a free port of this machine.

    Attributes:
        reply: what it answers to an img2img request; may be changed while it runs.
        scripts: titles of its scripts, in small letters as WebUIs list them.
        replies: {path: what it answers there in the place of `reply`}.
        lists: {path: answer} of what else can be asked; other paths are not found, as in older WebUIs.
        asked: paths of the requests that asked for something.
        requests: what was posted to it.
        logins: the Authorization headers of all requests.
        answered: the prompts of requests whose answer is out.
    """

    def __init__(self, reply: Callable[[dict[str, Any]], Reply] = enlarged):
        self.reply = reply
        self.scripts = ["iterative mixing upscale"]
        self.lists: dict[str, Any] = {}
        self.replies: dict[str, Callable[[dict[str, Any]], Reply]] = {}
        self.asked: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.logins: list[str | None] = []
        self.answered: list[str] = []
        self.at_work = self.most_at_work = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.logins.append(self.headers["Authorization"])
                fake.asked.append(self.path)
                lists = {"/sdapi/v1/scripts": {"txt2img": [], "img2img": fake.scripts}, **fake.lists}
                content = lists.get(self.path)
                self.answer((404, {"detail": "Not Found"}) if content is None else (200, content))

            def do_POST(self) -> None:
                fake.at_work += 1
                fake.most_at_work = max(fake.most_at_work, fake.at_work)
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append(request)
                fake.logins.append(self.headers["Authorization"])
                reply = fake.replies.get(self.path, fake.reply)(request)
                fake.at_work -= 1
                self.answer(reply)
                if reply[0] == 200:
                    fake.answered.append(request.get("prompt", ""))

            def answer(self, reply: Reply) -> None:
                """The content as JSON, or bytes as they are."""
                status, content = reply
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: object) -> None:  # the client is gone, as some tests want it
                pass

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def start(self) -> FakeWebUI:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


def main(log: Path) -> None:
    import torch

    from itermix.standalone import network, upscaling

    torch.set_num_threads(1)
    model = upscaling.Model(network.Guided(network.load()), steps=2)

    def mixed(request: dict[str, Any]) -> Reply:
        settings = UpscaleSettings(**request["script_args"][0])
        picture = to_picture(source_of(request))[None]
        sources = upscaling.Sources("true", picture, torch.tensor([0]), request["seed"])
        size = settings.target(picture.shape[-1], picture.shape[-2])
        *_, result = upscaling.phases(model, upscaling.Method("batch", settings), sources, size)
        return picture_answer(to_image(result[0]), infotext_of(request, settings))

    chance = random.Random(1)

    def unreliable(request: dict[str, Any]) -> Reply:
        return (500, {"error": "OSError", "errors": "out of memory"}) if chance.random() < 0.3 else mixed(request)

    class Logged(list):
        def append(self, prompt: str) -> None:
            with log.open("a") as file:
                file.write(f"{prompt}\n")

    for reply in (mixed, unreliable, mixed):
        fake = FakeWebUI(reply)
        fake.answered = Logged()
        if pid := os.fork():
            print(fake.url, pid, flush=True)
            fake.http.server_close()
        else:
            fake.http.serve_forever()
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
