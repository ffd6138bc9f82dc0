"""Deep Shrink on a small network with the blocks of Stable Diffusion's U-Net and the joins of A1111's."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from itermix import Settings, SettingsError, sample
from itermix.mixing.curves import progress_of
from itermix.mixing.run import Run
from itermix.model.deep_shrink import SHRINK_METHODS, DeepShrink, DeepShrinkSettings, attached, check, last_level
from itermix.steps.parametrisation import ve
from itermix.steps.samplers import one_call
from itermix.steps.schedule import Schedule

CHANNELS = 4


def conv(channels, stride=1):
    return nn.Conv2d(channels, CHANNELS, 3, stride, padding=1)


class Upsample(nn.Module):
    """Known by its name, as in Stable Diffusion."""

    def __init__(self):
        super().__init__()
        self.conv = conv(CHANNELS)

    def forward(self, x, size=None):
        size = size or [2 * side for side in x.shape[2:]]
        return self.conv(F.interpolate(x, size, mode="nearest"))


class UNet(nn.Module):
    """Sizes of the skip connections, of 32 pixels: 32, 32, 16, 16, 8, 8.

    Where a size is no multiple of 4, doubling may give one pixel more than the skip connection has.
    """

    def __init__(self):
        super().__init__()
        two = 2 * CHANNELS
        self.input_blocks = nn.ModuleList(conv(CHANNELS, stride) for stride in (1, 1, 2, 1, 2, 1))
        self.middle_block = conv(CHANNELS)
        up = [conv(two), nn.Sequential(conv(two), Upsample()), conv(two), nn.Sequential(conv(two), Upsample())]
        self.output_blocks = nn.ModuleList([*up, conv(two), conv(two)])

    def forward(self, x):
        skips = []
        h = x
        for block in self.input_blocks:
            h = block(h)
            skips.append(h)
        h = self.middle_block(h)
        for block in self.output_blocks:
            skip = skips.pop()
            if h.shape[2:] != skip.shape[2:]:
                h = F.interpolate(h, skip.shape[2:], mode="nearest")
            h = block(torch.cat([h, skip], dim=1))
        return h


class Denoiser(nn.Module):
    """Keeps the sizes that its network's middle saw, one for each call, and the noise levels."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.sizes, self.levels = [], []
        network.middle_block.register_forward_pre_hook(lambda module, args: self.sizes.append(args[0].shape[-1]))

    def forward(self, x, sigma):
        self.levels.append(float(sigma[0]))
        return self.network(x) / 10


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return UNet().requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(2, CHANNELS, 32, 32, generator=torch.Generator().manual_seed(1))


def shrinking(**settings):
    shrink = DeepShrink(Settings(deep_shrink=0.35, **settings))
    shrink.active = True
    return shrink


def hooks(network):
    modules = list(network.modules())
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def by_hand(unet, x, block, factor, mode):
    """ComfyUI's forward, which tells each enlargement the size of the next skip connection, with its two patches."""
    skips = []
    h = x
    for k, module in enumerate(unet.input_blocks):
        h = module(h)
        skips.append(h)
        if k == block:
            h = F.interpolate(h, size=[round(side * (1 / factor)) for side in h.shape[2:]], mode=mode)
    h = unet.middle_block(h)
    for module in unet.output_blocks:
        skip = skips.pop()
        if h.shape[2:] != skip.shape[2:]:
            h = F.interpolate(h, size=skip.shape[2:], mode=mode)
        h = torch.cat([h, skip], dim=1)
        if isinstance(module, nn.Sequential):
            convolution, upsample = module
            h = upsample(convolution(h), skips[-1].shape[2:])
        else:
            h = module(h)
    return h


@pytest.mark.parametrize("method", SHRINK_METHODS)
@pytest.mark.parametrize("block", range(1, 6))
@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0, 3.3, 8.0])
def test_it_is_comfyuis_u_net_with_the_two_patches(unet, x, block, factor, method):
    shrink = shrinking(deep_shrink_block=block, deep_shrink_factor=factor, deep_shrink_method=method)
    with attached(unet, shrink):
        for size in ((32, 32), (24, 40), (30, 32), (31, 37)):
            part = x[..., : size[0], :].repeat(1, 1, 1, 2)[..., : size[1]]
            expected = by_hand_without_hooks(unet, part, block, factor, method)
            assert torch.equal(unet(part), expected)
            assert expected.shape[-2:] == size


