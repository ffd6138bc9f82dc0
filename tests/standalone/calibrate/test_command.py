"""`itermix calibrate` against a server in the shape of a WebUI."""

import datetime
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from calibrate_webui import CHECKPOINT, FEW, Calibrated, asked, enlarged, painted
from PIL import Image

from itermix.settings.presets import PRESETS
from itermix.standalone import images
from itermix.standalone.batch.journal import NAME
from itermix.standalone.calibrate import asking, run, sheet
from itermix.standalone.cli import main

pytestmark = pytest.mark.xdist_group("calibrate")  # they share one that is through

FIXED = 6
"""Hires fix and presets."""


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("# a comment\n\nthe first secret\nthe second secret\n")
    return file


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(scope="module")
def whole(prompts, tmp_path_factory):
    """A server, and the folder of a calibration that is through."""
    server, out = Calibrated().start(), tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "MOST_SETTINGS", FEW)
        assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 0
    yield server, out
    server.stop()


@pytest.fixture
def finished(whole, out):
    """The server of `whole`; `out` is a copy of its folder."""
    server, made = whole
    shutil.copytree(made, out)
    return server


def calibrate(server, out, *more):
    return main(["calibrate", "--server", server.url, "--out", str(out), "--steps", "8", *map(str, more)])


def report(out):
    return json.loads((out / "report.json").read_text())


def after(server, count, then):
    """Let the server do something, once, when it has painted so many large pictures."""
    painted = []

    def reply(request):
        painted.append(request)
        if len(painted) == count:
            then()
        return enlarged(request)

    server.reply = reply


def test_a_run_measures_shows_and_keeps(few, server, prompts, out, capsys):
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30, "--keep", "Mine") == 0
    told = report(out)
    rows = {row["name"]: row for row in told["rows"]}
    assert {"enlarged", "hires fix 0.3", "hires fix 0.5", "hires fix 0.7", "Balanced", "Faithful", "Creative"} < set(
        rows
    )
    assert (told["complete"], told["pictures"], told["webui"]) == (True, 2, "v1.10.1")
    assert sum(row["kind"] == "search" for row in told["rows"]) == run.MOST_SETTINGS
    best = max((row for row in told["rows"] if "settings" in row and row["n"] == 2), key=lambda row: row["score"])
    assert told["best"] == best["name"]
    assert best["behind"] == 0 <= min(row["behind"] for row in told["rows"] if "settings" in row)
    assert rows["hires fix 0.3"]["fidelity"] > rows["hires fix 0.7"]["fidelity"]
    assert rows["hires fix 0.3"]["calls"] == 8
    assert rows["Balanced"]["calls"] == 8
    assert rows["hires fix 0.5"]["over_hires_fix"] == 0
    assert server.kept == {"Mine": best["settings"]}
    assert server.bound == {CHECKPOINT["hash"]: "Mine"}
    said = capsys.readouterr()
    assert re.search(r"It ends at about \d\d:\d\d\.", said.out)
    assert re.search(r"\d+ pictures until about \d\d:\d\d", said.err)
    assert f"Kept {best['name']} as Mine; Automatic takes it with small.safetensors [0123456789]." in said.out
    assert len(asked(server)) == len(set(asked(server)))


def test_what_is_done_is_never_asked_for_again(few, finished, prompts, out):
    server = finished
    before, told = len(server.requests), report(out)
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30, "--keep", "Mine", "--choose", "Creative") == 0
    assert len(server.requests) == before
    assert report(out)["rows"] == told["rows"]
    assert server.kept["Mine"].items() >= {"alpha": 1.0, "blending": "wavelet"}.items()


def test_the_end_that_is_told_is_that_of_what_is_left(few, finished, prompts, out, capsys):
    state = json.loads((out / "state.json").read_text())
    (out / "state.json").write_text(json.dumps({**state, "spent": 1800.0}))
    before = datetime.datetime.now()
    assert calibrate(finished, out, "--prompts", prompts, "--budget", 30) == 0
    told = re.search(r"It ends at about (\d\d:\d\d)\.", capsys.readouterr().out)[1]
    minutes = {f"{before + datetime.timedelta(minutes=k):%H:%M}" for k in range(3)}
    assert told in minutes


