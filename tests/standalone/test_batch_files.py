"""`itermix batch` and what file systems, editors and other programs make of a folder of pictures."""

from __future__ import annotations

import errno
import io
import os
import sys
import unittest.mock
from contextlib import closing
from pathlib import Path, PurePath

import pytest
from batches import batch, journal, results, write
from fake_webui import enlarged
from PIL import Image

from itermix.standalone import images
from itermix.standalone.batch import plan
from itermix.standalone.batch.journal import NAME, Journal
from itermix.standalone.cli import main

pytestmark = pytest.mark.usefixtures("short_rests")


def test_results_inside_the_folder_of_pictures_are_no_pictures_of_it(fakes, tmp_path):
    (fake,) = fakes()
    source = write(tmp_path / "in", "a.png")
    for _ in range(2):
        assert batch(source, source / "out", fake) == 0
    assert list(results(source / "out")) == ["a.png"]
    assert len(fake.requests) == 1


def test_a_list_of_pictures(fakes, tmp_path):
    (fake,) = fakes()
    write(tmp_path, "in/a.png", "in/sub/b.png", "elsewhere/c.png", "in/d.png")
    names = tmp_path / "in" / "list.txt"
    names.write_text(f"a.png\n\n./sub/b.png\n  ../elsewhere/c.png\nmissing.png\n{tmp_path / 'in' / 'd.png'}\n")
    out = tmp_path / "out"
    assert batch(names, out, fake) == 1
    assert sorted(results(out)) == ["a.png", "c.png", "d.png", "sub/b.png"]
    assert ("missing.png", "failed") in journal(out)


STRANGE = {
    "long": "x" * 246 + ".jpg",
    "longest": "x" * 250 + ".jpg",
    "long in bytes": "\u732b" * 83 + ".png",
    "not UTF-8": "caf\udce9.png",
    "a bell": "a\x07b\x1b[31m.png",
    "two lines": "a\nb.png",
    "a surrogate": "\udcff\udcfe.webp",
    "wide": "\U0001f3a9 \u202e.png",
    "quotes": "a'b\"c;--.png",
    "dots": "a.b..png",
    "blanks": " a .png",
}


