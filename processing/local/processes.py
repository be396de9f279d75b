"""Processes and folders of jobs: telling one process from a later one of the same number, and clearing away."""

# Many small file operations: functions of `os` cost a third of what pathlib does.
# ruff: noqa: PTH101, PTH114, PTH120, PTH208

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

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


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, as far as possible; directories that a job locked are unlocked."""

    def unlock(function: Callable[..., Any], name: str, _: object) -> None:
        with contextlib.suppress(OSError):
            parent = os.path.dirname(name)
            os.chmod(parent, 0o700)
            if not os.path.islink(name):
                os.chmod(name, 0o700)
            if function in {os.unlink, os.rmdir}:
                function(name)
            else:
                shutil.rmtree(name, ignore_errors=True)

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=unlock)
    else:
        shutil.rmtree(path, onerror=unlock)
