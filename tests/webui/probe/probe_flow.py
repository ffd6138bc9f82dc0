"""Small models with flow matching for Forge Neo: its own classes with few layers and random weights.

Its checkpoints of these models can't be made small: it takes their widths and depths as given. So its engines are made
here, with its transformer, autoencoder and noise levels, and with random numbers for the text encoder, whose size is
that of the real one. Nothing is known of a prompt but its characters.
"""

import math
import zlib
from types import SimpleNamespace
from unittest import mock

import torch

DTYPE, CPU = torch.float32, torch.device("cpu")
WORDS, WIDTH = 8, 64  # of an encoded prompt
CHANNELS = 16  # of latents
ANIMA = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 96,
    "crossattn_emb_channels": WIDTH,
    "adaln_lora_dim": 16,
    "num_blocks": 2,
    "num_heads": 2,
}
FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": WIDTH,
    "context_in_dim": WIDTH,
    "hidden_size": 96,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [16, 16, 16],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
}
WAN_VAE = {"base_dim": 8, "z_dim": 16, "num_res_blocks": 1, "temporal_downsample": [False, True, True]}
FLUX_VAE = {
    "block_out_channels": (32, 32, 32, 32),
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
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
    return module.to(CPU, DTYPE).eval()


def encoded(prompt, *shape):
    """Numbers [prompts, *shape] that each prompt alone decides."""
    return torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(p.encode()))) for p in prompt]
    )


def engine(kind):
    """One of Forge Neo's engines, "anima" (latents [B, 16, 1, h, w]), "flux" ([B, 16, h, w]), or "kontext", which is
    Flux as an edit model."""
    from backend.diffusion_engine import anima, base, flux
    from backend.nn.anima import Anima
    from backend.nn.flux import IntegratedFluxTransformer2DModel
    from backend.nn.vae import IntegratedAutoencoderKL
    from backend.nn.wan_vae import WanVAE
    from backend.operations import using_forge_operations
    from backend.patcher.unet import UnetPatcher
    from backend.patcher.vae import VAE
    from huggingface_guess import model_list

    frames = kind == "anima"
    parent = anima.Anima if frames else flux.Flux

    class Small(parent):
        def __init__(self):
            config = model_list.Anima({}) if frames else model_list.Flux({})
            config.model_type = config.model_type({})  # as its loader leaves it
            with using_forge_operations(device=CPU, dtype=DTYPE):
                transformer = Anima(**ANIMA) if frames else IntegratedFluxTransformer2DModel(**FLUX)
                autoencoder = WanVAE(**WAN_VAE) if frames else IntegratedAutoencoderKL(**FLUX_VAE)
            with_weights(transformer, 1)
            with_weights(autoencoder, 2)
            if not frames:  # its posterior is all but its mean
                last = autoencoder.encoder.conv_out
                last.weight[CHANNELS:], last.bias[CHANNELS:] = 0.0, -30.0
            transformer.storage_dtype = transformer.computation_dtype = DTYPE
            transformer.load_device = transformer.offload_device = transformer.initial_device = CPU
            base.ForgeDiffusionEngine.__init__(self, config, {"vae": autoencoder})
            self.is_wan = self.use_shift = frames
            self.use_distilled_cfg_scale = not frames
            self.text_processing_engine_l = lambda prompt: (None, encoded(prompt, WIDTH))
            self.text_processing_engine_t5 = lambda prompt: encoded(prompt, WORDS, WIDTH)
            predictor = self._get_predictor()
            unet = UnetPatcher.from_model(transformer, diffusers_scheduler=None, k_predictor=predictor, config=config)
            clip = SimpleNamespace(patcher=None, cond_stage_model=None, clone=lambda: clip)
            vae = VAE(model=autoencoder, is_wan=frames)
            self.forge_objects = base.ForgeObjects(unet=unet, clip=clip, vae=vae, clipvision=None)
            self.forge_objects_original = self.forge_objects.shallow_copy()
            self.forge_objects_after_applying_lora = self.forge_objects.shallow_copy()

        def set_clip_skip(self, clip_skip):
            pass

        def get_learned_conditioning(self, prompt):
            if frames:
                return encoded(prompt, WORDS, WIDTH)
            with mock.patch.object(flux.memory_management, "load_model_gpu"):  # there is no text encoder
                return super().get_learned_conditioning(prompt)

        def get_prompt_lengths_on_ui(self, prompt):
            return WORDS, WORDS

    return Small()


def use(kind):
    """Make requests use a small model, or, for "none", load the checkpoint again."""
    from backend.args import dynamic_args
    from modules import processing, sd_models, shared

    loaded = sd_models.model_data.sd_model
    dynamic_args.reset()
    dynamic_args.kontext = kind == "kontext"  # which its loader tells by the file's name
    if kind == "none":
        sd_models.model_data.forge_hash = ""
        return
    with torch.inference_mode():
        model = engine(kind)
    for name in ("sd_checkpoint_info", "filename", "sd_model_hash"):
        setattr(model, name, getattr(loaded, name))
    model.extra_generation_params, model.comments = {}, []
    sd_models.model_data.set_sd_model(model)
    shared.sd_model = model
    processing.opt_f = 8
