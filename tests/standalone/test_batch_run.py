"""The parts of the command, its bars, and what it prints, without any server."""

from __future__ import annotations

import base64
import errno
import io
import json
import signal
import sys
import types
from collections import Counter
from contextlib import closing
from pathlib import Path, PurePath

import pytest
from batches import journal, write
from PIL import Image

from itermix.settings import UpscaleSettings
from itermix.standalone import images
from itermix.standalone.batch import run
from itermix.standalone.batch.journal import NAME, Journal, JournalError
from itermix.standalone.batch.plan import PlanError
from itermix.standalone.batch.run import Batch, Order
from itermix.standalone.batch.scheduler import NoServer, Policy, Scheduler, Server
from itermix.standalone.batch.workers import RayError, Threads
from itermix.standalone.images import PictureError

A, B, C, D, E = (PurePath(f"{name}.png") for name in "abcde")
SETTINGS = UpscaleSettings(enabled=True, scale=2.0)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "in", "a.png", "b.png", "c.png")


@pytest.fixture
def batch(folder):
    return Batch({target: folder / target for target in (A, B, C)}, SETTINGS, {})


class Bar:
    """In the place of tqdm's."""

    made: list[tuple] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, pictures=None, **options):
        self.pictures = pictures
        self.updates = 0
        Bar.made.append((None if pictures is None else list(pictures), options))

    def __iter__(self):
        return iter(self.pictures)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self):
        self.updates += 1


@pytest.fixture
def bars(monkeypatch):
    """[(what they go over, their options)]."""
    monkeypatch.setattr(run, "tqdm", Bar)
    Bar.made.clear()
    return Bar.made


def test_the_bars(folder, bars, monkeypatch):
    files = {A: folder / "a.png", B: folder / "nowhere.png"}
    batch = Batch(files, SETTINGS, {})
    looking = {"desc": "looking", "unit": " pictures", "leave": False, "delay": 2, "file": run.TERMINAL}
    assert bars == [(list(files.items()), looking)]
    batch.todo = [A]
    monkeypatch.setattr(Scheduler, "run", lambda self, pictures: bars.append(list(pictures)))
    with closing(Journal(folder)) as kept:
        assert batch.make(kept, [], Threads(), Policy()) is False
    making = {"total": 1, "unit": " pictures", "smoothing": 0.05, "file": run.TERMINAL}
    assert bars[1:] == [(None, making), [batch.pictures[A]]]


def test_what_cannot_be_read_has_failed(folder):
    batch = Batch({A: folder / "a.png", B: folder / "nowhere.png"}, SETTINGS, {"seed": 9})
    assert list(batch.pictures) == [A]
    assert batch.pictures[A].generation["seed"] == 9
    assert list(batch.failures) == [B]
    assert "nowhere.png can't be read" in batch.failures[B]
    assert (batch.todo, batch.done) == ([], set())


def test_what_is_to_be_made(batch, tmp_path):
    out = tmp_path / "out"
    keys = {target: picture.key(SETTINGS) for target, picture in batch.pictures.items()}
    batch.choose(out, {A: keys[A]}, replace=False)
    assert batch.todo == [B, C]
    batch.todo = []
    batch.choose(out, {A: "other", B: keys[B]}, replace=True)
    assert batch.todo == [A, C]
    with pytest.raises(PlanError) as error:
        batch.choose(out, {A: "other", B: "other"}, replace=False)
    assert str(error.value) == (
        f"a.png, b.png in {out} was made from another picture or with other settings. Choose another folder, or "
        "replace such results with --replace."
    )


