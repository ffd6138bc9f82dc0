"""A picture without edges, rolled by any number of pixels, gives the rolled result."""

import k_diffusion.sampling as kd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from itermix import Settings, sample
from itermix.mixing.filters import Workspace, around, haar_low, low_pass, projection
from itermix.model.crops import parts, starts
from itermix.model.parts import Parts, folded, padded
from itermix.model.windows import FORMULAS, Windows
from itermix.picture.enlarging import back_projected, rims
from itermix.picture.fidelity import put_back
from itermix.standalone.upscaling import Method, prepared

SIGMAS = kd.get_sigmas_karras(5, 0.05, 12.0)
BY = (20, 28)


class Round(nn.Module):
    """A network whose convolution looks at the opposite edge, as WebUIs switch it to."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.kernel = torch.randn(3, 3, 3, 3, generator=generator, dtype=torch.float64) / 9

    def forward(self, x, sigma):
        scale = 1 + sigma.view(-1, 1, 1, 1) ** 2
        return x / scale + torch.tanh(F.conv2d(padded(x / scale.sqrt(), (1, 1, 1, 1), "circular"), self.kernel))


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rolled(x, by=BY):
    return x.roll(by, dims=(-2, -1))


def made(latent, noise, **settings):
    return sample(
        kd.sample_euler, Round(), latent, SIGMAS, Settings(denoise=1.0, **settings), noise=noise, disable=True
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"blending": "low-pass"},
        {"blending": "low-pass", "cutoff": 2.5},
        {"blending": "clean low-pass", "alpha": 0.5},
        {"blending": "low-pass", "detail": 0.5},
    ],
    ids=str,
)
def test_a_run_doesnt_know_where_the_edges_are(settings):
    latent, noise = random(1, 3, 40, 56), random(1, 3, 40, 56, seed=2)
    found = made(latent, noise, seamless=True, **settings)
    torch.testing.assert_close(made(rolled(latent), rolled(noise), seamless=True, **settings), rolled(found))
    with_edges = made(latent, noise, **settings)
    assert (made(rolled(latent), rolled(noise), **settings) - rolled(with_edges)).abs().max() > 1e-3


@pytest.mark.parametrize(("size", "scale"), [(40, 2.0), (42, 3.3), (24, 1.5), (7, 7.0)])
def test_the_filter_is_a_projection_that_turns_with_the_picture(size, scale):
    x, work = random(1, 2, size, size), Workspace(wraps=True)
    low = low_pass(x, scale, work=work)
    torch.testing.assert_close(low_pass(low, scale, work=work), low)
    assert torch.allclose(low_pass(torch.ones_like(x), scale, work=work), torch.ones_like(x))
    matrix = torch.from_numpy(projection(around, size, scale))
    assert round(float(matrix.trace())) == round(size / scale)
    if scale % 1 == size % scale == 0:
        turned = rolled(x, (int(scale), 0))
        torch.testing.assert_close(low_pass(turned, scale, work=work), rolled(low, (int(scale), 0)))
    assert torch.equal(haar_low(x, scale, work=work), haar_low(x, scale))  # whose areas end at the edges


@pytest.mark.parametrize("overlap", [0.25, 0.5])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 16), (12, 64), (20, 20)])
def test_the_crops_go_all_around(height, width, overlap):
    settings = Settings(window=16, window_overlap=overlap, window_jitter=False, seamless=True)
    x = random(2, 3, height, width)
    torch.testing.assert_close(Windows(settings).put_together(lambda part, of: part, x), x)
    seen = []

    def counted(part, of):
        seen.append(part.shape[0] // 2)
        return part

    Windows(settings.replace(window_jitter=True)).put_together(counted, x)
    assert sum(seen) == parts(settings, height, width)[0]
    stride = height // len(starts(settings, height))
    by = (stride, 0) if height % len(starts(settings, height)) == 0 else (0, 0)

    def local(part, of):
        return torch.tanh(F.conv2d(F.pad(part, (1, 1, 1, 1)), Round().kernel))

    found = Windows(settings).put_together(local, x)
    torch.testing.assert_close(Windows(settings).put_together(local, rolled(x, by)), rolled(found, by))


@pytest.mark.parametrize("formulas", FORMULAS)
@pytest.mark.parametrize("jitter", [True, False])
def test_hints_go_around_with_the_crops(formulas, jitter):
    settings = Settings(window=16, window_formulas=formulas, window_jitter=jitter, seamless=True)
    x, hint = random(2, 3, 40, 24), random(1, 3, 40, 24, seed=2)
    found = Windows(settings).put_together(lambda part, of: of.of_hint(hint, 1), x)
    torch.testing.assert_close(found, hint.expand(2, -1, -1, -1))


def test_there_and_back_around_a_circle():
    x = random(1, 1, 5, 7)
    assert torch.equal(padded(x, (0, 14, 0, 10), "circular"), x.repeat(1, 1, 3, 3))
    torch.testing.assert_close(folded(x.repeat(1, 1, 3, 3), 5, 7), 9 * x)
    assert torch.equal(Parts(x, (), (2, 3, 1, 0), "circular").surrounded(x), F.pad(x, (2, 3, 1, 0), mode="circular"))


@pytest.mark.parametrize("scale", [2, 3])
def test_fidelity_and_back_projection_look_at_the_opposite_edge(scale):
    small = random(1, 3, 16, 24)
    large = random(1, 3, 16 * scale, 24 * scale, seed=2)
    by = (5 * scale, 7 * scale)

    def kept(large, small, wraps):
        x = large.clone()
        put_back(x, small, (16, 24), 0.5, wraps=wraps)
        return x

    for wraps in (True, False):
        apart = kept(rolled(large, by), rolled(small, (5, 7)), wraps) - rolled(kept(large, small, wraps), by)
        assert (float(apart.abs().max()) < 1e-9) is wraps
    assert back_projected(large, small).shape == large.shape


@pytest.mark.parametrize(
    ("side", "target", "rim", "larger"),
    [(64, 128, 8, 16), (64, 96, 8, 12), (512, 776, 64, 97), (100, 752, 25, 188), (7, 24, 14, 48)],
)
def test_rims_are_the_least_whole_pixels_from_8_on(side, target, rim, larger):
    assert rims(side, target) == (rim, larger)
    assert rim * target == larger * side


@pytest.mark.parametrize("target", [(48, 32), (36, 24)])
@pytest.mark.parametrize("back_projection", [True, False])
def test_a_picture_is_enlarged_as_one_without_edges(target, back_projection):
    source = random(1, 3, 16, 24).tanh().float()
    by = (4, 8)
    larger = (by[0] * target[1] // 16, by[1] * target[0] // 24)
    for seamless in (True, False):
        method = Method("", Settings(seamless=seamless), back_projection=back_projection)
        found = prepared(source, target, method)
        assert found.shape[-2:] == target[::-1]
        apart = prepared(rolled(source, by), target, method) - rolled(found, larger)
        assert (float(apart.abs().max()) < 1e-5) is seamless
