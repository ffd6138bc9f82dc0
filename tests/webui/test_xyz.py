"""Axes of the X/Y/Z plot in real WebUIs, through the API."""

import json

import hosts
import pytest
from payloads import hires, mixing, request_for, upscale
from test_img2img import difference

from itermix.settings import UpscaleSettings

STEPS = UpscaleSettings().steps
LABEL = {parameter.name: f"[Itermix] {parameter.label}" for parameter in UpscaleSettings.parameters()}
LABEL["preset"] = "[Itermix] Preset"


@pytest.fixture
def axes(webui):
    """{tab: labels of all axes in order}."""
    found = {}
    for script in webui.get("script-info"):
        if script["name"] == "x/y/z plot":
            labels = script["args"][0]["choices"]
            found["img2img" if script["is_img2img"] else "txt2img"] = labels
    return found


@pytest.fixture
def plot(webui, axes):
    """plot(tab, request, {label: values}) -> response; values of axes with choices are a list, of others a text."""

    (script,) = (each for each in webui.get("script-info") if each["name"] == "x/y/z plot" and each["is_img2img"])
    others = [arg["value"] for arg in script["args"][9:]]  # Forge Neo has one more

    def post(tab, request, wanted):
        args = []
        for label, values in [*wanted.items(), *[("Nothing", "")] * (3 - len(wanted))]:
            text, chosen = ("", values) if isinstance(values, list) else (values, [])
            args += [axes[tab].index(label), text, chosen]
        args += [False, True, *others[2:]]  # with the single pictures
        return webui.post(tab, {**request, "script_name": "x/y/z plot", "script_args": args})

    return post


def infotexts(response):
    assert response.status_code == 200, response.text[-2000:]
    return json.loads(response.json()["info"])["infotexts"][1:]  # after the grid


def pictures_of(response):
    return [hosts.Picture(hosts.decoded(image), "") for image in response.json()["images"][1:]]


def test_every_parameter_has_one_axis(axes):
    for tab, parameters in {
        "img2img": UpscaleSettings.parameters(),
        "txt2img": UpscaleSettings.parameters()[: -len(UpscaleSettings.own_parameters())],
    }.items():
        found = [label for label in axes[tab] if label.startswith("[Itermix] ")]
        assert found == ["[Itermix] Preset", *(f"[Itermix] {parameter.label}" for parameter in parameters)]


def test_each_picture_is_that_of_its_settings(webui, plot):
    answer = plot(
        "img2img", request_for(), {"[Itermix] Weight curve": ["linear", "logistic"], LABEL["alpha"]: "0.6, 2"}
    )
    texts = infotexts(answer)
    cells = [("linear", 0.6), ("logistic", 0.6), ("linear", 2.0), ("logistic", 2.0)]
    for text, (curve, alpha) in zip(texts, cells, strict=True):
        assert f"Itermix enabled: True, Itermix curve: {curve}, Itermix alpha: {alpha}" in text
    pictures = pictures_of(answer)
    for picture, (curve, alpha) in zip(pictures, cells, strict=True):
        (expected,) = webui.generate("img2img", mixing({"curve": curve, "alpha": alpha, "steps": STEPS}))
        assert difference(picture, expected) <= 1
    assert difference(pictures[1], pictures[3]) > 1


def test_presets_and_single_settings_come_on_top_of_the_scripts_own(plot):
    request = mixing({"alpha": 9.0, "lowest": 0.25})
    texts = infotexts(plot("img2img", request, {"[Itermix] Preset": ["Creative"], LABEL["stop"]: "0.5"}))
    assert "Itermix blending: wavelet" in texts[0]
    assert "Itermix stop: 0.5" in texts[0]
    assert "Itermix alpha: 9" not in texts[0]
    assert "Itermix lowest" not in texts[0]


def test_the_axis_of_the_switch_compares_with_the_plain_picture(webui, plot):
    answer = plot("img2img", request_for(), {"[Itermix] Iterative Mixing": ["True", "False"]})
    texts = infotexts(answer)
    assert ["Itermix enabled: True" in text for text in texts] == [True, False]
    (plain,) = webui.generate("img2img", request_for())
    assert difference(pictures_of(answer)[1], plain) <= 1


def test_axes_of_the_upscale_script_run_it(webui, plot):
    answer = plot("img2img", request_for(), {"[Itermix] Scale": "1.25, 1.5", LABEL["alpha"]: "0.6"})
    texts = infotexts(answer)
    assert ["Size: 80x80" in texts[0], "Size: 96x96" in texts[1]] == [True, True]
    (expected,) = webui.generate("img2img", upscale({"scale": 1.5, "alpha": 0.6, "steps": STEPS}))
    assert difference(pictures_of(answer)[1], expected) <= 1


def test_the_hires_pass_mixes(plot):
    request = hires({})
    del request["alwayson_scripts"]
    texts = infotexts(plot("txt2img", request, {LABEL["alpha"]: "0.6"}))
    assert "Itermix enabled: True, Itermix alpha: 0.6" in texts[0]


@pytest.mark.parametrize(
    ("tab", "axis", "sentence"),
    [
        ("img2img", {"alpha": "0.6, 101"}, "alpha = 101.0 is not possible"),
        ("img2img", {"curve": ["linear", "sine"]}, "curve = 'sine' is not possible"),
        ("img2img", {"preset": ["Creativ"]}, "Did you mean Creative?"),
        ("img2img", {"save_phases": ["maybe"]}, "save_phases = 'maybe' is not possible"),
        ("txt2img", {"alpha": "0.6"}, "hires fix"),
    ],
)
def test_a_wrong_value_fails_before_anything_is_made(plot, tab, axis, sentence):
    request = request_for()
    if tab == "txt2img":
        request = {key: value for key, value in request.items() if key not in ("init_images", "denoising_strength")}
    answer = plot(tab, request, {LABEL[name]: values for name, values in axis.items()})
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
