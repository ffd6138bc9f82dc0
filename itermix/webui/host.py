"""The facts in which the WebUIs differ, and those of their helpers that are used. No other file asks which it is."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from modules import (
    devices,
    images,
    infotext_utils,
    processing,
    scripts,
    sd_models,
    sd_samplers,
    sd_samplers_common,
    sd_vae_approx,
    shared,
)
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from itermix.mixing.noising import INVERTED
from itermix.model import deep_shrink
from itermix.model.deep_shrink import DeepShrink
from itermix.model.inversion import Denoise
from itermix.model.windows import replaced
from itermix.parameters import SettingsError
from itermix.picture.enlarging import back_projected, rims
from itermix.settings import Settings
from itermix.settings.infotext import UNFINISHED
from itermix.steps.levels import begun_at, flow_level, noise_of
from itermix.steps.parametrisation import Amounts, Parametrisation, ve, vp
from itermix.webui import latent_upscaler

log = logging.getLogger(__name__)


def is_img2img(p: Any) -> bool:
    return isinstance(p, processing.StableDiffusionProcessingImg2Img)


def repairs_a_part(p: Any) -> bool:
    """Whether this is an inpainting of ADetailer's own, which it makes with the arguments of the request around it."""
    return vars(p).get("_ad_inner", False)


def alone(p: Any) -> bool:
    """Whether the page shows the result of this request as it is. It is another's where a plot, a folder or a loop runs
    it, which count jobs before, and where the gallery puts it in the place of one of its pictures."""
    within = shared.state.job_count >= 0 or getattr(p, "firstpass_image", None) is not None
    return not (p.is_api or within)


def tiles(p: Any) -> bool:
    """Whether the picture of this request goes on at its opposite edge."""
    return bool(getattr(shared.opts, "tiling", False) if getattr(p, "tiling", None) is None else p.tiling)


def stopped() -> bool:
    """Whether the user has interrupted the generation or skipped its current image."""
    return shared.state.interrupted or shared.state.skipped


def batch_note(p: Any) -> str:
    """Which of several iterations runs, for the job text."""
    return f", batch {p.iteration + 1} of {p.n_iter}" if p.n_iter > 1 else ""


def refuse(p: Any, error: Exception) -> None:
    """Tell the user on the page, and in the console by one line, why there is no picture."""
    log.error("%s", error)
    p.comment(str(error))


def note(p: Any, what: str, sentence: str) -> None:
    """Tell the user that a part was not finished: in the page's comments and in the infotext, which the API gives."""
    text = f"{what}: {sentence}"
    p.comment(f"Iterative Mixing, {text}.")
    p.extra_generation_params[UNFINISHED] = text


GENERATION = {
    *("prompt", "negative_prompt", "steps", "sampler_name", "scheduler"),
    *("cfg_scale", "distilled_cfg_scale", "seed", "subseed", "subseed_strength"),
}
"""Names of what a request and an infotext say of a generation; not every WebUI has all of them."""


def generation_of(p: Any) -> dict[str, Any]:
    """What the request says of its generation."""
    return {name: value for name, value in vars(p).items() if name in GENERATION}


def set_generation(p: Any, values: Mapping[str, Any]) -> None:
    """The other way round; what this WebUI's requests don't have is left out."""
    for name, value in values.items():
        if hasattr(p, name):
            setattr(p, name, value)


def samplers() -> list[str]:
    """Names of the WebUI's samplers."""
    return [sampler.name for sampler in sd_samplers.all_samplers]


def sampler_name(p: Any) -> str:
    """Of the sampling that runs."""
    hires = not is_img2img(p) and p.is_hr_pass
    return (p.hr_sampler_name if hires else None) or p.sampler_name


def sampler(p: Any, name: str) -> Any:
    """A new sampler object for the model of `p`."""
    return sd_samplers.create_sampler(name, p.sd_model)


