"""The windows against the formulas of DemoFusion's pipeline, written here as a loop over stepped states."""

import contextlib
import itertools
import math

import k_diffusion.sampling as kd
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from itermix import Settings, SettingsError, sample
from itermix.mixing.blending import USES_DENOISED
from itermix.model.crops import DEMOFUSION, calls, dilation, parts
from itermix.model.windows import FORMULAS, Windows, attached, check, gaussian
from itermix.parameters import Known
from itermix.sampling import Pass
from itermix.steps.parametrisation import ve, vp

WINDOW = 16
CHANNELS = 4
ALPHAS = torch.linspace(0.9999, 0.005, 1000, dtype=torch.float64)
TIMESTEPS = torch.tensor([1, 201, 401, 601, 801])
SIZES = [(32, 32), (32, 48), (48, 20), (33, 38)]


class Model(nn.Module):
    """Smooth, and what it makes of a pixel depends on the pixels around it; it keeps the shapes that it sees."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.kernel = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator, dtype=torch.float64) / 8
        self.shapes, self.shifts = [], []

    def forward(self, x, level, shift=None):
        self.shapes.append(tuple(x.shape))
        self.shifts += [] if shift is None else [float(shift.mean())]
        level = level.to(x).view(-1, 1, 1, 1)
        found = torch.tanh(F.conv2d(x, self.kernel.to(x), padding=1)) + 0.2 * x / (1 + level / 500)
        return found if shift is None else found + shift.view(-1, 1, 1, 1)


class Affine(Model):
    """The same for every surrounding of a pixel, so that crops can't matter."""

    def forward(self, x, level, shift=None):
        super().forward(x, level)
        return 0.3 * x + 0.1


def picture(height, width, batch=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, CHANNELS, height, width, generator=generator, dtype=torch.float64)


def ddim(model, x, timesteps, extra_args=None, callback=None):
    """DDIM (arXiv 2010.02502, eq. 12 with sigma = 0) as a timestep sampler of the WebUIs; the model gives the noise."""
    ends = timesteps.flip(0).tolist()
    for i, t in enumerate(ends[:-1]):
        eps = model(x, torch.tensor([t] * len(x)), **(extra_args or {}))
        callback({"i": i, "x": x, "denoised": eps})
        x = ddim_step(x, eps, t, ends[i + 1])
    return x


def ddim_step(x, eps, t, next_t):
    clean = (x - (1 - ALPHAS[t]).sqrt() * eps) / ALPHAS[t].sqrt()
    return ALPHAS[next_t].sqrt() * clean + (1 - ALPHAS[next_t]).sqrt() * eps


