"""`itermix calibrate` on a real A1111 with the small latent model: measured, kept, and taken by Automatic."""

import dataclasses
import json

import hosts
import pytest
import requests
from PIL import Image
from webui_quality import held_out

from itermix.settings import Settings
from itermix.settings.infotext import read
from itermix.standalone import images
from itermix.standalone.calibrate import run
from itermix.standalone.cli import main
from itermix.standalone.generation import parsed

PICTURES, SIDE = 2, 128
BUDGET, SETTINGS = 60, 2  # minutes that no machine needs for so few settings
SCRIPT = "Iterative Mixing upscale"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Held-out renders, each with how it is to be painted."""
    pytest.importorskip("resvg_py")
    folder = tmp_path_factory.mktemp("pictures")
    for picture in held_out("tuning", SIDE, [], seed=1, count=PICTURES):
        how = f"Steps: 8, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 3.0, Seed: {picture.seed}"
        (folder / f"{picture.name}.png").write_bytes(images.png(picture.source, f"{picture.prompt}\n{how}"))
    return folder


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(run, "MOST_SETTINGS", SETTINGS)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("calibrated")


def calibrate(server, pictures, out, *more):
    command = ["calibrate", "--server", server.url, "--pictures", str(pictures), "--budget", str(BUDGET)]
    return main([*command, "--out", str(out), *more])


def made_by(server, pictures, values):
    """The picture that the upscale script makes with these settings, and what of them its infotext tells."""
    file = sorted(pictures.iterdir())[0]
    with Image.open(file) as image:
        request = {"init_images": [hosts.encoded(image)], "width": SIDE, "height": SIDE, "steps": 8, "seed": 3}
    request |= {"sampler_name": "DPM++ 2M", "scheduler": "Karras", "cfg_scale": 3.0, "prompt": "panda"}
    (picture,) = server.generate("img2img", request | {"script_name": SCRIPT, "script_args": [{"scale": 2, **values}]})
    found = read(parsed(picture.parameters)[2])
    return picture.pixels, {parameter.name: found[parameter.name] for parameter in Settings.parameters()}


def test_the_best_is_kept_and_taken_by_automatic(latent_webui, pictures, out):
    assert calibrate(latent_webui, pictures, out, "--keep", "Mine") == 0
    told = json.loads((out / "report.json").read_text())
    rows = {row["name"]: row for row in told["rows"]}
    assert told["pictures"] == PICTURES
    version = requests.get(f"{latent_webui.url}/internal/sysinfo", timeout=60).json()["Version"]
    assert told["webui"] == version
    assert rows["hires fix 0.3"]["fidelity"] > rows["hires fix 0.7"]["fidelity"] + 5
    assert rows["Faithful"]["fidelity"] > rows["Creative"]["fidelity"]
    assert rows["hires fix 0.7"]["spurious"] > rows["Faithful"]["spurious"]
    assert told["complete"]
    assert sum(row["kind"] == "search" for row in told["rows"]) == SETTINGS
    assert all((out / name).stat().st_size > 10_000 for name in ("sheet.html", "sheet.png"))

    presets = requests.get(f"{latent_webui.url}/itermix/v1/presets", timeout=30).json()
    assert presets["bound"] == {told["hash"]: "Mine"}
    best = Settings(**presets["own"]["Mine"])
    named, by_name = made_by(latent_webui, pictures, {"preset": "Mine"})
    automatic, infotext = made_by(latent_webui, pictures, {"preset": "Automatic"})
    assert (automatic == named).all()
    assert infotext == by_name == {**dataclasses.asdict(best), "enabled": True}

    unbound = requests.post(
        f"{latent_webui.url}/itermix/v1/presets/unbind", json={"checkpoint": told["hash"]}, timeout=30
    )
    assert unbound.json()["bound"] == {}
    _, infotext = made_by(latent_webui, pictures, {"preset": "Automatic"})
    assert infotext == {**dataclasses.asdict(Settings()), "enabled": True}


def test_the_same_command_asks_for_nothing_that_is_there(latent_webui, pictures, out):
    told = json.loads((out / "report.json").read_text())
    log = latent_webui.log.read_text()
    assert calibrate(latent_webui, pictures, out) == 0
    assert latent_webui.log.read_text() == log
    again = json.loads((out / "report.json").read_text())
    assert again["rows"] == told["rows"]
