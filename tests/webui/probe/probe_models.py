"""Small models of kinds whose checkpoints Forge and Forge Neo won't load in a small size.

They take the widths and depths of such models as given. So their engines are made here, with their own classes of
networks in few layers, with random weights, and random numbers for the text encoders, whose size is that of the real
ones. Nothing is known of a prompt but its characters.
"""

import math
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from backend import memory_management
from backend.args import dynamic_args
from backend.nn import vae
from diffusers import EulerDiscreteScheduler
from huggingface_guess import model_list
from modules import processing, sd_models, shared

NEO = hasattr(dynamic_args, "reset")
DTYPE, CPU = torch.float32, torch.device("cpu")
WORDS, WIDTH = 8, 64  # of an encoded prompt
AXES = [16, 16, 16]  # of a head, in time, height and width
DIM = 96  # of two heads


def network(name):
    """The WebUI's module of this network; not every WebUI has all."""
    return import_module(f"backend.nn.{name}")


def flux_transformer(**others):
    sizes = {"hidden_size": DIM, "num_heads": 2, "mlp_ratio": 2.0, "depth": 1, "depth_single_blocks": 1}
    config = {"in_channels": 16, "out_channels": 16, "patch_size": 2, "axes_dim": AXES, "theta": 10000}
    prompt = {"vec_in_dim": WIDTH, "context_in_dim": WIDTH, "guidance_embed": True, "qkv_bias": True}
    if not NEO:
        del config["out_channels"], config["patch_size"]  # which are as above
    return network("flux").IntegratedFluxTransformer2DModel(**sizes, **{**config, **prompt, **others})


def klein_transformer():
    state = {"in_channels": 128, "out_channels": 128, "patch_size": 1, "axes_dim": [12] * 4, "theta": 2000}
    prompt = {"vec_in_dim": None, "guidance_embed": False, "txt_ids_dims": [3]}
    layers = {"qkv_bias": False, "ops_bias": False, "mlp_silu_act": True, "global_modulation": True}
    reference = {"default_ref_method": "index", "ref_index_scale": 10.0}
    return flux_transformer(**state, **prompt, **layers, **reference)


def chroma_transformer():
    config = {"hidden_size": DIM, "num_heads": 2, "mlp_ratio": 2.0, "depth": 1, "depth_single_blocks": 1}
    config |= {"axes_dim": AXES, "theta": 10000, "context_in_dim": WIDTH, "vec_in_dim": None, "qkv_bias": True}
    if NEO:
        config |= {"in_channels": 64, "out_channels": 64, "patch_size": 2, "txt_ids_dims": []}
        config |= {"in_dim": 64, "hidden_dim": 64, "out_dim": DIM, "n_layers": 1}
    else:
        config |= {"in_channels": 16, "guidance_hidden_dim": 64, "guidance_out_dim": DIM, "guidance_n_layers": 1}
    return network("chroma").IntegratedChromaTransformer2DModel(**config)


def z_image_transformer():
    sizes = {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "n_layers": 2, "n_refiner_layers": 1, "multiple_of": 32}
    state = {"in_channels": 16, "axes_dims": [32, 48, 48], "axes_lens": [64] * 3, "rope_theta": 256.0, "qk_norm": True}
    others = {"cap_feat_dim": WIDTH, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32}
    return network("lumina").NextDiT(**sizes, **state, **others)


def lumina_transformer():
    sizes = {"dim": 192, "n_heads": 2, "n_kv_heads": 1, "n_layers": 2, "n_refiner_layers": 1, "multiple_of": 32}
    state = {"in_channels": 16, "axes_dims": [32, 32, 32], "axes_lens": [64] * 3, "qk_norm": True}
    return network("lumina").NextDiT(**sizes, **state, cap_feat_dim=WIDTH)


def ernie_transformer():
    sizes = {"hidden_size": DIM, "num_attention_heads": 2, "num_layers": 2, "ffn_hidden_size": 2 * DIM}
    return network("ernie").ErnieImageModel(**sizes, text_in_dim=WIDTH, rope_axes_dim=AXES)


