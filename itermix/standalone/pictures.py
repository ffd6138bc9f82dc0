"""Procedural pictures: a face with a hat, rendered natively at every resolution.

A scene is described in normalised coordinates ([-1, 1] on both axes, y down), so one scene can be rendered at 32, 64
or 128 px and the truth at a larger size is known. Every scene has exactly one head, one hat, two eyes and one mouth.
The colours of the parts are far apart, also when mixed at anti-aliased edges, so that `parts.py` can tell them apart
by colour alone at every size.

The texture of hat and shirt is a sum of octaves of equal amplitude, the finest of 2.5 px at *every* resolution: the
statistics of its finest octave are the same at every size, and a picture that lacks it is blurred. A picture of
half the size can't hold that octave: a render that is pooled nearly equals the smaller render, so a method that is
faithful to the source may still paint all of the detail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

HAT_NAMES = ("blue", "green", "purple")
"""Names of the hat colours; the index is the class of a scene."""

HAT_COLOURS = ((0.17, 0.38, 0.80), (0.20, 0.70, 0.29), (0.60, 0.19, 0.72))
"""RGB in [0, 1], in the order of `HAT_NAMES`."""

OCTAVES = 4
COARSEST_PERIOD = 0.3125
"""Period of the coarsest texture octave in normalised units; each further octave halves it."""

FINEST_PERIOD = 2.3
"""Octaves with a period below this many pixels are left out, as pixels cannot hold them."""

STRIPE_CONTRAST, CHECK_CONTRAST = 0.13, 0.10
"""Amplitude of an octave as a share of the colour. Checks are fainter, so that no dark spot of a grey shirt looks like
an eye."""

BRIM = -0.45
"""Height of the hat's brim in head radii above (negative) the head's centre."""


@dataclass(frozen=True)
class Scenes:
    """Parameters of N scenes; every field is a tensor with N as its first dimension.

    Lengths are in normalised units for `radius` and `centre`, in head radii for everything inside the head's frame;
    angles are in radians and colours are RGB in [0, 1].
    """

    label: Tensor  # [N] int64, index into HAT_NAMES
    radius: Tensor  # [N]
    aspect: Tensor  # [N] width of the head over its height
    centre: Tensor  # [N, 2] x, y of the head
    tilt: Tensor  # [N]
    background: Tensor  # [N, 3]
    skin: Tensor  # [N, 3]
    shirt: Tensor  # [N, 3]
    hat: Tensor  # [N, 3]
    eye: Tensor  # [N, 3]
    mouth: Tensor  # [N, 3]
    eye_x: Tensor  # [N] distance of both eyes from the head's axis
    eye_y: Tensor  # [N]
    eye_radius: Tensor  # [N]
    mouth_y: Tensor  # [N]
    mouth_size: Tensor  # [N, 2] half axes
    crown_size: Tensor  # [N, 2] half width and half height of the hat's crown
    hat_angle: Tensor  # [N] direction of the hat's stripes
    hat_phase: Tensor  # [N, OCTAVES]
    shirt_angle: Tensor  # [N] direction of the shirt's checks
    shirt_phase: Tensor  # [N, OCTAVES, 2]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: slice | Tensor) -> Scenes:
        """The scenes of a slice, an index tensor or a boolean mask."""
        return Scenes(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


class Window(NamedTuple):
    """A square part of each scene in normalised units: its centre [N, 2] and half of its side [N]."""

    centre: Tensor
    half: Tensor


class Masks(NamedTuple):
    """Coverage in [0, 1] of regions of N pictures, each [N, H, H]."""

    hat: Tensor
    background: Tensor


def sample_scenes(count: int, generator: torch.Generator) -> Scenes:
    """Draw `count` scenes."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def shade(colour: Tensor, low: float, high: float, jitter: float = 0.0) -> Tensor:
        return colour * uniform(low, high, 1) + uniform(-jitter, jitter, 3)

    label = torch.randint(len(HAT_NAMES), (count,), generator=generator)
    grey = torch.ones(3)
    return Scenes(
        label=label,
        radius=uniform(0.50, 0.62),
        aspect=uniform(0.90, 1.10),
        centre=torch.stack((uniform(-0.18, 0.18), uniform(0.08, 0.25)), 1),
        tilt=uniform(-0.2, 0.2),
        background=shade(grey, 0.62, 0.92, jitter=0.06),
        skin=shade(torch.tensor((0.97, 0.79, 0.49)), 0.84, 1.0, jitter=0.02),
        shirt=shade(grey, 0.70, 0.78, jitter=0.02),
        hat=shade(torch.tensor(HAT_COLOURS)[label], 0.92, 1.05),
        eye=shade(grey, 0.04, 0.12),
        mouth=shade(torch.tensor((0.88, 0.08, 0.12)), 0.90, 1.08),
        eye_x=uniform(0.37, 0.45),
        eye_y=uniform(-0.02, 0.10),
        eye_radius=uniform(0.17, 0.21),
        mouth_y=uniform(0.54, 0.62),
        mouth_size=torch.stack((uniform(0.30, 0.42), uniform(0.11, 0.14)), 1),
        crown_size=torch.stack((uniform(0.65, 0.85), uniform(0.36, 0.50)), 1),
        hat_angle=uniform(-0.7, 0.7),
        hat_phase=uniform(0.0, 2 * math.pi, OCTAVES),
        shirt_angle=uniform(-0.6, 0.6),
        shirt_phase=uniform(0.0, 2 * math.pi, OCTAVES, 2),
    )