def test_files_in_the_place_of_results(batch, tmp_path):
    out = write(tmp_path / "out", "a.png", "c.png")
    with pytest.raises(PlanError) as error:
        batch.choose(out, {}, replace=True)
    assert str(error.value) == (
        f"a.png, c.png in {out} was not made by a batch: choose another folder for the results."
    )
    (out / "c.png").unlink()
    (out / "b.png").hardlink_to(out / "a.png")  # as one file is on a drive that takes both names for it
    batch.todo = []
    batch.choose(out, {A: batch.pictures[A].key(SETTINGS)}, replace=False)
    assert batch.todo == [C]
    assert list(batch.pictures) == [A, C]
    assert batch.failures == {
        B: f"{out / 'b.png'} is the result of another picture: this drive takes names for one that differ in capitals "
        "or accents"
    }


def test_what_is_left_and_why(batch):
    batch.todo = [A, B, C]
    batch._journal = types.SimpleNamespace(failed=lambda *args: told.append(args))
    batch._bar = Bar()
    told, said = [], []
    batch.say = said.append
    batch.done.add(A)
    batch.failed(batch.pictures[B], "busy", False)
    assert batch.left() == {B: "busy", C: ""}
    assert (batch.failures, said, batch._bar.updates) == ({}, [], 0)
    batch.failed(batch.pictures[B], "refused", True)
    assert batch.left() == {C: ""}
    assert (batch.failures, said, batch._bar.updates) == ({B: "refused"}, ["b.png: refused"], 1)
    assert told == [(B, "busy", False), (B, "refused", True)]


def test_a_picture_is_asked_for_where_its_result_can_be_written(batch, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with closing(Journal(out)) as batch._journal:
        picture = batch.pictures[A]
        assert batch.request(picture) == picture.request(SETTINGS)
        assert not list(out.glob("*.p*"))
        (out / "a.png").touch()
        with pytest.raises(PictureError, match=r"a.png can't be written: there is such a file"):
            batch.request(picture)
        (out / "b.png").mkdir()
        batch._journal._own.add(B)
        with pytest.raises(PictureError, match=r"b.png can't be written: Is a directory$"):
            batch.request(batch.pictures[B])


def test_a_picture_that_came_is_kept_and_counted(batch, tmp_path):
    batch._bar = Bar()
    made = images.png(Image.new("RGB", (32, 32)), "x\nSteps: 2")
    answer = {"images": [base64.b64encode(made).decode()], "info": json.dumps({"infotexts": ["x"]})}
    with closing(Journal(tmp_path)) as batch._journal:
        batch._journal.wait([(A, Path("a"))])
        batch.accept(batch.pictures[A], (200, json.dumps(answer).encode()), Server("http://u:p@a"), 1.5)
        assert batch._journal.made() == {A: batch.pictures[A].key(SETTINGS)}
    assert (tmp_path / "a.png").read_bytes() == made
    assert journal(tmp_path, "server, seconds, state") == [("http://a", 1.5, "done")]
    assert (batch.done, batch._bar.updates) == ({A}, 1)


def test_what_the_journal_hears_first(batch, folder):
    batch.todo, batch.failures = [A, C], {B: "broken"}
    told = []
    batch._journal = types.SimpleNamespace(
        wait=lambda pairs: told.append(list(pairs)), failed=lambda *args, **named: told.append((args, named))
    )
    batch._enter()
    assert told == [
        [(A, folder / "a.png"), (C, folder / "c.png"), (B, folder / "b.png")],
        ((B, "broken"), {"for_good": True}),
    ]


def test_ctrl_c_stops_and_a_second_one_ends(batch):
    scheduler = types.SimpleNamespace(stopping=False)
    said = []
    batch.say = said.append
    before = signal.getsignal(signal.SIGINT)
    with batch._stopped_by_ctrl_c(scheduler):
        stop = signal.getsignal(signal.SIGINT)
        stop()
        assert scheduler.stopping is True
        assert said == ["The pictures at work are finished first; Ctrl-C again ends at once."]
        with pytest.raises(KeyboardInterrupt):
            stop()
    assert signal.getsignal(signal.SIGINT) == before
    with pytest.raises(ZeroDivisionError), batch._stopped_by_ctrl_c(scheduler):
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) == before


