"""Repairs before the mixing: what other extensions do to finished pictures, done to those of the first pass."""

import json

import numpy as np
import pytest
from hosts import LORA, SECOND
from payloads import SIZE, hires, mixing, needs, plain, upscale
from test_img2img import difference, equal

from itermix.picture.repairs import AFTER, BEFORE

GREY = 128
QUICK = {"steps": 3}
PHASES = {"max_scale_per_phase": 1.25}  # from 64 px over 80 px to 96 px


@pytest.fixture
def repairs(webui, plain_pictures):
    """Tells the extension that repairs what to do, makes a request, and gives its pictures and what was repaired."""
    what, seen = webui.data / "repair.json", webui.data / "repaired.json"

    def made(kind, request):
        seen.unlink(missing_ok=True)
        what.write_text(json.dumps(kind))
        try:
            return webui.generate("txt2img", request), json.loads(seen.read_text()) if seen.exists() else []
        finally:
            what.unlink()

    yield made
    for name in ("img2img", "hires"):
        assert equal(plain(webui, name), plain_pictures[name])


def request(when, settings=None, **changes):
    return hires({"repairs": when, **PHASES, **(settings or {})}, hr_scale=1.5, **{**QUICK, **changes})


def test_repairs_act_once_on_the_first_pass_or_after_all(repairs):
    small, large = ([side, side, 0, 0] for side in (SIZE, 96))
    (before,), seen = repairs("paint", request(BEFORE))
    assert seen == [small]
    assert "Itermix repairs: before the mixing" in before.parameters
    (after,), seen = repairs("paint", request(AFTER))
    assert seen == [large]
    assert "Itermix repairs" not in after.parameters
    assert np.abs(after.pixels - GREY).max() <= 1
    assert before.pixels.std() > 1


def test_every_picture_of_every_iteration_is_repaired(repairs):
    _, seen = repairs("nothing", request(BEFORE, n_iter=2, batch_size=2))
    assert seen == [[SIZE, SIZE, iteration, k] for iteration in range(2) for k in range(2)]


@pytest.mark.parametrize("upscaler", ["None", "Latent"])
def test_what_is_repaired_is_what_is_enlarged(repairs, webui, upscaler):
    """With all of the coarse part put back, each area of the result has the mean of the picture that was repaired."""
    needs(webui, upscaler)
    settings = {"fidelity": 1.0, "lowest": 1.0, "blending": "addition"}
    (painted,), _ = repairs("paint", request(BEFORE, settings, hr_upscaler=upscaler))
    (plain_one,), _ = repairs("nothing", request(BEFORE, settings, hr_upscaler=upscaler))
    far, near = (off_grey(picture.pixels) for picture in (plain_one, painted))
    assert near < 4
    assert far > 20


def off_grey(pixels):
    """How far the means of areas are from grey."""
    return np.abs(pixels.reshape(8, 12, 8, 12, 3).mean((1, 3)) - GREY).mean()


def test_a_picture_made_in_between_leaves_nothing_behind(repairs):
    left, seen = repairs("nothing", request(BEFORE, n_iter=2))
    made, again = repairs("generate", request(BEFORE, n_iter=2))
    assert seen == again
    assert equal(left, made)


def test_a_lora_of_both_passes_is_loaded_again_after_a_picture_without_it(repairs):
    """In one phase: loading draws from torch's generator, and so does the encoding of a second phase."""
    with_lora = request(BEFORE, {"max_scale_per_phase": 2.0}, prompt=f"a photograph <lora:{LORA}:1>")
    left, _ = repairs("nothing", with_lora)
    made, _ = repairs("generate", with_lora)
    assert equal(left, made)
    without, _ = repairs("generate", request(BEFORE, {"max_scale_per_phase": 2.0}))
    assert difference(left[0], without[0]) > 2


def test_the_hires_pass_keeps_a_checkpoint_of_its_own_or_refuses_to(repairs, webui):
    own = request(BEFORE, hr_checkpoint_name=SECOND)
    if webui.host.is_forge:
        assert "a checkpoint or modules of its own: after all" in refused(webui, "txt2img", own)
        return
    left, _ = repairs("nothing", own)
    made, _ = repairs("generate", own)
    assert equal(left, made)
    assert difference(left[0], repairs("nothing", request(BEFORE))[0][0]) > 1


def refused(webui, path, request):
    response = webui.post(path, request)
    assert response.status_code == 422, response.text[-500:]
    return response.json()["detail"]


def test_what_cant_be_done_is_refused(webui):
    for asked in (mixing({"repairs": BEFORE}, **QUICK), upscale({"repairs": BEFORE}, **QUICK)):
        assert "Allowed in img2img: after all." in refused(webui, "img2img", asked)
    assert "Allowed: after all, before the mixing" in refused(webui, "txt2img", request("never"))
    (webui.data / "repair.json").write_text(json.dumps("enlarge"))
    try:
        assert "has made 128x128 of the first pass" in refused(webui, "txt2img", request(BEFORE))
    finally:
        (webui.data / "repair.json").unlink()
