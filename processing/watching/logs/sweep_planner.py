"""Planner of sweeps: decides which log lines are read next, and from which moment on.

There are three kinds of sweeps:

- Running jobs are read together, one sweep per group (`processing.watching.logs.job_groups`). A job that is new in its
  group is read from its first line on, the others from shortly before their newest line.
- A job that has ended is read once more from its first line, since late lines may be anywhere.
- After that, its last lines are read again until `processing.watching.logs.endings` finds that all have arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from processing.watching.logs.job_groups import JobGroup, Sweep

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Iterator, Mapping

    from processing.clock import Clock
    from processing.watching.logs.followed_job import FollowedJob
    from processing.watching.logs.sources import LogSource
    from processing.watching.polling import Polling

# Events per call, for estimates of what a sweep costs. FilterLogEvents returns up to 10,000 events or 1 MB; half of
# that stands for lines of 200 bytes.
_EVENTS_PER_PAGE: Final = 5_000


class SweepPlanner:
    """Groups running jobs and plans the sweeps over their lines.

    Args:
        jobs: all followed jobs by name; the caller may change it between sweeps.
        polling: how often to read, and how late lines may arrive.
        clock: the clock that waits are measured on.
        source: the source of the lines.
        random: shortens the waits a little, so that many programs do not all call at once.
    """

    def __init__(
        self,
        jobs: Mapping[str, FollowedJob],
        polling: Polling,
        clock: Clock,
        source: LogSource,
        random: random_module.Random,
    ) -> None:
        self._jobs = jobs
        self._polling = polling
        self._clock = clock
        self._source = source
        self._random = random
        self._groups: list[JobGroup] = []

    def add(self, job: FollowedJob) -> None:
        """Put a running job into a group; the first job of a group is due at once."""
        now = self._clock.monotonic()
        group = next((group for group in self._groups if group.accepts(job.name)), None)
        if group is None:
            group = JobGroup(self._polling, now)
            self._groups.append(group)
        # If jobs arrive one a second, the group is not read for each of them: a new job waits up to `longest`.
        group.due = min(group.due, now + self._polling.longest) if group.jobs else now
        group.jobs[job.name] = job

    def remove(self, job: FollowedJob) -> None:
        """Remove a job from its group."""
        for group in self._groups:
            group.jobs.pop(job.name, None)
        self._groups = [group for group in self._groups if group.jobs]

    @property
    def due(self) -> float | None:
        """The monotonic time of the next sweep; None if there is none to come."""
        endings = [job.ending.due for job in self._jobs.values() if job.ending]
        if not self._source.is_readable:
            return min(endings, default=None)
        return min([*endings, *(group.due for group in self._groups if group.jobs)], default=None)

    def align_with_status_call(self, moment: float) -> None:
        """Delay the sweeps that are due until the next status call: young lines may make that call unnecessary.

        Args:
            moment: the monotonic time of that call.
        """
        now = self._clock.monotonic()
        for group in self._groups:
            if group.due <= now:
                group.align_with_status_call(moment, now)

    def due_sweeps(self) -> Iterator[Sweep]:
        """Yield the sweeps that are due, each planned when the one before it is over."""
        now = self._clock.monotonic()
        if not self._source.is_readable:
            return
        ended = [job for job in self._jobs.values() if job.ending and job.ending.due <= now and not job.complete]
        unread = [job for job in ended if not job.reread_after_end]
        reread = [job for job in ended if job.reread_after_end]
        yield from self._last_sweeps(unread, whole=True)
        yield from self._last_sweeps(reread, whole=False)
        for group in [group for group in self._groups if group.jobs and group.due <= now]:
            yield from self._group_sweeps(group)

    def _group_sweeps(self, group: JobGroup) -> Iterator[Sweep]:
        new = [job for job in group.jobs.values() if not job.fully_read]
        others = [job for job in group.jobs.values() if job.fully_read]
        if new:
            yield Sweep(new, min(job.resume_at for job in new), whole=True, group=group)
        if others:
            start = group.next_start() if group.swept_at else min(job.resume_at for job in others)
            yield Sweep(others, max(start, min(job.since for job in others)), whole=False, group=group)

    def _last_sweeps(self, jobs: list[FollowedJob], *, whole: bool) -> Iterator[Sweep]:
        """Yield sweeps over jobs that have ended.

        One sweep reads all jobs whose names begin with the same four characters, if it takes fewer calls than a sweep
        for each of them.
        """
        by_prefix: dict[str, list[FollowedJob]] = {}
        for job in jobs:
            by_prefix.setdefault(job.name[:4], []).append(job)
        for alike in by_prefix.values():
            pages = 2 + sum(job.event_count for job in alike) / _EVENTS_PER_PAGE if whole else 2
            together = len(alike) > pages and self._source.reads_prefixes
            for batch in [alike] if together else [[job] for job in alike]:
                yield Sweep(batch, min(self._last_start(job, whole=whole) for job in batch), whole)

    def _last_start(self, job: FollowedJob, *, whole: bool) -> int:
        """Return where a sweep over a job that has ended begins, in ms since the epoch.

        A job with few lines is read from its first one, since that takes one call too.
        """
        if whole or job.event_count <= _EVENTS_PER_PAGE or job.newest is None:
            return job.resume_at
        ended_at = job.ending.ended_at if job.ending else None
        last = job.newest if ended_at is None else min(job.newest, round(ended_at * 1000))
        return max(job.since, last - max(round(self._polling.lateness * 1000), 2 * job.max_delay))

    def record_progress(self, sweep: Sweep, reached: int) -> None:
        """Record how far a sweep over all lines has come; if it is interrupted, the next one continues there.

        Args:
            sweep: the sweep.
            reached: the timestamp of the last line of the last page (ms since the epoch).
        """
        resume_at = reached - round(self._polling.lateness * 1000)
        for job in sweep.jobs:
            job.resume_at = max(job.resume_at, resume_at)

    def record_sweep(
        self, sweep: Sweep, group: JobGroup, began: float, oldest_new: int | None, *, aws_time: float
    ) -> None:
        """Record a complete sweep over the running jobs of a group, and schedule the next one.

        Args:
            sweep: the sweep.
            group: its group.
            began: when it began, in seconds since the epoch by AWS's clock.
            oldest_new: the earliest timestamp of its new lines (ms since the epoch); None if there were none.
            aws_time: the time now, in seconds since the epoch by AWS's clock.
        """
        had_lines = group.newest is not None
        newest = [job.newest for job in sweep.jobs if job.newest is not None]
        group.max_delay = max([group.max_delay, *(job.max_delay for job in sweep.jobs)])
        if newest:
            group.newest = max([*newest, group.newest or 0])
        if not sweep.whole or group.swept_at is None:
            group.record_sweep(began, sweep.start, oldest_new)
        has_first_lines = not had_lines and group.newest is not None
        due = group.due
        group.schedule(has_first_lines, self._clock.monotonic(), aws_time, self._random)
        if not all(job.fully_read for job in group.jobs.values()):
            # The sweep of a new job has failed: it is repeated soon, and not as late as the others.
            group.due = min(group.due, max(due, self._clock.monotonic() + self._polling.first))

    def resume_at(self, job: FollowedJob) -> int:
        """Return where another process has to continue with a job, in ms since the epoch."""
        group = next((group for group in self._groups if job.name in group.jobs), None)
        return group.next_start() if group and job.fully_read else job.resume_at
