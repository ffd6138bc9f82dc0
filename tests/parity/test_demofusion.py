"""DemoFusion's own code (arXiv 2311.16973), as loops of our own from the paper's formulas and that code's."""

import itertools
import math
from contextlib import nullcontext

import pytest
import torch
from parity import Model, apart, picture, row
from torch import nn
from torch.nn import functional as F

from itermix import Settings, weights
from itermix.model.windows import Windows, attached
from itermix.picture.colour import anchor_of, match_anchor, match_statistics
from itermix.picture.phases import plan
from itermix.sampling import Pass
from itermix.settings.presets import expanded
from itermix.steps.parametrisation import vp

ORDER = 3
SECTION = """## DemoFusion

The preset *DemoFusion paper* has its skip residual alone, *DemoFusion complete* all of it;
[demofusion.md](demofusion.md) has what else differs. Choose the sampler DDIM: its own is of that kind.
"""
HEADS = ("DemoFusion", "here", "note")

PAPER = Settings(**expanded({"preset": "DemoFusion paper"}))
COMPLETE = Settings(**expanded({"preset": "DemoFusion complete"}))
ALPHAS = torch.linspace(0.9999, 0.005, 1000, dtype=torch.float64)
TIMESTEPS = torch.tensor([1, 201, 401, 601, 801])
WINDOW = 16


class Noise(nn.Module):
    """Gives the noise of a state at a timestep, as SDXL does."""

    def __init__(self):
        super().__init__()
        self.of = Model()

    def forward(self, x, t):
        return self.of(x, t.to(x) / 200)


def ddim_step(x, eps, t, following):
    """arXiv 2010.02502, eq. 12 with sigma = 0."""
    clean = (x - (1 - ALPHAS[t]).sqrt() * eps) / ALPHAS[t].sqrt()
    return ALPHAS[following].sqrt() * clean + (1 - ALPHAS[following]).sqrt() * eps


def ddim(model, x, timesteps, extra_args=None, callback=None):
    """As a timestep sampler of the WebUIs."""
    ends = timesteps.flip(0).tolist()
    for i, (t, following) in enumerate(itertools.pairwise(ends)):
        eps = model(x, torch.tensor([t] * len(x)))
        callback({"i": i, "x": x, "denoised": eps})
        x = ddim_step(x, eps, t, following)
    return x


def mixed(settings, z0, noise):
    model, windows = Noise(), Windows(settings, vp(ALPHAS))
    given = {"windows": windows} if settings.window else {}
    with attached(model, windows) if settings.window else nullcontext():
        run = Pass(ddim, z0, range(len(z0)), settings, vp(ALPHAS), noise, given)
        return run.run(model, None, timesteps=TIMESTEPS)


def factor(t):
    return 0.5 * (1 + math.cos(math.pi * (1000 - t) / 1000))


def skip_residual(z0, noise, step, exponent=3.0):
    """One phase: the mix before each step, of z' of its level, and then what `step` makes of the state."""
    x = None
    for t, following in itertools.pairwise(TIMESTEPS.flip(0).tolist()):
        noised = ALPHAS[t].sqrt() * z0 + (1 - ALPHAS[t]).sqrt() * noise
        c1 = factor(t) ** exponent
        x = noised if x is None else (1 - c1) * x + c1 * noised
        x = step(x, t, following)
    return x


@row(
    "cosine_scale_1 (3)",
    "*Creativity* 3, *Progress in* noise level",
    "The same curve along the model's timesteps, to 1e-6.",
)
def test_the_curve():
    timesteps = torch.arange(981, 0, -20)
    found = weights(PAPER, len(timesteps), vp(ALPHAS).progress(timesteps))
    expected = torch.tensor([factor(int(t)) ** 3 for t in timesteps], dtype=torch.float64)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


@row(
    "skip residual, one noise for a phase",
    "the preset *DemoFusion paper*",
    "A whole phase is the same, to 1e-6.",
)
def test_the_skip_residual():
    z0, noise, model = picture(), picture(seed=2), Noise()
    expected = skip_residual(z0, noise, lambda x, t, s: ddim_step(x, model(x, torch.tensor([t])), t, s))
    assert apart([mixed(PAPER, z0, noise)], [expected]) < 1e-6