def test_ctrl_c_finishes_the_picture_and_the_next_run_goes_on(few, server, prompts, out, capsys):
    after(server, FIXED + 2, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 130
    said = capsys.readouterr()
    assert "What is at work is finished first" in said.err
    assert "Stopped before its end; the same command goes on." in said.out
    told = report(out)
    assert not told["complete"]
    assert told["pictures"] == 1  # the first was through, and is shown
    assert (out / "sheet.html").exists()
    assert len(list((out / "results").rglob("*.png"))) == FIXED + 2
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 0
    assert report(out)["complete"]
    assert len(asked(server)) == len(set(asked(server)))


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def in_the_first_source(server, monkeypatch):
    def reply(request):
        press_ctrl_c()
        return painted(request)

    server.replies["/sdapi/v1/txt2img"] = reply


def in_the_search(server, monkeypatch):
    after(server, 2 * FIXED + 1, press_ctrl_c)


def while_the_sheet_is_drawn(server, monkeypatch):
    write = sheet.write

    def pressed(*args):
        press_ctrl_c()
        write(*args)

    monkeypatch.setattr(sheet, "write", pressed)


MOMENTS = {
    in_the_first_source: (1, False),
    in_the_search: (2 + 2 * FIXED + 1, True),
    while_the_sheet_is_drawn: (None, True),
}
"""{how it is stopped: (pictures that there are then, None for all; whether something was compared)}."""


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_it_is_stopped_at_any_moment_says_so_and_goes_on(few, whole, server, prompts, out, monkeypatch, capsys, moment):
    count, compared = MOMENTS[moment]
    complete, made = whole[1], len(whole[0].requests)
    with monkeypatch.context() as patch:
        moment(server, patch)
        assert calibrate(server, out, "--prompts", prompts, "--budget", 30, "--keep", "Mine") == 130
    said = capsys.readouterr()
    assert said.err.endswith("itermix: stopped\n")
    assert "Nothing was kept." in said.out
    assert ("Best by the numbers: " in said.out) == compared == (out / "sheet.html").exists()
    assert ("the same command goes on" in said.out.partition("\n")[2].partition("\n")[2]) == (count is not None)
    assert len(asked(server)) == (count or made)
    assert server.kept == {}
    server.reply, server.replies["/sdapi/v1/txt2img"] = enlarged, painted
    measured = len(json.loads((out / "state.json").read_text())["numbers"])
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30, "--keep", "Mine") == 0
    assert (f"and {measured} pictures are measured already." in capsys.readouterr().out) == (measured > 0)
    assert list(server.kept) == ["Mine"]
    assert len(asked(server)) == len(set(asked(server))) == made
    assert [row["name"] for row in report(out)["rows"]] == [row["name"] for row in report(complete)["rows"]]


def test_a_run_that_is_killed_goes_on(few, server, prompts, out):
    flags = ["--server", server.url, "--out", out, "--steps", "8", "--prompts", prompts, "--budget", "30"]
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-m", "itermix", "calibrate", *map(str, flags)])
    after(server, FIXED + 2, process.kill)
    assert process.wait(timeout=120) == -signal.SIGKILL
    server.reply = enlarged
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 0
    assert report(out)["complete"]
    again = [request for request in asked(server) if asked(server).count(request) > 1]
    assert len(set(again)) <= 1  # the one whose answer nobody took


def test_it_ends_when_the_time_is_over_and_more_time_goes_on(few, server, prompts, out, monkeypatch, capsys):
    left = run.Calibration._left
    monkeypatch.setattr(run.Calibration, "_left", lambda self: left(self) if len(server.requests) < 12 else -1.0)
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 0
    assert "The time was over before all was tried" in capsys.readouterr().out
    assert not report(out)["complete"]
    assert len(server.requests) == 12
    monkeypatch.undo()
    monkeypatch.setattr(run, "MOST_SETTINGS", 4)
    assert calibrate(server, out, "--prompts", prompts, "--budget", 60) == 0
    assert report(out)["complete"]
    assert len(asked(server)) == len(set(asked(server)))


def test_a_webui_that_becomes_slower_gets_fewer_pictures_and_not_less_search(few, server, tmp_path, out, monkeypatch):
    prompts = tmp_path / "many.txt"
    prompts.write_text("\n".join(f"picture {k}" for k in range(5)))
    spent = run.Calibration._spent
    slow = 3 * (FIXED + 1)
    monkeypatch.setattr(
        run.Calibration, "_spent", lambda self: spent(self) + (1100 if len(server.requests) >= slow else 0)
    )
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 0
    told = report(out)
    assert told["pictures"] == 3
    assert any(row["kind"] == "search" and row["n"] == 3 for row in told["rows"])
    asked_before = len(server.requests)
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 0
    assert len(server.requests) == asked_before


def test_what_the_webui_refuses_is_left_out_and_said(few, server, prompts, out):
    def reply(request):
        if request.get("script_args", [{}])[0].get("blending") == "clean wavelet":
            return 422, {"detail": "Iterative Mixing: blending = 'clean wavelet' is not possible here."}
        return enlarged(request)

    server.reply = reply
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 0
    told = report(out)
    assert list(told["refused"]) == ["Faithful"]
    assert "is not possible here" in told["refused"]["Faithful"]
    assert "Faithful" not in {row["name"] for row in told["rows"]}
    assert "Faithful was refused: " in (out / "report.md").read_text()


