"""Faults at every step of every phase, and everything else that goes wrong around a generation.

After each the next plain picture is the one from before to the bit, and what was finished is given.
"""

import json
import os
import threading
import time
from pathlib import Path

import hosts
import numpy as np
import pytest
import requests
import torch
from payloads import PLAIN, hires, mixing, photograph, plain, request_for, upscale
from test_img2img import equal

from itermix.settings import UpscaleSettings

STEPS = 2
CLEANUP = {"cleanup": 0.2, "cleanup_steps": 1, "max_scale_per_phase": 1.25}
SAMPLINGS = {
    "upscale": (80, 96, 96),
    "hires": (64, 80, 96, 96),
}
"""Sizes of the samplings of one request, the last the clean-up. All have STEPS model calls, the last has one."""
ERRORS = ("memory", "error", "nan")


def request(kind):
    if kind == "upscale":
        return "img2img", upscale({"scale": 1.5, **CLEANUP}, steps=STEPS)
    return "txt2img", hires(CLEANUP, hr_scale=1.5, steps=STEPS)


def left_behind(webui):
    """A plain picture, and what the probe found at its first call of the run before: hooks, and whether attached."""
    pictures = webui.generate(*PLAIN["txt2img"])  # needs no other before it, unlike those of an encoded picture
    probe = torch.load(webui.data / "probe.pt", weights_only=True)
    return pictures, probe["hooks"], "sample_img2img" in probe["own_attributes"]


@pytest.fixture
def failing(webui):
    """failing(run, call, how): let this model call of this sampling fail."""
    file = webui.data / "fail.json"

    def arrange(run, call, how):
        (webui.data / "runs.json").unlink(missing_ok=True)
        file.write_text(json.dumps({"run": run, "call": call, "how": how}))

    yield arrange
    file.unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["interrupt", "skip", *ERRORS])
@pytest.mark.parametrize("kind", SAMPLINGS)
def test_a_fault_at_every_step_of_every_phase(webui, plain_pictures, failing, kind, how):
    sizes = SAMPLINGS[kind]
    places = [(run, call) for run in range(1, len(sizes)) for call in range(1, STEPS + 1)] + [(len(sizes), 1)]
    for run, call in places:
        failing(run, call, how)
        answer = webui.post(*request(kind))
        (webui.data / "fail.json").unlink()
        # Mixing replaces the state at the first step of its passes, NaN and all, so nothing has failed there.
        healed = how == "nan" and call == 1 and run + (kind == "upscale") > 1 and run < len(sizes)
        finished = sizes[-1] if healed else sizes[run - 2] if run > 1 else None
        if finished:
            assert answer.status_code == 200, (run, call, answer.text[-500:])
            (picture,) = answer.json()["images"]
            assert hosts.decoded(picture).shape == (finished, finished, 3), (run, call)
            assert ("Itermix unfinished" in answer.json()["info"]) != healed
        elif how in ERRORS:
            # Forge and its kin don't look for NaN in the first pass.
            unnoticed = how == "nan" and kind == "hires" and webui.host.is_kin
            assert answer.status_code == (200 if unnoticed else 500)
        pictures, hooks, attached = left_behind(webui)
        assert equal(pictures, plain_pictures["txt2img"]), (run, call)
        assert (hooks, attached) == (0, False), (run, call)
    for name in PLAIN:
        assert equal(plain(webui, name), plain_pictures[name])


@pytest.mark.parametrize("kind", SAMPLINGS)
@pytest.mark.parametrize("phase", [1, 2])
def test_what_can_not_be_decoded_is_said_with_what_helps(webui, plain_pictures, kind, phase):
    """Forge and its kin go over to decoding in tiles themselves. The second phase is decoded after its clean-up."""
    run = len(SAMPLINGS[kind]) if phase == 2 else 1 + (kind == "hires")
    (webui.data / "runs.json").unlink(missing_ok=True)
    fail = webui.data / "fail.json"
    fail.write_text(json.dumps({"run": run, "decoding": "all", "how": "memory"}))
    try:
        answer = webui.post(*request(kind))
    finally:
        fail.unlink()
    side = SAMPLINGS[kind][run - 1]
    words = f"there is not enough memory to decode {side}x{side} (out of memory, on purpose): "
    if answer.status_code == 200 and "unfinished" not in answer.json()["info"]:
        assert webui.host.is_forge
        assert hosts.decoded(answer.json()["images"][0]).shape == (96, 96, 3)
    else:
        assert words in answer.text
        assert answer.status_code == (500 if (kind, phase) == ("upscale", 1) else 200)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])


def test_no_file_stays_open(webui, failing):
    folder = Path(f"/proc/{webui.process.pid}/fd")
    if not folder.exists():
        pytest.skip("this system doesn't tell which files a process has open")

    def open_files():
        return sum(os.path.isfile(os.path.realpath(link)) for link in folder.iterdir())

    plain(webui, "img2img")
    before = open_files()
    for how in ("error", "interrupt"):
        failing(2, 1, how)
        webui.post(*request("upscale"))
    webui.generate(*request("hires"))
    assert open_files() <= before


