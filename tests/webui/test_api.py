"""The routes under /itermix/v1 in real WebUIs."""

import dataclasses
import json
from pathlib import Path

import hosts
import jsonschema
import pytest
import requests
from payloads import mixing, request_for, upscale
from test_img2img import difference

import itermix
from itermix.settings.infotext import VERSION
from itermix.settings.presets import PRESETS, decided


@pytest.fixture
def call(webui):
    """call(path, body=None) -> (status, answer); a body makes it a POST."""

    def send(path, body=None, **options):
        method = "GET" if body is None else "POST"
        answer = requests.request(method, f"{webui.url}/itermix/v1/{path}", json=body, timeout=30, **options)
        return answer.status_code, answer.json()

    return send


@pytest.fixture
def file(webui):
    """The user's own presets, none at first."""
    path = webui.data / "itermix-presets.json"
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def test_version_and_schema(call):
    assert call("version") == (200, {"version": itermix.__version__})
    status, schemas = call("schema")
    assert status == 200
    assert list(schemas) == ["mixing", "upscale"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_own_presets_are_kept_in_the_data_folder(call, file):
    status, answer = call("presets")
    assert (status, answer["own"], answer["error"]) == (200, {}, None)
    assert list(answer["built_in"]) == list(PRESETS)
    assert answer["built_in"]["ComfyUI node"]["settings"]["alpha"] == 2.4
    assert answer["built_in"]["ComfyUI node"]["reason"]
    sharp = {"Sharp": decided({"alpha": 0.6})}
    assert call("presets/save", {"name": "Sharp", "settings": {"alpha": 0.6, "scale": 2}})[1]["own"] == sharp
    assert json.loads(file.read_text()) == {"Sharp": {**sharp["Sharp"], "version": VERSION}}
    assert list(call("presets/rename", {"name": "Sharp", "new_name": "Sharper"})[1]["own"]) == ["Sharper"]
    assert call("presets/delete", {"name": "Sharper"})[1]["own"] == {}


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("presets/save", {"name": "balanced", "settings": {}}, "name = 'balanced' is not possible"),
        ("presets/save", {"name": "Mine", "settings": {"alhpa": 1}}, "Did you mean alpha?"),
        ("presets/save", {"name": "Mine", "settings": []}, "settings = [] is not possible"),
        ("presets/save", {"settings": {}}, "name"),
        ("presets/save", [], "body"),
        ("presets/rename", {"name": "Mine", "new_name": "A"}, "name = 'Mine' is not possible"),
        ("presets/delete", {"name": ["Mine"]}, "name = ['Mine'] is not possible"),
        ("weights", {"settings": {"alpha": 999}}, "alpha = 999 is not possible"),
        ("weights", {"settings": {"preset": "Creativ"}}, "Did you mean Creative?"),
        ("weights", {"steps": 1001}, "steps = 1001 is not possible. Allowed: a whole number from 1 to 1000."),
        ("weights", {"steps": 0}, "steps = 0"),
        ("weights", {"steps": "20"}, "steps = '20'"),
        ("weights", {"settings": {"start_at_step": 30}}, "start_at_step = 30"),
        ("plan?width=0&height=5&steps=3", None, "width = 0"),
        ("plan?width=a&height=5&steps=3", None, "width"),
    ],
)
def test_wrong_input_is_a_client_error_with_a_sentence(call, file, path, body, sentence):
    status, answer = call(path, body)
    assert status == 422
    assert isinstance(answer["detail"], str)
    assert sentence in answer["detail"]
    assert not file.exists()


def test_a_broken_file_of_presets_is_reported_and_kept(call, file):
    file.write_text('{"Sharp": ')
    status, answer = call("presets")
    assert (status, answer["own"]) == (200, {})
    assert "itermix-presets.json can't be used: it isn't JSON" in answer["error"]
    status, refused = call("presets/save", {"name": "New", "settings": {}})
    assert (status, refused["detail"]) == (422, answer["error"])
    assert file.read_text() == '{"Sharp": '


