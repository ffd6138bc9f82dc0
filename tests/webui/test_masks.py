"""Masks, Perlin noise and rewinding in real WebUIs, through the API."""

import itertools
import json
import threading
import time

import hosts
import pytest
import torch
from payloads import PRIMER, SIZE, hires, mask, mixing, need_sampler, photograph, plain, repeatable, upscale
from PIL import Image
from probed import each_call
from test_img2img import difference, equal
from test_scales import failing, run  # noqa: F401

from itermix.mixing.masks import Mask, mask_of
from itermix.settings import Settings

QUICK = {"steps": 3}
TIED = {"blending": "addition", "lowest": 1.0, "detail": 0.0, "fidelity": 0.0}
REWOUND = {"denoise": 1.0, "rewind": True}
BEGINS = [0, 3, 4]  # of 6 steps
RIGHT = hosts.encoded(mask())  # white right of the middle
WHITE, BLACK = (hosts.encoded(mask().point(lambda _, value=value: value)) for value in (255, 0))
KINDS = [("img2img", mixing), ("img2img", upscale), ("txt2img", hires)]


def test_where_the_mask_is_black_the_state_is_the_sampler_s_own(webui):
    webui.generate("img2img", mixing({**TIED, "denoise": 0.7, "mask": RIGHT}))
    middle = SIZE // 8 // 2
    calls = list(each_call(webui))
    assert len(calls) > 2
    for seen, before, noised in calls:
        assert (seen - noised)[..., middle:].abs().max() < 1e-4 * noised.abs().max()
        assert (seen - before)[..., :middle].abs().max() < 1e-4 * before.abs().max()
        assert (seen - noised)[..., :middle].abs().max() > 1e-2


def test_the_threshold_lets_go_by_the_grey(webui):
    grey = hosts.encoded(mask().point(lambda value: 128 if value else 0))
    let_go = {**TIED, "denoise": 1.0, "lowest": 0.0, "mask": grey, "mask_mode": "threshold"}
    webui.generate("img2img", mixing(let_go, steps=6))
    middle = SIZE // 8 // 2
    held = [
        (seen - noised)[..., middle:].abs().max() < 1e-4 * noised.abs().max() for seen, _, noised in each_call(webui)
    ]
    free = [(seen - x)[..., middle:].abs().max() < 1e-4 * x.abs().max() for seen, x, _ in each_call(webui)]
    assert held == [True] * 3 + [False] * 2  # 1/6, 2/6 and 3/6 are below 128/255
    assert free == [False] * 3 + [True] * 2


def test_perlin_noise_is_the_weight(webui):
    webui.generate("img2img", mixing({**TIED, "perlin": 1.0, "perlin_scale": 2.0}))
    latent = torch.load(webui.data / "probe.pt", weights_only=True)["latent"]
    made = mask_of(Settings(perlin=1.0, perlin_scale=2.0), latent, [7])
    assert isinstance(made, Mask)
    for seen, before, noised in each_call(webui):
        expected = made.values * noised + (1 - made.values) * before
        assert (seen - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("path", "request_of"), KINDS)
def test_white_is_no_mask_and_black_no_mixing_in_every_way_to_mix(webui, path, request_of):
    tied = {**TIED, "fidelity": 0.5}

    def made(**settings):
        (picture,) = repeatable(webui, path, request_of({**tied, **settings}, **QUICK))
        return picture

    guided, free = made(), made(lowest=0.0, highest=0.0, fidelity=0.0)
    white, black, half = (made(mask=picture) for picture in (WHITE, BLACK, RIGHT))
    assert difference(white, guided) <= 1
    assert difference(black, free) == 0
    assert difference(guided, free) > 2
    assert difference(half, guided) > 1
    assert difference(half, free) > 1
    assert "mask" not in half.parameters
    assert equal([made(mask=RIGHT)], [half])
    assert equal([made(mask=f"data:image/png;base64,{RIGHT}")], [half])
    large = photograph(SIZE).convert("L").point(lambda _: 0).resize((5 * SIZE, 3 * SIZE))
    assert equal([made(mask=hosts.encoded(large))], [black])


def test_the_mask_of_several_phases_and_of_a_batch(webui, run):  # noqa: F811
    two = {**TIED, "scale": 1.5, "max_scale_per_phase": 1.25}
    webui.generate(*PRIMER)
    pictures, calls = run("img2img", upscale({**two, "mask": WHITE}, batch_size=2, **QUICK))
    webui.generate(*PRIMER)
    expected, _ = run("img2img", upscale(two, batch_size=2, **QUICK))
    assert [size[0] for size in calls] == [80, 96]
    assert len(pictures) == 2
    assert max(difference(a, b) for a, b in zip(pictures, expected)) <= 1