@pytest.mark.parametrize("kind", ["img2img", "upscale", "hires"])
def test_another_sampler_put_in_place_by_another_extension_is_said(webui, plain_pictures, kind):
    """The new sampler knows nothing of mixing, so the picture would be plain with an infotext that says otherwise."""
    flag = webui.data / "replace.json"
    flag.touch()
    try:
        path, payload = ("img2img", mixing({}, steps=STEPS)) if kind == "img2img" else request(kind)
        answer = webui.post(path, payload)
    finally:
        flag.unlink()
    if kind == "hires":  # the first pass is kept
        assert answer.status_code == 200
        assert hosts.decoded(answer.json()["images"][0]).shape == (64, 64, 3)
        assert "another extension has replaced the sampler" in answer.json()["info"]
    else:
        assert answer.status_code == 500
        assert "another extension has replaced the sampler" in answer.text
    assert equal(plain(webui, "img2img"), plain_pictures["img2img"])


def concurrently(*functions):
    """Results of functions that run at the same time, begun in this order."""
    results = [None] * len(functions)

    def call(k):
        results[k] = functions[k]()

    threads = [threading.Thread(target=call, args=(k,)) for k in range(len(functions))]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    return results


def test_requests_of_two_users_at_once_give_the_pictures_that_they_give_alone(webui):
    """WebUIs queue them. One mixes in two phases, the others don't or with other settings."""
    own = {"prompt": "a photograph", **{k: v for k, v in PLAIN["txt2img"][1].items() if k != "prompt"}}
    asked = [
        ("txt2img", own),
        ("txt2img", hires({"cleanup": 0.2}, hr_scale=1.5, steps=STEPS)),
        ("txt2img", own),
        ("txt2img", hires({"alpha": 2.0}, hr_scale=1.5, steps=STEPS, seed=8)),
    ]
    alone = [webui.generate(*request) for request in asked]
    together = concurrently(*(lambda request=request: webui.generate(*request) for request in asked))
    for expected, got in zip(alone, together):
        assert equal(expected, got)


def test_settings_that_change_while_it_runs_count_for_the_next_request(webui):
    path, payload = request("hires")
    payload["steps"] = 12
    expected = webui.generate(path, payload)
    changed = {"itermix_max_scale_per_phase": 4.0, "itermix_save_phases": True}
    before = {f"itermix_{name}": getattr(UpscaleSettings(), name) for name in ("max_scale_per_phase", "save_phases")}

    def change():
        wait_until_sampling(webui)
        return requests.post(f"{webui.url}/sdapi/v1/options", json=changed, timeout=60)

    try:
        got, answer = concurrently(lambda: webui.generate(path, payload), change)
    finally:
        webui.post("options", before)
    assert answer.status_code == 200
    assert equal(expected, got)


def wait_until_sampling(webui):
    for _ in range(400):
        if webui.get("progress?skip_current_image=true")["state"]["sampling_step"] > 0:
            return
        time.sleep(0.02)
    raise AssertionError("sampling did not start")


@pytest.fixture(scope="module")
def fresh(host, tmp_path_factory):
    """A WebUI of its own for what changes it."""
    server = hosts.WebUI(host, tmp_path_factory.mktemp("fresh") / "data", hosts.EXTENSIONS)
    yield server
    server.stop()


def scripts_of(webui):
    return webui.get("scripts")["img2img"]


def test_reloading_the_ui_and_switching_the_extension_off_and_on_again(fresh, plain_pictures):
    before = fresh.generate(*request("hires"))
    fresh.reload()
    assert scripts_of(fresh).count("iterative mixing") == 1
    assert scripts_of(fresh).count("iterative mixing upscale") == 1
    assert equal(fresh.generate(*request("hires")), before)
    assert equal(plain(fresh, "img2img"), plain_pictures["img2img"])

    fresh.post("options", {"disabled_extensions": ["sd-webui-itermix"]})
    fresh.reload()
    assert not [name for name in scripts_of(fresh) if "iterative mixing" in name]
    assert equal(plain(fresh, "img2img"), plain_pictures["img2img"])
    assert requests.get(f"{fresh.url}/itermix/v1/schema", timeout=30).status_code == 404

    fresh.post("options", {"disabled_extensions": []})
    fresh.reload()
    assert equal(fresh.generate(*request("hires")), before)
    assert equal(plain(fresh, "img2img"), plain_pictures["img2img"])


def test_a_picture_of_one_colour_and_one_of_noise(webui):
    """Where filters and statistics have nothing to hold on to."""
    grey = photograph(64).point(lambda _: 128)
    for image in (grey, photograph(64).effect_spread(40)):
        payload = upscale({"scale": 1.5, "match_colours": True}, init_images=[hosts.encoded(image)], steps=STEPS)
        (picture,) = webui.generate("img2img", payload)
        assert np.isfinite(picture.pixels).all()
        assert picture.pixels.shape == (96, 96, 3)


def test_a_plain_request_says_nothing_of_mixing(webui):
    (picture,) = webui.generate("img2img", request_for())
    assert "Itermix" not in picture.parameters
