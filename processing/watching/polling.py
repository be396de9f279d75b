"""The intervals of status calls and log reads."""

from __future__ import annotations

import math

import attrs

from processing._utils.validation import TIMEOUT, field, integer, number

_SECONDS = field(number(at_least=0))


@attrs.frozen
class Polling:
    """The intervals of watching. All are in seconds, except `factor`, `few` and `jitter`.

    A few jobs are described one by one (DescribeProcessingJob). Of many jobs, the changes in the account are listed
    (ListProcessingJobs), which costs the same for any number of jobs.

    Args:
        first: the interval after the first status call, and after each status change of a job.
        factor: the ratio of each interval to the one before.
        longest: the longest interval since a job was last known to run, and so the longest delay until its end is seen.
            A log line that was written a moment ago shows as well as a status call that the job runs.
        jitter: the part by which an interval may be shorter, at random. It spreads the calls of many programs.
        few: the largest number of jobs that are described one by one.
        list_every: the interval of listings, and so the longest delay until the end of one of many jobs is seen.
        list_overlap: the time by which each listing reaches back before the start of the one that it follows.
        sweep_every: the interval of listings that reach back further, for changes that are listed late.
        sweep_overlap: the time by which these reach back.
        full_every: the interval of listings of all jobs in progress, which find jobs that no longer exist.
        renewal: the time for which expired credentials may be renewed, or a wrong clock set, before the watch ends;
            infinite by default.
        quiet_logs: the longest interval between two log reads, for jobs that have not written for a long time.
        lateness: the time behind the newest line within which CloudWatch may still deliver a line while the job runs.
            Log reads reach back by up to this much. A line that is later still is found after the job's end, not lost.
        settle: after a job's end, the interval between two sweeps over its logs that have to bring nothing new. One
            sweep is enough if the end is twice `grace` ago.
        grace: the time after a job's end, by AWS's clock, before which its logs do not count as complete. If lines were
            later than that while the job ran, this time is as long as they were late, up to ten seconds. 0 if no line
            comes after the end, as on the engine.
        settle_limit: the time after which logs count as complete although lines still arrive. A warning reports it.
    """

    # At factor 1.5, an hour of one silent job takes about 270 calls. Its end is seen 7 seconds late on average.
    first: float = attrs.field(default=1.0, validator=_SECONDS)
    factor: float = attrs.field(default=1.5, validator=field(number(at_least=1)))
    longest: float = attrs.field(default=14.0, validator=_SECONDS)
    jitter: float = attrs.field(default=0.02, validator=field(number(at_least=0, at_most=1)))
    # Eight jobs at the longest interval cost about as many calls as one listing every two seconds: 34 a minute to 30.
    few: int = attrs.field(default=8, validator=field(integer()))
    # The quota of ListProcessingJobs is assumed to be two calls a second. A listing every two seconds leaves room for
    # further pages, the other scans and other programs.
    list_every: float = attrs.field(default=2.0, validator=_SECONDS)
    # Listings may lag. A short overlap finds the usual lag at the next listing, and a long one the rare lag of minutes.
    # The full listing finds a change that is never listed.
    list_overlap: float = attrs.field(default=10.0, validator=_SECONDS)
    sweep_every: float = attrs.field(default=30.0, validator=_SECONDS)
    sweep_overlap: float = attrs.field(default=180.0, validator=_SECONDS)
    full_every: float = attrs.field(default=600.0, validator=_SECONDS)
    renewal: float = attrs.field(default=math.inf, validator=field(TIMEOUT))
    # An hour of a silent job then costs fifteen log reads.
    quiet_logs: float = attrs.field(default=240.0, validator=_SECONDS)
    lateness: float = attrs.field(default=60.0, validator=_SECONDS)
    # AWS publishes no bound on how late a line may come, and no mark ends a stream. Without an event source the end
    # itself is seen 7 seconds late on average, so 2.5 seconds after it cost next to nothing.
    settle: float = attrs.field(default=0.4, validator=_SECONDS)
    grace: float = attrs.field(default=2.5, validator=_SECONDS)
    settle_limit: float = attrs.field(default=30.0, validator=_SECONDS)

    @classmethod
    def prompt(cls) -> Polling:
        """Return the intervals for a session with an event source: `wait` returns within two seconds of a job's end."""
        return cls(settle=0.05, grace=1.6)

    @classmethod
    def of_engine(cls) -> Polling:
        """Return the intervals for the engine on this machine: a job's end is seen within a tenth of a second."""
        # A Describe call costs a millisecond, a List call two. A change is listed at once, and a job's last lines are
        # stored before its status changes. The event source reports most changes sooner.
        return cls(
            first=0.01,
            factor=1.2,
            longest=0.1,
            few=4,
            list_every=0.1,
            list_overlap=1.0,
            sweep_every=5.0,
            sweep_overlap=60.0,
            full_every=60.0,
            quiet_logs=0.2,
            settle=0.0,
            grace=0.0,
        )

    def next_interval(self, interval: float | None) -> float:
        """Return the interval that follows another one; the first one for None."""
        return self.first if interval is None else min(self.longest, interval * self.factor)
