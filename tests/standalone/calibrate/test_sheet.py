"""What is shown of a calibration."""

import numpy as np
import pytest
from PIL import Image

from itermix.standalone.calibrate import sheet


def pictures(left, top, side=300):
    """Two that differ in a square alone, and hardly anywhere else."""
    rng = np.random.default_rng(0)
    first = rng.integers(100, 104, (side, side, 3), dtype=np.uint8)
    second = first.copy()
    second[top : top + 20, left : left + 20] = 255
    return [Image.fromarray(pixels) for pixels in (first, second)]


@pytest.mark.parametrize(("left", "top"), [(150, 140), (0, 0), (270, 30)])
def test_the_crop_is_where_they_differ(left, top):
    x, y = sheet.differing(pictures(left, top), 64)
    assert 0 <= x <= 300 - 64
    assert 0 <= y <= 300 - 64
    assert x <= left + 10 <= x + 64
    assert y <= top + 10 <= y + 64


def test_pictures_that_are_smaller_than_a_crop_are_shown_from_their_corner():
    assert sheet.differing(pictures(10, 10, side=48), 256) == (0, 0)


def test_what_others_call_a_checkpoint_is_text():
    told = {
        "checkpoint": "<script>alert(1)</script>",
        "best": None,
        "rows": [{"name": "</script>", "kind": "", "n": 1}],
    }
    page = sheet.filled(told, [{"title": "</script>", "images": {}, "crop": (0, 0)}])
    assert page.count("<script>") == page.count("</script>") == 1
