"""A pass, and what `itermix.sample` makes of its arguments, without the mixing's own arithmetic."""

from contextlib import contextmanager

import k_diffusion.sampling as kd
import pytest
import torch
from torch import nn

import itermix
from itermix import NoisedLatents, Settings, SettingsError
from itermix.mixing.noising import draw, first_draw
from itermix.mixing.perlin import perlin
from itermix.mixing.run import Feature
from itermix.sampling import Pass
from itermix.steps.parametrisation import ve

SIGMAS = torch.tensor([3.0, 2.0, 1.0, 0.0])
PLAIN = Settings(denoise=1.0, blending="addition", detail=0.0)
UNMIXED = PLAIN.replace(highest=0.0)


class Shrinking(nn.Module):
    """Makes half of what it is given."""

    def forward(self, x, sigma, gain=0.5):
        return gain * x


def latent(*shape):
    return torch.randn(*(shape or (2, 3, 4, 4)), generator=torch.Generator().manual_seed(1))


def pass_of(settings, z=None, sampler=kd.sample_euler, noise=None, **given):
    z = latent() if z is None else z
    return Pass(sampler, z, range(3, 3 + len(z)), settings, ve(), noise, given)


@pytest.mark.parametrize(
    ("z", "value"),
    [
        (latent(3, 4, 4), r"'torch\.float32 \(3, 4, 4\)'"),
        (latent().long(), r"'torch\.int64 \(2, 3, 4, 4\)'"),
    ],
)
def test_what_is_no_latent_is_said(z, value):
    allowed = r"Allowed: floating point \[B, C, H, W\] or \[B, C, frames, H, W\], at least one picture\."
    with pytest.raises(SettingsError, match=rf"latent = {value} is not possible\. {allowed}"):
        itermix.sample(kd.sample_euler, Shrinking(), z, SIGMAS, PLAIN)


def test_what_is_not_finite_is_said():
    with pytest.raises(SettingsError, match=r"latent = 'NaN or infinity' is not possible\. Allowed: finite numbers\."):
        itermix.sample(kd.sample_euler, Shrinking(), latent() / 0, SIGMAS, PLAIN)


def test_a_schedule_that_rises_is_said():
    allowed = r"Allowed: falling from step to step, to 0 at the least\."
    with pytest.raises(SettingsError, match=rf"sigmas = \[1\.0, 2\.0, 0\.0\] is not possible\. {allowed}"):
        itermix.sample(kd.sample_euler, Shrinking(), latent(), torch.tensor([1.0, 2.0, 0.0]), PLAIN)


@pytest.mark.parametrize(("seed", "taken"), [(-1, 0), (0, 0), (7, 7)])
def test_the_seed_is_that_of_the_first_picture_and_none_counts_as_0(seed, taken):
    states = []
    itermix.sample(
        kd.sample_euler,
        Shrinking(),
        latent(),
        SIGMAS,
        PLAIN.replace(seed=seed),
        callback=lambda info: states.append(info["x"]),
    )
    expected = latent() + 3.0 * draw(torch.empty(2, 3, 4, 4), [taken, taken + 1], 0)
    torch.testing.assert_close(states[0], expected)


def test_a_function_gets_the_arguments_that_the_model_is_to_get():
    gains = []

    def denoiser(x, sigma, gain):
        gains.append(gain)
        return gain * x

    itermix.sample(kd.sample_euler, denoiser, latent(), SIGMAS, PLAIN, extra_args={"gain": 0.25})
    assert gains == [0.25] * 3


def sample_with_gain(model, x, gain, *, sigmas, callback):
    """Takes something by position after the state."""
    for i, sigma in enumerate(sigmas[:-1]):
        x = gain * model(x, sigma.expand(len(x)))
        callback({"x": x, "i": i})
    return x


def test_what_a_host_gives_by_position_reaches_the_sampler():
    result = pass_of(UNMIXED, sampler=sample_with_gain).function()(Shrinking(), None, 0.5, sigmas=SIGMAS[1:])
    start = NoisedLatents(latent(), seeds=[3, 4]).at(0, SIGMAS[1])
    torch.testing.assert_close(result, start / 16)


@pytest.mark.parametrize("z", [None, latent(2, 3, 2, 4, 4)], ids=["pictures", "frames"])
def test_where_steps_are_left_out_the_state_that_is_given_is_not_the_start(z):
    """Without mixing, so that nothing else overwrites it; with new noise in each step."""
    settings = UNMIXED.replace(noise="independent", start_at_step=1)
    run = pass_of(settings, z)
    given = torch.zeros_like(run.latent)
    own, replaced = (run.run(Shrinking(), x, sigmas=SIGMAS, disable=True) for x in (None, given))
    assert torch.equal(own, replaced)
    whole = pass_of(UNMIXED, z)
    kept = whole.run(Shrinking(), torch.zeros_like(given), sigmas=SIGMAS, disable=True)
    assert torch.equal(kept, torch.zeros_like(given))  # the whole schedule begins where the host says


def test_what_a_callback_keeps_stays_as_it_is():
    states, copies = [], []

    def keep(info):
        states.append(info["x"])
        copies.append(info["x"].clone())

    pass_of(PLAIN).run(Shrinking(), None, sigmas=SIGMAS, callback=keep, disable=True)
    assert all(torch.equal(*pair) for pair in zip(states, copies))


