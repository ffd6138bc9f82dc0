"""What a batch is to do, without doing it."""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import json
import os
from collections import Counter
from contextlib import closing
from pathlib import Path, PurePath

import pytest
from batches import infotext, write
from PIL import Image

from itermix.settings import UpscaleSettings
from itermix.standalone import images
from itermix.standalone.batch import plan
from itermix.standalone.batch.journal import Journal
from itermix.standalone.batch.plan import Picture, PlanError, found, looked_at

A = PurePath("a.png")
PLAIN = Picture(Path("a.jpg"), A, (16, 8), {"steps": 3}, "content")


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(PLAIN, content="other"),
        dataclasses.replace(PLAIN, generation={"steps": 4}),
        dataclasses.replace(PLAIN, generation={"seed": 3}),
    ],
)
def test_another_picture_or_request_has_another_key(other):
    assert other.key(UpscaleSettings()) != PLAIN.key(UpscaleSettings())


def test_a_key_is_of_what_is_made_and_not_of_names_or_order():
    same = Picture(Path("b"), PurePath("b"), (1, 1), {"steps": 3}, "content", "words", ("note",))
    assert same.key(UpscaleSettings()) == PLAIN.key(UpscaleSettings())
    assert PLAIN.key(UpscaleSettings(alpha=0.5)) != PLAIN.key(UpscaleSettings())
    one, other = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert dataclasses.replace(PLAIN, generation=one).key(UpscaleSettings()) == dataclasses.replace(
        PLAIN, generation=other
    ).key(UpscaleSettings())


def test_the_keys_of_journals_that_are_there_stay_what_they_are():
    asked = {"content": "content", "generation": {"steps": 3}, "settings": {"alpha": 0.5}}
    expected = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    assert PLAIN.key(UpscaleSettings(alpha=0.5)) == expected


def test_what_is_seen_of_a_file(tmp_path):
    (source,) = write(tmp_path, "a.png").iterdir()
    looked = looked_at(source, A, {"seed": 9})
    assert looked.generation == {
        "prompt": "a.png",
        "negative_prompt": "blurred",
        "steps": 2,
        "sampler_name": "Euler",
        "cfg_scale": 2.0,
        "seed": 9,
    }
    assert looked.content == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (looked.source, looked.target, looked.size) == (source, A, (16, 16))
    assert (looked.prompt, looked.notes) == ("prompt of its PNG text", ())
    assert looked_at(source, A, {"prompt": ""}).prompt == "the given prompt"
    source.write_bytes(images.png(Image.new("RGB", (8, 8))))
    assert looked_at(source, A, {}).prompt == "no prompt"
    source.write_bytes(images.png(Image.new("RGB", (8, 8)), "a note"))
    assert looked_at(source, A, {}).prompt == "no prompt (PNG text, which is no infotext)"
    Image.new("RGB", (8, 8)).save(source, exif=b"garbage!")
    assert looked_at(source, A, {}).notes == ("its EXIF can't be read: SyntaxError",)


def test_a_picture_that_changes_in_the_meantime(tmp_path):
    (source,) = write(tmp_path, "a.png").iterdir()
    looked = looked_at(source, A, {})
    body = json.loads(looked.request(UpscaleSettings(alpha=0.5)))
    assert (body["prompt"], body["width"], body["script_args"]) == ("a.png", 16, [{"alpha": 0.5}])
    source.write_bytes(images.png(Image.new("RGB", (16, 16)), infotext("a.png", seed=0)))
    with pytest.raises(images.PictureError) as error:
        looked.request(UpscaleSettings())
    assert str(error.value) == f"{source} was changed while the batch ran; the next run makes it"


def test_what_of_a_folder_is_a_picture(tmp_path):
    source = write(tmp_path / "in", "b.png", "a/c.JPG", "a/.hidden.png", ".h/d.png", "out/e.png", "a/out/f.png")
    for name in ("x.txt", "y.TXT", "a/z", "a/w.tar.gz", ".v"):
        (source / name).write_text("")
    files = found(source, source / "out")
    assert files.pictures == {
        PurePath("a/c.png"): source / "a/c.JPG",
        PurePath("a/out/f.png"): source / "a/out/f.png",
        PurePath("b.png"): source / "b.png",
    }
    assert list(files.pictures) == sorted(files.pictures)
    assert files.left_out == Counter({".txt": 2, "": 1, ".gz": 1})


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return iter(())

    monkeypatch.setattr(plan.os, "walk", walk)
    with pytest.raises(PermissionError):
        found(tmp_path, tmp_path / "out")


def test_results_that_a_journal_knows_are_left_out_in_every_folder(tmp_path):
    source = write(tmp_path / "in", "a.png", "sub/b.png", "sub/deep/c.png")
    for folder, target in ((source / "sub", "b.png"), (source, "sub/deep/c.png")):
        (folder / target).unlink()
        with closing(Journal(folder)) as journal:
            journal.wait([(PurePath(target), Path("x"))])
            journal.done(PurePath(target), "key", b"data", "http://a", 1.0)
    assert list(found(source, tmp_path / "out").pictures) == [A]


