"""Make a Stable Diffusion 1 checkpoint with seeded random weights, for tests in real hosts, or one like SDXL for A1111.

    python checkpoint.py OUT.safetensors --size tiny     # about 17 M parameters, for A1111
    python checkpoint.py OUT.safetensors --size sd15     # full size, for hosts that detect SD 1.5
    python checkpoint.py OUT.safetensors --size forge    # 37 M in the U-Net, the rest full size, for Forge

A host loads such a file as it would load any SD 1 checkpoint. The network does not denoise, so the pictures
are noise; but everything else is real: the numbers stay finite, the same request gives the same picture, and
the result depends on x, sigma, the prompt and the seed.

The tiny size keeps every key of the SD 1 layout and only makes the layers narrower. A1111 must be told so:
it reads the `.yaml` of the same name beside a checkpoint, which is written too. The `.yaml` names a folder
with the text encoder's `config.json` and tokenizer files, by an absolute path; that folder is made beside
the checkpoint if `--tokenizer` gives a folder to copy the tokenizer's files from (`vocab.json`, `merges.txt`).

Needs torch and safetensors (which wants numpy to save), nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer.text_model."
CLIP_OF_XL = "conditioner.embedders.0.transformer.text_model."
OPEN_CLIP = "conditioner.embedders.1.model."
OPEN_CLIP_ARCH, OPEN_CLIP_DIM, OPEN_CLIP_LAYERS = "ViT-S-32-alt", 256, 10  # its smallest
SIZE_DIMS = 6 * 256  # of what SDXL is told of the picture's sizes

LATENT_CHANNELS = 4
SCALE_FACTOR = 0.18215
VOCAB = 49408  # CLIP's byte-pair vocabulary
TOKENS = 77  # positions of one CLIP chunk
LOG_VARIANCE = -30.0  # of the encoder's posterior: hosts clamp at -30, so the deviation is exp(-15)
HINT_WIDTHS = (16, 16, 32, 32, 96, 96, 256)  # of a ControlNet's convolutions, from the picture to the latent's size
IMAGE_DIM, IMAGE_TOKENS = 1024, 4  # of an IP-Adapter: of a picture's embedding, and of the prompt it becomes
LATENT_DEVIATION = 5.0  # of unscaled latents, about 1 / SCALE_FACTOR as in a trained autoencoder
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Size:
    """What an SD 1 network's shapes depend on. All widths must be multiples of 32 (group norms)."""

    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (4, 2, 1)
    num_heads: int = 8
    text_dim: int = 768  # of the text encoder
    xl: bool = False  # as SDXL: with OpenCLIP as a second text encoder, and told of the picture's sizes

    vae_ch: int = 128
    vae_ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    vae_res_blocks: int = 2

    clip_layers: int = 12
    clip_heads: int = 12

    in_channels: int = LATENT_CHANNELS  # of the U-Net: the state's, and those of a picture or mask besides
    target: str = "ldm.models.diffusion.ddpm.LatentDiffusion"  # A1111's class
    parameterization: str = "eps"
    cond_stage_key: str = "txt"  # by which A1111 knows instruct-pix2pix
    unet_dtype: str = "float16"  # torch's name

    @property
    def context_dim(self) -> int:
        """Width of what the U-Net's attentions get of the prompt."""
        return self.text_dim + OPEN_CLIP_DIM * self.xl

    @property
    def clip(self) -> str:
        """What the keys of the text encoder begin with."""
        return CLIP_OF_XL if self.xl else CLIP


SIZES = {
    "sd15": Size(),
    "tiny": Size(model_channels=32, text_dim=64, vae_ch=32, clip_layers=2, clip_heads=4),
    # What an unpatched Forge still takes for SD 1.5: it derives the U-Net's levels, blocks and attention from the
    # keys, but wants this base width and context, and a text encoder and autoencoder of the full size.
    "forge": Size(channel_mult=(1, 1), num_res_blocks=1, attention_resolutions=(2,)),
}


