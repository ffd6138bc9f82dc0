"""The small latent model as a checkpoint that A1111 loads as it is: weights, a description beside them, a text encoder.

    python -m itermix.standalone.latent.export FOLDER --tokenizer DIR

The tokenizer is CLIP's own: `vocab.json` and `merges.txt` from any copy of openai/clip-vit-large-patch14. WebUIs have
one; Forge brings it in `backend/huggingface`. The class of the autoencoder is this package's, which a WebUI finds when
the extension is installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from itermix.parameters import SettingsError
from itermix.standalone.latent import text
from itermix.standalone.latent.model import BETAS, SCALE_FACTOR, SIZE, TIMESTEPS, WEIGHTS
from itermix.standalone.latent.unet import CONFIG

NAME = "itermix-latent"
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
TOKENIZER = ("vocab.json", "merges.txt")


def description(text_encoder: Path) -> dict:
    """What A1111 reads beside the checkpoint; `text_encoder` is the folder of its CLIP."""
    unet = {**CONFIG, "image_size": SIZE // 8, "use_spatial_transformer": True, "transformer_depth": 1}
    return {
        "model": {
            "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {
                "parameterization": "eps",
                "linear_start": BETAS[0],
                "linear_end": BETAS[1],
                "timesteps": TIMESTEPS,
                "num_timesteps_cond": 1,
                "first_stage_key": "jpg",
                "cond_stage_key": "txt",
                "image_size": SIZE // 8,
                "channels": 4,
                "cond_stage_trainable": False,
                "conditioning_key": "crossattn",
                "scale_factor": SCALE_FACTOR,
                "use_ema": False,
                "unet_config": {
                    "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                    "params": {**unet, "use_checkpoint": False, "legacy": False},
                },
                "first_stage_config": {
                    "target": "itermix.standalone.latent.autoencoder.Autoencoder",
                    "params": {"ddconfig": {}},  # which A1111 looks into
                },
                "cond_stage_config": {
                    "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
                    "params": {"version": str(text_encoder)},
                },
            },
        }
    }


def export(folder: Path, tokenizer: Path) -> Path:
    """Write the checkpoint, its description and the text encoder's folder; returns the checkpoint's file.

    Raises:
        SettingsError: `tokenizer` lacks one of `TOKENIZER`; nothing is written.
        OSError, which names the file: it can't be written.
    """
    if lacking := [name for name in TOKENIZER if not (tokenizer / name).is_file()]:
        raise SettingsError("tokenizer", str(tokenizer), f"Allowed: a folder that has {' and '.join(lacking)}, too.")
    text_encoder = (folder / f"{NAME}-clip").resolve()
    text_encoder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copyfile(tokenizer / name, text_encoder / name)
    (text_encoder / "config.json").write_text(json.dumps(text.CONFIG, indent=1))
    weights = load_file(WEIGHTS)
    weights |= {TEXT_PREFIX + name: tensor.half() for name, tensor in text.random_weights().items()}
    checkpoint = folder / f"{NAME}.safetensors"
    save_file(weights, checkpoint)
    # JSON is YAML, too.
    checkpoint.with_suffix(".yaml").write_text(json.dumps(description(text_encoder), indent=1))
    return checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the WebUI's checkpoints, such as models/Stable-diffusion")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="DIR", help="with vocab.json and merges.txt")
    given = parser.parse_args()
    try:
        print(export(given.folder, given.tokenizer))
    except (SettingsError, OSError) as error:
        parser.error(str(error).removeprefix("Iterative Mixing: "))


if __name__ == "__main__":
    main()
