"""DemoFusion's windows in real WebUIs, with every call of the U-Net and the size of what it is shown."""

import json

import hosts
import numpy as np
import pytest
import requests
import torch
from payloads import (
    PRIMER,
    SIZE,
    hires,
    mask,
    mixing,
    need_refiner,
    need_sampler,
    photograph,
    plain,
    repeatable,
    upscale,
)
from test_img2img import difference, equal
from test_models import SECOND
from test_together import control_unit, controlled, embedding, run, together, with_script  # noqa: F401

from itermix import Settings
from itermix.model.crops import parts

STEPS = 3
QUICK = {"steps": STEPS, "hr_cfg": 2.0}
# Of the 16 latent pixels of 128 px: 9 crops and 4 sub-grids.
WINDOWS = {"window": 8, "window_batch": 2, "window_overlap": 0.5, "dilated": 1.0, "steps": STEPS}
SETTINGS = Settings(**WINDOWS)
PATHS = pytest.mark.parametrize(("path", "request_of"), [("img2img", upscale), ("txt2img", hires)])


@pytest.fixture
def seen(webui):
    """seen(path, request, fail=None) -> (pictures, runs): (side in pixels, calls, shapes that the U-Net was shown)."""
    runs, failing = webui.data / "runs.json", webui.data / "fail.json"

    def generate(path, request, fail=None):
        runs.unlink(missing_ok=True)
        failing.write_text(json.dumps(fail or {}))
        try:
            pictures = repeatable(webui, path, request)
            found = [(counted[0], counted[2], counted[5]) for counted in json.loads(runs.read_text())]
            return pictures, found[1:]  # without that of the request before it, which makes it repeatable
        finally:
            failing.unlink()
            runs.unlink()

    return generate


def check_parts(shapes, steps, settings=SETTINGS, side=16):
    """The U-Net was shown all parts and nothing larger; both prompts at once, or one after the other."""
    rows = sum(shape[0] for shape in shapes)
    local, thinned = parts(settings, side, side)
    assert rows == 2 * (steps * (local + thinned) - (local if thinned else 0))
    assert all(height <= settings.window and width <= settings.window for _, _, height, width in shapes)
    assert max(shape[0] for shape in shapes) == 2 * settings.window_batch
    assert len(shapes) == settings.calls(side, side, steps)


@PATHS
def test_the_model_is_shown_windows_and_nothing_else_changes(webui, seen, plain_pictures, path, request_of):
    off, before = seen(path, request_of({"steps": STEPS}, **QUICK))
    on, runs = seen(path, request_of(WINDOWS, **QUICK))
    assert [(side, calls) for side, calls, _ in runs] == [(side, calls) for side, calls, _ in before]
    check_parts(runs[-1][2], STEPS)
    assert on[0].pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert on[0].pixels.std() > 1
    assert difference(on[0], off[0]) > 1
    assert "Itermix window: 8" in on[0].parameters
    assert "unfinished" not in on[0].parameters
    again, _ = seen(path, request_of(WINDOWS, **QUICK))
    assert equal(on, again)
    still_off, _ = seen(path, request_of({"steps": STEPS}, **QUICK))
    assert equal(off, still_off)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])
    assert equal(plain(webui, "img2img"), plain_pictures["img2img"])


@PATHS
def test_each_phase_has_its_own_and_the_clean_up_has_crops(seen, path, request_of):
    size = {"hr_scale": 4.0} if path == "txt2img" else {}
    settings = {**WINDOWS, "window_batch": 9, "cleanup": 0.25, "cleanup_steps": 2}
    settings |= {"scale": 4.0} if path == "img2img" else {}
    (picture,), runs = seen(path, request_of(settings, **QUICK, **size))
    *_, first, second, cleaned = runs
    assert [first[0], second[0], cleaned[0]] == [128, 256, 256]
    check_parts(first[2], STEPS, Settings(**{**WINDOWS, "window_batch": 9}))
    check_parts(second[2], STEPS, Settings(**{**WINDOWS, "window_batch": 9}), side=32)
    check_parts(cleaned[2], cleaned[1], Settings(window=8, window_batch=9, window_overlap=0.5), side=32)
    assert "unfinished" not in picture.parameters


