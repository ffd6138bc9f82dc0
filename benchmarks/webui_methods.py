"""What is asked of a WebUI's API by each way to enlarge a picture; `webui_quality.py` compares them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from PIL import Image

from itermix.settings import Settings, UpscaleSettings
from itermix.settings.presets import expanded
from itermix.standalone.options import values_of

SCHEDULE = "Karras"
STRENGTHS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Denoises of hires fix, from weak to strong."""

FIRST_PASS = {"sampler_name": "DPM++ 2M", "scheduler": SCHEDULE, "steps": 20}
"""Of every sample, whatever the second pass has, so that all methods enlarge the same picture."""

TILED = (("MultiDiffusion", 48, True), ("Mixture of Diffusers", 8, False))
"""Tiled Diffusion's methods: the name, how many latent pixels tiles of 96 overlap by, and whether all steps are run.
The first is as its page in txt2img has it, for a hires pass; the second as that in img2img has it."""

LATENT_UPSCALE = 3  # img2img's resize mode
LATENT_PIXEL = 8
DEFAULT = "default"
MIXING, SCRIPT = "mixing: ", "script: "
"""Before the settings in a method's name."""

Request = tuple[str, dict[str, Any]]
"""Path and payload of the API."""


@dataclass(frozen=True)
class Picture:
    """A source with what is known of it. `truths` are native renders by the scale, none of a sample. `soft`: whether a
    render is soft at its own pixels."""

    name: str
    prompt: str
    seed: int
    source: Image.Image
    truths: dict[int, Image.Image] = field(default_factory=dict)
    soft: bool = False

    @property
    def sampled(self) -> bool:
        return not self.truths


@dataclass(frozen=True)
class Run:
    """What the methods are compared at."""

    scale: int
    sampler: str
    steps: int
    cfg: float


Asking = Callable[[Picture, Run], Request]


@dataclass(frozen=True)
class Method:
    """A way to enlarge a picture; without a request it is Lanczos.

    Attributes:
        script: title, in small letters, of what the WebUI must have.
        renders_only: whether it is of no use for samples.
        own_source: whether what it makes of a sample starts with a picture of its own, the first that is answered.
    """

    name: str
    request: Asking | None = None
    script: str = ""
    renders_only: bool = False
    own_source: bool = False


def methods_of(mixings: Iterable[str]) -> list[Method]:
    """Everything that is compared. `mixings` are settings as in `itermix bench --mixing`, or DEFAULT.

    Raises SettingsError, UsageError: settings that can't be used.
    """
    found = [Method("Lanczos"), Method("truth through the autoencoder", round_trip, renders_only=True)]
    for text in mixings:
        settings = UpscaleSettings(**({} if text == DEFAULT else expanded(values_of(text))))
        found.append(Method(f"{MIXING}{text}", partial(mixing, settings), "iterative mixing"))
        found.append(Method(f"{SCRIPT}{text}", partial(upscale, settings, False), "iterative mixing upscale"))
    for upscaler in ("Lanczos", "Latent"):
        found += [
            Method(hires_name(strength, upscaler), partial(hires_fix, strength, upscaler)) for strength in STRENGTHS
        ]
    found += [Method(f"img2img {strength:g}", partial(img2img, strength)) for strength in (0.3, 0.5)]
    found.append(Method("Ultimate SD upscale", ultimate_upscale, "ultimate sd upscale"))
    for name, overlap, exact in TILED:
        asking = partial(tiled_diffusion, name, overlap, exact)
        found.append(Method(f"Tiled Diffusion, {name}", asking, "tiled diffusion"))
    found.append(Method("DemoFusion of Tiled Diffusion", demofusion, "demofusion", own_source=True))
    return found


def hires_name(denoise: float, upscaler: str = "Lanczos") -> str:
    return f"hires fix {denoise:g} {upscaler}"


def first_pass(picture: Picture, cfg: float) -> Request:
    """What makes a sample."""
    return "txt2img", _common(picture, Run(1, "", 0, cfg)) | FIRST_PASS


def img2img(denoise: float, picture: Picture, run: Run, exact: bool = False, **changes: Any) -> Request:
    """Of the source at the result's size, enlarged by the WebUI with Lanczos. `exact`: run all steps."""
    payload = _common(picture, run) | {
        "init_images": [encoded(picture.source)],
        "width": picture.source.width * run.scale,
        "height": picture.source.height * run.scale,
        "denoising_strength": denoise,
        "override_settings": {"img2img_fix_steps": exact, "upscaler_for_img2img": "None"},
    }
    return "img2img", payload | changes


def hires_fix(denoise: float, upscaler: str, picture: Picture, run: Run) -> Request:
    """The hires pass of a sample; of a render, which none takes, img2img that does the same."""
    if picture.sampled:
        return _hires_pass(denoise, upscaler, picture, run)
    mode: dict[str, Any] = {"resize_mode": LATENT_UPSCALE} if upscaler == "Latent" else {}
    return img2img(denoise, picture, run, exact=True, **mode)


