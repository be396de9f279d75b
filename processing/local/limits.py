"""The resource limits of a host: CPUs, memory, and its disk volume. A limit without effect is reported with its reason.

CPUs are limited by affinity. Memory is limited for all processes of a host together by a control group, if one can be
made. Otherwise RLIMIT_DATA limits each process alone; it counts writable memory, mapped memory included. The disk
volume is measured: a host whose files exceed it is ended.

Standard library only: supervisors apply the limits, handlers find out which limits this machine can enforce.
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

from processing.local import file_trees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TOO_LITTLE = "Please use an instance type with more memory, or reduce the size of job data processed on an instance."
OUT_OF_MEMORY = f"ClientError: {_TOO_LITTLE}"
"""SageMaker's FailureReason for a job after the kernel killed a process for lack of memory."""
GIB = 1 << 30
_ENTER_LIMITS = 'test -z "$1" || echo $$ > "$1" || exit 125; test -z "$2" || ulimit -d "$2"; shift 2; exec "$@"'
"""A shell script that enters a control group ($1), sets the limit of a process in KiB ($2), and becomes the program.
The program never runs without its limit."""
_RELEASE_TRIES, _RELEASE_SECONDS = 200, 0.01
"""A control group stays busy until the kernel has removed its killed processes: it is tried for two seconds."""
_MEASURE_SECONDS = 0.5
"""The shortest pause between two measurements of the disk."""
_PAUSE_FACTOR = 100
"""A pause lasts at least so many times the measurement before it, so that measuring takes 1 % of the time at most."""


class GroupFiles(NamedTuple):
    """The names of the files of a memory control group.

    Attributes:
        limit: the limit of memory in bytes.
        swap: the limit of swap, or of memory and swap together.
        kills: the count of processes that the kernel killed.
    """

    limit: str
    swap: str
    kills: str


_FILES = {
    1: GroupFiles("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"),
    2: GroupFiles("memory.max", "memory.swap.max", "memory.events"),
}
"""The files by the version of control groups."""


class GroupParent(NamedTuple):
    """A control group in which the groups of hosts can be made.

    Attributes:
        parent: its folder.
        version: the version of control groups, 1 or 2.
    """

    parent: str
    version: int


class ResourceLimits(NamedTuple):
    """The limits that a supervisor enforces.

    Attributes:
        cpus: the CPUs that a host may use; None for no limit.
        memory: the bytes of memory that a host may use; None for no limit.
        group: the control group that limits memory; None if each process is limited alone.
    """

    cpus: int | None = None
    memory: int | None = None
    group: GroupParent | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the limits in JSON's types, without those that are None."""
        values = {"cpus": self.cpus, "memory": self.memory, "group": self.group and self.group._asdict()}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ResourceLimits:
        """Return the limits that `to_json` wrote."""
        group = data.get("group")
        return cls(data.get("cpus"), data.get("memory"), None if group is None else GroupParent(**group))


def enforceable_limits(cpus: int | None, memory_gb: float | None) -> tuple[ResourceLimits, list[str]]:
    """Return the limits that this machine can enforce.

    Args:
        cpus: the CPUs that a host may use; None for all.
        memory_gb: the memory that a host may use, in GiB; None for no limit.

    Returns:
        the limits, and a warning for each limit that has no effect or less than it should.
    """
    limits = ResourceLimits()
    warnings = []
    if cpus is not None:
        if not hasattr(os, "sched_setaffinity"):
            warnings.append(f"cpus={cpus} has no effect: {sys.platform} does not tie a process to CPUs.")
        else:
            limits = limits._replace(cpus=cpus)
            available = len(os.sched_getaffinity(0))
            if cpus > available:
                warnings.append(f"cpus={cpus} is more than the {available} that this process may use.")
    if memory_gb is not None:
        if sys.platform.startswith("linux"):
            group, reason = memory_group_parent()
            limits = limits._replace(memory=int(memory_gb * GIB), group=group)
            if group is None:
                warnings.append(
                    f"memory_gb={memory_gb:g} holds for each process of a job on its own (RLIMIT_DATA), not for all "
                    f"of a host's together: {reason}."
                )
        else:
            warnings.append(f"memory_gb={memory_gb:g} has no effect: {sys.platform} does not limit it.")
    return limits, warnings