def views_of_the_pipeline(height, width, window, stride, random):
    """Top, bottom, left and right of the crops, counted in the picture with the jitter's range around it."""
    many = [int((side - window) / stride - 1e-6) + 2 if side > window else 1 for side in (height, width)]
    reach = (window - stride) // 4
    views = []
    for k in range(many[0] * many[1]):
        ends = []
        for place, side in ((k // many[1], height), (k % many[1], width)):
            start, end = place * stride, place * stride + window
            if end > side:
                start, end = start + side - end, side
            start = max(start, 0)
            jitter = 0
            if start != 0 and end != side:
                jitter = random(-reach, reach)
            elif start == 0 and end != side:
                jitter = random(-reach, 0)
            elif start != 0 and end == side:
                jitter = random(0, reach)
            ends += [start + jitter + reach, end + jitter + reach]
        views.append(ends)
    return views


def filtered_of_the_pipeline(x, size, sigma):
    distance = torch.arange(size).double() - (size - 1) / 2
    line = torch.exp(-(distance**2) / (2 * sigma**2))
    line = line / line.sum()
    kernel = (line[:, None] * line[None, :])[None, None].repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, kernel, padding=size // 2, groups=x.shape[1])


def pipeline(model, latent, noise, cosine_scales, sigma, scale):
    """One phase of DemoFusion's pipeline: the states after a step are averaged, those of the crops and those of the
    sub-grids. `model` gives the noise. The crops are moved by the numbers that `Windows` draws."""
    ends = TIMESTEPS.flip(0).tolist()
    height, width = latent.shape[-2:]
    stride = WINDOW // 2
    reach = (WINDOW - stride) // 4
    scale_1, scale_2, scale_3 = cosine_scales
    latents = None
    for i, t in enumerate(ends[:-1]):
        following = ends[i + 1]
        noised = ALPHAS[t].sqrt() * latent + (1 - ALPHAS[t]).sqrt() * noise
        cosine_factor = 0.5 * (1 + math.cos(math.pi * (1000 - t) / 1000))
        latents = noised if latents is None else latents
        c1 = cosine_factor**scale_1
        latents = latents * (1 - c1) + noised * c1

        generator = np.random.default_rng(i + 1)
        random = lambda low, high: int(generator.integers(low, high + 1))  # noqa: E731, B023
        padded = F.pad(latents, (reach, reach, reach, reach))
        value, count = torch.zeros_like(padded), torch.zeros_like(padded)
        for top, bottom, left, right in views_of_the_pipeline(height, width, WINDOW, stride, random):
            crop = padded[:, :, top:bottom, left:right]
            stepped = ddim_step(crop, model(crop, torch.tensor([t])), t, following)
            value[:, :, top:bottom, left:right] += stepped
            count[:, :, top:bottom, left:right] += 1
        inside = (..., slice(reach, reach + height), slice(reach, reach + width))
        local = value[inside] / count[inside]

        above, before = (scale - height % scale) % scale, (scale - width % scale) % scale
        padded = F.pad(latents, (before, 0, above, 0))
        c3 = 0.99 * cosine_factor**scale_3 + 1e-2
        blurred = filtered_of_the_pipeline(padded, 2 * scale - 1, sigma * c3)
        blurred = (blurred - blurred.mean()) / blurred.std() * padded.std() + padded.mean()
        whole = torch.zeros_like(padded)
        for h, w in itertools.product(range(scale), range(scale)):
            eps = model(blurred[:, :, h::scale, w::scale], torch.tensor([t]))
            whole[:, :, h::scale, w::scale] = ddim_step(padded[:, :, h::scale, w::scale], eps, t, following)

        c2 = cosine_factor**scale_2
        latents = local * (1 - c2) + whole[:, :, above:, before:] * c2
    return latents


@pytest.mark.parametrize(("height", "width"), [size for size in SIZES if min(size) >= WINDOW])
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_with_ddim_it_is_demofusions_pipeline(height, width, batch):
    latent, noise = picture(height, width), picture(height, width, seed=2)
    settings = Settings(
        denoise=1.0,
        blending="addition",
        curve="cosine",
        alpha=3.0,
        progress="noise level",
        detail=0.0,
        fidelity=0.0,
        window=WINDOW,
        window_batch=batch,
        window_formulas="DemoFusion",
        dilated=1.3,
        gaussian_sigma=0.8,
        gaussian_alpha=0.7,
    )
    model = Model()
    windows = Windows(settings, vp(ALPHAS))
    with attached(model, windows):
        run = Pass(ddim, latent, [0], settings, vp(ALPHAS), noise, {"windows": windows}).function()
        found = run(model, None, timesteps=TIMESTEPS)
    scale = dilation(height, width, WINDOW)
    expected = pipeline(Model(), latent, noise, (3.0, 1.3, 0.7), 0.8, scale)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)  # the weights of the mixing have single precision
    plain = Pass(ddim, latent, [0], settings.replace(window=0), vp(ALPHAS), noise).function()(
        Model(), None, timesteps=TIMESTEPS
    )
    assert (plain - expected).abs().max() > 0.01


@pytest.mark.parametrize("formulas", FORMULAS)
def test_with_euler_it_is_the_same_of_a_model_that_gives_the_clean_picture(formulas):
    """The step of DDIM is Euler's in x / sqrt(a), and the model's clean picture says as much as its noise."""

    class Clean(nn.Module):
        def __init__(self):
            super().__init__()
            self.noise = Model()

        def forward(self, x, sigma):
            at = sigma.to(x).view(-1, 1, 1, 1)
            t = (1 / (1 + sigma[0] ** 2) - ALPHAS).abs().argmin()
            return x - at * self.noise(x / (1 + at**2).sqrt(), t.expand(len(x)))

    latent, noise = picture(32, 32), picture(32, 32, seed=2)
    some = {"blending": "addition", "fidelity": 0.0, "progress": "noise level"}
    settings = Settings(denoise=1.0, **some, window=WINDOW, window_formulas=formulas)
    windows = Windows(settings, vp(ALPHAS))
    model = Model()
    with attached(model, windows):
        run = Pass(ddim, latent, [0], settings, vp(ALPHAS), noise, {"windows": windows}).function()
        expected = run(model, None, timesteps=TIMESTEPS) / ALPHAS[TIMESTEPS[0]].sqrt()
    sigmas = ((1 - ALPHAS) / ALPHAS).sqrt()
    windows = Windows(settings)
    model = Clean()
    with attached(model, windows):
        run = Pass(kd.sample_euler, latent, [0], settings, ve(sigmas), noise, {"windows": windows}).function()
        found = run(model, None, sigmas=sigmas[TIMESTEPS].flip(0), disable=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


SIGMAS = kd.get_sigmas_karras(6, 0.05, 12.0)
ON = {"denoise": 1.0, "window": WINDOW, "window_batch": 3, "window_overlap": 0.5, "dilated": 1.0}


def run(model, latent, settings, sampler=kd.sample_euler, **arguments):
    return sample(sampler, model, latent, SIGMAS, Settings(**settings), disable=True, **arguments)


@pytest.mark.parametrize(("height", "width"), [*SIZES, (16, 40), (8, 130)])
@pytest.mark.parametrize("jitter", [True, False])
def test_no_call_gets_more_than_so_many_windows(height, width, jitter):
    model = Model()
    run(model, picture(height, width, batch=2), {**ON, "window_jitter": jitter, "dilated": 0.5})
    assert len(model.shapes) > len(SIGMAS)
    for pictures, _, *sides in model.shapes:
        assert pictures <= 2 * ON["window_batch"]
        assert max(sides) <= WINDOW


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("dilated", [0.0, 1.0])
def test_the_calls_are_as_many_as_foretold(height, width, dilated):
    model = Model()
    settings = Settings(**{**ON, "dilated": dilated})
    windows = Windows(settings)
    windows.weight = 0.4 if dilated else 0.0
    with attached(model, windows):
        model(picture(height, width), torch.ones(1))
    local, thinned = parts(settings, height, width)
    assert len(model.shapes) == calls(settings, height, width) == -(-local // 3) + -(-thinned // 3)
    seen = sum(count * h * w for count, _, h, w in model.shapes)
    scale = dilation(height, width, WINDOW)
    added = math.ceil(height / scale) * math.ceil(width / scale) * scale**2 - height * width  # to sides that divide
    assert seen == settings.pixels_seen(height, width) + (added if dilated else 0)


def test_a_picture_that_fits_is_shown_as_it_is():
    latent = picture(16, 12, batch=2)
    plain, with_window = Model(), Model()
    assert torch.equal(run(plain, latent, {"denoise": 1.0}), run(with_window, latent, ON))
    assert with_window.shapes == plain.shapes == [(2, CHANNELS, 16, 12)] * 6


def test_a_model_without_surroundings_gives_the_same_with_crops():
    latent = picture(33, 48)
    plain, found = (run(Affine(), latent, settings) for settings in ({"denoise": 1.0}, {**ON, "dilated": 0.0}))
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-6)  # crops are averaged in single precision


def test_a_model_without_surroundings_gives_the_same_with_sub_grids_if_nothing_is_blurred():
    x = picture(33, 48)
    windows = Windows(Settings(**ON))
    windows.weight, model = 1.0, Affine()
    with attached(model, windows):
        torch.testing.assert_close(model(x, torch.ones(1)), 0.3 * x + 0.1, rtol=0, atol=1e-12)
        windows.blur = 1.0
        expected = 0.3 * gaussian(x, 5, 1.0) + 0.1
        torch.testing.assert_close(model(x, torch.ones(1)), expected, rtol=0, atol=1e-12)


def test_the_two_formulas_differ_by_what_the_blur_has_hidden():
    """Of a clean picture D(blurred x) the noise in x is x - D, and that in the blurred state is blurred x - D."""
    x, found = picture(32, 32), {}
    for formulas in FORMULAS:
        model, windows = Affine(), Windows(Settings(**ON, window_formulas=formulas))
        windows.weight, windows.blur = 1.0, 1.0
        with attached(model, windows):
            found[formulas] = model(x, torch.ones(1))
    torch.testing.assert_close(found[DEMOFUSION] - found["clean picture"], x - gaussian(x, 3, 1.0))


def test_over_the_edge_a_crop_sees_the_mirror_image_or_nothing():
    x = torch.ones(1, CHANNELS, 40, 40, dtype=torch.float64)
    for formulas, least in (("clean picture", 1.0), (DEMOFUSION, 0.0)):
        seen = []

        class Seeing(nn.Module):
            def forward(self, x, level, seen=seen):
                seen.append(float(x.min()))
                return x

        model, windows = Seeing(), Windows(Settings(**{**ON, "dilated": 0.0}, window_formulas=formulas))
        with attached(model, windows):
            assert torch.allclose(model(x, torch.ones(1)), x)
        assert min(seen) == least


@pytest.mark.parametrize(
    ("blending", "detail", "named"),
    [(name, 0.0, f"the blending {name}") for name in sorted(USES_DENOISED)] + [("addition", 0.1, "detail")],
)
def test_demofusions_formulas_are_refused_where_the_clean_picture_is_needed(blending, detail, named):
    settings = {**ON, "blending": blending, "detail": detail, "window_formulas": DEMOFUSION}
    with pytest.raises(SettingsError, match=f"with {named}, which .*: clean picture"):
        run(Model(), picture(32, 32), settings)


def test_they_are_refused_before_the_phase_in_which_a_window_comes_by_itself():
    settings = Settings(window_formulas=DEMOFUSION, detail=0.1)
    with pytest.raises(SettingsError, match=r"window_formulas = 'DemoFusion' is not possible\. Allowed with detail, "):
        check(settings)
    check(settings.replace(window_auto=False))
    check(settings.replace(detail=0.0))


@pytest.mark.parametrize("sampler", [kd.sample_euler, kd.sample_heun, kd.sample_dpmpp_2m, kd.sample_dpmpp_sde])
def test_it_repeats_and_each_picture_of_a_batch_is_the_one_made_alone(sampler):
    both = picture(32, 40, batch=2)
    found = run(Model(), both, ON, sampler)
    assert torch.isfinite(found).all()
    assert torch.equal(run(Model(), both, ON, sampler), found)
    if sampler is kd.sample_dpmpp_sde:
        return  # draws noise for the batch as a whole
    for k in range(2):
        alone = run(Model(), both[k : k + 1], {**ON, "seed": k}, sampler)
        torch.testing.assert_close(alone, found[k : k + 1], rtol=0, atol=1e-12)


def test_no_generator_of_others_moves():
    torch.manual_seed(3)
    np.random.seed(3)
    before, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(Model(), picture(32, 32), ON)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == of_numpy).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"window": 24},
        {"window_jitter": False},
        {"window_formulas": DEMOFUSION},
        {"window_overlap": 0.25},
        {"dilated": 0.0},
        {"dilated": 2.0},
        {"gaussian_sigma": 0.0},
        {"gaussian_sigma": 2.0},
        {"gaussian_alpha": 3.0},
    ],
)
def test_every_setting_changes_the_result(changes):
    latent, on = picture(48, 48), {**ON, "blending": "addition", "detail": 0.0}
    assert (run(Model(), latent, {**on, **changes}) - run(Model(), latent, on)).abs().max() > 1e-6