KINDS = {
    "v-prediction": {"parameterization": "v"},
    "inpainting": {"in_channels": 9, "target": "ldm.models.diffusion.ddpm.LatentInpaintDiffusion"},
    "pix2pix": {
        "in_channels": 8,
        "target": "modules.models.diffusion.ddpm_edit.LatentDiffusion",
        "cond_stage_key": "edit",
    },
    "fp8": {"unet_dtype": "float8_e4m3fn"},
    "sdxl": {"xl": True},
}
"""What is other about a checkpoint of this kind: {name: fields of `Size`}."""
UNKNOWN_TO_FORGE = ("pix2pix", "sdxl")
"""Those that Forge and its kin don't load, or in their full size only."""


class _Shapes(dict):
    """{key: shape}, filled by layer."""

    def conv(self, key: str, cin: int, cout: int, kernel: int = 3) -> None:
        self[f"{key}.weight"] = (cout, cin, kernel, kernel)
        self[f"{key}.bias"] = (cout,)

    def linear(self, key: str, cin: int, cout: int, bias: bool = True) -> None:
        self[f"{key}.weight"] = (cout, cin)
        if bias:
            self[f"{key}.bias"] = (cout,)

    def norm(self, key: str, channels: int) -> None:
        self[f"{key}.weight"] = (channels,)
        self[f"{key}.bias"] = (channels,)


def controlnet_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """The keys of a ControlNet for this U-Net: a copy of its first half, the hint's convolutions, and the way out."""
    parts = ("time_embed.", "input_blocks.", "middle_block.")
    out = _Shapes({key: shape for key, shape in unet_shapes(size).items() if key.startswith(parts)})
    widths = [size.model_channels]
    for level, mult in enumerate(size.channel_mult):
        downsampled = level != len(size.channel_mult) - 1
        widths += [size.model_channels * mult] * (size.num_res_blocks + downsampled)
    for block, width in enumerate(widths):
        out.conv(f"zero_convs.{block}.0", width, width, 1)
    out.conv("middle_block_out.0", widths[-1], widths[-1], 1)
    hint = (3, *HINT_WIDTHS, size.model_channels)
    for layer, (cin, cout) in enumerate(itertools.pairwise(hint)):
        out.conv(f"input_hint_block.{2 * layer}", cin, cout)
    return dict(out)


def ip_adapter_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """The keys of an IP-Adapter for the standard U-Net's attentions, as they are numbered: down, up, middle."""
    out = _Shapes()
    out.linear("image_proj.proj", IMAGE_DIM, IMAGE_TOKENS * size.context_dim)
    out.norm("image_proj.norm", size.context_dim)
    keys = [key for key in unet_shapes(size) if key.endswith("attn2.to_k.weight")]
    order = ("input_blocks.", "output_blocks.", "middle_block.")
    for number, key in enumerate(sorted(keys, key=lambda key: [key.startswith(part) for part in order].index(True))):
        for name in ("to_k_ip", "to_v_ip"):
            out[f"ip_adapter.{2 * number + 1}.{name}.weight"] = unet_shapes(size)[key]
    return dict(out)