def test_making_tells_whether_it_was_stopped(batch, folder, monkeypatch):
    def stopped(self, pictures):
        self.stopping = True

    def ended(self, pictures):
        raise KeyboardInterrupt

    with closing(Journal(folder)) as kept:
        for what in (stopped, ended):
            monkeypatch.setattr(Scheduler, "run", what)
            assert batch.make(kept, [], Threads(), Policy()) is True


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full", "x"), JournalError("locked"), ValueError("x")])
def test_what_hinders_every_file_ends_the_batch(error):
    with pytest.raises(type(error)) as raised, run._failing_one_picture():
        raise error
    assert raised.value is error


def test_what_hinders_one_file_fails_its_picture():
    with pytest.raises(PictureError) as raised, run._failing_one_picture():
        raise OSError(errno.ENAMETOOLONG, "File name too long", "a\n")
    assert str(raised.value) == "a\\n can't be written: File name too long"


def test_what_is_said_goes_to_standard_error_while_there_is_one(batch, monkeypatch, capsys):
    batch.say("a\nb")
    assert capsys.readouterr().err == "a\\nb\n"
    assert run.TERMINAL.encoding == sys.stderr.encoding

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError

        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    batch.say("to nobody")
    run.TERMINAL.flush()
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)  # which raises ValueError
    batch.say("to nobody")
    run.TERMINAL.flush()
    flushed = []
    monkeypatch.setattr(sys, "stderr", types.SimpleNamespace(flush=lambda: flushed.append(True)))
    run.TERMINAL.flush()
    assert flushed == [True]


def test_names_of_one_file_are_the_same(tmp_path):
    assert run._same(tmp_path / "a") is None
    (tmp_path / "a").touch()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").touch()
    (tmp_path / "link").symlink_to("c")
    a, b, c, link = (run._same(tmp_path / name) for name in ("a", "b", "c", "link"))
    assert a == b != c != link


def test_which_workers(monkeypatch):
    asked = []

    def actors(servers, address):
        asked.append((servers, address))
        if address == "away":
            raise ModuleNotFoundError(name="ray")
        if address == "other":
            raise ModuleNotFoundError(name="numpy")
        raise RayError("there is none")

    monkeypatch.setattr(run, "RayActors", actors)
    assert isinstance(run._workers(["a"], None), Threads)
    assert asked == []
    with pytest.raises(RayError):
        run._workers(["a", "b"], None)
    with pytest.raises(RayError):
        run._workers(["a"], "auto")
    assert asked == [(["a", "b"], None), (["a"], "auto")]
    with pytest.raises(ModuleNotFoundError):
        run._workers(["a"], "other")
    install = 'Ray. Install it with: pip install "sd-webui-itermix[batch]"'
    with pytest.raises(PlanError) as error:
        run._workers(["a"], "away")
    assert str(error.value) == f"--ray-address needs {install}"

    def missing(servers, address):
        raise ModuleNotFoundError(name="ray")

    monkeypatch.setattr(run, "RayActors", missing)
    with pytest.raises(PlanError) as error:
        run._workers(["a", "b"], None)
    assert str(error.value) == f"Several servers need {install}"


def test_addresses_are_used_once():
    assert run._checked(["http://A/", "http://b:1"]) == ["http://a", "http://b:1"]
    with pytest.raises(PlanError, match=r"^--server x is not possible\. Allowed: an address such as"):
        run._checked(["x"])
    with pytest.raises(PlanError) as error:
        run._checked(["http://u:p@a/", "http://u:p@a"])
    assert str(error.value) == "--server http://a is given twice."
    with pytest.raises(PlanError) as error:
        run._checked(["http://127.0.0.1:1", "http://u:p@localhost:1"])
    assert str(error.value) == "--server http://localhost:1 is given twice, also as http://127.0.0.1:1."


