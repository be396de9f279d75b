"""The scans of ListProcessingJobs, which show the changes of many jobs: their schedule, and the jobs they did not show.

A scan reads a listing to its last page. There are four kinds:

- *changes*: the jobs that were modified since a little before the last such scan, every two seconds
- *sweep*: the same from minutes before, twice a minute, for changes that are listed late
- *catch-up*: the jobs that are newly watched, from the creation of the first one on
- *census*: all jobs in progress, every ten minutes, to find those that have ended or do not exist

Consumers wait for changes, so a changes scan comes before all others. At most one other scan is under way beside it,
and its pages are spread out. So a census of a large account does not delay the next changes scan.
"""

from __future__ import annotations

import math
import os.path
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Iterable, Mapping

    from processing.aws.server_time import ServerTime
    from processing.watching.polling import Polling
    from processing.watching.status.describe_schedule import JobState

ScanKind: TypeAlias = Literal["changes", "sweep", "catch-up", "census"]

_PAGE: Final = 100  # the most that ListProcessingJobs returns
# A common prefix shorter than this many characters matches most of an account's names, and saves nothing.
_SHORTEST_PREFIX: Final = 4
# New jobs get a Describe each up to this burst; more of them share a catch-up scan. Twenty calls are what a scan of an
# account with two thousand jobs costs. The allowance grows again by one job a second. So jobs that are added one by one
# do not begin a scan each, and a stream of them is not described one by one.
_DESCRIBE_BURST: Final = 20
_DESCRIBE_REFILL: Final = 1.0
# The first changes scan reaches back this many seconds at most. A longer one has more pages, which delay the next scan.
_RECENT: Final = 900.0


@attrs.define(eq=False)
class Scan:
    """One pass over ListProcessingJobs, to the last page.

    Attributes:
        kind: its purpose.
        began: AWS's time before the first page was requested, in seconds since the epoch.
        after: the scan leaves out jobs that were modified before this moment; None for all jobs.
        prefix: a text that the names contain; None for any name.
        awaited: by name, the jobs that the scan has to show and has not shown yet.
        token: the token of the next page; None for the first page.
        restarts: how often the scan began again because its token was refused.
        page: the number of pages since it last began.
        furthest: the largest number of pages so far.
        stuck_since: the monotonic moment of the first failure since the scan made progress; None without one.
    """

    kind: ScanKind
    began: float
    after: float | None
    prefix: str | None
    awaited: dict[str, JobState] = attrs.field(factory=dict)
    token: str | None = None
    restarts: int = 0
    page: int = 0
    furthest: int = 0
    stuck_since: float | None = None

    def params(self) -> dict[str, Any]:
        """Return the parameters of the request for the next page."""
        # Oldest first: a job that is created during the scan comes last, and moves no job to another page.
        params: dict[str, Any] = {"MaxResults": _PAGE, "SortBy": "CreationTime", "SortOrder": "Ascending"}
        if self.after is not None:
            params["LastModifiedTimeAfter"] = datetime.fromtimestamp(max(0.0, self.after), tz=timezone.utc)
        if self.prefix is not None:
            params["NameContains"] = self.prefix
        if self.kind == "census":
            params["StatusEquals"] = "InProgress"
        if self.token is not None:
            params["NextToken"] = self.token
        return params

    def restart(self) -> None:
        """Begin again at the first page, as AWS refuses the token."""
        self.token = None
        self.page = 0
        self.restarts += 1

    def record_progress(self) -> bool:
        """Record an answered page, and return whether it is the first progress since a failure."""
        self.page += 1
        if self.page <= self.furthest:
            return False
        self.furthest = self.page
        was_stuck, self.stuck_since = self.stuck_since is not None, None
        return was_stuck