def unet_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """The U-Net's keys: input blocks down, a middle, output blocks up with skip connections."""
    out = _Shapes()
    base = size.model_channels
    embed = base * 4

    def res_block(key: str, cin: int, cout: int) -> None:
        out.norm(f"{key}.in_layers.0", cin)
        out.conv(f"{key}.in_layers.2", cin, cout)
        out.linear(f"{key}.emb_layers.1", embed, cout)
        out.norm(f"{key}.out_layers.0", cout)
        out.conv(f"{key}.out_layers.3", cout, cout)
        if cin != cout:
            out.conv(f"{key}.skip_connection", cin, cout, 1)

    def transformer(key: str, width: int) -> None:
        out.norm(f"{key}.norm", width)
        out.conv(f"{key}.proj_in", width, width, 1)
        block = f"{key}.transformer_blocks.0"
        for name, context in (("attn1", width), ("attn2", size.context_dim)):
            out.linear(f"{block}.{name}.to_q", width, width, bias=False)
            out.linear(f"{block}.{name}.to_k", context, width, bias=False)
            out.linear(f"{block}.{name}.to_v", context, width, bias=False)
            out.linear(f"{block}.{name}.to_out.0", width, width)
        out.linear(f"{block}.ff.net.0.proj", width, width * 8)  # gated: twice the hidden width of 4
        out.linear(f"{block}.ff.net.2", width * 4, width)
        for name in ("norm1", "norm2", "norm3"):
            out.norm(f"{block}.{name}", width)
        out.conv(f"{key}.proj_out", width, width, 1)

    out.linear("time_embed.0", base, embed)
    out.linear("time_embed.2", embed, embed)
    if size.xl:
        out.linear("label_emb.0.0", OPEN_CLIP_DIM + SIZE_DIMS, embed)
        out.linear("label_emb.0.2", embed, embed)

    out.conv("input_blocks.0.0", size.in_channels, base)
    skips = [base]
    width, down, index = base, 1, 1
    last = len(size.channel_mult) - 1
    for level, mult in enumerate(size.channel_mult):
        for _ in range(size.num_res_blocks):
            res_block(f"input_blocks.{index}.0", width, base * mult)
            width = base * mult
            if down in size.attention_resolutions:
                transformer(f"input_blocks.{index}.1", width)
            skips.append(width)
            index += 1
        if level != last:
            out.conv(f"input_blocks.{index}.0.op", width, width)
            skips.append(width)
            index += 1
            down *= 2

    res_block("middle_block.0", width, width)
    transformer("middle_block.1", width)
    res_block("middle_block.2", width, width)

    index = 0
    for level in range(last, -1, -1):
        for i in range(size.num_res_blocks + 1):
            res_block(f"output_blocks.{index}.0", width + skips.pop(), base * size.channel_mult[level])
            width = base * size.channel_mult[level]
            part = 1
            if down in size.attention_resolutions:
                transformer(f"output_blocks.{index}.{part}", width)
                part += 1
            if level != 0 and i == size.num_res_blocks:
                out.conv(f"output_blocks.{index}.{part}.conv", width, width)
                down //= 2
            index += 1

    out.norm("out.0", base)
    out.conv("out.2", base, LATENT_CHANNELS)
    return dict(out)


def vae_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """The autoencoder's keys: encoder, decoder and the 1x1 convolutions around the latent."""
    out = _Shapes()
    widths = [size.vae_ch * mult for mult in size.vae_ch_mult]
    last = len(widths) - 1

    def res_block(key: str, cin: int, cout: int) -> None:
        out.norm(f"{key}.norm1", cin)
        out.conv(f"{key}.conv1", cin, cout)
        out.norm(f"{key}.norm2", cout)
        out.conv(f"{key}.conv2", cout, cout)
        if cin != cout:
            out.conv(f"{key}.nin_shortcut", cin, cout, 1)

    def middle(key: str, width: int) -> None:
        res_block(f"{key}.block_1", width, width)
        out.norm(f"{key}.attn_1.norm", width)
        for name in ("q", "k", "v", "proj_out"):
            out.conv(f"{key}.attn_1.{name}", width, width, 1)
        res_block(f"{key}.block_2", width, width)

    out.conv("encoder.conv_in", 3, size.vae_ch)
    width = size.vae_ch
    for level, target in enumerate(widths):
        for block in range(size.vae_res_blocks):
            res_block(f"encoder.down.{level}.block.{block}", width, target)
            width = target
        if level != last:
            out.conv(f"encoder.down.{level}.downsample.conv", width, width)
    middle("encoder.mid", width)
    out.norm("encoder.norm_out", width)
    out.conv("encoder.conv_out", width, LATENT_CHANNELS * 2)  # mean and log-variance

    out.conv("decoder.conv_in", LATENT_CHANNELS, width)
    middle("decoder.mid", width)
    for level in range(last, -1, -1):
        for block in range(size.vae_res_blocks + 1):
            res_block(f"decoder.up.{level}.block.{block}", width, widths[level])
            width = widths[level]
        if level != 0:
            out.conv(f"decoder.up.{level}.upsample.conv", width, width)
    out.norm("decoder.norm_out", width)
    out.conv("decoder.conv_out", width, 3)

    out.conv("quant_conv", LATENT_CHANNELS * 2, LATENT_CHANNELS * 2, 1)
    out.conv("post_quant_conv", LATENT_CHANNELS, LATENT_CHANNELS, 1)
    return dict(out)


