"""How many steps a real WebUI runs of a mixing pass, and where it says so."""

import json
from urllib.parse import urlencode

import pytest
import requests
from payloads import SIZE, hires, mixing, plain, repeatable, upscale
from test_img2img import equal

from itermix import Settings

DEFAULT = Settings().steps
TABS = 20  # steps of the request


@pytest.fixture
def counted(webui):
    """counted(path, request) -> (the first picture, [calls of each sampling])."""
    file = webui.data / "runs.json"

    def generate(path, request):
        file.unlink(missing_ok=True)
        picture, *_ = webui.generate(path, request)
        return picture, [run[2] for run in json.loads(file.read_text())]

    yield generate
    file.unlink(missing_ok=True)


@pytest.fixture
def exact(webui, request):
    """The WebUI's option to run exactly as many steps as img2img asks for, for the time of a test."""
    options = f"{webui.url}/sdapi/v1/options"
    requests.post(options, json={"img2img_fix_steps": request.param}, timeout=30).raise_for_status()
    yield request.param
    requests.post(options, json={"img2img_fix_steps": False}, timeout=30).raise_for_status()


def plan(webui, **query):
    query = {"width": SIZE, "height": SIZE, "steps": TABS, **query}
    return webui.get(f"../../itermix/v1/plan?{urlencode(query)}")["text"]


@pytest.mark.parametrize("request_of", [mixing, upscale], ids=["accordion", "script"])
@pytest.mark.parametrize("steps", [None, 3, 30])
@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
@pytest.mark.parametrize("exact", [False, True], indirect=True)
def test_img2img_runs_as_many_as_the_settings_say(webui, counted, request_of, steps, sampler, exact):
    settings = {} if steps is None else {"steps": steps}
    request = request_of({"steps": DEFAULT, **settings}, sampler=sampler)
    picture, calls = counted("img2img", {**request, "steps": TABS})
    assert calls == [steps or DEFAULT]
    assert f"Itermix steps: {steps or DEFAULT}" in picture.parameters


@pytest.mark.parametrize("denoise", [0.05, 0.3, 0.7, 1.0])
def test_whatever_the_denoise(webui, counted, denoise):
    for path, request in (
        ("img2img", mixing({"steps": 5, "denoise": denoise})),
        ("txt2img", hires({"steps": 5, "denoise": denoise}, steps=2)),
    ):
        _, calls = counted(path, request)
        assert calls[-1] == 5


def test_zero_leaves_it_to_the_webui(webui, counted):
    assert counted("img2img", mixing({"steps": 0}, steps=TABS))[1] == [11]
    assert counted("txt2img", hires({"steps": 0}, steps=4))[1] == [4, 4]


def test_the_hires_pass_runs_as_many_as_the_settings_say_or_as_hires_steps(webui, counted):
    picture, calls = counted("txt2img", hires({"steps": DEFAULT}, steps=4))
    assert calls == [4, DEFAULT]
    assert f"Itermix steps: {DEFAULT}" in picture.parameters
    assert "Hires steps" not in picture.parameters  # with which a pasted text would overrule the setting
    picture, calls = counted("txt2img", hires({"steps": DEFAULT}, steps=4, hr_second_pass_steps=3))
    assert calls == [4, 3]
    assert "Itermix steps: 3" in picture.parameters
    assert "Hires steps: 3" in picture.parameters


@pytest.mark.parametrize("n_iter", [1, 2])
def test_every_phase_of_every_iteration_does(webui, counted, n_iter):
    two = {"steps": 3, "max_scale_per_phase": 1.5}
    _, calls = counted("img2img", upscale(two, n_iter=n_iter, steps=TABS))
    assert calls == n_iter * [3, 3]
    _, calls = counted("txt2img", hires(two, n_iter=n_iter, steps=2))
    assert calls == n_iter * [2, 3, 3]


def test_the_plan_says_what_is_run(webui):
    assert plan(webui).endswith(f"{DEFAULT} steps")
    assert plan(webui, mixing_steps=5, sampler="DDIM").endswith("5 steps")
    assert plan(webui, mixing_steps=0).endswith("11 steps")
    assert plan(webui, hires=True).endswith(f"{DEFAULT} steps")
    assert plan(webui, hires=True, hires_steps=3).endswith("3 steps")
    assert plan(webui, hires=True, mixing_steps=0).endswith(f"{TABS} steps")
    assert plan(webui, hires_steps=3).endswith(f"{DEFAULT} steps")  # which are of txt2img


def test_more_of_the_request_change_nothing(webui):
    """The infotext tells the steps that the WebUI was asked for, so it is the same."""
    few, many = (repeatable(webui, "img2img", mixing({"steps": 3}, steps=steps)) for steps in (5, 40))
    assert equal(few, many)
    assert few[0].parameters == many[0].parameters


def test_the_next_plain_picture_has_the_steps_that_it_asks_for(webui, counted, plain_pictures):
    counted("img2img", mixing({"steps": 3}))
    counted("txt2img", hires({"steps": 3}))
    for name, before in plain_pictures.items():
        assert equal(plain(webui, name), before)


def test_a_script_that_runs_one_request_again_has_its_steps(webui, counted):
    """The WebUI's Loopback does so, and takes each picture as the source of the next."""
    loop = {"script_name": "loopback", "script_args": [2, 0.6, "Linear", "None"]}
    _, calls = counted("img2img", {**mixing({"steps": 3}, steps=TABS), **loop})
    assert calls == [3, 3]
