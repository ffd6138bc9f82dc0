"""Small models with flow matching for Forge Neo: its own classes with few layers and random weights.

Its checkpoints of these models can't be made small: it takes their widths and depths as given. So its engines are made
here, with its transformers, autoencoders and noise levels, and with random numbers for the text encoders, whose size is
that of the real ones. Nothing is known of a prompt but its characters.
"""

import math
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from unittest import mock

import torch
from backend import memory_management
from backend.args import dynamic_args
from backend.diffusion_engine.anima import Anima
from backend.diffusion_engine.chroma import Chroma
from backend.diffusion_engine.flux import Flux
from backend.diffusion_engine.flux2 import Flux2
from backend.diffusion_engine.qwen import QwenImage
from backend.diffusion_engine.zimage import ZImage
from backend.nn import anima, chroma, flux, lumina, qwen, vae, wan_vae
from backend.operations import using_forge_operations
from huggingface_guess import model_list
from modules import processing, sd_models, shared

DTYPE, CPU = torch.float32, torch.device("cpu")
WORDS, WIDTH = 8, 64  # of an encoded prompt
AXES = [16, 16, 16]  # of a head, in time, height and width
DIM = 96  # of two heads


def flux_transformer(**others):
    sizes = {"hidden_size": DIM, "num_heads": 2, "mlp_ratio": 2.0, "depth": 1, "depth_single_blocks": 1}
    config = {"in_channels": 16, "out_channels": 16, "patch_size": 2, "axes_dim": AXES, "theta": 10000}
    prompt = {"vec_in_dim": WIDTH, "context_in_dim": WIDTH, "guidance_embed": True, "qkv_bias": True}
    return flux.IntegratedFluxTransformer2DModel(**sizes, **{**config, **prompt, **others})


def klein_transformer():
    state = {"in_channels": 128, "out_channels": 128, "patch_size": 1, "axes_dim": [12] * 4, "theta": 2000}
    prompt = {"vec_in_dim": None, "guidance_embed": False, "txt_ids_dims": [3]}
    layers = {"qkv_bias": False, "ops_bias": False, "mlp_silu_act": True, "global_modulation": True}
    reference = {"default_ref_method": "index", "ref_index_scale": 10.0}
    return flux_transformer(**state, **prompt, **layers, **reference)


def chroma_transformer():
    sizes = {"hidden_size": DIM, "num_heads": 2, "mlp_ratio": 2.0, "depth": 1, "depth_single_blocks": 1}
    state = {"in_channels": 64, "out_channels": 64, "patch_size": 2, "axes_dim": AXES, "theta": 10000}
    prompt = {"context_in_dim": WIDTH, "vec_in_dim": None, "txt_ids_dims": [], "qkv_bias": True}
    guidance = {"in_dim": 64, "hidden_dim": 64, "out_dim": DIM, "n_layers": 1}
    return chroma.IntegratedChromaTransformer2DModel(**sizes, **state, **prompt, **guidance)


def z_image_transformer():
    sizes = {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2, "n_refiner_layers": 1, "multiple_of": 32}
    state = {"in_channels": 16, "axes_dims": [32, 48, 48], "axes_lens": [64] * 3, "rope_theta": 256.0, "qk_norm": True}
    others = {"cap_feat_dim": WIDTH, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32}
    return lumina.NextDiT(**sizes, **state, **others)


def qwen_transformer():
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": DIM // 2, "axes_dims_rope": AXES}
    return qwen.QwenImageTransformer2DModel(**sizes, joint_attention_dim=WIDTH)


def anima_transformer():
    sizes = {"model_channels": DIM, "num_heads": 2, "num_blocks": 2, "adaln_lora_dim": 16}
    state = {"in_channels": 16, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1}
    return anima.Anima(**sizes, **state, crossattn_emb_channels=WIDTH)


def autoencoder(kind=vae.IntegratedAutoencoderKL, channels=16):
    return kind(block_out_channels=(32,) * 4, latent_channels=channels, use_quant_conv=False, use_post_quant_conv=False)


def klein_autoencoder():
    return autoencoder(vae.AutoencoderKLFlux2, 32)


def frames_autoencoder():
    return wan_vae.WanVAE(base_dim=8, z_dim=16, num_res_blocks=1, temporal_downsample=[False, True, True])


@dataclass(frozen=True)
class Kind:
    """What makes a model: Forge Neo's engine, its guess, and what of it is made small."""

    engine: type
    guess: type
    transformer: Callable
    autoencoder: Callable = autoencoder
    edits: str = ""  # what its loader sets of `dynamic_args` if the file is of a model that edits