def by_hand_without_hooks(unet, *args):
    copy = UNet()
    copy.load_state_dict(unet.state_dict())
    return by_hand(copy.requires_grad_(False), *args)


@pytest.mark.parametrize("block", range(1, 6))
@pytest.mark.parametrize("size", [(32, 32), (30, 32), (32, 29), (31, 27), (17, 18)])
def test_it_changes_the_result_while_it_is_active_alone(unet, x, size, block):
    """Whatever the size is: where it isn't a multiple of 4, A1111's joining is left to do what it does."""
    x = x[..., : size[0], : size[1]]
    plain = unet(x)
    shrink = shrinking(deep_shrink_block=block)
    with attached(unet, shrink):
        assert not torch.equal(unet(x), plain)
        shrink.active = False
        assert torch.equal(unet(x), plain)
    assert torch.equal(unet(x), plain)


def test_the_steps_after_its_share_are_those_of_a_run_without(unet):
    """From where it stops on, on the same state, at a size that isn't a multiple of 4."""
    x = torch.randn(1, CHANNELS, 30, 31, generator=torch.Generator().manual_seed(2))
    settings = Settings(denoise=1.0, blending="addition", lowest=1.0)  # z' in every step, whatever the model gave
    made = {}
    for share in (0.0, 0.35):
        denoised = []
        keep = lambda info, into=denoised: into.append(info["denoised"].clone())  # noqa: E731
        shrunk = settings.replace(deep_shrink=share)
        sample(euler, Denoiser(unet), x, SIGMAS, shrunk, unet=unet, callback=keep)
        made[share] = denoised
    same = [torch.equal(a, b) for a, b in zip(made[0.0], made[0.35])]
    assert same == [False, False, True, True]


def test_a_factor_of_1_changes_nothing(unet):
    x = torch.randn(1, CHANNELS, 30, 31, generator=torch.Generator().manual_seed(2))
    off, on = (Settings(denoise=1.0, deep_shrink=share, deep_shrink_factor=1.0) for share in (0.0, 1.0))
    plain = sample(euler, Denoiser(unet), x, SIGMAS, off)
    assert torch.equal(sample(euler, Denoiser(unet), x, SIGMAS, on, unet=unet), plain)


def test_one_pixel_is_left_of_the_smallest(unet):
    with attached(unet, shrinking(deep_shrink_factor=8.0)):
        assert unet(torch.zeros(1, CHANNELS, 8, 8)).shape[-2:] == (8, 8)


def test_the_hooks_are_gone_after_an_error(unet, x):
    with attached(unet, shrinking()):
        assert hooks(unet) == 16  # at each of the 13 blocks but the last, two before a block, and at two enlargements
    with pytest.raises(ZeroDivisionError), attached(unet, shrinking()):
        raise ZeroDivisionError
    assert hooks(unet) == 0


def test_a_call_that_failed_in_the_middle_does_not_reach_into_the_next(unet, x):
    expected = by_hand_without_hooks(unet, x, 3, 2.0, "bicubic")
    with attached(unet, shrinking()):
        failing = unet.middle_block.register_forward_pre_hook(lambda module, args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            unet(x)
        failing.remove()
        assert torch.equal(unet(x), expected)


@pytest.mark.parametrize(
    ("share", "progress", "expected"),
    [
        (0.35, "steps", 6.0),  # of the starts 0, 0.25, 0.5, 0.75
        (0.25, "steps", 8.0),
        (0.01, "steps", 8.0),
        (1.0, "steps", 1.0),
        (0.35, "noise level", 8.0),
        (0.05, "noise level", math.inf),
    ],
)
def test_the_level_down_to_which_it_acts(share, progress, expected):
    settings = Settings(deep_shrink=share, progress=progress)
    along = progress_of(settings, 4, torch.tensor([0.1, 0.5, 0.6, 0.9]))
    level = last_level(settings.deep_shrink, torch.tensor([8.0, 6.0, 3.0, 1.0]), along)
    assert level == pytest.approx(expected, rel=2e-3)
    assert level < expected or math.isinf(expected)


def euler(model, x, sigmas, extra_args=None, callback=None):
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones(len(x)), **(extra_args or {}))
        callback({"i": i, "x": x, "sigma": sigmas[i], "denoised": denoised})
        x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    return x


