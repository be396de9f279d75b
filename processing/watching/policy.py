"""How often a job is looked at, and how long its logs are waited for."""

from __future__ import annotations

import attrs


@attrs.frozen
class Polling:
    """The pace of watching one job; all in seconds, save `factor`.

    Args:
        first: the wait after the first look.
        factor: by what each wait is longer than the one before.
        longest: the longest wait; so the end of a job is seen at most this late.
        lateness: how far behind the newest line CloudWatch may still deliver one while the job runs: each poll reads
            again from there. A line that is later than that is found when the job has ended, and not lost.
        settle: once the job has ended, its logs are read until two sweeps this far apart bring nothing new.
        settle_limit: after so long the logs are taken as complete even if lines still came in; a warning says so.
    """

    first: float = 1.0
    factor: float = 1.5
    longest: float = 10.0
    lateness: float = 60.0
    settle: float = 1.0
    settle_limit: float = 30.0

    def after(self, wait: float | None) -> float:
        """Return the wait that follows `wait`; the first one for None."""
        return self.first if wait is None else min(self.longest, wait * self.factor)
