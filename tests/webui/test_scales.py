"""Phases, clean-up and the replacement of hires fix in real WebUIs, with every model call counted."""

import itertools
import json
import threading
import time

import hosts
import numpy as np
import pytest
from payloads import PLAIN, SIZE, hires, mask, mixing, needs, photograph, plain, upscale
from PIL import Image
from test_img2img import difference, equal

from itermix import Settings

STEPS = 3
QUICK = {"steps": STEPS}
LIMIT = {"max_scale_per_phase": 1.25}
TWO = {"scale": 1.5, **LIMIT}  # from 64 px over 80 px to 96 px
UNFINISHED = {"detail": 0.0}  # a phase that isn't the last strengthens none


@pytest.fixture
def run(webui):
    """run(path, request, fail=None) -> (pictures, calls): [width, height, calls] of each sampling."""
    runs, failing = webui.data / "runs.json", webui.data / "fail.json"

    def generate(path, request, fail=None):
        runs.unlink(missing_ok=True)
        failing.write_text(json.dumps(fail or {}))
        try:
            return webui.generate(path, request), [counted[:3] for counted in json.loads(runs.read_text())]
        finally:
            failing.unlink()

    return generate


def failing(number, how, call=2):
    """Let a call of a sampling fail. Before the first the mixing replaces the state, NaN and all."""
    return {"run": number, "call": call, "how": how}


@pytest.mark.parametrize(
    ("scale", "sizes"), [(2.0, [(128, 128)]), (3.0, [(112, 112), (192, 192)]), (4.0, [(128, 128), (256, 256)])]
)
def test_the_script_reaches_any_scale_in_phases_with_a_clean_up(run, scale, sizes):
    (picture,), calls = run(
        "img2img", upscale({"denoise": 0.7, "scale": scale, "cleanup": 0.25, "cleanup_steps": 2}, **QUICK)
    )
    assert calls == [[*size, STEPS] for size in sizes] + [[*sizes[-1], 2]]
    assert picture.pixels.shape == (*sizes[-1][::-1], 3)
    assert f"Size: {sizes[-1][0]}x{sizes[-1][1]}" in picture.parameters
    assert "unfinished" not in picture.parameters


@pytest.mark.parametrize(("scale", "sizes"), [(2.0, [(128, 128)]), (4.0, [(128, 128), (256, 256)])])
@pytest.mark.parametrize("upscaler", ["None", "Latent"])
def test_hires_fix_is_replaced_with_its_own_controls(webui, run, scale, sizes, upscaler):
    needs(webui, upscaler)
    request = hires({"cleanup": 0.2}, hr_scale=scale, hr_upscaler=upscaler, hr_second_pass_steps=2, **QUICK)
    (picture,), calls = run("txt2img", request)
    assert calls == [[SIZE, SIZE, STEPS], *([*size, 2] for size in sizes), [*sizes[-1], 1]]
    assert picture.pixels.shape == (*sizes[-1][::-1], 3)
    assert f"Hires upscale: {scale}, " in picture.parameters
    assert "Itermix clean-up: 0.2" in picture.parameters


def test_the_hires_pass_mixes_with_a_denoise_of_its_own(run):
    tied = {"blending": "addition", "lowest": 1.0, "detail": 0.0}
    results = [run("txt2img", hires(tied, denoising_strength=d, **QUICK))[0] for d in (0.2, 0.7)]
    assert equal(*results)
    (free,), _ = run("txt2img", hires({}, **QUICK))
    assert difference(free, results[0][0]) > 2


def test_resize_to_another_shape_is_cut_as_hires_fix_does(webui, run):
    """Forge Neo's doesn't cut: it gives the picture the other shape."""
    (picture,), calls = run("txt2img", hires({}, hr_resize_x=160, hr_resize_y=240, **QUICK))
    assert picture.pixels.shape == (240, 160, 3)
    assert [width for width, _, _ in calls] == [SIZE, 104 if webui.host.is_neo else 120, 160]
    query = f"width={SIZE}&height={SIZE}&steps=3&hires=true&hr_resize_x=160&hr_resize_y=240"
    assert webui.get(f"../../itermix/v1/plan?{query}")["phases"] == [call[:2] for call in calls[1:]]


FAILURES = ("memory", "nan", "interrupt", "skip")


