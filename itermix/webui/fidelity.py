"""Fidelity: decoded pictures get back what their means lack of the source's, before the WebUI goes on with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from modules import errors
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from itermix.mixing.filters import shrunk
from itermix.picture.fidelity import put_back
from itermix.webui import host, sides
from itermix.webui.job import Job, Wrapped, starts_from_nothing


def tensor_of(pictures: Sequence[Image.Image]) -> Tensor:
    """[B, 3, H, W] in [0, 1] of pictures of one size."""
    pixels = np.stack([np.asarray(picture.convert("RGB"), dtype=np.float32) / 255 for picture in pictures])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def keep_source(p: Any, job: Job) -> None:
    """Let the job of an img2img request keep the pictures that the WebUI encodes, unless it has others.

    That is the source at the size of the sampling, cut, filled and in a batch. The WebUI hands it on to what makes the
    conditioning of inpainting models, and keeps the latent alone.
    """
    Wrapped(p, "img2img_image_conditioning", job, kept)


def kept(p: Any, job: Job, original: Callable, pictures: Tensor, *args: Any, **kwargs: Any) -> Any:
    """`img2img_image_conditioning` of the request; `pictures` are in [-1, 1]."""
    if job.kept_to is None:
        job.kept_to = ((pictures.float() + 1) / 2).cpu()
    return original(pictures, *args, **kwargs)


def of_first_pass(p: Any, samples: Tensor | None, pictures: Tensor | None) -> Tensor:
    """The pictures [B, 3, H, W], in [0, 1], that a hires pass is made from, of its latents and of them in [-1, 1].

    The WebUI has decoded them, but not for latent upscalers: then they are decoded here, at the small size.
    """
    if pictures is None and p.firstpass_image is not None:
        return tensor_of([p.firstpass_image])
    if pictures is None:
        pictures = host.pictures_of(host.decoded(p, samples, None))
    return (pictures.clamp(-1, 1) + 1) / 2


def left_by_cut(p: Any, pictures: Tensor) -> Tensor:
    """What the current hires pass shows of pictures [B, 3, H, W] where it cuts what it has enlarged, at its size."""
    if not (p.truncate_x or p.truncate_y):
        return pictures
    width, height, side = p.hr_upscale_to_x, p.hr_upscale_to_y, sides.latent_pixels()
    rows = slice(p.truncate_y // 2 * side, height - (p.truncate_y + 1) // 2 * side)
    columns = slice(p.truncate_x // 2 * side, width - (p.truncate_x + 1) // 2 * side)
    return F.interpolate(pictures, (height, width), mode="bicubic")[..., rows, columns]


def correct_decoded(p: Any, job: Job, result: Any) -> Any:
    """What the WebUI's hires pass gives, decoded and about in [-1, 1], corrected if it is to be.

    If it fails it is given as it is, and a comment says so.
    """
    try:
        if corrects(p, job):
            pictures = (host.pictures_of(result).clamp(-1, 1) + 1) / 2
            return host.decoded(p, None, corrected(job, pictures) * 2 - 1)
    except Exception as error:
        tell(p, error)
    return result


def correct(p: Any, job: Job, pictures: Tensor) -> None:
    """Correct decoded pictures [B, 3, H, W], in [0, 1], in place, if they are to be.

    If it fails they stay as they are, and a comment says so.
    """
    try:
        if corrects(p, job):
            pictures.copy_(corrected(job, pictures))
    except Exception as error:
        tell(p, error)


def corrects(p: Any, job: Job) -> bool:
    """Whether the pictures of the sampling that has ended are corrected: not what mixing didn't finish, nor an
    inpainting that starts from latent noise or zeros, where there is no source to keep."""
    return job.finished and job.kept_to is not None and not starts_from_nothing(p)


def corrected(job: Job, pictures: Tensor) -> Tensor:
    """The pictures [B, 3, H, W] with the share of their source's means that the settings want, in [0, 1] as they are.

    The areas are what a latent pixel of the source's size covers.
    """
    settings = job.checked()
    assert job.kept_to is not None
    height, width = pictures.shape[-2:]
    scale = settings.held_scale
    if job.phase:
        scale = max(1.0, width / job.phase.first[0], height / job.phase.first[1])
    areas = [shrunk(side, sides.latent_pixels() * scale) for side in (height, width)]
    changed = pictures.clone()
    put_back(changed, job.kept_to, areas, settings.fidelity, job.weights, settings.seamless)
    return changed.clamp_(0, 1)


def tell(p: Any, error: Exception) -> None:
    errors.report("Iterative Mixing: fidelity failed; this is the picture before it", exc_info=True)
    host.note(p, "fidelity", f"it failed ({error}); this is the picture before it")
