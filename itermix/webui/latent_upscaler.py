"""The network that enlarges latents, from the user's own file in the models folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from modules import paths
from safetensors.torch import load_file
from torch import Tensor

from itermix.parameters import SettingsError
from itermix.picture.latent_upscaler import MAX_SCALE, LatentUpscaler, enlarged
from itermix.settings import Settings

NAME = "Latent (NN)"
KINDS = {"is_sd1": ("sd15_resizer", 0.18215), "is_sdxl": ("sdxl_resizer", 0.13025)}
"""{mark of the WebUI's on a model: name of the weights, what such a model multiplies its autoencoder's latents by}."""

SOURCE = "https://github.com/Ttl/ComfyUi_NNLatentUpscale"


def refusal(allowed: str) -> SettingsError:
    return SettingsError("upscaler", NAME, allowed)


def check(settings: Settings) -> None:
    """Raises SettingsError for phases that enlarge by more than the network can."""
    if settings.max_scale_per_phase > MAX_SCALE:
        allowed = f"Allowed with {NAME}: at most {MAX_SCALE:g}."
        raise SettingsError("max_scale_per_phase", settings.max_scale_per_phase, allowed)


def refuse_of_hires(settings: Settings) -> None:
    """Raises SettingsError in img2img, where there is no hires pass."""
    if settings.nn_upscaler:
        allowed = f"Allowed in img2img: false. The script Iterative Mixing upscale has the upscaler {NAME}."
        raise SettingsError("nn_upscaler", True, allowed)


def load(model: Any) -> tuple[LatentUpscaler, float]:
    """The network for the latents of this model, and what the model multiplies its autoencoder's latents by.

    Raises SettingsError for models of other kinds, and for a file that is missing or isn't such a network.
    """
    kind = next((kind for kind in KINDS if getattr(model, kind, False)), None)
    if kind is None:
        raise refusal("Allowed with models of Stable Diffusion 1 and XL.")
    name, factor = KINDS[kind]
    path = Path(paths.models_path) / "itermix" / f"{name}.pt"
    if not path.exists():
        path = path.with_suffix(".safetensors")
    if not path.exists():
        where = f"{path.with_suffix('.pt')} (or .safetensors) is there; {SOURCE} has it"
        raise refusal(f"Allowed with this model once {where}.")
    try:
        as_pickle = path.suffix == ".pt"
        state = torch.load(path, map_location="cpu", weights_only=True) if as_pickle else load_file(path)
        return LatentUpscaler(state), factor
    except Exception as error:  # unpickling alone has a dozen kinds
        raise refusal(f"{path} is not the file of that name from {SOURCE}.") from error


def enlarge(latents: Tensor, size: tuple[int, int], model: Any) -> Tensor:
    """Latents [B, C, h, w] of this model, enlarged to those of a picture of `size` (width, height) in pixels."""
    network, factor = load(model)
    width, height = size
    return enlarged(network.to(latents.device), latents, (height // 8, width // 8), factor)
