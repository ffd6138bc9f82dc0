"""Mixing together with other extensions: with those a WebUI has built in, and with those of its `extensions` folder."""

import base64
import dataclasses
import io
import json
from pathlib import Path

import hosts
import pytest
import requests
import torch
from payloads import hires, mixing, photograph, plain, upscale
from test_img2img import difference, equal

from itermix.picture.repairs import BEFORE

STEPS = 3
QUICK = {"steps": STEPS, "cfg_scale": 7.0}
TWO_PHASES = {"max_scale_per_phase": 1.25}  # from 64 px over 80 px to 96 px
SIZES = [80, 96]

ACTING = {
    # Dynamic Thresholding, with a scale to mimic that is far from the request's
    "Dynamic Thresholding (CFG Scale Fix)": [True, 1, 100, "Constant", 0, "Constant", 0, 4, True, "MEAN", "AD", 1],
    "DynamicThresholding (CFG-Fix) Integrated": [
        *(True, 1, 1, "Constant", 0, "Constant", 0, 1, "enable", "MEAN", "AD", 1)
    ],
    # self-attention and perturbed-attention guidance
    "Self Attention Guidance": [True, 1.5, 1.0],
    "SelfAttentionGuidance Integrated (SD 1.x, SD 2.x, SDXL)": [True, 1.5, 2.0, 1.0],
    "PerturbedAttentionGuidance Integrated": [True, 3.0, 0.0, 0.0, 1.0],
    # Kohya's HRFix: from block 3, twice smaller, in most of the steps
    "Kohya Hires.fix": [True, False, 3, 4, 0.4, 0.5, "bicubic", 0.5, 2.0, True, False],
    "Kohya HRFix Integrated": [True, 3, 2.0, 0.0, 0.9, True, "bicubic", "bicubic"],
    # tiles of 48 px, so that the first pass has several, too
    "Tiled Diffusion": [
        *(True, "MultiDiffusion", False, True, 64, 64, 6, 6, 2, 2, "None", 1.0),
        *(False, 10, 1, 1, 64, False, False, False, False),
    ],
    "MultiDiffusion Integrated": [True, "MultiDiffusion", 48, 48, 16, 4],
    "LatentModifier Integrated": [
        *(True, 5, "anisotropic", 0, "reinhard", 100, 50, "subtract", 0, 0, "gaussian", "add", 0, 100),
        *(127, 0, "hard_clamp", 5, 0, "None", "None"),
    ],
}
OF_REFORGE = {
    "DynamicThresholding (CFG-Fix) Integrated": [
        *(True, False, 1, 1, "Constant", 0, "Constant", 0, 1, "enable", "MEAN", "AD", 1)
    ],
    "LatentModifier Integrated": [
        *(True, 5, "anisotropic", "None", False, 0, "reinhard", 100, 50, False, "gaussian", "add", 0, 100),
        *("subtract", 0, 0, False, 127, 0, "hard_clamp", 5, 0, False, "None"),
    ],
}
"""The same where it takes others."""
OPTIONS = {
    "Token merging": {"token_merging_ratio": 0.5, "token_merging_ratio_img2img": 0.5, "token_merging_ratio_hr": 0.5},
}


def started(host, folder):
    """The WebUI with the extension, the probe and all others of its `extensions` folder."""
    others = {path.name: path for path in Path(host.extensions).iterdir() if path.is_dir()}
    own = {"sd-webui-itermix": hosts.ROOT, "probe": hosts.ROOT / "tests" / "webui" / "probe"}
    return hosts.WebUI(host, folder / "data", {**own, **others})