def test_a_picture_that_fits_is_made_as_without(seen):
    off, before = seen("img2img", mixing({"steps": STEPS}, **QUICK))
    on, runs = seen("img2img", mixing(WINDOWS, **QUICK))
    assert equal(on, off)
    assert runs == before


@pytest.mark.parametrize(
    ("sampler", "formulas"),
    [("DDIM", "clean picture"), ("DDIM", "DemoFusion"), ("DPM++ SDE", "clean picture"), ("UniPC", "DemoFusion")],
)
def test_with_every_kind_of_sampler(webui, seen, sampler, formulas):
    """UniPC needs as many steps as its order, and one more."""
    need_sampler(webui, sampler)
    settings = {**WINDOWS, "window_formulas": formulas, "blending": "addition", "detail": 0.0, "steps": 4}
    on, runs = seen("img2img", upscale(settings, sampler=sampler))
    assert all(height <= 8 and width <= 8 for _, _, height, width in runs[0][2])
    assert on[0].pixels.std() > 1
    assert "unfinished" not in on[0].parameters


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_an_inpainting_keeps_what_is_not_masked(seen, sampler):
    wide = {"width": 2 * SIZE, "height": 2 * SIZE}
    request = {
        "mask": hosts.encoded(mask(2 * SIZE, SIZE)),
        "mask_blur": 0,
        "inpaint_full_res": False,
        "inpainting_fill": 1,
    }
    request["init_images"] = [hosts.encoded(photograph(2 * SIZE))]
    (off,), _ = seen("img2img", mixing({"steps": STEPS}, sampler=sampler, **QUICK, **wide, **request))
    (on,), runs = seen("img2img", mixing(WINDOWS, sampler=sampler, **QUICK, **wide, **request))
    check_parts(runs[0][2], STEPS if sampler == "Euler" else runs[0][1])
    kept = slice(None), slice(0, SIZE - 8)
    assert np.abs(on.pixels[kept] - off.pixels[kept]).max() <= 1
    assert difference(on, off) > 1


def test_several_pictures_at_once_are_those_made_alone(seen):
    both, runs = seen("img2img", upscale(WINDOWS, batch_size=2, **QUICK))
    assert max(shape[0] for shape in runs[0][2]) == 2 * 2 * 2
    for k in range(2):
        (alone,), _ = seen("img2img", upscale(WINDOWS, seed=7 + k, **QUICK))
        if k == 0:  # the encoder draws for the batch as a whole
            assert difference(both[k], alone) <= 1
    assert difference(*both) > 1


@PATHS
@pytest.mark.parametrize("how", ["interrupt", "error"])
def test_nothing_stays_after_a_stop_in_the_middle_of_a_step(webui, seen, plain_pictures, path, request_of, how):
    off, _ = seen(path, request_of({"steps": STEPS}, **QUICK))
    two = {**WINDOWS, "max_scale_per_phase": 1.25}
    size = {"hr_scale": 1.5} if path == "txt2img" else {}
    two |= {"scale": 1.5} if path == "img2img" else {}
    number = 4 if path == "txt2img" else 3  # the second phase, with that of the request before it
    pictures, runs = seen(path, request_of(two, **QUICK, **size), {"run": number, "part": 7, "how": how})
    assert "Itermix unfinished: " in pictures[0].parameters
    assert len(runs[-1][2]) == 7  # no further part was shown to the model
    still_off, _ = seen(path, request_of({"steps": STEPS}, **QUICK))
    assert equal(off, still_off)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])