@pytest.mark.parametrize("how", FAILURES)
def test_a_failing_second_phase_gives_the_picture_of_the_first(webui, run, how):
    before = set(webui.data.rglob("*.png"))
    pictures, calls = run("img2img", upscale(TWO, save_images=True, **QUICK), failing(2, how))
    expected, _ = run("img2img", upscale({"width": 80, "height": 80, **UNFINISHED}, **QUICK))
    assert equal(pictures, expected)
    assert [size[0] for size in calls] == [80, 96]
    assert 'Itermix unfinished: "phase 2 of 2: it ' in pictures[0].parameters
    (saved,) = set(webui.data.rglob("*.png")) - before
    with Image.open(saved) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), pictures[0].pixels)
        assert "unfinished" in image.info["parameters"]


@pytest.mark.parametrize("how", FAILURES)
def test_a_failing_second_hires_phase_gives_the_picture_of_the_first(webui, run, how):
    before = set(webui.data.rglob("*.png"))
    pictures, calls = run("txt2img", hires(LIMIT, hr_scale=1.5, save_images=True, **QUICK), failing(3, how))
    assert len(set(webui.data.rglob("*.png")) - before) == 1
    expected, _ = run("txt2img", hires(UNFINISHED, hr_scale=1.25, **QUICK))
    assert equal(pictures, expected)
    assert [size[0] for size in calls] == [64, 80, 96]
    assert 'Itermix unfinished: "phase 2 of 2: it ' in pictures[0].parameters


@pytest.mark.parametrize("how", FAILURES)
def test_a_failing_first_hires_phase_gives_the_picture_of_the_first_pass(run, how):
    pictures, _ = run("txt2img", hires({}, hr_scale=1.25, **QUICK), failing(2, how))
    expected, _ = run("txt2img", {**hires({}, **QUICK), "enable_hr": False, "alwayson_scripts": {}})
    assert equal(pictures, expected)
    assert "this is the picture of the first pass" in pictures[0].parameters


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize(("path", "request_of", "number"), [("img2img", upscale, 2), ("txt2img", hires, 3)])
def test_a_failing_clean_up_gives_the_picture_before_it(run, path, request_of, number, how):
    pictures, calls = run(path, request_of({"cleanup": 0.2}, **QUICK), failing(number, how, call=1))
    expected, _ = run(path, request_of({}, **QUICK))
    assert equal(pictures, expected)
    assert len(calls) == number
    assert 'Itermix unfinished: "clean-up: it ' in pictures[0].parameters


def test_skip_ends_one_image_and_the_next_is_made_in_full(run):
    pictures, calls = run("img2img", upscale(TWO, n_iter=2, **QUICK), failing(2, "skip"))
    assert [picture.pixels.shape[0] for picture in pictures] == [80, 96]
    assert [size[0] for size in calls] == [80, 96, 80, 96]
    assert "unfinished" not in pictures[1].parameters


def test_interrupt_ends_everything(run):
    pictures, calls = run("img2img", upscale(TWO, n_iter=2, **QUICK), failing(2, "interrupt"))
    assert [picture.pixels.shape[0] for picture in pictures] == [80]
    assert [size[0] for size in calls] == [80, 96]


@pytest.mark.parametrize(
    ("path", "request_of"),
    [("img2img", lambda a, **k: upscale({**a, **TWO}, **k)), ("txt2img", hires)],
)
def test_batch_of_two_in_two_iterations_gives_the_pictures_of_four_seeds(run, path, request_of):
    settings = {"cleanup": 0.2, "noise": "cumulative"}
    pictures, calls = run(path, request_of(settings, batch_size=2, n_iter=2, **QUICK))
    assert len(pictures) == 4
    for k in (0, 3):
        assert f"Seed: {7 + k}," in pictures[k].parameters
        (alone,), alone_calls = run(path, request_of(settings, **{**QUICK, "seed": 7 + k}))
        assert difference(pictures[k], alone) <= 3
        assert calls == 2 * alone_calls
    assert difference(pictures[0], pictures[1]) > 3


def test_seeds_and_variations_count_as_the_webui_counts_them(run):
    varied = {"subseed": 5, "subseed_strength": 0.4, "n_iter": 2, **QUICK}
    pictures, _ = run("img2img", upscale({}, **varied))
    assert all("Seed: 7," in picture.parameters for picture in pictures)
    assert "Variation seed: 6" in pictures[1].parameters
    (second,), _ = run("img2img", upscale({}, **{**varied, "n_iter": 1, "subseed": 6}))
    assert difference(pictures[1], second) <= 2
    assert difference(pictures[0], second) > 2