@pytest.mark.parametrize(("side", "white"), [("right", True), ("left", False)])
def test_only_masked_inpainting_sees_its_part_of_the_mask(webui, side, white):
    """A part in the right half of the picture, of which the mask is all white, or all black."""
    part = mask(left=3 * SIZE // 4)
    painted = {"mask": hosts.encoded(part), "inpaint_full_res": True, "inpaint_full_res_padding": 0,
               "inpainting_fill": 1, "mask_blur": 0}  # fmt: skip
    turned = hosts.encoded(mask() if side == "right" else mask().point(lambda value: 255 - value))
    settings = TIED if white else {"highest": 0.0, "detail": 0.0, "fidelity": 0.0}
    (made,) = repeatable(webui, "img2img", mixing({**TIED, "mask": turned}, **painted, **QUICK))
    (expected,) = repeatable(webui, "img2img", mixing(settings, **painted, **QUICK))
    assert difference(made, expected) <= 1


def test_a_mask_among_the_values_of_the_controls(webui):
    info = webui.get("script-info")
    (script,) = [each for each in info if each["name"] == "iterative mixing" and each["is_img2img"]]
    values = [arg["value"] for arg in script["args"]]
    values[: len(Settings.parameters())] = [
        {"enabled": True, "steps": 0, **TIED}.get(p.name, value) for p, value in zip(Settings.parameters(), values)
    ]
    by_controls = repeatable(webui, "img2img", mixing(*values[:-3], RIGHT, **QUICK))
    assert equal(by_controls, repeatable(webui, "img2img", mixing({**TIED, "mask": RIGHT}, **QUICK)))
    assert not equal(by_controls, repeatable(webui, "img2img", mixing(*values, **QUICK)))


LEFT = mask().point(lambda value: 255 - value)
PAINTED = {"mask": hosts.encoded(LEFT), "mask_blur": 0}


@pytest.mark.parametrize("request_of", [mixing, upscale])
def test_the_inpaint_mask_says_where_not_to_guide_and_all_is_sampled(webui, request_of):
    expected = repeatable(webui, "img2img", request_of({**TIED, "mask": RIGHT}, **QUICK))
    made = repeatable(webui, "img2img", request_of({**TIED, "mask": "inpaint"}, **PAINTED, **QUICK))
    assert equal(made, expected)
    for of_page in (LEFT.convert("RGBA"), Image.merge("RGBA", [LEFT] * 4)):  # of Forge's canvas, and as alpha
        given = {**PAINTED, "mask": hosts.encoded(of_page)}
        assert equal(repeatable(webui, "img2img", request_of({**TIED, "mask": "inpaint"}, **given, **QUICK)), expected)
    turned = {"mask": RIGHT, "mask_blur": 0, "inpainting_mask_invert": 1}
    assert equal(repeatable(webui, "img2img", request_of({**TIED, "mask": "inpaint"}, **turned, **QUICK)), expected)
    plain_inpainting = repeatable(webui, "img2img", request_of(TIED, **PAINTED, **QUICK))
    assert not equal(plain_inpainting, expected)


@pytest.mark.parametrize(("path", "request_of"), KINDS)
def test_without_a_painted_mask_there_is_none_to_use(webui, path, request_of):
    answer = webui.post(path, request_of({"mask": "inpaint"}, **QUICK))
    assert answer.status_code == 422
    assert "mask = 'inpaint' is not possible. Allowed with a mask that is painted" in answer.json()["detail"]


def test_a_mask_of_another_extension(webui):
    webui.generate(*PRIMER)
    settings = webui.data / "settings.json"
    settings.write_text(json.dumps({**TIED, "mask": RIGHT}))
    try:
        made = webui.generate("img2img", mixing({"enabled": False}, **QUICK))
    finally:
        settings.unlink()
    assert equal(made, repeatable(webui, "img2img", mixing({**TIED, "mask": RIGHT}, **QUICK)))


@pytest.mark.parametrize("wrong", ["bm8gcGljdHVyZQ==", "?", 1, [RIGHT]])
@pytest.mark.parametrize(("path", "request_of"), KINDS)
def test_what_is_no_picture_is_refused(webui, path, request_of, wrong):
    response = webui.post(path, request_of({"mask": wrong}, **QUICK))
    assert response.status_code == 422, response.text[-2000:]
    assert "mask = " in response.json()["detail"]
    assert "base64" in response.json()["detail"]


SAMPLERS = {"Euler": [3, 4], "Heun": [6, 8], "DPM++ 2M SDE": [3, 4]}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_rewound_sampling_counts_as_the_first_did(webui, run, sampler):  # noqa: F811
    _, ((width, _, calls),) = run("img2img", mixing(REWOUND, sampler=sampler, steps=6, denoising_strength=1.0))
    (steps,) = (counted[6] for counted in json.loads((webui.data / "runs.json").read_text()))
    once = 11 if sampler == "Heun" else 6
    expected = [*range(once), *(step for begin in SAMPLERS[sampler] for step in range(begin, once))]
    assert width == SIZE
    assert steps == expected
    assert calls == len(expected)
    levels = [level for _, level, _ in torch.load(webui.data / "probe.pt", weights_only=True)["calls"]]
    assert levels == pytest.approx([levels[step] for step in expected], rel=1e-4)


@pytest.mark.parametrize("sampler", ["DDIM", "UniPC", "Restart", "DPM fast", "DPM adaptive", "DPM++ SDE", "LCM"])
def test_other_samplers_are_rewound(webui, run, sampler):  # noqa: F811
    need_sampler(webui, sampler)
    (once,), ((_, _, fewer),) = run("img2img", mixing({"denoise": 1.0}, sampler=sampler, steps=12))
    (picture,), ((_, _, calls),) = run("img2img", mixing(REWOUND, sampler=sampler, steps=12))
    assert calls > 1.4 * fewer
    assert picture.pixels.std() > 1
    assert difference(picture, once) > 1
    levels = [level for _, level, _ in torch.load(webui.data / "probe.pt", weights_only=True)["calls"]]
    assert levels[fewer] > 2 * min(levels)


@pytest.mark.parametrize(("path", "request_of"), KINDS)
def test_rewinding_is_repeatable_and_leaves_nothing(webui, plain_pictures, path, request_of):
    off = repeatable(webui, path, request_of({"denoise": 1.0}, steps=6))
    on = repeatable(webui, path, request_of(REWOUND, steps=6))
    assert not equal(off, on)
    assert equal(repeatable(webui, path, request_of(REWOUND, steps=6)), on)
    assert "Itermix rewind: True" in on[0].parameters
    assert equal(repeatable(webui, path, request_of({"denoise": 1.0}, steps=6)), off)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])


