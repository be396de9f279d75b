"""Threads that wait for the same work: one of them does it for all, and the others follow."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.clock import Clock


class Work(Protocol):
    """What is to be done, a piece at a time. The lock is held in all three; `do` and `sleep` give it up meanwhile."""

    def due(self) -> float:
        """Return the monotonic moment of the next piece; infinite where there is nothing to do."""

    def do(self, left: float) -> bool:
        """Do the piece that is due, in so many seconds if it can, and return whether it went well."""

    def sleep(self, condition: threading.Condition, seconds: float) -> None:
        """Return after that many seconds, or sooner: when the condition is notified, or there is something to do."""


class LeaderElection:
    """Whose turn it is to do the work.

    Who comes and finds that nobody leads, leads: does what is due, and sleeps until the next piece is. It stops when it
    has what it came for, runs out of time or is interrupted, and then one of the followers takes over.

    Args:
        work: what is to be done.
        clock: the time.

    Attributes:
        lock: guards the work and whatever is waited for; every method expects the caller to hold it.
        led: whether somebody leads.
    """

    def __init__(self, work: Work, clock: Clock) -> None:
        self.lock = threading.RLock()
        self.led = False
        self._work = work
        self._clock = clock
        self._idle = threading.Condition(self.lock)  # the leader sleeps on it
        self._followers: dict[object, threading.Condition] = {}

    def stir(self) -> None:
        """Let the leader look at what is due anew."""
        self._idle.notify()

    def call(self, who: object) -> None:
        """Let a follower look whether it has what it came for."""
        condition = self._followers.get(who)
        if condition:
            condition.notify()

    def lead(self, done: Callable[[], bool], until: Callable[[], float]) -> None:
        """Do what is due, and sleep in between, until done or that moment.

        Where the moment has passed already, what is due is done all the same, as long as it goes well.

        Args:
            done: returns whether the caller has what it came for.
            until: returns the moment; infinite for none. It may change.
        """
        self.led = True
        try:
            hurried = until() <= self._clock.monotonic()
            while not done():
                due = self._work.due()
                now = self._clock.monotonic()
                left = until() - now
                if due <= now and (hurried or left > 0):
                    if not self._work.do(max(0.0, left)) and hurried:
                        return
                elif left <= 0:
                    return
                else:
                    self._work.sleep(self._idle, min(due - now, left))
        finally:
            self.led = False
            self._call_anyone()

    def follow(self, who: object, until: float) -> None:
        """Return when called, when nobody leads any more, or at that moment.

        Args:
            who: the follower; one at a time by that key.
            until: the moment; infinite for none.
        """
        condition = self._followers[who] = threading.Condition(self.lock)
        try:
            self._clock.wait(condition, until - self._clock.monotonic())
        finally:
            del self._followers[who]
            if not self.led:  # the caller may not want to lead
                self._call_anyone()

    def _call_anyone(self) -> None:
        for condition in self._followers.values():
            condition.notify()
            return