def test_endings_that_are_left_out():
    assert run._left_out(Counter()) == ""
    assert run._left_out(Counter({".b": 1, "": 1, ".a": 1}), ", but ") == ", but 1 of .a, 1 of .b, 1 of no ending"
    many = Counter({".d": 2, ".c": 2, ".a": 5, "\n": 1})
    assert run._left_out(many) == ": 5 of .a, 2 of .c, 2 of .d and 10 in all"


def test_names_of_an_error():
    assert run._named([A]) == "a.png"
    assert run._named([A, B, C]) == "a.png, b.png, c.png"
    assert run._named([A, B, C, D, E]) == "a.png, b.png, c.png and 2 more"


def test_the_summary(batch, capsys):
    batch.todo = [A, B]
    batch.done.add(A)
    batch.pictures[A].__dict__["notes"] = ("one", "two")
    batch._problems[B] = "busy"
    batch.failures[D] = "broken\n"
    servers = [
        Server("http://u:p@a", pictures=2, seconds=40.0),
        Server("http://b", errors=3, problem="gone"),
        Server("http://c", errors=1, problem="no sampler", refused={"no sampler": 1, "no upscaler": 2}),
        Server("http://d", pictures=3, seconds=7.0, errors=1),
    ]
    run._print_summary(batch, servers)
    assert capsys.readouterr().out.splitlines() == [
        "http://a: pictures: 2 at 3 a minute",
        "http://b: pictures: 0, failed attempts: 3; gone",
        "http://c: pictures: 0, failed attempts: 1; refused 1 that others made: no sampler; "
        "refused 2 that others made: no upscaler",
        "http://d: pictures: 3 at 25.7 a minute, failed attempts: 1",
        "a.png: one; two",
        "b.png is left: busy",
        "d.png failed: broken\\n",
        "1 done, 1 left, 1 failed, 1 done before.",
    ]
    batch._problems.clear()
    batch.failures.clear()
    run._print_summary(batch, [])
    assert "b.png is left" in capsys.readouterr().out.splitlines()


def test_the_plan(batch, capsys):
    batch.todo = [A, B]
    batch.pictures[B].generation["sampler_name"] = "UniPC"
    batch.pictures[B].__dict__["notes"] = ("a\nnote",)
    assert run._print_plan(batch) == 0
    words = "16x16 -> 32x32, 8 steps"
    assert capsys.readouterr().out.splitlines() == [
        f"a.png: {words}: 8 model calls; prompt of its PNG text",
        f"b.png: {words}: model calls as the sampler decides; prompt of its PNG text; a\\nnote",
        "2 to make with 8 model calls and those of 1 that aren't known, 0 failed, 1 done before.",
    ]
    batch.settings = SETTINGS.replace(start_at_step=9)
    assert run._print_plan(batch) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("a.png failed: start_at_step = 9 is not possible. Allowed: ")
    assert said[-1] == "0 to make with 0 model calls, 2 failed, 1 done before."


def order(folder: Path, **other: object) -> Order:
    return Order(**{"source": folder, "out": folder.parent / "out", "settings": SETTINGS, "given": {}, **other})


def test_a_dry_run_writes_nothing_and_looks_into_the_journal_that_is_there(folder, capsys, monkeypatch):
    wanted = order(folder)
    assert run.run(wanted, ["http://a"], Policy(), dry_run=True) == 0
    assert not wanted.out.exists()
    assert "3 to make with " in capsys.readouterr().out
    wanted.out.mkdir()
    with closing(Journal(wanted.out)) as kept:
        kept.wait([(A, Path("x"))])
        kept.done(A, "other", b"data", "http://a", 1.0)
    with pytest.raises(PlanError, match=r"^a.png in .* was made from another picture"):
        run.run(wanted, ["http://a"], Policy(), dry_run=True)
    assert run.run(order(folder, replace=True), ["http://a"], Policy(), dry_run=True) == 0
    with closing(Journal(wanted.out)):  # which the dry runs have closed
        pass