def sample_windows(count: int, generator: torch.Generator) -> Window:
    """Draw windows of 0.25 to 0.8 of the picture's side that lie inside the picture."""
    half = 0.25 + 0.55 * torch.rand(count, generator=generator)
    centre = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - half[:, None])
    return Window(centre, half)


def render(scenes: Scenes, resolution: int, window: Window | None = None) -> Tensor:
    """Pictures [N, 3, H, H] in [-1, 1] of N scenes, anti-aliased; `window` renders a part of each scene instead."""
    x, y, density = _grid(scenes, resolution, window)
    layers = _coverage(scenes, x, y, density)
    stripes, checks = _textures(scenes, x, y, density)
    picture = scenes.background[:, :, None, None]
    for colour, texture, coverage in (
        (scenes.shirt, 1 + CHECK_CONTRAST * checks, layers.shirt),
        (scenes.skin, None, layers.head),
        (scenes.eye, None, layers.eyes),
        (scenes.mouth, None, layers.mouth),
        (scenes.hat, 1 + STRIPE_CONTRAST * stripes, layers.hat),
    ):
        paint = colour[:, :, None, None] if texture is None else colour[:, :, None, None] * texture[:, None]
        picture = picture + (paint - picture) * coverage[:, None]
    return picture.clamp(0, 1) * 2 - 1


def masks(scenes: Scenes, resolution: int) -> Masks:
    """Where the textured hat and the flat background of N scenes are seen."""
    layers = _coverage(scenes, *_grid(scenes, resolution, None))
    return Masks(layers.hat, (1 - layers.shirt) * (1 - layers.head) * (1 - layers.hat))


class _Layers(NamedTuple):
    """Coverage [N, H, H] in [0, 1] of the things in a scene, each without regard to what is painted over it."""

    shirt: Tensor
    head: Tensor
    eyes: Tensor
    mouth: Tensor
    hat: Tensor


def _column(values: Tensor) -> Tensor:
    """[N] to [N, 1, 1], to be combined with planes [N, H, W]."""
    return values[:, None, None]


def _grid(scenes: Scenes, resolution: int, window: Window | None) -> tuple[Tensor, Tensor, Tensor]:
    """Centres x, y of the pixels in scene coordinates, each [N, H, H], and pixels per normalised unit [N, 1, 1]."""
    count = len(scenes)
    ticks = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    x = ticks[None, None, :].expand(count, resolution, resolution)
    y = ticks[None, :, None].expand(count, resolution, resolution)
    density = torch.full((count, 1, 1), resolution / 2)
    if window is not None:
        half = _column(window.half)
        x = _column(window.centre[:, 0]) + half * x
        y = _column(window.centre[:, 1]) + half * y
        density = density / half
    return x, y, density


