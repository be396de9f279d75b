"""Groups of running jobs whose log lines are read together, and the pace of that reading.

The streams of a job are named `<job>/<host>-<number>`, and FilterLogEvents reads all streams whose names have a common
prefix. So the jobs of one run, whose names begin alike, are read with one call.

How often a group is read
-------------------------
A read costs a call. It is worth that call in two cases: if there are lines to show, and if the newest line is so young
that it proves that the job runs, which makes a status call unnecessary. So the pace follows the age of the lines. In
seconds, with the default `Polling` (`first` 1, `factor` 1.5, `longest` 14, `quiet_logs` 240):

    wait(0)   = 3 * first                                       3, at the start and after the first lines
    wait(n+1) = min(wait(n) * factor ** 2, longest_wait)        6.75, 15.2, ...

    longest_wait without a line yet = max(longest, min(30, quiet_logs / 3))                          30
    longest_wait otherwise          = min(quiet_logs, max(0.75 * longest, worth))                    10.5 to 240
    worth                           = max(6 * age, min(10 * usual_age, 20 * age))

`age` is the age of the newest line of the group, and `usual_age` is the usual age of the newest line of its liveliest
job (`processing.watching.logs.liveness`). A read that comes due is then delayed, once, to the next status call
(`align_with_status_call`), which is at most `longest` away.

How far back a read goes
------------------------
CloudWatch may deliver a line after newer ones. So each read begins some time before the newest line:

    window = lateness                                           at least every 4 * lateness (60 and 240)
    window = min(lateness, max(5, 2 * recent_delay + 2))        otherwise
    recent_delay = max(delay of the new lines, 0.7 * recent_delay)    lateness / 4 at first

A line that is later than that is found after the job's end, when all its lines are read once more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    import random as random_module

    from processing.watching.logs.followed_job import FollowedJob
    from processing.watching.polling import Polling

COMMON: Final = 4
"""Leading characters that the names of a group's jobs share; a shorter prefix could match the whole account."""

# Each number below has its effect on the calls of a job of one hour, with one host and the default `Polling`. The
# simulation of benchmarks/watch_hour.py measured it. As they are: 284 calls with a line a second, 310 with one every
# ten seconds, 295 with one at the beginning. All three include the status calls.

# The first wait, as a multiple of `Polling.first`. With 1 the first lines are shown sooner, for 2 calls more an hour.
_FIRST_WAIT: Final = 3.0
# The longest wait before the first line, in seconds: the program may start any minute, and its first lines are awaited.
# With 14 (`longest`) it takes 5 calls more, with 80 2 fewer.
_LONGEST_WAIT_BEFORE_FIRST_LINE: Final = 30.0
# The shortest of the longest waits, as a multiple of `Polling.longest`. It is below 1, so a read is due before the next
# status call, and is then delayed to it. A read just after the call would save nothing. 0.5 and 1.0 take as many calls.
_SHORTEST_OF_LONGEST: Final = 0.75
# The wait as a multiple of the usual age of the newest line. With 5 it takes 290 and 321 calls, with 20 282 and 297,
# but lines are then shown up to twice as late. A job with a line every ten seconds shows them after two minutes instead
# of one.
_TIMES_USUAL_AGE: Final = 10.0
# The same as a multiple of the present age, at least and at most. They are a guard for a job whose pace changes. A job
# that fell silent is soon read less often, and one that just wrote is soon read again. Without this and
# `_TIMES_USUAL_AGE`, at `_SHORTEST_OF_LONGEST` for every job, a silent job takes 524 calls instead of 295.
_TIMES_AGE: Final = (6.0, 20.0)

# The shortest window, in seconds. CloudWatch's usual delay is below that. The window does not change the number of
# calls, only how many known lines each of them returns again.
_MIN_WINDOW: Final = 5.0
# How often the window is all of `Polling.lateness`, as a multiple of it.
_WIDE_EVERY: Final = 4.0
# The part of `recent_delay` that remains after each sweep without later lines: a late line keeps the window wide for a
# few sweeps more.
_DELAY_DECAY: Final = 0.7


