"""Processes and folders of jobs: telling one process from a later one of the same number, and clearing away."""

# Many small file operations: functions of `os` cost a third of what pathlib does.
# ruff: noqa: PTH106, PTH208

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DEPTH = 50
_REMOVAL_SECONDS = 60.0
"""After so long a folder is left in which somebody makes files as fast as they are removed."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start_mark(pid: int) -> str | None:
    """Return what tells a process from every other one of its number: boot and time of start. None if not known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}:{fields[19].decode()}"
    except (OSError, IndexError):
        return None


def kill_group(group: int, mark: str | None) -> None:
    """Kill what is left of a process group, unless its number has gone to another process since.

    While any member lives, the kernel gives the number to nobody else: a missing leader is therefore no obstacle, and
    one with another time of start means that the group is gone.
    """
    if mark is not None and Path(f"/proc/{group}").exists() and start_mark(group) != mark:
        return
    if mark is not None and not mark.startswith(_boot()):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def kill_marked(folder: Path) -> None:
    """Kill the processes that were started with a path inside the folder in their environment, where /proc shows it."""
    mark = os.fsencode(folder) + b"/"
    killed: set[str] = set()
    while found := {pid for pid in _numbers() - killed if mark in _environment(pid)}:  # again: they may have forked
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)
        killed |= found


def with_argument(argument: str) -> dict[int, list[str]]:
    """Return the number and the command line of each process that has `argument` on it, where /proc shows them."""
    found = {}
    for pid in _numbers():
        with contextlib.suppress(OSError):
            line = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
            if argument in line:
                found[int(pid)] = line
    return found


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants, the youngest first."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_bytes().split():
            kill_tree(int(child))
        os.kill(pid, signal.SIGKILL)


def _numbers() -> set[str]:
    """Return the numbers of all processes but this one."""
    with contextlib.suppress(OSError):
        return {name for name in os.listdir("/proc") if name.isdigit()} - {str(os.getpid())}
    return set()


def _environment(pid: str) -> bytes:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def entries_below(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield all that is below a folder, as far as paths reach; no link is followed, and no depth is too much."""
    folders = [folder]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, as far as possible; directories that a job locked are unlocked.

    A job may nest directories deeper than a path is long, and than functions may call themselves: what is very deep
    is moved to the top first.
    """
    top = _open_directory(str(path))
    if top is None:
        return
    deadline = time.monotonic() + _REMOVAL_SECONDS
    moved: list[str] = []

    def move_up(name: str, folder: int) -> None:
        _unlock(name, folder)  # or it could not be moved
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
    """Remove what has that name in an open folder; directories that are deeper than that in it are moved up."""
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
    """Remove what is no directory; return whether it is gone."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def _open_directory(name: str, folder: int | None = None) -> int | None:
    """Open a directory, and let us do in it as we like; None where that is impossible."""
    for _ in range(2):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except PermissionError:  # noqa: PERF203 -- twice at most
            _unlock(name, folder)
        except OSError:
            return None
        else:
            with contextlib.suppress(OSError):
                os.fchmod(fd, 0o700)
            return fd
    return None


def _unlock(name: str, folder: int | None) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.chmod(name, 0o700, dir_fd=folder)
