"""Kinds of models whose checkpoints Forge and Forge Neo won't load in a small size: their own classes, made small.

SDXL, and models with flow matching, of 16 or 128 channels, some with frames in their latents. Their text encoders are
stood in for (probe/probe_models.py) and their weights are random: these tests are about numbers. What is
guidance-distilled in Flux is its embedding of the distilled CFG; one step is as good as another to it.
"""

from itertools import pairwise, product

import hosts
import numpy as np
import pytest
import requests
import torch
from payloads import SIZE, hires, mask, mixing, photograph, request_for, upscale

from itermix.steps.levels import flow_level, noise_of


def latent_shape(kind, side):
    """The shape of a latent of a picture of `side` pixels. Flux 2's has 16 pixels to one of its own."""
    if kind in ("klein", "ernie"):
        return (1, 128, side // 16, side // 16)
    frames = (1,) if kind in ("anima", "qwen", "qwen-edit", "krea", "wan") else ()
    return (1, 4 if kind == "sdxl" else 16, *frames, side // 8, side // 8)


KINDS = ("flux", "anima", "klein")
"""Small models that everything is tried with: the second has frames in its latents, those of the third have half the
side, and it edits."""
OF_FORGE = ("flux", "chroma", "sdxl")

OTHERS = ("chroma", "z-image", "lumina", "ernie", "qwen", "krea", "wan", "sdxl")

every_kind = pytest.mark.parametrize("kind", [*KINDS, *OTHERS], indirect=True)
editing = pytest.mark.parametrize("kind", ["kontext", "klein", "qwen-edit"], indirect=True)

TIED = {"lowest": 1.0, "blending": "addition", "detail": 0.0, "match_colours": False, "steps": 4}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, webui):
    """Have a small model of this kind in the place of the checkpoint, which is loaded first, and again afterwards."""
    if not (webui.host.is_neo or (webui.host.is_forge and request.param in OF_FORGE)):
        pytest.skip(f"{webui.host.name} has other classes for this model, or none")
    webui.generate("txt2img", {"prompt": "", "steps": 1, "width": SIZE, "height": SIZE})
    use(webui, request.param)
    yield request.param
    use(webui, "none")


def use(webui, kind):
    requests.post(f"{webui.url}/probe/model/{kind}", timeout=60).raise_for_status()


def seen(webui):
    return torch.load(webui.data / "probe.pt", weights_only=True)


def difference(a, b):
    return np.abs(a.pixels - b.pixels).max()


@every_kind
def test_the_script_with_its_defaults_doubles_a_picture(webui, kind):
    (picture,) = webui.generate("img2img", upscale({}))
    assert picture.pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert picture.pixels.std() > 0
    assert tuple(seen(webui)["latent"].shape) == latent_shape(kind, 2 * SIZE)
    assert "Itermix unfinished" not in picture.parameters


def check_tied(webui, kind, steps):
    """Every step, once, starts at the noised source."""
    found = seen(webui)
    assert len(found["calls"]) == steps
    assert found["hooks"] == 1
    for x, sigma, _ in found["calls"]:
        kept = 1 if kind == "sdxl" else 1 - sigma
        assert torch.allclose(x, kept * found["latent"] + sigma * found["noise"], atol=1e-5 * (1 + sigma))


@every_kind
@pytest.mark.parametrize("cfg", [2.0, 1.0])
def test_every_step_starts_at_the_noised_source_where_the_weight_is_one(webui, kind, cfg):
    """Forge Neo says twice that it is about to sample a hires pass. At CFG 1 it makes nothing of a negative prompt."""
    webui.generate("img2img", upscale(TIED, cfg_scale=cfg))
    check_tied(webui, kind, TIED["steps"])
    (picture,) = webui.generate("txt2img", hires(TIED, cfg_scale=cfg, hr_cfg=cfg))
    assert "Itermix unfinished" not in picture.parameters
    check_tied(webui, kind, TIED["steps"])


def test_a_guidance_distilled_model_is_mixed_at_cfg_1(webui, kind):
    """One call of the model a step, without a negative prompt: another one changes nothing."""
    made = {}
    for negative in ("", "blurry"):
        for cfg in (1.0, 2.0):
            (made[negative, cfg],) = webui.generate("img2img", upscale({}, cfg_scale=cfg, negative_prompt=negative))
    assert difference(made["", 1.0], made["blurry", 1.0]) == 0
    assert difference(made["", 2.0], made["blurry", 2.0]) > 0
    assert difference(made["", 1.0], made["", 2.0]) > 0
    (plain,) = webui.generate("img2img", upscale({"highest": 0.0, "lowest": 0.0}, cfg_scale=1.0))
    assert difference(made["", 1.0], plain) > 0


def test_without_a_negative_prompt_there_is_an_inversion_by_the_prompt_alone(webui, kind):
    (picture,) = webui.generate("img2img", upscale({"noise": "inverted", "inversion_prompt": True}, cfg_scale=1.0))
    assert "Itermix unfinished" not in picture.parameters
    for path, request in (
        ("img2img", upscale({"noise": "inverted", "inversion_prompt": False}, cfg_scale=1.0)),
        ("txt2img", hires({"noise": "inverted", "inversion_prompt": False}, hr_cfg=1.0)),
    ):
        response = webui.post(path, request)
        assert response.status_code == 422
        assert "inversion_prompt" in response.json()["detail"]


@pytest.mark.parametrize("kind", ["flux", "anima", "z-image"], indirect=True)
def test_the_distilled_cfg_is_the_models_in_every_phase(webui, kind):
    """It is Flux's guidance, and the shift of Anima and Z-Image."""
    pictures = [webui.generate("img2img", upscale({}, distilled_cfg_scale=scale))[0] for scale in (1.0, 6.0)]
    assert difference(*pictures) > 0
    pictures = [webui.generate("txt2img", hires({}, hr_distilled_cfg=scale))[0] for scale in (1.0, 6.0)]
    assert difference(*pictures) > 0


def begun(webui, path, request):
    """The noise level of the first call of the last sampling, and how many calls there were."""
    webui.generate(path, request)
    calls = seen(webui)["calls"]
    return calls[0][1], len(calls)


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.0])
def test_a_pass_begins_at_the_noise_level_of_denoise_with_every_scheduler(webui, kind, shift):
    settings, level = {"denoise": 0.4, "steps": 4}, pytest.approx(flow_level(noise_of(0.4)), rel=1e-4)
    begun_there = []
    for name in webui.schedulers():
        shifted = {"scheduler": name, "distilled_cfg_scale": shift}
        if webui.post("img2img", request_for(**shifted)).status_code != 200:
            continue
        levels = [level for _, level, _ in seen(webui)["calls"]]
        if not all(0 < b < a <= 1 for a, b in pairwise(levels)):  # Uniform gives levels above 1, and 0 twice
            continue
        assert begun(webui, "img2img", upscale(settings, **shifted)) == (level, 4), name
        begun_there.append(name)
    assert {"Simple", "Normal", "Beta", "Karras"} <= set(begun_there)
    shifted = {"scheduler": "Simple", "distilled_cfg_scale": shift}
    assert begun(webui, "img2img", mixing(settings, **shifted)) == (level, 4)
    of_hires = {"hr_scheduler": "Simple", "hr_distilled_cfg": shift, **shifted}
    assert begun(webui, "txt2img", hires(settings, **of_hires)) == (level, 4)
    assert begun(webui, "txt2img", hires({**settings, "steps": 0}, **of_hires, hr_second_pass_steps=3)) == (level, 3)


