"""The processes of remote functions' jobs on an engine, which tests kill."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def find_processes(home: Path) -> dict[str, list[int]]:
    """Return the processes of an engine's jobs by kind.

    Args:
        home: the engine's folder.

    Returns:
        `supervisor`, `program` (of a host) and `worker`: any process that a program has forked.
    """
    where = os.fsencode(home)
    supervisors, programs = dict[int, int](), dict[int, int]()
    for place in Path("/proc").glob("[1-9]*"):
        with contextlib.suppress(OSError):
            command, environment = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
            parent = int((place / "stat").read_bytes().rpartition(b")")[2].split()[1])
            words = command.split(b"\0")  # a sandbox has the program's words after its own
            if b"processing.local.jobs.supervisor" in command and where in command:
                supervisors[int(place.name)] = parent
            elif b"python" in words[0] and b"_BOOT" in b"".join(words[1:3]) and where in environment:
                programs[int(place.name)] = parent
    workers = [each for each, parent in programs.items() if parent in programs]
    return {
        "supervisor": without_children(supervisors),
        "program": [each for each in programs if each not in workers],
        "worker": workers,
    }


def without_children(parents: Mapping[int, int]) -> list[int]:
    """Return the processes whose parents are not among them.

    A forked child has its parent's command line until it executes its own program.

    Args:
        parents: the processes of one command line, each with its parent.
    """
    return [process for process, parent in parents.items() if parent not in parents]


def kill(process: int) -> None:
    """Kill a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