def leave_out(denoiser: Any, steps: int) -> None:
    """Tell a CFGDenoiser, before its first call, that it goes on after so many steps.

    Prompt editing, the refiner and what the WebUI skips of the negative prompt follow its count.
    """
    denoiser.step += steps


def hires_checkpoint(p: Any) -> None:
    """Go back to the checkpoint of the hires pass, if a refiner has taken its place. Forge keeps the refiner's, and
    Forge Neo has no refiner in the hires pass, nor these functions. What Forge Classic draws from torch's generator
    while it loads one has no part in what follows."""
    if hasattr(sd_models, "SkipWritingToConfig") and hasattr(sd_models, "reload_model_weights"):
        with sd_models.SkipWritingToConfig(), torch.random.fork_rng(devices=[]):
            sd_models.reload_model_weights(info=p.hr_checkpoint_info)


def cannot_go_back(p: Any) -> bool:
    """Whether the hires pass has a checkpoint or modules of its own to which the WebUI can't go back once it has made
    something else: Forge and Forge Neo, whose requests alone have modules, load the first pass's again then."""
    if not hasattr(p, "hr_additional_modules"):
        return False
    same = p.hr_checkpoint_name in (None, "", "Use same checkpoint") and "Use same choices" in p.hr_additional_modules
    return not same


def finished(picture: Image.Image, index: int) -> Any:
    """What a script's `postprocess_image` gets of a picture. Forge and Forge Neo add its number in the batch."""
    names = inspect.signature(scripts.PostprocessImageArgs).parameters
    return scripts.PostprocessImageArgs(*(picture, index)[: len(names)])


def takes_unit_range(p: Any) -> bool:
    """Whether the WebUI's hires pass gets pictures in [0, 1]. Only Forge Neo's does; the others' get [-1, 1], and clamp
    them themselves."""
    own = inspect.unwrap(type(p).sample_hr_pass)
    return "clamp" not in own.__code__.co_names


def pictures_of(decoded: Iterable[Tensor]) -> Tensor:
    """[N, 3, H, W] of what the WebUI has decoded: [3, H, W] each, or [T, 3, H, W] of a model with frames."""
    return torch.stack(list(decoded)).float().flatten(0, -4)


def of_hires(p: Any, decoded: Tensor) -> Tensor:
    """Pictures [N, 3, H, W], in [-1, 1], of those that the WebUI's hires pass gets."""
    pictures = pictures_of(decoded)
    return pictures * 2 - 1 if takes_unit_range(p) else pictures.clamp(-1, 1)


def for_hires(p: Any, pictures: Tensor) -> Tensor:
    """Pictures [B, 3, H, W], about in [-1, 1], as the WebUI's hires pass gets them."""
    return ((pictures + 1) / 2).clamp(0, 1) if takes_unit_range(p) else pictures


def decoded(p: Any, samples: Tensor | None, pictures: Tensor | None) -> Any:
    """What `sample` of a processing object may return for pictures [B, 3, H, W] in [-1, 1], or else for latents."""
    if pictures is not None:
        return processing.DecodedSamples(pictures)
    return processing.decode_latent_batch(p.sd_model, samples, target_device=devices.cpu, check_for_nans=True)


def tiled_decoding() -> str:
    """How to have large pictures decoded in tiles, in a sentence."""
    if hasattr(shared.sd_model, "forge_objects"):
        return "switch on that the VAE is always tiled, in Never OOM Integrated or in the settings"
    return "install the extension Tiled Diffusion and switch on Tiled VAE"


def saves(p: Any) -> bool:
    """Whether finished pictures of this request are saved; its own `save_samples` denies it after an interrupt."""
    return shared.opts.samples_save and not p.do_not_save_samples


