"""What killed processes leave of a job: folders in which nobody works any more.

A supervisor that is killed between noting its job's end and removing the folder, and a creator that is killed before it
noted the job, leave a folder that belongs to no unfinished job. Whoever lists jobs or cleans the folder removes those.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import TYPE_CHECKING

from processing.local import file_trees as trees
from processing.local import processes

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_FOLDER = re.compile(r"[a-zA-Z0-9](-?[a-zA-Z0-9]){0,62}-[0-9a-f]{12}", re.ASCII)


def leftover_folders(home: Path, in_use: Collection[str]) -> list[Path]:
    """Return the folders of jobs in which no process works. What is no job's folder by its name is none.

    Args:
        home: the engine's folder.
        in_use: those of unfinished jobs, relative to it, looked up before this call.
    """
    try:
        names = os.listdir(home / "jobs")  # noqa: PTH208 -- three times as fast, and this is part of every creation
    except FileNotFoundError:
        return []
    folders = [home / "jobs" / name for name in names if _FOLDER.fullmatch(name) and f"jobs/{name}" not in in_use]
    return [folder for folder in folders if folder.is_dir() and not folder.is_symlink() and not _someone_works(folder)]


def remove_leftover_folders(home: Path, in_use: Collection[str]) -> int:
    """Remove those folders, and return how many there were."""
    folders = leftover_folders(home, in_use)
    for folder in folders:
        processes.kill_processes_of(folder)
        trees.remove_tree(folder)
    return len(folders)


def _someone_works(folder: Path) -> bool:
    # A folder gets its name when all its locks are held (see hosts.HostLocks): one without a holder has lost it.
    with contextlib.suppress(FileNotFoundError):  # another process has just removed it
        return any(_is_locked(path) for path in folder.glob("*.lock"))
    return False


def _is_locked(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False
