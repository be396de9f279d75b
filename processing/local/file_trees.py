"""Traversal and removal of folders with arbitrary content, as jobs leave them.

A job may nest directories deeper than a path is long, and take away its own rights to them.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH101, PTH106, PTH208

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


def entries_below(folder: str, on_error: Callable[[OSError], object] | None = None) -> Iterator[os.DirEntry[str]]:
    """Yield all entries below a folder whose paths are not too long for the system, at any depth.

    Links are not followed.

    Args:
        folder: the folder.
        on_error: called for each directory that cannot be read. None: such directories are skipped, which suits an
            estimate of a size and nothing else.
    """
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError as error:  # noqa: PERF203 - each directory has an error of its own
            if on_error is not None:
                on_error(error)


def add_mode(name: str, folder: int | None, bits: int, kind: int) -> int | None:
    """Add permissions to an entry of an open folder if the entry has a certain type. A link is not followed.

    Args:
        name: the entry's name.
        folder: the folder's descriptor; None if `name` is a path.
        bits: the permissions to add.
        kind: the entry's type, such as `stat.S_IFREG`; other entries do not change.

    Returns:
        the permissions before; None if they did not change.

    Raises:
        OSError: the entry does not exist, or is another user's.
    """
    if not hasattr(os, "O_PATH"):
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_IFMT(mode) != kind:
            return None
        os.chmod(name, stat.S_IMODE(mode) | bits, dir_fd=folder, follow_symlinks=False)
        return stat.S_IMODE(mode)
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_IFMT(mode) != kind:
            return None
        os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode) | bits)
        return stat.S_IMODE(mode)
    finally:
        os.close(fd)


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
        add_mode(name, folder, stat.S_IRWXU, stat.S_IFDIR)
