"""Train the built-in denoiser on procedural pictures, or check trained weights.

    python -m itermix.standalone.train --out FILE [--steps N]
    python -m itermix.standalone.train --check FILE

Every picture is rendered once and used once, so there is nothing to overfit. A run ends with the check, which needs
scipy and k-diffusion (the extra `standalone`).
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from itermix.standalone import network, pictures
from itermix.standalone.network import SIGMA_DATA, Denoiser, Guided

STEPS = 6_000
BATCH = 16
LEARNING_RATE = 1.5e-3
WARMUP = 100
DECAY = 0.4
"""Part of the run, at its end, in which the learning rate falls to zero."""

EMA = 0.9995
LOG_SIGMA_MEAN, LOG_SIGMA_STD = -0.5, 1.4
CROPS = 0.2
"""Share of close-up views, which teach texture at the largest scale."""

UNLABELLED = 0.12
"""Share of pictures without their label, for classifier-free guidance."""

REPORT_EVERY, SAVE_EVERY = 200, 1000
"""Steps between lines of the log and between saved states."""


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then constant, then half a cosine down to zero."""
    decayed = max(0.0, (step / steps - (1 - DECAY)) / DECAY)
    return LEARNING_RATE * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * decayed))


def sample_pictures(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Training pictures [N, 3, 32, 32] and their labels [N]."""
    scenes = pictures.sample_scenes(count, generator)
    windows = pictures.sample_windows(count, generator)
    crop = torch.rand(count, generator=generator) < CROPS
    window = pictures.Window(
        torch.where(crop[:, None], windows.centre, torch.zeros(2)), torch.where(crop, windows.half, torch.ones(()))
    )
    x = pictures.render(scenes, network.RESOLUTION, window)
    label = torch.where(crop, network.CROP, scenes.label)
    return x, torch.where(torch.rand(count, generator=generator) < UNLABELLED, network.NULL, label)


def sample_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """Log-normal noise levels [N], stratified to lower the variance of the loss."""
    u = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    normal = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.9999, 0.9999))
    return (LOG_SIGMA_MEAN + LOG_SIGMA_STD * normal).exp()


def denoising_loss(denoiser: Denoiser, generator: torch.Generator) -> Tensor:
    """The loss of EDM (Karras et al. 2022, eq. 8) on a fresh batch."""
    x, label = sample_pictures(BATCH, generator)
    sigma = sample_sigmas(BATCH, generator)
    s = sigma[:, None, None, None]
    noised = x + s * torch.randn(x.shape, generator=generator)
    denoised = denoiser(noised.contiguous(memory_format=torch.channels_last), sigma, label)
    weight = (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2
    return (weight * (denoised - x) ** 2).mean()


def train(steps: int, seed: int, state_file: Path | None = None) -> Denoiser:
    """Train for a number of steps and return the moving average of the weights.

    With a `state_file` the run is saved there now and then, and continued from there if the file exists; a continued
    run gives the same result as one in a single piece.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = Denoiser().to(memory_format=torch.channels_last)
    average = copy.deepcopy(denoiser).requires_grad_(False)
    optimizer = torch.optim.AdamW(denoiser.parameters(), betas=(0.9, 0.99), weight_decay=1e-3, foreach=True)
    first = 0
    if state_file is not None and state_file.exists():
        state = torch.load(state_file, weights_only=True)
        first = state["step"]
        denoiser.load_state_dict(state["denoiser"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"])
    started, total = time.monotonic(), 0.0
    for step in range(first, steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps)
        optimizer.zero_grad(set_to_none=True)
        loss = denoising_loss(denoiser, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        decay = min(EMA, (step + 1) / (step + 10))
        for mean, parameter in zip(average.parameters(), denoiser.parameters(), strict=True):
            mean.lerp_(parameter.detach(), 1 - decay)
        total += loss.item()
        if (step + 1) % REPORT_EVERY == 0:
            seconds = time.monotonic() - started
            print(f"step {step + 1}/{steps}  loss {total / REPORT_EVERY:.4f}  {seconds:.0f} s", flush=True)
            total = 0.0
        if state_file is not None and (step + 1) % SAVE_EVERY == 0:
            state = {
                "step": step + 1,
                "denoiser": denoiser.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
            }
            torch.save(state, state_file)
    return average.eval()


def save(denoiser: Denoiser, path: Path, steps: int, seed: int) -> None:
    """Write the weights in fp16, with the command that makes them."""
    tensors = {name: tensor.half().contiguous() for name, tensor in denoiser.state_dict().items()}
    command = f"python -m itermix.standalone.train --out {path.name} --steps {steps} --seed {seed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"command": command, "steps": str(steps), "seed": str(seed)})


@torch.no_grad()
def sample(denoiser: Denoiser, count: int, resolution: int, cfg: float, seed: int) -> Tensor:
    """Pictures [N, 3, H, H] in about [-1, 1] of all classes in turn: DPM++ 2M, 25 steps of Karras' schedule."""
    from k_diffusion.sampling import get_sigmas_karras, sample_dpmpp_2m  # an optional dependency

    generator = torch.Generator().manual_seed(seed)
    sigmas = get_sigmas_karras(25, network.SIGMA_MIN, network.SIGMA_MAX)
    labels = torch.arange(count) % len(pictures.HAT_NAMES)
    noise = torch.randn(count, 3, resolution, resolution, generator=generator) * network.SIGMA_MAX
    model = Guided(denoiser)
    batch = max(1, 32 * network.RESOLUTION**2 // resolution**2)
    return torch.cat(
        [
            sample_dpmpp_2m(model, x, sigmas, extra_args={"label": label, "cfg": cfg}, disable=True)
            for x, label in zip(noise.split(batch), labels.split(batch), strict=True)
        ]
    )


def check(path: Path, count: int) -> None:
    """Print how many samples have exactly the right parts, at the size of the training pictures and beyond."""
    from itermix.standalone.parts import count_parts  # needs scipy, an optional dependency

    denoiser = network.load(path)
    for resolution, cfg, number in ((32, 1.5, count), (32, 2.0, count), (64, 1.5, count // 4), (128, 1.5, count // 16)):
        found = [count_parts(picture) for picture in sample(denoiser, number, resolution, cfg, seed=1)]
        exact = sum(parts.exact for parts in found) / number
        duplicated = sum(parts.duplicated for parts in found) / number
        print(
            f"{resolution:3d} px  cfg {cfg}  {number:3d} samples  right parts {exact:.3f}  duplicated {duplicated:.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="train and write the weights to this safetensors file")
    parser.add_argument("--check", type=Path, help="print how many samples of these weights have the right parts")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and pictures (default %(default)s)")
    parser.add_argument("--samples", type=int, default=512, help="samples of the check (default %(default)s)")
    parser.add_argument("--state", type=Path, help="save the run to this file now and then, and continue from it")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.out is not None:
        save(train(options.steps, options.seed, options.state), options.out, options.steps, options.seed)
    for path in (options.out, options.check):
        if path is not None:
            check(path, options.samples)


if __name__ == "__main__":
    main()
