"""The checkpoint that a WebUI has chosen, what it is known by, and of what kind it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modules import sd_models, shared


@dataclass(frozen=True)
class Checkpoint:
    """What a WebUI knows of a checkpoint: its name, and the hashes that it goes by, the surest first."""

    name: str
    hashes: tuple[str, ...]


def chosen(p: Any = None) -> Checkpoint:
    """The checkpoint that mixes in a request, or the one that the WebUI has chosen; without a name if there is none.

    Without hashing there is the WebUI's older hash alone.
    """
    names = [shared.opts.sd_model_checkpoint]
    names.insert(0, (getattr(p, "override_settings", None) or {}).get("sd_model_checkpoint"))
    if getattr(p, "enable_hr", False):  # no img2img has it
        names.insert(0, getattr(p, "hr_checkpoint_name", None))
    for name in names:
        if name and (info := sd_models.get_closet_checkpoint_match(name)):
            hashes = (getattr(info, kind, None) for kind in ("shorthash", "hash"))
            return Checkpoint(info.name_for_extra, tuple(each for each in hashes if each))
    return Checkpoint("", ())


def is_flow(model: Any) -> bool:
    """Whether the WebUI's model is one of flow matching: by Forge's predictor, and by what A1111's SD3 alone has."""
    if not hasattr(model, "forge_objects"):
        return hasattr(model, "add_noise_to_latent")
    predictor = getattr(model.forge_objects.unet.model, "predictor", None)
    return getattr(predictor, "prediction_type", None) == "const"
