"""Traversal and removal of folders with arbitrary content, as jobs leave them.

A job may nest directories deeper than a path is long, and take away its own rights to them.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH106, PTH208

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_DEPTH = 50
"""The depth of recursion, far below Python's limit. Deeper directories are moved to the top first."""
_REMOVAL_SECONDS = 60.0
"""The time after which a removal gives up. It only takes so long if a process makes files as fast as they go."""


def entries_below(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield all entries below a folder whose paths are not too long for the system, at any depth.

    Links are not followed. Directories that cannot be read are skipped.
    """
    folders = [folder]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def remove_tree(path: Path) -> None:
    """Remove a folder with all its content, as far as possible.

    Directories without rights are made accessible. Very deep directories are moved to the top and removed there, since
    neither paths nor recursion reach them.
    """
    top = _open_directory(str(path))
    if top is None:
        return
    deadline = time.monotonic() + _REMOVAL_SECONDS
    moved: list[str] = []

    def move_up(name: str, folder: int) -> None:
        _make_accessible(name, folder)  # a directory without rights cannot be moved
        with contextlib.suppress(OSError):
            new = f".{os.urandom(8).hex()}"
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
            moved.append(new)

    try:
        names = os.listdir(top)
        while names and time.monotonic() < deadline:
            for name in names:
                _remove(name, top, _DEPTH, move_up)
            names, moved = moved, []
    finally:
        os.close(top)
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _remove(name: str, folder: int, depth: int, move_up: Callable[[str, int], None]) -> None:
    """Remove an entry of an open folder. Directories deeper than `depth` in it are moved up instead."""
    if _unlinked(name, folder):
        return
    fd = _open_directory(name, folder)
    if fd is None:
        return
    try:
        for inner in os.listdir(fd):
            if depth:
                _remove(inner, fd, depth - 1, move_up)
            elif not _unlinked(inner, fd):
                move_up(inner, fd)
    finally:
        os.close(fd)
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=folder)


def _unlinked(name: str, folder: int) -> bool:
    """Remove an entry that is not a directory, and return whether it is gone."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def _open_directory(name: str, folder: int | None = None) -> int | None:
    """Open a directory with full rights for this user; return None if that is impossible."""
    for _ in range(2):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except PermissionError:  # noqa: PERF203 - two attempts at most
            _make_accessible(name, folder)
        except OSError:
            return None
        else:
            with contextlib.suppress(OSError):
                os.fchmod(fd, 0o700)
            return fd
    return None


def _make_accessible(name: str, folder: int | None) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.chmod(name, 0o700, dir_fd=folder)
