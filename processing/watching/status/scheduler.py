"""Which call is to be made next to know the status of every job that is watched, and what its answer says.

Nothing here calls, waits or knows of threads: `Poller` does. A few jobs are looked at one by one; of many, it is listed
what changed (`Listing`), and only those are looked at that the listings do not show.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import FailureKind, classify, error_code, is_denied, is_not_found
from processing.aws.server_time import ServerTime
from processing.container.contract import TERMINAL
from processing.exceptions import WatchError
from processing.watching.outages import Outages, concerns_all
from processing.watching.status.describe_schedule import DescribeSchedule, JobState, creation
from processing.watching.status.list_scans import Listing, Scan

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from processing.clock import Clock
    from processing.watching.polling import Polling
    from processing.watching.status.model import Target

logger = logging.getLogger(__name__)

_DESCRIBE: Final = "DescribeProcessingJob"
_LIST: Final = "ListProcessingJobs"
_FURTHER_PAGES: Final = "ListProcessingJobs with a token"
_SHOWN_AFTER: Final = 15.0  # seconds in which a job that was just made may not yet be shown
_SPACING: Final = 0.25  # seconds between looks at jobs that the listings do not show
_MOST_LOOKS: Final = 10.0  # looks a second where many jobs have to be looked at one by one
_MOST_RESTARTS: Final = 3  # of a scan whose tokens are not taken, before it is left alone for a while
_FEW_WAKES: Final = 4  # jobs that something happened to, above which one listing is cheaper than a look at each


@attrs.frozen
class Call:
    """One call that is due.

    Args:
        operation: as AWS spells it.
        params: its parameters.
        about: the job that is looked at, or the scan whose page is asked for.
        once: True where the operation failed the last time: one try will show whether it still does.
    """

    operation: str
    params: Mapping[str, Any]
    about: JobState | Scan
    once: bool


@attrs.frozen
class Step:
    """A job's status is known, or is another one: the answer said so."""

    watched: JobState
    description: Mapping[str, Any]


@attrs.frozen
class Loss:
    """A job cannot be watched any longer."""

    watched: JobState
    reason: str
    cause: Exception | None

    def error(self) -> WatchError:
        """Return a new error that says so."""
        error = WatchError(
            f"processing job {self.watched.name} cannot be watched any longer (last known status: "
            f"{self.watched.status or 'none'}): {self.reason}",
            job_name=self.watched.name,
            status=self.watched.status,
        )
        error.__cause__ = self.cause
        return error


