"""SQLite's errors, explained by the state of the engine's folder: its error names the file, the folder, the remedy."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import TYPE_CHECKING

from processing.local.errors import ApiError, damaged_file, disk_full, folder_gone

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from processing.exceptions import EngineError, ProcessingError

_ROOM_BYTES = 1 << 22
"""With less free space, SQLite may have had no room for its files beside the database, which it reports as one of these
errors. It needs some kilobytes. Other processes may have freed more in the meantime."""
_ERRORS_WITHOUT_ROOM = ("disk I/O error", "unable to open database file")
_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""A database and the files that SQLite keeps beside it."""


def explain_error(path: Path, error: sqlite3.Error) -> ProcessingError:
    """Return the error of the engine for an error of SQLite.

    Args:
        path: the database file, in the engine's folder.
        error: the error.
    """
    folder, text = path.parent, str(error)
    if "is full" in text:
        return disk_full(folder)
    if not folder.is_dir():
        return folder_gone(folder)
    if "locked" in text:
        return ApiError(
            "ServiceUnavailable",
            f"Another process keeps {path.name} in the local engine's folder {folder} locked. Try again, or end it.",
            503,
        )
    obstacle = _obstacle(path, text)
    if obstacle is not None:
        return obstacle
    if _has_no_room(folder) and any(each in text for each in _ERRORS_WITHOUT_ROOM):
        return disk_full(folder)
    others = " and ".join(f"{path.name}{suffix}" for suffix in _SUFFIXES[1:3])
    remedy = (
        f"End the programs that use the folder, and move {path.name}, {others} out of it. The engine then makes an "
        "empty one. Or restore the folder from a backup"
    )
    return damaged_file(folder, path.name, f"it is damaged ({text})", remedy)


def _obstacle(path: Path, text: str) -> EngineError | None:
    """Return the error for a file that is not damaged, but cannot be opened or written to."""
    folder = path.parent
    for name in (path.name + suffix for suffix in _SUFFIXES):
        with contextlib.suppress(OSError):
            mode = (folder / name).stat().st_mode
            if not stat.S_ISREG(mode):
                remedy = "Move it out of the folder"
                return damaged_file(folder, name, f"it is {_kind(mode)}, not a file", remedy)
            if not os.access(folder / name, os.R_OK):
                remedy = f"Make it readable and writable (chmod u+rw {folder / name})"
                return damaged_file(
                    folder, name, f"your user may not read it (its mode is {mode & 0o7777:04o})", remedy
                )
    if "readonly" in text or not os.access(folder, os.W_OK | os.X_OK):
        return damaged_file(folder, path.name, f"it cannot be written to ({text})", "Make both writable")
    if "locking protocol" in text:
        remedy = "Move the folder to a disk of this machine"
        return damaged_file(folder, path.name, f"its file system lacks locks ({text})", remedy)
    if path.is_symlink() and not path.exists():
        return damaged_file(folder, path.name, "it is a link to a missing file", "Remove the link")
    return None


def _kind(mode: int) -> str:
    return "a directory" if stat.S_ISDIR(mode) else "a special file"


def _has_no_room(folder: Path) -> bool:
    """Return True if the disk is too full for the small files that SQLite creates beside a database."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _ROOM_BYTES
    return False
