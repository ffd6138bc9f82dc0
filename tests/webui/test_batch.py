"""`itermix batch` with a real WebUI among its servers."""

import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from fake_webui import FakeWebUI, enlarged
from payloads import SIZE, photograph
from PIL import Image

from itermix.standalone import images
from itermix.standalone.batch.journal import NAME
from itermix.standalone.cli import main

NAMES = [f"{folder}{number}.png" for folder in ("", "holiday/", "holiday/day 2/") for number in range(4)]


@pytest.fixture
def photos(tmp_path):
    """A folder of photographs of which each tells how it was made."""
    for seed, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        how = f"Steps: 2, Sampler: Euler, Schedule type: Karras, CFG scale: 2.0, Seed: {seed}, Size: {SIZE}x{SIZE}"
        path.write_bytes(images.png(photograph(SIZE), f"{name}, a photograph\nNegative prompt: blurred\n{how}"))
    return tmp_path / "photos"


def check(out, names):
    for name in names:
        with Image.open(out / name) as image:
            assert image.size == (1.5 * SIZE, 1.5 * SIZE)
            infotext = image.info["parameters"]
        assert infotext.startswith(f"{name}, a photograph\nNegative prompt: blurred\nSteps: 14, Sampler: Euler, ")
        assert f"CFG scale: 2.0, Seed: {NAMES.index(name)}, Size: 96x96, " in infotext
        assert "Itermix enabled: True, Itermix alpha: 0.6, Itermix steps: 8, Itermix scale: 1.5" in infotext


def test_a_folder_through_the_webui_alone(webui, photos, tmp_path):
    command = ["batch", str(photos), str(tmp_path / "out"), "--server", webui.url, "--scale", "1.5", "--alpha", "0.6"]
    assert main(command) == 0
    check(tmp_path / "out", NAMES)
    (photos / NAMES[0]).unlink()
    assert main(command) == 0  # all done, and what has no source any longer stays
    check(tmp_path / "out", NAMES)


def test_a_server_without_the_upscaler_or_sampler_gets_no_picture(webui, photos, tmp_path, capsys):
    command = ["batch", str(photos / "holiday" / "day 2"), str(tmp_path / "out"), "--server", webui.url]
    for flag, name in (("upscaler", "ESRGANN"), ("sampler", "Eulre")):
        assert main([*command, f"--{flag}", name]) == 2
        assert f"The WebUI at {webui.url} has no {flag} {name}." in capsys.readouterr().err
    assert main([*command, "--upscaler", "None", "--sampler", "Euler a", "--scheduler", "Karras"]) == 0


def test_a_wrong_setting_fails_with_the_webui_s_sentence(webui, photos, tmp_path, capsys):
    command = ["batch", str(photos / "holiday" / "day 2"), str(tmp_path / "out"), "--server", webui.url]
    assert main([*command, "--start-at-step", "8"]) == 1
    said = capsys.readouterr().out
    assert "0.png failed: Iterative Mixing: start_at_step = 8 is not possible. Allowed: " in said
    assert "0 done, 0 left, 4 failed, 0 done before." in said


def test_the_webui_takes_over_from_servers_that_fail(webui, photos, tmp_path):
    pytest.importorskip("ray")

    def dying(request):
        if len(dies.requests) < 3:
            return enlarged(request)
        dies.stop()
        raise ConnectionError

    dies = FakeWebUI(dying).start()
    errs = FakeWebUI(lambda request: (500, {"detail": "", "errors": "out of memory"})).start()
    out = tmp_path / "out"
    servers = ("--server", dies.url, "--server", errs.url, "--server", webui.url)
    try:
        assert main(["batch", str(photos), str(out), *servers, "--scale", "1.5", "--alpha", "0.6"]) == 0
    finally:
        errs.stop()
    with closing(sqlite3.connect(out / NAME)) as db:
        by_server = dict(db.execute("SELECT target, server FROM pictures WHERE state = 'done'"))
    assert sorted(by_server) == sorted(NAMES)
    assert all((out / name).exists() for name in NAMES)
    count = Counter(by_server.values())
    assert count[dies.url] <= 2
    assert count[errs.url] == 0
    check(out, [name for name, server in by_server.items() if server == webui.url])
