"""`itermix calibrate` on the built-in model that paints pixels, without a WebUI.

    python benchmarks/calibrate_built_in.py --out out/calibrate-built-in

A server in the shape of a WebUI's API runs the model. OUT/calibrated gets what the command writes, and
docs/calibrated.md has the report.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from itermix.settings import UpscaleSettings
from itermix.standalone import network, upscaling
from itermix.standalone.cli import main as itermix
from itermix.standalone.images import png, to_image, to_picture
from itermix.standalone.upscaling import Method, Model, Sources

STEPS, SEED = 16, 100_000
LISTS: dict[str, Any] = {
    "/sdapi/v1/scripts": {"img2img": ["iterative mixing upscale"]},
    "/sdapi/v1/options": {"img2img_fix_steps": True},  # so the steps of hires fix come as they are run
    "/itermix/v1/facts": {
        "network": "pixels",
        "checkpoint": {"name": "the built-in model", "hash": "builtin"},
        "side": network.RESOLUTION,
    },
}


def enlarged(denoiser: torch.nn.Module, request: dict[str, Any]) -> Image.Image:
    """The picture of an img2img request: of the upscale script, or hires fix of an enlarged picture."""
    picture = to_picture(Image.open(io.BytesIO(base64.b64decode(request["init_images"][0]))))[None]
    model = Model(denoiser, steps=request["steps"])
    labels = torch.tensor([int(request["prompt"])])
    sources = Sources("true", picture, labels, request["seed"])
    if "script_args" in request:
        settings = UpscaleSettings(**request["script_args"][0])
        size = settings.target(*picture.shape[:1:-1])
        *_, result = upscaling.phases(model, Method("calibrate", settings), sources, size)
    else:
        result = upscaling.hires_fix(model, picture, labels, request["denoising_strength"], request["seed"])
    return to_image(result[0])


def server(denoiser: torch.nn.Module) -> ThreadingHTTPServer:
    """On a free port of this machine; one picture at a time."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(LISTS.get(self.path))

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            infotext = f"Steps: {request['steps']}, Seed: {request['seed']}, Version: none"
            with lock:
                data = png(enlarged(denoiser, request), infotext)
            self.answer({"images": [base64.b64encode(data).decode()], "info": json.dumps({"infotexts": [infotext]})})

        def answer(self, content: Any) -> None:
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"detail": "Not Found"} if content is None else content).encode())

        def log_message(self, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def write_sources(folder: Path, count: int) -> None:
    """True renders, each with its label for a prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    some = upscaling.true_sources(count, SEED)
    for k, (picture, label) in enumerate(zip(some.pictures, some.labels)):
        how = f"Steps: {STEPS}, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 1.0, Seed: {SEED + k}"
        (folder / f"{k:02d}.png").write_bytes(png(to_image(picture), f"{int(label)}\n{how}"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--budget", type=int, default=5, help="minutes")
    given = parser.parse_args()
    write_sources(given.out / "pictures", given.pictures)
    http = server(network.Guided(network.load()))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    command = ["calibrate", "--server", f"http://127.0.0.1:{http.server_port}", "--budget", str(given.budget)]
    return itermix([*command, "--pictures", str(given.out / "pictures"), "--out", str(given.out / "calibrated")])


if __name__ == "__main__":
    raise SystemExit(main())
