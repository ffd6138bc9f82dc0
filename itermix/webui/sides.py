"""The sizes of pictures that the WebUI can make with its model."""

from __future__ import annotations

from typing import Any

from modules import processing, sd_models

from itermix.parameters import Known, SettingsError
from itermix.picture.phases import Size, plan
from itermix.settings import Settings, UpscaleSettings


def latent_pixels() -> int:
    """Pixels of the picture along one side of a latent pixel: 8, and what the model's autoencoder says in Forge Neo,
    such as 16 for Flux 2."""
    return processing.opt_f


def loaded_network() -> Any:
    """The network that takes the latents, of the model that is loaded; None if none is."""
    model: Any = sd_models.model_data.sd_model
    of_forge = getattr(getattr(model, "forge_objects", None), "unet", model)
    return getattr(getattr(of_forge, "model", None), "diffusion_model", None)


def trained_side() -> int | None:
    """Side of the pictures that the loaded model was trained for; None if none is loaded."""
    if loaded_network() is None:
        return None
    return 512 if getattr(sd_models.model_data.sd_model, "is_sd1", False) else 1024


def patch_pixels() -> int:
    """Pixels of the picture along one side of what the model takes for one: a patch of latent pixels in transformers,
    which go around the picture's edge for what is missing of the last. A U-Net's is one latent pixel."""
    network = loaded_network()
    patch = getattr(network, "patch_size", None) or getattr(network, "patch_spatial", None) or 1
    patch = patch[-1] if isinstance(patch, (list, tuple)) else patch
    return latent_pixels() * patch


def known() -> Known | None:
    """The pictures that the loaded model knows: of 512 px where it is a U-Net of Stable Diffusion 1 or 2, of 1024 px
    where it is SDXL's or a transformer. None if no model is loaded."""
    network = loaded_network()
    if network is None:
        return None
    small = hasattr(network, "input_blocks") and not getattr(sd_models.model_data.sd_model, "is_sdxl", False)
    return Known((512 if small else 1024) // latent_pixels(), latent_pixels())


def planned(settings: UpscaleSettings, width: int, height: int) -> list[Size]:
    """Sizes after each phase of the upscale script for a source of width x height.

    They are rounded down to what the model's patches cover. Raises SettingsError for a width or height that is
    wanted and can't be made.
    """
    multiple = patch_pixels()
    for name, side in (("width", settings.width), ("height", settings.height)):
        if side % multiple:
            raise SettingsError(name, side, f"Allowed with this model: a multiple of {multiple}.")
    across, down = (max(multiple, side // multiple * multiple) for side in settings.target(width, height))
    return plan(
        width, height, target=(across, down), max_scale_per_phase=settings.max_scale_per_phase, multiple=multiple
    )


def of_hires(p: Any, settings: Settings) -> list[Size]:
    """Sizes to which the phases of a hires pass enlarge; the last is the WebUI's own, which may be no multiple of
    anything, and of which the WebUI may cut a part."""
    multiple = patch_pixels()
    end = p.hr_upscale_to_x, p.hr_upscale_to_y
    width, height = (side // multiple * multiple for side in end)
    limit = settings.max_scale_per_phase
    sizes = plan(p.width, p.height, target=(width, height), max_scale_per_phase=limit, multiple=multiple)
    return [*sizes[:-1], end]


def planned_hires(settings: UpscaleSettings, width: int, height: int, resize: Size = (0, 0)) -> list[Size]:
    """Sizes of the pictures that the phases of a hires pass make of one of width x height: by the scale, or by
    "Resize to", as the WebUI itself reckons them."""
    p = processing.StableDiffusionProcessingTxt2Img(
        width=width,
        height=height,
        enable_hr=True,
        hr_scale=settings.scale,
        hr_resize_x=resize[0],
        hr_resize_y=resize[1],
    )
    p.calculate_target_resolution()
    *before, end = of_hires(p, settings)
    side = latent_pixels()
    across, down = (pixels // side - cut for pixels, cut in zip(end, (p.truncate_x, p.truncate_y)))
    return [*before, (across * side, down * side)]
