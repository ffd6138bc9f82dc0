"""Blending: x <- B(z', x, weight), with `weight` the weight of the noised latent z'.

Each function works in place on `x` [B, C, H, W] and may use `noised` (same shape and dtype, contiguous; None for those
that aren't in `USES_NOISED`) as scratch space. Those that filter need a few planes [H, W] of single precision besides.
Every image of a batch is blended on its own. At weight 0 x stays as it is, but for norm-only.

A weight is a number, or one for each pixel, [B or 1, 1, H, W] like x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from itermix.mixing.filters import Workspace, haar_low, low_pass
from itermix.parameters import MAX_SCALE, ON, Part, SettingsError, Size, parameter, scale_between

if TYPE_CHECKING:
    from typing_extensions import Self


DEFAULT_SCALE = 2.0  # of the enlargement, where it isn't known


@dataclass(frozen=True)
class Guide:
    """What is known at a step besides the state and its z'.

    Attributes:
        scale: how many times the guiding picture was enlarged, at least 1: what it could hold before is what is low.
        latent: z0 [B, C, H, W], the guiding picture, clean.
        denoised: the model's estimate of the clean picture at the step before, [B, C, H, W].
        signal: amount of signal in the state of this noise level: 1 in VE, sqrt(a_t) in VP, 1 - sigma in flow.
        work: of the filters, kept from step to step.
    """

    scale: float = DEFAULT_SCALE
    latent: Tensor | None = None
    denoised: Tensor | None = None
    signal: float = 1.0
    work: Workspace | None = None


Weight = float | Tensor

NEARLY_PARALLEL = 1e-3  # below this sine the arc and the straight line agree to 1e-6


def addition(x: Tensor, noised: Tensor, weight: Weight, guide: Guide) -> None:
    """weight * z' + (1 - weight) * x: DemoFusion (arXiv 2311.16973), eq. 4."""
    x.lerp_(noised, weight)


def slerp(x: Tensor, noised: Tensor, weight: Weight, guide: Guide) -> None:
    """Spherical interpolation; along a straight line where no arc is defined (parallel, opposite or zero vectors)."""
    length_x, length_noised = _lengths(x), _lengths(noised)
    product = length_x * length_noised
    cosine = (_dots(x, noised) / product.clamp_min(torch.finfo(torch.float32).tiny)).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    straight = (sine < NEARLY_PARALLEL) | (product == 0)
    sine = sine.masked_fill(straight, 1)
    for_noised = torch.where(straight, weight, torch.sin(weight * angle) / sine)
    for_x = torch.where(straight, 1 - weight, torch.sin((1 - weight) * angle) / sine)
    _weighted_sum(x, for_x, noised, for_noised)


def norm_only(x: Tensor, noised: Tensor, weight: Weight, guide: Guide) -> None:
    """weight * z' + (1 - weight) * x * |z'| / |x| (ComfyUI Iterative Mixing node); a zero x stays zero."""
    length = _lengths(x)
    ratio = torch.where(length == 0, 0.0, _lengths(noised) / length)
    _weighted_sum(x, (1 - weight) * ratio, noised, torch.zeros_like(ratio) + weight)


def mix_low(x: Tensor, noised: Tensor, weight: Weight, guide: Guide) -> None:
    """x + weight * LP(z' - x): ILVR (arXiv 2108.02938) with a weight; what is finer stays the sampler's own."""
    difference = noised.sub_(x)
    _add(x, low_pass(difference, guide.scale, out=difference, work=guide.work), weight)


def mix_wavelet(x: Tensor, noised: Tensor, weight: Weight, guide: Guide) -> None:
    """x + weight * LL(z' - x), LL the low band of the wavelet transform: HiWave (arXiv 2506.20452), with Haar's."""
    difference = noised.sub_(x)
    _add(x, haar_low(difference, guide.scale, out=difference, work=guide.work), weight)


def mix_clean_low(x: Tensor, noised: None, weight: Weight, guide: Guide) -> None:
    """x + signal * weight * LP(z0 - denoised): the structure guidance of DiffuseHigh (arXiv 2406.18459).

    It moves the clean part of the state and leaves its noise alone, whatever noise the sampler has added.
    """
    _mix_clean(low_pass, x, weight, guide)


def mix_clean_wavelet(x: Tensor, noised: None, weight: Weight, guide: Guide) -> None:
    """The same with the low band of the Haar transform; DiffuseHigh takes a wavelet transform too."""
    _mix_clean(haar_low, x, weight, guide)


def variance_preserving(x: Tensor, noised: Tensor, weight: Weight, guide: Guide) -> None:
    """m + (mix - m) / sqrt(weight^2 + (1 - weight)^2) around m = signal * (weight * z0 + (1 - weight) * denoised).

    For noise in z' that is independent of that in x: their sum has too little, and so the model, which expects more,
    smooths the detail away. The deviation from the clean part m is brought back to its length.
    """
    assert guide.latent is not None
    assert guide.denoised is not None
    length = (weight**2 + (1 - weight) ** 2) ** 0.5  # torch 2.1 has no hypot for half precision
    x.lerp_(noised, weight)
    clean = torch.lerp(guide.denoised, guide.latent, weight, out=noised).mul_(guide.signal)
    _add(x.div_(length), clean, 1 - 1 / length)


