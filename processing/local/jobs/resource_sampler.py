"""How much of the machine a host uses: its CPU, memory and disk, sampled into the metric store while it runs.

CPU is in per cent of one core, so that four busy cores are 400; memory in per cent of the host's limit, or of the
machine; the disk in per cent of the volume that the job asked for. All of it is read from /proc: where there is none,
nothing is sampled. What a program starts counts while it has a living parent among the host's processes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from processing.local.limits import DiskWatch

    class Store(Protocol):
        """What takes the samples."""

        def append(self, host: str, samples: list[tuple[float, dict[str, float]]]) -> object:
            """Keep samples: pairs of a time, in seconds since the epoch, and values by metric."""


_PROC = Path("/proc")
_COST = 100
"""A sample is followed by a pause of so many times its own cost at least."""


class ResourceUsage(NamedTuple):
    """What a set of processes used.

    Attributes:
        cpu: seconds of CPU time, of their ended and awaited children as well.
        memory: bytes that are in memory, each process's counted on its own.
    """

    cpu: float
    memory: int


class Sampler(threading.Thread):
    """Samples one host in a thread of its own, so that no line of its log has to wait for it.

    Args:
        host: the host's name in the metrics, such as `my-job/algo-1`.
        store: what takes the samples.
        disk: watches the host's files.
        memory: how many bytes the host may use; None for the machine's.
        seconds: between two samples; longer where sampling takes long.
    """

    def __init__(self, host: str, store: Store, disk: DiskWatch, memory: int | None, seconds: float) -> None:
        super().__init__(daemon=True)
        self._host = host
        self._store = store
        self._disk = disk
        self._memory = memory or _machine_memory()
        self._seconds = seconds
        self._root = 0
        self._find: Callable[[], int] | None = None
        self._found = 0
        self._last = ResourceUsage(0.0, 0)
        self._last_time = 0.0
        self._over = threading.Event()

    def watch(self, root: int, find: Callable[[], int] | None = None) -> None:
        """Begin, with the process `root` and all its descendants.

        Args:
            root: a child of this process.
            find: finds the id of the process to watch in its place, 0 while it is not there.
        """
        self._root = root
        self._find = find
        self._last_time = time.monotonic()
        self.start()

    def run(self) -> None:
        """Look at the disk and take samples, each in its time."""
        next_sample = self._last_time + self._seconds
        while not self._over.wait(min(self._disk.pause, max(0.0, next_sample - time.monotonic()))):
            self._disk.measure_if_due()
            if time.monotonic() >= next_sample:
                began = time.thread_time()
                with contextlib.suppress(OSError):
                    self._sample(usage_of_tree(self._process()))
                pause = max(self._seconds, _COST * (time.thread_time() - began))
                next_sample = time.monotonic() + pause

    def finish(self) -> None:
        """Take a last sample, from what the kernel noted of the processes that have ended."""
        self.stop()
        if not self._root:
            return  # the program never ran
        self._disk.measure()
        # Of others than children nothing is noted. Of one that ended before it was seen, its client has to do.
        if self._find is None or not self._found:
            self._sample(_usage_of_ended_children(self._last.memory))

    def stop(self) -> None:
        """Take no more samples by itself."""
        self._over.set()
        if self.is_alive():
            self.join()

    def _process(self) -> int:
        if self._find is None:
            return self._root
        self._found = self._found or self._find()
        if not self._found:
            raise ProcessLookupError
        return self._found

    def _sample(self, use: ResourceUsage) -> None:
        if not self._memory:
            return
        now = time.monotonic()
        elapsed = max(now - self._last_time, 1e-3)
        values = {
            "CPUUtilization": 100 * max(0.0, use.cpu - self._last.cpu) / elapsed,
            "MemoryUtilization": 100 * use.memory / self._memory,
            "DiskUtilization": self._disk.percent,
        }
        self._last, self._last_time = use, now
        with contextlib.suppress(ApiError, sqlite3.Error):  # on a full disk: no job shall fail for want of a figure
            self._store.append(self._host, [(time.time(), values)])


def usage_of_tree(root: int) -> ResourceUsage:
    """Return what a process and all its descendants use just now, in whichever process namespace.

    Raises:
        OSError: there is no such process, or no /proc.
    """
    ticks, pages = 0, 0
    for pid in _tree(root):
        try:
            fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            if pid == root:
                raise
            continue  # it ended in between
        ticks += sum(int(field) for field in fields[11:15])
        pages += int(fields[21])
    return ResourceUsage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def _tree(root: int) -> Iterator[int]:
    found = [root]
    while found:
        pid = found.pop()
        yield pid
        with contextlib.suppress(OSError):
            for task in os.listdir(_PROC / str(pid) / "task"):  # noqa: PTH208 -- cheaper
                found += map(int, (_PROC / str(pid) / "task" / task / "children").read_bytes().split())


def _usage_of_ended_children(memory: int) -> ResourceUsage:
    """Return what the ended children of this process used; their memory only where none was seen before."""
    import resource

    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ResourceUsage(ended.ru_utime + ended.ru_stime, memory or ended.ru_maxrss * 1024)


def _machine_memory() -> int:
    """Return the machine's memory in bytes; 0 where there is no /proc."""
    try:
        first = (_PROC / "meminfo").read_bytes().splitlines()[0].split()
    except OSError:
        return 0
    return int(first[1]) * 1024
