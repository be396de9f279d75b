"""What a host may use of the machine: CPUs, memory, and its disk volume. Where a limit cannot be kept, it says why.

CPUs are kept by affinity. Memory is kept for all processes of a host together by a control group of its own, where
one can be made; else for each process alone by RLIMIT_DATA, which counts what a process may write to, mapped memory
included. The disk volume is watched: a host that holds more than it may is ended.

Standard library only: supervisors keep the limits, handlers ask what can be kept.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local import file_trees as trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TOO_LITTLE = "Please use an instance type with more memory, or reduce the size of job data processed on an instance."
OUT_OF_MEMORY = f"ClientError: {_TOO_LITTLE}"
"""The FailureReason that SageMaker gives a job of which the kernel killed a process for want of memory."""
GIB = 1 << 30
_LAUNCH = 'test -z "$1" || echo $$ > "$1" || exit 125; test -z "$2" || ulimit -d "$2"; shift 2; exec "$@"'
"""Enter a control group ($1), set the limit of a process in KiB ($2), and become the program: so that no moment is
left in which it runs without its limit."""
_RELEASE_TRIES, _RELEASE_SECONDS = 200, 0.01
_SCAN_SECONDS = 0.5
"""Between two looks at the disk; longer where a look takes long, so that looking takes 1 % of the time at most."""


class GroupFiles(NamedTuple):
    """The names of the files of a memory control group."""

    limit: str
    swap: str
    kills: str


_FILES = {
    1: GroupFiles("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
    2: GroupFiles("memory.max", "memory.swap.max", "memory.events"),
}


def plan(cpus: int | None, memory_gb: float | None) -> tuple[dict[str, Any], list[str]]:
    """Decide how limits are kept on this machine.

    Args:
        cpus: how many CPUs a host may use.
        memory_gb: how many GiB it may use.

    Returns:
        what `HostLimits` needs, in JSON's types, and a sentence for each limit that is not kept as it should be.
    """
    decided: dict[str, Any] = {}
    warnings = []
    if cpus is not None:
        if not hasattr(os, "sched_setaffinity"):
            warnings.append(f"cpus={cpus} has no effect: {sys.platform} does not tie a process to CPUs.")
        else:
            decided["cpus"] = cpus
            available = len(os.sched_getaffinity(0))
            if cpus > available:
                warnings.append(f"cpus={cpus} is more than the {available} that this process may use.")
    if memory_gb is not None:
        if sys.platform.startswith("linux"):
            decided["memory"] = int(memory_gb * GIB)
            parent, version, reason = memory_parent()
            if parent is None:
                warnings.append(
                    f"memory_gb={memory_gb:g} holds for each process of a job on its own (RLIMIT_DATA), not for all "
                    f"of a host's together: {reason}."
                )
            else:
                decided["group"] = {"parent": str(parent), "version": version}
        else:
            warnings.append(f"memory_gb={memory_gb:g} has no effect: {sys.platform} does not limit it.")
    return decided, warnings


@functools.cache
def memory_parent() -> tuple[Path | None, int, str]:
    """Return the control group below which those of hosts can be made, its version (1 or 2), or None and a reason.

    It is tried out once in a process: a group is made, a process enters it, the group is removed.
    """
    reason = "no memory control group is mounted"
    for folder, version in _candidates():
        group = folder / f"processing-probe-{os.getpid()}"
        try:
            _make_group(group, version, GIB)
            entered = subprocess.run(  # noqa: S603 -- a fixed command
                ["/bin/sh", "-c", _LAUNCH, "sh", str(group / "cgroup.procs"), "", "true"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if entered.returncode == 0:
                return folder, version, ""
            reason = f"no process may enter a control group below {folder}"
        except OSError as error:
            reason = f"no control group can be made below {folder} ({error.strerror})"
        finally:
            remove_group(group)
    return None, 0, reason


def _candidates() -> Iterator[tuple[Path, int]]:
    """Yield the places where a memory control group may be made, those nearest to this process first."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
        own = dict(_own_groups(Path("/proc/self/cgroup").read_text("utf-8")))
    except OSError:
        return
    for _, place, kind, options, *_ in mounts:
        if kind == "cgroup" and "memory" in options.split(",") and "memory" in own:
            yield _below(place, own["memory"]), 1
        elif kind == "cgroup2" and "" in own:
            # A group with processes of its own hands no controller down; so beside this process's, or further up.
            folder = _below(place, own[""])
            while folder != Path(place):
                folder = folder.parent
                with contextlib.suppress(OSError):
                    if "memory" in (folder / "cgroup.subtree_control").read_text("ascii").split():
                        yield folder, 2