def test_the_curve_is_that_of_the_settings(call):
    settings = {"curve": "linear", "denoise": 0.5, "preset": "ComfyUI node"}
    status, answer = call("weights", {"settings": settings, "steps": 4, "scheduler": "Exponential"})
    assert status == 200
    assert (answer["steps"], answer["first"], answer["last"]) == (4, 1, 4)
    assert answer["weights"] == [None, 1.0, *(pytest.approx(w) for w in (2 / 3, 1 / 3))]
    assert answer["sigmas"][0] == pytest.approx(14.6146, abs=1e-3)
    assert answer["scheduler"] == "Exponential"
    assert call("weights", {"settings": {"steps": 0}})[1]["steps"] == 20
    assert call("weights", {"settings": {"denoise": 0.5, "steps": 4}, "hires": True})[1]["steps"] == 8


def test_both_scripts_take_a_preset_and_what_is_named_beside_it(webui, call, file):
    call("presets/save", {"name": "Mine", "settings": {"curve": "linear"}})
    for request in (mixing, upscale):
        for preset, expected in {"ComfyUI node": "curve: comfy-cosine", "Mine": "curve: linear"}.items():
            (picture,) = webui.generate("img2img", request({"preset": preset, "alpha": 0.55}))
            assert f"Itermix {expected}, Itermix alpha: 0.55" in picture.parameters
        answer = webui.post("img2img", request({"preset": "Minee"}))
        assert answer.status_code == 422
        assert "preset = 'Minee' is not possible. Did you mean Mine?" in answer.json()["detail"]


@pytest.mark.parametrize("request_of", [mixing, upscale])
def test_another_extension_switches_mixing_on(webui, request_of):
    plain = request_for() if request_of is mixing else upscale(2.0, 0, 0, "Lanczos")
    (expected,) = webui.generate("img2img", request_of({"preset": "Creative", "alpha": 0.6}))
    settings = webui.data / "settings.json"
    settings.write_text('{"preset": "Creative", "alpha": 0.6, "steps": 0}')
    try:
        (picture,) = webui.generate("img2img", plain)
        settings.write_text('{"alhpa": 0.5}')
        refused = webui.post("img2img", plain)
    finally:
        settings.unlink()
    assert difference(picture, expected) <= 1
    assert "Itermix enabled: True" in picture.parameters
    assert refused.status_code == 422
    assert "Did you mean alpha?" in refused.json()["detail"]


@pytest.fixture(scope="module")
def guarded(host, tmp_path_factory):
    """A WebUI that asks for passwords, of its own kind for the API and for the page."""
    arguments = (*host.arguments, "--api-auth", "api:geheim", "--gradio-auth", "page:secret")
    data = tmp_path_factory.mktemp("guarded") / "data"
    server = hosts.WebUI(dataclasses.replace(host, arguments=arguments), data, {"sd-webui-itermix": Path(hosts.ROOT)})
    yield server
    server.stop()


def test_without_the_api_the_login_of_the_page_is_needed(host, tmp_path):
    arguments = (*host.arguments, "--gradio-auth", "page:secret")
    extensions = {"sd-webui-itermix": Path(hosts.ROOT)}
    server = hosts.WebUI(dataclasses.replace(host, arguments=arguments), tmp_path / "data", extensions, api=False)
    try:
        session = requests.Session()
        assert session.get(f"{server.url}/itermix/v1/version", timeout=30).status_code == 401
        session.post(f"{server.url}/login", data={"username": "page", "password": "secret"}, timeout=30)
        assert session.get(f"{server.url}/itermix/v1/version", timeout=30).status_code == 200
    finally:
        server.stop()


def test_the_routes_are_behind_the_passwords_of_the_webui(guarded):
    def status(**options):
        body = {"name": "Sharp", "settings": {}}
        found = {
            requests.get(f"{guarded.url}/itermix/v1/version", timeout=30, **options).status_code,
            requests.post(f"{guarded.url}/itermix/v1/presets/save", json=body, timeout=30, **options).status_code,
        }
        assert len(found) == 1
        return found.pop()

    assert status() == 401
    assert not (guarded.data / "itermix-presets.json").exists()
    assert status(auth=("api", "secret")) == 401
    assert status(auth=("page", "secret")) == 401
    assert status(cookies={"access-token": "guessed", "access-token-unsecure": "guessed"}) == 401
    assert status(auth=("api", "geheim")) == 200
    session = requests.Session()
    login = session.post(f"{guarded.url}/login", data={"username": "page", "password": "secret"}, timeout=30)
    assert login.status_code == 200
    assert status(cookies=session.cookies) == 200
    answer = requests.get(f"{guarded.url}/itermix/v1/version", timeout=30)
    assert "WWW-Authenticate" not in answer.headers  # the browser would ask the user of the page
