"""What belongs to the parts of a picture of all that comes with it."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from itermix import Settings
from itermix.model.parts import Parts, of_views
from itermix.model.windows import FORMULAS, Windows
from tests.core.model.test_windows import CHANNELS, ON, picture


def test_what_comes_with_the_pictures_is_cut_and_repeated_with_them():
    x = picture(8, 8, batch=2)
    views = [(slice(0, 4), slice(0, 4)), (slice(6, 10), slice(3, 7))]
    with_picture = torch.arange(2.0 * 5 * 64).reshape(2, 5, 8, 8)
    row = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    single, number, text = torch.ones(1, 3), torch.tensor(5.0), "text"
    given = {"a": [with_picture], "b": (row, {"c": single}), "d": number, "e": text, "f": torch.zeros(2, 5, 1, 1)}
    found = of_views(given, x, views, lambda value: F.pad(value, (1, 1, 1, 1)))
    around = F.pad(with_picture, (1, 1, 1, 1))
    for k, image in itertools.product(range(2), range(2)):
        rows, columns = views[k]
        assert torch.equal(found["a"][0][2 * image + k], around[image, :, rows, columns])
    assert found["b"][0].tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
    assert isinstance(found["b"], tuple)
    assert found["b"][1]["c"] is single
    assert found["d"] is number
    assert found["e"] is text
    assert found["f"].shape == (4, 5, 1, 1)


@pytest.mark.parametrize("factor", [1, 8])
@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("formulas", FORMULAS)
def test_the_hint_of_a_part_shows_what_the_part_does(factor, rows, formulas):
    """A model that gives the hint in the place of the picture gives that of the whole, with crops and thinned out."""
    x = picture(40, 56, batch=4)
    hint = picture(40, 56, batch=rows, seed=2)
    wanted = hint.repeat(4 // rows, 1, 1, 1)
    whole = hint.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    for weight, dilated in ((0.0, 0.0), (1.0, 1.0)):
        windows = Windows(Settings(**{**ON, "dilated": dilated, "window_formulas": formulas}))
        windows.weight = weight

        def shown(part, parts):
            given = parts.of_hint(whole, factor)
            assert given.shape == (len(part), CHANNELS, part.shape[2] * factor, part.shape[3] * factor)
            return given[..., ::factor, ::factor]

        found = windows.put_together(shown, x)
        if weight:  # all sub-grids get the same, that of the whole made small
            assert found.shape == x.shape
            assert (found - wanted).abs().mean() < (wanted - wanted.roll(5, -1)).abs().mean()
        else:
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_a_hint_of_another_size_is_fitted_first():
    x, hint = picture(48, 48), picture(24, 24, seed=2)
    windows = Windows(Settings(**{**ON, "dilated": 0.0}))
    found = windows.put_together(lambda part, parts: parts.of_hint(hint, 1), x)
    torch.testing.assert_close(found, hint.repeat_interleave(2, -1).repeat_interleave(2, -2), rtol=0, atol=1e-6)


def test_what_is_like_the_pictures_gets_their_surroundings_with_frames_too():
    views = [(slice(0, 4), slice(0, 5)), (slice(6, 10), slice(3, 8))]
    parts = Parts(picture(8, 8), views, pad=(1, 2, 1, 1), mode="constant")
    video = torch.arange(1.0, 1 + 2 * 3 * 64).reshape(1, 2, 3, 8, 8)
    around = F.pad(video, (1, 2, 1, 1))
    found = parts({"video": video, "frame": [video[:, :, 1]]})
    assert torch.equal(found["video"], torch.cat([around[..., rows, columns] for rows, columns in views]))
    assert torch.equal(found["frame"][0], found["video"][:, :, 1])
    assert parts(torch.zeros(1, 1, 1, 1, 8, 8)).shape == (2, 1, 1, 1, 8, 8)  # no pictures
    assert Parts()(video) is video


def test_a_pixel_of_a_fitted_hint_is_that_which_lies_at_its_middle():
    """6 pixels for 8: their middles are at 0.375, 1.125, 1.875, ... of the hint's."""
    hint, nearest = picture(6, 6), [0, 1, 1, 2, 3, 4, 4, 5]
    whole = Parts(picture(8, 8), [(slice(0, 8), slice(0, 8))]).of_hint(hint, 1)
    assert torch.equal(whole, hint[..., nearest, :][..., nearest])
    hint = picture(8, 8)
    thinned = Parts(picture(8, 8), [(slice(0, None, 2), slice(1, None, 2))]).of_hint(hint, 1)
    assert torch.equal(thinned, hint[..., 1::2, 1::2])


def test_the_hint_of_a_picture_that_fits_is_the_whole():
    x, hint = picture(8, 8), picture(64, 64)
    Windows(Settings(**ON)).put_together(lambda part, parts: part if parts.of_hint(hint, 8) is hint else None, x)
