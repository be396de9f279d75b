"""Callbacks for state changes of jobs: a thread that polls the outbox and calls a function for each change."""

from __future__ import annotations

import logging
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
"""The seconds between two polls: short, so that a callback follows a change at once. A poll without unfinished jobs or
changes only reads SQLite."""

logger = logging.getLogger(__name__)


class EventListener:
    """A thread that calls a function for each change of a job's status, until it is closed. A context manager.

    Args:
        home: the engine's folder.
        callback: the function; it receives each event. Its exceptions are logged, and the next event follows.
        since: the time of the first event, in seconds since the epoch; None for events from now on.
        clock: the clock that waits between two polls.
        interval: the seconds between two polls.
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
        self._last_error = ""
        self._last_event = self._jobs.outbox.last_id(since)
        events.deliver(self._jobs, home)
        self._thread = threading.Thread(target=self._run, name="processing-events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Call back for the events until now, and end. A callback may close its own listener."""
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> EventListener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        last = False
        while not last:
            last = self._closing.is_set()
            try:
                self._poll()
            except (OSError, ProcessingError) as error:
                self._log_once(str(error))
            else:
                self._last_error = ""
            if not last:
                self._clock.sleep(self._interval)
        self._jobs.close()

    def _poll(self) -> None:
        # This process may only listen, and a killed host's job must end nevertheless.
        hosts.reap_dead_hosts(self._jobs, self._home, self._jobs.unfinished())
        while changes := self._jobs.outbox.transitions_after(self._last_event):
            for change in changes:
                self._last_event = change.id
                self._call_back(events.state_change_event(change))

    def _call_back(self, event: dict[str, Any]) -> None:
        try:
            self._callback(event)
        except Exception:
            logger.exception("A callback for events of jobs failed")

    def _log_once(self, problem: str) -> None:
        if problem != self._last_error:
            self._last_error = problem
            logger.warning("Events of jobs cannot be read now: %s", problem)
