"""The network that enlarges latents, against the same written as plain functions of a state dict."""

import math

import pytest
import torch
from torch.nn import functional as F

from itermix.picture.latent_upscaler import TRAINED_SCALE, LatentUpscaler, enlarged

CHANNELS = 64  # two in each group, or normalisation would take their means away
ATTENTION = (
    1,
    4,
)  # places of the attention among five blocks: of three residual ones, after the first and before the last


def random_state(channels=CHANNELS, blocks=5, attention=ATTENTION, latent_channels=4):
    """Weights of any size, none of them at a value where it would have no effect."""
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "conv_in": (channels, latent_channels, 3, 3),
        "embed.0": (32, 1),
        "embed.2": (32, 32),
        "norm_out": (channels,),
        "conv_out": (latent_channels, channels, 3, 3),
    }
    for part in ("in_blocks", "out_blocks"):
        for k in range(blocks):
            if k in attention:
                shapes |= {f"{part}.{k}.{name}": (channels, channels, 1, 1) for name in ("q", "k", "v", "proj_out")}
                shapes[f"{part}.{k}.norm"] = (channels,)
            else:
                for name in ("in_layers.2", "out_layers.3"):
                    shapes[f"{part}.{k}.{name}"] = (channels, channels, 3, 3)
                shapes[f"{part}.{k}.emb_layers.1"] = (channels, 32)
                shapes |= {f"{part}.{k}.{name}": (channels,) for name in ("in_layers.0", "out_layers.0")}
    state = {}
    for name, shape in shapes.items():
        fan_in = math.prod(shape[1:])
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(fan_in)
        state[f"{name}.bias"] = torch.randn(shape[:1], generator=generator) / 2
    return state


def plain(state, x, size):
    """The network, written out: softmax and all."""

    def conv(name, h):
        weight = state[f"{name}.weight"]
        return F.conv2d(h, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name, h):
        return F.group_norm(h, 32, state[f"{name}.weight"], state[f"{name}.bias"])

    def linear(name, h):
        return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def block(name, h):
        if f"{name}.q.weight" not in state:
            inner = conv(f"{name}.in_layers.2", F.silu(norm(f"{name}.in_layers.0", h)))
            inner = inner + linear(f"{name}.emb_layers.1", F.silu(embedding)).view(1, -1, 1, 1)
            return h + conv(f"{name}.out_layers.3", F.silu(norm(f"{name}.out_layers.0", inner)))
        n = norm(f"{name}.norm", h)
        q, k, v = (conv(f"{name}.{part}", n).flatten(2) for part in "qkv")
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / math.sqrt(q.shape[1]), dim=-1)
        return h + conv(f"{name}.proj_out", torch.einsum("bij,bcj->bci", weights, v).view(h.shape))

    embedding = linear("embed.2", F.silu(linear("embed.0", torch.tensor([[size[1] / x.shape[3] - 1.0]]))))
    h = conv("conv_in", x)
    for k in range(5):
        h = block(f"in_blocks.{k}", h)
    h = F.interpolate(h, size=size, mode="bilinear", align_corners=False)
    for k in range(5):
        h = block(f"out_blocks.{k}", h)
    return conv("conv_out", F.silu(norm("norm_out", h)))


@pytest.fixture
def latents():
    return torch.randn(2, 4, 6, 10, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("size", [(12, 20), (9, 15), (7, 11), (6, 20), (13, 21)])
def test_it_is_the_published_network(latents, size):
    state = random_state()
    expected = plain(state, latents, size)
    assert expected.std() > 0.1
    network = LatentUpscaler(state)
    found = network(latents, size)
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert not found.requires_grad
    alone = network(latents[:1], size)
    assert alone.shape == expected[:1].shape
    assert torch.allclose(alone, expected[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(random_state()))
def test_every_weight_counts(latents, name):
    state = random_state()
    before = LatentUpscaler(state)(latents, (12, 20))
    generator = torch.Generator().manual_seed(5)
    state[name] = state[name] + torch.randn(state[name].shape, generator=generator)
    after = LatentUpscaler(state)(latents, (12, 20))
    if name.endswith(".k.bias"):  # the same for all positions, so the softmax cancels it
        assert torch.allclose(after, before, atol=1e-4)
    else:
        assert (after - before).abs().max() > 1e-3


def test_the_same_size_is_given_back(latents):
    assert torch.equal(LatentUpscaler(random_state())(latents, (6, 10)), latents)


@pytest.mark.parametrize("size", [(5, 10), (12, 22), (14, 20)])
def test_other_sizes_are_refused(latents, size):
    with pytest.raises(ValueError, match="1 to 2") as error:
        LatentUpscaler(random_state())(latents, size)
    assert str(error.value) == f"from (6, 10) to {size} is not 1 to 2 times the size"


def test_it_gets_the_autoencoders_latents_at_the_scale_of_its_training(latents):
    network, factor = LatentUpscaler(random_state()), 0.18215
    expected = plain(random_state(), latents / factor * TRAINED_SCALE, (12, 20)) / TRAINED_SCALE * factor
    assert torch.allclose(enlarged(network, latents, (12, 20), factor), expected, atol=1e-5, rtol=1e-5)
    half = enlarged(network, latents.half(), (12, 20), factor)
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), expected, atol=0.02)


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"conv_in.weight": torch.zeros(32, 4, 3, 3)},
        {"conv_in.weight": torch.zeros(32)},
        {"conv_in.weight": 7},
        {name: tensor for name, tensor in random_state().items() if name != "conv_out.bias"},
        {**random_state(), "another.weight": torch.zeros(1)},
        {**random_state(), "norm_out.weight": torch.zeros(7)},
        random_state(channels=33),
    ],
)
def test_weights_of_something_else_are_refused(state):
    with pytest.raises(ValueError, match=r"^these are not the weights of a latent upscaler$"):
        LatentUpscaler(state)
