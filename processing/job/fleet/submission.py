"""The submission of a fleet: threads that stage and create jobs at a common rate, and an end that is final.

Each thread stages and creates one job at a time. So uploads of the next jobs go on while creations wait for the rate
that the account allows. The number of threads bounds the number of jobs that are staged but not created.
"""

from __future__ import annotations

import bisect
import contextlib
import copy
import itertools
import logging
import math
import threading
from typing import TYPE_CHECKING, Any

import attrs

from processing._utils.forks import reset_after_fork
from processing.aws.rate_limit import AdaptiveRateLimiter, FairLock
from processing.exceptions import ConfigurationError, CredentialsError, NameTakenError, SubmissionError
from processing.job.fleet.attached import AttachedJobs
from processing.job.fleet.attempts import latest_attempt, next_attempt
from processing.job.fleet.runs import SET_BY_FLEET
from processing.job.fleet.search import FLEET_TAG
from processing.job.job import ProcessingJob
from processing.job.launch import LaunchOptions, launch_options
from processing.job.start import job_exists
from processing.job.submit import SubmissionCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from processing.aws.rate_limit import RateLimiter
    from processing.clock import Clock
    from processing.job.fleet.runs import Run
    from processing.job.fleet.search import JobSummary
    from processing.session.session import Session

logger = logging.getLogger(__name__)

UNSUCCESSFUL = frozenset({"Failed", "Stopped"})
"""The statuses of jobs that `retry_failed` runs again."""

# Staging and creating one job may take this many seconds together. As many threads as creations in that time keep the
# rate full. The bounds are chosen, not measured: 4 threads for slow rates, and 32 to limit memory and connections.
_SECONDS_PER_JOB = 4.0
_MIN_THREADS = 4
_MAX_THREADS = 32

# The number of threads if no rate limits the creations, as on the embedded engine. It is chosen, not measured.
_UNLIMITED_THREADS = 8

# That many failures in a row have a common cause, such as a missing permission, and the other runs would fail too.
_MAX_FAILURES_IN_A_ROW = 10


@attrs.frozen
class FleetProgress:
    """The progress of `submit_all`.

    Args:
        submitted: the number of jobs created.
        attached: the number of jobs that existed already.
        failed: the number of jobs that could not be created.
        total: the number of runs; None if the runs come from a generator.
    """

    submitted: int
    attached: int
    failed: int
    total: int | None


@attrs.frozen
class FleetEntry:
    """A job of a fleet.

    Args:
        position: the place of the job's run, from 0.
        key: the key of the run.
        job: the job.
    """

    position: int
    key: str
    job: ProcessingJob


class Gate:
    """A rate limiter for creations that can be closed for good.

    Args:
        rate_limiter: the limiter that sets the rate; None for no limit.

    Attributes:
        rate_limiter: the limiter that sets the rate; None for no limit.
        closed: True if no further creation may start.
    """

    def __init__(self, rate_limiter: RateLimiter | None) -> None:
        self.rate_limiter = rate_limiter
        self._lock = FairLock()
        self.closed = False

    def close(self) -> None:
        """Let no further creation start. A creation that has started may still be going on."""
        self.closed = True

    def acquire(self, clock: Clock) -> float:
        """Wait until a job may be created, and return the seconds waited.

        Raises:
            SubmissionCancelledError: the gate is closed.
        """
        started = clock.monotonic()
        # One thread alone waits for the rate limiter. When the gate closes, the others do not have to wait for theirs.
        with self._lock.hold(clock):
            self._check()
            if self.rate_limiter:
                self.rate_limiter.acquire(clock)
            self._check()
        return clock.monotonic() - started

    def succeeded(self) -> None:
        """Report a successful call to the rate limiter."""
        if self.rate_limiter:
            self.rate_limiter.succeeded()

    def throttled(self) -> None:
        """Report a throttled call to the rate limiter."""
        if self.rate_limiter:
            self.rate_limiter.throttled()

    def _check(self) -> None:
        if self.closed:
            raise SubmissionCancelledError("the submission has been ended", job_name="")


