"""The thread that polls for consumers that cannot wait in a thread of their own, such as coroutines."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from processing._utils.forks import reset_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.clock import Clock
    from processing.watching.status.leader import LeaderElection


class Listener(Protocol):
    """A consumer that is called back.

    Attributes:
        callback: the function to call; None once the consumer listens no longer.
        alarm: the monotonic moment at which it is called in any case, once; infinite for none.
    """

    callback: Callable[[], None] | None
    alarm: float


ListenerT = TypeVar("ListenerT", bound=Listener)


class CallbackThread(Generic[ListenerT]):
    """A daemon thread that leads or follows like a waiting thread, as long as there are listeners.

    The poller calls the callbacks for status changes. This thread calls them for alarms.

    Args:
        election: the election that the thread takes part in. Callers of `update` hold its lock.
        clock: the time.

    Attributes:
        listeners: the present listeners.
    """

    def __init__(self, election: LeaderElection, clock: Clock) -> None:
        self._election = election
        self._clock = clock
        self.listeners: set[ListenerT] = set()
        self._alarms: list[tuple[float, int, ListenerT]] = []
        self._tickets = itertools.count()
        self._thread: threading.Thread | None = None
        reset_after_fork(self)

    def _after_fork(self) -> None:
        self._thread = None
        self.listeners, self._alarms = set(), []  # their event loops run in the parent

    def update(self, listener: ListenerT) -> None:
        """Add, change or remove a listener, by its present callback and alarm."""
        if listener.callback is None:
            listener.alarm = math.inf
            self.listeners.discard(listener)
        else:
            self.listeners.add(listener)
        if listener.alarm < math.inf:
            heapq.heappush(self._alarms, (listener.alarm, next(self._tickets), listener))
        if self._thread is None and listener.callback is not None:
            thread = threading.Thread(target=self._run, name="processing-poller", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the machine has no further thread; it may have one for a later listener
                self.listeners.discard(listener)
                raise
            self._thread = thread
        elif not self.listeners or self._next_alarm() == listener.alarm:
            # The thread either follows or leads: wake it in both cases, as it may have to end or to sleep less.
            self._election.wake(self)
            self._election.wake_leader()

    def _run(self) -> None:
        with self._election.lock:
            while self.listeners:
                if self._election.has_leader:
                    self._election.follow(self, self._next_alarm())
                else:
                    self._election.lead(lambda: not self.listeners, self._next_alarm)
                self._call_due_alarms()  # after the work that was due, also for an alarm that was set too late
            self._thread = None

    def _next_alarm(self) -> float:
        """Return the earliest alarm. Entries of the heap whose listener has another alarm by now are dropped."""
        while self._alarms:
            moment, _, listener = self._alarms[0]
            if listener.alarm == moment:
                return moment
            heapq.heappop(self._alarms)
        return math.inf

    def _call_due_alarms(self) -> None:
        now = self._clock.monotonic()
        while self._next_alarm() <= now:
            listener = heapq.heappop(self._alarms)[2]
            listener.alarm = math.inf
            if listener.callback:
                listener.callback()