class Looking(Feature):
    """Keeps what it is told; given as an analysis, which is whatever looks on."""

    def __init__(self):
        self.entered, self.passes, self.sources = [], [], []

    @contextmanager
    def around(self, run, model):
        self.entered.append((run, model))
        yield

    def noised(self, run, model, latent, arguments):
        self.sources.append((run, model, latent, arguments))

    def next_pass(self, *told):
        self.passes.append(told)


def euler_in_double(model, x, sigmas, callback, extra_args=None):
    return kd.sample_euler(model, x.double(), sigmas, callback=callback, disable=True)


euler_in_double.__name__ = "sample_euler"


def test_features_take_part_in_every_pass():
    """Two of them: the last one of three steps again, from the result in the type of the latent."""
    looking, model, settings = Looking(), Shrinking(), UNMIXED.replace(rewind=True, rewind_min=0.7, rewind_max=1.0)
    passed = pass_of(settings, sampler=euler_in_double, analysis=looking)
    states = []
    arguments = {"sigmas": SIGMAS, "extra_args": {}}
    result = passed.run(model, None, callback=lambda info: states.append((info["i"], info["x"])), **arguments)
    ((run, entered),) = looking.entered
    assert entered is model
    assert torch.equal(run.plan.levels, SIGMAS[:-1])
    assert looking.passes == [(2, 2, 1)]
    assert [(of, seen) for of, seen, *_ in looking.sources] == [(run, model)] * 2
    assert all(given == arguments for *_, given in looking.sources)
    first, second = (source for *_, source, _ in looking.sources)
    assert torch.equal(first, latent())
    assert second.dtype == torch.float32
    assert [i for i, _ in states] == [0, 1, 2, 2]
    start = second + draw(torch.empty_like(second), [3, 4], first_draw(1))  # fresh noise, of sigma 1
    torch.testing.assert_close(states[3][1].float(), start)
    torch.testing.assert_close(result, states[3][1] / 2)


def test_given_noise_is_that_of_the_first_pass():
    noise = latent().flip(0)
    passed = pass_of(PLAIN, noise=noise)
    run = passed.planned({"sigmas": SIGMAS})
    for number, expected in ((0, noise), (1, draw(torch.empty_like(noise), [3, 4], first_draw(1)))):
        noised = passed.noised(run, None, latent(), number, {})
        torch.testing.assert_close(noised.at(0, SIGMAS[0]), latent() + 3.0 * expected)


def mask_of(settings, z, drawn):
    found = pass_of(settings, z, mask=drawn).planned({"sigmas": SIGMAS}).mask
    return None if found is None else found.values


@pytest.mark.parametrize("count", [2, 3])
def test_each_frame_has_the_mask_of_its_latent(count):
    z, drawn = latent(2, 3, count, 4, 4), torch.tensor([0.25, 0.75]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    of_each = mask_of(PLAIN, z, drawn)
    assert of_each[:, 0, 0, 0].tolist() == [0.25] * count + [0.75] * count
    assert mask_of(PLAIN, z, drawn[:1])[:, 0, 0, 0].tolist() == [0.25]
    assert mask_of(PLAIN, latent(), drawn)[:, 0, 0, 0].tolist() == [0.25, 0.75]
    assert mask_of(PLAIN, z, None) is None
    with pytest.raises(SettingsError, match=r"mask = \(\) is not possible"):
        mask_of(PLAIN, z, torch.tensor(0.5))


def test_the_patches_of_a_picture_are_those_of_its_seed():
    values = mask_of(PLAIN.replace(perlin=0.5), latent(2, 3, 8, 8), None)
    for found, seed in zip(values, (3, 4)):
        torch.testing.assert_close(found[0], 1 - 0.5 * perlin(8, 8, PLAIN.perlin_scale, seed))


@pytest.mark.parametrize("seamless", [False, True])
def test_the_filters_know_whether_the_picture_is_seamless(seamless):
    assert pass_of(PLAIN.replace(seamless=seamless)).planned({"sigmas": SIGMAS}).work.wraps is seamless


def sample_dpm_adaptive(model, x, sigma_min, sigma_max, extra_args=None, callback=None):
    """Its first step alone, in three calls, which ends at black."""
    for _ in range(3):
        model(x, x.new_full((len(x),), sigma_max))
    callback({"x": x, "i": 0})
    return torch.zeros_like(x)


def test_a_later_pass_of_a_sampler_that_chooses_its_levels_begins_at_its_own():
    states = []
    passed = pass_of(UNMIXED.replace(rewind=True, rewind_max=0.6), sampler=sample_dpm_adaptive)
    passed.run(Shrinking(), None, callback=lambda info: states.append(info["x"]), sigma_min=0.01, sigma_max=100.0)
    first, second = states
    torch.testing.assert_close(first, latent() + 100.0 * draw(torch.empty_like(first), [3, 4], 0))
    level = 100 * 0.0001 ** (50 / 99)  # step 50 of 100 evenly in log sigma
    torch.testing.assert_close(second, level * draw(torch.empty_like(first), [3, 4], first_draw(1)))
