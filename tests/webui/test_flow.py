"""Models with flow matching and 16 channels, of which one has latents with frames: Forge Neo's own classes, made small.

Their text encoder is stood in for (probe/probe_flow.py) and their weights are random: these tests are about numbers.
"""

import hosts
import numpy as np
import pytest
import requests
import torch
from payloads import SIZE, hires, mask, mixing, photograph, request_for, upscale

KINDS = {"flux": (1, 16, 2 * SIZE // 8, 2 * SIZE // 8), "anima": (1, 16, 1, 2 * SIZE // 8, 2 * SIZE // 8)}
"""Small models, and the shape of their latents in a request for twice the photograph's size."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request, webui):
    if not webui.host.is_neo:
        pytest.skip(f"{webui.host.name} has other classes for these models, or none")
    webui.generate(
        "txt2img", {"prompt": "", "steps": 1, "width": SIZE, "height": SIZE}
    )  # it loads its checkpoint first
    use(webui, request.param)
    yield request.param
    use(webui, "none")


def use(webui, kind):
    requests.post(f"{webui.url}/probe/model/{kind}", timeout=60).raise_for_status()


def seen(webui):
    return torch.load(webui.data / "probe.pt", weights_only=True)


def difference(a, b):
    return np.abs(a.pixels - b.pixels).max()


def test_the_script_with_its_defaults_doubles_a_picture(webui, kind):
    (picture,) = webui.generate("img2img", upscale({}))
    assert picture.pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert picture.pixels.std() > 0
    assert tuple(seen(webui)["latent"].shape) == KINDS[kind]
    assert "Itermix unfinished" not in picture.parameters


def test_every_step_starts_at_the_noised_source_where_the_weight_is_one(webui, kind):
    webui.generate("img2img", upscale({"lowest": 1.0, "blending": "addition", "detail": 0.0, "match_colours": False}))
    found = seen(webui)
    assert len(found["calls"]) > 2
    for x, sigma, _ in found["calls"]:
        noised = (1 - sigma) * found["latent"] + sigma * found["noise"]
        assert torch.allclose(x, noised, atol=1e-5)


def test_img2img_and_hires_fix_mix(webui, kind):
    (plain,) = webui.generate("img2img", request_for(denoising_strength=0.5))
    (mixed,) = webui.generate("img2img", mixing({}))
    assert mixed.pixels.shape == plain.pixels.shape == (SIZE, SIZE, 3)
    assert difference(mixed, plain) > 0
    (picture,) = webui.generate("txt2img", hires({}))
    assert picture.pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert tuple(seen(webui)["latent"].shape) == KINDS[kind]
    assert "Itermix unfinished" not in picture.parameters


def test_hires_fix_in_phases(webui, kind):
    (picture,) = webui.generate("txt2img", hires({"max_scale_per_phase": 2.0, "fidelity": 0.5}, hr_scale=4.0, steps=3))
    assert picture.pixels.shape == (4 * SIZE, 4 * SIZE, 3)
    assert "Itermix unfinished" not in picture.parameters


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
    (without,) = webui.generate("img2img", upscale({}))
    (picture,) = webui.generate("img2img", upscale(settings))
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