@functools.cache
def memory_group_parent() -> tuple[GroupParent | None, str]:
    """Return the control group in which those of hosts can be made, or None and the reason.

    Each candidate is tried once per process: a group is made, a process enters it, and the group is removed.
    """
    reason = "no memory control group is mounted"
    for folder, version in _candidates():
        group = folder / f"processing-probe-{os.getpid()}"
        try:
            _make_group(group, version, GIB)
            entered = subprocess.run(  # noqa: S603 - a fixed command
                ["/bin/sh", "-c", _ENTER_LIMITS, "sh", str(group / "cgroup.procs"), "", "true"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if entered.returncode == 0:
                return GroupParent(str(folder), version), ""
            reason = f"no process may enter a control group below {folder}"
        except OSError as error:
            reason = f"no control group can be made below {folder} ({error.strerror})"
        finally:
            remove_group(group)
    return None, reason


def _candidates() -> Iterator[tuple[Path, int]]:
    """Yield the folders where a memory control group may be made, the nearest to this process first."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
        own = dict(_own_groups(Path("/proc/self/cgroup").read_text("utf-8")))
    except OSError:
        return
    for _, place, kind, options, *_ in mounts:
        if kind == "cgroup" and "memory" in options.split(",") and "memory" in own:
            yield _below(place, own["memory"]), 1
        elif kind == "cgroup2" and "" in own:
            # In version 2 a group that has processes cannot pass controllers on to groups below it. So the candidates
            # are the groups above this process's own.
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
    """Kill the processes of a control group, and remove it."""
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
    """Remove the control group of a host whose supervisor is dead.

    Args:
        work: the host's folder.
    """
    link = work / "group"
    if link.is_symlink():
        remove_group(Path(os.readlink(link)))  # noqa: PTH115 - a path as text


class HostLimits:
    """The limits of one host, as its supervisor enforces them.

    Args:
        limits: the limits.
        work: the host's folder, which keeps a link to the control group.
        cpu_slot: a number that differs between hosts, so that hosts use different CPUs.
    """

    def __init__(self, limits: ResourceLimits, work: Path, cpu_slot: int) -> None:
        self._limits = limits
        self._work = work
        self._cpu_slot = cpu_slot
        self._group: Path | None = None

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` within the limits, and limit the CPUs of this process itself."""
        cpus, memory = self._limits.cpus, self._limits.memory
        if cpus is not None:
            available = sorted(os.sched_getaffinity(0))
            first = self._cpu_slot * cpus
            os.sched_setaffinity(0, {available[(first + each) % len(available)] for each in range(cpus)})
        if memory is None:
            return list(argv)
        self._group = self._group or self._make_group(memory)
        entry, kilobytes = (str(self._group / "cgroup.procs"), "") if self._group else ("", str(memory >> 10))
        return ["/bin/sh", "-c", _ENTER_LIMITS, "sh", entry, kilobytes, *argv]

    def _make_group(self, memory: int) -> Path | None:
        if self._limits.group is None:
            return None
        group = Path(self._limits.group.parent) / f"{self._work.parent.name}-{self._work.name}"
        try:
            (self._work / "group").symlink_to(group)
            _make_group(group, self._limits.group.version, memory)
        except OSError:  # the job's creator could make a group, but its supervisor may lack the right
            remove_group(group)
            return None
        return group

    def out_of_memory(self) -> bool:
        """Return whether the kernel killed a process of the host because memory ran out."""
        if self._group is None or self._limits.group is None:
            return False
        try:
            text = (self._group / _FILES[self._limits.group.version].kills).read_text("ascii")
        except OSError:  # an older kernel does not count
            return False
        found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        return found is not None and found[1] != "0"

    def close(self) -> None:
        """Remove the control group and kill the processes in it."""
        if self._group is not None:
            remove_group(self._group)


class DiskWatch:
    """The measured use of a host's disk volume.

    Args:
        folder: the folder of the host's files.
        limit: the size of the volume, in bytes.
        clock: the clock, in seconds.

    Attributes:
        used: the bytes in use at the last measurement.
        exceeded: whether a measurement ever found more than the volume holds.
    """

    def __init__(self, folder: Path, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._next = clock() + _MEASURE_SECONDS
        self.limit = limit
        self.used = 0
        self.exceeded = False

    @property
    def percent(self) -> float:
        """The used part of the volume, in per cent."""
        return 100 * self.used / self.limit

    @property
    def pause(self) -> float:
        """Seconds until the next measurement is due."""
        return max(0.0, self._next - self._clock())

    def measure_if_due(self) -> None:
        """Measure, unless the last measurement is too recent."""
        if self.pause <= 0:
            self.measure()

    def measure(self) -> None:
        """Add up the blocks of all files. Links are not followed, and data that is used in place does not count."""
        began = self._clock()
        self.used = 512 * sum(map(_blocks, file_trees.entries_below(str(self._folder))))
        self.exceeded |= self.used > self.limit
        ended = self._clock()
        self._next = ended + max(_MEASURE_SECONDS, _PAUSE_FACTOR * (ended - began))


def _blocks(entry: os.DirEntry[str]) -> int:
    """Return the blocks of a file. A file with several names counts once for each; a directory does not count."""
    with contextlib.suppress(OSError):
        if not entry.is_dir(follow_symlinks=False):
            return entry.stat(follow_symlinks=False).st_blocks
    return 0
