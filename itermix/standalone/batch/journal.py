"""What of a batch is done, in a SQLite file beside the results: with it a further run goes on where one ended.

A result gets into its place in three steps, so that a run that is killed at any moment leaves either no result or a
whole one that the journal knows: written beside its place, entered in the journal, moved there. What was entered and
not moved is moved when the journal is opened again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path, PurePath

NAME = ".itermix-batch.sqlite"

WAITING, DONE, FAILED = "waiting", "done", "failed"

TABLE = """
CREATE TABLE IF NOT EXISTS pictures (
    target TEXT PRIMARY KEY,  -- path of the result in this folder
    source TEXT NOT NULL,     -- the picture's file
    state TEXT NOT NULL,      -- waiting, done or failed
    made TEXT,                -- key of what the result was made from; NULL while there is none
    moved INTEGER NOT NULL DEFAULT 1,  -- whether the result is in its place, and not beside it
    server TEXT, seconds REAL,  -- by which server, and how long it took
    reason TEXT               -- what went wrong, the last time
)
"""


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
            raise self._error(error) from error
        self._execute("PRAGMA locking_mode = EXCLUSIVE")
        self._execute(TABLE)
        self._execute("BEGIN EXCLUSIVE")
        self._execute("COMMIT")  # the lock stays until the journal is closed
        self._finish_moves()

    def close(self) -> None:
        self._db.close()

    def made(self) -> dict[PurePath, str]:
        """{target: key of what it was made from} of all results that are there."""
        rows = self._execute("SELECT target, made FROM pictures WHERE made IS NOT NULL")
        return {PurePath(target): key for target, key in rows if (self.out / target).exists()}

    def wait(self, pictures: Iterable[tuple[PurePath, Path]]) -> None:
        """Enter targets and sources that are to be made."""
        self._execute("BEGIN")
        for target, source in pictures:
            self._execute(
                "INSERT INTO pictures (target, source, state) VALUES (?, ?, ?) ON CONFLICT (target) DO UPDATE SET "
                "source = excluded.source, state = excluded.state, server = NULL, seconds = NULL, reason = NULL",
                target.as_posix(),
                str(source),
                WAITING,
            )
        self._execute("COMMIT")

    def done(self, target: PurePath, key: str, data: bytes, server: str, seconds: float) -> None:
        """Put the result into its place, and enter what it was made from, by which server and in what time."""
        path = self.out / target
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._set(target, state=DONE, made=key, moved=0, server=server, seconds=seconds, reason=None)
        _beside(path).replace(path)
        self._set(target, moved=1)

    def failed(self, target: PurePath, reason: str, for_good: bool) -> None:
        """Enter why there is no result; unless `for_good` the picture still waits for one."""
        self._set(target, state=FAILED if for_good else WAITING, reason=reason)

    def _set(self, target: PurePath, **values: object) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._execute(f"UPDATE pictures SET {columns} WHERE target = ?", *values.values(), target.as_posix())

    def _finish_moves(self) -> None:
        for (target,) in self._execute("SELECT target FROM pictures WHERE NOT moved"):
            path = self.out / target
            if _beside(path).exists():
                _beside(path).replace(path)
            self._set(PurePath(target), moved=1)

    def _execute(self, statement: str, *values: object) -> list[tuple]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> JournalError:
        if "locked" in str(error):
            return JournalError(f"Another batch is writing to {self.out}: wait for it, or choose another folder.")
        return JournalError(f"{self.path} can't be used: {error}")


def _beside(path: Path) -> Path:
    """Where a result is written before it is moved to `path`."""
    return path.with_name(f".{path.name}.part")