@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_every_name_that_the_drive_takes(fakes, tmp_path, capsys, name):
    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png", f"sub {name[:9]}/{name}"), tmp_path / "out"
    assert batch(source, out, fake, flags="--dry-run") == 0
    assert batch(source, out, fake) == 0
    made = {os.fsencode(path.name) for path in out.rglob("*.png") if path.is_file()}
    assert made == {b"a.png", os.fsencode(Path(name).stem + ".png")}
    assert not [path for path in out.rglob("*") if path.suffix == ".part"]
    assert batch(source, out, fake) == 0
    assert len(fake.requests) == 2
    said = capsys.readouterr()
    assert "2 done before." in said.out
    assert all(line.isprintable() for line in said.out.splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_name_can_be_printed_on_every_terminal(tmp_path, encoding):
    source = write(tmp_path / "in", *STRANGE.values())
    (source / "no picture \udce9\u732b.png").write_text("")
    argv = ["batch", str(source), str(tmp_path / "out"), "--server", "http://127.0.0.1:1", "--dry-run"]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    with unittest.mock.patch.multiple(sys, stdout=out, stderr=err):
        assert main(argv) == 1
    out.flush()
    lines = out.buffer.getvalue().decode(encoding).splitlines()
    assert len(lines) == len(STRANGE) + 2
    assert any(r"caf\udce9.png: 16x16" in line for line in lines)


@pytest.mark.parametrize("name", ["x" * 255, "folder/x.png"])
def test_a_place_that_cannot_be_written_fails_one_picture_before_it_is_made(fakes, tmp_path, capsys, name):
    (fake,) = fakes()
    write(tmp_path / "in", "a.png", name, "z.png")
    (tmp_path / "in" / "list.txt").write_text(f"a.png\n{name}\nz.png\n")
    out = tmp_path / "out"
    out.mkdir()
    (out / "folder").write_text("a file in the place of a folder")
    assert batch(tmp_path / "in" / "list.txt", out, fake) == 1
    assert sorted(request["prompt"] for request in fake.requests) == ["a.png", "z.png"]
    said = capsys.readouterr().out
    assert "can't be written: " + ("File name too long" if name[0] == "x" else "Not a directory") in said
    assert "2 done, 0 left, 1 failed" in said


def test_a_full_drive_ends_the_batch_and_names_the_file(fakes, tmp_path, capsys, monkeypatch):
    def full(descriptor):
        if fake.answered:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (fake,) = fakes()
    source, out = write(tmp_path / "in", "a.png", "b.png"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert batch(source, out, fake) == 2
    assert f"itermix: {out / 'a.png'}: No space left on device\n" in capsys.readouterr().err
    assert batch(source, out, fake) == 0
    assert sorted(results(out)) == ["a.png", "b.png"]


def test_drives_that_take_two_names_for_one(fakes, tmp_path, capsys):
    """On them both names of the results are one file, as a hard link is here."""

    def reply(request):
        if request["prompt"] == "b.png":
            os.link(out / "A.png", out / "a.png")
        return enlarged(request)

    (fake,) = fakes(reply=reply)
    source, out = write(tmp_path / "in", "A.png", "b.png", "a.png"), tmp_path / "out"
    names = tmp_path / "in" / "list.txt"
    names.write_text("A.png\nb.png\na.png\n")
    assert batch(names, out, fake) == 1
    assert "a.png failed: " in (said := capsys.readouterr().out)
    assert "take names for one that differ in capitals" in said
    assert "2 done, 0 left, 1 failed" in said
    before = (out / "A.png").read_bytes()
    assert batch(names, out, fake) == 1  # and no other is hindered
    assert "0 done, 0 left, 1 failed, 2 done before" in capsys.readouterr().out
    assert (out / "A.png").read_bytes() == before
    assert len(fake.requests) == 2
    assert batch(source, tmp_path / "other", fake, flags="--dry-run") == 0


def test_results_in_the_folder_of_the_pictures_itself(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source = write(tmp_path / "in", "a.jpg", "sub/b.webp")
    for done in (0, 2, 2):
        assert batch(source, source, fake) == 0
        assert f"{done} done before." in capsys.readouterr().out
    write(source, "c.jpg")
    assert batch(source, source, fake) == 0
    assert len(fake.requests) == 3


def test_results_of_earlier_batches_are_no_pictures(fakes, tmp_path):
    (fake,) = fakes()
    source = write(tmp_path / "in", "a.png", "sub/b.png")
    assert batch(source, source / "2x", fake) == 0
    write(source / "2x", "own.png")  # which no batch made
    assert batch(source, tmp_path / "out", fake) == 0
    assert sorted(results(tmp_path / "out")) == ["2x/own.png", "a.png", "sub/b.png"]
    with closing(Journal(source / "2x")):
        assert batch(source, tmp_path / "third", fake) == 2


LISTS = {
    "UTF-8": "caf\u00e9.png\nb.png\n".encode(),
    "with a mark": b"\xef\xbb\xbf" + "caf\u00e9.png\nb.png".encode(),
    "UTF-16": "caf\u00e9.png\r\nb.png\r\n".encode("utf-16"),
    "UTF-16 of the other order": b"\xfe\xff" + "caf\u00e9.png\nb.png".encode("utf-16-be"),
    "Windows": "caf\u00e9.png\r\nb.png".encode("cp1252"),
    "old Macs": "caf\u00e9.png\rb.png\r".encode(),
    "blanks": "\t caf\u00e9.png \n\n  \nb.png\t\n".encode(),
    "quotes": '"caf\u00e9.png"\n"./b.png"\n'.encode(),
    "twice": "b.png\ncaf\u00e9.png\n./b.png\nsub/../b.png".encode(),
}


@pytest.mark.parametrize("content", LISTS.values(), ids=LISTS)
def test_lists_as_editors_save_them(tmp_path, content):
    source = write(tmp_path, "caf\u00e9.png", "b.png")
    (source / "list.txt").write_bytes(content)
    assert set(plan.found(source / "list.txt", tmp_path / "out").pictures) == {
        PurePath("caf\u00e9.png"),
        PurePath("b.png"),
    }


@pytest.mark.parametrize("line", [".", "..", "/", "sub/..", "../..", "./", "//"])
def test_a_line_that_names_no_file_is_told_by_its_number(tmp_path, capsys, line):
    names = write(tmp_path, "a.png") / "list.txt"
    names.write_text(f"a.png\n\n{line}\n")
    assert batch(names, tmp_path / "out", "http://a") == 2
    assert capsys.readouterr().err == f"itermix: Line 3 of {names}, {line}, is no path of a file.\n"


def test_a_list_with_names_that_are_not_text_finds_them(tmp_path):
    source = write(tmp_path, "\udce9\u2028\x0b.png", "\x85 a.png")
    (source / "list.txt").write_bytes(os.fsencode("\udce9\u2028\x0b.png\n\x85 a.png\n"))
    assert all(file.exists() for file in plan.found(source / "list.txt", tmp_path / "out").pictures.values())


def test_files_that_are_left_out_are_counted(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source = write(tmp_path / "in", "a.jfif", "b.gif", "c.JPE", "d.apng", "e.heic", "f.txt", "g.TXT", "h")
    assert batch(source, tmp_path / "out", fake) == 0
    assert len(fake.requests) == 4
    said = capsys.readouterr().out
    assert said.startswith(
        "Left out, since their names aren't those of pictures: 2 of .txt, 1 of .heic, 1 of no ending"
    )
    assert batch(write(tmp_path / "none", "x.txt"), tmp_path / "out", fake) == 2
    assert f"There is no picture in {tmp_path / 'none'}, but 1 of .txt." in capsys.readouterr().err


def test_the_plan_and_the_summary_say_what_is_taken_of_a_file(fakes, tmp_path, capsys):
    (fake,) = fakes()
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(source / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(source / "b.png", exif=b"garbage!")
    (source / "c.png").write_bytes(images.png(frames[0], "a note"))
    assert batch(source, out, fake, flags="--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("; no prompt; the first of its 2 pictures is taken alone")
    assert said[1].endswith("; no prompt; its EXIF can't be read: SyntaxError")
    assert said[2].endswith("; no prompt (PNG text, which is no infotext)")
    assert batch(source, out, fake, flags="--prompt hat --dry-run") == 0
    assert all("; the given prompt" in line for line in capsys.readouterr().out.splitlines()[:3])
    assert batch(source, out, fake) == 0
    said = capsys.readouterr().out
    assert "a.gif" not in said
    assert "a.png: the first of its 2 pictures is taken alone\nb.png: its EXIF can't be read" in said


def test_a_drive_without_locks_is_told_from_another_batch(tmp_path, capsys, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl = pytest.importorskip("fcntl")
    source, out = write(tmp_path / "in", "a.png"), tmp_path / "out"
    out.mkdir()
    with closing(Journal(out)):
        monkeypatch.setattr(fcntl, "lockf", lockf)
        assert batch(source, out, "http://127.0.0.1:1") == 2
    assert capsys.readouterr().err == (
        f"itermix: {out / NAME} can't be locked: its drive has no locks. Choose a folder on another drive.\n"
    )
