"""A virtual clock, on which hours pass in milliseconds.

Strategy: virtual time may move on only when no thread has work left at the current moment. The clock cannot observe
that, so it estimates it. A thread that asks for the time or is notified counts as active until it waits. When no thread
has shown activity for a short real time, the clock assumes that the active ones wait for something else, and moves on.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from processing._utils.locks import call_unlocked
from processing._utils.validation import SECONDS, number, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

T = TypeVar("T")

# Real seconds without activity after which time moves on, although some threads have not reached a wait.
_GRACE = 0.02

# The same for threads that were notified. They always return, unless another thread waits while it holds their lock. So
# this is a safeguard against a standstill, and long enough for a busy machine.
_WAKE_GRACE = 1.0

# Real seconds until a waiting thread first checks whether the others have ended. The interval doubles up to the
# maximum, which is below _GRACE, so that time moves on soon after it.
_POLL = 0.001
_MAX_POLL = 0.016


class VirtualClock:
    """A `processing.clock.Clock` that moves only by `sleep`, `wait` and `advance`.

    Threads may share it. Each `sleep` moves the common time on. A `wait` does so when no other thread waits for an
    earlier moment, and no thread is active. A thread is active if it has asked for the time recently, or was notified
    while it waited. So one thread finishes its work before another thread's hour is over. A single thread never really
    waits.

    Args:
        start: the first value of `time()`, in seconds since the epoch.

    Attributes:
        sleeps: the seconds of each `sleep` and `wait`, in order.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()  # acquired while a condition's lock is held, never the other way round
        require("start", start, number(at_least=0))
        self._start = start
        self._passed = 0.0
        self._waiting: list[_Waiter] = []  # not woken yet
        self._woken: set[threading.Thread] = set()  # woken, and not back from `wait` yet
        self._active: set[threading.Thread] = set()  # have asked for the time, and do not wait
        self._last_activity = 0.0  # the latest activity of any thread, in real time
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Return the virtual wall-clock time in seconds since the epoch."""
        return self._start + self.monotonic()

    def monotonic(self) -> float:
        """Return the virtual seconds since the clock was created."""
        with self._lock:
            self._record_activity()
            return self._passed

    def sleep(self, seconds: float) -> None:
        """Move the time on at once, and record the sleep in `sleeps`."""
        require("seconds", seconds, number())
        with self._lock:
            self._record_activity()
            self.sleeps.append(seconds)
            self._move(self._passed + max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Move the time on without a sleep, as if something else took that long.

        Raises:
            ConfigurationError: the seconds are negative. `monotonic()` never goes back.
        """
        require("seconds", seconds, SECONDS)
        with self._lock:
            self._record_activity()
            self._move(self._passed + seconds)

    def wait(self, condition: Condition, seconds: float) -> None:
        """Wait for virtual time to pass, or for the condition to be notified. Record the wait in `sleeps`.

        Args:
            condition: a condition whose lock the caller holds. The lock is released during the wait.
            seconds: the virtual seconds. With `math.inf` only a notification ends the wait.
        """
        inside: Any = condition
        with self._lock:
            self.sleeps.append(seconds)
            waiter = _Waiter(self, self._passed + max(0.0, seconds))
            self._waiting.append(waiter)
        inside._waiters.append(waiter)  # noqa: SLF001 - as `Condition.wait` does itself, with a lock
        try:
            call_unlocked(condition, lambda: self._wait(waiter))
        finally:
            with contextlib.suppress(ValueError):  # it was notified
                inside._waiters.remove(waiter)  # noqa: SLF001 - as above
            with self._lock:
                self._wake(waiter)  # if it was interrupted
                self._woken.discard(waiter.thread)
                self._record_activity()

    def wake(self, waiter: _Waiter) -> None:
        """Let a thread return from `wait`, since its condition was notified."""
        with self._lock:
            self._wake(waiter)

    def within(self, seconds: float, function: Callable[[], T]) -> T:  # noqa: ARG002 - the signature is the protocol's
        """Call the function without a time limit. On this clock it returns at once."""
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
        """Move the time on to the earliest moment that a thread waits for, unless a thread is active."""
        silence = time.monotonic() - self._last_activity
        if silence > _GRACE:  # the active threads wait for something else
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
    """A thread in `VirtualClock.wait`. It takes the place of a lock in the condition's list of waiters.

    So the clock learns of a notification at once. On a busy machine the thread itself may run much later.
    """

    def __init__(self, clock: VirtualClock, moment: float) -> None:
        self._clock = clock
        self.moment = moment
        self.thread = threading.current_thread()
        self.woken = threading.Lock()
        self.woken.acquire()

    def release(self) -> None:
        """Wake the thread. `Condition.notify` calls this method."""
        self._clock.wake(self)