class ScanSchedule:
    """The schedule of the scans.

    Args:
        polling: the intervals.
        server: AWS's time.
        random: the source of jitter.
        now: the monotonic moment.
        oldest_answer: the monotonic moment of the oldest last answer about a job. The first changes scan begins a
            little before.
        statuses_as_of: the moments of AWS's time at which the statuses of jobs were true. The first changes scan begins
            at the oldest recent one.

    Attributes:
        listed_until: the moment of AWS's time up to which the changes have been listed.
    """

    def __init__(
        self,
        polling: Polling,
        server: ServerTime,
        random: random_module.Random,
        now: float,
        oldest_answer: float,
        statuses_as_of: Iterable[float] = (),
    ) -> None:
        self._polling = polling
        self._server = server
        self._random = random
        recent = (moment for moment in statuses_as_of if moment >= server.now() - _RECENT)
        self.listed_until = min((server.now() - (now - oldest_answer) - polling.longest, *recent))
        self._reach_back = math.inf  # the earliest moment that the next changes scan has to include
        self._next_changes = now
        self._next_sweep = now + polling.sweep_every
        self._next_census = now + polling.full_every
        self._next_page = now  # of the other scan
        self._changes: Scan | None = None
        self._other: Scan | None = None
        self._catching_up: dict[str, JobState] = {}  # for the next catch-up
        self._allowance = float(_DESCRIBE_BURST)
        self._allowance_as_of = now

    def scan_now(self, now: float) -> None:
        """Begin the next changes scan now, as there were events."""
        self._next_changes = min(self._next_changes, now)

    def add(self, jobs: Iterable[JobState], names: Iterable[str], now: float) -> list[JobState]:
        """Add jobs whose first update a consumer awaits, and return those that have to be described instead.

        Args:
            jobs: the new jobs.
            names: the names of all watched jobs.
            now: the moment.
        """
        new = [job for job in jobs if not (self._is_covered(job) or self._reaches_back_to(job))]
        self._allowance = min(_DESCRIBE_BURST, self._allowance + (now - self._allowance_as_of) / _DESCRIBE_REFILL)
        self._allowance_as_of = now
        if len(new) <= self._allowance:
            self._allowance -= len(new)
            return new
        if _common_prefix(names) is None and any(job.not_older_than is None for job in new):
            return new  # a scan without a prefix and a start would list every job of the account
        self._catching_up.update((job.name, job) for job in new)
        return []

    def due(self) -> float:
        """Return the monotonic moment at which the next page is due."""
        if self._changes or self._catching_up:
            return 0.0
        other = self._next_page if self._other else min(self._next_sweep, self._next_census)
        return min(self._next_changes, other)

    def next_scan(self, now: float, jobs: Mapping[str, JobState]) -> Scan:
        """Return the scan whose next page is due.

        Args:
            now: the moment.
            jobs: all watched jobs.
        """
        if self._changes is None and now >= self._next_changes:
            since = min(self.listed_until, self._reach_back)
            self._changes, self._reach_back = self._new("changes", since - self._polling.list_overlap, jobs), math.inf
            self._next_changes = now + self._polling.list_every * self._jitter()
        if self._changes:
            return self._changes
        if self._catching_up and (self._other is None or self._other.kind != "catch-up"):
            self._other = self._new_catch_up(jobs)
        if self._other is None:
            if now >= self._next_census:
                self._other = self._new("census", None, jobs)
                self._other.awaited.update(jobs)
            else:
                self._other = self._new("sweep", self._server.now() - self._polling.sweep_overlap, jobs)
        return self._other

    def record_page(self, scan: Scan, token: str | None, now: float) -> list[JobState]:
        """Record an answered page. At the end of a scan, return the jobs that it did not show although it had to.

        Args:
            scan: the scan.
            token: the token of the next page; None after the last page.
            now: the moment.
        """
        scan.token = token
        if scan is self._other:
            # A consumer awaits a catch-up, so its pages follow at once. Others leave room for a changes scan between.
            pause = 0.0 if scan.kind == "catch-up" else self._polling.list_every * self._jitter() / 2
            self._next_page = now + pause
        if token is not None:
            return []
        if scan.kind == "changes":
            self.listed_until = scan.began
            self._changes = None
        elif scan is self._other:
            self._other = None
            if scan.kind == "sweep":
                self._next_sweep = now + self._polling.sweep_every * self._jitter()
            elif scan.kind == "census":
                self._next_census = now + self._polling.full_every * self._jitter()
        return list(scan.awaited.values())

    def _is_covered(self, job: JobState) -> bool:
        """Return whether changes scans will show any change of a job, given when its status was true."""
        if job.seen or job.status is None or job.status_as_of is None:
            return False
        # That moment is known to a few seconds only, so half of the scans' overlap is kept as a margin.
        return job.status_as_of >= self.listed_until - self._polling.list_overlap / 2

    def _reaches_back_to(self, job: JobState) -> bool:
        """Let the next changes scan reach back to when a job's status was true, and return whether it does.

        A job may be watched some time after its creation: the thread that created it was busy. Changes since then may
        have been listed already. One longer listing costs less than a Describe for each such job.
        """
        as_of = job.status_as_of
        if job.seen or job.status is None or as_of is None:
            return False
        if as_of < self._server.now() - self._polling.sweep_overlap:
            return False
        self._reach_back = min(self._reach_back, as_of)
        return True

    def _new_catch_up(self, names: Iterable[str]) -> Scan:
        jobs, self._catching_up = self._catching_up, {}
        starts = [moment for job in jobs.values() if (moment := job.not_older_than) is not None]
        after = min(starts) - self._polling.list_overlap if len(starts) == len(jobs) else None
        self._next_page = 0.0
        return attrs.evolve(self._new("catch-up", after, names), awaited=jobs)

    def _new(self, kind: ScanKind, after: float | None, names: Iterable[str]) -> Scan:
        return Scan(kind, self._server.now(), after, _common_prefix(names))

    def _jitter(self) -> float:
        return self._random.uniform(1.0 - self._polling.jitter, 1.0)


def _common_prefix(names: Iterable[str]) -> str | None:
    """Return the common prefix of the names; None if it is too short to be useful."""
    prefix = os.path.commonprefix(list(names))  # noqa: RUF071 - the prefix of names, character by character
    return prefix if len(prefix) >= _SHORTEST_PREFIX else None
