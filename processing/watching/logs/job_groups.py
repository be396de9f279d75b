"""Which jobs' lines are read together, from when on, and how often.

The streams of a job are `<job>/<host>-<number>`, and FilterLogEvents reads all streams whose names have a prefix: so
jobs of one run, whose names begin alike, are read with one call.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import attrs

from processing.watching.logs.dedup import SeenLines
from processing.watching.logs.liveness import Liveness

if TYPE_CHECKING:
    import random as random_module

    from processing.watching.polling import Polling

COMMON: Final = 4
"""Characters that names have to share for their lines to be read together; else those of all the account would be."""

_NARROW = 5.0  # seconds that are read again at least: CloudWatch's usual delay is below that
_WIDE_EVERY = 4.0  # times the lateness after which all of it is read again
_FIRST = 3.0  # times `Polling.first`: the first wait
_UNTIL_THE_FIRST = 30.0  # seconds between two readings before the first line
_SOONEST = 0.75  # times `Polling.longest` between two readings; the next look puts off by the rest
_TIMES_USUAL = 10.0  # how often the newest line's usual age: the older it is, the less does a reading tell
_TIMES_AGE = (6.0, 20.0)  # the same of its age now, at least and at most
_LATEST = 10.0  # seconds by which lines may come late that are waited for in any case


@attrs.define
class Ending:
    """A job has ended: how far the wait for its last lines is.

    Args:
        ended_at: when, in seconds since the epoch by AWS's clock; None where that is not known.
        all_arrived: it was so long ago that no line is under way any more.
        due: when to read next (monotonic).
        give_up_at: until when failures are ridden out (monotonic).
        quiet: sweeps in a row that brought nothing.
        last_began: when the last of them began, in seconds since the epoch by AWS's clock.
        limit: when the lines are taken as complete even if they still come in (monotonic); None before everything has
            been read once since the end.
    """

    ended_at: float | None
    all_arrived: bool
    due: float
    give_up_at: float
    quiet: int = 0
    last_began: float = 0.0
    limit: float | None = None

    def is_over(self, grace: float) -> bool:
        """Return whether no line comes any more: by two sweeps, or by one that began long after the job's end.

        Args:
            grace: how long after the end lines may come, in seconds; 0 where none comes.
        """
        if not grace:
            return self.quiet >= 1
        since = self.last_began - (self.ended_at or 0.0)
        return since >= grace and self.quiet >= (1 if self.ended_at is not None and since >= 2 * grace else 2)


@attrs.define(eq=False)
class FollowedJob:
    """A job whose lines are read.

    Args:
        name: its name.
        since: lines with an earlier timestamp (ms since the epoch) are another's.
        resume: a sweep over everything begins here (ms): later than `since` where one was broken off.
    """

    name: str
    since: int
    resume: int
    seen: SeenLines = attrs.field(factory=SeenLines)
    streams: dict[str, int] = attrs.field(factory=dict)  # the newest timestamp of each stream
    way: str | None = None  # the way of reading that gave the lines so far
    told: dict[str, int] = attrs.field(factory=dict)  # by stream, up to when another way gave them
    swept: bool = False  # everything has been read once
    count: int = 0  # lines that were given
    taken: int = 0  # events of which they are made
    newest: int | None = None  # ms: the newest moment at which it surely wrote
    skew: int = 0  # ms: the longest time between a line's timestamp and its arrival
    pulse: Liveness = attrs.field(factory=Liveness)
    ending: Ending | None = None
    done: bool = False  # all its lines were given by who made the checkpoint

    @property
    def lateness(self) -> float:
        """How late its lines came, in seconds; beyond a bound it is a clock that is wrong."""
        return min(max(0, self.skew) / 1000, _LATEST)

    def is_quiet(self, began: float, grace: float) -> bool:
        """Return whether, by its newest line and by how late they come, none came of late.

        Args:
            began: seconds since the epoch, by AWS's clock.
            grace: how long no line must have come.
        """
        return self.newest is None or (self.newest + max(0, self.skew)) / 1000 <= began - grace

    @property
    def was_read_whole(self) -> bool:
        """Whether everything has been read once since it ended."""
        return self.ending is not None and self.ending.limit is not None


@attrs.define(eq=False)
class JobGroup:
    """Jobs whose names begin alike, read together while they run.

    Args:
        polling: the session's.
        due: when to read next (monotonic).
    """

    polling: Polling
    due: float
    jobs: dict[str, FollowedJob] = attrs.field(factory=dict)
    awaits: bool = False  # the reading that is due was put off until a job would be looked at
    newest: int | None = None  # ms, as of a job
    swept_at: float | None = None  # when the last sweep began: seconds since the epoch, by AWS's clock
    wide_at: float = float("-inf")  # the same of the last sweep that went back all the lateness
    skew: int = 0  # ms, as of a job
    wait: float | None = None  # the last wait while waits grow
    delay: float = attrs.field(default=attrs.Factory(lambda self: self.polling.lateness / 4, takes_self=True))
    """Seconds after which a line can be read, at worst of late."""

    def takes(self, name: str) -> bool:
        """Return whether a job of that name belongs here."""
        return not self.jobs or len(_common([name, next(iter(self.jobs))])) >= COMMON

    def start(self) -> int:
        """Return where the next sweep over jobs that were swept begins, in ms since the epoch."""
        assert self.swept_at is not None
        lateness = self.polling.lateness
        wide = self.swept_at - self.wide_at >= _WIDE_EVERY * lateness
        window = lateness if wide else min(lateness, max(_NARROW, 2 * self.delay + 2.0))
        # What could not be read at the last sweep was written the lateness before it, by the slowest clock, or later.
        earliest = round((self.swept_at - lateness) * 1000) - self.skew
        return earliest if self.newest is None else max(earliest, self.newest - round(window * 1000))

    def swept(self, began: float, start: int, oldest: int | None) -> None:
        """Note that a sweep over the running jobs is complete.

        Args:
            began: when it began, in seconds since the epoch by AWS's clock.
            start: where it began, in ms since the epoch.
            oldest: the earliest timestamp of what was new; None where nothing was.
        """
        if self.swept_at is not None and oldest is not None:
            self.delay = max(self.swept_at - oldest / 1000, 0.7 * self.delay, 0.0)
        if start / 1000 <= began - self.polling.lateness:
            self.wide_at = began
        self.swept_at = began

    def pace(self, first_news: bool, now: float, aws_now: float, random: random_module.Random) -> None:
        """Set from when on to read next: soon while a job may be about to start, then as often as it is worth it.

        Args:
            first_news: whether the first lines of the group have just come.
            now: the monotonic time.
            aws_now: seconds since the epoch, by AWS's clock.
            random: shortens the wait a little.
        """
        polling = self.polling
        waited = None if first_news else self.wait
        growing = _FIRST * polling.first if waited is None else waited * polling.factor**2
        self.wait = min(growing, self._longest(aws_now))
        self.due = now + self.wait * (1 - 0.5 * polling.jitter * random.random())
        self.awaits = False

    def _longest(self, aws_now: float) -> float:
        """Return the longest wait: the older the newest line mostly is, the less does it tell."""
        polling = self.polling
        if self.newest is None:  # the program may start any minute
            return max(polling.longest, min(_UNTIL_THE_FIRST, polling.quiet_logs / 3))
        age = aws_now - self.newest / 1000
        usual = min((job.pulse.usual for job in self.jobs.values() if job.pulse.usual is not None), default=age)
        least, most = _TIMES_AGE
        worth_it = max(least * age, min(_TIMES_USUAL * usual, most * age))
        return min(polling.quiet_logs, max(_SOONEST * polling.longest, worth_it))

    def align_with_status_call(self, moment: float, now: float) -> None:
        """Put off the reading that is due, once, until a job would be looked at."""
        if now < moment <= now + self.polling.longest and not self.awaits and self.newest is not None:
            self.due, self.awaits = moment, True


def prefix_of(jobs: list[FollowedJob], host: str | None = None) -> str:
    """Return what the names of all streams of the jobs begin with."""
    if len(jobs) == 1:
        return f"{jobs[0].name}/{host}-" if host else f"{jobs[0].name}/"
    names = [job.name for job in jobs]
    return _common([min(names), max(names)])


def _common(names: list[str]) -> str:
    return os.path.commonprefix(names)  # noqa: RUF071 - of characters, which names are made of