@PATHS
def test_the_refiner_gets_windows_too(webui, seen, path, request_of):
    need_refiner(webui, path)
    refiner = {"refiner_checkpoint": SECOND, "refiner_switch_at": 0.5}
    (refined,), runs = seen(path, request_of(WINDOWS, **refiner, **QUICK))
    assert f"Refiner: {SECOND}" in refined.parameters
    assert all(height <= 8 and width <= 8 for _, _, height, width in runs[-1][2])
    (alone,), _ = seen(path, request_of(WINDOWS, **QUICK))
    assert difference(refined, alone) > 1
    _, after = seen(path, request_of({"steps": STEPS}, **QUICK))
    assert {tuple(shape[2:]) for shape in after[-1][2]} == {(16, 16)}


def test_what_can_not_be_combined_is_refused_before_anything_is_made(webui):
    for path, request_of in (("img2img", upscale), ("img2img", mixing), ("txt2img", hires)):
        for settings, named in (({"detail": 0.1}, "detail"), ({"blending": "clean low-pass"}, "the blending clean")):
            response = webui.post(path, request_of({**WINDOWS, "window_formulas": "DemoFusion", **settings}, **QUICK))
            assert response.status_code == 422, response.text[-2000:]
            assert f"Allowed with {named}" in response.json()["detail"]
    response = webui.post("img2img", upscale({"window": 12}, **QUICK))
    assert "a multiple of 8" in response.json()["detail"]


def test_the_plan_tells_what_they_cost(webui):
    query = (
        "width=1024&height=1024&steps=20&scale=4&mixing_steps=11&window=128&window_batch=4&dilated=1&window_overlap=0.5"
    )
    text = requests.get(f"{webui.url}/itermix/v1/plan?{query}", timeout=30).json()["text"]
    assert text.endswith("4096x4096, 11 steps each, 4, then 17 calls of the model in the place of one")


@pytest.fixture
def adapted(webui, request):
    """adapted(path, request, acts) -> the picture, and the first estimate of its last sampling.

    Where the IP-Adapter acts its mask is the left half.
    """
    server = webui if webui.host.is_forge else request.getfixturevalue("together")
    flag = webui.data / "adapter.json"

    def make(path, request, acts):
        if acts and server is webui:
            flag.touch()
        elif acts:
            left = mask(2 * SIZE, SIZE).rotate(180).convert("RGB")  # it takes no grey
            args = control_unit(server, "ip-adapter", **embedding(), effective_region_mask=hosts.encoded(left))
            request = with_script(request, "ControlNet", args)
        (picture,) = repeatable(server, path, request)
        return picture, torch.load(server.data / "probe.pt", weights_only=True)["calls"][0][2]

    yield make
    flag.unlink(missing_ok=True)


@PATHS
def test_an_ip_adapter_acts_in_its_mask_in_each_part(adapted, path, request_of):
    """Crops begin at every fourth of 16 latent pixels: the last four are in those alone that have nothing of it."""
    request = request_of({**WINDOWS, "window_jitter": False, "dilated": 0.0}, **QUICK)
    (without, before), (picture, estimate) = (adapted(path, request, acts) for acts in (False, True))
    assert difference(picture, without) > 0.1
    assert "unfinished" not in picture.parameters
    if path == "img2img":  # in a hires pass it acts in the first pass, too
        apart = (estimate - before).abs().mean(dim=(0, 1, 2))
        assert apart[-4:].max() < 1e-3 * apart[:8].min()  # A1111 takes another way through attention with it


@PATHS
@pytest.mark.parametrize("dilated", [0.0, 1.0])
def test_controlnet_sees_the_hint_of_each_part(controlled, path, request_of, dilated):  # noqa: F811
    """The hints have the size of what the model is shown, and the result differs from one without, and from one whose
    hint is another picture."""
    args = control_unit(controlled, "controlnet", image=hosts.encoded(photograph(SIZE)))
    request = request_of({**WINDOWS, "dilated": dilated}, **QUICK)
    (picture,), runs = run(controlled, path, with_script(request, "ControlNet", args))
    hints = runs[-1][3]
    assert hints
    assert all(max(hint) <= 8 * WINDOWS["window"] for hint in hints)
    assert len(hints) == SETTINGS.replace(dilated=dilated).calls(16, 16, STEPS)
    assert difference(picture, controlled.generate(path, request)[0]) > 1
    turned = control_unit(controlled, "controlnet", image=hosts.encoded(photograph(SIZE).rotate(180)))
    assert difference(picture, controlled.generate(path, with_script(request, "ControlNet", turned))[0]) > 0.1
    _, runs = run(controlled, path, with_script(request_of({"steps": STEPS}, **QUICK), "ControlNet", args))
    assert runs[-1][3] == STEPS * [[2 * SIZE, 2 * SIZE]]


