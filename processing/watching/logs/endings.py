"""Decision on when all lines of an ended job have arrived.

CloudWatch marks no stream as ended, and publishes no bound on how late a line may arrive. So the end is inferred. After
a job's end all its lines are read once more. Then its last lines are read at intervals of `Polling.settle`, until
sweeps find nothing new (`Ending.is_over`). `Polling.settle_limit` bounds the wait, and a warning reports if it was
reached.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import attrs

from processing.watching.logs.followed_job import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from processing.clock import Clock
    from processing.watching.logs.followed_job import FollowedJob
    from processing.watching.logs.job_groups import Sweep
    from processing.watching.logs.sources import LogSource
    from processing.watching.polling import Polling

logger = logging.getLogger(__name__)

# An outage after a job's end is waited out for this many times `Polling.settle_limit`, five minutes by default. So a
# short outage at the wrong moment costs no lines.
_OUTAGE_LIMITS: Final = 10

# A missing log group is read again after this many seconds: it is waited for longer than for a line.
_GROUP_AGAIN: Final = 2.0


@attrs.frozen
class LogsComplete:
    """Notice that all lines of an ended job have been delivered.

    Args:
        job_name: the job.
        count: the number of its lines.
        gave_up: True if the wait for the last lines was given up, so that some may be missing.
    """

    job_name: str
    count: int
    gave_up: bool


@attrs.frozen
class Completion:
    """A job whose lines are not read any more.

    Args:
        job: the job.
        gave_up: True if some lines may be missing.
    """

    job: FollowedJob
    gave_up: bool


class Endings:
    """The waits for the last lines of jobs that have ended.

    Args:
        jobs: all followed jobs by name; the caller removes those that are complete.
        polling: how long to wait for the last lines.
        clock: the clock that waits are measured on.
        source: the source of the lines.
        aws_time: returns the time by AWS's clock, in seconds since the epoch.
    """

    def __init__(
        self,
        jobs: Mapping[str, FollowedJob],
        polling: Polling,
        clock: Clock,
        source: LogSource,
        aws_time: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._polling = polling
        self._clock = clock
        self._source = source
        self._aws_time = aws_time

    def begin(
        self, job: FollowedJob, *, ended_at: float | None, all_arrived: bool, group_patience: float = 0.0
    ) -> None:
        """Wait for the last lines of a job from now on; all its lines are read once more at once."""
        now = self._clock.monotonic()
        outage_deadline = now + _OUTAGE_LIMITS * self._polling.settle_limit
        # With a grace of 0, as on the engine, no group appears after the end.
        patience = 0.0 if all_arrived or not self._polling.grace else group_patience
        job.ending = Ending(ended_at, all_arrived, now, outage_deadline, now + patience)
        job.resume_at = job.since

    def record_sweep(self, sweep: Sweep, counts_before: Mapping[str, int], began: float) -> None:
        """Record a complete sweep over ended jobs.

        Args:
            sweep: the sweep.
            counts_before: by job, the number of events that had been read before the sweep.
            began: when it began, in seconds since the epoch by AWS's clock.
        """
        for job in sweep.jobs:
            if job.ending:
                # New lines mean that more may follow. But a sweep over all lines also finds lines that had arrived long
                # ago and had only not been read yet; only young ones count there.
                nothing_new = job.event_count == counts_before[job.name]
                quiet = nothing_new or (sweep.whole and job.is_quiet(began, self._polling.grace))
                job.ending.record_sweep(began, quiet=quiet)

    def after_sweep(self, sweep: Sweep) -> Iterator[Completion]:
        """Yield the jobs that are complete after a sweep over ended jobs, and schedule the others again."""
        now = self._clock.monotonic()
        for job in sweep.jobs:
            ending = job.ending
            if ending is None or self._jobs.get(job.name) is not job:  # removed during the sweep
                continue
            if self._source.is_absent and now < ending.group_deadline:
                # All lines are still to come, so a later sweep is the first one.
                ending.quiet_sweeps, ending.due = 0, now + _GROUP_AGAIN
                continue
            if ending.deadline is None:
                ending.deadline = now + self._polling.settle_limit
            # With a grace of 0, as on the engine, no line arrives after the end, however late earlier ones were.
            grace = self._polling.grace and max(self._polling.grace, job.lateness)
            if ending.all_arrived or ending.is_over(grace):
                yield Completion(job, gave_up=False)
            elif now >= ending.deadline:
                logger.warning(
                    "%s: log lines still came in %.0f seconds after the job's end; the last ones may be missing here",
                    job.name,
                    self._polling.settle_limit,
                )
                yield Completion(job, gave_up=True)
            else:
                ending.due = now + self._polling.settle
                if ending.quiet_sweeps:
                    # The next sweep may be the last one, but only if it begins `grace` after the end.
                    earliest = (ending.ended_at or 0.0) + grace
                    ending.due = max(ending.due, now + earliest - self._aws_time())

    def without_sweep(self, *, is_outage: bool) -> Iterator[Completion]:
        """Yield the ended jobs that are complete although nothing is read.

        Args:
            is_outage: True if reading failed the last time.
        """
        now = self._clock.monotonic()
        for job in [job for job in self._jobs.values() if job.ending]:
            assert job.ending
            if job.complete:
                yield Completion(job, gave_up=False)
            elif not self._source.is_readable:
                yield Completion(job, gave_up=True)
            elif is_outage and now >= job.ending.outage_deadline:
                logger.warning("the last log lines of %s could not be read; they may be missing here", job.name)
                yield Completion(job, gave_up=True)
