"""Leader election among threads that wait for the same work: one thread does it for all, and the others follow.

A thread that has to wait anyway does the polling, so no thread runs in the background. The leader stops as soon as it
has its own result, runs out of time, or is interrupted. It then wakes one follower, which becomes the next leader. One
is enough: a woken follower either leads, or wakes the next one when it leaves.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from processing._utils.forks import free_lock, reset_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.clock import Clock


class Work(Protocol):
    """The work that a leader does, piece by piece.

    The caller holds the lock in all three methods; `run_due` and `sleep` release it meanwhile.
    """

    def due(self) -> float:
        """Return the monotonic moment of the next piece; infinite if there is nothing to do."""

    def run_due(self, seconds: float) -> bool:
        """Do the piece that is due, in that many seconds if possible, and return whether it succeeded."""

    def sleep(self, condition: threading.Condition, seconds: float) -> None:
        """Return after that many seconds, or sooner: when the condition is notified, or when there is new work."""


class LeaderElection:
    """The election of the thread that does the work.

    Args:
        work: the work.
        clock: the time.

    Attributes:
        lock: guards the work and all that the threads wait for. Every method expects its caller to hold it.
        has_leader: whether a thread leads.
    """

    def __init__(self, work: Work, clock: Clock) -> None:
        self.lock = threading.RLock()
        self.has_leader = False
        self._work = work
        self._clock = clock
        self._new_work = threading.Condition(self.lock)  # the leader sleeps on it
        self._followers: dict[object, threading.Condition] = {}
        reset_after_fork(self)

    def _after_fork(self) -> None:
        # The other threads stay in the parent, and one of them may lead.
        self.lock = free_lock(self.lock)
        self.has_leader = False
        self._new_work = threading.Condition(self.lock)
        self._followers = {}

    def wake_leader(self) -> None:
        """Make the leader ask the work again when it is due."""
        self._new_work.notify()

    def wake(self, follower: object) -> None:
        """Make a follower check whether it has its result."""
        condition = self._followers.get(follower)
        if condition:
            condition.notify()

    def lead(self, done: Callable[[], bool], until: Callable[[], float]) -> None:
        """Do the work that is due, and sleep in between, until done or until that moment.

        A caller whose moment has passed at the start still does all that is due then, until a piece fails. So a wait
        with a timeout of zero learns the present status of its jobs.

        Args:
            done: returns whether the caller has its result.
            until: returns the monotonic moment at which to stop; infinite for no end. It may change.
        """
        self.has_leader = True
        try:
            self._work.due()  # schedules what is new, which is due at the start too
            started = self._clock.monotonic()
            without_time = until() <= started
            while not done():
                due = self._work.due()
                now = self._clock.monotonic()
                left = until() - now
                if due <= started if without_time else due <= now and left > 0:
                    if not self._work.run_due(max(0.0, left)) and without_time:
                        return
                elif left <= 0:
                    return
                else:
                    self._work.sleep(self._new_work, min(due - now, left))
        finally:
            self.has_leader = False
            self._wake_any_follower()

    def follow(self, follower: object, until: float) -> None:
        """Return when woken, or at that moment. The caller then checks whether there still is a leader.

        Args:
            follower: the key by which `wake` finds the caller. Only one thread at a time may use a key.
            until: the monotonic moment; infinite for no end.
        """
        condition = self._followers[follower] = threading.Condition(self.lock)
        try:
            self._clock.wait(condition, until - self._clock.monotonic())
        finally:
            del self._followers[follower]
            # This thread may have been woken to lead, and may leave instead: it passes the call on.
            if not self.has_leader:
                self._wake_any_follower()

    def _wake_any_follower(self) -> None:
        for condition in self._followers.values():
            condition.notify()
            return
