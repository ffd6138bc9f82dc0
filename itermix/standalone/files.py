"""Where results go: names that every file system takes, and files that are there whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path, PurePath

OF_THE_DRIVE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENODEV)
"""Errors of writing that every other file would meet, too."""


def shown(text: str | PurePath) -> str:
    """A text of anybody's in characters that can be printed on one line: what can't is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))


def beside(path: Path) -> Path:
    """Where a file is written before it is moved to `path`: in the same folder, and short whatever its name is."""
    return path.with_name(f".itermix-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.part")


def check_place(path: Path) -> None:
    """Make the folder of a file that is to be written later, and find out whether it can be.

    Raises OSError, which names the file, if it can't: a folder of that name, one that can't be written in, a name that
    is too long, a full drive.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.lstat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise _named(error, path) from error
    write_beside(path, b"")
    beside(path).unlink()


def write_beside(path: Path, data: bytes) -> None:
    """Write what is to become the file. Raises OSError, which names it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside(path).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _named(error, path) from error


def move_into_place(path: Path) -> None:
    """Make it the file. Raises OSError, which names it."""
    try:
        beside(path).replace(path)
    except OSError as error:
        raise _named(error, path) from error


def write(path: Path, data: bytes) -> None:
    """The file, whole or not at all; its folder is made. Raises OSError, which names it."""
    write_beside(path, data)
    move_into_place(path)


def _named(error: OSError | ValueError, path: Path) -> OSError:
    """An error that names the file, and not a part of its path or another that stands for it."""
    if not isinstance(error, OSError) or error.errno is None:
        return OSError(errno.EINVAL, str(error), str(path))
    code = errno.ENOTDIR if error.errno == errno.EEXIST else error.errno  # there is a file in the place of its folder
    return OSError(code, os.strerror(code), str(path))