def _ellipse(x: Tensor, y: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """Approximate signed distance to an ellipse with half axes a, b (first order, exact at the outline)."""
    near = torch.sqrt((x / a) ** 2 + (y / b) ** 2) + 1e-6
    slope = torch.sqrt((x / a**2) ** 2 + (y / b**2) ** 2) + 1e-6
    return near * (near - 1) / slope


def _box(x: Tensor, y: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """Signed distance to a box with half sides a, b."""
    dx, dy = x.abs() - a, y.abs() - b
    outside = torch.sqrt(dx.clamp(min=0) ** 2 + dy.clamp(min=0) ** 2 + 1e-12)
    return outside + torch.maximum(dx, dy).clamp(max=0)


def _coverage(scenes: Scenes, x: Tensor, y: Tensor, density: Tensor) -> _Layers:
    """Coverage of every thing at pixels of the given density: 0.5 at the outline, a ramp one pixel wide around it."""
    radius = _column(scenes.radius)
    cos, sin = torch.cos(_column(scenes.tilt)), torch.sin(_column(scenes.tilt))
    dx, dy = x - _column(scenes.centre[:, 0]), y - _column(scenes.centre[:, 1])
    u, v = (dx * cos + dy * sin) / radius, (dy * cos - dx * sin) / radius

    def covered(distance: Tensor) -> Tensor:
        return (0.5 - distance * radius * density).clamp(0, 1)

    eye_radius = _column(scenes.eye_radius)
    eye = _ellipse(u.abs() - _column(scenes.eye_x), v - _column(scenes.eye_y), eye_radius, eye_radius)
    mouth = _ellipse(u, v - _column(scenes.mouth_y), _column(scenes.mouth_size[:, 0]), _column(scenes.mouth_size[:, 1]))
    crown_width, crown_height = _column(scenes.crown_size[:, 0]), _column(scenes.crown_size[:, 1])
    hat = torch.minimum(_box(u, v - (BRIM - crown_height), crown_width, crown_height), _box(u, v - BRIM, 1.15, 0.12))
    # The head ends under the brim: skin beside a narrow crown would look like further heads.
    head = torch.maximum(_ellipse(u, v, _column(scenes.aspect), 1.0), BRIM - v)
    return _Layers(
        shirt=covered(_ellipse(u, v - 1.9, 1.3, 1.0)),
        head=covered(head),
        eyes=covered(eye),
        mouth=covered(mouth),
        hat=covered(hat),
    )


def _textures(scenes: Scenes, x: Tensor, y: Tensor, density: Tensor) -> tuple[Tensor, Tensor]:
    """Stripes of the hat and checks of the shirt, each [N, H, H]: sums of octaves of amplitude 1."""

    def rotated(angle: Tensor) -> tuple[Tensor, Tensor]:
        cos, sin = torch.cos(_column(angle)), torch.sin(_column(angle))
        return x * cos + y * sin, y * cos - x * sin

    stripe_u, _ = rotated(scenes.hat_angle)
    check_u, check_v = rotated(scenes.shirt_angle)
    stripes, checks = torch.zeros_like(x), torch.zeros_like(x)
    finest = COARSEST_PERIOD * density.max().item() / FINEST_PERIOD
    for octave in range(min(OCTAVES, 1 + int(math.log2(max(finest, 1))))):
        period = COARSEST_PERIOD / 2**octave
        shown = (period * density >= FINEST_PERIOD).to(x.dtype)
        wave = 2 * math.pi / period
        phase_u, phase_v = scenes.shirt_phase[:, octave].unbind(1)
        stripes = stripes + shown * torch.cos(wave * stripe_u + _column(scenes.hat_phase[:, octave]))
        check = torch.cos(wave * check_u + _column(phase_u)) * torch.cos(wave * check_v + _column(phase_v))
        checks = checks + shown * check
    return stripes, checks