BLENDINGS: dict[str, Callable[[Tensor, Any, Weight, Guide], None]] = {
    "addition": addition,
    "slerp": slerp,
    "norm-only": norm_only,
    "low-pass": mix_low,
    "wavelet": mix_wavelet,
    "clean low-pass": mix_clean_low,
    "clean wavelet": mix_clean_wavelet,
    "variance-preserving": variance_preserving,
}

USES_DENOISED = frozenset({"clean low-pass", "clean wavelet", "variance-preserving"})
"""Blendings for which `Guide.latent` and `Guide.denoised` must be given."""

USES_NOISED = frozenset(BLENDINGS) - {"clean low-pass", "clean wavelet"}
"""Blendings that look at z' at every step, and not only at the first, where it is the state."""

KEEPS_NOISE = {
    "addition": "shared",
    "low-pass": "shared",
    "wavelet": "shared",
    "clean low-pass": "shared",
    "clean wavelet": "shared",
    "variance-preserving": "independent",
}
"""{blending: noise with which the blended state has as much noise as the level says}."""


@dataclass(frozen=True, init=False)
class BlendingSettings(Part):
    """How z' and the state become one."""

    blending: str = parameter(
        "low-pass",
        "Blending",
        "How the noised source and the sampler's state become one. addition: weighted sum. slerp: along the arc "
        "between the two. norm-only: weighted sum after scaling the sampler's state to the length of the noised "
        "source. low-pass: weighted sum of what the smaller picture could hold, leaving finer detail free. wavelet: "
        "the same in the bands of a wavelet transform. clean low-pass, clean wavelet: move the clean picture in the "
        "state and leave its noise. variance-preserving: weighted sum for independent noise. Weight 0 leaves the state "
        "as it is in all of them.",
        "blending",
        "Blending",
        choices=tuple(BLENDINGS),
    )
    cutoff: float = parameter(
        0.0,
        "Cut-off",
        "Guided is what a picture this many times smaller can hold. For the low-pass and wavelet blendings; and for "
        "Detail, which strengthens what is finer. 0: the scale of the upscale, or 2 where there is none.",
        "cutoff",
        "Blending",
        low=0.0,
        high=MAX_SCALE,
        step=0.05,
        needs=({"blending": ("low-pass", "wavelet", "clean low-pass", "clean wavelet"), "detail": ON},),
    )

    def _check_together(self) -> None:
        super()._check_together()
        if 0 < self.cutoff < 1:
            raise SettingsError("cutoff", self.cutoff, "Allowed: 0, or a number from 1 to 8.")

    def of_phase(self, source: Size, target: Size, first: Size | None = None, last: bool = True) -> Self:
        """A cut-off of 0 becomes the scale."""
        settings = super().of_phase(source, target, first, last)
        return settings if settings.cutoff else settings.replace(cutoff=scale_between(source, target))

    @property
    def held_scale(self) -> float:
        """How many times smaller a picture can hold what is guided."""
        return self.cutoff or DEFAULT_SCALE


def _mix_clean(low: Callable[..., Tensor], x: Tensor, weight: Weight, guide: Guide) -> None:
    """One plane after the other, since the space that is kept through the model's calls should be small."""
    assert guide.latent is not None
    assert guide.denoised is not None
    work = guide.work or Workspace()
    error = work.space("error", x.shape[-2:], x)
    for *image, of_image in zip(x, guide.latent, guide.denoised, _of_images(weight, x)):
        for plane, clean, denoised in zip(*image):
            torch.sub(clean, denoised, out=error)
            _add(plane, low(error, guide.scale, out=error, work=work), guide.signal * of_image)


def _of_images(weight: Weight, x: Tensor) -> Sequence[Weight]:
    """The weight of each image of x [B, C, H, W]: a number, or [H, W]."""
    return list(weight.expand(len(x), 1, -1, -1)[:, 0]) if isinstance(weight, Tensor) else [weight] * len(x)


def _add(x: Tensor, y: Tensor, factor: Weight) -> None:
    """x <- x + factor * y, which takes the space of y."""
    if isinstance(factor, Tensor):
        x.add_(y.mul_(factor))  # torch 2.1 has no addcmul_ for a y of another type than x
    else:
        x.add_(y, alpha=factor)


def _lengths(x: Tensor) -> Tensor:
    """Euclidean length of each image, [B, 1, 1, 1], in single precision at least: half would overflow."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return _per_image(torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=dtype), x)


def _dots(x: Tensor, y: Tensor) -> Tensor:
    """Dot product of each pair of images, [B, 1, 1, 1], in single precision at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return _per_image(torch.bmm(x.flatten(1)[:, None].to(dtype), y.flatten(1)[:, :, None].to(dtype)), x)


def _per_image(values: Tensor, x: Tensor) -> Tensor:
    """B values, shaped to be combined with x [B, ...]."""
    return values.view(-1, *(1,) * (x.ndim - 1))


def _weighted_sum(x: Tensor, for_x: Tensor, noised: Tensor, for_noised: Tensor) -> None:
    """x <- for_x * x + for_noised * noised with a factor per image, [B, 1, 1, 1], or per pixel, [B, 1, H, W]."""
    noised.mul_(for_noised.to(x.dtype))
    x.mul_(for_x.to(x.dtype)).add_(noised)
