"""The state of each watched job, and the schedule of the DescribeProcessingJob calls for single jobs."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from processing.container.contract import TERMINAL
from processing.watching.status.model import is_news

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Iterable, Mapping

    from processing.watching.polling import Polling

# Two answers about one job may state CreationTimes that differ by rounding, by less than this many seconds.
_SAME_CREATION: Final = 1.0


@attrs.define(eq=False)
class JobState:
    """The state of one watched job.

    Attributes:
        name: the job's name.
        created: its creation by AWS's clock, in seconds since the epoch; None if it is not known.
        added: the monotonic moment since which it is watched.
        seen: whether AWS has answered anything about it.
        statuses: the statuses that are known, in order.
        status_as_of: see `Target.status_as_of`; None if it is not known.
        interval: the seconds from a sign of life to the next Describe; None before the first one and after a change.
        jittered: the same for the scheduled Describe, with its jitter; 0 for a Describe that a sign of life does not
            postpone.
        alive: the monotonic moment of the last sign of life.
        due: the monotonic moment of the scheduled Describe; infinite for none.
    """

    name: str
    created: float | None
    added: float
    seen: bool = False
    statuses: tuple[str, ...] = ()
    status_as_of: float | None = None
    interval: float | None = None
    jittered: float = 0.0
    alive: float = -math.inf
    due: float = math.inf

    def identify(self, answer: Mapping[str, Any]) -> Literal["ours", "older", "newer"]:
        """Return whether an answer is about this job or another one of its name, by the CreationTime in the answer."""
        if answer.get("CreationTime") is None:
            return "ours"
        created = float(answer["CreationTime"].timestamp())
        if self.created is not None and abs(created - self.created) > _SAME_CREATION:
            return "older" if created < self.created else "newer"
        self.created = created
        return "ours"

    def advance(self, status: str) -> bool:
        """Record the status in an answer, and return whether it is new."""
        self.seen = True
        if not is_news(self.statuses, status):
            return False
        self.statuses += (status,)
        return True

    @property
    def status(self) -> str | None:
        """The known status; None if there is none."""
        return self.statuses[-1] if self.statuses else None

    @property
    def describe_at(self) -> float:
        """The moment of the next Describe, unless there is another sign of life before."""
        return max(self.due, self.alive + self.jittered) if self.jittered else self.due

    @property
    def not_older_than(self) -> float | None:
        """A moment by AWS's clock before which the job did not exist; None if none is known."""
        return self.status_as_of if self.created is None else self.created

    @property
    def ended(self) -> bool:
        """True if the known status is terminal."""
        return self.status in TERMINAL


class DescribeSchedule:
    """The moments at which single jobs are described: soon at first, then at growing intervals.

    An interval counts from the job's last sign of life, either an answer of Describe or a recent log line. A sign of
    life only changes the job's `alive`, which is cheap. The heap keeps the old moment, and `next_job` moves the entry
    when that moment comes up.

    Args:
        polling: the intervals.
        random: the source of jitter.
    """

    def __init__(self, polling: Polling, random: random_module.Random) -> None:
        self._polling = polling
        self._random = random
        self._heap: list[tuple[float, int, JobState]] = []
        self._tickets = itertools.count()

    def schedule(self, job: JobState, due: float, jittered: float = 0.0) -> None:
        """Schedule the next Describe of a job, in place of the one scheduled before.

        Args:
            job: the job.
            due: the moment.
            jittered: the seconds that a sign of life postpones it, counted from that sign; 0 for a fixed moment.
        """
        job.due, job.jittered = due, jittered
        heapq.heappush(self._heap, (due, next(self._tickets), job))

    def schedule_all(self, jobs: Iterable[JobState], now: float, spacing: float) -> None:
        """Schedule one Describe for each job, from now on and that many seconds apart."""
        for number, job in enumerate(jobs):
            self.schedule(job, now + number * spacing)

    def cancel(self, job: JobState) -> None:
        """Cancel the scheduled Describe of a job. Its entry in the heap is dropped when it comes up."""
        job.due = math.inf

    def next_job(self) -> JobState | None:
        """Return the job with the earliest Describe, at its `due`; None if none is scheduled."""
        while self._heap:
            due, _, job = self._heap[0]
            if job.due == due and job.describe_at <= due:
                return job
            # Removed first: the next Describe may come up even before this moment.
            heapq.heappop(self._heap)
            if job.due == due:
                # The job gave a sign of life since: that is as good as a Describe, so the interval grows the same way.
                self.schedule_next(job, job.alive, at_least=job.interval or 0.0)
        return None

    def schedule_next(self, job: JobState, now: float, *, at_least: float = 0.0) -> None:
        """Schedule the Describe that follows a Describe or a sign of life.

        Args:
            job: the job.
            now: the moment of the Describe or the sign of life.
            at_least: the shortest interval, for when there are too many jobs for the usual one.
        """
        job.interval = max(at_least, self._polling.next_interval(job.interval))
        job.alive = max(job.alive, now)
        jittered = job.interval * self._random.uniform(1.0 - self._polling.jitter, 1.0)
        self.schedule(job, now + jittered, jittered)