@PATHS
@pytest.mark.parametrize("how", ["finished", "interrupted", "tiling"])
def test_four_times_as_large_with_a_hint_in_tiles(controlled, path, request_of, how):  # noqa: F811
    """From 64 to 256 px in two phases, of which the last is shown in crops of 128 px."""
    args = control_unit(controlled, "controlnet", image=hosts.encoded(photograph(SIZE)))
    size = {"hr_scale": 4.0} if path == "txt2img" else {}
    settings = {"window": 16, "window_batch": 2, "steps": 2} | ({"scale": 4.0} if path == "img2img" else {})
    request = request_of(settings, tiling=how == "tiling", **QUICK, **size)
    before, fail = plain(controlled, "txt2img"), controlled.data / "fail.json"
    if how == "interrupted":
        last = 3 if path == "txt2img" else 2
        fail.write_text(json.dumps({"run": last, "part": 7, "how": "interrupt"}))
    try:
        (picture,), runs = run(controlled, path, with_script(request, "ControlNet", args))
    finally:
        fail.unlink(missing_ok=True)
    side = 2 * SIZE if how == "interrupted" else 4 * SIZE
    assert picture.pixels.shape == (side, side, 3)
    assert ("Itermix unfinished" in picture.parameters) is (how == "interrupted")
    assert ("Itermix seamless: True" in picture.parameters) is (how == "tiling")
    shown = Settings(window=16, window_batch=2, seamless=how == "tiling").calls(32, 32, 2)
    assert len(runs[-1][3]) == (7 if how == "interrupted" else shown)
    assert all(max(hint) == 2 * SIZE for hint in runs[-1][3])
    assert runs[-2][3] == 2 * [[2 * SIZE, 2 * SIZE]]
    assert equal(plain(controlled, "txt2img"), before)


OWN, OTHER = "a photograph", "a [red:blue:0.5] car, (rust:1.4) and a very long road under the sky"
CROPS = {"window": 8, "window_batch": 2, "steps": STEPS}
TOLD = {"img2img": {"prompt": OTHER}, "txt2img": {"hr_prompt": OTHER}}  # the whole picture, and not the first pass


@PATHS
def test_prompts_of_their_own_act_in_their_crops(webui, plain_pictures, path, request_of):
    def made(**more):
        (picture,) = repeatable(webui, path, request_of({**CROPS, **more}, **QUICK))
        return picture

    def by_extension(name, content):
        webui.generate(*PRIMER)
        file = webui.data / f"{name}.json"
        file.write_text(json.dumps(content))
        try:
            return webui.generate(path, request_of(CROPS, **QUICK))[0]
        finally:
            file.unlink()

    own = made()
    assert np.array_equal(made(prompts=[[OWN, OWN], [OWN, None]]).pixels, own.pixels)
    left, right, all_of_it = (made(prompts=[row]) for row in ([OTHER, OWN], [None, OTHER], [OTHER]))
    for picture, changed, kept in ((left, slice(0, 48), slice(80, 128)), (right, slice(80, 128), slice(0, 48))):
        near, far = (np.abs(picture.pixels - own.pixels)[:, columns].mean() for columns in (changed, kept))
        assert near > 1
        assert near > 2 * far  # the decoder spreads some of it over the whole picture
        assert "unfinished" not in picture.parameters
    assert "Itermix prompts: " in left.parameters
    assert "Itermix prompts" not in own.parameters
    assert np.array_equal(by_extension("settings", {"prompts": [[OTHER, OWN]]}).pixels, left.pixels)
    from_callable = by_extension("prompts", [OTHER, None])
    assert np.array_equal(from_callable.pixels, left.pixels)
    assert "Itermix prompts: by another extension" in from_callable.parameters
    (whole,) = repeatable(webui, path, request_of({"steps": STEPS, "prompts": [[OTHER]]}, **QUICK))
    (without,) = repeatable(webui, path, request_of({"steps": STEPS}, **QUICK))
    assert np.array_equal(whole.pixels, without.pixels)
    assert 'Itermix prompts: "none, the picture was shown as a whole"' in whole.parameters
    by_itself = request_of(CROPS, **QUICK, **TOLD[path])
    assert np.array_equal(all_of_it.pixels, repeatable(webui, path, by_itself)[0].pixels)
    assert np.array_equal(made().pixels, own.pixels)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])
    assert equal(plain(webui, "img2img"), plain_pictures["img2img"])