def test_how_many_a_call_takes_does_not():
    latent = picture(48, 48)
    found = run(Model(), latent, {**ON, "window_batch": 64})
    torch.testing.assert_close(found, run(Model(), latent, ON), rtol=0, atol=1e-6)


def test_without_a_window_the_other_settings_do_nothing():
    latent = picture(32, 32)
    others = {"window_jitter": False, "window_batch": 9, "dilated": 3.0, "gaussian_sigma": 0.1, "gaussian_alpha": 5.0}
    model, plain = Model(), Model()
    assert torch.equal(run(model, latent, others), run(plain, latent, {}))
    assert model.shapes == plain.shapes


def test_the_calls_in_words_and_when_a_window_comes_by_itself():
    """Of latents, whose pixels are whole: a side of 1032 is 64 of 16."""
    known, settings = Known(64, factor=16), Settings(window=64, window_batch=1)
    words = settings.words_of_all(8, [(1032, 2048), (3072, 1032)], known)
    assert words == ", 3, then 4 calls of the model in the place of one"
    assert settings.words_of_all(8, [(1024, 512)], Known(64, factor=16)) == ""
    assert settings.words_of_all(8, [(1024, 512)]).startswith(", 3 calls")  # pixels of 8, where nothing is known
    without = Settings(window_batch=1)
    assert without.of_model((1032, 1024), known) == without
    assert without.of_model((1040, 1024), known).window == 64