class StatusScheduler:
    """The jobs that are watched, and what is to be called about them.

    Args:
        polling: how often.
        clock: the time.
        random: where the jitter comes from.
    """

    def __init__(self, polling: Polling, clock: Clock, random: random_module.Random) -> None:
        self._polling = polling
        self._clock = clock
        self._random = random
        self._jobs: dict[str, JobState] = {}
        self._new: dict[str, JobState] = {}  # jobs of which somebody waits for the first news
        self._server = ServerTime(clock)
        self._looks = DescribeSchedule(polling, random)
        self._outages = Outages(polling, random)
        self._listing: Listing | None = None
        self._refused = False  # listing is not for these credentials

    def add(self, target: Target) -> None:
        """Watch a job, or look at it anew if it is watched already."""
        watched = self._jobs.get(target.name)
        if watched is None:
            created = target.created.timestamp() if target.created else None
            status = None if target.status in TERMINAL else target.status
            told = created if target.told is None else target.told
            watched = JobState(target.name, created, self._clock.monotonic(), status=status, told=told)
            self._jobs[target.name] = watched
        self._new[target.name] = watched

    def remove(self, name: str) -> None:
        """Do not watch a job any longer."""
        self._remove(self._jobs[name])

    def _remove(self, watched: JobState) -> None:
        self._looks.cancel(watched)
        for jobs in (self._jobs, self._new):
            if jobs.get(watched.name) is watched:
                del jobs[watched.name]

    def alive(self, name: str, moment: float) -> None:
        """Take note that a job was running at a moment of AWS's time, in seconds since the epoch."""
        watched = self._jobs.get(name)
        if watched is not None:
            watched.alive = max(watched.alive, self._server.monotonic_at(moment))

    def next_look(self, names: Iterable[str]) -> float:
        """Return when the next of some jobs is looked at by itself; infinite where that is not how they are known."""
        if self._listing:
            return math.inf
        return min((self._jobs[name].moment for name in names if name in self._jobs), default=math.inf)

    def wake(self, names: Iterable[str]) -> None:
        """Look at jobs now: something happened to them."""
        now = self._clock.monotonic()
        jobs = [self._jobs[name] for name in names if name in self._jobs]
        for watched in jobs:
            watched.wait = None  # where it does not show yet, it will soon
        if self._listing and len(jobs) > _FEW_WAKES:
            self._listing.hasten(now)
        else:
            self._looks.plan_all(jobs, now, 0.0)

    def next(self, hold: Callable[[str], float]) -> tuple[float, Call | None]:
        """Return when the next call is due, and the call where that is now.

        Args:
            hold: returns for how many seconds an operation has to be held back.
        """
        now = self._clock.monotonic()
        self._settle(now)
        look = self._looks.first()
        look_at = self._held(_DESCRIBE, look.due, now, hold) if look else math.inf
        page_at = math.inf
        if self._listing:
            page_due = max(self._listing.due(), self._outages.retry_at(_FURTHER_PAGES))
            page_at = self._held(_LIST, page_due, now, hold)
        moment = min(look_at, page_at)
        if moment > now:
            return moment, None
        if self._listing and page_at <= look_at:
            scan = self._listing.page(now, self._jobs)
            return moment, Call(_LIST, scan.params(), scan, self._outages.is_bad(_LIST))
        assert look is not None
        params = {"ProcessingJobName": look.name}
        return moment, Call(_DESCRIBE, params, look, self._outages.is_bad(_DESCRIBE))

    def answered(self, call: Call, answer: Mapping[str, Any], sent: float) -> list[Step | Loss]:
        """Return what an answer says, in order.

        Args:
            call: what was called.
            answer: as botocore gives it.
            sent: the monotonic moment before the call.
        """
        now = self._clock.monotonic()
        self._server.update(answer, sent)
        self._outages.record_success(call.operation, now)
        if "NextToken" in call.params:
            self._outages.record_success(_FURTHER_PAGES, now)
        if isinstance(call.about, JobState):
            return list(self._looked(call.about, answer, now))
        return list(self._listed(call.about, answer, now))

    def failed(self, call: Call, error: Exception) -> list[Loss]:
        """Return the jobs that cannot be watched any longer because a call failed."""
        now = self._clock.monotonic()
        lost = self._look_failed(call.about, error, now) if isinstance(call.about, JobState) else []
        if isinstance(call.about, Scan):
            lost = self._page_failed(call.about, error, now)
        for loss in lost:
            self._remove(loss.watched)
        return lost

    def _settle(self, now: float) -> None:
        """Choose between looks and listings, and see to the jobs that are new."""
        many = len(self._jobs) > self._polling.few and not self._refused
        spacing = 1.0 / _MOST_LOOKS if self._refused else 0.0
        if many and self._listing is None:
            looked = min((watched.alive for watched in self._jobs.values() if watched.seen), default=now)
            told = [watched.told for watched in self._jobs.values() if watched.status and watched.told is not None]
            self._listing = Listing(self._polling, self._server, self._random, now, looked, told)
            for watched in self._jobs.values():
                self._looks.cancel(watched)
                if not watched.seen:
                    self._new[watched.name] = watched
        elif not many and self._listing is not None:
            self._listing = None
            self._looks.plan_all(self._jobs.values(), now, spacing)
        if self._new:
            new = list(self._new.values())
            self._new.clear()
            self._looks.plan_all(self._listing.expect(new, self._jobs, now) if self._listing else new, now, spacing)

    def _held(self, operation: str, due: float, now: float, hold: Callable[[str], float]) -> float:
        """Return when an operation that is due may be called."""
        moment = max(due, self._outages.retry_at(operation))
        return moment if moment > now else now + hold(operation)

    def _looked(self, watched: JobState, answer: Mapping[str, Any], now: float) -> Iterator[Step | Loss]:
        """Say what a description tells."""
        if self._jobs.get(watched.name) is not watched:
            return  # nobody watches it any longer
        yield from self._told(watched, answer)
        if self._jobs.get(watched.name) is not watched:
            return
        if self._listing:
            self._looks.cancel(watched)
        else:
            self._looks.plan_next(watched, now, at_least=len(self._jobs) / _MOST_LOOKS if self._refused else 0.0)

    def _listed(self, scan: Scan, answer: Mapping[str, Any], now: float) -> Iterator[Step | Loss]:
        """Say what a page tells, and look at what a whole scan should have shown and did not."""
        for summary in answer["ProcessingJobSummaries"]:
            watched = self._jobs.get(summary["ProcessingJobName"])
            if watched is not None:
                told = list(self._told(watched, summary))
                if told:
                    scan.awaited.pop(watched.name, None)
                    yield from told
        if self._listing:
            missing = self._listing.answered(scan, answer.get("NextToken"), now)
            here = [watched for watched in missing if self._jobs.get(watched.name) is watched]
            self._looks.plan_all(here, now, _SPACING)

    def _told(self, watched: JobState, description: Mapping[str, Any]) -> Iterator[Step | Loss]:
        """Say what a description or a summary tells of a job; nothing where it is of an older one of the name."""
        whose = watched.identify(creation(description))
        if whose == "newer":
            self._remove(watched)
            yield Loss(watched, "it was deleted, and another job has its name now", None)
        elif whose == "ours":
            if watched.step(description["ProcessingJobStatus"]):
                watched.wait = None  # a job that is being stopped has ended soon
            if watched.ended:
                self._remove(watched)
            yield Step(watched, description)

    def _look_failed(self, watched: JobState, error: Exception, now: float) -> list[Loss]:
        if self._jobs.get(watched.name) is not watched:
            return []
        if is_not_found(error):
            self._outages.record_success(_DESCRIBE, now)
            if not watched.seen and now - watched.added < _SHOWN_AFTER:
                watched.wait = self._polling.after(watched.wait)
                self._looks.plan(watched, now + watched.wait)
                return []
            return [Loss(watched, "there is none of that name in this account and region (any more)", error)]
        if self._outages.record_failure(_DESCRIBE, error, now):
            self._looks.plan(watched, now)
            return []
        if concerns_all(error):
            return self._losses(self._jobs.values(), error)
        return self._losses([watched], error)

    def _page_failed(self, scan: Scan, error: Exception, now: float) -> list[Loss]:
        # A token that is too old has no error code of its own.
        stale = scan.token is not None and error_code(error) == "ValidationException"
        if stale:
            scan.restart()
            if scan.restarts >= _MOST_RESTARTS:
                self._outages.record_failure(_FURTHER_PAGES, error, now, passing=True)
            return []
        if self._outages.record_failure(_LIST, error, now):
            return []
        if concerns_all(error):
            return self._losses(self._jobs.values(), error)
        logger.warning("jobs cannot be listed, and are looked at one by one, which takes longer: %s", error)
        self._refused = True
        return []

    def _losses(self, jobs: Iterable[JobState], error: Exception) -> list[Loss]:
        advice = ""
        if is_denied(error):
            advice = "; ask for the permission sagemaker:DescribeProcessingJob"
        elif classify(error) is FailureKind.EXPIRED:
            advice = "; renew the credentials and attach to the job again"
        return [Loss(watched, f"{error}{advice}. The job itself goes on", error) for watched in jobs]