def mixing(settings: UpscaleSettings, picture: Picture, run: Run) -> Request:
    """In the hires pass of a sample; a render by the upscale script with as many steps as a hires pass would run."""
    if not picture.sampled:
        return upscale(settings, True, picture, run)
    path, payload = _hires_pass(settings.denoise, settings.upscaler, picture, run)
    return path, payload | {"alwayson_scripts": {"Iterative Mixing": {"args": [_values(settings, Settings)]}}}


def upscale(settings: UpscaleSettings, exact: bool, picture: Picture, run: Run) -> Request:
    """By the upscale script. `exact`: run all steps, as a hires pass does."""
    args = [_values(settings.replace(scale=float(run.scale)), UpscaleSettings)]
    script: dict[str, Any] = {"script_name": "Iterative Mixing upscale", "script_args": args}
    return img2img(settings.denoise, picture, run, exact, **_size(picture), **script)


def ultimate_upscale(picture: Picture, run: Run) -> Request:
    """Its tiles are of the source's size, what the model knows; the rest as its page has it. By position:"""
    width, height = picture.source.size
    mask_blur, padding = 8, 32
    no_seams_fix = {"width": 64, "denoise": 0.35, "padding": 16, "save": False, "mask_blur": 4, "type": 0}
    no_upscaler, save, linear, scale_of_the_picture = 0, False, 0, 2  # without an upscaler it takes Lanczos
    args = ["", width, height, mask_blur, padding]
    args += [no_seams_fix[name] for name in ("width", "denoise", "padding")] + [no_upscaler, save, linear]
    args += [no_seams_fix[name] for name in ("save", "mask_blur", "type")]
    args += [scale_of_the_picture, 2048, 2048, run.scale]
    script: dict[str, Any] = {"script_name": "Ultimate SD upscale", "script_args": args}
    return img2img(0.35, picture, run, **_size(picture), **script)


def tiled_diffusion(method: str, overlap: int, exact: bool, picture: Picture, run: Run) -> Request:
    """At denoise 0.5, of what the WebUI enlarges. Tiles have one and a half times the side that the model knows, as 96
    latent pixels are for SD 1, and `overlap` is of these 96; the rest as its page has it. `exact`: run all steps."""
    known = picture.source.width // LATENT_PIXEL
    tile, batch = known * 3 // 2, 4
    overwrite_size, keep_size, unused_size = False, False, [1024, 1024]
    args = [True, method, overwrite_size, keep_size, *unused_size, tile, tile, overlap * tile // 96, batch]
    return img2img(0.5, picture, run, exact, alwayson_scripts={"tiled diffusion": {"args": args}})


def demofusion(picture: Picture, run: Run) -> Request:
    """Tiled Diffusion's, with windows of the model's own size, half overlapping; the rest as its page has it.

    From noise for samples, as it is meant to be used. A render it paints anew at its own size before it enlarges it.
    """
    window = picture.source.width // LATENT_PIXEL
    strength = 0.85
    no_inversion = [False, 10, 1.0, 1.0, 64]
    keep_size, control_on_cpu, jitter, gaussian, mixture = True, False, True, True, False
    cosines, sigma, batch = [3.0, 1.0, 1.0], 0.6, 4
    args = [True, "DemoFusion", keep_size, window, window // 2, batch, run.scale, *no_inversion, control_on_cpu, jitter]
    args += [*cosines, gaussian, strength, sigma, batch, mixture]
    if picture.sampled:
        path, payload = "txt2img", _common(picture, run)
    else:
        path, payload = img2img(strength, picture, run, **_size(picture))
    return path, payload | {"alwayson_scripts": {"demofusion": {"args": args}}}


def round_trip(picture: Picture, run: Run) -> Request:
    """The truth through the autoencoder: img2img without denoise, which starts at the lowest noise level there is."""
    changes: dict[str, Any] = {
        "sampler_name": "Euler",
        "steps": 20,
        "init_images": [encoded(picture.truths[run.scale])],
    }
    return img2img(0.0, picture, run, **changes)


def encoded(image: Image.Image) -> str:
    """As PNG in base64, always the same for the same pixels."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def _size(picture: Picture) -> dict[str, Any]:
    return {"width": picture.source.width, "height": picture.source.height}


def _common(picture: Picture, run: Run) -> dict[str, Any]:
    return _size(picture) | {
        "prompt": picture.prompt,
        "seed": picture.seed,
        "cfg_scale": run.cfg,
        "sampler_name": run.sampler,
        "scheduler": SCHEDULE,
        "steps": run.steps,
        "save_images": False,
    }


def _hires_pass(denoise: float, upscaler: str, picture: Picture, run: Run) -> Request:
    """With the first pass that made the sample."""
    path, payload = first_pass(picture, run.cfg)
    return path, payload | {
        "enable_hr": True,
        "hr_scale": run.scale,
        "hr_upscaler": upscaler,
        "hr_sampler_name": run.sampler,
        "hr_scheduler": SCHEDULE,
        "hr_second_pass_steps": run.steps,
        "denoising_strength": denoise,
    }


def _values(settings: Settings, kind: type[Settings]) -> dict[str, Any]:
    """All of them, defaults too: a changed default is then a changed request."""
    return {p.name: getattr(settings, p.name) for p in kind.parameters()} | {"enabled": True}
