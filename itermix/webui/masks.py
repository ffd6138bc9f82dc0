"""The mask of a request: a picture beside the settings, which no infotext, preset or plot carries."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from modules import processing
from PIL import Image, ImageFilter, ImageOps

from itermix.model import prompts
from itermix.parameters import SettingsError
from itermix.settings import Settings
from itermix.webui.limits import check_size

NAME = "mask"
"""In the dict of an API request."""

INPAINT = "inpaint"
"""In the place of a picture: the mask of inpainting, painted on the source of img2img."""

PLACE = len(Settings.parameters())
"""Among the values of the accordion's controls: behind the settings. After it comes whether to use the inpaint mask."""

ALLOWED = f"Allowed: a picture, in an API request base64 of its file, or {INPAINT}."


def without(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings alone of a dict of an API request: without the mask and the prompts of crops."""
    return {name: value for name, value in values.items() if name not in (NAME, prompts.NAME)}


def given(args: Sequence[Any], p: Any) -> Image.Image | None:
    """The mask in the arguments of a script, an API dict or the values of the accordion's controls; or in
    `p.itermix_settings`, which stands above them. Raises SettingsError for what is no picture.

    If that is the mask of inpainting, the request has none any more: all of its picture is sampled.
    """
    changes = getattr(p, "itermix_settings", None) or {}
    if NAME in changes:
        value = changes[NAME]
    elif args and isinstance(args[0], dict):
        value = args[0].get(NAME)
    else:
        own, painted = ([*args[PLACE : PLACE + 2], None, None])[:2]
        value = INPAINT if painted else own
    return of_inpainting(p) if value == INPAINT else picture(value)


def controls_without(args: Sequence[Any]) -> list[Any]:
    """The values of the settings' controls alone: without the mask's two and the list of presets behind them."""
    return [*args[:PLACE], *args[PLACE + 3 :]]


def preset_of(args: Sequence[Any]) -> Any:
    """What the list of presets shows; None where the values don't go so far."""
    return args[PLACE + 2] if len(args) > PLACE + 2 else None


def of_inpainting(p: Any) -> Image.Image:
    """What is not painted, white, for it is guided; taken from the request. Raises SettingsError if nothing is."""
    painted = getattr(p, "image_mask", None)
    if painted is None:
        raise SettingsError(NAME, INPAINT, "Allowed with a mask that is painted in the Inpaint tab of img2img.")
    p.image_mask = None
    values = processing.create_binary_mask(painted, round=False)  # of the alpha channel, but where that is all opaque
    if not p.inpainting_mask_invert:
        values = ImageOps.invert(values)
    return values.filter(ImageFilter.GaussianBlur(p.mask_blur_x)) if p.mask_blur_x else values


def picture(value: Any) -> Image.Image | None:
    """A mask as given: a Pillow image, base64 of a file, perhaps behind "data:image/png;base64,", or None for none."""
    if value is None or isinstance(value, Image.Image):
        return value
    if not isinstance(value, str):
        raise SettingsError(NAME, value, ALLOWED)
    try:
        image = Image.open(io.BytesIO(base64.b64decode(value.rpartition(",")[2], validate=True)))
        check_size(*image.size, name=NAME)
        return ImageOps.exif_transpose(image)
    except SettingsError:
        raise
    except Exception as error:  # Pillow's readers raise whatever comes up in broken data
        raise SettingsError(NAME, f"{len(value)} characters", ALLOWED) from error


def of_sampling(mask: Image.Image, p: Any) -> Image.Image:
    """The part of the mask that the sampling of `p` sees: where "only masked" inpainting makes a part of the picture,
    that part."""
    if not getattr(p, "paste_to", None):
        return mask
    left, top, width, height = p.paste_to
    return mask.resize(p.init_images[0].size).crop((left, top, left + width, top + height))