@pytest.fixture(scope="module")
def together(host, request, tmp_path_factory):
    if not host.extensions:
        yield request.getfixturevalue("webui")
        return
    server = started(host, tmp_path_factory.mktemp("together"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def controlled(host, request, tmp_path_factory):
    """A WebUI that has a ControlNet for its checkpoint. Outside Forge and its kin, they come in the full size only."""
    if host.is_kin:
        yield request.getfixturevalue("together")
        return
    if not host.extensions:
        pytest.skip(f"{host.name} has no ControlNet: it names no folder of extensions")
    server = started(dataclasses.replace(host, checkpoint="sd15"), tmp_path_factory.mktemp("controlled"))
    yield server
    server.stop()


def upscaled(settings, **changes):
    return upscale({"scale": 1.5, "steps": STEPS, **TWO_PHASES, **settings}, **{**QUICK, **changes})


def replaced_hires(settings, **changes):
    return hires({**TWO_PHASES, **settings}, hr_scale=1.5, hr_cfg=7.0, **{**QUICK, **changes})


PATHS = pytest.mark.parametrize(
    ("path", "request_of", "sizes"),
    [("img2img", upscaled, SIZES), ("txt2img", replaced_hires, [64, *SIZES])],
    ids=["upscale", "hires"],
)


def of_tab(webui, path):
    """{name: script} of this tab."""
    return {each["name"]: each for each in webui.get("script-info") if each["is_img2img"] == (path == "img2img")}


def needs(webui, title, path="txt2img"):
    if title.lower() not in of_tab(webui, path):
        pytest.skip(f"{webui.host.name} has no {title} in {path}")


def with_script(request, title, args):
    return {**request, "alwayson_scripts": {**request.get("alwayson_scripts", {}), title: {"args": args}}}


def run(webui, path, request):
    """The pictures, and [width, height, calls, hints] of every sampling."""
    runs = webui.data / "runs.json"
    runs.unlink(missing_ok=True)
    pictures = webui.generate(path, request)
    return pictures, [[*counted[:3], counted[4]] for counted in json.loads(runs.read_text())]


def check_both_act(webui, path, sizes, request_of, change):
    """`change` of a request changes the picture, mixing does so with it, and neither leaves anything behind."""
    before = plain(webui, "img2img")
    both, calls = run(webui, path, change(request_of({})))
    assert [call[:3] for call in calls] == [[size, size, STEPS] for size in sizes]
    assert "Itermix enabled: True" in both[0].parameters
    assert "unfinished" not in both[0].parameters
    without_it, _ = run(webui, path, request_of({}))
    without_mixing, _ = run(webui, path, change(request_of({"clamp": 0.0})))
    assert difference(both[0], without_it[0]) > 1
    assert difference(both[0], without_mixing[0]) > 1
    assert equal(plain(webui, "img2img"), before)


def acting(webui, title, path):
    """The arguments of this extension; short lists are filled up by the WebUI."""
    script, of_reforge = of_tab(webui, path)[title.lower()], OF_REFORGE.get(title, ())
    return of_reforge if len(script["args"]) == len(of_reforge) else ACTING[title]


@PATHS
@pytest.mark.parametrize("title", ACTING)
def test_it_acts_and_mixing_acts(together, path, request_of, sizes, title):
    needs(together, title, path)
    args = acting(together, title, path)
    check_both_act(together, path, sizes, request_of, lambda request: with_script(request, title, args))


@PATHS
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_the_webui_acts_and_mixing_acts(together, path, request_of, sizes, name):
    if not set(OPTIONS[name]) <= set(together.get("options")):
        pytest.skip(f"{together.host.name} has no {name}")
    if together.host.is_kin:
        pytest.skip(f"{name} has no effect where the tests' network is as small as Forge's")
    check_both_act(together, path, sizes, request_of, lambda request: {**request, "override_settings": OPTIONS[name]})


def control_unit(webui, name, **unit):
    """Arguments of ControlNet: one unit with a model of ours."""
    needs(webui, "ControlNet")
    models = requests.get(f"{webui.url}/controlnet/model_list", timeout=30).json()["model_list"]
    model = next(model for model in models if model.startswith(name))
    return [{"enabled": True, "module": "None" if webui.host.is_kin else "none", "model": model, **unit}]


@PATHS
def test_controlnet_sees_a_hint_of_every_phases_size(controlled, path, request_of, sizes):
    args = control_unit(controlled, "controlnet", image=hosts.encoded(photograph(256)))
    request = request_of({"steps": 2}, steps=2)
    (picture,), calls = run(controlled, path, with_script(request, "ControlNet", args))
    assert calls == [[size, size, 2, 2 * [[size, size]]] for size in sizes]
    assert difference(picture, controlled.generate(path, request)[0]) > 1


def test_controlnet_sees_its_hint_when_hires_fix_cuts_the_picture(controlled):
    """The phase before the last has the first pass's shape, and the last has another. Forge Neo cuts nothing."""
    args = control_unit(controlled, "controlnet", image=hosts.encoded(photograph(256)))
    request = hires(TWO_PHASES, hr_resize_x=64, hr_resize_y=96, hr_cfg=7.0, **{**QUICK, "steps": 2})
    (picture,), calls = run(controlled, "txt2img", with_script(request, "ControlNet", args))
    assert picture.pixels.shape == (96, 64, 3)
    between = [64, 80] if controlled.host.is_neo else [80, 80]
    assert calls == [[*size, 2, 2 * [size]] for size in ([64, 64], between, [64, 96])]


def embedding():
    """What a unit takes in the place of a picture."""
    file = io.BytesIO()
    torch.save({"image_embeds": torch.randn(1, 1024, generator=torch.Generator().manual_seed(1))}, file)
    return {"module": "ip-adapter_clip_sd15", "ipadapter_input": [base64.b64encode(file.getvalue()).decode()]}


@PATHS
def test_ip_adapter(together, path, request_of, sizes):
    """With the embedding of a picture, so that the network that makes it isn't needed."""
    if together.host.is_kin:
        pytest.skip("Forge takes no embedding, and the network that makes it has 632 M parameters")
    args = control_unit(together, "ip-adapter", **embedding())
    check_both_act(together, path, sizes, request_of, lambda request: with_script(request, "ControlNet", args))


@pytest.fixture
def face(together):
    """Puts a portrait in the place of what is finished, before ADetailer sees it: a network of noise paints no face."""
    needs(together, "ADetailer")
    photograph(512).save(together.data / "portrait.png")
    what = together.data / "repair.json"
    what.write_text(json.dumps("portrait"))
    yield
    what.unlink()


def repaired(request, **options):
    """A request that lets ADetailer repair a face."""
    repair = {"ad_model": "mediapipe_face_short", "ad_denoising_strength": 0.4}
    return {**with_script(request, "ADetailer", [True, False, repair]), "override_settings": options}


def split(calls):
    """Sizes of the request's own samplings, and the numbers of calls of others."""
    return [call[0] for call in calls if call[2] == STEPS], {call[2] for call in calls if call[2] != STEPS}


@pytest.mark.usefixtures("face")
@pytest.mark.parametrize(("own_scripts_only", "steps"), [(True, STEPS), (False, 20)])
def test_adetailers_own_inpainting_is_not_mixed(together, own_scripts_only, steps):
    """Also if it is to run all scripts of the request, of which one gives it the default number of steps.

    It runs the steps that ADetailer's denoising strength of 0.4 leaves; mixing would run all.
    """
    request = replaced_hires({})
    pictures, calls = run(together, "txt2img", repaired(request, ad_only_selected_scripts=own_scripts_only))
    assert split(calls) == ([64, *SIZES], {int(0.4 * steps) + 1})
    assert difference(pictures[0], together.generate("txt2img", request)[0]) > 1


@pytest.mark.usefixtures("face")
def test_adetailer_repairs_the_first_pass_before_the_mixing_and_not_again(together):
    """In two iterations, of which ADetailer shows all scripts a copy of the request in the middle of each."""
    request = replaced_hires({"repairs": BEFORE}, n_iter=2)
    pictures, calls = run(together, "txt2img", repaired(request))
    inpainting = int(0.4 * STEPS) + 1
    assert [call[2] for call in calls] == 2 * [STEPS, inpainting, STEPS, STEPS]
    assert split(calls)[0] == 2 * [64, *SIZES]
    assert difference(pictures[0], together.generate("txt2img", request)[0]) > 1


@pytest.mark.usefixtures("face")
def test_after_adetailer_the_next_iteration_is_mixed_in_its_phases(together):
    """ADetailer shows a copy of the request to all scripts, as if it ended and began anew."""
    request = replaced_hires({}, n_iter=2)
    pictures, calls = run(together, "txt2img", repaired(request))
    assert split(calls) == (2 * [64, *SIZES], {int(0.4 * STEPS) + 1})
    assert all(difference(*pair) > 1 for pair in zip(pictures, together.generate("txt2img", request), strict=True))


@pytest.mark.parametrize("request_of", [mixing, upscaled])
def test_several_at_once(together, request_of):
    """All that act, in one request."""
    before = plain(together, "img2img")
    request = request_of({"steps": STEPS}, **QUICK)
    for title in ACTING:
        if title.lower() in of_tab(together, "img2img"):
            request = with_script(request, title, acting(together, title, "img2img"))
    pictures, calls = run(together, "img2img", request)
    assert pictures[0].pixels.std() > 1
    assert all(call[2] == STEPS for call in calls)
    assert equal(plain(together, "img2img"), before)