def test_the_filter_keeps_mean_and_deviation_of_each_image():
    x = picture(20, 30, batch=2) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1) + 0.7
    blurred = gaussian(x, 5, 1.0)
    for k in range(2):
        assert blurred[k].mean() == pytest.approx(float(x[k].mean()))
        assert blurred[k].std() == pytest.approx(float(x[k].std()))
        torch.testing.assert_close(blurred[k : k + 1], gaussian(x[k : k + 1], 5, 1.0))
    roughness = [float(y.diff(dim=-1).square().mean()) for y in (x, blurred)]
    assert roughness[1] < roughness[0] / 2
    assert gaussian(x, 5, 0.0) is x
    assert torch.equal(gaussian(torch.ones(1, 4, 8, 8), 1, 0.5), torch.ones(1, 4, 8, 8))


def test_the_filter_works_in_single_precision_at_least():
    x = picture(20, 30).half()
    assert torch.equal(gaussian(x, 5, 1.0), gaussian(x.float(), 5, 1.0).half())


def test_what_a_model_leaves_as_it_is_comes_back_to_the_bit_in_half_precision_too():
    x = picture(40, 40).bfloat16()
    windows = Windows(Settings(**ON))
    windows.weight = 0.3
    assert torch.equal(windows.put_together(lambda part, of: part, x), x)


