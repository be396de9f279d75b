"""The thread that polls for those who cannot wait in one of their own (asyncio)."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.clock import Clock
    from processing.watching.status.leader import LeaderElection


class Listener(Protocol):
    """Somebody who is called.

    Attributes:
        callback: what is called; None for somebody who does not listen any more.
        alarm: the monotonic moment at which it is called in any case, once; infinite for none.
    """

    callback: Callable[[], None] | None
    alarm: float


ListenerT = TypeVar("ListenerT", bound=Listener)


class CallbackThread(Generic[ListenerT]):
    """A daemon thread that leads or follows like any other, as long as somebody listens.

    Args:
        turns: whose turn it is; its lock is held by the callers of `listen`.
        clock: the time.

    Attributes:
        listeners: who listens.
    """

    def __init__(self, turns: LeaderElection, clock: Clock) -> None:
        self._turns = turns
        self._clock = clock
        self.listeners: set[ListenerT] = set()
        self._alarms: list[tuple[float, int, ListenerT]] = []
        self._tickets = itertools.count()
        self._thread: threading.Thread | None = None

    def listen(self, listener: ListenerT) -> None:
        """Take note of a listener's callback and alarm, which have changed."""
        if listener.callback is None:
            listener.alarm = math.inf
            self.listeners.discard(listener)
        else:
            self.listeners.add(listener)
        if listener.alarm < math.inf:
            heapq.heappush(self._alarms, (listener.alarm, next(self._tickets), listener))
        if self._thread is None and self.listeners:
            self._thread = threading.Thread(target=self._run, name="processing-poller", daemon=True)
            self._thread.start()
        elif not self.listeners or self._next_alarm() == listener.alarm:
            self._turns.call(self)
            self._turns.stir()

    def _run(self) -> None:
        with self._turns.lock:
            while self.listeners:
                self._ring()
                if self._turns.led:
                    self._turns.follow(self, self._next_alarm())
                else:
                    self._turns.lead(lambda: not self.listeners, self._next_alarm)
            self._thread = None

    def _next_alarm(self) -> float:
        while self._alarms:
            moment, _, listener = self._alarms[0]
            if listener.alarm == moment:
                return moment
            heapq.heappop(self._alarms)
        return math.inf

    def _ring(self) -> None:
        now = self._clock.monotonic()
        while self._next_alarm() <= now:
            listener = heapq.heappop(self._alarms)[2]
            listener.alarm = math.inf
            if listener.callback:
                listener.callback()
