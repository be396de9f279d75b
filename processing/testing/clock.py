"""A clock whose hours pass in no time."""

from __future__ import annotations

import itertools
import math
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

T = TypeVar("T")

_GRACE = 0.02  # real seconds without a sign of the other threads after which time moves on without them
_TURN = 0.001  # real seconds after which a waiting thread first looks what the others did; it doubles
_LONGEST_TURN = 0.016


class VirtualClock:
    """A `processing.clock.Clock` that moves only when it is slept or waited on, or told to.

    It may be shared by threads. Each `sleep` moves the one common time on. A `wait` does so when no other thread waits
    for an earlier moment, and none that has asked for the time of late is still at work: so that what one thread does
    in no time is done before another's hour is over. A single thread never really waits.

    Args:
        start: what `time()` says first, in seconds since the epoch.

    Attributes:
        sleeps: the seconds of each `sleep` and `wait`, in order.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._start = start
        self._passed = 0.0
        self._waiting: dict[int, float] = {}  # by ticket, the moment that a thread waits for
        self._tickets = itertools.count()
        self._at_work: set[int] = set()  # threads that have asked for the time, and do not wait
        self._signs = 0  # how often anybody asked for the time
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Return the virtual wall-clock time in seconds since the epoch."""
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        """Return the seconds that have passed since the clock was made."""
        with self._lock:
            self._sign()
            return self._passed

    def sleep(self, seconds: float) -> None:
        """Move the time on at once, and note the sleep in `sleeps`."""
        with self._lock:
            self._sign()
            self.sleeps.append(seconds)
            self._passed += max(0.0, seconds)

    def advance(self, seconds: float) -> None:
        """Move the time on without a sleep: the world outside took that long.

        Raises:
            ValueError: the seconds are negative; `monotonic()` never goes back.
        """
        if seconds < 0:
            raise ValueError(f"seconds: must be at least 0, not {seconds!r}")
        with self._lock:
            self._sign()
            self._passed += seconds

    def wait(self, condition: Condition, seconds: float) -> None:
        """Move the time on by that much, or return earlier when the condition is notified; note the wait in `sleeps`.

        Args:
            condition: the caller holds its lock; other threads may take it meanwhile.
            seconds: `math.inf` waits for the notification alone.
        """
        with self._lock:
            self._at_work.discard(threading.get_ident())
            ticket = next(self._tickets)
            self.sleeps.append(seconds)
            self._waiting[ticket] = self._passed + max(0.0, seconds)
        try:
            if seconds == math.inf:
                condition.wait()  # one that is not timed never misses a notification
            else:
                self._wait(condition, ticket)
        finally:
            with self._lock:
                del self._waiting[ticket]
                self._sign()

    def within(self, seconds: float, function: Callable[[], T]) -> T:  # noqa: ARG002 - the protocol's
        """Call the function: however long it says it took, on this clock it returned at once."""
        return function()

    def _wait(self, condition: Condition, ticket: int) -> None:
        turn, signs, since = _TURN, -1, 0.0
        while True:
            with self._lock:
                if signs != self._signs:
                    signs, since = self._signs, time.monotonic()
                elif time.monotonic() - since > _GRACE:
                    self._at_work.clear()  # they have ended, or wait for something else
                if self._may_return(ticket):
                    break
            if _notified(condition, turn):
                return
            turn = min(2 * turn, _LONGEST_TURN)
        condition.wait(0)  # others who want the lock have their chance

    def _may_return(self, ticket: int) -> bool:
        """Return whether a thread's moment has come, having moved the time to it where it is its turn."""
        moment = self._waiting[ticket]
        if moment > self._passed and not self._at_work and moment == min(self._waiting.values()) < float("inf"):
            self._passed = moment
        return moment <= self._passed

    def _sign(self) -> None:
        self._at_work.add(threading.get_ident())
        self._signs += 1


def _notified(condition: Condition, seconds: float) -> bool:
    """Return whether a condition is notified in so many real seconds.

    `Condition.wait` takes a notification that comes just as the time runs out for none.
    """
    inside: Any = condition
    waiter = threading.Lock()
    waiter.acquire()
    inside._waiters.append(waiter)  # noqa: SLF001 - what `Condition.wait` does itself
    state = inside._release_save()  # noqa: SLF001 - as above
    try:
        notified = waiter.acquire(timeout=seconds)
    finally:
        inside._acquire_restore(state)  # noqa: SLF001 - as above
    if not notified:
        try:
            inside._waiters.remove(waiter)  # noqa: SLF001 - as above
        except ValueError:
            return True
    return notified
