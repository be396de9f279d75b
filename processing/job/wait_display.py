"""The display of a wait for several jobs, with their place and their prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from processing.job.cost import hourly_price_of, instances_of_description, jobs_place
from processing.watching.render.group_display import GroupDisplay
from processing.watching.status.model import Lost

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import datetime

    from typing_extensions import Self  # a stub file's module, which users need not have

    from processing.clock import Clock
    from processing.job.cost import Instances
    from processing.job.job import ProcessingJob
    from processing.session.session import Session
    from processing.watching.events import StatusChanged
    from processing.watching.feed import Feed


class WaitDisplay:
    """The display of the jobs of one wait. Use it as a context manager, once the first jobs were added.

    Args:
        clock: measures the wait.
        quiet: True to show nothing.
        fleet: the name of the fleet that the jobs are of; None for other jobs.
        session: the session of all jobs; None for those of the added jobs.
        expected: returns the number of jobs that there will be; None if it is not known.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        quiet: bool,
        fleet: str | None = None,
        session: Session | None = None,
        expected: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._fleet = fleet
        self._quiet = quiet
        self._expected = expected
        self._count = 0
        self._sessions: dict[Session, Feed | None] = {} if session is None else {session: None}
        self._prices: dict[tuple[Session, tuple[Instances, ...]], float | None] = {}
        self._group = GroupDisplay(clock, self._title, expected=expected, started_at=self._started_at, quiet=quiet)

    def __enter__(self) -> Self:
        self._group.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._group.__exit__(kind)

    def add(self, job: ProcessingJob, *, awaited: bool) -> None:
        """Add a job.

        Args:
            job: the job.
            awaited: False if its end was observed before.
        """
        session = job.sagemaker_session
        self._count += 1
        self._sessions.setdefault(session, None)
        status = "InProgress" if awaited and job.watch_state.in_progress_at is not None else "queued"
        self._group.add(
            (session, job.job_name),
            job.job_name,
            status if awaited else job.watch_state.status,
            self._price(session, job.instances),
        )

    def handle(self, feed: Feed, event: StatusChanged | Lost) -> None:
        """Show a change of a job."""
        session = cast("Session", feed.session)
        self._sessions[session] = feed
        key = (session, event.job_name)
        if isinstance(event, Lost):
            self._group.show_lost(key)
        else:
            self._group.show_event(key, event, self._price(session, instances_of_description(event.description)))

    def _price(self, session: Session, instances: list[Instances]) -> float | None:
        if self._quiet:
            return None
        key = (session, tuple(instances))
        if key not in self._prices:
            self._prices[key] = hourly_price_of(session, instances)
        return self._prices[key]

    def _started_at(self, key: Hashable) -> datetime | None:
        session, name = cast("tuple[Session, str]", key)
        feed = self._sessions[session]
        return None if feed is None else feed.subscription.started_at(name)

    def _title(self) -> str:
        number = self._expected() or self._count
        jobs = f"{number:,} processing job{'' if number == 1 else 's'}" if number else "the processing jobs"
        of_fleet = "" if self._fleet is None else f" of {self._fleet}"
        place = f": {jobs_place(next(iter(self._sessions)))}" if len(self._sessions) == 1 else ""
        return f"waiting for {jobs}{of_fleet}{place}"
