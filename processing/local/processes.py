"""Processes of jobs: telling one from a later one of the same number, finding them, and killing what is left."""

# Many small file operations: functions of `os` cost a third of what pathlib does.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_LOOKS = 50
_BETWEEN_LOOKS = 0.005
"""Seconds between two looks for processes whose environment is not there yet; one that never has any is not awaited
for longer than a quarter of a second."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start_id(pid: int) -> str | None:
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
    if mark is not None and Path(f"/proc/{group}").exists() and start_id(group) != mark:
        return
    if mark is not None and not mark.startswith(_boot()):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def kill_processes_of(folder: Path) -> None:
    """Kill the processes that were started with a path inside the folder in their environment, where /proc shows it."""
    mark = os.fsencode(folder) + b"/"
    killed: set[str] = set()
    for _ in range(_LOOKS):
        environments = {pid: _environment(pid) for pid in _numbers() - killed}
        found = {pid for pid, environment in environments.items() if mark in environment}
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)
        killed |= found
        beginning = any(not environment and _is_program(pid) for pid, environment in environments.items())
        if not found and not beginning:
            return
        if not found:
            time.sleep(_BETWEEN_LOOKS)


def command_lines_with(argument: str) -> dict[int, list[str]]:
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


def _is_program(pid: str) -> bool:
    """Return whether a process without an environment may have one in a moment: it is none of the kernel's, and lives.

    While a program is put in a process's place, the kernel shows neither the old environment nor the new one.
    """
    with contextlib.suppress(OSError, IndexError):
        Path(f"/proc/{pid}/exe").readlink()
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in b"ZX"
    return False


def _environment(pid: str) -> bytes:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def _boot() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