def test_in_steps_and_at_1_it_begins_where_the_webui_does(webui, kind):
    plain = begun(webui, "img2img", request_for(scheduler="Simple", denoising_strength=0.6))
    of_steps = {"denoise": 0.6, "denoise_in": "steps", "steps": 0}
    assert begun(webui, "img2img", mixing(of_steps, scheduler="Simple")) == plain
    assert begun(webui, "img2img", mixing({"denoise": 1.0, "steps": 4}, scheduler="Simple")) == (pytest.approx(1.0), 4)


def test_an_old_infotext_begins_where_it_did(webui, kind):
    """Pasted, as a request: what it leaves out is what it was."""
    from itermix.settings.infotext import read

    text = {"Itermix enabled": "True", "Itermix denoise": "0.6", "Itermix steps": "0", "Itermix version": "6"}
    settings = {name: value for name, value in read(text).items() if name in ("denoise", "denoise_in", "steps")}
    plain = begun(webui, "img2img", request_for(scheduler="Simple", denoising_strength=0.6))
    assert begun(webui, "img2img", mixing(settings, scheduler="Simple")) == plain


def test_the_page_is_told_that_it_is_a_model_of_flow_matching(webui, kind):
    assert webui.get("../../itermix/v1/facts")["flow"] is True


@every_kind
def test_img2img_and_hires_fix_mix(webui, kind):
    (plain,) = webui.generate("img2img", request_for(denoising_strength=0.5))
    (mixed,) = webui.generate("img2img", mixing({}))
    assert mixed.pixels.shape == plain.pixels.shape == (SIZE, SIZE, 3)
    assert difference(mixed, plain) > 0
    (picture,) = webui.generate("txt2img", hires({}))
    assert picture.pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert tuple(seen(webui)["latent"].shape) == latent_shape(kind, 2 * SIZE)
    assert "Itermix unfinished" not in picture.parameters


