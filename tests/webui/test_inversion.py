"""Inverted noise in real WebUIs, with every model call of the inversion checked."""

import json
import threading
import time

import hosts
import numpy as np
import pytest
import torch
from payloads import SIZE, hires, mask, mixing, photograph, plain, repeatable, upscale
from test_img2img import equal
from test_nn_shrink import refused
from test_scales import LIMIT, STEPS, TWO, failing, run  # noqa: F401

from itermix.steps.parametrisation import ve, vp

QUICK = {"steps": STEPS}
INVERTED = {"noise": "inverted"}
UNMIXED = {**INVERTED, "blending": "addition", "highest": 0.0, "detail": 0.0, "fidelity": 0.0}
REQUESTS = [("img2img", mixing), ("img2img", upscale), ("txt2img", hires)]


def seen(webui, path, request):
    """(calls of the inversion, calls of the sampling, the probe), a call being (x, level, output)."""
    repeatable(webui, path, request)
    probe = torch.load(webui.data / "probe.pt", weights_only=True)
    n = len(probe["calls"]) // 2
    return probe["calls"][:n], probe["calls"][n:], probe


def start_of(webui, path, request):
    """The state that sampling without mixing starts from: the source inverted."""
    _, sampling, _ = seen(webui, path, request)
    return sampling[0][0]


def close(a, b):
    return (a - b).abs().max() < 1e-4 * b.abs().max()


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_it_is_the_model_run_backwards(webui, sampler):
    inversion, sampling, probe = seen(webui, "img2img", mixing(UNMIXED, sampler=sampler))
    levels = [level for _, level, _ in sampling]
    assert [level for _, level, _ in inversion] == [levels[-1], *levels[:0:-1]]
    parametrisation = ve() if sampler == "Euler" else vp(probe["alphas_cumprod"].double())
    signals, amounts = parametrisation.amounts(torch.tensor(levels, dtype=torch.float64))
    last = len(levels) - 1
    clean = probe["latent"].double()
    x = signals[last] * clean
    for to, stands, (state, _, output) in zip(range(last, -1, -1), [last, *range(last, 0, -1)], inversion):
        assert close(state, x)
        noise = output if sampler == "DDIM" else (state - output) / amounts[stands]
        if to < last:
            clean = (state - amounts[stands] * noise) / signals[stands]
        x = signals[to] * clean + amounts[to] * noise
    assert close(sampling[0][0], x)
    assert all(torch.isfinite(output).all() for _, _, output in inversion + sampling)


@pytest.mark.parametrize(("path", "request_of"), REQUESTS)
def test_it_has_no_guidance_and_its_prompt_is_the_one_asked_for(webui, path, request_of):
    def start(settings=(), **changes):
        return start_of(webui, path, request_of({**UNMIXED, **dict(settings)}, **QUICK, **changes))

    # Of A1111's hires pass the scale is that of the first, which makes its source. Forge has another, only for it.
    scale = "cfg_scale" if path == "img2img" else "hr_cfg"
    prompt = "prompt" if path == "img2img" else "hr_prompt"
    without = {"inversion_prompt": False}
    assert close(start(**{scale: 6.0}), start(**{scale: 3.0}))
    assert not close(start(**{scale: 3.0, prompt: "a drawing"}), start(**{scale: 3.0}))
    assert close(start(without, **{scale: 3.0, prompt: "a drawing"}), start(without, **{scale: 3.0}))
    assert not close(start(without, **{scale: 3.0}), start(**{scale: 3.0}))


@pytest.mark.parametrize(("path", "request_of"), REQUESTS)
def test_it_makes_another_picture_each_time_the_same_and_changes_none_after_it(webui, plain_pictures, path, request_of):
    off = repeatable(webui, path, request_of({}, **QUICK))
    on = repeatable(webui, path, request_of(INVERTED, **QUICK))
    assert on[0].pixels.std() > 1
    assert not equal(off, on)
    assert "Itermix noise: inverted" in on[0].parameters
    assert equal(repeatable(webui, path, request_of(INVERTED, **QUICK)), on)
    assert equal(repeatable(webui, path, request_of({}, **QUICK)), off)
    assert equal(plain(webui, "img2img"), plain_pictures["img2img"])


def samplings(webui):
    """[width, height, calls, job text] of each sampling and each inversion of the last request."""
    runs = json.loads((webui.data / "runs.json").read_text())
    return [[*each[:3], each[3].removeprefix("Iterative Mixing: ")] for each in runs]


