"""What the journal of a batch keeps of each picture, and what it says when it can't be used."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import closing
from pathlib import Path, PurePath

import pytest
from batches import journal

from itermix.standalone.batch.journal import NAME, Journal, JournalError, results_in

COLUMNS = "target, source, state, made, moved, server, seconds, reason"
A, B = PurePath("sub/a.png"), PurePath("b.png")
WAITS = ("sub/a.png", "in/a.jpg", "waiting", None, 1, None, None, None)
MADE = ("sub/a.png", "in/a.jpg", "done", "key", 1, "http://a", 1.5, None)


@pytest.fixture
def kept(tmp_path):
    with closing(Journal(tmp_path)) as kept:
        kept.wait([(A, Path("in/a.jpg"))])
        yield kept


def rows(kept: Journal) -> list[tuple]:
    return kept._execute(f"SELECT {COLUMNS} FROM pictures ORDER BY target")


def test_a_picture_waits_fails_and_is_made(kept):
    assert rows(kept) == [WAITS]
    kept.failed(A, "out of\nmemory", for_good=False)
    assert rows(kept) == [(*WAITS[:-1], "out of\\nmemory")]
    kept.failed(A, "refused", for_good=True)
    assert rows(kept) == [("sub/a.png", "in/a.jpg", "failed", *WAITS[3:-1], "refused")]
    kept.wait([(A, Path("in/a.jpg"))])
    assert rows(kept) == [WAITS]
    assert kept.made() == {}
    kept.done(A, "key", b"data", "http://a", 1.5)
    assert rows(kept) == [MADE]
    assert kept.made() == {A: "key"}
    assert (kept.out / A).read_bytes() == b"data"


def test_what_went_wrong_before_is_forgotten_when_it_is_made(kept):
    kept.failed(A, "busy", for_good=False)
    kept.done(A, "key", b"data", "http://a", 1.5)
    assert rows(kept) == [MADE]


def test_how_long_a_result_took(kept):
    kept.wait([(B, Path("b.jpg"))])
    kept.done(A, "key", b"data", "http://a", 1.5)
    assert [kept.seconds(target) for target in (A, B, PurePath("c.png"))] == [1.5, 0.0, 0.0]


def test_one_that_was_made_and_is_to_be_made_anew_keeps_what_it_was_made_from(kept):
    kept.done(A, "key", b"data", "http://a", 1.5)
    kept.wait([(A, Path("in/other.jpg")), (B, Path("b.jpg"))])
    (b, a) = rows(kept)
    assert a == ("sub/a.png", "in/other.jpg", "waiting", "key", 1, None, None, None)
    assert b == ("b.png", "b.jpg", *WAITS[2:])
    kept.done(A, "other", b"new", "http://b", 2.0)
    assert kept.made() == {A: "other"}
    assert (kept.out / A).read_bytes() == b"new"


def test_what_was_removed_is_not_made_when_the_journal_is_opened_again(kept):
    kept.done(A, "key", b"data", "http://a", 1.5)
    kept.close()
    with closing(Journal(kept.out)) as again:
        assert again.made() == {A: "key"}
    (kept.out / A).unlink()
    with closing(Journal(kept.out)) as again:
        assert again.made() == {}


def test_a_file_that_no_batch_made_is_in_the_way(kept):
    kept.check_free(A)
    (kept.out / A).parent.mkdir()
    (kept.out / A).write_text("mine")
    for wanted in (lambda: kept.check_free(A), lambda: kept.done(A, "key", b"data", "http://a", 1.5)):
        with pytest.raises(FileExistsError, match="not of this picture") as error:
            wanted()
        assert error.value.strerror.endswith("some drives take names for one that differ in capitals or accents")
        assert (error.value.errno, error.value.filename) == (errno.EEXIST, str(kept.out / A))
    assert (kept.out / A).read_text() == "mine"


def test_a_name_that_is_not_utf_8_is_kept(tmp_path):
    strange = PurePath("caf\udce9.png")
    with closing(Journal(tmp_path)) as kept:
        kept.wait([(strange, Path("caf\udce9.jpg"))])
        kept.done(strange, "key", b"data", "http://a", 1.5)
        assert kept.made() == {strange: "key"}
    assert journal(tmp_path, "target, source") == [(b"caf\xe9.png", b"caf\xe9.jpg")]
    assert results_in(tmp_path) == {strange}


def test_results_of_a_folder(kept):
    assert results_in(kept.out / "elsewhere") == set()
    kept.done(A, "key", b"data", "http://a", 1.5)
    kept.wait([(B, Path("b.jpg"))])
    with pytest.raises(JournalError, match="Another batch is writing to"):
        results_in(kept.out)
    kept.close()
    assert results_in(kept.out) == {A}


@pytest.mark.parametrize("opened", [results_in, Journal])
def test_a_file_that_is_no_journal_is_named(tmp_path, opened):
    (tmp_path / NAME).write_text("a text that is much longer than the header of an SQLite file is" * 9)
    with pytest.raises(JournalError, match=f"^{tmp_path / NAME} can't be used: file is not a database$"):
        opened(tmp_path)


def test_a_folder_that_is_not_there_is_an_error_of_the_journal(tmp_path):
    path = tmp_path / "nowhere" / NAME
    with pytest.raises(JournalError, match=f"^{path} can't be used: unable to open database file$"):
        Journal(path.parent)


def test_one_that_cannot_be_used_is_closed(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(Journal, "close", lambda self: closed.append(self))
    monkeypatch.setattr(Journal, "_finish_moves", None)
    with pytest.raises(TypeError):
        Journal(tmp_path)
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOLCK, "can't be locked: its drive has no locks"),
        (errno.ENOSYS, "can't be locked: its drive has no locks"),
        (errno.EOPNOTSUPP, "can't be locked: its drive has no locks"),
        (errno.EACCES, "Another batch is writing to"),
        (None, "Another batch is writing to"),
    ],
)
def test_a_lock_that_fails(kept, monkeypatch, code, message):
    fcntl = pytest.importorskip("fcntl")
    asked = []

    def lockf(file, operation):
        asked.append((file.mode, operation))
        if code:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(JournalError, match=message):
        Journal(kept.out)
    assert asked == [("rb+", fcntl.LOCK_EX | fcntl.LOCK_NB)]


def test_a_drive_whose_locks_cannot_be_asked_for_counts_as_locked(kept, monkeypatch):
    monkeypatch.setattr(sys.modules[Journal.__module__], "fcntl", None)
    with pytest.raises(JournalError, match="Another batch is writing to"):
        Journal(kept.out)


def test_a_journal_that_is_closed_says_so(kept):
    kept.close()
    with pytest.raises(JournalError, match="can't be used: Cannot operate on a closed database"):
        kept.failed(A, "", for_good=True)
