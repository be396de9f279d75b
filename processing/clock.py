"""Time as an argument: everything that waits takes a `Clock`.

A test hands in a clock of its own (`processing.testing.VirtualClock`), and an hour of polling passes in milliseconds.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from threading import Condition


class Clock(Protocol):
    """What the package needs to know of time, in seconds."""

    def time(self) -> float:
        """Return the wall-clock time as seconds since the epoch."""

    def monotonic(self) -> float:
        """Return a reading that never goes backwards; only differences mean anything."""

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""

    def wait(self, condition: Condition, seconds: float) -> None:
        """Return after that many seconds, or sooner when the condition is notified.

        Args:
            condition: the caller holds its lock, which is given up meanwhile.
            seconds: `math.inf` waits for the notification alone.
        """


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

    def wait(self, condition: Condition, seconds: float) -> None:
        """Call `condition.wait()`; a negative wait is no wait."""
        condition.wait(min(max(0.0, seconds), threading.TIMEOUT_MAX))


SYSTEM_CLOCK: Clock = SystemClock()