def local(model, x, t, following):
    """The average of what a step makes of crops, every half window; without jitter."""
    value, count = torch.zeros_like(x), torch.zeros_like(x)
    for top, left in itertools.product(range(0, x.shape[-2] - WINDOW + 1, WINDOW // 2), repeat=2):
        part = (..., slice(top, top + WINDOW), slice(left, left + WINDOW))
        value[part] += ddim_step(x[part], model(x[part], torch.tensor([t])), t, following)
        count[part] += 1
    return value / count


def thinned_out(model, x, t, following, scale, sigma, exponent):
    """What a step makes of sub-grids of the state, with the noise that is found in the blurred state."""
    size, deviation = 2 * scale - 1, sigma * (0.99 * factor(t) ** exponent + 0.01)
    line = torch.exp(-((torch.arange(size).double() - size // 2) ** 2) / (2 * deviation**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    blurred = F.conv2d(x, kernel.expand(x.shape[1], 1, -1, -1), padding=size // 2, groups=x.shape[1])
    blurred = (blurred - blurred.mean()) / blurred.std() * x.std() + x.mean()
    found = torch.zeros_like(x)
    for h, w in itertools.product(range(scale), repeat=2):
        part = (..., slice(h, None, scale), slice(w, None, scale))
        found[part] = ddim_step(x[part], model(blurred[part], torch.tensor([t])), t, following)
    return found


@row(
    "cosine_scale_2, cosine_scale_3 (1), sigma, view_batch_size; stride of half the window",
    "*Dilated sampling*, *Gaussian alpha*, *Gaussian sigma*, *Windows per call*; *Window* 128 for SDXL, or the "
    "preset *DemoFusion complete*",
    "A whole phase with crops and thinned-out pictures is the same, to 1e-6. The jitter is drawn from another "
    "generator.",
)
@pytest.mark.parametrize("side", [32, 48])
def test_crops_and_thinned_out_pictures(side):
    z0, noise, model, scale = picture(side, side), picture(side, side, seed=2), Noise(), side // WINDOW

    def step(x, t, following):
        c2 = factor(t) ** 1.2
        whole = thinned_out(model, x, t, following, scale, 0.8, 0.9)
        return (1 - c2) * local(model, x, t, following) + c2 * whole

    settings = COMPLETE.replace(window=WINDOW, window_jitter=False, dilated=1.2, gaussian_sigma=0.8, gaussian_alpha=0.9)
    assert apart([mixed(settings, z0, noise)], [skip_residual(z0, noise, step)]) < 1e-6


@row(
    "mean and deviation of the first phase, at the end of each",
    "*Match colours* with *Colour formulas* DemoFusion, or the preset *DemoFusion complete*",
    "The same, to 1e-6: one mean and one deviation of the whole latent, from the first one before it was enlarged. "
    "*Colour formulas* channels is another thing: each channel gets those of the phase's source.",
)
def test_the_statistics():
    first, x = 0.7 * picture(8, 8) + 0.2, 2 * picture(16, 16, seed=2) - 1
    x[:, 1] += 2
    expected = (x - x.mean()) / x.std() * first.std() + first.mean()
    assert apart([match_anchor(x, anchor_of(first))], [expected]) < 1e-6
    assert COMPLETE.match_colours
    assert COMPLETE.colour_formulas == "DemoFusion"
    assert apart([match_statistics(x, F.interpolate(first, (16, 16)))], [expected]) > 0.1


def cubic(distance):
    """Keys' convolution with a = -3/4 (IEEE ASSP 29, 1981), which torch takes for bicubic."""
    d, a = abs(distance), -0.75
    if d < 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def by_cubic(line, count):
    found = []
    for i in range(count):
        place = (i + 0.5) * len(line) / count - 0.5
        below = math.floor(place)
        taken = [(line[min(max(k, 0), len(line) - 1)], cubic(place - k)) for k in range(below - 1, below + 3)]
        found.append(sum(float(value) * share for value, share in taken))
    return found


@row(
    "each phase's latent, enlarged in latent space",
    "*Upscaler* Latent (bicubic)",
    "The same interpolation. In the hires pass it goes on from the latent, as there; the upscale script encodes each "
    "phase's picture first. The presets leave the upscaler to you.",
)
def test_enlarging():
    line = picture()[0, 0, 0]
    enlarged = F.interpolate(line.expand(1, 1, 8, 8), size=(8, 20), mode="bicubic")[0, 0, 3]
    torch.testing.assert_close(enlarged, torch.tensor(by_cubic(line, 20), dtype=torch.float64), atol=1e-6, rtol=0)
    assert "upscaler" not in expanded({"preset": "DemoFusion complete"})


@row(
    "phases of 2, 3, 4, ... times the first size",
    "*Scale per phase*",
    "Phases of at most 2 times the one before: 4 times is 2 and then 4, not 2, 3 and 4.",
)
def test_phases():
    assert [size[0] // 1024 for size in plan(1024, 1024, scale=4)] == [2, 4]


@row(
    "statistics of a whole batch",
    "of each picture",
    "DemoFusion makes one picture at a time. Here each of a batch is what it is alone.",
)
def test_a_batch():
    pair, noise = picture(32, 32, batch=2), picture(32, 32, batch=2, seed=2)
    settings = COMPLETE.replace(window=WINDOW)
    both = mixed(settings, pair, noise)
    alone = [mixed(settings, pair[k : k + 1], noise[k : k + 1]) for k in range(2)]
    assert apart([both], [torch.cat(alone)]) < 1e-9
    x, first = 2 * pair - 1, 0.5 * noise
    matched = [match_anchor(x[k : k + 1], anchor_of(first[k : k + 1])) for k in range(2)]
    assert apart([match_anchor(x, anchor_of(first))], [torch.cat(matched)]) < 1e-9
