"""The state of a job as this process last observed it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from datetime import datetime

    from processing.job.outcome import Outcome
    from processing.watching.status.model import WatchTarget


@attrs.frozen
class WatchState:
    """The last observed state of a job, for the job's own methods and for waits for several jobs.

    A new observation replaces the value, so copies of a job do not affect each other.

    Args:
        created: the job's CreationTime; None if it is not known.
        in_progress_at: a moment at which the job was InProgress, in seconds since the epoch of AWS's clock; None if no
            such moment is known.
        outcome: how the job ended; None until its end was observed.
        may_be_silent: True if nothing is amiss with a job that writes no line.
    """

    created: datetime | None = None
    in_progress_at: float | None = None
    outcome: Outcome | None = None
    may_be_silent: bool = False

    @property
    def status(self) -> str:
        """The last observed status; `Unknown` if there is none."""
        if self.outcome is not None:
            return str(self.outcome.description.get("ProcessingJobStatus", "Unknown"))
        return "Unknown" if self.in_progress_at is None else "InProgress"

    def target(self, job_name: str, *, poll_first: bool = True) -> WatchTarget:
        """Return the job as the status poller needs it.

        Args:
            job_name: the job's name.
            poll_first: True to poll the status at once, although the job is known to have run a while ago.
        """
        from processing.watching.status.model import WatchTarget

        if poll_first or self.in_progress_at is None:
            return WatchTarget(job_name, self.created)
        return WatchTarget(job_name, self.created, "InProgress", self.in_progress_at)
