"""Train the small latent model on the pictures that aren't held out.

    npm pack @iconify-json/fluent-emoji && tar xzf iconify-json-fluent-emoji-*.tgz
    python -m itermix.standalone.latent.train subjects package/icons.json --work FOLDER
    python -m itermix.standalone.latent.train pictures package/icons.json --work FOLDER
    python -m itermix.standalone.latent.train autoencoder --work FOLDER
    python -m itermix.standalone.latent.train latents --work FOLDER
    python -m itermix.standalone.latent.train unet --work FOLDER
    python -m itermix.standalone.latent.train errors --work FOLDER
    python -m itermix.standalone.latent.train weights --work FOLDER

Each part leaves its files in the folder and takes those of the parts before it; the first and the last write what the
package ships: the held-out pictures and the words of prompts, and the weights. `errors` prints how good the U-Net is.
Everything is drawn from a seed. Convolutions run in bfloat16 where the machine has it.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from itermix.standalone.latent import pictures
from itermix.standalone.latent.autoencoder import Autoencoder
from itermix.standalone.latent.model import (
    AUTOENCODER_PREFIX,
    SCALE_FACTOR,
    UNET_PREFIX,
    WEIGHTS,
    Denoiser,
    training_sigmas,
)
from itermix.standalone.latent.text import VOCABULARY_FILE, TextEncoder
from itermix.standalone.latent.unet import UNet

SIZE = 512
"""At which training pictures are drawn; those of the model's own size are their means over 2 x 2 pixels."""

WARMUP = 200
MAX_GRADIENT = 0.5
REPORT_EVERY = 200

AUTOENCODER_STEPS = 8_000
AUTOENCODER_RATE = 8e-4
AUTOENCODER_EMA = 0.999
PATCH, PATCHES = 128, 4
LARGE = 0.35
"""Share of patches from pictures drawn at 512 px, so that what is larger decodes as well."""

LATENT_NOISE = 0.05
"""Of the deviation of a latent: what the decoder has to bear."""

AUTOENCODER_FINISH, UNET_FINISH = 0.15, 0.06
"""Part of a run, at its end, in full precision."""

UNET_STEPS = 4_600
UNET_RATE = 4e-4
UNET_EMA = 0.999
BATCH = 8
UNLABELLED = 0.12
"""Share of pictures without their prompt, for classifier-free guidance."""

CLOSE_UP = "detail"
CLOSE_UPS = 0.2
"""Share of close-ups, which teach texture at the larger scale."""


