"""Time as an argument: everything that waits takes a `Clock`.

Tests pass a `processing.testing.VirtualClock`, on which an hour of polling takes milliseconds.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from processing._utils.locks import wait_on

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

T = TypeVar("T")

_LONGEST_CALL: Final = 90.0  # seconds; the clients' own time-outs end a call to AWS before that


class Clock(Protocol):
    """The passing of time, in seconds."""

    def time(self) -> float:
        """Return the wall-clock time as seconds since the epoch."""

    def monotonic(self) -> float:
        """Return a time that never goes backwards. Only differences are meaningful."""

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""

    def wait(self, condition: Condition, seconds: float) -> None:
        """Return after that many seconds, or sooner if the condition is notified.

        It may return sooner without a reason, too, as `Condition.wait` may. So a caller checks in a loop what it waits
        for.

        Args:
            condition: its lock is held by the caller, and released during the wait.
            seconds: `math.inf` waits for a notification only.
        """

    def within(self, seconds: float, function: Callable[[], T]) -> T:
        """Call a function with a time limit, and return its result.

        Raises:
            TimeoutError: the limit passed. The function goes on in a thread of its own, and its result is dropped.
        """


# The longest time in seconds until a Ctrl-C that another thread has got is handled.
_SLICE = 0.5


class SystemClock:
    """The machine's own clock. All instances are equal."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SystemClock)

    def __hash__(self) -> int:
        return hash(SystemClock)

    def __reduce__(self) -> tuple[type[SystemClock], tuple[()]]:
        return SystemClock, ()  # there is one clock for each machine

    def time(self) -> float:
        """Return `time.time()`."""
        return time.time()

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Call `time.sleep()`; a negative time returns at once."""
        time.sleep(max(0.0, seconds))

    def wait(self, condition: Condition, seconds: float) -> None:
        """Call `condition.wait()`; a negative time returns at once.

        The main thread waits for half a second at most. The system may deliver Ctrl-C to another thread, and Python
        handles it in the main thread, which that does not wake. A second wait here could miss a notification that comes
        just after the first wait.
        """
        slices = threading.current_thread() is threading.main_thread()
        wait_on(condition, min(max(0.0, seconds), _SLICE if slices else threading.TIMEOUT_MAX))

    def within(self, seconds: float, function: Callable[[], T]) -> T:
        """Call the function in a thread, unless the limit is longer than any call to AWS."""
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