def test_half_precision_stays_half_and_near():
    windows = Windows(Settings(**ON))
    windows.weight, windows.blur, model = 0.5, 0.7, Model()
    x = picture(32, 40)
    with attached(model, windows):
        exact = model(x, torch.ones(1))
        windows._calls = 0
        half = model(x.to(torch.bfloat16), torch.ones(1))
    assert half.dtype == torch.bfloat16
    assert (half.double() - exact).abs().max() < 0.1


@pytest.mark.parametrize("overlap", [0.1, 0.25, 0.5])
def test_crops_give_way_to_each_other_without_a_seam(overlap):
    """Each call gives another constant, as if the model saw each crop in another light: no step from pixel to pixel is
    as large as those between crops. With a plain mean it is."""

    def steps(formulas):
        settings = Settings(window=32, window_batch=1, window_jitter=False, window_formulas=formulas,
                            window_overlap=overlap)  # fmt: skip
        windows, count = Windows(settings), itertools.count()
        found = windows.put_together(lambda part, parts: torch.full_like(part, float(next(count) % 2)), picture(32, 96))
        return float(found.diff(dim=-1).abs().max())

    assert steps("clean picture") < 1.2 * math.pi / 2 / (overlap * 32)
    assert steps(DEMOFUSION) >= 0.5


