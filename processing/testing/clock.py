"""A clock whose hours pass in no time."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

T = TypeVar("T")

_GRACE = 0.02  # real seconds without a sign of the other threads after which time moves on without them
_WAKE_GRACE = 1.0  # the same for those who were woken: they do return, unless another waits while it has their lock
_POLL = 0.001  # real seconds after which a waiting thread first looks whether the others have ended; it doubles
_MAX_POLL = 0.016


class VirtualClock:
    """A `processing.clock.Clock` that moves only when it is slept or waited on, or told to.

    It may be shared by threads. Each `sleep` moves the one common time on. A `wait` does so when no other thread waits
    for an earlier moment, and none is still at work that has asked for the time of late or was notified while it
    waited: so that what one thread does in no time is done before another's hour is over. A single thread never really
    waits.

    Args:
        start: what `time()` says first, in seconds since the epoch.

    Attributes:
        sleeps: the seconds of each `sleep` and `wait`, in order.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()  # may be taken while a condition's is held, never the other way round
        self._start = start
        self._passed = 0.0
        self._waiting: list[_Waiter] = []  # whom nobody has woken yet
        self._woken: set[threading.Thread] = set()  # those who were woken
        self._active: set[threading.Thread] = set()  # those who have asked for the time, and do not wait
        self._last_activity = 0.0  # when any of them last did, in real time
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Return the virtual wall-clock time in seconds since the epoch."""
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        """Return the seconds that have passed since the clock was made."""
        with self._lock:
            self._record_activity()
            return self._passed

    def sleep(self, seconds: float) -> None:
        """Move the time on at once, and note the sleep in `sleeps`."""
        with self._lock:
            self._record_activity()
            self.sleeps.append(seconds)
            self._move(self._passed + max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Move the time on without a sleep: the world outside took that long.

        Raises:
            ValueError: the seconds are negative; `monotonic()` never goes back.
        """
        if seconds < 0:
            raise ValueError(f"seconds: must be at least 0, not {seconds!r}")
        with self._lock:
            self._record_activity()
            self._move(self._passed + seconds)

    def wait(self, condition: Condition, seconds: float) -> None:
        """Move the time on by that much, or return earlier when the condition is notified; note the wait in `sleeps`.

        Args:
            condition: the caller holds its lock; other threads may take it meanwhile.
            seconds: `math.inf` waits for the notification alone.
        """
        inside: Any = condition
        with self._lock:
            self.sleeps.append(seconds)
            waiter = _Waiter(self, self._passed + max(0.0, seconds))
            self._waiting.append(waiter)
        inside._waiters.append(waiter)  # noqa: SLF001 - what `Condition.wait` does itself, with a lock
        state = inside._release_save()  # noqa: SLF001 - as above
        try:
            self._wait(waiter)
        finally:
            inside._acquire_restore(state)  # noqa: SLF001 - as above
            with contextlib.suppress(ValueError):  # it was notified
                inside._waiters.remove(waiter)  # noqa: SLF001 - as above
            with self._lock:
                self._wake(waiter)  # where it was interrupted
                self._woken.discard(waiter.thread)
                self._record_activity()

    def wake(self, waiter: _Waiter) -> None:
        """Let a thread return from its `wait`: it was notified."""
        with self._lock:
            self._wake(waiter)

    def within(self, seconds: float, function: Callable[[], T]) -> T:  # noqa: ARG002 - the protocol's
        """Call the function: however long it says it took, on this clock it returned at once."""
        return function()

    def _wait(self, waiter: _Waiter) -> None:
        with self._lock:
            self._begin_wait(waiter.thread)
        poll = _POLL
        while not waiter.woken.acquire(timeout=poll if waiter.moment < math.inf else -1):
            poll = min(2 * poll, _MAX_POLL)
            with self._lock:
                self._move_if_idle()

    def _move_if_idle(self) -> None:
        """Move the time on to the earliest moment that is waited for, unless somebody is at work."""
        silence = time.monotonic() - self._last_activity
        if silence > _GRACE:  # they wait for something else
            self._active.clear()
        if silence > _WAKE_GRACE:
            self._woken.clear()
        self._active = {thread for thread in self._active if thread.is_alive()}
        busy = self._active or self._woken
        earliest = min((waiter.moment for waiter in self._waiting), default=math.inf)
        if earliest <= self._passed or (earliest < math.inf and not busy):
            self._move(earliest)

    def _move(self, moment: float) -> None:
        self._passed = max(self._passed, moment)
        for waiter in [waiter for waiter in self._waiting if waiter.moment <= self._passed]:
            self._wake(waiter)

    def _wake(self, waiter: _Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            self._woken.add(waiter.thread)
            self._last_activity = time.monotonic()
            waiter.woken.release()

    def _begin_wait(self, thread: threading.Thread) -> None:
        self._active.discard(thread)
        self._move_if_idle()

    def _record_activity(self, thread: threading.Thread | None = None) -> None:
        self._active.add(thread or threading.current_thread())
        self._last_activity = time.monotonic()


class _Waiter:
    """A thread in `VirtualClock.wait`: stands in the condition's list where `Condition.wait` has a lock.

    So a notification is known at once, and not when the thread comes to run, which may take long on a busy machine.
    """

    def __init__(self, clock: VirtualClock, moment: float) -> None:
        self._clock = clock
        self.moment = moment
        self.thread = threading.current_thread()
        self.woken = threading.Lock()
        self.woken.acquire()

    def release(self) -> None:
        """Wake the thread: `Condition.notify` calls this."""
        self._clock.wake(self)