def clip_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """The CLIP text encoder's keys."""
    out = _Shapes()
    width = size.text_dim
    out["embeddings.position_ids"] = (1, TOKENS)
    out["embeddings.token_embedding.weight"] = (VOCAB, width)
    out["embeddings.position_embedding.weight"] = (TOKENS, width)
    for layer in range(size.clip_layers):
        key = f"encoder.layers.{layer}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            out.linear(f"{key}.self_attn.{name}", width, width)
        out.norm(f"{key}.layer_norm1", width)
        out.linear(f"{key}.mlp.fc1", width, width * 4)
        out.linear(f"{key}.mlp.fc2", width * 4, width)
        out.norm(f"{key}.layer_norm2", width)
    out.norm("final_layer_norm", width)
    return dict(out)


def open_clip_shapes() -> dict[str, tuple[int, ...]]:
    """The keys of the text half of OpenCLIP's smallest."""
    out = _Shapes()
    width = OPEN_CLIP_DIM
    out["token_embedding.weight"] = (VOCAB, width)
    out["positional_embedding"] = (TOKENS, width)
    out["text_projection"] = (width, width)
    out["logit_scale"] = ()
    for layer in range(OPEN_CLIP_LAYERS):
        key = f"transformer.resblocks.{layer}"
        out.norm(f"{key}.ln_1", width)
        out[f"{key}.attn.in_proj_weight"] = (3 * width, width)
        out[f"{key}.attn.in_proj_bias"] = (3 * width,)
        out.linear(f"{key}.attn.out_proj", width, width)
        out.norm(f"{key}.ln_2", width)
        out.linear(f"{key}.mlp.c_fc", width, width * 4)
        out.linear(f"{key}.mlp.c_proj", width * 4, width)
    out.norm("ln_final", width)
    return dict(out)


def checkpoint_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """{key: shape} of the whole checkpoint."""
    parts = [(UNET, unet_shapes(size)), (VAE, vae_shapes(size)), (size.clip, clip_shapes(size))]
    if size.xl:
        parts.append((OPEN_CLIP, open_clip_shapes()))
    return {prefix + key: shape for prefix, shapes in parts for key, shape in shapes.items()}


def _is_norm(key: str) -> bool:
    """Whether a one-dimensional `.weight` belongs to a norm: in this layout all of them do."""
    return key.endswith(".weight")


def random_state_dict(size: Size, seed: int = 0) -> dict:
    """Seeded random weights: a key's values depend on the seed, the key and its shape alone.

    Every layer keeps about the deviation of its input (1 / sqrt(fan-in)), so that activations stay finite at
    any depth and also in half precision. Norms are 1, biases 0. No layer is zeroed, the U-Net's output
    convolution included, so the prediction depends on x, sigma and the prompt.
    """
    import torch

    unet = getattr(torch, size.unet_dtype)
    state = {
        key: random_values(key, shape, seed).to(unet if key.startswith(UNET) else torch.float16)
        for key, shape in checkpoint_shapes(size).items()
    }
    state[f"{size.clip}embeddings.position_ids"] = torch.arange(TOKENS, dtype=torch.int64).reshape(1, TOKENS)

    # A1111's prompt emphasis divides by the mean of the text encoding, which a final norm without bias makes 0.
    state[f"{size.clip}final_layer_norm.bias"].fill_(0.1)
    # The posterior is all but its mean: no row of the weights reaches the log-variance.
    state[f"{VAE}quant_conv.weight"][LATENT_CHANNELS:] = 0.0
    state[f"{VAE}quant_conv.bias"][LATENT_CHANNELS:] = LOG_VARIANCE
    return state


def random_values(key: str, shape: tuple[int, ...], seed: int = 0):
    """Of one tensor."""
    import torch

    if len(shape) == 1:
        return torch.full(shape, 1.0 if _is_norm(key) else 0.0)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{key}".encode()))
    fan_in = 1 if "_embedding." in key else math.prod(shape[1:])
    return torch.randn(shape, generator=generator).mul_(_gain(key) / math.sqrt(fan_in))