def save_batch(p: Any, pictures: Tensor, suffix: str = "") -> list[str]:
    """Save pictures [B, 3, H, W] in [-1, 1] of the current iteration as the WebUI would; gives the files' names."""
    names = []
    for k, picture in enumerate(((pictures + 1) * 127.5).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu()):
        info = processing.create_infotext(
            p, p.all_prompts, p.all_seeds, p.all_subseeds, [], iteration=p.iteration, position_in_batch=k
        )
        names.append(save(p, Image.fromarray(picture.numpy()), p.seeds[k], p.prompts[k], info, suffix))
    return names


def images_of(pictures: Tensor) -> list[Image.Image]:
    """Of pictures [B, 3, H, W] in [0, 1]."""
    pixels = (pictures * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu()
    return [Image.fromarray(picture.numpy()) for picture in pixels]


def save(p: Any, picture: Image.Image, seed: int, prompt: str, info: str, suffix: str = "") -> str:
    """Save a picture among the samples of `p`, under the WebUI's own naming; gives the file's name."""
    form = shared.opts.samples_format
    name, _ = images.save_image(picture, p.outpath_samples, "", seed, prompt, form, info=info, p=p, suffix=suffix)
    return name


def with_parameter(info: str, key: str, value: str) -> str:
    """An infotext with one more parameter at its end."""
    return f"{info}, {key}: {infotext_utils.quote(value)}"


def parametrisation(sampler: Any) -> Parametrisation:
    """How the state of this sampler object is made of signal and noise.

    Timestep samplers are variance preserving along the model's alphas_cumprod. For k-diffusion's samplers the WebUI's
    own noising function is asked: Forge's predictor has one for all models, A1111 has one on models with flow matching
    (SD3). Everything else is variance exploding.
    """
    model_wrap = sampler.model_wrap
    if not hasattr(model_wrap, "sigmas"):
        return vp(model_wrap.inner_model.alphas_cumprod)
    timestep = ve(model_wrap.sigmas).timestep
    predictor: Any = getattr(model_wrap, "predictor", None)
    if hasattr(predictor, "noise_scaling"):

        def scale(sigma: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
            return predictor.noise_scaling(sigma, noise, latent, max_denoise=False)
    elif hasattr(shared.sd_model, "add_noise_to_latent"):

        def scale(sigma: Tensor, noise: Tensor, latent: Tensor) -> Tensor:
            return shared.sd_model.add_noise_to_latent(latent, noise, sigma)
    else:
        return Parametrisation(ve().amounts, timestep)

    def amounts(sigma: Tensor) -> Amounts:
        # Noising is linear, so its amounts are what it makes of a unit of signal and of a unit of noise.
        one, zero = torch.ones_like(sigma), torch.zeros_like(sigma)
        return scale(sigma, zero, one), scale(sigma, one, zero)

    return Parametrisation(amounts, timestep)


@contextmanager
def begun_at_level(sampler: Any, denoise: float, run: int) -> Iterator[None]:
    """Inside, the sampler object's schedule is one whose last `run` steps, which it runs, begin at the noise level that
    `denoise` means (`itermix.steps.levels`). How many steps it has, it is asked for by the WebUI."""
    own = sampler.get_sigmas

    def get_sigmas(p: Any, steps: int) -> Tensor:
        return begun_at(lambda count: own(p, count), flow_level(noise_of(denoise)), run, steps)

    with replaced(sampler, "get_sigmas", get_sigmas):
        yield


LANCZOS = "Lanczos"
"""The upscaler that needs no entry in the WebUI's list. Forge Neo's has models only, and no latent modes."""


def upscalers() -> list[str]:
    """Names of what the upscale script enlarges with: the WebUI's latent modes first, as in its hires fix, the network
    and the Lanczos of ours, and the WebUI's other upscalers."""
    listed = (upscaler.name for upscaler in shared.sd_upscalers)
    return list(dict.fromkeys([*shared.latent_upscale_modes, latent_upscaler.NAME, LANCZOS, *listed]))


def check_upscaler(name: str) -> None:
    """Raises SettingsError if there is no upscaler of this name."""
    if name not in upscalers():
        raise SettingsError("upscaler", name, f"Allowed: {', '.join(upscalers())}.")


def is_latent(upscaler: str) -> bool:
    return upscaler == latent_upscaler.NAME or upscaler in shared.latent_upscale_modes


def flatten(image: Image.Image) -> Image.Image:
    """The picture without transparency, on the WebUI's background colour."""
    return images.flatten(image, shared.opts.img2img_background_color)


def enlarge(
    image: Image.Image, size: tuple[int, int], upscaler: str, corrected: bool, seamless: bool = False
) -> Image.Image:
    """The picture at `size` (width, height), by a named upscaler and with back-projection if it is to be corrected.

    Latent modes leave pixels to Lanczos, uncorrected. `seamless`: it goes on at its opposite edge.
    """
    if seamless:
        (right, away), (down, off) = (rims(*sides) for sides in zip(image.size, size))
        wider = np.pad(np.asarray(image.convert("RGB")), ((down, down), (right, right), (0, 0)), mode="wrap")
        width, height = size
        larger = enlarge(Image.fromarray(wider), (width + 2 * away, height + 2 * off), upscaler, corrected)
        return larger.crop((away, off, away + width, off + height))
    by_pillow = upscaler == LANCZOS or is_latent(upscaler)
    if by_pillow:
        enlarged = image.resize(size, Image.Resampling.LANCZOS)
    else:
        enlarged = images.resize_image(0, image, *size, upscaler_name=upscaler)
    if not corrected or is_latent(upscaler):
        return enlarged
    both = (np.array(picture.convert("RGB")) for picture in (enlarged, image))  # Forge's results have an alpha channel
    large, small = (torch.from_numpy(pixels).permute(2, 0, 1)[None].float() for pixels in both)
    pixels = back_projected(large, small).round().clamp(0, 255)[0].permute(1, 2, 0)
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def encoded(pictures: Tensor, model: Any) -> Tensor:
    """Latents of pictures [B, 3, H, W] in [0, 1].

    An edit model of Forge Neo takes what was encoded last for the reference of the next prompt, which this is not.
    """
    method = sd_samplers_common.approximation_indexes.get(shared.opts.sd_vae_encode_method)
    with replaced(model, "ini_latent", model.ini_latent) if hasattr(model, "ini_latent") else nullcontext():
        return sd_samplers_common.images_tensor_to_samples(pictures, method, model)


def neo_arguments() -> Any:
    """What Forge Neo keeps for its models beside their inputs, such as `ref_latents` [1, C, (T,) h, w] of edit models;
    None in other WebUIs."""
    arguments = getattr(sys.modules.get("backend.args"), "dynamic_args", None)
    return arguments if hasattr(arguments, "ref_latents") else None


def check_frames(p: Any) -> None:
    """Raises SettingsError if the request is for a video, which Forge Neo can't encode. With Wan it takes the size of
    a batch for a video's length, and makes one picture of less than five."""
    if getattr(neo_arguments(), "wan", False) and p.batch_size > 4:
        allowed = "Allowed with Wan: 1 to 4, which is one picture, since the WebUI can't encode a video to enlarge it."
        raise SettingsError("batch_size", p.batch_size, allowed)


def preview(latents: Tensor) -> Tensor:
    """Pictures [B, 3, H, W], about in [-1, 1], of latents [B, C, H, W] in single precision: the WebUI's "Approx cheap",
    of one pixel for each of a latent. One by one, since Forge Neo's looks at the first of them only."""
    return torch.cat([sd_vae_approx.cheap_approximation(latent[None]) for latent in latents])


def enlarged_latents(pictures: Sequence[Image.Image], size: tuple[int, int], upscaler: str, model: Any) -> Tensor:
    """Latents [B, C, height / 8, width / 8] of the pictures, enlarged in latent space by a named latent mode."""
    pixels = np.stack([np.asarray(picture, dtype=np.float32) / 255 for picture in pictures])
    latents = encoded(torch.from_numpy(pixels).permute(0, 3, 1, 2), model)
    width, height = size
    if upscaler == latent_upscaler.NAME:
        return latent_upscaler.enlarge(latents, size, model)
    mode = shared.latent_upscale_modes[upscaler]
    return F.interpolate(latents, size=(height // 8, width // 8), mode=mode["mode"], antialias=mode["antialias"])


def check_inversion(p: Any, settings: Settings) -> None:
    """Raises SettingsError if the hires pass of `p` has no negative prompt, and is to be inverted with it: if the WebUI
    has encoded its prompts and made nothing of that one. What it hasn't encoded yet, `unguided` sees."""
    left_out = p.hr_c is not None and p.hr_uc is None
    if settings.noise == INVERTED and not settings.inversion_prompt and left_out:
        raise no_negative_prompt()


def no_negative_prompt() -> SettingsError:
    allowed = "Allowed at CFG scale 1 in this WebUI: true, since it leaves the negative prompt out."
    return SettingsError("inversion_prompt", False, allowed)


@contextmanager
def unguided(p: Any, denoiser: Any, extra_args: dict[str, Any], with_prompt: bool) -> Iterator[Denoise]:
    """The denoiser at CFG scale 1, with the prompt or with the negative prompt of the sampler's `extra_args`.

    No mask is painted over x, no refiner takes over, and the denoiser counts none of the calls as steps.

    Raises SettingsError if the WebUI has made nothing of the negative prompt.
    """
    args = {**extra_args, "cond_scale": 1.0, "s_min_uncond": 0.0}
    if not with_prompt:
        if args["uncond"] is None:
            raise no_negative_prompt()
        # In both places, so that it doesn't matter which of them the WebUI asks the model for.
        prompt = args["cond"]
        part = type(prompt.batch[0][0])
        args["cond"] = type(prompt)((len(args["uncond"]),), [[part(each, 1.0)] for each in args["uncond"]])

    def denoise(x: Tensor, level: Tensor, share: float) -> Tensor:
        denoiser.step = round(share * denoiser.total_steps)  # by which prompts change on the way
        return denoiser(x, level, **args)

    changes = (
        (denoiser, "step", denoiser.step),
        (denoiser, "mask", None),
        (denoiser, "cond_scale_miltiplier", 1.0),  # A1111's CFG++ leaves its own there
        (p, "hr_cfg", 1.0),  # Forge takes it for the scale in the hires pass
        (p, "refiner_checkpoint_info", None),
    )
    with ExitStack() as stack:
        for owner, name, value in changes:
            if hasattr(owner, name):
                stack.enter_context(replaced(owner, name, value))
        yield denoise


@contextmanager
def deep_shrunk(model: Any, settings: Settings) -> Iterator[DeepShrink | None]:
    """Deep Shrink on the model's U-Net, if the settings want it: by the patches that Forge and reForge have for it, or
    else by hooks on the blocks.

    Raises SettingsError for a model without such a U-Net.
    """
    if not settings.deep_shrink:
        yield None
        return
    shrink = DeepShrink(settings)
    if not hasattr(model, "forge_objects"):
        network = model.model.diffusion_model
        deep_shrink.check(network, settings)
        with deep_shrink.attached(network, shrink):
            yield shrink
        return
    before = model.forge_objects.unet
    deep_shrink.check(before.model.diffusion_model, settings)

    def after_block(h: Tensor, options: dict[str, Any]) -> Tensor:
        return shrink.shrunk(h) if options["block"][1] == shrink.block else h

    def before_joining(h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        return shrink.resized(h, skip.shape[-2:]), skip

    model.forge_objects.unet = before.clone()
    model.forge_objects.unet.set_model_input_block_patch_after_skip(after_block)
    model.forge_objects.unet.set_model_output_block_patch(before_joining)
    try:
        yield shrink
    finally:
        model.forge_objects.unet = before
