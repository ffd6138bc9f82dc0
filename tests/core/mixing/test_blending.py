import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from itermix.mixing.blending import BLENDINGS, USES_NOISED, BlendingSettings, Guide
from itermix.mixing.blending import BLENDINGS as DECLARED
from itermix.mixing.filters import Workspace, haar_low, low_pass
from itermix.parameters import SettingsError

SHAPE = (3, 4, 6, 5)
NAMES = sorted(BLENDINGS)
WHOLE = ["addition", "norm-only", "slerp", "variance-preserving"]  # mix the whole state, not only what is low of it


def images(seed, shape=SHAPE, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def guide_for(x, scale=2.0, signal=0.8):
    return Guide(scale, *(images(seed, x.shape, x.dtype) for seed in (11, 12)), signal)


def blended(name, x, noised, weight, guide=None):
    """The blend of copies, since the functions work in place and use up `noised`."""
    x, noised = x.clone(), noised.clone()
    BLENDINGS[name](x, noised, weight, guide or guide_for(x))
    return x


def by_hand(name, x, z, w, guide):
    if name == "addition":
        return w * z + (1 - w) * x
    if name in ("low-pass", "wavelet"):
        return x + w * {"low-pass": low_pass, "wavelet": haar_low}[name](z - x, guide.scale)
    if name in ("clean low-pass", "clean wavelet"):
        low = {"clean low-pass": low_pass, "clean wavelet": haar_low}[name]
        return x + guide.signal * w * (low(guide.latent, guide.scale) - low(guide.denoised, guide.scale))
    if name == "variance-preserving":
        m = guide.signal * (w * guide.latent + (1 - w) * guide.denoised)
        return m + (w * z + (1 - w) * x - m) / math.sqrt(w**2 + (1 - w) ** 2)
    if name == "norm-only":
        return w * z + (1 - w) * x / x.norm() * z.norm()
    angle = math.acos((x * z).sum() / x.norm() / z.norm())
    return math.sin(w * angle) / math.sin(angle) * z + math.sin((1 - w) * angle) / math.sin(angle) * x


@pytest.mark.parametrize("name", NAMES)
@given(weight=st.floats(0.01, 1), batch=st.integers(1, 4), seed=st.integers(0, 1000))
def test_each_image_of_a_batch_is_blended_on_its_own_by_the_closed_form(name, weight, batch, seed):
    x = images(seed, (batch, *SHAPE[1:])) * torch.arange(1, batch + 1).view(-1, 1, 1, 1)
    z = images(seed + 1, (batch, *SHAPE[1:]))
    guide = guide_for(x)
    parts = [dataclasses.replace(guide, latent=guide.latent[k], denoised=guide.denoised[k]) for k in range(batch)]
    expected = torch.stack([by_hand(name, x[k], z[k], weight, parts[k]) for k in range(batch)])
    torch.testing.assert_close(blended(name, x, z, weight, guide), expected, atol=1e-5, rtol=1e-5)


def test_every_declared_blending_exists():
    assert set(DECLARED) == set(BLENDINGS)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_full_weight_is_the_noised_latent(name, dtype):
    x, z = images(1, dtype=dtype), images(2, dtype=dtype)
    tolerance = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(blended(name, x, z, 1.0), z, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    ("x", "z"),
    [
        pytest.param(images(1), images(1), id="equal"),
        pytest.param(images(1), 2.5 * images(1), id="parallel"),
        pytest.param(images(1), -images(1), id="opposite"),
        pytest.param(torch.zeros(SHAPE), images(1, dtype=torch.float32), id="zero state"),
        pytest.param(images(1), torch.zeros(SHAPE, dtype=torch.float64), id="zero source"),
        pytest.param(torch.zeros(SHAPE), torch.zeros(SHAPE), id="both zero"),
        pytest.param(torch.full(SHAPE, 1e-30), images(1, dtype=torch.float32), id="tiny state"),
    ],
)
def test_no_nan_where_no_arc_or_length_is_defined(name, weight, x, z):
    assert torch.isfinite(blended(name, x, z, weight)).all()


@pytest.mark.parametrize(("x_times", "z_times"), [(1, 1), (1, 2.5), (1, -1), (0, 1), (1, 0), (0, 0)])
def test_slerp_goes_straight_where_there_is_no_arc(x_times, z_times):
    x, z = x_times * images(1), z_times * images(1)
    torch.testing.assert_close(blended("slerp", x, z, 0.3), 0.7 * x + 0.3 * z, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_is_finite_where_the_cosine_is_rounded_beyond_one(sign):
    for seed in range(50):
        x = images(seed, dtype=torch.float32)
        assert torch.isfinite(blended("slerp", x, sign * x, 0.3)).all()


def test_slerp_keeps_the_length_of_equally_long_vectors():
    x, z = images(1)[:1], images(2)[:1]
    z *= x.norm() / z.norm()
    for weight in (0.1, 0.5, 0.9):
        assert blended("slerp", x, z, weight).norm().item() == pytest.approx(x.norm().item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_survives_the_largest_noise_level(name):
    x, z = 160 * images(1, dtype=torch.float32), 160 * images(2, dtype=torch.float32)
    guide = guide_for(x)
    exact = blended(name, x, z, 0.4, guide)
    half_guide = dataclasses.replace(guide, latent=guide.latent.half(), denoised=guide.denoised.half())
    half = blended(name, x.half(), z.half(), 0.4, half_guide)
    assert torch.isfinite(half).all()
    torch.testing.assert_close(half.float(), exact, atol=0.5, rtol=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_edited_in_place(name):
    x, z = images(1), images(2)
    address = x.data_ptr()
    assert BLENDINGS[name](x, z, 0.5, guide_for(x)) is None
    assert x.data_ptr() == address
    assert not torch.equal(x, images(1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weight_zero_leaves_the_state_to_the_bit(name, dtype):
    x = images(1, dtype=dtype)
    if name not in ("slerp", "norm-only"):  # these compute their factors, so the mixer leaves them out at weight 0
        assert torch.equal(blended(name, x, images(2, dtype=dtype), 0.0), x)


@pytest.mark.parametrize("name", NAMES)
def test_the_guide_is_only_read(name):
    x, guide = images(1), guide_for(images(1))
    BLENDINGS[name](x, images(2), 0.5, guide)
    assert torch.equal(guide.latent, guide_for(x).latent)
    assert torch.equal(guide.denoised, guide_for(x).denoised)


@pytest.mark.parametrize(("name", "low"), [("low-pass", low_pass), ("wavelet", haar_low)])
def test_full_weight_takes_what_is_low_from_the_noised_latent_and_the_rest_from_the_state(name, low):
    x, z = images(1), images(2)
    got = blended(name, x, z, 1.0)
    torch.testing.assert_close(low(got, 2.0), low(z, 2.0))
    torch.testing.assert_close(got - low(got, 2.0), x - low(x, 2.0))


@pytest.mark.parametrize("name", ["low-pass", "wavelet"])
def test_at_scale_one_everything_is_low(name):
    x, z = images(1), images(2)
    torch.testing.assert_close(blended(name, x, z, 0.3, guide_for(x, scale=1.0)), blended("addition", x, z, 0.3))


@pytest.mark.parametrize("name", ["clean low-pass", "clean wavelet"])
def test_the_clean_blendings_move_the_estimate_and_leave_the_noise(name):
    """A state signal * denoised + noise becomes signal * clean + the same noise."""
    low = {"clean low-pass": low_pass, "clean wavelet": haar_low}[name]
    guide, noise = guide_for(images(1)), 3 * images(4)
    got = blended(name, guide.signal * guide.denoised + noise, images(2), 1.0, guide)
    clean = (got - noise) / guide.signal
    torch.testing.assert_close(low(clean, 2.0), low(guide.latent, 2.0))
    torch.testing.assert_close(clean - low(clean, 2.0), guide.denoised - low(guide.denoised, 2.0))


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_variance_preserving_keeps_the_deviation_of_independent_noise(weight):
    shape, sigma = (1, 4, 64, 64), 5.0
    guide = guide_for(torch.zeros(shape, dtype=torch.float64))
    clean = guide.signal * guide.denoised + sigma * images(5, shape)
    z = guide.signal * guide.latent + sigma * images(6, shape)
    mean = guide.signal * (weight * guide.latent + (1 - weight) * guide.denoised)
    noise = blended("variance-preserving", clean, z, weight, guide) - mean
    assert noise.std().item() == pytest.approx(sigma, rel=0.02)
    plain = blended("addition", clean, z, weight) - mean
    assert plain.std().item() == pytest.approx(sigma * math.hypot(weight, 1 - weight), rel=0.02)


class Allocations(TorchDispatchMode):
    """Counts the tensors of at least `size` elements that are made while it is active."""

    def __init__(self, size):
        super().__init__()
        self.size, self.made = size, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.numel() >= self.size:
            self.made[out.untyped_storage().data_ptr()] = out  # kept, so that no address comes twice
        return out


@pytest.mark.parametrize("name", NAMES)
def test_no_memory_of_a_latents_size_beside_the_state_and_its_noised_latent(name):
    x, z = (images(seed, (3, 4, 16, 12), torch.float32) for seed in (1, 2))
    guide = guide_for(x)
    with Allocations(x.numel()) as allocations:
        BLENDINGS[name](x, z if name in USES_NOISED else None, 0.5, guide)
    assert not set(allocations.made) - {t.untyped_storage().data_ptr() for t in (x, z)}


@pytest.mark.parametrize("name", NAMES)
def test_a_state_that_is_not_contiguous_is_blended_alike(name):
    """As the hosts' networks leave it where they run in channels last."""
    x, z = images(1), images(2)
    guide = guide_for(x)
    expected, got = blended(name, x, z, 0.3, guide), x.contiguous(memory_format=torch.channels_last)
    BLENDINGS[name](got, z.clone(), 0.3, guide)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["clean low-pass", "clean wavelet"])
@pytest.mark.filterwarnings("error")  # as torch warns of space of another shape
def test_space_that_is_kept_has_the_shape_of_a_plane(name):
    work, guide = Workspace(), guide_for(images(1))
    guide = dataclasses.replace(guide, work=work)
    first = blended(name, images(1), images(2), 0.3, guide)
    assert torch.equal(blended(name, images(1), images(2), 0.3, guide), first)


def test_a_cut_off_from_1_is_taken_and_one_of_0_becomes_the_scale():
    assert BlendingSettings(cutoff=1.0).held_scale == 1.0
    assert BlendingSettings(cutoff=1.5).of_phase((8, 8), (32, 24)).held_scale == 1.5
    assert BlendingSettings().of_phase((8, 8), (32, 24)).held_scale == 4.0
    assert BlendingSettings().held_scale == 2.0
    with pytest.raises(SettingsError, match=r"cutoff = 0\.9 is not possible\. Allowed: 0, or a number from 1 to 8\."):
        BlendingSettings(cutoff=0.9)
