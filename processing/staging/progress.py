"""How far a transfer has come, told to whoever asked to know."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from processing.clock import Clock


@attrs.frozen
class Progress:
    """How far a transfer has come.

    Args:
        files: files that have arrived.
        total_files: files that there are.
        bytes: bytes that have arrived.
        total_bytes: bytes that there are; None where the size of a file is not known before it is read.
        seconds: since the transfer began.
    """

    files: int
    total_files: int
    bytes: int
    total_bytes: int | None
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """The rate since the beginning; 0 where no time has passed yet."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0


Report = Callable[[Progress], object]
"""Takes a `Progress` each time that a file, or a part of a large one, has arrived. Never called twice at once."""


class ProgressMeter:
    """Counts what arrives, and reports it.

    Args:
        report: takes the `Progress` values; None where nobody wants to know.
        clock: what measures the seconds.
        total_files: files that there are.
        total_bytes: bytes that there are, where known.
    """

    def __init__(self, report: Report | None, clock: Clock, total_files: int, total_bytes: int | None) -> None:
        self._report = report
        self._clock = clock
        self._began = clock.monotonic()
        self._total_files = total_files
        self._total_bytes = total_bytes
        self._files = 0
        self._bytes = 0
        self._lock = threading.Lock()

    def advance(self, size: int, files: int = 0) -> None:
        """Take note of bytes, and files, that have arrived."""
        if self._report is None:
            return
        with self._lock:
            self._bytes += size
            self._files += files
            seconds = self._clock.monotonic() - self._began
            self._report(Progress(self._files, self._total_files, self._bytes, self._total_bytes, seconds))


def bytes_only(callback: Callable[[int], object] | None) -> Report | None:
    """Return a report for a callback that takes the bytes that have arrived since it was last called."""
    if callback is None:
        return None
    seen = 0

    def report(progress: Progress) -> None:
        nonlocal seen
        arrived, seen = progress.bytes - seen, progress.bytes
        callback(arrived)

    return report