class FleetSubmission:
    """The submission of a fleet's runs, each exactly once.

    Args:
        session: the session that the jobs are submitted through.
        processor: the processor; each run uses a copy of it.
        runs: the runs, in order.
        total: the number of runs; None if it is not known.
        existing: the jobs that exist already, by name.
        failed: the names of existing jobs that have failed or were stopped, and are run again.
        known: the names of further existing jobs, of which there is no summary.
        report_attached: True to compare existing jobs with their runs, and to report them.
        gate: limits the rate of creations, and ends them.
        rate: the expected rate in jobs per second; None if there is no limit.
        progress: a function that gets a `FleetProgress` after each job.

    Attributes:
        attached: the report on existing jobs that took the place of new ones; None if it is not wanted.
        on_progress: called after each job, one call at a time.
    """

    def __init__(
        self,
        session: Session,
        processor: Any,
        runs: Iterable[Run],
        *,
        total: int | None,
        existing: Mapping[str, JobSummary],
        failed: Collection[str] = (),
        known: Collection[str] = (),
        report_attached: bool = True,
        gate: Gate,
        rate: float | None,
        progress: Callable[[FleetProgress], object] | None,
    ) -> None:
        self._session = session
        self._processor = processor
        self._total = total
        self._runs: Iterator[Run] = iter(runs)
        self._started_runs: list[Run] = []
        self._existing = existing
        self._failed = frozenset(failed)
        self._names = frozenset(existing) | self._failed | frozenset(known)
        self._rate = rate
        self.attached = AttachedJobs(session, processor) if report_attached else None
        self._gate = gate
        self._progress = progress
        self.on_progress: Callable[[], object] = lambda: None
        self._callback_lock = threading.Lock()  # one thread at a time enters the user's generator or function
        self._changed = threading.Condition()  # its lock guards all attributes below
        self._entries: list[FleetEntry] = []  # ordered by position
        self._failures: dict[str, tuple[Run, Exception]] = {}
        self._created = 0
        self._failed_in_a_row = 0
        self._error: BaseException | None = None
        count = _thread_count(rate)
        count = count if self._total is None else min(count, self._total)
        self._threads = [threading.Thread(target=self._work, name=f"submission-{n}") for n in range(count)]
        self._running_threads = 1  # the one that starts the others, until it has started all
        self._active = count > 0
        reset_after_fork(self)

    def _after_fork(self) -> None:
        """Leave the submission to the parent, whose threads go on. This process knows the jobs until now."""
        self._callback_lock = threading.Lock()
        self._changed = threading.Condition()
        self.end()
        if self._active:
            self._active = False
            self._error = SubmissionError(
                "the process that was forked submits the jobs of this fleet, and this child does not see the later "
                "ones; wait in that process, or find the jobs with Fleet.attach",
                job_name="",
            )

    def repeated(
        self, existing: Mapping[str, JobSummary], failed: Collection[str], known: Collection[str]
    ) -> FleetSubmission:
        """Return a submission of the same runs that runs the failed ones again. Call it after the end of this one.

        Args:
            existing: the jobs that exist now, by name.
            failed: the names of existing jobs that are run again.
            known: the names of further existing jobs, which a listing does not show yet.
        """
        return FleetSubmission(
            self._session,
            self._processor,
            self.runs(),
            total=self._total,
            existing=existing,
            failed=failed,
            known=known,
            report_attached=False,
            gate=Gate(self._gate.rate_limiter),
            rate=self._rate,
            progress=self._progress,
        )

    def start(self, on_end: Callable[[BaseException | None], object] = lambda _: None) -> None:
        """Start the threads. The interpreter waits for them before it exits.

        Args:
            on_end: called at the end, in one of the threads or in this one, with the error that aborted the submission
                or None.
        """
        self._on_end = on_end
        if not self._threads:
            return
        try:
            for thread in self._threads:
                self._start_thread(thread)
        except BaseException:  # Ctrl-C, or no further thread can start: the caller gets no fleet to end the others with
            self.end()
            raise
        finally:
            self._thread_ended()

    def _start_thread(self, thread: threading.Thread) -> None:
        with self._changed:
            self._running_threads += 1
        try:
            thread.start()
        except RuntimeError:
            with self._changed:
                self._running_threads -= 1
            raise

    @property
    def active(self) -> bool:
        """True while jobs may still be created."""
        with self._changed:
            return self._active

    def entries(self) -> list[FleetEntry]:
        """Return the jobs that exist by now, in the order of the runs."""
        with self._changed:
            return list(self._entries)

    def failures(self) -> dict[str, Exception]:
        """Return the errors of the jobs that could not be created, by key."""
        with self._changed:
            return {key: error for key, (_, error) in self._failures.items()}

    def failed_runs(self) -> list[tuple[Run, Exception]]:
        """Return the runs whose jobs could not be created, with the errors."""
        with self._changed:
            return list(self._failures.values())

    def runs(self) -> Iterator[Run]:
        """Yield the runs from the first one on: those that were started, then the others. Call it after the end."""
        return itertools.chain(self._started_runs, self._runs)

    def counts(self) -> FleetProgress:
        """Return the progress so far."""
        with self._changed:
            return self._counts()

    def numbers(self) -> tuple[int, int, int | None]:
        """Return the numbers of jobs that exist, of failures, and of all runs; the last is None if it is not known."""
        counts = self.counts()
        return counts.submitted + counts.attached, counts.failed, counts.total

    def end(self) -> None:
        """Let no further creation start. `join` waits for those that have started."""
        self._gate.close()

    def check_caller(self) -> None:
        """Refuse a thread of the submission itself, which would wait for its own end.

        Raises:
            ConfigurationError: the caller is the user's function `progress`, or the generator of the runs.
        """
        if threading.current_thread() in self._threads:
            raise ConfigurationError(
                "progress: the submission calls this function, and the generator of the runs, and cannot wait for its "
                "own end; raise an error in it to end the submission, and wait for the fleet or stop it afterwards"
            )

    def join(self, timeout: float | None = None) -> bool:
        """Wait until no further job will be created, and return whether that happened in time.

        Args:
            timeout: the longest wait in seconds; None waits without limit.

        Raises:
            ConfigurationError: the caller is a thread of the submission.
            Exception: the submission was aborted, by an error of the runs themselves or by too many failures.
        """
        self.check_caller()
        clock = self._session.clock
        deadline = math.inf if timeout is None else clock.monotonic() + timeout
        with self._changed:
            while self._active:
                left = deadline - clock.monotonic() if timeout is not None else math.inf
                if left <= 0:
                    return False
                clock.wait(self._changed, left)
            if self._error is not None:
                raise self._error
        return True

    def _work(self) -> None:
        try:
            while (run := self._next()) is not None:
                self._submit_run(run)
        except BaseException as error:  # noqa: BLE001 - the user's generator or function may raise anything
            self._abort(error)
        finally:
            self._thread_ended()

    def _thread_ended(self) -> None:
        with self._changed:
            self._running_threads -= 1
            last = not self._running_threads
        if last:
            self._finish()

    def _finish(self) -> None:
        try:
            self._on_end(self._error)
        finally:
            with self._changed:
                self._active = False
                self._changed.notify_all()

    def _next(self) -> Run | None:
        with self._callback_lock:  # two threads cannot enter one generator
            run = None if self._gate.closed or self._error else next(self._runs, None)
            if run is not None:
                self._started_runs.append(run)
            return run

    def _submit_run(self, run: Run) -> None:
        job, job_name = None, run.job_name
        latest = latest_attempt(run.job_name, self._names)
        if latest is not None and latest not in self._failed:
            job_name = latest
        else:
            try:
                if latest is not None:
                    job_name = next_attempt(run.job_name, latest)
                job = self._start(run, job_name)
            except SubmissionCancelledError:
                return
            except NameTakenError:  # another process submits the same fleet, or the listing did not show the job yet
                pass
            except Exception as error:  # noqa: BLE001 - the other runs may succeed
                # AWS may check a quota before the name. The job that exhausts the quota may be this run's own.
                if not (isinstance(error, SubmissionError) and self._exists(job_name)):
                    self._record_failure(run, error)
                    return
        self._record_job(run, job_name, job)

    def _start(self, run: Run, job_name: str) -> ProcessingJob:
        processor = copy.copy(self._processor)
        processor.jobs = []
        with launch_options(LaunchOptions(rate_limiter=self._gate, name_is_unlisted=True, quiet=True)):
            job = processor.run(**run.arguments, job_name=job_name, **SET_BY_FLEET)
        return job if isinstance(job, ProcessingJob) else processor.latest_job  # a subclass's `run` may return None

    def _record_failure(self, run: Run, error: Exception) -> None:
        logger.debug("job %s was not submitted: %s", run.job_name, error)
        with self._changed:
            self._failures[run.key] = run, error
            self._failed_in_a_row += 1
            abort = self._failed_in_a_row >= _MAX_FAILURES_IN_A_ROW
        if isinstance(error, CredentialsError):  # every other run would fail in the same way
            self._gate.close()
            self._abort(error)
        elif abort:
            self._gate.close()
            self._abort(
                SubmissionError(
                    f"given up after {_MAX_FAILURES_IN_A_ROW} failures in a row, the last of them: {error}",
                    job_name=run.job_name,
                    code=getattr(error, "code", None),
                )
            )
        self._report_progress()

    def _exists(self, job_name: str) -> bool:
        with contextlib.suppress(Exception):  # the run's own failure is reported then
            return job_exists(self._session, job_name)
        return False

    def _record_job(self, run: Run, job_name: str, created: ProcessingJob | None) -> None:
        """Add the job of a run: the created one, or the existing one."""
        summary = self._existing.get(job_name)
        found = summary.job(self._session) if summary else ProcessingJob.known(self._session, job_name)
        job = created or found
        if created is None:
            failed = summary is not None and summary.status in UNSUCCESSFUL
            if self.attached is not None:
                self.attached.record(run, job_name, summary.created if summary else None, failed=failed)
        with self._changed:
            bisect.insort(self._entries, FleetEntry(run.position, run.key, job), key=_position)
            self._created += created is not None
            self._failed_in_a_row = 0
        self._report_progress()

    def _report_progress(self) -> None:
        with self._callback_lock:  # one call at a time, with counts that never decrease
            self.on_progress()
            if self._progress is not None:
                self._progress(self.counts())

    def _counts(self) -> FleetProgress:
        attached = len(self._entries) - self._created
        return FleetProgress(self._created, attached, len(self._failures), self._total)

    def _abort(self, error: BaseException) -> None:
        """Start no further run; those that have started are finished."""
        with self._changed:
            self._error = self._error or error


