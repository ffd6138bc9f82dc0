"""Other models in a request that mixes: the checkpoint of the hires pass, the refiner, and LoRAs."""

import pytest
from hosts import LORA, SECOND
from payloads import PLAIN, hires, mixing, plain, upscale
from test_img2img import difference, equal

QUICK = {"steps": 4}
PHASES = {"max_scale_per_phase": 1.25}  # two of them to 1.5 times


@pytest.fixture
def webui(webui, plain_pictures):
    """The WebUI, which has to give the pictures of its own checkpoint again afterwards."""
    if not webui.host.made:
        pytest.skip("the WebUI's checkpoint isn't one of ours, so there is no second one of its kind")
    yield webui
    for name in PLAIN:
        assert equal(plain(webui, name), plain_pictures[name])


def test_the_checkpoint_of_the_hires_pass_is_that_of_every_phase(webui):
    request = hires(PHASES, hr_scale=1.5, **QUICK)
    (own,) = webui.generate("txt2img", request)
    (switched,) = webui.generate("txt2img", {**request, "hr_checkpoint_name": SECOND})
    (again,) = webui.generate("txt2img", request)
    assert f"Hires checkpoint: {SECOND}" in switched.parameters
    assert difference(own, switched) > 10
    assert equal([own], [again])


@pytest.mark.parametrize(
    ("path", "request_of"),
    [
        ("img2img", mixing),
        ("img2img", lambda settings, **changes: upscale({**settings, **PHASES, "scale": 1.5}, **changes)),
        ("txt2img", lambda settings, **changes: hires({**settings, **PHASES}, hr_scale=1.5, **changes)),
    ],
    ids=["img2img", "upscale", "hires"],
)
def test_the_refiner_takes_over_and_mixing_goes_on(webui, path, request_of):
    refiner = {"refiner_checkpoint": SECOND, "refiner_switch_at": 0.5}
    (alone,) = webui.generate(path, request_of({}, **QUICK))
    (refined,) = webui.generate(path, request_of({}, **refiner, **QUICK))
    assert f"Refiner: {SECOND}" in refined.parameters
    assert difference(alone, refined) > 10
    # Weight 1 at the last step leaves nothing of the steps before, and the refiner makes it.
    (tied,) = webui.generate(path, request_of({"blending": "addition", "lowest": 1.0}, **refiner, **QUICK))
    (free,) = webui.generate(path, request_of({"blending": "addition", "lowest": 0.9}, **refiner, **QUICK))
    assert difference(tied, free) > 2


@pytest.mark.parametrize(("path", "request_of"), [("img2img", upscale), ("txt2img", hires)])
def test_a_lora_acts_in_the_mixing_pass(webui, path, request_of):
    """Also one that only the prompt of the hires pass names."""
    prompt = {"prompt": f"a photograph <lora:{LORA}:1>"}
    field = "hr_prompt" if path == "txt2img" else "prompt"
    (without,) = webui.generate(path, request_of({}, **QUICK))
    (with_it,) = webui.generate(path, request_of({}, **QUICK, **{field: prompt["prompt"]}))
    assert difference(without, with_it) > 10
    (again,) = webui.generate(path, request_of({}, **QUICK))
    assert equal([without], [again])