def test_hires_fix_in_phases(webui, kind):
    (picture,) = webui.generate("txt2img", hires({"max_scale_per_phase": 2.0, "fidelity": 0.5}, hr_scale=4.0, steps=3))
    assert picture.pixels.shape == (4 * SIZE, 4 * SIZE, 3)
    assert "Itermix unfinished" not in picture.parameters


@every_kind
def test_an_inpaint_mask_keeps_what_it_covers(webui, kind):
    painted = {"mask": hosts.encoded(mask()), "inpaint_full_res": False, "inpainting_fill": 1, "mask_blur": 0}
    (picture,) = webui.generate("img2img", upscale({"back_projection": False}, **painted))
    source = np.asarray(photograph(SIZE).resize((2 * SIZE, 2 * SIZE), 1)).astype(int)
    assert np.abs(picture.pixels - source)[:, : SIZE - 16].max() <= 2
    assert np.abs(picture.pixels - source)[:, SIZE + 16 :].mean() > 5


@pytest.mark.parametrize(
    "settings",
    [
        {"fidelity": 0.8},
        {"match_colours": True},
        {"perlin": 0.5},
        {"mask": hosts.encoded(mask())},
        {"cleanup": 0.2},
        {"detail": 0.3},
        {"rewind": True},
        {"noise": "inverted", "inversion_prompt": True},
        {"noise": "cumulative"},
        {"window": 8, "dilated": 3.0},
        {"blending": "clean low-pass"},
        {"blending": "clean wavelet"},
    ],
    ids=lambda settings: ", ".join(settings),
)
def test_every_part_of_mixing_comes_to_its_end(webui, kind, settings):
    scale = 4.0 if "window" in settings else 2.0  # 2x is no larger than the smallest window of latents of half the side
    (without,) = webui.generate("img2img", upscale({"scale": scale}))
    (picture,) = webui.generate("img2img", upscale({"scale": scale, **settings}))
    assert picture.pixels.shape == without.pixels.shape
    assert "Itermix unfinished" not in picture.parameters
    assert difference(picture, without) > 0


def test_an_analysis_is_written(webui, kind):
    before = set(webui.data.rglob("*.json"))
    webui.generate("img2img", upscale({"analysis": True}, save_images=True, batch_size=2))
    assert len(set(webui.data.rglob("*.json")) - before) == 2


def test_each_picture_of_a_batch_is_the_one_made_alone(webui, kind):
    first, second = webui.generate("img2img", upscale({"perlin": 0.3}, batch_size=2))
    (alone,) = webui.generate("img2img", upscale({"perlin": 0.3}, seed=8))
    assert difference(second, alone) <= 2
    assert difference(first, alone) > 2


def test_deep_shrink_is_refused(webui, kind):
    response = webui.post("img2img", upscale({"deep_shrink": 0.5}))
    assert response.status_code == 422
    assert "deep_shrink" in response.json()["detail"]


def test_every_sampler_is_mixed_or_refused_with_a_reason(webui, kind):
    """Those that the WebUI can't sample such a model with are left out."""
    mixed, refused = [], {}
    for sampler in webui.get("samplers"):
        name = sampler["name"]
        if webui.post("img2img", request_for(name, steps=4)).status_code != 200:
            continue
        response = webui.post("img2img", mixing({"denoise": 0.8}, sampler=name, steps=4))
        if response.status_code == 200:
            mixed.append(name)
        else:
            assert response.status_code == 422, (name, response.text[-300:])
            refused[name] = response.json()["detail"]
    print(kind, "mixed:", mixed, "refused:", refused)
    assert len(mixed) > len(refused)
    assert {"Euler", "DPM++ 2M"} <= set(mixed)


