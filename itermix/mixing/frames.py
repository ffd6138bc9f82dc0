"""Latents of video models: their frames are pictures of their own. Other latents pass as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor


def count(latent: Tensor) -> int:
    """Frames of each of the latents [B, C, T, H, W], which is T, or [B, C, H, W], which is 1."""
    return latent.shape[2] if latent.ndim == 5 else 1


def pictures(latent: Tensor) -> Tensor:
    """[B * T, C, H, W], contiguous, of a latent [B, C, T, H, W]; a latent [B, C, H, W] is given back."""
    return latent.transpose(1, 2).flatten(0, 1).contiguous() if latent.ndim == 5 else latent


def latents(pictures: Tensor, like: Tensor) -> Tensor:
    """`pictures` undone: [B, C, T, H, W] or [B, C, H, W], whichever `like` is."""
    return pictures.unflatten(0, (len(like), -1)).transpose(1, 2) if like.ndim == 5 else pictures


@contextmanager
def edited(latent: Tensor) -> Iterator[Tensor]:
    """The pictures of a latent; what becomes of them inside becomes of the latent, in place."""
    found = pictures(latent)
    yield found
    if found.data_ptr() != latent.data_ptr():  # of one frame they are the latent itself
        latent.copy_(latents(found, latent))


def seeds(of_latents: Sequence[int], frames: int) -> list[int]:
    """A seed for each frame of each latent: the latent's for the first, and none that another latent has."""
    return [seed + (frame << 64) for seed in of_latents for frame in range(frames)]
