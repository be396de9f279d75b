"""The event source of a session on the engine: the outbox tells a wait of a change at once.

A look into the outbox costs a thirtieth of the Describe call that it replaces. So a wait looks every few milliseconds,
less often the longer nothing happens, and describes a job that has changed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from processing.exceptions import ProcessingError
from processing.local.stores.jobs import JobRecord

if TYPE_CHECKING:
    from collections.abc import Collection
    from threading import Condition

    from processing.clock import Clock
    from processing.local.stores.jobs import JobStore

# The seconds between two looks: after a change, the growth from one to the next, and at most.
_FIRST: Final = 0.002
_GROWTH: Final = 1.02
_LONGEST: Final = 0.05


class OutboxEventSource:
    """The changes of the engine's jobs, as an `EventSource` of a session's poller.

    It is only a hint: a job whose processes were killed reports nothing, and the poller still describes all jobs.

    Args:
        jobs: the job store.
        clock: the session's clock.
    """

    def __init__(self, jobs: JobStore, clock: Clock) -> None:
        self._jobs = jobs
        self._clock = clock
        self._last: int | None = None
        self._pause = _FIRST

    def wait(self, condition: Condition, seconds: float) -> Collection[str]:
        """Return after that many seconds, or sooner: when the condition is notified, jobs change, or a pause is over.

        Args:
            condition: the condition to wait on. The caller holds its lock, which is released meanwhile.
            seconds: the longest wait; infinite if no job is watched, and no change matters.

        Returns:
            the names of the jobs that have changed.
        """
        if seconds == math.inf:
            self._clock.wait(condition, seconds)
            return ()
        if self._last is None:
            self._changed()  # the changes from now on count
        # One pause for each call. A second one here could miss a notification that comes just after the first.
        self._clock.wait(condition, min(seconds, self._pause))
        changed = self._changed()
        self._pause = _FIRST if changed else min(self._pause * _GROWTH, _LONGEST)
        return changed

    def _changed(self) -> Collection[str]:
        try:
            if self._last is None:
                self._last = self._jobs.outbox.last_id()
            changes = self._jobs.outbox.transitions_after(self._last)
        except (OSError, ProcessingError):
            return ()  # a Describe call explains why the folder cannot be read
        if changes:
            self._last = changes[-1].id
        return {JobRecord(*change.job).name for change in changes}
