"""The engine's event source: reports changes of jobs in the outbox to a poller that waits.

Reading the outbox costs a thirtieth of a Describe call. So it is read more often than jobs are described, and the
poller describes a job that has changed at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from processing._utils.locks import call_unlocked
from processing.exceptions import ProcessingError
from processing.local.stores.jobs import JobRecord

if TYPE_CHECKING:
    from collections.abc import Collection
    from threading import Condition

    from processing.clock import Clock
    from processing.local.stores.jobs import JobStore

# The seconds between two reads: after a change, the growth from one to the next, and at most.
_FIRST: Final = 0.002
_GROWTH: Final = 1.02
_LONGEST: Final = 0.05


class OutboxEventSource:
    """The changes of the engine's jobs from now on, as the `EventSource` of one poller.

    Events are only hints. A job whose processes were killed reports nothing, and the poller still describes all jobs.

    Args:
        jobs: the job store.
        clock: the session's clock.
    """

    def __init__(self, jobs: JobStore, clock: Clock) -> None:
        self._jobs = jobs
        self._clock = clock
        self._pause = _FIRST
        self._last: int | None = None  # the number of the last change that is known; None before the first read
        self._read()

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
        # One wait for each call. A second one could miss a notification that comes just after the first.
        self._clock.wait(condition, min(seconds, self._pause))
        changed = call_unlocked(condition, self._read)  # another process may lock the store for seconds
        self._pause = _FIRST if changed else min(self._pause * _GROWTH, _LONGEST)
        return changed

    def _read(self) -> Collection[str]:
        try:
            if self._last is None:
                self._last = self._jobs.outbox.last_id()
            changes = self._jobs.outbox.transitions_after(self._last)
        except (OSError, ProcessingError):
            self._last = None
            return ()  # a Describe call explains why the folder cannot be read
        if changes:
            self._last = changes[-1].id
        return {JobRecord(*change.job).name for change in changes}