def _gain(key: str) -> float:
    """The deviation of a layer's output for an input of deviation 1."""
    if key == f"{VAE}quant_conv.weight":
        return LATENT_DEVIATION
    if key == f"{VAE}post_quant_conv.weight":
        return 1.0 / LATENT_DEVIATION
    if key == f"{VAE}decoder.conv_out.weight":
        return 0.7  # keeps most pixels away from black and white
    return 1.0


def vae_yaml(size: Size) -> str:
    """Of both descriptions below: what the autoencoder is made with."""
    return f"""\
      params:
        embed_dim: {LATENT_CHANNELS}
        ddconfig:
          double_z: true
          z_channels: {LATENT_CHANNELS}
          resolution: 256
          in_channels: 3
          out_ch: 3
          ch: {size.vae_ch}
          ch_mult: {list(size.vae_ch_mult)}
          num_res_blocks: {size.vae_res_blocks}
          attn_resolutions: []
          dropout: 0.0
        lossconfig:
          target: torch.nn.Identity"""


def a1111_yaml(size: Size, clip_folder: str | Path) -> str:
    """The model description that A1111 reads from beside the checkpoint."""
    if size.xl:
        return xl_yaml(size, clip_folder)
    inpainting = "\n    finetune_keys: null" if size.target.endswith("LatentInpaintDiffusion") else ""
    return f"""\
model:
  target: {size.target}
  params:
    parameterization: {size.parameterization}{inpainting}
    linear_start: 0.00085
    linear_end: 0.0120
    num_timesteps_cond: 1
    timesteps: 1000
    first_stage_key: jpg
    cond_stage_key: {size.cond_stage_key}
    image_size: 64
    channels: {LATENT_CHANNELS}
    cond_stage_trainable: false
    conditioning_key: {"crossattn" if size.in_channels == LATENT_CHANNELS else "hybrid"}
    scale_factor: {SCALE_FACTOR}
    use_ema: false
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 32
        in_channels: {size.in_channels}
        out_channels: {LATENT_CHANNELS}
        model_channels: {size.model_channels}
        attention_resolutions: {list(size.attention_resolutions)}
        num_res_blocks: {size.num_res_blocks}
        channel_mult: {list(size.channel_mult)}
        num_heads: {size.num_heads}
        use_spatial_transformer: true
        transformer_depth: 1
        context_dim: {size.context_dim}
        use_checkpoint: false
        legacy: false
    first_stage_config:
      target: ldm.models.autoencoder.AutoencoderKL
{vae_yaml(size)}
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
      params:
        version: {json.dumps(str(clip_folder))}
"""


def xl_yaml(size: Size, clip_folder: str | Path) -> str:
    """The same of a model like SDXL."""
    sizes = "".join(
        f"""
          - is_trainable: false
            input_key: {name}
            target: sgm.modules.encoders.modules.ConcatTimestepEmbedderND
            params:
              outdim: 256"""
        for name in ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
    )
    return f"""\
model:
  target: sgm.models.diffusion.DiffusionEngine
  params:
    scale_factor: {SCALE_FACTOR}
    disable_first_stage_autocast: true
    denoiser_config:
      target: sgm.modules.diffusionmodules.denoiser.DiscreteDenoiser
      params:
        num_idx: 1000
        weighting_config:
          target: sgm.modules.diffusionmodules.denoiser_weighting.EpsWeighting
        scaling_config:
          target: sgm.modules.diffusionmodules.denoiser_scaling.EpsScaling
        discretization_config:
          target: sgm.modules.diffusionmodules.discretizer.LegacyDDPMDiscretization
    network_config:
      target: sgm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        adm_in_channels: {OPEN_CLIP_DIM + SIZE_DIMS}
        num_classes: sequential
        use_checkpoint: false
        in_channels: {size.in_channels}
        out_channels: {LATENT_CHANNELS}
        model_channels: {size.model_channels}
        attention_resolutions: {list(size.attention_resolutions)}
        num_res_blocks: {size.num_res_blocks}
        channel_mult: {list(size.channel_mult)}
        num_heads: {size.num_heads}
        use_spatial_transformer: true
        transformer_depth: 1
        context_dim: {size.context_dim}
        legacy: false
    conditioner_config:
      target: sgm.modules.GeneralConditioner
      params:
        emb_models:
          - is_trainable: false
            input_key: txt
            target: sgm.modules.encoders.modules.FrozenCLIPEmbedder
            params:
              version: {json.dumps(str(clip_folder))}
              layer: hidden
              layer_idx: {size.clip_layers - 1}
          - is_trainable: false
            input_key: txt
            target: sgm.modules.encoders.modules.FrozenOpenCLIPEmbedder2
            params:
              arch: {OPEN_CLIP_ARCH}
              version: null
              freeze: true
              layer: penultimate
              always_return_pooled: true
              legacy: false{sizes}
    first_stage_config:
      target: sgm.models.autoencoder.AutoencoderKLInferenceWrapper
{vae_yaml(size)}
"""


