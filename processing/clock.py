"""Time as an argument: everything that waits takes a `Clock`.

A test hands in a clock of its own (`processing.testing.VirtualClock`), and an hour of polling passes in milliseconds.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the package needs to know of time, in seconds."""

    def time(self) -> float:
        """Return the wall-clock time as seconds since the epoch."""

    def monotonic(self) -> float:
        """Return a reading that never goes backwards; only differences mean anything."""

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        """Return `time.time()`."""
        return time.time()

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Call `time.sleep()`; a negative wait is no wait."""
        time.sleep(max(0.0, seconds))


SYSTEM_CLOCK: Clock = SystemClock()
