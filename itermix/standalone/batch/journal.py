"""What of a batch is done, in a SQLite file beside the results: with it a further run goes on where one ended.

A result gets into its place in three steps, so that a run that is killed at any moment leaves either no result or a
whole one that the journal knows: written beside its place, entered in the journal, moved there. What was entered and
not moved is moved when the journal is opened again.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path, PurePath

from itermix.standalone.files import beside, move_into_place, shown, write_beside

try:
    import fcntl
except ImportError:  # Windows, whose drives all lock
    fcntl = None  # type: ignore[assignment]

NAME = ".itermix-batch.sqlite"

WAITING, DONE, FAILED = "waiting", "done", "failed"

TABLE = """
CREATE TABLE IF NOT EXISTS pictures (
    target TEXT PRIMARY KEY,  -- path of the result in this folder; its bytes where they aren't UTF-8
    source TEXT NOT NULL,     -- the picture's file
    state TEXT NOT NULL,      -- waiting, done or failed
    made TEXT,                -- key of what the result was made from; NULL while there is none
    moved INTEGER NOT NULL DEFAULT 1,  -- whether the result is in its place, and not beside it
    server TEXT, seconds REAL,  -- by which server, and how long it took
    reason TEXT               -- what went wrong, the last time
)
"""

RESULTS = "SELECT target, made FROM pictures WHERE made IS NOT NULL"


class JournalError(OSError):
    """A journal that can't be used; the message says why."""


class Journal:
    """The journal of one folder of results. While it is open no other process can open it.

    Raises:
        JournalError: another run has it open, the file isn't a journal, or it can't be written, now or later.
    """

    def __init__(self, out: Path):
        self.out = out
        self.path = out / NAME
        try:
            self._db = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise _error(self.path, error) from error
        try:
            self._execute("PRAGMA locking_mode = EXCLUSIVE")
            self._execute(TABLE)
            self._execute("BEGIN EXCLUSIVE")
            self._execute("COMMIT")  # the lock stays until the journal is closed
            self._finish_moves()
            self._own = {target for target in self._targets(RESULTS) if os.path.lexists(out / target)}
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._db.close()

    def made(self) -> dict[PurePath, str]:
        """{target: key of what it was made from} of all results that are there."""
        return {target: key for target, key in self._targets(RESULTS).items() if target in self._own}

    def seconds(self, target: PurePath) -> float:
        """How long a result took; 0 where that isn't known."""
        rows = self._execute("SELECT seconds FROM pictures WHERE target = ?", _stored(target))
        return float(rows[0][0] or 0) if rows else 0.0

    def wait(self, pictures: Iterable[tuple[PurePath, Path]]) -> None:
        """Enter targets and sources that are to be made."""
        self._execute("BEGIN")
        for target, source in pictures:
            self._execute(
                "INSERT INTO pictures (target, source, state) VALUES (?, ?, ?) ON CONFLICT (target) DO UPDATE SET "
                "source = excluded.source, state = excluded.state, server = NULL, seconds = NULL, reason = NULL",
                _stored(target),
                _stored(source),
                WAITING,
            )
        self._execute("COMMIT")

    def check_free(self, target: PurePath) -> None:
        """Raises FileExistsError if there is a file in the place of the result that isn't an earlier one of it."""
        if target not in self._own and os.path.lexists(self.out / target):
            raise FileExistsError(
                errno.EEXIST,
                "there is such a file that is not of this picture; some drives take names for one that differ in "
                "capitals or accents",
                str(self.out / target),
            )

    def done(self, target: PurePath, key: str, data: bytes, server: str, seconds: float) -> None:
        """Put the result into its place, and enter what it was made from, by which server and in what time.

        Raises:
            JournalError: the journal can't be written.
            OSError, which names the file: the result can't be.
        """
        path = self.out / target
        self.check_free(target)
        write_beside(path, data)
        self._set(target, state=DONE, made=key, moved=0, server=server, seconds=seconds, reason=None)
        move_into_place(path)
        self._own.add(target)
        self._set(target, moved=1)

    def failed(self, target: PurePath, reason: str, for_good: bool) -> None:
        """Enter why there is no result; unless `for_good` the picture still waits for one."""
        self._set(target, state=FAILED if for_good else WAITING, reason=shown(reason))

    def _set(self, target: PurePath, **values: object) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._execute(f"UPDATE pictures SET {columns} WHERE target = ?", *values.values(), _stored(target))

    def _finish_moves(self) -> None:
        for target in self._targets("SELECT target, NULL FROM pictures WHERE NOT moved"):
            path = self.out / target
            if beside(path).exists():
                move_into_place(path)
            self._set(target, moved=1)

    def _targets(self, statement: str) -> dict[PurePath, str]:
        return {_target(target): value for target, value in self._execute(statement)}

    def _execute(self, statement: str, *values: object) -> list[tuple]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _error(self.path, error) from error


def results_in(folder: Path) -> set[PurePath]:
    """Paths in the folder of all results that its journal knows; none where there is no journal.

    Raises JournalError for one that can't be read, or that another run has open.
    """
    path = folder / NAME
    if not path.is_file():
        return set()
    try:
        with closing(sqlite3.connect(path, timeout=0)) as db:
            return {_target(target) for target, _ in db.execute(RESULTS)}
    except sqlite3.Error as error:
        raise _error(path, error) from error


def _stored(path: PurePath) -> str | bytes:
    """A path as the journal keeps it: text, or, where a name isn't UTF-8, its bytes."""
    text = path.as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _target(stored: str | bytes) -> PurePath:
    return PurePath(os.fsdecode(stored))


def _error(path: Path, error: sqlite3.Error) -> JournalError:
    if "locked" not in str(error):
        return JournalError(f"{shown(path)} can't be used: {error}")
    if not _can_be_locked(path):
        return JournalError(f"{shown(path)} can't be locked: its drive has no locks. Choose a folder on another drive.")
    return JournalError(f"Another batch is writing to {shown(path.parent)}: wait for it, or choose another folder.")


def _can_be_locked(path: Path) -> bool:
    """Whether the drive knows locks: SQLite says "locked" for both."""
    if fcntl is None:
        return True
    try:
        with path.open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
    return True