@pytest.mark.parametrize("kind", ["sdxl"], indirect=True)
def test_crops_of_sdxl_have_prompts_of_their_own(webui, kind):
    own, same, other = (
        webui.generate("img2img", upscale({"scale": 4.0, "window": 16, **prompts}))[0]
        for prompts in ({}, {"prompts": [["a photograph"]]}, {"prompts": [["a house"]]})
    )
    assert difference(own, same) <= 1
    assert difference(own, other) > 1


@pytest.mark.parametrize("kind", ["wan"], indirect=True)
def test_a_video_is_refused_and_what_is_one_picture_of_a_video_model_is_not(webui, kind):
    """Forge Neo makes one picture of a batch of four, and can't encode the video that it makes of five."""
    for request, pictures in ((hires({}, batch_size=4), 1), (hires({}, batch_size=5), 0)):
        response = webui.post("txt2img", request)
        assert response.status_code == (200 if pictures else 422)
        assert pictures or "batch_size = 5 is not possible. Allowed with Wan: 1 to 4" in response.json()["detail"]
    assert len(webui.generate("img2img", upscale({}, batch_size=4))) == 1
    for request in (upscale({}, batch_size=5), mixing({}, batch_size=5)):
        response = webui.post("img2img", request)
        assert response.status_code == 422
        assert "batch_size = 5 is not possible. Allowed with Wan: 1 to 4" in response.json()["detail"]


def references(webui):
    """{what the edit model is shown at the calls of the last sampling}."""
    return set(map(tuple, seen(webui)["references"]))


@editing
def test_an_edit_model_is_shown_the_picture_that_a_phase_begins_with(webui, kind):
    """As in img2img without mixing, at the size of the phase, and of no phase besides."""
    webui.generate("img2img", request_for(denoising_strength=0.95))
    assert references(webui) == {(latent_shape(kind, SIZE),)}
    settings = {"scale": 4.0, "max_scale_per_phase": 2.0, "match_colours": True}
    (picture,) = webui.generate("img2img", upscale(settings))
    assert "Itermix unfinished" not in picture.parameters
    assert references(webui) == {(latent_shape(kind, 4 * SIZE),)}


def place(part, whole):
    """Rows and columns of `whole` [1, C, (T,) H, W] that are `part` [C, (T,) h, w]."""
    height, width = part.shape[-2:]
    for top, left in product(range(whole.shape[-2] - height + 1), range(whole.shape[-1] - width + 1)):
        rows, columns = slice(top, top + height), slice(left, left + width)
        if torch.allclose(whole[0, ..., rows, columns], part, atol=1e-5):
            return rows, columns
    raise AssertionError("it is nowhere")


@editing
@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_a_crop_comes_with_its_part_of_the_picture_that_an_edit_model_is_shown(webui, kind, cfg):
    """Or it would paint the whole picture into each crop."""
    torch.save([], webui.data / "shown.pt")
    try:
        crops = {"window": 8, "window_jitter": False, "scale": 4.0, "max_scale_per_phase": 4.0, "steps": 2}
        (picture,) = webui.generate("img2img", upscale(crops, cfg_scale=cfg))
        shown = torch.load(webui.data / "shown.pt", weights_only=True)
    finally:
        (webui.data / "shown.pt").unlink()
    assert "Itermix unfinished" not in picture.parameters
    whole = seen(webui)
    places = set()
    for parts, (references,) in shown:
        assert len(references) == len(parts)
        for part, reference in zip(parts, references):
            rows, columns = place(reference, whole["latent"])
            places.add((rows.start, columns.start))
            assert any(torch.allclose(x[0, ..., rows, columns], part, atol=1e-4) for x, _, _ in whole["calls"])
    last = whole["latent"].shape[-1] - 8
    assert {(0, 0), (0, last), (last, 0), (last, last)} <= places


@editing
def test_what_mixing_encodes_is_no_reference_of_the_next_picture(webui, kind):
    """DemoFusion matches colours with the source's, which is encoded when the last phase has been sampled."""
    webui.generate("img2img", upscale({"match_colours": True, "colour_formulas": "DemoFusion"}))
    webui.generate("txt2img", {k: v for k, v in request_for(prompt="new").items() if k != "init_images"})
    assert references(webui) == {()}


@editing
def test_hires_fix_shows_an_edit_model_none_of_its_pictures(webui, kind):
    settings = {"max_scale_per_phase": 2.0, "match_colours": True, "colour_formulas": "DemoFusion"}
    for number in range(2):
        webui.generate("txt2img", hires(settings, hr_scale=4.0, steps=3, hr_prompt=f"large {number}"))
        assert references(webui) == {()}
