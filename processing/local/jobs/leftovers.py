"""The folders that killed processes leave behind: no process works in them any more.

A supervisor that is killed after it recorded its job's end, but before it removed the folder, leaves a folder. So does
a creator that is killed before it stored the job. Such a folder belongs to no unfinished job. It is removed when jobs
are listed or the engine's folder is cleaned.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from processing.local import file_trees, processes

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_FOLDER = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}-[0-9a-f]{12}", re.ASCII)
"""The name of a job's folder: the job's name and twelve random digits. Other folders are not the engine's."""


def leftover_folders(home: Path, in_use: Collection[str]) -> list[Path]:
    """Return the folders of jobs in which no process works.

    Args:
        home: the engine's folder.
        in_use: the folders of unfinished jobs, relative to `home`. Look them up before this call: a job that is
            created meanwhile then counts as in use by its locks.
    """
    try:
        names = os.listdir(home / "jobs")  # noqa: PTH208 - three times as fast, and part of every job's creation
    except FileNotFoundError:
        return []
    folders = [home / "jobs" / name for name in names if _FOLDER.fullmatch(name) and f"jobs/{name}" not in in_use]
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink() and not _has_lock_held(folder)]


def remove_leftover_folders(home: Path, in_use: Collection[str]) -> int:
    """Remove the folders that `leftover_folders` returns, and return their number."""
    folders = leftover_folders(home, in_use)
    for folder in folders:
        processes.kill_processes_of(folder)
        file_trees.remove_tree(folder)
    return len(folders)


def _has_lock_held(folder: Path) -> bool:
    # A folder gets its name after all its locks are held (see HostLocks). Without a holder, its processes are dead.
    with contextlib.suppress(FileNotFoundError):  # another process has just removed it
        return any(_is_locked(path) for path in folder.glob("*.lock"))
    return False


def _is_locked(path: Path) -> bool:
    import fcntl  # absent on Windows, where public names import this module all the same

    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False
