"""Time as an argument: everything that waits takes a `Clock`.

A test hands in a clock of its own (`processing.testing.VirtualClock`), and an hour of polling passes in milliseconds.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

T = TypeVar("T")

_LONGEST_CALL: Final = 90.0  # seconds after which a call to AWS that hangs is given up by its client


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

    def within(self, seconds: float, function: Callable[[], T]) -> T:
        """Return what a function returns, if it does so in that many seconds.

        Raises:
            TimeoutError: it did not. It goes on in a thread of its own, and nothing is made of what it returns.
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

    def within(self, seconds: float, function: Callable[[], T]) -> T:
        """Call the function in a thread, unless there is more time than any call to AWS takes."""
        if seconds > _LONGEST_CALL:
            return function()
        answers: list[T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                answers.append(function())
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        thread = threading.Thread(target=call, name="processing-call", daemon=True)
        thread.start()
        thread.join(max(0.0, seconds))
        for error in errors:
            raise error
        if not answers:
            raise TimeoutError(f"no answer in {seconds:.0f} seconds")
        return answers[0]


SYSTEM_CLOCK: Clock = SystemClock()
