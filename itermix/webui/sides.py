"""The sizes of pictures that the WebUI can make with its model."""

from __future__ import annotations

from typing import Any

from modules import processing, sd_models

from itermix.parameters import SettingsError
from itermix.picture.phases import Size, plan
from itermix.settings import UpscaleSettings


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


def planned(settings: UpscaleSettings, width: int, height: int, hires: bool = False) -> list[Size]:
    """Sizes after each phase of the upscale script, or in a hires pass, for a source of width x height.

    They are rounded down to what the model's patches cover. Raises SettingsError for a width or height that is
    wanted of the script and can't be made.
    """
    multiple = patch_pixels()
    for name, side in (("width", settings.width), ("height", settings.height)):
        if side % multiple and not hires:
            raise SettingsError(name, side, f"Allowed with this model: a multiple of {multiple}.")
    across, down = (max(multiple, side // multiple * multiple) for side in settings.target(width, height))
    return plan(
        width, height, target=(across, down), max_scale_per_phase=settings.max_scale_per_phase, multiple=multiple
    )
