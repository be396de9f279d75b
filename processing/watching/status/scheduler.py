"""Scheduler for status calls: decides between DescribeProcessingJob and ListProcessingJobs, and interprets the answers.

The scheduler neither calls nor waits, and it knows nothing of threads: `Poller` does that.

Up to `Polling.few` jobs are described one by one, at growing intervals (`DescribeSchedule`). This asks only about the
watched jobs, and a job's log lines save calls. With more jobs, the account's changes are listed every two seconds
(`ScanSchedule`). That costs the same for ten jobs and for ten thousand, and the listing states how a job ended, so no
Describe follows. Three kinds of jobs are described although listing is on: new jobs that no scan will show, jobs that
are missing in a complete scan, and jobs with an event. Without permission to list, all jobs are described, and for some
time if a listing makes no progress (`ListingFallback`).

Both operations have an outage of their own, and each is held back by the account's rate limit. `next_call` returns the
earlier of the two.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import FailureKind, classify, is_denied, is_not_found
from processing.aws.server_time import ServerTime
from processing.container.contract import TERMINAL
from processing.exceptions import CredentialsError, WatchError
from processing.watching.outages import Cause, Outages, affects_all_calls, cause_of
from processing.watching.status.describe_schedule import DescribeSchedule, JobState
from processing.watching.status.list_scans import Scan, ScanSchedule
from processing.watching.status.listing_fallback import ListingFallback
from processing.watching.status.model import is_known

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from processing.clock import Clock
    from processing.watching.polling import Polling
    from processing.watching.status.model import WatchTarget

logger = logging.getLogger(__name__)

_DESCRIBE: Final = "DescribeProcessingJob"
_LIST: Final = "ListProcessingJobs"
_FURTHER_PAGES: Final = "ListProcessingJobs with a token"

# Describe may not find a job right after its creation. After this many seconds, such a job does not exist.
_VISIBLE_AFTER: Final = 15.0
# An unknown status with an end older than this many seconds is a final one. A known final status follows sooner.
_FINAL_AFTER: Final = 300.0
# Jobs that a scan did not show are described this many seconds apart: there may be many of them, and none is urgent.
_SPACING: Final = 0.25
# Without permission to list, all jobs together are described at most this often a second. AWS publishes no quota for
# Describe. The rate limiter allows a burst of ten.
_MOST_DESCRIBES: Final = 10.0
# A scan whose token is refused begins again. After this many times further pages pause for a while (`Outages`).
_MOST_RESTARTS: Final = 3
# Up to this many jobs with an event are described. For more, one page of changes is cheaper.
_MOST_EVENT_DESCRIBES: Final = 4


@attrs.frozen
class StatusCall:
    """A status call that is due: one Describe, or one page of a scan.

    Args:
        operation: the operation, as AWS spells it.
        params: its parameters.
        about: the job that is described, or the scan whose page is requested.
        single_try: True if the operation failed the last time: one try shows whether it still does.
    """

    operation: str
    params: Mapping[str, Any]
    about: JobState | Scan
    single_try: bool


@attrs.frozen
class StatusReport:
    """An answer's report of a job's status, which may be the known one."""

    job: JobState
    description: Mapping[str, Any]


class WatchCredentialsError(CredentialsError, WatchError):
    """The credentials do not allow a job to be watched any longer. The job itself may go on.

    Args:
        message: the text.
        cause: the error of the call.
        job_name: the job's name.
        status: the last known status; None if it was never read.
    """

    def __init__(self, message: str, cause: CredentialsError, *, job_name: str, status: str | None) -> None:
        WatchError.__init__(self, message, job_name=job_name, status=status)
        self.reason = cause.reason
        self.code = cause.code


@attrs.frozen
class WatchFailure:
    """The reason why a job cannot be watched any longer.

    Args:
        job: the job.
        reason: the reason.
        cause: the error that has the reason.
        gone_at: a moment at which the job did not exist any more, in seconds since the epoch by AWS's clock.
    """

    job: JobState
    reason: str
    cause: Exception | None = None
    gone_at: float | None = None

    def error(self) -> WatchError:
        """Return a new error with the reason."""
        message = (
            f"processing job {self.job.name} cannot be watched any longer (last known status: "
            f"{self.job.status or 'none'}): {self.reason}"
        )
        error = (
            WatchCredentialsError(message, self.cause, job_name=self.job.name, status=self.job.status)
            if isinstance(self.cause, CredentialsError)
            else WatchError(message, job_name=self.job.name, status=self.job.status)
        )
        error.__cause__ = self.cause
        return error


class StatusScheduler:
    """The watched jobs, and the calls about them.

    Args:
        polling: the intervals.
        clock: the time.
        random: the source of jitter.
    """

    def __init__(self, polling: Polling, clock: Clock, random: random_module.Random) -> None:
        self._polling = polling
        self._clock = clock
        self._random = random
        self._jobs: dict[str, JobState] = {}
        self._new: dict[str, JobState] = {}  # jobs with a consumer that awaits a first update, not scheduled yet
        self._unanswered: set[str] = set()  # the same jobs until there is an answer about them
        self._server = ServerTime(clock)
        self._describes = DescribeSchedule(polling, random)
        self._outages = Outages(polling, random)
        self._scans: ScanSchedule | None = None
        self._fallback = ListingFallback()
        self._probe: JobState | None = None  # the job that is described only to see whether Describe is answered
        self._warned_of_listing = False
        self._unknown_statuses: set[str] = set()  # that a warning has reported

    def add(self, target: WatchTarget) -> None:
        """Watch a job, or read its status again if it is watched already."""
        job = self._jobs.get(target.name)
        if job is None:
            created = target.created.timestamp() if target.created else None
            statuses = (target.status,) if target.status and target.status not in TERMINAL else ()
            as_of = created if target.status_as_of is None else target.status_as_of
            job = JobState(target.name, created, self._clock.monotonic(), statuses=statuses, status_as_of=as_of)
            self._jobs[target.name] = job
        self._new[target.name] = job
        self._unanswered.add(target.name)

    def remove(self, name: str) -> None:
        """Stop watching a job."""
        self._remove(self._jobs[name])

    def _remove(self, job: JobState) -> None:
        self._describes.cancel(job)
        if self._jobs.get(job.name) is job:
            self._unanswered.discard(job.name)
        for jobs in (self._jobs, self._new):
            if jobs.get(job.name) is job:
                del jobs[job.name]

    def record_alive(self, name: str, moment: float) -> None:
        """Record that a job was running at a moment of AWS's time, in seconds since the epoch."""
        job = self._jobs.get(name)
        if job is not None:
            job.alive = max(job.alive, self._server.monotonic_at(moment))

    def next_describe(self, names: Iterable[str]) -> float:
        """Return when the next of some jobs is described; infinite if the jobs are listed."""
        if self._scans:
            return math.inf
        return min((self._jobs[name].describe_at for name in names if name in self._jobs), default=math.inf)

    def check_now(self, names: Iterable[str]) -> list[str]:
        """Read the status of jobs now, as there was an event or a consumer cannot wait longer.

        Returns:
            The jobs that are described. A listing shows the others, if they have changed.
        """
        now = self._clock.monotonic()
        jobs = [self._jobs[name] for name in names if name in self._jobs]
        for job in jobs:
            job.interval = None  # AWS may still return the old status: short intervals follow
        if self._scans and len(jobs) > _MOST_EVENT_DESCRIBES:
            self._scans.scan_now(now)
            return []
        self._describes.schedule_all(jobs, now, 0.0)
        return [job.name for job in jobs]

    def next_call(self, rate_delay: Callable[[str], float]) -> tuple[float, StatusCall | None]:
        """Return when the next call is due, and the call itself if that is now.

        Args:
            rate_delay: returns the seconds for which the rate limit holds an operation back.
        """
        now = self._clock.monotonic()
        self._choose_operation(now)
        job = self._describes.next_job()
        describe_at = self._allowed_at(_DESCRIBE, job.due, now, rate_delay) if job else math.inf
        page_at = math.inf
        if self._scans:
            page_due = max(self._scans.due(), self._outages.retry_at(_FURTHER_PAGES))
            page_at = self._allowed_at(_LIST, page_due, now, rate_delay)
        moment = min(describe_at, page_at)
        if moment > now:
            return moment, None
        if self._scans and page_at <= now:  # first: a page is about many jobs
            scan = self._scans.next_scan(now, self._jobs)
            failing = self._outages.is_failing(_LIST) or self._outages.is_failing(_FURTHER_PAGES)
            return moment, StatusCall(_LIST, scan.params(), scan, failing)
        assert job is not None
        params = {"ProcessingJobName": job.name}
        failing = self._outages.is_failing(_DESCRIBE) or job is self._probe
        return moment, StatusCall(_DESCRIBE, params, job, failing)

    def record_answer(
        self, call: StatusCall, answer: Mapping[str, Any], sent: float
    ) -> list[StatusReport | WatchFailure]:
        """Record the answer of a call, and return its reports in order.

        Args:
            call: the call.
            answer: the answer, as botocore returns it.
            sent: the monotonic moment before the call.
        """
        now = self._clock.monotonic()
        self._server.update(answer, sent)
        self._outages.record_success(call.operation, now)
        if isinstance(call.about, JobState):
            self._fallback.record_describe(now)
            self._probe = None if call.about is self._probe else self._probe
            return list(self._record_description(call.about, answer, now))
        if call.about.record_progress():
            self._outages.record_success(_FURTHER_PAGES, now)
        return list(self._record_page(call.about, answer, now))

    def record_failure(self, call: StatusCall, error: Exception) -> list[WatchFailure]:
        """Record the failure of a call, and return the jobs that cannot be watched any longer because of it."""
        now = self._clock.monotonic()
        if isinstance(call.about, Scan):
            failures = self._page_failed(call.about, error, now)
        else:
            failures = self._describe_failed(call.about, error, now)
        for failure in failures:
            self._remove(failure.job)
        return failures

    def _choose_operation(self, now: float) -> None:
        """Switch between Describe and List if the number of jobs asks for it, and schedule the new jobs."""
        many = len(self._jobs) > self._polling.few and self._fallback.may_list(now)
        spacing = 0.0 if many or len(self._jobs) <= self._polling.few else 1.0 / _MOST_DESCRIBES
        if many and self._scans is None:
            self._start_listing(now)
        elif not many and self._scans is not None:
            self._stop_listing(now, spacing)
        if self._new:
            new = list(self._new.values())
            self._new.clear()
            self._describes.schedule_all(self._scans.add(new, self._jobs, now) if self._scans else new, now, spacing)

    def _start_listing(self, now: float) -> None:
        """List changes from now on, back to the oldest last answer about a job, so that no change falls between."""
        # A job that only a listing has shown so far has no sign of life. No answer about it is older than its watch.
        oldest_answer = min((max(job.alive, job.added) for job in self._jobs.values() if job.seen), default=now)
        as_of = [job.status_as_of for job in self._jobs.values() if job.status and job.status_as_of is not None]
        self._scans = ScanSchedule(self._polling, self._server, self._random, now, oldest_answer, as_of)
        for job in self._jobs.values():
            self._describes.cancel(job)
            if job.name in self._unanswered:
                self._new[job.name] = job

    def _stop_listing(self, now: float, spacing: float) -> None:
        """Describe each job from now on. A listing that begins soon again continues where this one stopped."""
        assert self._scans is not None
        listed_until = self._server.monotonic_at(self._scans.listed_until)
        for job in self._jobs.values():
            if job.seen:
                job.alive = max(job.alive, listed_until)
        self._scans = None
        self._describes.schedule_all(self._jobs.values(), now, spacing)

    def _allowed_at(self, operation: str, due: float, now: float, rate_delay: Callable[[str], float]) -> float:
        """Return when a call that is due may be made: after an outage's pause, and within the rate limit."""
        moment = max(due, self._outages.retry_at(operation))
        delay = rate_delay(operation) if moment <= now else 0.0
        return now + delay if delay else moment

    def _record_description(
        self, job: JobState, answer: Mapping[str, Any], now: float
    ) -> Iterator[StatusReport | WatchFailure]:
        if self._jobs.get(job.name) is not job:
            return  # its last subscription was closed during the call
        yield from self._record_status(job, answer)
        if self._jobs.get(job.name) is not job:
            return
        if self._scans:
            self._describes.cancel(job)
        else:
            at_least = 0.0 if len(self._jobs) <= self._polling.few else len(self._jobs) / _MOST_DESCRIBES
            self._describes.schedule_next(job, now, at_least=at_least)

    def _record_page(self, scan: Scan, answer: Mapping[str, Any], now: float) -> Iterator[StatusReport | WatchFailure]:
        for summary in answer["ProcessingJobSummaries"]:
            job = self._jobs.get(summary["ProcessingJobName"])
            if job is not None:
                reports = list(self._record_status(job, summary))
                if reports:
                    scan.awaited.pop(job.name, None)
                    yield from reports
        if self._scans:
            missing = self._scans.record_page(scan, answer.get("NextToken"), now)
            watched = [job for job in missing if self._jobs.get(job.name) is job]
            self._describes.schedule_all(watched, now, _SPACING)

    def _record_status(self, job: JobState, description: Mapping[str, Any]) -> Iterator[StatusReport | WatchFailure]:
        """Yield the report of a description or a summary; nothing if it is about an older job of the name."""
        whose = job.identify(description)
        if whose == "newer":
            self._remove(job)
            gone_at = float(description["CreationTime"].timestamp())
            yield WatchFailure(job, "it was deleted, and another job has its name now", gone_at=gone_at)
        elif whose == "ours":
            self._unanswered.discard(job.name)
            if job.advance(description["ProcessingJobStatus"]):
                job.interval = None  # short intervals again: a job that is being stopped ends soon
                self._warn_if_unknown(description["ProcessingJobStatus"])
            if job.ended:
                self._remove(job)
            yield StatusReport(job, description)
            if self._has_unknown_end(description):
                self._remove(job)
                reason = "it has ended with a status that this version of sm-processing does not know; update it"
                yield WatchFailure(job, reason)

    def _warn_if_unknown(self, status: str) -> None:
        if not is_known(status) and status not in self._unknown_statuses:
            self._unknown_statuses.add(status)
            logger.warning(
                "AWS reports the status %r, which this version of sm-processing does not know; the wait goes on", status
            )

    def _has_unknown_end(self, description: Mapping[str, Any]) -> bool:
        ended = description.get("ProcessingEndTime")
        if ended is None or is_known(description["ProcessingJobStatus"]):
            return False
        return self._server.is_known and self._server.now() - ended.timestamp() > _FINAL_AFTER

    def _describe_failed(self, job: JobState, error: Exception, now: float) -> list[WatchFailure]:
        if self._jobs.get(job.name) is not job:
            return []
        is_probe = job is self._probe
        self._probe = None if is_probe else self._probe
        if is_not_found(error):
            self._outages.record_success(_DESCRIBE, now)
            self._fallback.record_describe(now)
            if not job.seen and now - job.added < _VISIBLE_AFTER:
                job.interval = self._polling.next_interval(job.interval)
                self._describes.schedule(job, now + job.interval)
                return []
            gone_at = self._server.now() if self._server.is_known else None
            reason = "there is no job of that name in this account and region (any more)"
            return [WatchFailure(job, reason, error, gone_at)]
        # The listing is in the same outage as its probe, and ends it: Describe may not be called again.
        if self._outages.record_failure(_LIST if is_probe else _DESCRIBE, error, now):
            if is_probe:
                self._describes.cancel(job)
            else:
                self._describes.schedule(job, now)  # `Outages` decides when
            return []
        if affects_all_calls(error):
            return self._failures(self._jobs.values(), error)
        return self._failures([job], error)

    def _page_failed(self, scan: Scan, error: Exception, now: float) -> list[WatchFailure]:
        scan.stuck_since = now if scan.stuck_since is None else scan.stuck_since
        cause = cause_of(error)
        if scan.token is not None and cause in {Cause.TRANSIENT, None}:
            if cause is None:  # a token that is refused has no error code of its own
                scan.restart()
            if cause or scan.restarts >= _MOST_RESTARTS:
                self._outages.pause(_FURTHER_PAGES, now)
        elif not self._outages.record_failure(_LIST, error, now):
            if affects_all_calls(error):
                return self._failures(self._jobs.values(), error)
            self._describe_instead(error, now, forever=True)
            return []
        if cause in {Cause.TRANSIENT, None}:  # with any other cause, Describe fails too
            step = self._fallback.next_step(scan.stuck_since, now)
            if step == "probe":
                self._describe_probe(now)
            elif step == "describe":
                self._describe_instead(error, now, forever=False)
        return []

    def _describe_probe(self, now: float) -> None:
        """Describe one job, to see whether Describe is answered."""
        job = next(iter(self._jobs.values()), None)
        if job is not None and job.due == math.inf:
            self._probe = job
            self._describes.schedule(job, now)

    def _describe_instead(self, error: Exception, now: float, *, forever: bool) -> None:
        """Describe the jobs one by one from now on, as they cannot be listed. Log one warning."""
        is_known = self._warned_of_listing or self._outages.is_failing(_LIST)
        self._warned_of_listing = True
        level = logging.INFO if is_known else logging.WARNING
        logger.log(level, "jobs cannot be listed and are described one by one, which takes longer: %s", error)
        self._outages.forget(_LIST)
        self._outages.forget(_FURTHER_PAGES)
        self._fallback.stop_listing(now, forever=forever)

    def _failures(self, jobs: Iterable[JobState], error: Exception) -> list[WatchFailure]:
        advice = ""
        if is_denied(error):
            advice = " Ask for the permission sagemaker:DescribeProcessingJob"
        elif classify(error) is FailureKind.EXPIRED:
            advice = " After you renew the credentials, attach to the job again"
        return [WatchFailure(job, f"{error}{advice}. The job itself goes on", error) for job in jobs]