def clip_config(size: Size) -> dict:
    """The `config.json` of the text encoder, as the transformers library reads it."""
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_act": "quick_gelu",
        "hidden_size": size.text_dim,
        "intermediate_size": size.text_dim * 4,
        "num_attention_heads": size.clip_heads,
        "num_hidden_layers": size.clip_layers,
        "max_position_embeddings": TOKENS,
        "projection_dim": size.text_dim,
        "vocab_size": VOCAB,
        "layer_norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 2,  # means "the highest id" to the transformers library, as in SD 1.5's own config
        "pad_token_id": 1,
        "torch_dtype": "float32",
    }


def write_clip_folder(folder: str | Path, size: Size, tokenizer: str | Path) -> None:
    """A folder as transformers' `from_pretrained` wants it, with the tokenizer's files copied from another."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(clip_config(size), indent=2) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        source = Path(tokenizer) / name
        if source.exists():
            shutil.copyfile(source, folder / name)


def write_checkpoint(
    path: str | Path, size: Size, seed: int = 0, clip_folder: str | Path | None = None, yaml: bool = True
) -> None:
    """Write the fp16 checkpoint and, unless `yaml` is off, A1111's description of it beside it."""
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(random_state_dict(size, seed), str(path), metadata={"format": "pt"})
    if yaml:
        clip_folder = clip_folder or default_clip_folder(path)
        path.with_suffix(".yaml").write_text(a1111_yaml(size, clip_folder), encoding="utf-8")


def write_lora(path: str | Path, size: Size, rank: int = 2) -> None:
    """Write a LoRA with random weights for the queries of the U-Net's attentions, strong enough to be seen."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in unet_shapes(size).items():
        if key.endswith("to_q.weight"):
            name = "lora_unet_" + key.removesuffix(".weight").replace(".", "_")
            state[f"{name}.alpha"] = torch.tensor(float(rank))
            state[f"{name}.lora_down.weight"] = torch.randn(rank, shape[1], generator=generator)
            state[f"{name}.lora_up.weight"] = torch.randn(shape[0], rank, generator=generator)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, str(path), metadata={"format": "pt"})


def write_control_model(path: str | Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write a ControlNet or an IP-Adapter with random weights."""
    import torch
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: random_values(key, shape).to(torch.float16) for key, shape in shapes.items()}
    save_file(state, str(path), metadata={"format": "pt"})


def default_clip_folder(path: str | Path) -> Path:
    path = Path(path).resolve()
    return path.with_name(path.stem + "-clip")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make an SD 1 checkpoint with random weights.")
    parser.add_argument("out", metavar="OUT.safetensors", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clip-folder", type=Path, help="text encoder's folder (default: OUT-clip)")
    parser.add_argument("--tokenizer", type=Path, help="make that folder, with the tokenizer's files from here")
    args = parser.parse_args(argv)

    size = SIZES[args.size]
    custom = size != Size()  # the standard size needs no description
    clip_folder = (args.clip_folder or default_clip_folder(args.out)).absolute()
    write_checkpoint(args.out, size, args.seed, clip_folder, yaml=custom)
    if custom and args.tokenizer:
        write_clip_folder(clip_folder, size, args.tokenizer)
    shapes = checkpoint_shapes(size)
    print(f"{args.out}: {len(shapes)} tensors, {sum(math.prod(s) for s in shapes.values()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