@attrs.define(eq=False)
class JobGroup:
    """Running jobs whose names begin alike; their lines are read together.

    Args:
        polling: how often to read, and how late lines may arrive.
        due: when to read next (monotonic).
        jobs: the jobs by name.
        is_aligned: True if the read that is due was already delayed to a status call.
        newest: the newest moment at which one of the jobs surely wrote a line, in ms since the epoch.
        swept_at: when the last sweep began, in seconds since the epoch by AWS's clock.
        wide_sweep_at: the same of the last sweep whose window was all of `Polling.lateness`.
        max_delay: the longest time between a line's timestamp and its arrival, in ms.
        wait: the last wait; None before the first one.
        recent_delay: the time after which recent lines could be read, at worst, in seconds.
    """

    polling: Polling
    due: float
    jobs: dict[str, FollowedJob] = attrs.field(factory=dict)
    is_aligned: bool = False
    newest: int | None = None
    swept_at: float | None = None
    wide_sweep_at: float = float("-inf")
    max_delay: int = 0
    wait: float | None = None
    recent_delay: float = attrs.field(default=attrs.Factory(lambda self: self.polling.lateness / 4, takes_self=True))

    def accepts(self, name: str) -> bool:
        """Return whether a job of that name belongs to the group."""
        return not self.jobs or len(_common_prefix([name, next(iter(self.jobs))])) >= COMMON

    def next_start(self) -> int:
        """Return where the next sweep over jobs that were read before begins, in ms since the epoch."""
        assert self.swept_at is not None
        lateness = self.polling.lateness
        is_wide = self.swept_at - self.wide_sweep_at >= _WIDE_EVERY * lateness
        window = lateness if is_wide else min(lateness, max(_MIN_WINDOW, 2 * self.recent_delay + 2.0))
        # A line that could not be read at the last sweep was written `lateness` before it or later, by the slowest of
        # the hosts' clocks. An earlier start would find nothing new, however old the newest line is.
        earliest = round((self.swept_at - lateness) * 1000) - self.max_delay
        return earliest if self.newest is None else max(earliest, self.newest - round(window * 1000))

    def record_sweep(self, began: float, start: int, oldest_new: int | None) -> None:
        """Record a complete sweep.

        Args:
            began: when it began, in seconds since the epoch by AWS's clock.
            start: where it began, in ms since the epoch.
            oldest_new: the earliest timestamp of its new lines (ms since the epoch); None if there were none.
        """
        if self.swept_at is not None and oldest_new is not None:
            self.recent_delay = max(self.swept_at - oldest_new / 1000, _DELAY_DECAY * self.recent_delay, 0.0)
        if start / 1000 <= began - self.polling.lateness:
            self.wide_sweep_at = began
        self.swept_at = began

    def schedule(self, has_first_lines: bool, now: float, aws_time: float, random: random_module.Random) -> None:
        """Set when to read next, by the formula at the top of this module.

        Args:
            has_first_lines: True if the first lines of the group have just been read: waits start short again.
            now: the monotonic time.
            aws_time: seconds since the epoch by AWS's clock.
            random: shortens the wait a little.
        """
        polling = self.polling
        previous = None if has_first_lines else self.wait
        # Two steps of the growth of status calls at once, so that the wait reaches its bound within three reads.
        growing = _FIRST_WAIT * polling.first if previous is None else previous * polling.factor**2
        self.wait = min(growing, self._longest_wait(aws_time))
        # By default up to 1 % early, so that many programs do not all call at once.
        self.due = now + self.wait * (1 - 0.5 * polling.jitter * random.random())
        self.is_aligned = False

    def _longest_wait(self, aws_time: float) -> float:
        """Return the longest wait: the older the newest line usually is, the less a read is worth."""
        polling = self.polling
        if self.newest is None:
            return max(polling.longest, min(_LONGEST_WAIT_BEFORE_FIRST_LINE, polling.quiet_logs / 3))
        age = aws_time - self.newest / 1000
        usual_ages = [job.liveness.usual for job in self.jobs.values() if job.liveness.usual is not None]
        usual_age = min(usual_ages, default=age)
        least, most = _TIMES_AGE
        worth = max(least * age, min(_TIMES_USUAL_AGE * usual_age, most * age))
        return min(polling.quiet_logs, max(_SHORTEST_OF_LONGEST * polling.longest, worth))

    def align_with_status_call(self, moment: float, now: float) -> None:
        """Delay the read that is due, once, to the next status call.

        Args:
            moment: the monotonic time of that call.
            now: the monotonic time.
        """
        if now < moment <= now + self.polling.longest and not self.is_aligned and self.newest is not None:
            self.due, self.is_aligned = moment, True


@attrs.frozen(eq=False)
class Sweep:
    """One pass over the new lines of some jobs.

    Args:
        jobs: the jobs.
        start: the earliest timestamp that is read (ms since the epoch).
        whole: True to read all lines of the jobs, False to read the newest ones.
        group: the group of the jobs; None if they have ended.
    """

    jobs: list[FollowedJob]
    start: int
    whole: bool
    group: JobGroup | None = None


def stream_prefix(jobs: list[FollowedJob], host: str | None = None) -> str:
    """Return the common beginning of the names of the jobs' streams."""
    if len(jobs) == 1:
        return f"{jobs[0].name}/{host}-" if host else f"{jobs[0].name}/"
    names = [job.name for job in jobs]
    return _common_prefix([min(names), max(names)])


def _common_prefix(names: list[str]) -> str:
    return os.path.commonprefix(names)  # noqa: RUF071 - the function compares characters, which is right for names
