"""What the tests ask a WebUI for."""

from functools import cache

import hosts
import pytest
import skimage.data
from PIL import Image

SIZE = 64
STEPS = 5


@cache
def photograph(size: int) -> Image.Image:
    """NASA's portrait of the astronaut Eileen Collins (public domain), the upper square, `size` pixels wide."""
    picture = Image.fromarray(skimage.data.astronaut())
    return picture.crop((64, 0, 384, 320)).resize((size, size), Image.Resampling.LANCZOS)


def request_for(sampler="Euler", **changes):
    """An img2img request for the photograph, small enough for a CPU."""
    return {
        "prompt": "a photograph",
        "init_images": [hosts.encoded(photograph(SIZE))],
        "sampler_name": sampler,
        "scheduler": "Karras",
        "steps": STEPS,
        "seed": 7,
        "cfg_scale": 2.0,
        "denoising_strength": 0.6,
        "width": SIZE,
        "height": SIZE,
        **changes,
    }


def need_sampler(webui, sampler):
    """Skip the test where the WebUI lacks the sampler, or has one that is refused (docs/samplers.md)."""
    if sampler not in [each["name"] for each in webui.get("samplers")]:
        pytest.skip(f"this WebUI has no {sampler}")
    if sampler == "UniPC" and webui.host.is_neo:
        pytest.skip("Forge Neo's UniPC is refused: test_samplers.py")


def need_refiner(webui, path):
    """Skip the test where the WebUI's refiner takes no part in hires fix."""
    if path == "txt2img" and webui.host.is_neo:
        pytest.skip("Forge Neo's refiner does not support hires fix, and says so")


def of_request(args):
    """The arguments of a script, with as many steps as the request says, if they are settings that name none."""
    return [{"steps": 0, **arg} if isinstance(arg, dict) else arg for arg in args]


def mixing(*args, sampler="Euler", **changes):
    """A request with the always-on script's arguments; see `of_request`."""
    return request_for(sampler, alwayson_scripts={"Iterative Mixing": {"args": of_request(args)}}, **changes)


def upscale(*args, sampler="Euler", **changes):
    """A request with the selectable script's arguments; see `of_request`."""
    return request_for(sampler, script_name="Iterative Mixing upscale", script_args=of_request(args), **changes)


def hires(settings, **changes):
    """A txt2img request with hires fix and the always-on script's settings. Forge's API wants its modules named.
    None enlarges by Lanczos, and is the only upscaler that all WebUIs have."""
    request = mixing(settings, hr_scale=2.0, hr_upscaler="None", hr_additional_modules=["Use same choices"])
    del request["init_images"]
    return {**request, "enable_hr": True, "denoising_strength": 0.4, **changes}


def needs(webui, upscaler):
    """Skip the test where the WebUI has no such upscaler; the script's Lanczos needs none."""
    if upscaler != "Lanczos" and not webui.offers(upscaler):
        pytest.skip(f"{webui.host.name} has no upscaler {upscaler}")


def mask(size=SIZE, left=SIZE // 2):
    """White, to be painted, right of `left`."""
    image = photograph(size).convert("L").point(lambda _: 0)
    image.paste(255, (left, 0, size, size))
    return image


# Hosts draw the encoder's posterior from torch's global generator, wherever the last request left it. A txt2img request
# leaves it where its seed says.
PRIMER = ("txt2img", {"prompt": "", "steps": 1, "seed": 1, "width": SIZE, "height": SIZE})
PLAIN = {
    "img2img": ("img2img", request_for()),
    "ancestral": ("img2img", request_for("Euler a")),
    "inpaint": ("img2img", request_for(mask=hosts.encoded(mask()), inpaint_full_res=False, inpainting_fill=1)),
    "hires": ("txt2img", {**hires({}), "alwayson_scripts": {}}),
    "txt2img": ("txt2img", {k: v for k, v in request_for().items() if k not in ("init_images", "denoising_strength")}),
}


def repeatable(webui, path, request):
    """The pictures of a request, the same whatever was asked for before."""
    webui.generate(*PRIMER)
    return webui.generate(path, request)


def plain(webui, name):
    """The pictures of a PLAIN request."""
    return repeatable(webui, *PLAIN[name])
