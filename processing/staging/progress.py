"""Progress reports of transfers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from processing.clock import Clock


@attrs.frozen
class Progress:
    """The progress of a transfer.

    Args:
        files: the files that have arrived.
        total_files: the number of all files.
        bytes: the bytes that have arrived.
        total_bytes: the number of all bytes; None if a file's size is not known before it is read.
        seconds: the time since the transfer began.
    """

    files: int
    total_files: int
    bytes: int
    total_bytes: int | None
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """The average rate since the beginning; 0 if no time has passed yet."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0


Report = Callable[[Progress], object]
"""Receives a `Progress` whenever a file, or a part of a large one, has arrived. Calls do not overlap."""


class ProgressMeter:
    """Counter of arrived files and bytes that reports them.

    Args:
        report: receives the `Progress` values; None for no reports.
        clock: measures the seconds.
        total_files: the number of all files.
        total_bytes: the number of all bytes, if known.
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
        """Add bytes and files that have arrived."""
        if self._report is None:
            return
        with self._lock:
            self._bytes += size
            self._files += files
            seconds = self._clock.monotonic() - self._began
            self._report(Progress(self._files, self._total_files, self._bytes, self._total_bytes, seconds))


def bytes_only(callback: Callable[[int], object] | None) -> Report | None:
    """Return a report for a callback that receives the bytes that have arrived since its last call."""
    if callback is None:
        return None
    seen = 0

    def report(progress: Progress) -> None:
        nonlocal seen
        arrived, seen = progress.bytes - seen, progress.bytes
        callback(arrived)

    return report
