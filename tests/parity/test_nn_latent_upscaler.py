"""The ComfyUI node NNLatentUpscale."""

import math

import pytest
import torch
from parity import CHANNELS, picture, row
from test_latent_upscaler import random_state

from itermix.parameters import scaled_side
from itermix.picture.latent_upscaler import LatentUpscaler, enlarged

ORDER = 6
SECTION = """## NNLatentUpscale

[latent-upscaler.md](latent-upscaler.md) tells where its weights belong.
"""
HEADS = ("NNLatentUpscale", "here", "note")


@row(
    "version SD 1.x, SDXL",
    "the checkpoint's own",
    "The same network and the same factor, {factor}, of the latents that it gets.",
    factor=0.13025,
)
def test_version(sizes):
    """Latents as a U-Net gets them are the autoencoder's times 0.18215: the node's are without that factor."""
    network, latents = LatentUpscaler(random_state()), picture(8, 8).float()
    of_node = network(sizes["factor"] * latents, (12, 12)) / sizes["factor"]
    found = enlarged(network, latents * 0.18215, (12, 12), 0.18215) / 0.18215
    torch.testing.assert_close(found, of_node, atol=1e-5, rtol=1e-5)
    assert latents.shape[1] == CHANNELS


@row(
    "upscale 1.0 to 2.0",
    "*Scale* 1 to 2, or 2 per phase",
    "The network is told the ratio of the widths, the node tells it the scale that was asked for. They are apart "
    "where the scale doesn't divide the size, by up to {apart:.3f} at latents of 64 and more: 65 latent pixels by "
    "1.5 are 97 here, since sizes are rounded down, and 98 there.",
    apart=0.013,
)
def test_the_scale_that_it_is_told(sizes):
    found = 0.0
    for side in range(64, 257):
        for scale in (1.1, 1.25, 1.5, 1.6, 1.75, 1.9, 2.0):
            found = max(found, abs(scaled_side(8 * side, scale) / 8 / side - scale))
    assert found == pytest.approx(sizes["apart"], abs=0.0005)
    assert (scaled_side(8 * 65, 1.5) // 8, round(65 * 1.5)) == (97, 98)
    network = LatentUpscaler(random_state())
    latents = picture(8, 8).float()
    told = []
    network.embed.register_forward_pre_hook(lambda module, args: told.append(float(args[0])))
    network(latents, (12, 13))
    assert math.isclose(told[0], 13 / 8 - 1)