def test_the_whole_command(folder, capsys, monkeypatch):
    (folder / "notes.txt").touch()
    seen = []

    def make(self, journal, servers, workers, policy):
        seen.append((self.todo, [server.url for server in servers], workers, policy))
        self.done |= set(self.todo[:2])
        return False

    class Own(Threads):
        closed = False

        def close(self):
            self.closed = True

    own, policy = Own(), Policy(attempts=3)
    monkeypatch.setattr(Batch, "make", make)
    monkeypatch.setattr(run, "_workers", lambda servers, address: seen.append((servers, address)) or own)
    wanted = order(folder, out=folder.parent / "new" / "out")
    assert run.run(wanted, ["http://A/"], policy, ray_address="auto") == 1
    assert seen == [(["http://a"], "auto"), ([A, B, C], ["http://a"], own, policy)]
    assert own.closed
    assert (wanted.out / NAME).exists()
    assert capsys.readouterr().out.splitlines() == [
        "Left out, since their names aren't those of pictures: 1 of .txt.",
        "http://a: pictures: 0",
        "c.png is left",
        "2 done, 1 left, 0 failed, 0 done before.",
    ]
    monkeypatch.setattr(Batch, "make", lambda self, *_: self.done.update(self.todo))
    assert run.run(wanted, ["http://a"], policy) == 0
    monkeypatch.setattr(Batch, "make", lambda *_: True)
    with pytest.raises(KeyboardInterrupt):
        run.run(wanted, ["http://a"], policy)


@pytest.mark.parametrize("replace", [False, True])
def test_results_that_were_made_otherwise_are_made_anew_if_asked(folder, monkeypatch, replace):
    made = []
    monkeypatch.setattr(Batch, "make", lambda self, *_: made.extend(self.todo) or self.done.update(self.todo))
    wanted = order(folder, replace=replace)
    wanted.out.mkdir()
    with closing(Journal(wanted.out)) as kept:
        kept.wait([(A, Path("x"))])
        kept.done(A, "other", b"data", "http://a", 1.0)
    if replace:
        assert run.run(wanted, ["http://a"], Policy()) == 0
        assert made == [A, B, C]
        return
    with pytest.raises(PlanError, match="or replace such results with --replace"):
        run.run(wanted, ["http://a"], Policy())
    assert made == []


def test_without_a_server_the_summary_comes_only_where_there_is_something_to_sum_up(folder, capsys, monkeypatch):
    def make(self, *_):
        self.done |= done
        raise NoServer("gone\n")

    monkeypatch.setattr(Batch, "make", make)
    done: set[PurePath] = set()
    with pytest.raises(NoServer):
        run.run(order(folder), ["http://a"], Policy())
    assert "done before" not in capsys.readouterr().out
    done = {A}
    assert run.run(order(folder), ["http://a"], Policy()) == 1
    said = capsys.readouterr()
    assert said.err.endswith("itermix: gone\\n\n")
    assert said.out.endswith("1 done, 2 left, 0 failed, 0 done before.\n")


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(PlanError) as error:
        run.run(order(tmp_path / "in"), ["http://a"], Policy())
    assert str(error.value) == f"There is no picture in {tmp_path / 'in'}."
    (tmp_path / "in" / "a.txt").touch()
    with pytest.raises(PlanError) as error:
        run.run(order(tmp_path / "in"), ["http://a"], Policy())
    assert str(error.value) == f"There is no picture in {tmp_path / 'in'}, but 1 of .txt."


def test_nothing_is_asked_of_servers_when_nothing_is_left(folder, capsys, monkeypatch):
    monkeypatch.setattr(run, "_workers", None)
    for name in "abc":
        (folder / f"{name}.png").write_text("no picture")
    assert run.run(order(folder), ["http://a"], Policy()) == 1
    assert capsys.readouterr().out.endswith("0 done, 0 left, 3 failed, 0 done before.\n")