@PATHS
@pytest.mark.parametrize("wrong", ["a house", [["a", "b"], ["c"]], [["a AND b"]], [["a <lora:b:1>"]]])
def test_prompts_that_can_not_be_used_are_refused(webui, path, request_of, wrong):
    response = webui.post(path, request_of({**CROPS, "prompts": wrong}, **QUICK))
    assert response.status_code == 422, response.text[-2000:]
    assert "prompts = " in response.json()["detail"]
    assert "Allowed: " in response.json()["detail"]


@PATHS
def test_a_refiner_and_inverted_noise_take_the_prompts_too(webui, path, request_of):
    if webui.host.is_neo:
        pytest.skip(
            "Forge Neo tells a refiner what the first checkpoint made of the prompt, and crops what the refiner did"
        )

    def made(prompts, **changes):
        inverted = {"noise": "inverted", "inversion_prompt": True}
        request = request_of({**CROPS, **inverted, "prompts": prompts}, **QUICK, **changes)
        return repeatable(webui, path, request)[0]

    refiner = {"refiner_checkpoint": SECOND, "refiner_switch_at": 0.5}
    refined = made([[None, OWN]], **refiner)
    assert f"Refiner: {SECOND}" in refined.parameters
    assert np.array_equal(made([[OWN]], **refiner).pixels, refined.pixels)
    assert np.array_equal(made([[OTHER]], **refiner).pixels, made([[None]], **TOLD[path], **refiner).pixels)
    assert difference(made([[OTHER]], **refiner), refined) > 1


@PATHS
def test_controlnet_and_prompts_of_their_own(controlled, path, request_of):  # noqa: F811
    """sd-webui-controlnet marks the prompts, and reads its marks in every call."""
    args = control_unit(controlled, "controlnet", image=hosts.encoded(photograph(SIZE)))
    size = {"hr_scale": 1.5} if path == "txt2img" else {}
    settings = {**CROPS, "steps": 2} | ({"scale": 1.5} if path == "img2img" else {})  # 4 crops

    def made(prompts, **changes):
        request = request_of({**settings, "prompts": prompts}, **QUICK, **size, **changes)
        return repeatable(controlled, path, with_script(request, "ControlNet", args))[0]

    made(None)  # the first after ControlNet is loaded, of which A1111 makes another in the last bit
    own, other = made(None), made([[OTHER]])
    assert np.array_equal(made([[OWN]]).pixels, own.pixels)
    assert np.array_equal(made(None, **TOLD[path]).pixels, other.pixels)
    assert difference(own, other) > 1


@PATHS
def test_a_request_that_tiles_is_seamless(webui, plain_pictures, path, request_of):
    settings = {"steps": STEPS, "window": 8}
    requests = (request_of(settings, tiling=tiling, **QUICK) for tiling in (False, True))
    (apart,), (seamless,) = (webui.generate(path, request) for request in requests)
    assert "Itermix seamless" not in apart.parameters
    assert "Itermix seamless: True" in seamless.parameters
    assert "unfinished" not in seamless.parameters
    assert difference(apart, seamless) > 1
    assert equal(plain(webui, "img2img"), plain_pictures["img2img"])
