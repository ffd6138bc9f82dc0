"""The picture itself, as the built-in model makes it: what mixing is for must not get lost."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from itermix import Settings
from itermix.mixing.blending import KEEPS_NOISE
from itermix.standalone import evaluation, metrics, network
from itermix.standalone import upscaling as up
from itermix.standalone.evaluation import DIRECT, ENLARGED, Method

pytestmark = pytest.mark.xdist_group("picture quality")  # one process, or each would make the pictures

PICTURES, STEPS, SEED = 16, 8, 400_000
DEFAULT = Method("default", Settings())
HIRES = [Method(f"hires fix {strength:g}", strength) for strength in (0.2, 0.3, 0.4)]


@functools.cache
def model() -> up.Model:
    return up.Model(network.Guided(network.load()), steps=STEPS)


@pytest.fixture(scope="module")
def sources() -> up.Sources:
    return up.model_sources(dataclasses.replace(model(), steps=16), PICTURES, SEED)


@pytest.fixture(scope="module")
def group(sources: up.Sources) -> evaluation.Group:
    (found,) = evaluation.evaluate(model(), [ENLARGED, DIRECT, *HIRES, DEFAULT], [sources], scales=(2,), references=128)
    return found


def test_sources_are_pictures_with_the_right_parts(sources):
    strict = metrics.read(sources.pictures, sources.pictures).strict
    assert strict.mean() == 1


def test_direct_sampling_duplicates_and_the_default_mixing_does_not(group):
    assert group.readings["direct"].strict.mean() <= 0.2
    assert group.readings["default"].strict.mean() >= 0.95


def test_the_default_has_half_as_much_detail_again_as_the_most_faithful_hires_fix(group):
    """None is as faithful as the default: not the weakest, and not the picture that is only enlarged."""
    names = [method.name for method in (DEFAULT, ENLARGED, *HIRES)]
    default, *rivals = (metrics.summary(group.readings[name], group.reference) for name in names)
    most_faithful = max(rivals, key=lambda rival: rival["psnr"])
    assert default["psnr"] > most_faithful["psnr"]
    assert default["detail"] >= 1.5 * most_faithful["detail"]
    assert default["detail"] > 0.8


def test_the_default_is_clean_and_far_more_faithful_than_hires_fix_of_less_detail(sources):
    """With 12 steps. With the 8 of the other tests its grain is a sixth above that of hires fix of 0.4."""
    methods = [*HIRES, DEFAULT]
    (found,) = evaluation.evaluate(dataclasses.replace(model(), steps=12), methods, [sources], (2,), references=128)
    *weaker, default = (metrics.summary(found.readings[method.name], found.reference) for method in methods)
    assert default["grain"] <= min(hires["grain"] for hires in weaker)
    assert default["detail"] > max(hires["detail"] for hires in weaker)
    assert default["psnr"] > weaker[-1]["psnr"] + 12


@pytest.mark.parametrize(
    ("sampler", "most", "count"),
    [("dpmpp_2m", 0.05, 4), ("euler", 0.05, 4), ("dpmpp_2m_sde", 0.05, 16), ("euler_ancestral", 0.1, 16)],
)
def test_there_is_as_much_detail_however_many_steps_there_are(sampler, most, count):
    """Without *Detail* it is 0.09 up and down with Euler, and 0.12 with Euler a.

    What a sampler adds of noise differs with the steps, so there it takes more pictures to see anything.
    """
    detailed, renders = Method("detail", Settings(denoise=0.7, detail=0.3, steps=0)), up.true_sources(count, SEED)
    found = []
    for steps in (8, 20, 40):
        painter = dataclasses.replace(model(), sampler=sampler, steps=steps)
        (made,) = evaluation.evaluate(painter, [detailed], [renders], (2,), references=32)
        found.append(metrics.summary(made.readings["detail"], made.reference)["detail"])
    assert (max(found) - min(found)) / (max(found) + min(found)) < most


class Listening(nn.Module):
    """A denoiser that measures the noise of the states it is called with, in the flat background of the sources."""

    def __init__(self, denoiser: nn.Module, sources: Tensor):
        super().__init__()
        self.denoiser = denoiser
        flat = [metrics.regions(source, 1)[1].repeat(2, axis=0).repeat(2, axis=1) for source in sources]
        self.background = [torch.from_numpy(ndimage.binary_erosion(mask, iterations=2)) for mask in flat]
        unit = torch.randn(8, 64, 64, generator=torch.Generator().manual_seed(0))
        self.unit = metrics.top_octave(unit).std()
        self.ratios: list[float] = []

    def forward(self, x: Tensor, sigma: Tensor, **kwargs) -> Tensor:
        octave = metrics.top_octave(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        noise = torch.cat([planes[:, mask].flatten() for planes, mask in zip(octave, self.background)])
        self.ratios.append(float(noise.std() / self.unit / sigma[0]))
        return self.denoiser(x, sigma, **kwargs)


def noise_levels(sources: up.Sources, recipe: Settings | float) -> Tensor:
    """[12] noise in the state over what the model is told, at the steps of an upscale to twice the size."""
    few = dataclasses.replace(sources, pictures=sources.pictures[:4], labels=sources.labels[:4])
    listening = Listening(model().denoiser, few.pictures)
    guided = dataclasses.replace(model(), denoiser=listening, steps=12)
    *_, _ = up.phases(guided, Method("listened to", recipe), few, (64, 64))
    return torch.tensor(listening.ratios)


@pytest.fixture(scope="module")
def without_mixing(sources: up.Sources) -> Tensor:
    """Hires fix over half of the schedule, the rest of which has the noise that was put in."""
    return noise_levels(sources, 0.5)


@pytest.mark.parametrize(("blending", "noise"), sorted(KEEPS_NOISE.items()))
def test_the_state_has_the_noise_that_the_model_is_told(sources, without_mixing, blending, noise):
    """At the last levels, under 0.1, the built-in model itself takes a little too much away, with mixing or without."""
    found = noise_levels(sources, Settings(denoise=1.0, steps=12, blending=blending, noise=noise, alpha=0.5))
    early = up.karras(12)[:-1] > 0.1
    assert len(found) == 12
    assert early.sum() >= 9
    assert found[early].min() >= 0.95
    assert found.max() <= 1.1
    assert found.min() >= without_mixing.min() - 0.06


def test_plain_mixing_of_independent_noise_loses_noise(sources):
    """So the test above can fail, and this is why variance-preserving exists."""
    assert (
        noise_levels(
            sources, Settings(denoise=1.0, steps=12, blending="addition", noise="independent", alpha=1.0)
        ).min()
        < 0.7
    )