euler.__name__ = "sample_euler"
SIGMAS = torch.tensor([10.0, 6.0, 3.0, 1.0, 0.0])


def test_a_sampling_shrinks_in_its_first_steps(unet, x):
    denoiser = Denoiser(unet)
    before = hooks(denoiser)
    plain = sample(euler, denoiser, x, SIGMAS, Settings(denoise=1.0))
    assert denoiser.sizes == [8] * 4
    denoiser.sizes.clear()
    shrunk = sample(euler, denoiser, x, SIGMAS, Settings(denoise=1.0, deep_shrink=0.35), unet=unet)
    assert denoiser.sizes == [4, 4, 8, 8]
    assert not torch.equal(shrunk, plain)
    assert hooks(denoiser) == before
    assert torch.equal(sample(euler, denoiser, x, SIGMAS, Settings(denoise=1.0), unet=unet), plain)


def test_a_sampling_that_fails_leaves_no_hook(unet, x):
    denoiser = Denoiser(unet)
    before = hooks(denoiser)

    def failing(info):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(euler, denoiser, x, SIGMAS, Settings(deep_shrink=1.0), unet=unet, callback=failing)
    assert hooks(denoiser) == before


NO_UNET = (
    "deep_shrink = 0.35 is not possible. Allowed with this model: 0. "
    "Deep Shrink needs the U-Net of Stable Diffusion 1, 2 or XL."
)


@pytest.mark.parametrize(
    ("network", "block", "name", "sentence"),
    [
        (None, 3, "deep_shrink", NO_UNET),
        (nn.Linear(1, 1), 3, "deep_shrink", NO_UNET),
        (
            UNet(),
            6,
            "deep_shrink_block",
            "deep_shrink_block = 6 is not possible. Allowed with this model: a whole number from 1 to 5.",
        ),
    ],
)
def test_other_networks_and_blocks_are_refused(x, network, block, name, sentence):
    settings = Settings(deep_shrink=0.35, deep_shrink_block=block)
    with pytest.raises(SettingsError, match=re.escape(sentence)) as error:
        check(network, settings)
    assert error.value.name == name
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        sample(euler, Denoiser(UNet()), x, SIGMAS, settings, unet=network)


def test_a_factor_below_1_is_refused():
    sentence = r"deep_shrink_factor = 0\.5 is not possible\. Allowed: 0, or a number from 1 to 8\."
    with pytest.raises(SettingsError, match=sentence):
        Settings(deep_shrink_factor=0.5)
    for factor in (0.0, 1.0, 1.5):
        assert DeepShrinkSettings(deep_shrink_factor=factor).deep_shrink_factor == factor


def test_the_last_block_before_the_middle_may_be_taken():
    check(UNet(), DeepShrinkSettings(deep_shrink_block=5))


def test_features_of_the_size_that_is_wanted_are_left_alone_and_one_pixel_stays_one():
    shrink, h = shrinking(deep_shrink_factor=8.0), torch.zeros(2, CHANNELS, 4, 16)
    assert shrink.resized(h, (4, 16)) is h
    assert shrink.resized(h, (2, 3)).shape == (2, CHANNELS, 2, 3)
    assert shrink.shrunk(h).shape == (2, CHANNELS, 1, 2)
    shrink.active = False
    assert shrink.shrunk(h) is h


def test_it_is_attached_to_its_network_and_acts_from_the_first_call_on(unet):
    settings, levels = DeepShrinkSettings(deep_shrink=0.6), torch.tensor([3.0, 1.0])
    plan, model = Schedule({}, levels, one_call), Denoiser(UNet())
    run = Run(euler, plan, torch.ones(2), Settings(), ve(), torch.tensor([0.0, 0.5]))
    shrink = settings.feature({"unet": unet})
    x, before = torch.zeros(1, CHANNELS, 4, 4), hooks(model)
    assert shrink.shrunk(x) is x
    with shrink.around(run, model):
        assert hooks(unet) == 16
        for level, side in ((3.0, 2), (1.0, 2), (0.9, 4)):
            model(x, torch.tensor([level]))
            assert shrink.shrunk(x).shape[-1] == side
    assert (hooks(unet), hooks(model)) == (0, before)


def test_who_has_attached_it_already_gives_it():
    shrink = shrinking()
    assert DeepShrinkSettings(deep_shrink=0.3).feature({"shrink": shrink}) is shrink
    assert DeepShrinkSettings().feature({"shrink": shrink}) is None