def learning_rate(peak: float, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    return peak * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def to_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """[3, H, W] in [-1, 1] of [H, W, 3]."""
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1


def write_subjects(package: Path) -> None:
    """Keep the held-out pictures, and the numbers that CLIP's tokenizer gives the words of all prompts."""
    from clip.simple_tokenizer import SimpleTokenizer  # which k-diffusion brings along

    bodies = pictures.read_package(package)
    pictures.write_held_out(bodies)
    words = {word for name in (*bodies, CLOSE_UP) for word in pictures.prompt(name, "").split()}
    known, encode = sorted(words | set(pictures.BACKGROUNDS)), SimpleTokenizer().encode
    VOCABULARY_FILE.write_text(json.dumps({word: encode(word) for word in known}, separators=(",", ":")) + "\n")


def draw_pictures(package: Path, work: Path) -> None:
    """Draw all training pictures, in RGBA, into one array."""
    bodies = pictures.read_package(package)
    names = pictures.split(bodies)["training"]
    drawn = np.lib.format.open_memmap(work / "pictures.npy", "w+", np.uint8, (len(names), SIZE, SIZE, 4))
    for index, name in enumerate(names):
        drawn[index] = pictures.render(bodies[name], SIZE)
    (work / "names.json").write_text(json.dumps(names))


def patch(drawn: NDArray[np.uint8], chooser: np.random.Generator) -> Tensor:
    """A part [3, PATCH, PATCH] of a picture on some colour, where there is something to see."""
    scale = 1 if chooser.random() < LARGE else 2
    side = PATCH * scale
    while True:
        picture = drawn[chooser.integers(len(drawn))]
        top, left = chooser.integers(0, SIZE - side + 1, 2)
        part = picture[top : top + side, left : left + side]
        if part[..., 3].any() or chooser.random() < 0.05:
            break
    colour = [255, 255, 255] if chooser.random() < 0.3 else chooser.integers(90, 256, 3).tolist()
    x = to_tensor(pictures.composed(part, colour))
    x = F.avg_pool2d(x, scale) if scale > 1 else x
    return x.flip(-1) if chooser.random() < 0.5 else x


def trained(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    rate: float,
    ema: float,
    report: Callable[[nn.Module], str],
    file: Path,
) -> nn.Module:
    """The moving average of the model over a run; saved to `file` at every tenth of it."""
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    sum_of_losses, begin = 0.0, time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(rate, step, steps)
        value = loss(step)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = min(ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - decay)
        sum_of_losses += float(value.detach())
        if (step + 1) % REPORT_EVERY == 0:
            text = report(averaged) if (step + 1) % (5 * REPORT_EVERY) == 0 else ""
            each = (time.perf_counter() - begin) / (step + 1)
            print(f"{step + 1} loss {sum_of_losses / REPORT_EVERY:.4f} {each:.3f} s/step {text}", flush=True)
            sum_of_losses = 0.0
        if (step + 1) % max(1, steps // 10) == 0:
            keep(averaged, file)
    keep(averaged, file)
    return averaged


def keep(model: nn.Module, file: Path) -> None:
    """Write a network's weights."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, file)


def train_autoencoder(work: Path, steps: int, seed: int) -> None:
    """Mean absolute and squared error, also of the gradients; the latent is held to mean 0 and deviation 1."""
    torch.manual_seed(seed)
    chooser = np.random.default_rng(seed)
    drawn = np.load(work / "pictures.npy", mmap_mode="r", allow_pickle=False)
    model = Autoencoder().to(memory_format=torch.channels_last)
    shown = dict(list(pictures.held_out("tuning").items())[:12])
    check = torch.stack([to_tensor(pictures.truth(name, body, 256)) for name, body in shown.items()])

    def loss(step: int) -> Tensor:
        x = torch.stack([patch(drawn, chooser) for _ in range(PATCHES)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=step < (1 - AUTOENCODER_FINISH) * steps):
            z = model.encode(x)
            y = model.decode(z + LATENT_NOISE * torch.randn_like(z))
        error, z = y.float() - x, z.float()
        gradients = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        moments = z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean()
        return error.abs().mean() + 2 * error.square().mean() + 0.5 * gradients + 0.01 * moments

    def report(averaged: nn.Module) -> str:
        with torch.no_grad():
            y = averaged.decode(averaged.encode(check)).clamp(-1, 1)  # type: ignore[operator]
        psnr = -10 * torch.log10((y - check).square().mean((1, 2, 3)) / 4)
        return f"held-out PSNR {psnr.mean():.2f} dB"

    trained(model, loss, steps, AUTOENCODER_RATE, AUTOENCODER_EMA, report, work / "autoencoder.safetensors")


def standardised(autoencoder: Autoencoder, latents: Tensor) -> None:
    """Fold into the 1x1 convolutions at the latent that its channels get mean 0 and deviation 1 / SCALE_FACTOR.

    `latents` [N, 4, h, w] are encodings as they are now.
    """
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, back = autoencoder.quant_conv, autoencoder.post_quant_conv
    factor = 1 / (SCALE_FACTOR * deviation)
    assert into.bias is not None
    assert back.bias is not None
    with torch.no_grad():
        into.bias.copy_((into.bias - mean) * factor)
        into.weight.mul_(factor[:, None, None, None])
        back.bias.add_(back.weight[:, :, 0, 0] @ mean)
        back.weight.div_(factor[None, :, None, None])


def encode_pictures(work: Path) -> None:
    """The latents of all training pictures, mirrored and not, on different backgrounds, and of a close-up of each."""
    chooser = np.random.default_rng(pictures.SEED)
    drawn = np.load(work / "pictures.npy", mmap_mode="r", allow_pickle=False)
    names = json.loads((work / "names.json").read_text())
    autoencoder = Autoencoder().to(memory_format=torch.channels_last).eval().requires_grad_(False)
    autoencoder.load_state_dict(load_file(work / "autoencoder.safetensors"))

    def encoded(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return autoencoder.encode(x.contiguous(memory_format=torch.channels_last)).float()

    latents, prompts = [], []
    for picture, name in zip(drawn, names):
        views = []
        for mirrored in (False, True, False, True):
            colour = str(chooser.choice(sorted(pictures.BACKGROUNDS)))
            x = F.avg_pool2d(to_tensor(pictures.composed(picture, pictures.BACKGROUNDS[colour])), 2)
            views.append(x.flip(-1) if mirrored else x)
            prompts.append(pictures.prompt(name, colour))
        colour = str(chooser.choice(sorted(pictures.BACKGROUNDS)))
        top, left = chooser.integers(0, SIZE // 2, 2)
        part = picture[top : top + SIZE // 2, left : left + SIZE // 2]
        views.append(to_tensor(pictures.composed(part, pictures.BACKGROUNDS[colour])))
        prompts.append(pictures.prompt(CLOSE_UP, colour))
        latents.append(encoded(torch.stack(views)))
    found = torch.stack(latents)
    standardised(autoencoder, found[:, :4].flatten(0, 1))
    keep(autoencoder, work / "standardised.safetensors")
    mean, deviation = found[:, :4].mean((0, 1, 3, 4)), found[:, :4].std((0, 1, 3, 4))
    np.save(work / "latents.npy", ((found - mean[:, None, None]) / deviation[:, None, None]).half().numpy())
    (work / "prompts.json").write_text(json.dumps(prompts))


def train_unet(work: Path, steps: int, seed: int) -> None:
    """The noise in latents, as Stable Diffusion 1 predicts it; families of pictures come up equally often.

    The error is weighed as that of velocity is (Salimans and Ho, 2022, arXiv 2202.00512): what a prompt says is decided
    at the highest noise levels, which the plain error of the noise hardly weighs. A run goes on from the weights of the
    one before it, where there was one; give it another seed.
    """
    file = work / "unet.safetensors"
    torch.manual_seed(seed)
    chooser = np.random.default_rng(seed)
    latents = torch.from_numpy(np.load(work / "latents.npy", allow_pickle=False))
    prompts = json.loads((work / "prompts.json").read_text())
    families: dict[str, list[int]] = {}
    for index, name in enumerate(json.loads((work / "names.json").read_text())):
        families.setdefault(pictures.family(name), []).append(index)
    members = list(families.values())
    views = latents.shape[1]
    model = UNet().to(memory_format=torch.channels_last)
    if file.exists():
        model.load_state_dict(load_file(file))
    encoder, sigmas = TextEncoder(), training_sigmas()

    def loss(step: int) -> Tensor:
        picked = [members[k][chooser.integers(len(members[k]))] for k in chooser.integers(len(members), size=BATCH)]
        close = chooser.random(BATCH) < CLOSE_UPS
        view = np.where(close, views - 1, chooser.integers(views - 1, size=BATCH))
        x = latents[picked, torch.from_numpy(view)].float()
        said = [prompts[k * views + v] for k, v in zip(picked, view)]
        context = encoder.encode(["" if chooser.random() < UNLABELLED else text for text in said])
        timestep = ((torch.arange(BATCH) + torch.rand(BATCH)) / BATCH * len(sigmas)).long()
        sigma = sigmas[timestep][:, None, None, None]
        noise = torch.randn_like(x)
        noised = ((x + sigma * noise) / (sigma**2 + 1).sqrt()).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=step < (1 - UNET_FINISH) * steps):
            found = model(noised, timestep, context)
        return ((1 + sigma**2) * (found.float() - noise) ** 2).mean()

    trained(model, loss, steps, UNET_RATE, UNET_EMA, lambda averaged: "", file)


def print_errors(work: Path, count: int = 48) -> None:
    """Errors of the U-Net's estimates of held-out pictures at some noise levels, with their prompts and with others."""
    denoiser, autoencoder, encoder = UNet().eval(), Autoencoder(), TextEncoder()
    denoiser.load_state_dict(load_file(work / "unet.safetensors"))
    autoencoder.load_state_dict(load_file(work / "standardised.safetensors"))
    chosen = dict(list(pictures.held_out("tuning").items())[:count])
    drawn = torch.stack([to_tensor(pictures.truth(name, body, 256)) for name, body in chosen.items()])
    context = encoder.encode([pictures.prompt(name, pictures.background(name)) for name in chosen])
    noise = torch.randn(len(chosen), 4, 32, 32, generator=torch.Generator().manual_seed(0))
    model = Denoiser(denoiser, encoder.encode([""]))
    with torch.no_grad():
        x = SCALE_FACTOR * autoencoder.encode(drawn)
        for level in (14.0, 6.0, 3.0, 1.5, 0.7, 0.3, 0.1):
            sigma = torch.full((len(x),), level)
            errors = (model(x + level * noise, sigma, said) - x for said in (context, context.roll(5, 0)))
            own, other = (float(error.square().mean().sqrt()) for error in errors)
            print(f"noise level {level:g}: {own:.4f}, with other prompts {other:.4f}")


def write_weights(work: Path, file: Path = WEIGHTS) -> None:
    """What the package ships: the networks in half precision, under the names of Stable Diffusion 1."""
    parts = {UNET_PREFIX: "unet.safetensors", AUTOENCODER_PREFIX: "standardised.safetensors"}
    weights = {
        prefix + name: tensor.half().contiguous()
        for prefix, part in parts.items()
        for name, tensor in load_file(work / part).items()
    }
    save_file(weights, file)


TRAINED = {
    "autoencoder": (train_autoencoder, AUTOENCODER_STEPS),
    "unet": (train_unet, UNET_STEPS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["subjects", "pictures", *TRAINED, "latents", "errors", "weights"])
    parser.add_argument("package", type=Path, nargs="?", help="icons.json, for subjects and pictures")
    parser.add_argument("--work", type=Path, required=True, help="folder for what the parts leave")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--seed", type=int, default=pictures.SEED, help="of training's draws")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.part in ("subjects", "pictures") and given.package is None:
        parser.error(f"{given.part} needs the icons.json of the package")
    if given.part == "subjects":
        write_subjects(given.package)
    elif given.part == "pictures":
        draw_pictures(given.package, given.work)
    elif given.part == "latents":
        encode_pictures(given.work)
    elif given.part == "errors":
        print_errors(given.work)
    elif given.part == "weights":
        write_weights(given.work)
    else:
        train, steps = TRAINED[given.part]
        train(given.work, given.steps or steps, given.seed)


if __name__ == "__main__":
    main()
