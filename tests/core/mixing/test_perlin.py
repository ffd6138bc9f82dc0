import math

import pytest
import torch

from itermix.mixing.perlin import LACUNARITY, OCTAVES, PERSISTENCE, STREAM, perlin

LONG, WIDE = 48, 64


def by_hand(height, width, scale, seed):
    """Perlin's noise written out pixel by pixel, from the same lattices."""
    import numpy as np

    generator = np.random.default_rng([seed, STREAM])
    total = torch.zeros(height, width, dtype=torch.float64)
    for octave in range(OCTAVES):
        cells = scale * LACUNARITY**octave
        count = math.ceil(cells) + 1
        angles = generator.uniform(0, 2 * math.pi, (count, count))
        for i in range(height):
            for j in range(width):
                y, x = ((k + 0.5) * cells / max(height, width) for k in (i, j))
                value = 0.0
                for row in (math.floor(y), math.floor(y) + 1):
                    for column in (math.floor(x), math.floor(x) + 1):
                        down, right = y - row, x - column
                        slope = down * math.sin(angles[row, column]) + right * math.cos(angles[row, column])
                        value += slope * fall(abs(down)) * fall(abs(right))
                total[i, j] += PERSISTENCE**octave * value
    return (total - total.min()) / (total.max() - total.min())


def fall(t):
    return 1 - (6 * t**5 - 15 * t**4 + 10 * t**3)


@pytest.mark.parametrize(("height", "width", "scale"), [(12, 16, 3.0), (16, 9, 2.5), (8, 8, 10.0)])
def test_it_is_the_closed_form(height, width, scale):
    expected = by_hand(height, width, scale, 5)
    torch.testing.assert_close(perlin(height, width, scale, 5).double(), expected, atol=1e-6, rtol=0)


def test_it_reaches_both_ends_and_depends_on_its_seed_alone():
    state = torch.get_rng_state()
    found = perlin(LONG, WIDE, 4.0, 1)
    assert found.shape == (LONG, WIDE)
    assert (float(found.min()), float(found.max())) == (0.0, 1.0)
    assert torch.equal(found, perlin(LONG, WIDE, 4.0, 1))
    assert (found - perlin(LONG, WIDE, 4.0, 2)).abs().max() > 0.3
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_the_same_picture_at_every_size():
    small, large = perlin(LONG, WIDE, 3.0, 1), perlin(2 * LONG, 2 * WIDE, 3.0, 1)
    halved = torch.nn.functional.avg_pool2d(large[None], 2)[0]
    assert (small - halved).abs().max() < 0.06


def test_a_higher_scale_has_smaller_patches():
    def roughness(scale):
        return float(perlin(64, 64, scale, 3).diff(dim=1).abs().mean())

    assert roughness(2.0) < roughness(5.0) < roughness(12.0)


def test_one_pixel_is_enough():
    assert perlin(1, 1, 10.0, 0).tolist() == [[0.0]]