def test_an_odd_size_with_transparency(run):
    picture = photograph(SIZE).resize((70, 51)).convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 128))
    request = upscale({"scale": 3.0}, init_images=[hosts.encoded(picture)], **QUICK)
    (result,), calls = run("img2img", request)
    assert result.pixels.shape == (152, 208, 3)
    assert [call[:2] for call in calls] == [[120, 88], [208, 152]]


@pytest.mark.parametrize("only_masked", [False, True])
def test_a_mask_holds_in_every_phase(run, only_masked):
    painted = {"mask": hosts.encoded(mask()), "inpaint_full_res": only_masked, "inpainting_fill": 1, "mask_blur": 0}
    (picture,), calls = run(
        "img2img", upscale({**TWO, "match_colours": True, "back_projection": False}, **painted, **QUICK)
    )
    source = photograph(SIZE)
    for side in (80, 96):
        source = source.resize((side, side), 1)
    apart = np.abs(picture.pixels - np.asarray(source).astype(int))
    assert len(calls) == 2
    assert apart[:, : 48 - 12].max() <= 4
    assert apart[:, 48 + 12 :].mean() > 5


SOFT = {"Soft Inpainting": {"args": [True, 1.0, 0.5, 4.0, 0.0, 0.5, 2.0]}}


@pytest.mark.parametrize("by_script", [False, True])
def test_soft_inpainting_blends_as_ever(run, by_script):
    """What is far from the mask stays, and the WebUI's own blending changes what lies along its edge.

    Soft inpainting looks up to 4 latent pixels around before it keeps something, 8 px each, and blurs by 12.
    """
    side = 128
    painted = {"mask": hosts.encoded(mask(side, 96)), "inpaint_full_res": False, "inpainting_fill": 1, "mask_blur": 4}
    sizes = {"init_images": [hosts.encoded(photograph(side))], "width": side, "height": side, **painted, **QUICK}

    def made(scripts):
        request = upscale({"scale": 1.5, "back_projection": False}, **sizes) if by_script else mixing({}, **sizes)
        return run("img2img", {**request, "alwayson_scripts": {**request.get("alwayson_scripts", {}), **scripts}})[0][0]

    hard, soft = made({}), made(SOFT)
    assert "Soft inpainting enabled: True" in soft.parameters
    assert "Itermix enabled: True" in soft.parameters
    assert difference(hard, soft) > 2
    source = np.asarray(photograph(side).resize(soft.pixels.shape[1::-1], 1)).astype(int)
    assert np.abs(soft.pixels - source)[:, : side // 4].max() <= 4


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M"])
def test_soft_inpainting_without_any_weight_is_the_hosts_own(run, sampler):
    painted = {"mask": hosts.encoded(mask()), "inpaint_full_res": False, "inpainting_fill": 1, "mask_blur": 4}
    request = mixing({"clamp": 0.0, "detail": 0.0, "fidelity": 0.0}, sampler=sampler, **painted, **QUICK)
    (ours,), _ = run("img2img", {**request, "alwayson_scripts": {**request["alwayson_scripts"], **SOFT}})
    by_host = {**request, "alwayson_scripts": SOFT, "denoising_strength": Settings().denoise}
    (alone,), _ = run("img2img", by_host)
    assert difference(ours, alone) <= 1


def test_matching_brings_mean_and_contrast_of_the_latent_back(webui, run):
    results = [run("img2img", upscale({"match_colours": on, "alpha": 3.0}, **QUICK))[0] for on in (True, False)]
    assert difference(results[0][0], results[1][0]) > 2


@pytest.mark.parametrize("path", ["img2img", "txt2img"])
def test_demofusions_colours_are_those_of_the_first_source_as_a_whole(run, path):
    """Through two phases, in both places where a first source is known."""
    guided = {**LIMIT, "match_colours": True, "alpha": 3.0, "fidelity": 0.0, "detail": 0.0}

    def made(formulas):
        settings = {**guided, "colour_formulas": formulas}
        request = upscale({**settings, "scale": 1.5}, **QUICK) if path == "img2img" else hires(settings, hr_scale=1.5)
        return run(path, request)[0][0]

    whole, channels = made("DemoFusion"), made("channels")
    assert "unfinished" not in whole.parameters
    assert "Itermix colour formulas: DemoFusion" in whole.parameters
    assert difference(whole, channels) > 1


def test_every_phase_is_saved_if_wanted(webui, run):
    for path, request in (
        ("img2img", upscale({**TWO, "save_phases": True}, save_images=True, **QUICK)),
        ("txt2img", hires({**LIMIT, "save_phases": True}, hr_scale=1.5, save_images=True, **QUICK)),
    ):
        before = set(webui.data.rglob("*.png"))
        run(path, request)
        sizes = sorted(Image.open(file).size for file in set(webui.data.rglob("*.png")) - before)
        assert sizes == [(80, 80), (96, 96)]


@pytest.mark.parametrize(("path", "request_of", "first"), [("img2img", upscale, 0.36), ("txt2img", hires, 0.47)])
def test_one_progress_over_all_phases_in_proportion_to_their_work(webui, path, request_of, first):
    scale = {"hr_scale": 1.5} if path == "txt2img" else {}
    settings = {"denoise": 1.0, "cleanup": 0.2, **(TWO if path == "img2img" else LIMIT)}
    thread = threading.Thread(target=lambda: webui.generate(path, request_of(settings, steps=12, **scale)))
    thread.start()
    seen = []
    while thread.is_alive():
        state = webui.get("progress?skip_current_image=true")
        if state["state"]["job"].startswith("Iterative Mixing: "):
            seen.append((state["state"]["job"].removeprefix("Iterative Mixing: "), state["progress"]))
        time.sleep(0.05)
    thread.join()
    values = [value for _, value in seen]
    assert all(later >= earlier - 0.011 for earlier, later in itertools.pairwise(values))  # A1111 adds .01, not always
    texts = list(dict.fromkeys(text for text, _ in seen))
    assert texts[-3:] == ["phase 1 of 2, 80x80", "phase 2 of 2, 96x96", "clean-up, 96x96"]
    # 12 steps of 80 px, 12 of 96 px and 3 of 96 px; before them 12 of 64 px in txt2img.
    begun = next(value for text, value in seen if text.startswith("phase 2"))
    assert begun == pytest.approx(first, abs=0.06)


def test_without_hires_fix_there_is_nothing_to_replace(webui):
    response = webui.post("txt2img", {**hires({}), "enable_hr": False})
    assert response.status_code == 422
    assert "Allowed in txt2img: true together with hires fix" in response.json()["detail"]


@pytest.mark.parametrize(
    ("settings", "changes", "parts"),
    [
        ({"alpha": 999}, {}, ["alpha = 999"]),
        ({"cleanup": 0.01}, {}, ["cleanup = 0.01", "from 0.05 to 0.25"]),
        ({"cleanup": 0.1, "cleanup_sampler": "Eulre"}, {}, ["cleanup_sampler = 'Eulre'", "Euler a"]),
        ({}, {"hr_scale": 9.0}, ["target width = 576", "512"]),
    ],
)
def test_what_cannot_be_done_is_said_before_the_first_pass(webui, settings, changes, parts):
    (webui.data / "runs.json").unlink(missing_ok=True)
    response = webui.post("txt2img", hires(settings, **changes))
    assert response.status_code == 422, response.text
    assert all(part in response.json()["detail"] for part in parts)
    assert not (webui.data / "runs.json").exists()


def test_too_large_a_scale_is_said(webui):
    response = webui.post("img2img", upscale({"width": 1024, "height": 1024}))
    assert response.status_code == 422
    assert "target width = 1024" in response.json()["detail"]


def test_nothing_is_left_behind_by_phases(webui, run, plain_pictures):
    for number, how in ((1, "memory"), (2, "interrupt"), (3, "memory")):
        (webui.data / "fail.json").write_text(json.dumps(failing(number, how)))
        webui.post("txt2img", hires({"cleanup": 0.2, **LIMIT}, hr_scale=1.5, **QUICK))
        (webui.data / "fail.json").unlink()
    run("img2img", mixing({"cleanup": 0.2}, **QUICK))
    for name in PLAIN:
        assert equal(plain(webui, name), plain_pictures[name])