def krea_transformer():
    sizes = {"features": DIM, "heads": 2, "kvheads": 1, "multiplier": 2, "layers": 2}
    prompt = {"txtdim": WIDTH // 2, "txtlayers": 2, "txtheads": 2, "txtkvheads": 2}
    return network("krea").SingleStreamDiT(**sizes, **prompt)


def wan_transformer():
    sizes = {"dim": DIM, "ffn_dim": 2 * DIM, "freq_dim": 32, "num_heads": 2, "num_layers": 2}
    return network("wan").WanModel(**sizes, text_dim=WIDTH)


def qwen_transformer():
    sizes = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": DIM // 2, "axes_dims_rope": AXES}
    return network("qwen").QwenImageTransformer2DModel(**sizes, joint_attention_dim=WIDTH)


def anima_transformer():
    sizes = {"model_channels": DIM, "num_heads": 2, "num_blocks": 2, "adaln_lora_dim": 16}
    state = {"in_channels": 16, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1}
    return network("anima").Anima(**sizes, **state, crossattn_emb_channels=WIDTH)


def sdxl_unet():
    sizes = {"model_channels": 64, "channel_mult": (1, 2), "num_res_blocks": [1, 1], "num_head_channels": 32}
    depths = {"transformer_depth": [0, 1], "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 0, 0]}
    prompt = {"context_dim": 2 * WIDTH, "num_classes": "sequential", "adm_in_channels": WIDTH + 6 * 256}
    attention = {"use_spatial_transformer": True, "use_linear_in_transformer": True}
    return network("unet").IntegratedUNet2DConditionModel(4, out_channels=4, **sizes, **depths, **prompt, **attention)


def autoencoder(kind=vae.IntegratedAutoencoderKL, channels=16):
    sides = {"block_out_channels": (32,) * 4, "down_block_types": ("DownEncoderBlock2D",) * 4}
    return kind(latent_channels=channels, use_quant_conv=False, use_post_quant_conv=False, **sides)


def sdxl_autoencoder():
    return autoencoder(channels=4)


def klein_autoencoder():
    return autoencoder(vae.AutoencoderKLFlux2, 32)


def frames_autoencoder():
    return network("wan_vae").WanVAE(base_dim=8, z_dim=16, num_res_blocks=1, temporal_downsample=[False, True, True])


@dataclass(frozen=True)
class Kind:
    """What makes a model: the WebUI's engine, its guess, and what of it is made small."""

    engine: str  # its module and name
    guess: str
    network: Callable
    autoencoder: Callable = autoencoder
    known_as: str = ""  # what Forge Neo's loader sets of `dynamic_args` with such a file


KINDS = {
    "sdxl": Kind("sdxl.StableDiffusionXL", "SDXL", sdxl_unet, sdxl_autoencoder),
    "flux": Kind("flux.Flux", "Flux", flux_transformer),
    "chroma": Kind("chroma.Chroma", "Chroma" if NEO else "FluxSchnell", chroma_transformer),
    "kontext": Kind("flux.Flux", "Flux", flux_transformer, known_as="kontext"),
    "klein": Kind("flux2.Flux2", "Flux2K4B", klein_transformer, klein_autoencoder, known_as="klein"),
    "z-image": Kind("zimage.ZImage", "ZImage", z_image_transformer),
    "lumina": Kind("lumina.Lumina2", "Lumina2", lumina_transformer),
    "ernie": Kind("ernie.ErnieImage", "ErnieImage", ernie_transformer, klein_autoencoder),
    "krea": Kind("krea.Krea2", "Krea2", krea_transformer, frames_autoencoder),
    "wan": Kind("wan.Wan", "WAN21_T2V", wan_transformer, frames_autoencoder, known_as="wan"),
    "qwen": Kind("qwen.QwenImage", "QwenImage", qwen_transformer, frames_autoencoder),
    "qwen-edit": Kind("qwen.QwenImage", "QwenImage", qwen_transformer, frames_autoencoder, known_as="edit"),
    "anima": Kind("anima.Anima", "Anima", anima_transformer, frames_autoencoder),
}
"""Forge has the first three."""


SHOWN = Path(os.environ["ITERMIX_PROBE"]) / "shown.pt"


def show(network, inputs):
    """Write down what the network is shown, if the tests ask for it by this file: its state, and its references."""
    if SHOWN.exists():
        seen = (inputs[0], getattr(dynamic_args, "ref_latents", []))
        torch.save([*torch.load(SHOWN, weights_only=True), seen], SHOWN)


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


def stand_ins(module):
    """What stands in for the text encoders in the module of an engine: {name there: function}."""

    def words(**_):
        return lambda prompt, images=(): encoded(prompt, WORDS + len(images), WIDTH)

    def classic(return_pooled, **_):
        def words_and_all(prompt):
            found = encoded(prompt, WORDS, WIDTH)
            return (found, found[:, 0]) if return_pooled else found

        return words_and_all

    parts = SimpleNamespace(patcher=None, cond_stage_model=mock.Mock(), tokenizer=mock.Mock(), clone=lambda: parts)
    encoders = [name for name in vars(module) if name.endswith("TextProcessingEngine")]
    made = {name: classic if name.startswith("Classic") else words for name in encoders}
    return {"CLIP": lambda **_: parts, **made}


def model(kind):
    """One of the WebUI's engines, with a small model of its own."""
    made = KINDS[kind]
    file, name = made.engine.split(".")
    module = import_module(f"backend.diffusion_engine.{file}")

    class Small(getattr(module, name)):
        def set_clip_skip(self, clip_skip):
            pass

        def get_learned_conditioning(self, prompt):
            with mock.patch.object(memory_management, "load_model_gpu"):  # there is no text encoder
                return super().get_learned_conditioning(prompt)

        def get_prompt_lengths_on_ui(self, prompt):
            return WORDS, WORDS

    network, autoencoder = with_weights(made.network(), 1), with_weights(made.autoencoder(), 2)
    network.register_forward_pre_hook(show)
    network.storage_dtype = network.computation_dtype = DTYPE
    network.load_device = network.offload_device = network.initial_device = CPU
    guess = getattr(model_list, made.guess)({"in_channels": 4})  # more than 4 are for inpainting
    guess.model_type = guess.model_type({})  # as its loader leaves it
    noise = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    text = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    parts = {"unet": network, "transformer": network, "vae": autoencoder, "scheduler": noise, **text}
    with mock.patch.multiple(module, **stand_ins(module)):
        return Small(guess, parts)


def forget_prompts():
    """What the WebUI has kept of prompts was encoded by another model."""
    of_both, of_txt2img = processing.StableDiffusionProcessing, processing.StableDiffusionProcessingTxt2Img
    for kind, names in ((of_both, ("cached_c", "cached_uc")), (of_txt2img, ("cached_hr_c", "cached_hr_uc"))):
        for name in names:
            setattr(kind, name, [None] * len(getattr(kind, name)))


def use(kind):
    """Make requests use a small model, or, for "none", load the checkpoint again."""
    forget_prompts()
    loaded = sd_models.model_data.sd_model
    if NEO:
        dynamic_args.reset()
    if kind == "none":
        sd_models.model_data.forge_hash = ""
        return
    if name := KINDS[kind].known_as:
        setattr(dynamic_args, name, True)
    with torch.inference_mode():
        small = model(kind)
    for name in ("sd_checkpoint_info", "filename", "sd_model_hash"):
        setattr(small, name, getattr(loaded, name))
    small.extra_generation_params, small.comments = {}, []
    sd_models.model_data.set_sd_model(small)
    shared.sd_model = small
    ratio = small.forge_objects.vae.upscale_ratio if NEO else 8
    processing.opt_f = ratio if isinstance(ratio, int) else 8