def grid(size=128, calls=40, **settings):
    """Variance of the error, within a picture, of a model that is wrong in the same way in every crop, most at its
    edges: the mean of so many calls."""
    windows = Windows(Settings(window=16, window_batch=64, **settings))
    edge = torch.linspace(-1, 1, 16, dtype=torch.float64) ** 4
    total = torch.zeros(size, size, dtype=torch.float64)
    for windows._calls in range(calls):
        zeros = torch.zeros(1, 1, size, size, dtype=torch.float64)
        total += windows.put_together(lambda part, parts: (edge[:, None] + edge).expand_as(part), zeros)[0, 0]
    return float((total / calls)[24:-24, 24:-24].var())


def test_what_is_wrong_at_the_edges_of_crops_leaves_less_of_a_grid_than_a_plain_mean():
    """Though a plain mean has twice the overlap; and next to nothing with as much."""
    plain = grid(window_formulas=DEMOFUSION, window_jitter=False)
    assert grid() < plain / 2
    assert grid(window_overlap=0.5) < plain / 20


def test_each_part_gets_what_belongs_to_its_picture():
    both, shift = picture(32, 32, batch=2), torch.tensor([0.0, 5.0], dtype=torch.float64)
    found = run(Model(), both, ON, extra_args={"shift": shift})
    for k in range(2):
        alone = run(Model(), both[k : k + 1], {**ON, "seed": k}, extra_args={"shift": shift[k : k + 1]})
        torch.testing.assert_close(alone, found[k : k + 1], rtol=0, atol=1e-12)


def test_the_weights_follow_the_noise_level_also_between_the_steps():
    """cos^2 over the progress in timesteps; the second call of Heun is at the level of the next step."""
    settings = Settings(**{**ON, "dilated": 2.0}, gaussian_sigma=0.5, gaussian_alpha=3.0, progress="noise level")
    model, windows, seen = Model(), Windows(settings), []
    model.register_forward_pre_hook(
        lambda module, args: seen.append((float(args[1][0]), windows.weight, windows.blur)), prepend=False
    )
    with attached(model, windows):
        latent = picture(32, 32)
        told = Pass(kd.sample_heun, latent, [0], settings, ve(), given={"windows": windows}).function()
        # `following` puts its hook after this one, so what is seen is of the call before.
        told(model, None, sigmas=SIGMAS, disable=True)
    levels = [level for level, _, _ in seen]
    assert len(levels) == 2 * 6 - 1
    for level, (_, weight, blur) in zip(levels, seen[1:]):
        cosine = (1 + math.cos(math.pi * float(1 - math.atan(level) * 2 / math.pi))) / 2
        cosine = min(cosine, (1 + math.cos(math.pi * (1 - math.atan(12.0) * 2 / math.pi))) / 2)
        assert weight == pytest.approx(cosine**2, abs=2e-3)
        assert blur == pytest.approx(0.5 * (0.99 * cosine**3 + 0.01), abs=2e-3)


def test_with_crops_alone_there_are_no_sub_grids():
    model, windows = Model(), Windows(Settings(**ON, gaussian_sigma=2.0))
    windows.weight = 1.0
    with windows.of_crops(model):
        model(picture(8, 8), torch.tensor([5.0]))
        assert windows.weight == pytest.approx(0, abs=1e-12)
        assert windows.blur == pytest.approx(0.02)
    assert hooks(model) == 0