def _own_groups(text: str) -> Iterator[tuple[str, str]]:
    """Yield each controller with this process's group, from `/proc/self/cgroup`; version 2 has the controller ""."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _below(place: str, path: str) -> Path:
    return Path(place) / path.lstrip("/")


def _make_group(group: Path, version: int, limit: int) -> None:
    files = _FILES[version]
    group.mkdir()
    (group / files.limit).write_text(str(limit), "ascii")
    with contextlib.suppress(OSError):  # without swap accounting there is no such file
        (group / files.swap).write_text(str(limit if version == 1 else 0), "ascii")


def remove_group(group: Path) -> None:
    """Kill what is left in a control group, and remove it."""
    for _ in range(_RELEASE_TRIES):
        if not group.exists():
            return
        try:
            group.rmdir()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                for pid in (group / "cgroup.procs").read_text("ascii").split():
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(_RELEASE_SECONDS)


def remove_orphaned_group(work: Path) -> None:
    """Remove the control group of a host whose supervisor is gone.

    Args:
        work: the host's folder.
    """
    link = work / "group"
    if link.is_symlink():
        remove_group(Path(os.readlink(link)))  # noqa: PTH115


class HostLimits:
    """Keeps the limits of one host.

    Args:
        decided: what `plan` decided.
        work: the host's folder, in which it is noted which control group there is.
        turn: a number that differs between hosts, so that they do not all get the same CPUs.
    """

    def __init__(self, decided: Mapping[str, Any], work: Path, turn: int) -> None:
        self._cpus: int | None = decided.get("cpus")
        self.memory: int | None = decided.get("memory")
        self._plan = decided.get("group")
        self._work = work
        self._turn = turn
        self._group: Path | None = None

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` within the limits; this process's own CPUs are limited, too."""
        if self._cpus is not None:
            available = sorted(os.sched_getaffinity(0))
            first = self._turn * self._cpus
            os.sched_setaffinity(0, {available[(first + each) % len(available)] for each in range(self._cpus)})
        if self.memory is None:
            return list(argv)
        self._group = self._make_group()
        entry, kilobytes = (str(self._group / "cgroup.procs"), "") if self._group else ("", str(self.memory >> 10))
        return ["/bin/sh", "-c", _LAUNCH, "sh", entry, kilobytes, *argv]

    def _make_group(self) -> Path | None:
        if self._plan is None or self.memory is None:
            return None
        group = Path(self._plan["parent"]) / f"{self._work.parent.name}-{self._work.name}"
        try:
            (self._work / "group").symlink_to(group)
            _make_group(group, self._plan["version"], self.memory)
        except OSError:  # what worked for the creator of the job need not work for its supervisor
            remove_group(group)
            return None
        return group

    def out_of_memory(self) -> bool:
        """Return whether the kernel killed a process of the host for want of memory."""
        if self._group is None or self._plan is None:
            return False
        try:
            text = (self._group / _FILES[self._plan["version"]].kills).read_text("ascii")
        except OSError:  # an older kernel does not count
            return False
        found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        return found is not None and found[1] != "0"

    def close(self) -> None:
        """Remove the control group, with whatever still runs in it."""
        if self._group is not None:
            remove_group(self._group)


class DiskWatch:
    """How much of its volume a host's files fill.

    Args:
        folder: where they are.
        limit: the size of the volume, in bytes.
        clock: tells the time, in seconds.

    Attributes:
        used: how many bytes it was when it was last looked at.
        exceeded: whether it was ever more than the volume holds.
    """

    def __init__(self, folder: Path, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._next = clock() + _SCAN_SECONDS
        self.limit = limit
        self.used = 0
        self.exceeded = False

    @property
    def percent(self) -> float:
        """How full the volume is."""
        return 100 * self.used / self.limit

    @property
    def pause(self) -> float:
        """Seconds until it is time for the next look."""
        return max(0.0, self._next - self._clock())

    def measure_if_due(self) -> None:
        """Look, unless that was done a short while ago."""
        if self.pause <= 0:
            self.measure()

    def measure(self) -> None:
        """Add up the blocks of all files; links are not followed, and what is used in place does not count."""
        began = self._clock()
        self.used = 512 * sum(map(_blocks, trees.entries_below(str(self._folder))))
        self.exceeded |= self.used > self.limit
        ended = self._clock()
        self._next = ended + max(_SCAN_SECONDS, 100 * (ended - began))


def _blocks(entry: os.DirEntry[str]) -> int:
    """Return the blocks of a file; one with several names counts with each, a directory not at all."""
    with contextlib.suppress(OSError):
        if not entry.is_dir(follow_symlinks=False):
            return entry.stat(follow_symlinks=False).st_blocks
    return 0
