"""The network that enlarges latents, and Deep Shrink, in real WebUIs."""

import io
import zipfile

import pytest
import torch
from payloads import hires, mixing, plain, repeatable, upscale
from safetensors.torch import save_file
from test_img2img import difference, equal
from test_latent_upscaler import random_state
from test_scales import failing, run  # noqa: F401

QUICK = {"steps": 3}
TIED = {"blending": "addition", "lowest": 1.0, "detail": 0.0, "fidelity": 0.0}
SHRUNK = {"deep_shrink": 0.7}
NN = "Latent (NN)"


@pytest.fixture
def weights(webui):
    """weights(state, suffix) puts a file where the user would; it is gone after the test."""
    folder = webui.data / "models" / "itermix"
    folder.mkdir()
    yield lambda state, suffix="pt": (save_pickle if suffix == "pt" else save_file)(
        state, folder / f"sd15_resizer.{suffix}"
    )
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def save_pickle(state, path):
    """As torch saved when the weights were published: without the parts that newer ones add, which A1111 refuses."""
    data = io.BytesIO()
    torch.save(state, data)
    with zipfile.ZipFile(data) as saved, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name in saved.namelist():
            if not name.endswith((".format_version", ".storage_alignment")):
                file.writestr(name, saved.read(name))


def constant(value):
    """Weights of a network that gives this value wherever it is asked."""
    state = random_state()
    return state | {
        "conv_out.weight": torch.zeros_like(state["conv_out.weight"]),
        "conv_out.bias": torch.full((4,), value),
    }


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_network_enlarges_in_the_script_and_in_the_hires_pass(webui, weights, suffix):
    weights(constant(0.1), suffix)
    plain_cfg = {**QUICK, "cfg_scale": 1.0}  # Forge's hires pass has another of its own, which is 1
    (by_script,) = webui.generate("img2img", upscale({**TIED, "upscaler": NN}, **plain_cfg))
    (by_hires,) = webui.generate("txt2img", hires({**TIED, "nn_upscaler": True}, **plain_cfg))
    (by_another,) = webui.generate("txt2img", hires(TIED, hr_upscaler="None", **plain_cfg))
    assert difference(by_hires, by_script) <= 1
    assert difference(by_hires, by_another) > 2
    assert "Itermix NN upscaler: True" in by_hires.parameters


def test_several_phases_are_enlarged_by_it(run, weights):  # noqa: F811
    weights(random_state())
    several = {"nn_upscaler": True, "max_scale_per_phase": 1.25}
    (picture,), calls = run("txt2img", hires(several, hr_scale=1.5, **QUICK))
    assert [size[0] for size in calls] == [64, 80, 96]
    assert "unfinished" not in picture.parameters


def refused(webui, path, request):
    response = webui.post(path, request)
    assert response.status_code == 422, response.text[-2000:]
    return response.json()["detail"]


def test_what_the_network_can_not_do_is_refused(webui, weights):
    file = webui.data / "models" / "itermix" / "sd15_resizer.pt"
    for path, request in (
        ("img2img", upscale({"upscaler": NN}, **QUICK)),
        ("txt2img", hires({"nn_upscaler": True}, **QUICK)),
    ):
        sentence = refused(webui, path, request)
        assert f"once {file} (or .safetensors) is there; https://github.com/Ttl/" in sentence
    weights({"weight": torch.zeros(1)})
    assert f"{file} is not the file" in refused(webui, "img2img", upscale({"upscaler": NN}, **QUICK))
    file.write_bytes(b"no such thing")
    assert f"{file} is not the file" in refused(webui, "txt2img", hires({"nn_upscaler": True}, **QUICK))
    weights(constant(0.1))
    large = {"max_scale_per_phase": 3.0}
    assert "at most 2" in refused(webui, "img2img", upscale({"upscaler": NN, **large}, **QUICK))
    assert "at most 2" in refused(webui, "txt2img", hires({"nn_upscaler": True, **large}, **QUICK))
    assert "in img2img: false" in refused(webui, "img2img", mixing({"nn_upscaler": True}, **QUICK))
    assert "in img2img: false" in refused(webui, "img2img", upscale({"nn_upscaler": True}, **QUICK))


@pytest.mark.parametrize(("path", "request_of"), [("img2img", mixing), ("img2img", upscale), ("txt2img", hires)])
def test_deep_shrink_changes_its_picture_and_nothing_after_it(webui, plain_pictures, path, request_of):
    off = repeatable(webui, path, request_of({}, **QUICK))
    on = repeatable(webui, path, request_of(SHRUNK, **QUICK))
    assert not equal(off, on)
    assert equal(repeatable(webui, path, request_of(SHRUNK, **QUICK)), on)
    assert equal(repeatable(webui, path, request_of({**SHRUNK, "deep_shrink_factor": 1.0}, **QUICK)), off)
    assert "Itermix Deep Shrink: 0.7" in on[0].parameters
    assert equal(repeatable(webui, path, request_of({}, **QUICK)), off)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])


@pytest.mark.parametrize("size", [(64, 64), (72, 64), (64, 88), (104, 72)])
def test_the_steps_after_the_share_of_deep_shrink_are_those_of_a_run_without(webui, size):
    """Every step begins at z', so the picture is what the last one makes, and that is after the share. At sizes that
    aren't multiples of 64 the WebUI's own U-Net joins what doesn't fit, and Deep Shrink has to leave that alone."""
    width, height = size

    def pictures(settings):
        return repeatable(webui, "img2img", mixing(settings, width=width, height=height, **QUICK))

    assert equal(pictures({**TIED, "deep_shrink": 0.35}), pictures(TIED))
    assert not equal(pictures({"denoise": 1.0, "deep_shrink": 0.35}), pictures({"denoise": 1.0}))


@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_nothing_of_deep_shrink_stays_after_a_stop(webui, run, plain_pictures, how):  # noqa: F811
    off = repeatable(webui, "img2img", upscale({}, **QUICK))
    two = {**SHRUNK, "scale": 1.5, "max_scale_per_phase": 1.25}
    pictures, _ = run("img2img", upscale(two, **QUICK), failing(2, how))
    assert "Itermix unfinished" in pictures[0].parameters
    assert equal(repeatable(webui, "img2img", upscale({}, **QUICK)), off)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])


def test_a_block_that_the_model_does_not_have_is_refused(webui, host):
    if host.checkpoint == "forge":
        sentence = refused(webui, "img2img", upscale({**SHRUNK, "deep_shrink_block": 4}, **QUICK))
        assert "deep_shrink_block = 4" in sentence
        assert "from 1 to 3" in sentence
    else:
        request = upscale({**SHRUNK, "deep_shrink_block": 11}, **QUICK)
        assert not equal(webui.generate("img2img", request), webui.generate("img2img", upscale(SHRUNK, **QUICK)))
