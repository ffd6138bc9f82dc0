"""Deep Shrink elsewhere: ComfyUI's node, which Forge has as Kohya HRFix, and an extension for A1111."""

import itertools

import pytest
import torch
from parity import CHANNELS, karras, picture, row
from torch import nn
from torch.nn import functional as F

from itermix import Settings, SettingsError
from itermix.mixing.curves import progress_of
from itermix.model.deep_shrink import SHRINK_METHODS, DeepShrink, attached, last_level
from itermix.steps.parametrisation import ve

ORDER = 5
SECTION = """## Deep Shrink

[deep-shrink.md](deep-shrink.md) tells what it does. The names are those of ComfyUI's *PatchModelAddDownscale*. *Kohya
HRFix* of Forge is ComfyUI's node. What it does in its share is ComfyUI's in every WebUI; after its share A1111's
U-Net is A1111's again, which joins what doesn't fit, at sizes that aren't multiples of 64 pixels, in another way than
ComfyUI's.
"""
HEADS = ("there", "here", "note")

SMALLER, LARGER = (3, 6, 9), (2, 5, 8)  # of Stable Diffusion 1's blocks
BLOCKS = range(12)


class Upsample(nn.Module):
    def __init__(self, convolution):
        super().__init__()
        self.conv = convolution

    def forward(self, h, size=None):
        return self.conv(F.interpolate(h, size or [2 * side for side in h.shape[2:]], mode="nearest"))


class UNet(nn.Module):
    """The sizes and joins of Stable Diffusion 1's U-Net in A1111, and in `comfyui` those of ComfyUI's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        two = 2 * CHANNELS

        def conv(channels=CHANNELS, stride=1):
            made = nn.Conv2d(channels, CHANNELS, 3, stride, padding=1, dtype=torch.float64)
            nn.init.orthogonal_(made.weight)  # so that what comes from far inside isn't lost
            return made

        self.input_blocks = nn.ModuleList(conv(stride=2 if k in SMALLER else 1) for k in BLOCKS)
        self.middle_block = conv()
        self.output_blocks = nn.ModuleList(
            nn.Sequential(conv(two), Upsample(conv())) if k in LARGER else nn.Sequential(conv(two)) for k in BLOCKS
        )
        self.widths = []

    def forward(self, h):
        skips = []
        self.widths = []
        for block in self.input_blocks:
            self.widths.append(h.shape[-1])
            h = block(h)
            skips.append(h)
        h = self.middle_block(h)
        for block in self.output_blocks:
            skip = skips.pop()
            if h.shape[2:] != skip.shape[2:]:
                h = F.interpolate(h, skip.shape[2:], mode="nearest")
            self.widths.append(h.shape[-1])
            h = block(torch.cat([h, skip], dim=1))
        return h

    def comfyui(self, h, block, factor, method, after_skip=True):
        """With the node's patches. Enlargements are told the size of the next skip connection."""
        skips = []
        for k, module in enumerate(self.input_blocks):
            h = module(h)
            small = h
            if k == block:
                small = F.interpolate(h, [round(side * (1.0 / factor)) for side in h.shape[2:]], mode=method)
            skips.append(h if after_skip else small)
            h = small
        h = self.middle_block(h)
        for module in self.output_blocks:
            skip = skips.pop()
            if h.shape[2:] != skip.shape[2:]:
                h = F.interpolate(h, skip.shape[2:], mode=method)
            h = module[0](torch.cat([h, skip], dim=1))
            h = module[1](h, skips[-1].shape[2:]) if len(module) > 1 else h
        return h


def ours(unet, x, **settings):
    shrink = DeepShrink(Settings(deep_shrink=0.35, **settings))
    shrink.active = True
    with torch.no_grad(), attached(unet, shrink):
        return unet(x)


@row(
    "block_number, downscale_factor, downscale_method",
    "*Deep Shrink block*, *Deep Shrink factor*, *Deep Shrink method*",
    "The same to the last bit, with every block and factor and at every size, in A1111, too. Not built: block 0 and "
    "those above 11, factors below 1, and bislerp. Factor 0 is the scale so far.",
)
@pytest.mark.parametrize("method", SHRINK_METHODS)
@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_block_and_factor(factor, method):
    unet, x = UNet(), picture(34, 40)
    for block in range(1, 12):
        settings = {"deep_shrink_block": block, "deep_shrink_factor": factor, "deep_shrink_method": method}
        with torch.no_grad():
            expected = unet.comfyui(x, block, factor, method)
        assert torch.equal(ours(unet, x, **settings), expected)
    with pytest.raises(SettingsError):
        Settings(deep_shrink_factor=0.5)