def test_a_model_that_gives_the_noise_gives_that_of_the_picture_found():
    """Of a sub-grid it finds 0.3 x + 0.1; the noise with which the picture found makes up the state as it is."""
    x, t = picture(32, 32), torch.tensor([400])
    model, windows = Affine(), Windows(Settings(**ON), vp(ALPHAS))
    with attached(model, windows), windows.following(model, lambda level: 0.0):
        found = model(x, t)
    blurred, signal, noise = gaussian(x, 3, 1.0), ALPHAS[400].sqrt(), (1 - ALPHAS[400]).sqrt()
    clean = (blurred - noise * (0.3 * blurred + 0.1)) / signal
    torch.testing.assert_close(found, (x - signal * clean) / noise)


def test_windows_that_another_attaches_are_left_to_it():
    model, settings = Model(), Settings(**ON)
    given = {"windows": Windows(settings)}
    Pass(kd.sample_euler, picture(32, 32), [0], settings, ve(), given=given).function()(
        model, None, sigmas=SIGMAS, disable=True
    )
    assert set(model.shapes) == {(1, CHANNELS, 32, 32)}


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_the_frames_of_a_video_are_cut_alike(weight):
    """The model gets parts [N * K, C, T, h, w], and what it makes over frames and channels is put together as such."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, CHANNELS, 3, 40, 24, generator=generator, dtype=torch.float64)
    shapes, windows = [], Windows(Settings(**ON))
    windows.weight = weight

    def made(video):
        return video.cumsum(dim=2) + torch.arange(1.0, CHANNELS + 1).view(-1, 1, 1, 1)

    def model(shown, parts):
        shapes.append(shown.shape[1:3])
        assert torch.equal(parts(x), shown)
        return made(shown)

    torch.testing.assert_close(windows.put_together(model, x), made(x), rtol=0, atol=1e-6)
    assert set(shapes) == {(CHANNELS, 3)}


def hooks(model):
    return len(model._forward_hooks) + len(model._forward_pre_hooks)


@pytest.mark.parametrize("own", [False, True])
def test_nothing_stays_on_the_model(own):
    model = Model()
    if own:  # what another has put there
        model.forward = lambda x, level: 0.5 * x
    before = vars(model).get("forward")
    run(model, picture(32, 32), ON)
    with pytest.raises(KeyboardInterrupt):
        run(model, picture(32, 32), ON, callback=interrupted)
    assert vars(model).get("forward") is before
    assert hooks(model) == 0


def interrupted(info):
    raise KeyboardInterrupt


def test_what_comes_before_each_call_may_end_the_run():
    model, seen = Model(), []

    @contextlib.contextmanager
    def around_call(parts, own):
        assert 1 <= len(parts.views) <= 3
        assert torch.equal(own["shift"], torch.full((len(parts.views),), 2.0))
        seen.append(len(model.shapes))
        if len(seen) == 3:
            raise KeyboardInterrupt
        yield {"shift": own["shift"] + 1}
        left.append(len(model.shapes))

    left = []
    windows = Windows(Settings(**ON))
    with pytest.raises(KeyboardInterrupt), attached(model, windows, around_call):
        model(picture(48, 48), torch.ones(1), shift=torch.full((1,), 2.0))
    assert (seen, left) == ([0, 1, 2], [1, 2])
    assert model.shifts == [3.0] * 2
    assert "forward" not in vars(model)


@pytest.mark.parametrize("window", [-8, 7, 12, 100.5, 264])
def test_a_window_that_is_not_possible_is_refused(window):
    with pytest.raises(SettingsError, match="window = "):
        Settings(window=window)


def test_what_a_window_may_be_is_said():
    with pytest.raises(SettingsError) as error:
        Settings(window=12)
    assert (error.value.value, error.value.allowed) == (12, "Allowed: a multiple of 8, or 0.")


def test_a_step_at_pure_noise_has_no_crops_and_one_without_noise_no_sub_grids():
    model, windows = Model(), Windows(Settings(**ON))
    with attached(model, windows):
        windows.weight = 1.0
        model(picture(32, 32), torch.ones(1))
        assert sum(shape[0] for shape in model.shapes) == 4
        model.shapes.clear()
        windows.weight = 0.0
        model(picture(32, 32), torch.ones(1))
        assert sum(shape[0] for shape in model.shapes) == 9
