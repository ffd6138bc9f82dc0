import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from itermix.blending import BLENDINGS

SHAPE = (3, 4, 6, 5)
NAMES = sorted(BLENDINGS)


def images(seed, shape=SHAPE, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def blended(name, x, noised, weight):
    """The blend of copies, since the functions work in place and use up `noised`."""
    x, noised = x.clone(), noised.clone()
    BLENDINGS[name](x, noised, weight)
    return x


def by_hand(name, x, z, w):
    if name == "addition":
        return w * z + (1 - w) * x
    if name == "norm-only":
        return w * z + (1 - w) * x / x.norm() * z.norm()
    angle = math.acos((x * z).sum() / x.norm() / z.norm())
    return math.sin(w * angle) / math.sin(angle) * z + math.sin((1 - w) * angle) / math.sin(angle) * x


@pytest.mark.parametrize("name", NAMES)
@given(weight=st.floats(0.01, 1), batch=st.integers(1, 4), seed=st.integers(0, 1000))
def test_each_image_of_a_batch_is_blended_on_its_own_by_the_closed_form(name, weight, batch, seed):
    x = images(seed, (batch, *SHAPE[1:])) * torch.arange(1, batch + 1).view(-1, 1, 1, 1)
    z = images(seed + 1, (batch, *SHAPE[1:]))
    expected = torch.stack([by_hand(name, x[k], z[k], weight) for k in range(batch)])
    torch.testing.assert_close(blended(name, x, z, weight), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
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


def test_slerp_of_equal_vectors_is_the_vector():
    torch.testing.assert_close(blended("slerp", images(1), images(1), 0.3), images(1))


def test_slerp_keeps_the_length_of_equally_long_vectors():
    x, z = images(1)[:1], images(2)[:1]
    z *= x.norm() / z.norm()
    for weight in (0.1, 0.5, 0.9):
        assert blended("slerp", x, z, weight).norm().item() == pytest.approx(x.norm().item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_survives_the_largest_noise_level(name):
    x, z = 160 * images(1, dtype=torch.float32), 160 * images(2, dtype=torch.float32)
    exact = blended(name, x, z, 0.4)
    half = blended(name, x.half(), z.half(), 0.4)
    assert torch.isfinite(half).all()
    torch.testing.assert_close(half.float(), exact, atol=0.5, rtol=5e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_edited_in_place(name):
    x, z = images(1), images(2)
    address = x.data_ptr()
    assert BLENDINGS[name](x, z, 0.5) is None
    assert x.data_ptr() == address
    assert not torch.equal(x, images(1))