@row(
    "end_percent 0.35",
    "*Deep Shrink* 0.35, *Progress in* noise level",
    "The node's share is of 999 timesteps and takes in its end, ours of 1000: another only for a step whose timestep "
    "lies between 649.35 and 650.",
)
def test_end():
    training = ((1 - (a := torch.linspace(0.9999, 0.005, 1000, dtype=torch.float64))) / a).sqrt()
    for steps, end in itertools.product((7, 20, 33), (0.1, 0.35, 0.6, 0.9)):
        timesteps = torch.linspace(999, 0, steps, dtype=torch.float64).floor()
        timesteps = timesteps[(timesteps < (1 - end) * 999) | (timesteps > (1 - end) * 1000)]
        sigmas = training[timesteps.long()]
        settings = Settings(deep_shrink=end, progress="noise level")
        level = last_level(end, sigmas, progress_of(settings, len(sigmas), ve(training).progress(sigmas)))
        by_node = timesteps >= (1 - end) * 999
        assert torch.equal(sigmas >= level, by_node)


@row(
    "start_percent",
    "-",
    "Not built: it acts from the first step on, as the node's 0 does.",
)
def test_start():
    sigmas = karras(20)[:-1]
    progress = torch.arange(20) / 20
    acts = sigmas >= last_level(0.35, sigmas, progress)
    assert acts.tolist() == [True] * 7 + [False] * 13


@row(
    "downscale_after_skip",
    "-",
    "Always after, as the node comes. Before it the skip connection is small, too, and the picture another: in a "
    "network of random weights by {apart:.0%} of its deviation.",
    apart=0.31,
)
def test_after_the_skip_connection(sizes):
    unet, x = UNet(), picture(32, 32)
    with torch.no_grad():
        before, after = (unet.comfyui(x, 3, 2.0, "bicubic", after_skip=after) for after in (False, True))
    assert torch.equal(ours(unet, x, deep_shrink_factor=2.0), after)
    assert float((before - after).std() / after.std()) == pytest.approx(sizes["apart"], abs=0.01)


@row(
    "upscale_method",
    "*Deep Shrink method*",
    "One for both ways; another for the way back is not built.",
)
def test_enlarging_method():
    assert [p.name for p in Settings.parameters() if "method" in p.name] == ["deep_shrink_method"]


class Scaled(nn.Module):
    """A block whose input is scaled first."""

    def __init__(self, block, scale):
        super().__init__()
        self.block, self.scale = block, scale

    def forward(self, h):
        return self.block(F.interpolate(h, scale_factor=self.scale, mode="bicubic"))


@row(
    "Depth d of the extension Kohya Hires.fix for A1111",
    "*Deep Shrink block* d - 2",
    "The same inner blocks are small, so its 3 is our 1. It enlarges features and skip connection together, one "
    "output block earlier. Its second depth, its smooth scaling and its early upsampling are not built, and its "
    "Depth 1 and 2 have no block here. Its *Stop at* is *Deep Shrink* with *Progress in* steps.",
)
@pytest.mark.parametrize("depth", [3, 4, 6, 9])
def test_depth(depth):
    unet, x = UNet(), picture(64, 64)
    ours(unet, x, deep_shrink_block=depth - 2, deep_shrink_factor=2.0)
    of_ours = unet.widths
    scaled = UNet()
    scaled.input_blocks[depth - 1] = Scaled(scaled.input_blocks[depth - 1], 0.5)
    scaled.output_blocks[-depth] = Scaled(scaled.output_blocks[-depth], 2.0)
    with torch.no_grad():
        scaled(x)
    unet(x)
    small, theirs = ([a < b for a, b in zip(widths, unet.widths)] for widths in (of_ours, scaled.widths))
    # Widths are those before a block changes its input: the first is small inside, the extension's last is not.
    small[depth - 1], theirs[depth - 1], theirs[24 - depth] = True, True, False
    assert theirs[:12] == small[:12]
    assert [k for k in range(24) if small[k] != theirs[k]] == [24 - depth]
