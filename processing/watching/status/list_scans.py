"""What changed among many jobs, by ListProcessingJobs: which page is asked for when, and which jobs it did not show.

Four kinds of scans, each a listing to its last page:

- *changes*: what was modified since a little before the last such scan, every two seconds;
- *sweep*: the same from minutes before, twice a minute, for changes that are listed late;
- *catch-up*: jobs that are new here, from the first one's creation on;
- *census*: all that are in progress, every ten minutes, to find those that are not any more, or not there at all.

The first kind goes on while one of the others is under way, a page now and then.
"""

from __future__ import annotations

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

_PAGE: Final = 100
_SHORTEST_PREFIX: Final = 4  # characters; a shorter part of names tells little apart
_FEW_LOOKS: Final = 20  # new jobs that are looked at one by one sooner than by a scan
_LOOKS_EVERY: Final = 1.0  # seconds after which one more of them is
_RECENT: Final = 900.0  # seconds over which the first listing of changes may reach back; more would hold up the next


@attrs.define(eq=False)
class Scan:
    """One listing, to its last page.

    Attributes:
        kind: what it is for.
        began: AWS's time before its first page was asked for, in seconds since the epoch.
        after: jobs that were modified before are left out; None for all.
        prefix: a part that the names have; None for any name.
        awaited: by name, the jobs that it has not shown yet and should.
        token: of the next page; None for the first.
        restarts: how often it began anew because its token was too old.
    """

    kind: ScanKind
    began: float
    after: float | None
    prefix: str | None
    awaited: dict[str, JobState] = attrs.field(factory=dict)
    token: str | None = None
    restarts: int = 0

    def params(self) -> dict[str, Any]:
        """Return the parameters that ask for the next page."""
        # Oldest first: what is created meanwhile comes last, and moves no page.
        params: dict[str, Any] = {"MaxResults": _PAGE, "SortBy": "CreationTime", "SortOrder": "Ascending"}
        if self.after is not None:
            params["LastModifiedTimeAfter"] = datetime.fromtimestamp(self.after, tz=timezone.utc)
        if self.prefix is not None:
            params["NameContains"] = self.prefix
        if self.kind == "census":
            params["StatusEquals"] = "InProgress"
        if self.token is not None:
            params["NextToken"] = self.token
        return params

    def restart(self) -> None:
        """Begin anew, as the token is not taken any more."""
        self.token = None
        self.restarts += 1


class Listing:
    """Decides on the scans.

    Args:
        polling: how often.
        server: AWS's time.
        random: where the jitter comes from.
        now: the monotonic moment.
        looked: the moment of the oldest look at a job that is listed from now on; changes are listed since a little
            before.
        told: moments of AWS's time at which it was known of jobs that they run; changes are listed since the oldest of
            late.
    """

    def __init__(
        self,
        polling: Polling,
        server: ServerTime,
        random: random_module.Random,
        now: float,
        looked: float,
        told: Iterable[float] = (),
    ) -> None:
        self._polling = polling
        self._server = server
        self._random = random
        recent = (moment for moment in told if moment >= server.now() - _RECENT)
        self._through = min((server.now() - (now - looked) - polling.longest, *recent))
        self._next_changes = now
        self._next_sweep = now + polling.sweep_every
        self._next_census = now + polling.full_every
        self._next_page = now
        self._changes: Scan | None = None
        self._other: Scan | None = None
        self._waiting: dict[str, JobState] = {}  # for the next catch-up
        self._looks = float(_FEW_LOOKS)
        self._looks_counted = now

    def hasten(self, now: float) -> None:
        """List the changes now: there are some."""
        self._next_changes = min(self._next_changes, now)

    def expect(self, jobs: Iterable[JobState], names: Iterable[str], now: float) -> list[JobState]:
        """Take in jobs of which somebody waits for first news, and return those that are better looked at one by one.

        Args:
            jobs: the new ones.
            names: of all jobs that are watched.
            now: the moment.
        """
        new = [job for job in jobs if not self._is_covered(job)]
        self._looks = min(_FEW_LOOKS, self._looks + (now - self._looks_counted) / _LOOKS_EVERY)
        self._looks_counted = now
        if len(new) <= self._looks:
            self._looks -= len(new)
            return new
        if _common(names) is None and any(job.first is None for job in new):
            return new  # a scan would be of all jobs that there ever were
        self._waiting.update((job.name, job) for job in new)
        return []

    def due(self) -> float:
        """Return the monotonic moment at which the next page is to be asked for."""
        if self._changes or self._waiting:
            return 0.0
        other = self._next_page if self._other else min(self._next_sweep, self._next_census)
        return min(self._next_changes, other)

    def page(self, now: float, jobs: Mapping[str, JobState]) -> Scan:
        """Return the scan whose next page is to be asked for.

        Args:
            now: the moment.
            jobs: all jobs that are watched.
        """
        if self._changes is None and now >= self._next_changes:
            self._changes = self._new("changes", self._through - self._polling.list_overlap, jobs)
            self._next_changes = now + self._polling.list_every * self._jitter()
        if self._changes:
            return self._changes
        if self._waiting and (self._other is None or self._other.kind != "catch-up"):
            self._other = self._catch_up(jobs)
        if self._other is None:
            if now >= self._next_census:
                self._other = self._new("census", None, jobs)
                self._other.awaited.update(jobs)
            else:
                self._other = self._new("sweep", self._server.now() - self._polling.sweep_overlap, jobs)
        return self._other

    def answered(self, scan: Scan, token: str | None, now: float) -> list[JobState]:
        """Take note of a page; return the jobs that a complete scan did not show and should have.

        Args:
            scan: the scan.
            token: of the page that follows; None where there is none.
            now: the moment.
        """
        scan.token = token
        if scan is self._other:
            pause = 0.0 if scan.kind == "catch-up" else self._polling.list_every * self._jitter() / 2
            self._next_page = now + pause
        if token is not None:
            return []
        if scan.kind == "changes":
            self._through = scan.began
            self._changes = None
        elif scan is self._other:
            self._other = None
            if scan.kind == "sweep":
                self._next_sweep = now + self._polling.sweep_every * self._jitter()
            elif scan.kind == "census":
                self._next_census = now + self._polling.full_every * self._jitter()
        return list(scan.awaited.values())

    def _is_covered(self, job: JobState) -> bool:
        """Return whether the changes will show a job: it is known that it ran when they began to be listed."""
        if job.seen or job.status is None or job.told is None:
            return False
        return job.told >= self._through - self._polling.list_overlap / 2  # it is known to some seconds only

    def _catch_up(self, names: Iterable[str]) -> Scan:
        waiting, self._waiting = self._waiting, {}
        first = [moment for job in waiting.values() if (moment := job.first) is not None]
        after = min(first) - self._polling.list_overlap if len(first) == len(waiting) else None
        self._next_page = 0.0
        return attrs.evolve(self._new("catch-up", after, names), awaited=waiting)

    def _new(self, kind: ScanKind, after: float | None, names: Iterable[str]) -> Scan:
        return Scan(kind, self._server.now(), after, _common(names))

    def _jitter(self) -> float:
        return self._random.uniform(1.0 - self._polling.jitter, 1.0)


def _common(names: Iterable[str]) -> str | None:
    """Return what all names begin with, where that is worth asking for."""
    prefix = os.path.commonprefix(list(names))  # noqa: RUF071 - of characters, which names are made of
    return prefix if len(prefix) >= _SHORTEST_PREFIX else None
