"""How often jobs are looked at, and how long their logs are waited for."""

from __future__ import annotations

import attrs


@attrs.frozen
class Polling:
    """The pace of watching; all in seconds, save `factor`, `few` and `jitter`.

    A single job, or a few, are looked at one by one (DescribeProcessingJob); many by what changed in the account
    (ListProcessingJobs), which costs the same whatever their number.

    Args:
        first: the wait after the first look, and after each news of a job.
        factor: by what each wait is longer than the one before.
        longest: the longest wait since a job was last known to run; so the end of a job is seen at most this late. A
            log line that was written a moment ago is as good a sign of life as a look.
        jitter: the part by which a wait may be shorter, at random, so that many programs do not all call at once.
        few: the most jobs that are looked at one by one.
        list_every: with more jobs, how often what changed is listed; so the end of a job is seen at most this late.
        list_overlap: how far each listing goes back before the one that it follows.
        sweep_every: how often a listing goes back further, for changes that are listed late.
        sweep_overlap: how far it goes back.
        full_every: how often it is made sure that every job is still there.
        renewal: how long credentials that have expired are waited for.
        quiet_logs: the longest wait between two looks at the logs of jobs that have not written for long.
        lateness: how far behind the newest line CloudWatch may still deliver one while the job runs: each poll reads
            again from there. A line that is later than that is found when the job has ended, and not lost.
        settle: once the job has ended, its logs are read until two sweeps this far apart bring nothing new; one is
            enough where its end is twice the grace ago.
        grace: and at least until its end is so long ago, by AWS's clock. Where lines were later than that while it
            ran, they are waited for as long, up to ten seconds. 0 where none comes after the end, as on the engine.
        settle_limit: after so long the logs are taken as complete even if lines still came in; a warning says so.
    """

    first: float = 1.0
    factor: float = 1.5
    longest: float = 14.0
    jitter: float = 0.02
    few: int = 8
    list_every: float = 2.0
    list_overlap: float = 10.0
    sweep_every: float = 30.0
    sweep_overlap: float = 180.0
    full_every: float = 600.0
    renewal: float = 60.0
    quiet_logs: float = 240.0
    lateness: float = 60.0
    settle: float = 0.4
    grace: float = 2.5
    settle_limit: float = 30.0

    @classmethod
    def prompt(cls) -> Polling:
        """Return the pace of a session that is told of ends at once: who waits is to know within two seconds."""
        return cls(settle=0.05, grace=1.6)

    def after(self, wait: float | None) -> float:
        """Return the wait that follows `wait`; the first one for None."""
        return self.first if wait is None else min(self.longest, wait * self.factor)
