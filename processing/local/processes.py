"""The processes of jobs: their identity beyond the process id, a search for them, and their removal.

A process id is reused after its process ends. So a process is identified by its id, its time of start, and the
machine's boot.
"""

# Many small file operations: the functions of `os` cost a third of pathlib's.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_SCANS = 50
_SCAN_PAUSE = 0.005
"""The number of scans for processes that have no environment yet, and the seconds between two. A process that never has
one delays the caller by a quarter of a second at most."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start_id(pid: int) -> str | None:
    """Return the boot and the time of start of a process, which identify it among all with its id.

    Return None if they cannot be read.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}:{fields[19].decode()}"
    except (OSError, IndexError):
        return None


def kill_group(group: int, leader_start: str | None) -> None:
    """Kill the rest of a process group, unless another process has its number by now.

    While a member of the group lives, the kernel does not reuse the number. So a group whose leader has ended may still
    have members, and a leader with another time of start means that the group has ended.

    Args:
        group: the number of the group.
        leader_start: the `start_id` of the group's leader; None if it is not known.
    """
    if leader_start is not None and Path(f"/proc/{group}").exists() and start_id(group) != leader_start:
        return
    if leader_start is not None and not leader_start.startswith(_boot()):
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def kill_processes_of(folder: Path) -> None:
    """Kill the processes that were started with a path inside a job's folder in their environment.

    Without /proc no process is found.
    """
    mark = os.fsencode(folder) + b"/"
    killed: set[str] = set()
    for _ in range(_SCANS):
        environments = {pid: _environment(pid) for pid in _process_ids() - killed}
        found = {pid for pid, environment in environments.items() if mark in environment}
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(pid), signal.SIGKILL)
        killed |= found
        beginning = any(not environment and _is_program(pid) for pid, environment in environments.items())
        if not found and not beginning:
            return
        if not found:
            time.sleep(_SCAN_PAUSE)


def command_lines_with(argument: str) -> dict[int, list[str]]:
    """Return the command lines with a given argument by the id of their process; empty without /proc."""
    found = {}
    for pid in _process_ids():
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


def _process_ids() -> set[str]:
    """Return the ids of all processes but this one."""
    with contextlib.suppress(OSError):
        return {name for name in os.listdir("/proc") if name.isdigit()} - {str(os.getpid())}
    return set()


def _is_program(pid: str) -> bool:
    """Return whether a process without an environment may have one shortly: it lives, and is not a kernel thread.

    While a process executes a new program, the kernel shows neither the old environment nor the new one.
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