@pytest.mark.parametrize(("path", "first"), [("img2img", []), ("txt2img", [[SIZE, SIZE, STEPS, "first pass, 64x64"]])])
def test_every_phase_takes_as_many_calls_again(webui, run, path, first):  # noqa: F811
    request = upscale({**INVERTED, **TWO, "steps": STEPS, "cleanup": 0.2, "cleanup_steps": 1}, **QUICK)
    if path == "txt2img":
        request = hires({**INVERTED, **LIMIT, "cleanup": 0.2}, hr_scale=1.5, **QUICK)
    (picture,), _ = run(path, request)
    assert samplings(webui) == [
        *first,
        [80, 80, STEPS, "phase 1 of 2, inversion, 80x80"],
        [80, 80, STEPS, "phase 1 of 2, 80x80"],
        [96, 96, STEPS, "phase 2 of 2, inversion, 96x96"],
        [96, 96, STEPS, "phase 2 of 2, 96x96"],
        [96, 96, 1, "clean-up, 96x96"],
    ]
    assert "unfinished" not in picture.parameters


def test_the_plan_tells_of_the_calls(webui):
    plan = webui.get("../../itermix/v1/plan?width=64&height=64&steps=5&mixing_steps=3&noise=inverted")
    assert plan["text"] == "64x64 -> 128x128, 3 steps and an inversion of 3 calls"


def test_the_progress_moves_on_through_the_inversion(webui):
    thread = threading.Thread(target=lambda: webui.generate("img2img", upscale(INVERTED, steps=60)))
    thread.start()
    during = []
    while thread.is_alive():
        state = webui.get("progress?skip_current_image=true")
        if "inversion" in state["state"]["job"]:
            during.append(state["progress"])
        time.sleep(0.05)
    thread.join()
    assert during == sorted(during)
    assert during[0] < 0.25 < during[-1] < 0.53  # A1111 adds .01


@pytest.mark.parametrize("how", ["error", "interrupt"])
@pytest.mark.parametrize(("path", "request_of"), [("img2img", upscale), ("txt2img", hires)])
def test_nothing_stays_after_a_stop_in_the_inversion(webui, run, plain_pictures, path, request_of, how):  # noqa: F811
    off = repeatable(webui, path, request_of({}, **QUICK))
    several = {**INVERTED, **LIMIT} | ({"scale": 1.5} if path == "img2img" else {})
    request = request_of(several, **QUICK, **({"hr_scale": 1.5} if path == "txt2img" else {}))
    second_inversion = 3 if path == "img2img" else 4
    (picture,), calls = run(path, request, failing(second_inversion, how))
    assert calls[-1] == [96, 96, 2]
    assert picture.pixels.shape == (80, 80, 3)
    assert "Itermix unfinished" in picture.parameters
    assert equal(repeatable(webui, path, request_of({}, **QUICK)), off)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])
    probe = torch.load(webui.data / "probe.pt", weights_only=True)
    assert probe["hooks"] == 0


def test_an_interrupt_in_the_only_phase_gives_what_there_is(webui, run, plain_pictures):  # noqa: F811
    (picture,), calls = run("img2img", mixing(INVERTED), failing(1, "interrupt"))
    assert calls == [[SIZE, SIZE, 2]]
    assert picture.pixels.shape == (SIZE, SIZE, 3)
    assert equal(plain(webui, "img2img"), plain_pictures["img2img"])


def test_a_mask_covers_the_sampling_but_not_the_inversion(webui):
    painted = {"mask": hosts.encoded(mask()), "inpaint_full_res": False, "inpainting_fill": 1, "mask_blur": 0}
    whole, covered = (start_of(webui, "img2img", mixing(UNMIXED, **changes)) for changes in ({}, painted))
    assert close(covered, whole)
    (picture,) = webui.generate("img2img", mixing(INVERTED, **painted))
    difference = np.abs(picture.pixels - np.asarray(photograph(SIZE)).astype(int))
    assert difference[:, : SIZE // 2 - 8].max() <= 2
    assert difference[:, SIZE // 2 + 8 :].mean() > 5


def test_a_webui_that_leaves_the_negative_prompt_out_can_not_show_it_to_the_model(webui, host):
    without = {**INVERTED, "inversion_prompt": False}
    requests = (
        ("img2img", mixing(without, cfg_scale=1.0)),
        ("txt2img", hires(without, hr_cfg=1.0, cfg_scale=1.0, **QUICK)),
    )
    for path, request in requests:
        if host.is_forge:
            (webui.data / "runs.json").unlink(missing_ok=True)
            assert "inversion_prompt = False" in refused(webui, path, request)
            assert not (webui.data / "runs.json").exists()  # no model call was made
        else:
            webui.generate(path, request)
