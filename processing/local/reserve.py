"""Disk space that is kept for the work on a full disk: a file that is removed to make room.

SQLite needs space even to delete. A host's reserve makes room for its last log lines and its end. The reserve of the
engine's folder makes room for `clean`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "reserve"
"""The file in the engine's folder, and in the folder of each host."""

RESERVE_BYTES = 1 << 20
_PLENTY = 16 * RESERVE_BYTES
"""With more free space the reserve of the engine's folder is not needed."""


def reserve(path: Path, size: int = RESERVE_BYTES) -> None:
    """Make a file that takes disk space.

    Raises:
        OSError: there is not enough space.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.write(bytes(size))


def keep_reserve(home: Path) -> None:
    """Make the reserve of the engine's folder if it is missing and the disk has room for it."""
    path = home / FILE
    if path.exists():
        return
    try:
        reserve(path)
    except OSError:  # no room, or no rights, which other work reports
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def released_reserve(home: Path) -> Iterator[bool]:
    """Give the reserve of the engine's folder to the work within the block if the disk is nearly full.

    Yield True if it is.
    """
    nearly_full = shutil.disk_usage(home).free < _PLENTY
    if nearly_full:
        (home / FILE).unlink(missing_ok=True)
    try:
        yield nearly_full
    finally:
        keep_reserve(home)
