"""A clock whose hours pass in no time."""

from __future__ import annotations

import threading


class VirtualClock:
    """A `processing.clock.Clock` that moves only when it is slept on or told to.

    It may be shared by threads; each sleep moves the one common time on.

    Args:
        start: what `time()` says first, in seconds since the epoch.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._start = start
        self._passed = 0.0
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Return the virtual wall-clock time in seconds since the epoch."""
        with self._lock:
            return self._start + self._passed

    def monotonic(self) -> float:
        """Return the seconds that have passed since the clock was made."""
        with self._lock:
            return self._passed

    def sleep(self, seconds: float) -> None:
        """Move the time on at once, and note the sleep in `sleeps`."""
        with self._lock:
            self.sleeps.append(seconds)
            self._passed += max(0.0, seconds)

    def advance(self, seconds: float) -> None:
        """Move the time on without a sleep: the world outside took that long."""
        with self._lock:
            self._passed += seconds
