"""The examples of docs/api.md do what they say, in real WebUIs."""

import json
import re
import subprocess
from urllib.parse import urlsplit

import hosts
import pytest
from payloads import SIZE, photograph
from PIL import Image

TEXT = (hosts.ROOT / "docs" / "api.md").read_text(encoding="utf-8")
QUICK = {"steps=20": "steps=2", '"steps": 20, "sampler': '"steps": 2, "sampler'}


def blocks(language):
    for block in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL):
        for slow, quick in QUICK.items():
            block = block.replace(slow, quick)
        yield block


@pytest.fixture
def folder(tmp_path, monkeypatch):
    photograph(SIZE).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_curl(webui, folder):
    (block,) = blocks("sh")
    subprocess.run(["bash", "-ec", block.replace("http://127.0.0.1:7860", webui.url)], check=True, timeout=300)
    with Image.open(folder / "large.png") as image:
        assert image.size == (2 * SIZE, 2 * SIZE)
        assert "Itermix enabled: True" in image.info["parameters"]


def test_webuiapi(webui, host, folder):
    pytest.importorskip("webuiapi")
    upscale, hires = (block for block in blocks("python") if "api." in block)
    port = urlsplit(webui.url).port
    names = {}
    exec(upscale.replace("WebUIApi(", f"WebUIApi(port={port}, "), names)
    with Image.open(folder / "large.png") as image:
        assert image.size == (2 * SIZE, 2 * SIZE)
    if host.is_forge:
        return  # it wants an argument that webuiapi doesn't have, as the docs say
    exec(hires.replace("enable_hr=True,", f"enable_hr=True, width={SIZE}, height={SIZE},"), names)
    assert names["result"].image.size == (2 * SIZE, 2 * SIZE)
    assert "Itermix enabled: True, Itermix alpha: 0.6" in names["result"].info["infotexts"][0]


def test_routes(webui):
    command, answer = re.search(r"\$ (curl \S+ \S+weights.*?')\n(\{.*?\})\n", TEXT, re.DOTALL).groups()
    command = command.replace("http://127.0.0.1:7860", webui.url)
    found = json.loads(subprocess.run(["bash", "-ec", command], check=True, capture_output=True, timeout=60).stdout)
    assert {**found, "sigmas": []} == json.loads(answer.replace("[...]", "[]"))


def test_an_error(webui):
    sentence = re.search(r'"detail":"(Iterative Mixing: alhpa.*?) \.\.\.\n', TEXT)[1]
    payload = {"alwayson_scripts": {"Iterative Mixing": {"args": [{"alhpa": 0.5}]}}}
    answer = webui.post("img2img", {**payload, "init_images": [hosts.encoded(photograph(SIZE))]})
    assert answer.status_code == 422
    assert answer.json().get("error") == (None if webui.host.is_forge else "SettingsError")
    assert answer.json()["detail"].startswith(sentence)