@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_a_stop_in_a_rewound_pass_leaves_nothing(webui, run, plain_pictures, how):  # noqa: F811
    two = {**REWOUND, "scale": 1.5, "max_scale_per_phase": 1.25, "mask": RIGHT}
    pictures, calls = run("img2img", upscale(two, steps=6), failing(2, how, call=8))
    assert [size[0] for size in calls] == [80, 96]
    assert calls[0][2] == 11
    assert calls[1][2] in (8, 9)
    assert "Itermix unfinished" in pictures[0].parameters
    probe = torch.load(webui.data / "probe.pt", weights_only=True)
    assert "sample_img2img" not in probe["own_attributes"] or probe["hooks"] >= 1
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])
    assert equal(plain(webui, "img2img"), plain_pictures["img2img"])


def test_the_plan_and_the_progress_count_what_is_rewound(webui):
    answer = webui.get("../../itermix/v1/plan?width=64&height=64&steps=20&mixing_steps=11&scale=2&rewind=true")
    assert answer["text"] == "64x64 -> 128x128, 11 steps, and 6 + 3 of them again"
    request = upscale(
        {**REWOUND, "scale": 1.5, "max_scale_per_phase": 1.25, "cleanup": 0.25, "cleanup_steps": 3}, steps=40
    )
    done, seen = threading.Event(), []

    def watch():
        while not done.is_set():
            state = webui.get("progress?skip_current_image=true")
            if state["state"]["job"].startswith("Iterative Mixing"):
                seen.append((state["state"]["job"], state["progress"]))
            time.sleep(0.01)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        webui.generate("img2img", request)
    finally:
        done.set()
        watching.join()
    print(seen)
    values = [value for _, value in seen]
    assert any("rewound" in text for text, _ in seen)
    assert all(later >= earlier - 0.02 for earlier, later in itertools.pairwise(values))  # A1111 adds .01, not always
    assert max(values) <= 1
    runs = 1 + (20 + 10) / 40  # 40 steps, and those from 20 and from 30 on
    first = 80 * 80 * 40 * runs
    total = first + 96 * 96 * 40 * runs + 96 * 96 * 3
    in_first = [value for text, value in seen if "phase 1" in text]
    once = [value for text, value in seen if text.endswith("80x80")]
    assert max(in_first) == pytest.approx(first / total, abs=0.03)
    assert max(once) == pytest.approx(first / runs / total, abs=0.03)
