"""Other models in a request that mixes: other kinds, the checkpoint of the hires pass, the refiner, and LoRAs."""

import checkpoint
import hosts
import pytest
import requests
from hosts import LORA, SECOND
from matrix import Seen
from payloads import PLAIN, hires, mask, mixing, need_refiner, plain, request_for, upscale
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
    need_refiner(webui, path)
    refiner = {"refiner_checkpoint": SECOND, "refiner_switch_at": 0.5}
    (alone,) = webui.generate(path, request_of({}, **QUICK))
    (refined,) = webui.generate(path, request_of({}, **refiner, **QUICK))
    assert f"Refiner: {SECOND}" in refined.parameters
    assert difference(alone, refined) > 10
    # Weight 1 at the last step leaves nothing of the steps before, and the refiner makes it.
    (tied,) = webui.generate(
        path, request_of({"blending": "addition", "lowest": 1.0, "detail": 0.0}, **refiner, **QUICK)
    )
    (free,) = webui.generate(
        path, request_of({"blending": "addition", "lowest": 0.9, "detail": 0.0}, **refiner, **QUICK)
    )
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


KINDS = {kind: {"sd_model_checkpoint": kind} for kind in checkpoint.KINDS}
KINDS["zero terminal SNR"] = {"sd_noise_schedule": "Zero Terminal SNR"}


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_models_are_mixed_at_their_own_noise_levels(webui, kind):
    if kind in checkpoint.UNKNOWN_TO_FORGE and webui.host.is_kin:
        pytest.skip(f"{webui.host.name} does not load {kind} checkpoints")
    model = {"override_settings": KINDS[kind], "override_settings_restore_afterwards": False, **QUICK}
    tied = {"denoise": 1.0, "blending": "addition", "lowest": 1.0, "detail": 0.0, "fidelity": 0.0}
    try:
        for sampler in ("Euler", "DDIM"):
            webui.generate("img2img", mixing(tied, sampler=sampler, **model))
            seen = Seen.read(webui)
            assert seen.finite
            assert seen.blends == seen.steps == seen.calls > 1
        # With weight 1 only the last step is left, which the WebUI can do alone.
        for changes in ({}, {"mask": hosts.encoded(mask()), "inpaint_full_res": False, "mask_blur": 0}):
            (mixed,) = webui.generate("img2img", mixing(tied, **model, **changes))
            (by_host,) = webui.generate("img2img", request_for("Euler", denoising_strength=0.01, **model, **changes))
            (free,) = webui.generate("img2img", mixing({}, **model, **changes))
            assert difference(mixed, by_host) <= 1
            assert difference(mixed, free) > 1
        (picture,) = webui.generate("img2img", upscale({**PHASES, "scale": 1.5}, **model))
        assert picture.pixels.shape == (96, 96, 3)
        assert picture.pixels.std() > 1
        own, same, other = (
            webui.generate("img2img", upscale({"scale": 1.5, "window": 8, **prompts}, **model))[0]
            for prompts in ({}, {"prompts": [["a photograph"]]}, {"prompts": [["a house"]]})
        )
        assert difference(own, same) <= 1
        assert difference(own, other) > 1
        if kind != "pix2pix":  # it has no txt2img
            (picture,) = webui.generate("txt2img", hires(PHASES, hr_scale=1.5, **model))
            assert picture.pixels.shape == (96, 96, 3)
    finally:
        own = {"sd_model_checkpoint": webui.host.title, "sd_noise_schedule": "Default"}
        assert webui.post("options", own).status_code == 200


def test_noising_is_the_webuis_own_for_models_that_are_too_large_here(webui):
    """Flux and SD3 (flow matching), v-prediction and EDM, by the WebUI's functions for them."""
    if webui.host.is_kin and not webui.host.is_forge:
        pytest.skip("the SD3 of reForge can't be imported, and Forge Classic has none")
    errors = requests.get(f"{webui.url}/probe/noising", timeout=60).json()
    assert "SD3" in errors
    assert all(error < 1e-6 for error in errors.values()), errors