def test_two_pictures_of_one_target(tmp_path):
    source = write(tmp_path, "sub/a.png", "sub/a.jpg")
    with pytest.raises(PlanError) as error:
        found(source, tmp_path / "out")
    (one, other) = (source / "sub" / name for name in ("a.jpg", "a.png"))
    target = PurePath("sub/a.png")
    assert str(error.value) == f"{one} and {other} would both become {target}: rename one of them."


def test_a_picture_in_the_place_of_a_result(tmp_path):
    source = write(tmp_path, "a.png", "b.jpg")
    with pytest.raises(PlanError) as error:
        found(source, source)
    assert str(error.value) == (
        f"{source / 'a.png'} would be written over {source / 'a.png'}, which is one of the pictures: choose another "
        "folder for the results."
    )
    (source / "a.png").unlink()
    assert list(found(source, source).pictures) == [PurePath("b.png")]


def listed(folder: Path, content: bytes) -> list[str]:
    """The paths of a list in the folder, from there on."""
    (folder / "list.txt").write_bytes(content)
    return [os.path.relpath(path, folder) for path in found(folder / "list.txt", folder / "out").pictures.values()]


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (b"a.png", ["a.png"]),
        (b'"a b.png"\n\t "c.png"  ', ["a b.png", "c.png"]),
        (b'"a.png', ['"a.png']),
        (b"\ta.png  ", ["a.png"]),
        (b"X.pngX", ["X.pngX"]),
        (b"\xc2\xa0a.png", ["\u00a0a.png"]),  # of the blanks only those that editors put there
        (b"\x81.png", ["\udc81.png"]),  # nothing in the encoding of older Windows
        (b"sub/../b.png\n./sub/./c.png", ["b.png", "sub/c.png"]),
        (b"../d.png", ["../d.png"]),
        (b"\n\n \na.png\n", ["a.png"]),
        (b"a.png\na.png\n./a.png", ["a.png"]),
        (codecs.BOM_UTF8 + b"a.png", ["a.png"]),
        (codecs.BOM_UTF16_BE + "a.png".encode("utf-16-be"), ["a.png"]),
        (codecs.BOM_UTF16_LE + "a.png".encode("utf-16-le") + b"x", ["a.png\ufffd"]),
    ],
)
def test_paths_of_a_list(tmp_path, content, paths):
    assert listed(tmp_path, content) == paths


def test_of_the_spellings_of_a_line_that_counts_which_is_there(tmp_path):
    for name in (' "x.png"', "caf\u00e9.png", '"y.png"', "y.png"):
        (tmp_path / name).touch()
    assert listed(tmp_path, b' "x.png"') == [' "x.png"']
    assert listed(tmp_path, "caf\u00e9.png".encode("cp1252")) == ["caf\u00e9.png"]
    assert listed(tmp_path, b"caf\xe8.png") == ["caf\udce8.png"]
    assert listed(tmp_path, b'"y.png"') == ['"y.png"']  # as it stands there


def test_a_picture_outside_of_the_list_s_folder_keeps_its_name_alone(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.txt").write_text("../far/away/a.jpg\nnear/b.jpg")
    assert list(found(tmp_path / "lists" / "list.txt", tmp_path / "out").pictures) == [A, PurePath("near/b.png")]


def test_what_is_neither_a_folder_nor_a_text(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a.png\n\0")
    with pytest.raises(PlanError) as error:
        found(tmp_path / "list.txt", tmp_path / "out")
    assert str(error.value) == f"{tmp_path / 'list.txt'} is neither a folder nor a list of pictures, which is a text."


@pytest.mark.parametrize("line", [".", "/", "..", "sub/../..", '"."', '"/"', '"sub/.."'])
def test_a_line_that_is_no_path_is_named(tmp_path, line):
    with pytest.raises(PlanError) as error:
        listed(tmp_path, f"a.png\n{line}".encode())
    assert str(error.value) == f"Line 2 of {tmp_path / 'list.txt'}, {line}, is no path of a file."


def test_steps_and_sampler_that_a_picture_does_not_name_are_the_webui_s():
    bare = dataclasses.replace(PLAIN, generation={})
    assert plan.model_calls_of(bare, UpscaleSettings(denoise=1.0, steps=0)) == ("16x8 -> 32x16, 50 steps", 50)
    named = dataclasses.replace(PLAIN, generation={"steps": 4, "sampler_name": "Heun"})
    words, calls = plan.model_calls_of(named, UpscaleSettings(denoise=1.0, steps=0))
    assert (words, calls) == ("16x8 -> 32x16, 4 steps", 7)
