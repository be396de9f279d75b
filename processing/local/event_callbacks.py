"""A callback for state changes of jobs: a thread that looks at the outbox, for as long as somebody listens."""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from processing.exceptions import ProcessingError
from processing.local.jobs import events
from processing.local.jobs import host_processes as hosts
from processing.local.stores.jobs import JobStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processing.clock import Clock

INTERVAL = 0.05
"""Seconds between two looks."""

_log = logging.getLogger(__name__)


class EventListener:
    """Calls back for each change of a job's status, from a thread of its own, until it is closed. A context manager.

    Args:
        home: the engine's folder.
        callback: is given each event. What it raises is logged, and ends nothing.
        since: events from this time on, in seconds since the epoch; None for those from now on.
        clock: what waits between two looks.
        interval: the seconds between them.
    """

    def __init__(
        self,
        home: Path,
        callback: Callable[[dict[str, Any]], object],
        *,
        since: float | None,
        clock: Clock,
        interval: float = INTERVAL,
    ) -> None:
        self._home = home
        self._jobs = JobStore(home)
        self._callback = callback
        self._clock = clock
        self._interval = interval
        self._closing = threading.Event()
        self._failing = ""
        self._seen = self._jobs.outbox.last_id(since)
        events.deliver(self._jobs, home)
        self._thread = threading.Thread(target=self._watch, name="processing-events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; what happened before is still told. A callback may close its own subscription."""
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> EventListener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _watch(self) -> None:
        last = False
        while not last:
            last = self._closing.is_set()
            try:
                self._look()
            except (OSError, sqlite3.Error, ProcessingError) as error:
                self._say(str(error))
            else:
                self._failing = ""
            if not last:
                self._clock.sleep(self._interval)
        self._jobs.close()

    def _look(self) -> None:
        # Who only listens is to hear of a job whose host was killed, too.
        hosts.reap_dead_hosts(self._jobs, self._home, self._jobs.unfinished())
        while changes := self._jobs.outbox.transitions_after(self._seen):
            for change in changes:
                self._seen = change.id
                self._tell(events.state_change_event(change))

    def _tell(self, event: dict[str, Any]) -> None:
        try:
            self._callback(event)
        except Exception:  # noqa: BLE001 - whatever it is, the next event is to be told
            _log.exception("A callback for events of jobs failed")

    def _say(self, problem: str) -> None:
        if problem != self._failing:
            self._failing = problem
            _log.warning("Events of jobs cannot be looked for now: %s", problem)
