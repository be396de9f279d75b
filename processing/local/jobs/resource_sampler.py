"""The sampler of a host's CPU, memory and disk use, which fills the metric store while the host runs.

CPU is in per cent of one core, so four busy cores are 400. Memory is in per cent of the host's limit, or of the
machine. The disk is in per cent of the volume that the job asked for. CPU and memory are read from /proc: without /proc
nothing is sampled. A process counts as long as it has a living parent among the host's processes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from processing.exceptions import ProcessingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from processing.local.limits import DiskWatch

    class SampleStore(Protocol):
        """A store of samples."""

        def append(self, samples: list[tuple[float, dict[str, float]]]) -> object:
            """Store samples: pairs of a time, in seconds since the epoch, and values by metric."""


_PROC = Path("/proc")
_PAUSE_FACTOR = 100
"""The pause after a sample lasts at least so many times its CPU time: sampling takes 1 % of a core at most."""


class ResourceUsage(NamedTuple):
    """The resources that a set of processes used.

    Attributes:
        cpu: seconds of CPU time, including their ended and awaited children.
        memory: resident bytes; memory that processes share counts once for each.
    """

    cpu: float
    memory: int


class Sampler(threading.Thread):
    """A thread that samples one host. No log line has to wait for it.

    Args:
        store: the store of the host's samples.
        disk: the measured use of the host's disk volume.
        memory: the bytes of memory that the host may use; None for the machine's memory.
        seconds: the time between two samples; it grows if sampling takes long.
    """

    def __init__(self, store: SampleStore, disk: DiskWatch, memory: int | None, seconds: float) -> None:
        super().__init__(daemon=True)
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
        """Start to sample the process `root` and all its descendants, in place of those of an earlier run.

        Args:
            root: a child of this process.
            find: finds the id of the process to sample instead of `root`; returns 0 as long as it does not exist.
        """
        self._root = root
        self._find = find
        if find is not None:  # each run has a process of its own, whose CPU time begins at 0
            self._found, self._last = 0, ResourceUsage(0.0, 0)
        self._last_time = time.monotonic()
        if not self.is_alive():
            self.start()

    def run(self) -> None:
        """Measure the disk and take samples, each when it is due."""
        next_sample = self._last_time + self._seconds
        while not self._over.wait(min(self._disk.pause, max(0.0, next_sample - time.monotonic()))):
            self._disk.measure_if_due()
            if time.monotonic() >= next_sample:
                began = time.thread_time()
                with contextlib.suppress(OSError):
                    self._sample(usage_of_tree(self._process()))
                pause = max(self._seconds, _PAUSE_FACTOR * (time.thread_time() - began))
                next_sample = time.monotonic() + pause

    def finish(self) -> None:
        """Take a last sample, from the kernel's record of the processes that have ended."""
        self.stop()
        if not self._root:
            return  # the program never ran
        self._disk.measure()
        # The kernel records children only. If the process found by `find` was sampled, its last sample stands. If it
        # ended before the first sample, the client of the container stands in for it.
        if self._find is None or not self._found:
            self._sample(_usage_of_ended_children(self._last.memory))

    def stop(self) -> None:
        """Take no more samples."""
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
        with contextlib.suppress(ProcessingError):  # on a full disk: a missing sample must not fail a job
            self._store.append([(time.time(), values)])


def usage_of_tree(root: int) -> ResourceUsage:
    """Return the resources that a process and all its descendants use now, in any process namespace.

    Raises:
        OSError: the process or /proc does not exist.
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
            for task in os.listdir(_PROC / str(pid) / "task"):  # noqa: PTH208 - cheaper
                found += map(int, (_PROC / str(pid) / "task" / task / "children").read_bytes().split())


def _usage_of_ended_children(memory: int) -> ResourceUsage:
    """Return the resources that the ended children of this process used.

    Args:
        memory: the resident bytes of an earlier sample. If it is 0, the largest child's peak stands in for it.
    """
    import resource

    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ResourceUsage(ended.ru_utime + ended.ru_stime, memory or ended.ru_maxrss * 1024)


def _machine_memory() -> int:
    """Return the machine's memory in bytes; 0 without /proc."""
    try:
        first = (_PROC / "meminfo").read_bytes().splitlines()[0].split()
    except OSError:
        return 0
    return int(first[1]) * 1024