def _thread_count(rate: float | None) -> int:
    if rate is None:
        return _UNLIMITED_THREADS
    return min(_MAX_THREADS, max(_MIN_THREADS, math.ceil(rate * _SECONDS_PER_JOB)))


def _position(entry: FleetEntry) -> int:
    return entry.position


def with_tag(tags: Any, name: str) -> Any:
    """Return a processor's tags with the fleet's tag, in the form of the tags: a list or a mapping."""
    if tags is None or isinstance(tags, (list, tuple)):
        return [*(tags or ()), {"Key": FLEET_TAG, "Value": name}]
    return {**tags, FLEET_TAG: name}


def creation_limiter(session: Session, rate: float | None) -> AdaptiveRateLimiter | None:
    """Return the limiter of creations: the session's own, or one with the user's rate; None for no limit."""
    if rate is None:
        return session.api.rate_limiter("CreateProcessingJob")
    # AWS's token bucket holds the calls of one second. Our bucket is smaller by one call, because calls do not arrive
    # as evenly as they are sent.
    return AdaptiveRateLimiter(rate, max(1.0, rate - 1.0), fastest=rate)


def nothing_submitted(name: str, errors: Sequence[Exception]) -> SubmissionError:
    """Return the error of a fleet without a job. Its cause is the first of the errors."""
    error = SubmissionError(
        f"none of the {len(errors)} jobs of {name} could be submitted; the first error: {errors[0]}",
        job_name=name,
        code=getattr(errors[0], "code", None),
    )
    error.__cause__ = errors[0]
    return error