KINDS = {
    "flux": Kind(Flux, model_list.Flux, flux_transformer),
    "kontext": Kind(Flux, model_list.Flux, flux_transformer, edits="kontext"),
    "klein": Kind(Flux2, model_list.Flux2K4B, klein_transformer, klein_autoencoder, edits="klein"),
    "chroma": Kind(Chroma, model_list.Chroma, chroma_transformer),
    "z-image": Kind(ZImage, model_list.ZImage, z_image_transformer),
    "qwen": Kind(QwenImage, model_list.QwenImage, qwen_transformer, frames_autoencoder),
    "qwen-edit": Kind(QwenImage, model_list.QwenImage, qwen_transformer, frames_autoencoder, edits="edit"),
    "anima": Kind(Anima, model_list.Anima, anima_transformer, frames_autoencoder),
}


def with_weights(module, seed):
    """The module with random weights that keep deviations about as they are, and nothing added."""
    generator = torch.Generator().manual_seed(seed)
    for name, values in module.named_parameters():
        values.requires_grad_(False)
        if values.ndim > 1 and "gamma" not in name:
            values.copy_(torch.randn(values.shape, generator=generator) / math.sqrt(values[0].numel()))
        else:
            values.fill_(0.0 if name.endswith("bias") else 1.0)
    if (encoder := getattr(module, "encoder", None)) and hasattr(encoder, "conv_out"):  # the posterior is its mean
        last, channels = encoder.conv_out, len(encoder.conv_out.bias) // 2
        last.weight[channels:], last.bias[channels:] = 0.0, -30.0
    return module.to(CPU, DTYPE).eval()


def encoded(prompt, *shape):
    """Numbers [prompts, *shape] that each prompt alone decides."""
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(p.encode()))) for p in prompt]
    )


def stand_ins(engine):
    """What stands in for the text encoders in the module of an engine: {name there: function}."""

    def words(**_):
        return lambda prompt, images=(): encoded(prompt, WORDS + len(images), WIDTH)

    def pooled(**_):
        return lambda prompt: (None, encoded(prompt, WIDTH))

    parts = SimpleNamespace(patcher=None, cond_stage_model=mock.Mock(), tokenizer=mock.Mock(), clone=lambda: parts)
    encoders = [name for name in vars(sys.modules[engine.__module__]) if name.endswith("TextProcessingEngine")]
    made = {name: pooled if name.startswith("Classic") else words for name in encoders}
    return {"CLIP": lambda **_: parts, **made}


def model(kind):
    """One of Forge Neo's engines, with a small model of its own."""
    made = KINDS[kind]

    class Small(made.engine):
        def set_clip_skip(self, clip_skip):
            pass

        def get_learned_conditioning(self, prompt):
            with mock.patch.object(memory_management, "load_model_gpu"):  # there is no text encoder
                return super().get_learned_conditioning(prompt)

        def get_prompt_lengths_on_ui(self, prompt):
            return WORDS, WORDS

    with using_forge_operations(device=CPU, dtype=DTYPE):
        transformer, autoencoder = made.transformer(), made.autoencoder()
    with_weights(transformer, 1)
    with_weights(autoencoder, 2)
    transformer.storage_dtype = transformer.computation_dtype = DTYPE
    transformer.load_device = transformer.offload_device = transformer.initial_device = CPU
    guess = made.guess({})
    guess.model_type = guess.model_type({})  # as its loader leaves it
    text = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    parts = {"transformer": transformer, "vae": autoencoder, **dict.fromkeys(text)}
    with mock.patch.multiple(sys.modules[made.engine.__module__], **stand_ins(made.engine)):
        return Small(guess, parts)


def use(kind):
    """Make requests use a small model, or, for "none", load the checkpoint again."""
    loaded = sd_models.model_data.sd_model
    dynamic_args.reset()
    if kind == "none":
        sd_models.model_data.forge_hash = ""
        return
    if edits := KINDS[kind].edits:
        setattr(dynamic_args, edits, True)
    with torch.inference_mode():
        small = model(kind)
    for name in ("sd_checkpoint_info", "filename", "sd_model_hash"):
        setattr(small, name, getattr(loaded, name))
    small.extra_generation_params, small.comments = {}, []
    sd_models.model_data.set_sd_model(small)
    shared.sd_model = small
    ratio = small.forge_objects.vae.upscale_ratio
    processing.opt_f = ratio if isinstance(ratio, int) else 8