def test_a_server_that_fails_now_and_then_is_asked_again(few, server, prompts, out, monkeypatch):
    monkeypatch.setattr(asking, "REST", 0.01)
    fails = iter([True, False, False, True] + 100 * [False])
    server.reply = lambda request: (500, {"errors": "out of memory"}) if next(fails) else enlarged(request)
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 0
    assert report(out)["complete"]


def test_a_report_has_no_prompts_unless_asked(few, finished, prompts, out):
    server = finished
    for name in ("report.json", "report.md", "sheet.html"):
        text = (out / name).read_text()
        assert "secret" not in text
        assert server.url not in text
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30, "--with-prompts") == 0
    assert report(out)["prompts"] == ["the first secret", "the second secret"]
    assert "the second secret" in (out / "report.md").read_text()


def test_the_sheet_is_one_file(finished, out):
    text = (out / "sheet.html").read_text()
    assert not re.search(r'(src|href)\s*=\s*"(?!data:)', text)
    assert "{{" not in text
    data = json.loads(re.search(r"const DATA = (.*);\n", text)[1])
    assert len(data["pictures"]) == 2
    for picture in data["pictures"]:
        assert {"source", "hires fix 0.5", *list(PRESETS)[:3], data["right"]} <= set(picture["images"])
    with images.opened((out / "sheet.png").read_bytes(), "sheet") as sheet:
        assert sheet.width > 2 * 256


def test_own_pictures_keep_their_prompts_and_are_reduced(few, server, tmp_path, out):
    folder = tmp_path / "photos"
    folder.mkdir()
    how = "a boat\nSteps: 6, Sampler: Euler a, Schedule type: Karras, CFG scale: 4.0, Seed: 77, Size: 2000x1000"
    (folder / "large.png").write_bytes(images.png(Image.linear_gradient("L").resize((1300, 650)), how))
    (folder / "odd.png").write_bytes(images.png(Image.linear_gradient("L").resize((101, 90))))
    command = ["calibrate", "--server", server.url, "--out", str(out), "--pictures", str(folder), "--budget", "30"]
    assert main(command) == 0
    told = report(out)
    assert told["sizes"] == ["1024x512", "96x88"]
    assert told["sources"] == "pictures"
    (of_boat,) = {
        (each["prompt"], each["seed"], each["cfg_scale"], each["sampler_name"])
        for each in server.requests
        if each["prompt"]
    }
    assert of_boat == ("a boat", 77, 4.0, "Euler a")
    assert len(asked(server)) == len(set(asked(server)))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budget", "0"], "'0' is not possible"),
        (["--scale", "5"], "invalid choice: 5"),
        (["--size", "100"], "--size 100 is not possible. Allowed: a multiple of 8 from 32 to 2048."),
        (["--picture-seed", "-1"], "--picture-seed -1 is not possible"),
        (["--prompt", "a cat"], "--prompt needs --pictures"),
        (["--choose", "Faithful"], "--choose needs --keep NAME"),
        (["--pictures", "nowhere"], "--pictures nowhere is not possible. Allowed: a folder of pictures."),
        (["--server", "nowhere"], "--server nowhere is not possible"),
    ],
)
def test_wrong_options_are_sentences(server, out, flags, said, capsys):
    try:
        code = calibrate(server, out, *flags)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert said in capsys.readouterr().err
    assert not server.requests


def test_another_checkpoint_wants_another_folder(finished, server, prompts, out, capsys):
    server.lists["/itermix/v1/facts"]["checkpoint"] = {"name": "other", "hash": "ffff"}
    assert calibrate(server, out, "--prompts", prompts, "--budget", 30) == 2
    assert "checkpoint = other [ffff] is not possible. Allowed in " in capsys.readouterr().err


def test_a_webui_that_tells_no_checkpoint_is_not_tried(server, out, capsys):
    server.lists["/itermix/v1/facts"] = {"network": None}
    assert calibrate(server, out) == 2
    assert "tells of no checkpoint" in capsys.readouterr().err
    assert not server.requests


def test_a_row_that_is_not_there_cannot_be_kept(few, finished, prompts, out, capsys):
    assert calibrate(finished, out, "--prompts", prompts, "--budget", 30, "--keep", "Other", "--choose", "Best") == 2
    assert "--choose Best is not possible. Allowed: " in capsys.readouterr().err
    assert "Other" not in finished.kept


def test_the_journal_is_that_of_batches(finished, out):
    with closing(sqlite3.connect(out / NAME)) as db:
        states = {state for (state,) in db.execute("SELECT state FROM pictures")}
        count = db.execute("SELECT count(*) FROM pictures").fetchone()[0]
    assert states == {"done"}
    assert count == len(finished.requests)
