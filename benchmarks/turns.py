"""Virtual time for clients that wait in a thread for each job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from processing.testing.clock import VirtualClock


class Turns(VirtualClock):
    """Virtual time for many threads that know only `sleep`: one runs at a time, the one that wakes first.

    `run` starts them. Outside of it, the clock is its base.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sleeping: list[tuple[float, int, threading.Event]] = []
        self._number = 0
        self._taking_turns = False

    def sleep(self, seconds: float) -> None:
        """Let other threads run until the time has come."""
        if not self._taking_turns:
            super().sleep(seconds)
            return
        self._await_turn(seconds, self._next)

    def run(self, functions: Sequence[Callable[[], object]]) -> None:
        """Call the functions at the same virtual time, each in a thread, and return when all have returned."""
        self._taking_turns = True
        ready = threading.Barrier(len(functions) + 1)

        def work(function: Callable[[], object]) -> None:
            self._await_turn(0.0, ready.wait)
            try:
                function()
            finally:
                self._next()

        threads = [threading.Thread(target=work, args=[function]) for function in functions]
        for thread in threads:
            thread.start()
        ready.wait()
        self._next()
        for thread in threads:
            thread.join()
        self._taking_turns = False

    def _await_turn(self, seconds: float, then: Callable[[], object]) -> None:
        turn = threading.Event()
        with self._lock:
            self._number += 1
            heappush(self._sleeping, (self._passed + max(0.0, seconds), self._number, turn))
        then()
        turn.wait()

    def _next(self) -> None:
        with self._lock:
            if not self._sleeping:
                return
            moment, _, turn = heappop(self._sleeping)
            self._passed = max(self._passed, moment)
        turn.set()
