"""A server in the shape of a WebUI whose model blurs a little: quick, always the same, and different for each way."""

import json

import numpy as np
from fake_webui import FakeWebUI, infotext_of, picture_answer, source_of
from PIL import Image, ImageFilter

from itermix.settings import UpscaleSettings

SIDE = 64
FEW = 4  # settings, as many as a test has time for
CHECKPOINT = {"name": "small.safetensors", "hash": "0123456789"}


def painted(request):
    """txt2img: blobs of the prompt's and the seed's own."""
    rng = np.random.default_rng([request["seed"], *request["prompt"].encode()])
    cells = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(cells).resize((request["width"], request["height"]), Image.Resampling.BICUBIC)
    facts = f"Steps: {request['steps']}, Sampler: Euler, CFG scale: 3.0, Seed: {request['seed']}, Version: v1.10.1"
    return picture_answer(image, f"{request['prompt']}\n{facts}")


def enlarged(request):
    """img2img: the source enlarged, the more changed the more of it is denoised."""
    source = source_of(request).convert("RGB")
    noise = np.random.default_rng(request["seed"])
    if "script_args" in request:
        settings = UpscaleSettings(**request["script_args"][0])
        size, strength, text = settings.target(*source.size), settings.denoise / 2, infotext_of(request, settings)
    else:
        size, strength, text = (request["width"], request["height"]), request["denoising_strength"], "Steps: 1, Seed: 1"
    image = source.resize(size, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(2 * strength))
    pixels = np.asarray(image, np.float32) + noise.normal(0, 20 * strength, (*image.size[::-1], 3))
    return picture_answer(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), f"{text}, Version: v1.10.1")


class Calibrated(FakeWebUI):
    """Attributes: kept: {preset: settings}; bound: {checkpoint: preset}."""

    def __init__(self):
        super().__init__(enlarged)
        self.kept, self.bound = {}, {}
        self.lists = {
            "/itermix/v1/facts": {"network": "U-Net", "checkpoint": CHECKPOINT, "side": SIDE},
            "/sdapi/v1/options": {"img2img_fix_steps": False},
        }
        self.replies = {
            "/sdapi/v1/txt2img": painted,
            "/itermix/v1/presets/save": self.save,
            "/itermix/v1/presets/bind": self.bind,
        }

    def save(self, request):
        self.requests.pop()
        self.kept[request["name"]] = request["settings"]
        return 200, {}

    def bind(self, request):
        self.requests.pop()
        self.bound[request["checkpoint"]] = request["name"]
        return 200, {}


def asked(server):
    """All requests for pictures, each as text."""
    return [json.dumps(request, sort_keys=True) for request in server.requests]
