"""`itermix batch` through servers in the shape of the WebUI's API."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
import types
import unittest.mock
from collections import Counter
from contextlib import closing
from pathlib import Path, PurePath

import fake_webui
import pytest
from batches import batch, journal, results, write
from fake_webui import FakeWebUI, enlarged
from PIL import ExifTags, Image

from itermix import settings
from itermix.settings import UpscaleSettings
from itermix.standalone import client
from itermix.standalone.batch import plan, run, workers
from itermix.standalone.batch.journal import NAME, Journal
from itermix.standalone.cli import main

ROOT = Path(__file__).parents[2]
on_ray = pytest.mark.xdist_group("ray")  # one process for all that use Ray, which takes seconds to start
HANG = 600
"""Seconds after which a test counts as one that never ends."""
pytestmark = pytest.mark.usefixtures("short_rests")
ERROR = 500, {"error": "OSError", "errors": "out of memory"}


@pytest.fixture(scope="module")
def ray():
    """Ray on this machine, started as `itermix batch` does it, once for all tests."""
    actors = workers.RayActors([])
    yield
    actors.close()


def test_names_and_sub_folders_and_infotexts_are_kept(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source = write(tmp_path / "in", "a.png", "sub/b.png", "sub/deep er/c.png", ".hidden/d.png", "sub/._e.png")
    (source / "notes.txt").write_text("no picture")
    out = tmp_path / "out"
    assert batch(source, out, fake, flags="--scale 3 --alpha 0.5 --cfg 4") == 0
    found = results(out)
    assert sorted(found) == ["a.png", "sub/b.png", "sub/deep er/c.png"]
    for name, image in found.items():
        assert image.size == (48, 48)
        assert image.info["parameters"].startswith(f"{name}\nSteps: 2, Seed: ")
        assert "Itermix alpha: 0.5, Itermix steps: 8, Itermix scale: 3.0" in image.info["parameters"]
    request = next(request for request in fake.requests if request["prompt"] == "sub/b.png")
    assert request["script_args"] == [{"enabled": True, "scale": 3.0, "alpha": 0.5}]
    asked = {name: request[name] for name in ("negative_prompt", "steps", "sampler_name", "seed", "cfg_scale")}
    assert asked == {
        "negative_prompt": "blurred",
        "steps": 2,
        "sampler_name": "Euler",
        "seed": 1,
        "cfg_scale": 4.0,  # the option's, not the picture's
    }
    assert fake.most_at_work == 1
    said = capsys.readouterr().out
    assert f"{fake.url}: pictures: 3 at " in said
    assert said.endswith("3 done, 0 left, 0 failed, 0 done before.\n")


def test_a_second_run_goes_on(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    assert batch(source, out, fake) == 0
    (out / "b.png").unlink()
    write(source / "more", "c.png")
    (fake.requests).clear()
    assert batch(source, out, fake) == 0
    assert sorted(request["prompt"] for request in fake.requests) == ["b.png", "c.png"]
    assert "2 done, 0 left, 0 failed, 1 done before." in capsys.readouterr().out
    assert batch(source, out, "http://127.0.0.1:1") == 0  # nothing is left to ask a server for
    assert len(fake.requests) == 2


def test_other_settings_or_sources_are_an_error_unless_to_be_replaced(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    assert batch(source, out, fake) == 0
    before = (out / "a.png").read_bytes()
    assert batch(source, out, fake, flags="--alpha 0.6") == 2
    assert "a.png, b.png in" in (said := capsys.readouterr().err)
    assert "with other settings" in said
    assert (out / "a.png").read_bytes() == before
    assert batch(source, out, fake, flags="--alpha 0.6 --replace") == 0
    assert (out / "a.png").read_bytes() != before
    assert batch(source, out, fake, flags="--alpha 0.6") == 0
    write(source, "b.png")  # of other pixels than before, when it was the second
    assert batch(source, out, fake, flags="--alpha 0.6") == 2
    assert "b.png in" in capsys.readouterr().err
    assert batch(source, out, fake, flags="--alpha 0.6 --replace") == 0
    assert len(fake.requests) == 5


@pytest.mark.parametrize("flags", ["", "--replace"])
def test_a_file_of_someone_else_is_never_written_over(fakes, tmp_path, capsys, flags):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png", "sub/b.png"), tmp_path / "out"
    write(out, "sub/b.png")
    before = (out / "sub" / "b.png").read_bytes()
    assert batch(source, out, fake, flags=flags) == 2
    assert "sub/b.png in" in (said := capsys.readouterr().err)
    assert "was not made by a batch" in said
    assert (out / "sub" / "b.png").read_bytes() == before
    assert fake.requests == []


def test_what_no_server_can_mend_fails_with_its_reason_and_the_others_are_made(fakes, tmp_path, capsys):
    def reply(request):
        if request["prompt"] == "refused.png":
            return 422, {"error": "SettingsError", "detail": "Iterative Mixing: width = 8 is not possible."}
        return enlarged(request)

    (fake,) = fakes(reply=reply)
    source = write(tmp_path / "in", "good.png", "refused.png")
    (source / "broken.png").write_bytes((source / "good.png").read_bytes()[:-60])
    (source / "text.png").write_text("no picture")
    out = tmp_path / "out"
    assert batch(source, out, fake) == 1
    said = capsys.readouterr().out
    assert "refused.png failed: Iterative Mixing: width = 8 is not possible." in said
    assert f"broken.png failed: {source / 'broken.png'} can't be read as a picture" in said
    assert f"text.png failed: {source / 'text.png'} can't be read as a picture" in said
    assert "1 done, 0 left, 3 failed, 0 done before." in said
    assert [request["prompt"] for request in fake.requests] == ["good.png", "refused.png"]
    states = {"good.png": "done", "refused.png": "failed", "broken.png": "failed", "text.png": "failed"}
    assert dict(journal(out)) == states
    fake.reply = enlarged
    assert batch(source, out, fake) == 1  # which tries those that failed again
    assert dict(journal(out))["refused.png"] == "done"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (ERROR, "out of memory"),
        ((503, {}), "status 503"),
        ((429, {}), "status 429"),
        ((200, {"images": []}), "holds no picture"),
        ((200, {"images": ["bm8gcGljdHVyZQ=="], "info": '{"infotexts": [""]}'}), "holds no picture"),
        ("unfinished", "The picture was not finished: phase 2 of 2: it failed (out of memory), and more"),
        ("gone", "No WebUI answers"),
        ("slow", "timed out"),
    ],
)
def test_what_may_pass_is_tried_again_but_not_forever(fakes, tmp_path, capsys, wrong, reason):
    def reply(request):
        if request["prompt"] == "a.png" and len(fake.requests) > recovers_after:
            return enlarged(request)
        if wrong == "unfinished":
            text = 'a.png\nSteps: 2, Itermix unfinished: "phase 2 of 2: it failed (out of memory), and more"'
            return fake_webui.picture_answer(fake_webui.source_of(request).resize((32, 32)), text)
        if wrong == "slow":
            time.sleep(1.5)
        if wrong in ("gone", "slow"):
            raise ConnectionError
        return wrong

    recovers_after = 2
    (fake,) = fakes(reply=reply)
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    flags = "--attempts 3 --timeout 1"
    assert batch(source, out, fake, flags=flags) == 0
    assert len(fake.requests) == 3
    assert f"{fake.url}: pictures: 1 at " in (said := capsys.readouterr().out)
    assert "failed attempts: 2" in said
    if wrong == "slow":
        return  # the other half would say the same
    recovers_after = 99
    assert batch(source, tmp_path / "other", fake, flags=flags) == 1
    assert len(fake.requests) == 6
    assert reason in (said := capsys.readouterr().out)
    assert "(3 attempts)" in said
    assert journal(tmp_path / "other") == [("a.png", "failed")]


@on_ray
def test_a_server_that_cannot_upscale_gets_no_picture(fakes, ray, tmp_path, capsys):
    def reply(request):
        while not len(without.logins) > 1:  # asked, and asked again
            time.sleep(0.01)
        return enlarged(request)

    good, without = fakes(2, reply)
    without.scripts = ["loopback"]
    source, out = write(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    assert batch(source, out, good, without) == 0
    assert (len(good.requests), len(without.requests)) == (2, 0)
    said = capsys.readouterr()
    assert (
        f"{without.url} is taken out, and tried again now and then: The WebUI at {without.url} has no script"
        in said.err
    )
    assert f"{good.url}: pictures: 2 at " in said.out


def test_no_server_at_all_is_told_at_once(fakes, tmp_path, capsys):
    (without,) = fakes()
    without.scripts = []
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    for server, message in ((without, "install the extension there"), ("http://127.0.0.1:1", "No WebUI answers")):
        assert batch(source, out, server) == 2
        assert message in capsys.readouterr().err
    assert journal(out) == [("a.png", "waiting")]


def test_when_all_servers_are_gone_for_too_long_the_rest_is_left(fakes, tmp_path, capsys):
    def reply(request):
        if request["prompt"] == "a.png":
            return enlarged(request)
        fake.stop()
        raise ConnectionError

    fake = FakeWebUI(reply).start()
    source, out = write(tmp_path / "in", "a.png", "b.png", "c.png"), tmp_path / "out"
    assert batch(source, out, fake, flags="--give-up 1") == 1
    said = capsys.readouterr()
    assert "No server was usable for" in said.err
    assert "b.png is left: No WebUI answers" in said.out
    assert "1 done, 2 left, 0 failed, 0 done before." in said.out
    assert journal(out) == [("a.png", "done"), ("b.png", "waiting"), ("c.png", "waiting")]


def test_a_server_that_comes_back_goes_on(fakes, tmp_path, capsys):
    def reply(request):
        return enlarged(request) if len(fake.requests) > 4 else ERROR

    (fake,) = fakes(reply=reply)
    source, out = write(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    assert batch(source, out, fake) == 0
    said = capsys.readouterr().err
    assert f"{fake.url} is taken out" in said
    assert f"{fake.url} is back." in said


def test_the_login_is_sent_and_not_shown(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    assert batch(source, out, fake.url.replace("http://", "http://user:p%40ss@")) == 0
    assert set(fake.logins) == {"Basic dXNlcjpwQHNz"}
    said = capsys.readouterr()
    assert "p%40ss" not in said.out + said.err + str(journal(out, "*"))


def test_two_runs_at_once_are_refused(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    out.mkdir()
    with closing(Journal(out)):
        assert batch(source, out, fake) == 2
    assert (
        capsys.readouterr().err
        == f"itermix: Another batch is writing to {out}: wait for it, or choose another folder.\n"
    )
    assert batch(source, out, fake) == 0


def test_ctrl_c_finishes_what_is_at_work(fakes, tmp_path, capsys):
    def reply(request):
        if len(fake.requests) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return enlarged(request)

    (fake,) = fakes(reply=reply)
    source, out = write(tmp_path / "in", "a.png", "b.png", "c.png"), tmp_path / "out"
    assert batch(source, out, fake) == 130
    assert sorted(results(out)) == ["a.png", "b.png"]
    assert "2 done, 1 left, 0 failed, 0 done before." in capsys.readouterr().out
    assert batch(source, out, fake) == 0
    assert len(fake.requests) == 3


def test_ctrl_c_twice_ends_at_once(fakes, tmp_path):
    def reply(request):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        ended.wait()
        return enlarged(request)

    ended = threading.Event()
    (fake,) = fakes(reply=reply)
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    assert batch(source, out, fake) == 130
    assert fake.answered == []
    ended.set()
    assert journal(out) == [("a.png", "waiting")]


def test_a_killed_driver_resumes_without_redoing(fakes, tmp_path):
    def slow(request):
        time.sleep(0.05)
        return enlarged(request)

    (fake,) = fakes(reply=slow)
    names = [f"{number:02}.png" for number in range(30)]
    source, out = write(tmp_path / "in", *names), tmp_path / "out"
    command = [sys.executable, "-m", "itermix", "batch", str(source), str(out), "--server", fake.url]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(fake.answered) < 10:
        assert driver.poll() is None
        time.sleep(0.005)
    driver.kill()
    driver.wait()
    made = {path: path.stat().st_mtime_ns for path in out.glob("[!.]*.png")}
    assert 5 < len(made) < 30
    assert batch(source, out, fake) == 0
    assert sorted(results(out)) == names
    assert {path: path.stat().st_mtime_ns for path in made} == made
    count = Counter(fake.answered)
    assert set(count) == set(names)
    assert sum(count.values()) <= len(names) + 1  # the one that was at work when the driver was killed


@on_ray
def test_200_pictures_of_which_each_is_made_once_though_servers_fail(ray, tmp_path, capsys):
    """The built-in model behind three servers: one is killed in the middle, one answers with errors at random."""
    names = [f"{number % 7}/{number:03}.png" for number in range(200)]
    source, out, log = write(tmp_path / "in", *names), tmp_path / "out", tmp_path / "answered.txt"
    command = [sys.executable, fake_webui.__file__, str(log)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    servers = [parent.stdout.readline().split() for _ in range(3)]
    killed, errors, _ = (url for url, _ in servers)
    to_kill = int(servers[0][1])
    accept = run.Batch.accept

    def kill_in_the_middle(self, *args):
        accept(self, *args)
        if len(self.done) == 60:
            os.kill(to_kill, signal.SIGKILL)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run.Batch, "accept", kill_in_the_middle)
            assert batch(source, out, *(url for url, _ in servers), flags="--attempts 50") == 0
    finally:
        for _, pid in servers[1:]:
            os.kill(int(pid), signal.SIGKILL)
        parent.kill()
        parent.wait()
    found = results(out)
    assert sorted(found) == sorted(names)
    for name, image in found.items():
        assert image.size == (32, 32)
        assert image.info["parameters"].startswith(f"{name}\n")
    assert Counter(log.read_text().splitlines()) == Counter(names)
    by_server = Counter(server for _, server in journal(out, "state, server"))
    assert sum(by_server.values()) == 200
    assert all(by_server[url] > 10 for url, _ in servers)
    said = capsys.readouterr()
    assert f"{killed} is taken out, and tried again now and then: No WebUI answers" in said.err
    assert f"{errors}: pictures: {by_server[errors]} at " in said.out
    assert "200 done, 0 left, 0 failed, 0 done before." in said.out


@on_ray
def test_all_servers_are_at_work_at_once(fakes, ray, tmp_path):
    def together(request):
        at_work.wait(HANG)  # until every server has a picture
        return enlarged(request)

    at_work = threading.Barrier(4)
    servers = fakes(4, together)
    source = write(tmp_path / "in", *(f"{number}.png" for number in range(20)))
    assert batch(source, tmp_path / "out", *servers) == 0
    assert [len(server.answered) for server in servers] == [5] * 4
    assert [server.most_at_work for server in servers] == [1] * 4


def test_the_dry_run_prints_plan_and_model_calls_and_asks_nobody(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png", "b.png", "c.png"), tmp_path / "out"
    (source / "c.png").write_text("no picture")
    assert batch(source, out, fake, flags="--scale 4 --steps 10 --sampler Heun --dry-run") == 1
    said = capsys.readouterr().out.splitlines()
    plan = "16x16 -> 32x32 -> 64x64, 10 steps each: 38 model calls; prompt of its PNG text"
    assert said[:2] == [f"{name}.png: {plan}" for name in "ab"]
    assert said[-1] == "2 to make with 76 model calls, 1 failed, 0 done before."
    assert fake.requests == fake.logins == []
    assert not out.exists()
    (source / "c.png").unlink()
    assert batch(source, out, fake) == 0
    assert batch(source, out, fake, flags="--dry-run") == 0
    assert capsys.readouterr().out.endswith("0 to make with 0 model calls, 0 failed, 2 done before.\n")
    assert batch(source, tmp_path / "new", fake, flags="--dry-run --sampler Restart") == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "a.png: 16x16 -> 32x32, 8 steps: model calls as the sampler decides; prompt of its PNG text\n"
    )
    assert said.endswith("2 to make with 0 model calls and those of 2 that aren't known, 0 failed, 0 done before.\n")
    flags = "--dry-run --scale 8 --steps 10 --window-batch 4 --cleanup 0.2 --window"
    assert batch(source, tmp_path / "new", fake, flags=f"{flags} 16") == 0
    # 16x16 -> 32x32 -> 64x64 -> 128x128: a latent of 16 pixels fits, so a call stays one.
    assert f"-> 128x128, 10 steps each: {3 * 10 + 4} model calls" in capsys.readouterr().out
    assert batch(source, tmp_path / "new", fake, flags=f"{flags} 8") == 0
    # Of the last phase 9 crops in 3 calls; 4 of the 18 steps that leave 10 with denoise 0.5 are the clean-up's.
    said = capsys.readouterr().out
    assert "10 steps each, 1, then 1, then 3 calls of the model in the place of one: " in said
    assert f": {10 + 10 + 10 * 3 + 4 * 3} model calls" in said
    assert batch(source, tmp_path / "new", fake, flags="--dry-run --steps 20 --skip-tolerance 0.01") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "a.png: 16x16 -> 32x32, 20 steps: at most 20 model calls; prompt of its PNG text"
    assert said[-1].startswith("2 to make with at most 40 model calls")
    assert batch(source, tmp_path / "new", fake, flags="--dry-run --start-at-step 8") == 1
    assert "a.png failed: start_at_step = 8 is not possible. Allowed: less than" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("IN OUT", "required: --server"),
        ("IN OUT --server 127.0.0.1:7860", "--server 127.0.0.1:7860 is not possible. Allowed: an address such as"),
        ("IN OUT --server http://a --server http://a", "--server http://a is given twice."),
        ("IN OUT --server http://a --attempts 0", "--attempts: '0' is not possible. Allowed: a whole number from 1."),
        ("IN OUT --server http://a --alpha 101", "alpha = 101 is not possible"),
        ("nowhere OUT --server http://a", "nowhere: No such file"),
        ("IN/empty OUT --server http://a", "There is no picture in"),
        ("IN/one IN/one --server http://a", "would be written over"),
        ("IN/a.png OUT --server http://a", "is neither a folder nor a list"),
        ("IN/two OUT --server http://a", "would both become a.png: rename one of them."),
    ],
)
def test_bad_input_is_one_sentence(argv, message, capsys, tmp_path, monkeypatch):
    write(tmp_path / "IN", "a.png", "two/a.png", "two/a.JPG", "one/a.png", "empty/.keep.png")
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["batch", *argv.split()])
    except SystemExit as done:
        code = done.code
    assert code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "OUT").exists()


def test_many_servers_without_ray_name_what_to_install(fakes, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    one, other = fakes(2)
    source = write(tmp_path / "in", "a.png")
    assert batch(source, tmp_path / "out", one, other) == 2
    assert 'Several servers need Ray. Install it with: pip install "sd-webui-itermix[batch]"' in capsys.readouterr().err
    assert batch(source, tmp_path / "out", one, flags="--ray-address auto") == 2
    assert "--ray-address needs Ray." in capsys.readouterr().err
    assert batch(source, tmp_path / "out", one) == 0


@pytest.mark.parametrize("moment", ["write", "replace"])
def test_a_kill_between_writing_and_moving_loses_nothing(tmp_path, monkeypatch, moment):
    """A kill leaves the files as an exception that nobody handles."""
    out, target = tmp_path, PurePath("sub/a.png")
    with closing(Journal(out)) as before:
        before.wait([(target, Path("a.png"))])
        with monkeypatch.context() as patch:
            patch.setattr(os if moment == "write" else Path, "fsync" if moment == "write" else "replace", None)
            with pytest.raises(TypeError):
                before.done(target, "key", b"data", "http://a", 1.0)
        assert not (out / target).exists()
    with closing(Journal(out)) as after:
        if moment == "write":
            assert after.made() == {}
            after.done(target, "key", b"data", "http://a", 1.0)
        assert after.made() == {target: "key"}
    assert (out / target).read_bytes() == b"data"
    assert [path.name for path in (out / "sub").iterdir()] == ["a.png"]


def test_a_file_that_is_no_journal_is_one_sentence(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    out.mkdir()
    (out / NAME).write_text("a text that is much longer than the header of an SQLite file is" * 9)
    assert batch(source, out, fake) == 2
    assert capsys.readouterr().err == f"itermix: {out / NAME} can't be used: file is not a database\n"


def test_what_a_cluster_gets_sent_needs_python_alone():
    tree = ast.parse(Path(client.__file__).read_text())
    modules = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("sampler", "settings", "calls"),
    [
        ("Euler", {}, 20),
        ("Euler", {"denoise": 0.7}, 15),
        ("Euler", {"denoise": 0.7, "rewind": True}, 15 + 8 + 4),
        ("Euler", {"denoise": 0.7, "noise": "inverted"}, 30),
        ("Euler", {"denoise": 0.7, "cleanup": 0.2}, 19),
        ("DPM++ 2M Karras", {"denoise": 0.5}, 11),
        ("DPM++ SDE", {}, 39),
        ("DPM2 a Karras", {}, 39),
        ("DDIM", {}, 18),
        ("PLMS", {"denoise": 0.5}, 10),
        ("HeunPP2", {}, 57),
        ("Euler", {"cleanup": 0.2}, 24),
        ("Euler", {"cleanup": 0.2, "cleanup_steps": 6, "cleanup_sampler": "Heun"}, 31),
        ("Euler", {"start_at_step": 5, "end_at_step": 15}, 10),
        ("Euler", {"scale": 8.0}, 60),
        ("Euler", {"scale": 8.0, "noise": "inverted"}, 120),
        ("DPM++ SDE", {"noise": "inverted", "start_at_step": 5}, 44),
        ("DPM fast", {"noise": "inverted"}, 27),
        ("Restart", {"noise": "inverted"}, None),
        ("Euler", {"rewind": True}, 20 + 10 + 5),
        ("Euler", {"rewind": True, "scale": 8.0, "cleanup": 0.2}, 3 * 35 + 4),
        ("DPM++ SDE", {"rewind": True}, 39 + 19 + 9),
        ("DPM fast", {"rewind": True}, 20 + 11 + 5),
        ("UniPC", {}, None),
        ("Euler", {"cleanup": 0.2, "cleanup_sampler": "Restart"}, None),
    ],
)
def test_model_calls(sampler, settings, calls):
    picture = plan.Picture(Path("a.png"), PurePath("a.png"), (64, 48), {"steps": 20, "sampler_name": sampler}, "")
    asked = {"denoise": 1.0, "steps": 0, **settings}
    assert plan.model_calls_of(picture, UpscaleSettings(**asked))[1] == calls


@pytest.mark.parametrize(("sampler", "calls"), [("Euler", 8), ("DDIM", 8), ("DPM++ SDE", 15), ("", 8)])
@pytest.mark.parametrize("denoise", [0.3, 0.5, 1.0])
def test_as_many_steps_as_the_settings_say_whatever_the_pictures_own(sampler, calls, denoise):
    picture = plan.Picture(Path("a.png"), PurePath("a.png"), (64, 48), {"steps": 33, "sampler_name": sampler}, "")
    words, found = plan.model_calls_of(picture, UpscaleSettings(denoise=denoise))
    assert words == "64x48 -> 128x96, 8 steps"
    assert found == calls


def test_a_turned_photograph_is_planned_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (32, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert plan.looked_at(tmp_path / "a.jpg", PurePath("a.png"), {}).size == (16, 32)


def test_a_cluster_that_is_not_there_is_one_sentence(fakes, tmp_path, capsys, monkeypatch):
    init = unittest.mock.Mock(side_effect=ConnectionError("no cluster"))
    ray = types.SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    servers = fakes(2)
    source = write(tmp_path / "in", "a.png")
    assert batch(source, tmp_path / "out", *servers, flags="--ray-address 10.0.0.1:6379") == 2
    assert capsys.readouterr().err == "itermix: Ray can't be used at 10.0.0.1:6379: no cluster\n"
    assert init.call_count == 1
    assert batch(source, tmp_path / "out", *servers) == 2
    assert capsys.readouterr().err == "itermix: Ray can't be started: no cluster\n"
    assert init.call_count == 1 + workers.STARTS


def test_each_server_is_asked_for_what_the_settings_name(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    fake.lists = {
        "/sdapi/v1/upscalers": [{"name": "None"}, {"name": "ESRGAN"}],
        "/sdapi/v1/samplers": [{"name": "Euler a", "aliases": ["k_euler_a"]}, {"name": "DPM++ 2M"}],
        "/sdapi/v1/schedulers": [{"name": "karras", "label": "Karras", "aliases": None}],
        "/itermix/v1/schema": {
            "properties": {"scale": {}, "enabled": {}, "curve": {"enum": ["cosine"]}, "upscaler": {}}
        },
    }
    for flags, sentence in {
        "--upscaler SwinIR": "has no upscaler SwinIR.",
        "--sampler Heun": "has no sampler Heun.",
        "--scheduler Beta": "has no scheduler Beta.",
        "--alpha 0.5": "has no setting alpha: the extension there is not of version",
        "--curve linear": "has no curve linear: the extension there is not of version",
    }.items():
        assert batch(source, out, fake, flags=flags) == 2
        assert f"The WebUI at {fake.url} {sentence}" in capsys.readouterr().err
    assert fake.requests == []
    flags = "--upscaler ESRGAN --scheduler karras --curve cosine --sampler"
    for number, name in enumerate(["K_Euler_a", "euler a", "DPM++ 2M Karras"]):
        argv = ["batch", str(source), str(tmp_path / str(number)), "--server", fake.url, *flags.split(), name]
        assert main(argv) == 0
    fake.lists = dict.fromkeys(fake.lists)  # as of an older WebUI, which can't say
    assert batch(source, out, fake, flags="--sampler Heun --alpha 0.5") == 0


@pytest.mark.parametrize("content", [[], {}, None, 5, "x", [[1]], [{"name": 5}], {"properties": []}, {"img2img": 5}])
def test_lists_of_any_shape_say_nothing(fakes, tmp_path, content):
    (fake,) = fakes()
    paths = ("/sdapi/v1/samplers", "/sdapi/v1/upscalers", "/sdapi/v1/schedulers", "/itermix/v1/schema")
    fake.lists = dict.fromkeys(paths, content)
    source = write(tmp_path / "in", "a.png")
    assert batch(source, tmp_path / "out", fake, flags="--sampler Heun --upscaler SwinIR --scheduler Beta") == 0


def two_servers(monkeypatch):
    """Without Ray, in threads."""
    monkeypatch.setattr(run, "_workers", lambda servers, address: workers.Threads())


@pytest.mark.parametrize(
    "refusal",
    [
        (422, {"detail": "Iterative Mixing: upscaler = 'ESRGAN' is not possible."}),
        (400, {"detail": "Sampler not found"}),
        (404, {"detail": "Sampler not found"}),
    ],
)
def test_one_bad_server_spoils_no_picture_and_is_named(fakes, tmp_path, capsys, monkeypatch, refusal):
    two_servers(monkeypatch)
    good, bad = fakes(2)
    bad.reply = lambda request: refusal
    names = [f"{number:02}.png" for number in range(30)]
    source, out = write(tmp_path / "in", *names), tmp_path / "out"
    assert batch(source, out, bad, good) == 0
    assert sorted(results(out)) == names
    said = capsys.readouterr()
    summary = next(line for line in said.out.splitlines() if line.startswith(f"{bad.url}: "))
    assert summary.endswith(f" that others made: {refusal[1]['detail']}")
    assert f"{bad.url} stands back, since it refuses what others make: " in said.err


def test_a_picture_of_the_source_s_size_is_no_result(fakes, tmp_path, capsys):
    def same(request):
        return fake_webui.picture_answer(fake_webui.source_of(request), "a\nSteps: 2")

    (fake,) = fakes(reply=same)
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    assert batch(source, out, fake, flags="--scale 4 --attempts 2") == 1
    assert f"The picture of {fake.url} is of 16x16 in the place of 64x64 (2 attempts)" in capsys.readouterr().out
    assert results(out) == {}


@pytest.mark.parametrize(
    "spelling", ["http://LOCALHOST:{port}/", "http://user:pw@127.0.0.1:{port}", "http://[::1]:{port}"]
)
def test_two_spellings_of_one_server(fakes, tmp_path, capsys, spelling):
    (fake,) = fakes()
    source = write(tmp_path / "in", "a.png")
    assert batch(source, tmp_path / "out", fake, spelling.format(port=fake.http.server_port)) == 2
    said = capsys.readouterr().err
    assert "is given twice, also as http://127.0.0.1:" in said
    assert "pw" not in said


def test_nobody_who_listens_ends_the_plan_and_not_the_batch(fakes, tmp_path):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", *(f"{number}.png" for number in range(40))), tmp_path / "out"
    command = [sys.executable, "-m", "itermix", "batch", str(source), str(out), "--server", fake.url]

    def without_a_reader(*flags):
        driver = subprocess.Popen(
            [*command, *flags], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        driver.stdout.close()
        driver.stderr.close()
        return driver.wait(HANG)

    assert without_a_reader("--dry-run") == 141
    assert without_a_reader() == 141
    assert len(results(out)) == 40


@pytest.mark.parametrize("flags", ["--cfg nan", "--cfg inf", "--cfg x"])
def test_numbers_that_are_none_are_refused(tmp_path, capsys, flags):
    source = write(tmp_path / "in", "a.png")
    with pytest.raises(SystemExit):
        batch(source, tmp_path / "out", "http://a", flags=flags)
    assert "is not possible. Allowed: a " in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["-1", "1e9", "1001", "x"])
def test_steps_that_are_none_are_refused(tmp_path, capsys, steps):
    source = write(tmp_path / "in", "a.png")
    assert batch(source, tmp_path / "out", "http://a", flags=f"--steps {steps}") == 2
    assert "is not possible. Allowed: a whole number from 0 to 1000." in capsys.readouterr().err


def test_planning_takes_no_more_for_many_pictures_that_are_alike(tmp_path, capsys, monkeypatch):
    """What is looked at in each is its file; the settings and the phases are reckoned with once."""
    made = []
    check = settings.Settings._check_together
    monkeypatch.setattr(settings.Settings, "_check_together", lambda self: made.append(self) or check(self))
    counts = []
    for number in (5, 60):
        plan._cost.cache_clear()
        plan._changed.cache_clear()
        source = write(tmp_path / str(number), *(f"{name}.png" for name in range(number)))
        made.clear()
        assert batch(source, tmp_path / "out", "http://a", flags="--dry-run --alpha 0.5 --steps 20") == 0
        counts.append(len(made))
    assert counts[0] == counts[1] > 0
