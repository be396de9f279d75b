"""The submission of many jobs: threads that stage and create them, one pace for all, and an end that is final.

Each thread takes a job through all its steps, so that the uploads of the next ones go on while creations are held back
to the rate that the account allows. At most so many jobs are on their way as there are threads.
"""

from __future__ import annotations

import bisect
import contextlib
import copy
import logging
import math
import threading
from typing import TYPE_CHECKING, Any

import attrs

from processing.aws.rate_limit import FairLock
from processing.exceptions import NameTakenError, SubmissionError
from processing.job.fleet.runs import SET_BY_FLEET
from processing.job.fleet.search import FLEET_TAG
from processing.job.job import ProcessingJob, describe_if_exists
from processing.job.start import names_listed
from processing.job.submit import NotWantedError, paced_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from processing.aws.retry import RateLimiter
    from processing.clock import Clock
    from processing.job.fleet.runs import Run, Runs
    from processing.job.fleet.search import Listed
    from processing.session.session import Session

logger = logging.getLogger(__name__)

_MOST_THREADS = 32
_UNPACED_THREADS = 8
_ON_THEIR_WAY = 4.0  # seconds of creations that are on their way at a time: what staging and the call may take together
_HOPELESS_AFTER = 10  # failures in a row after which the others are not tried


@attrs.frozen
class FleetProgress:
    """How far a submission has come.

    Args:
        submitted: jobs created.
        attached: jobs that were there already.
        failed: jobs that could not be created.
        total: how many are to be there in the end; None where a generator gives them.
    """

    submitted: int
    attached: int
    failed: int
    total: int | None


@attrs.frozen
class Entry:
    """A job of a fleet, at its place."""

    position: int
    key: str
    job: ProcessingJob


class Gate:
    """Holds creations back, and lets none through once it is closed.

    Args:
        pace: how fast they may go; None for as fast as they come.
    """

    def __init__(self, pace: RateLimiter | None) -> None:
        self._pace = pace
        self._line = FairLock()
        self.closed = False

    def close(self) -> None:
        """Let no further creation through. One that has been let through may still be on its way."""
        self.closed = True

    def acquire(self, clock: Clock) -> float:
        """Return when a job may be created; the seconds that it waited.

        Raises:
            NotWantedError: the gate is closed.
        """
        with self._line.hold(clock):  # so that one alone waits for the pace, and the others need not when it is closed
            self._check()
            waited = self._pace.acquire(clock) if self._pace else 0.0
            self._check()
        return waited

    def succeeded(self) -> None:
        """Tell the pace."""
        if self._pace:
            self._pace.succeeded()

    def throttled(self) -> None:
        """Tell the pace."""
        if self._pace:
            self._pace.throttled()

    def _check(self) -> None:
        if self.closed:
            raise NotWantedError("the submission has been ended", job_name="")


class Submission:
    """Submits the runs of a fleet, each once.

    Args:
        session: where they go.
        processor: what runs them; copies of it are used.
        runs: in order.
        there: by name, those that are known to be there already.
        gate: what lets creations through.
        rate: how many a second that will be, about; None where nothing holds them back.
        progress: takes a `FleetProgress` after each job.
    """

    def __init__(
        self,
        session: Session,
        processor: Any,
        runs: Runs,
        *,
        there: Mapping[str, Listed],
        gate: Gate,
        rate: float | None,
        progress: Callable[[FleetProgress], object] | None,
    ) -> None:
        self._session = session
        self._processor = processor
        self._total = runs.total
        self._runs: Iterator[Run] = iter(runs)
        self._there = there
        self._gate = gate
        self._progress = progress
        self._taking = threading.Lock()
        self._changed = threading.Condition()  # its lock guards all below
        self._entries: list[Entry] = []  # by position
        self._failures: dict[str, Exception] = {}
        self._created = 0
        self._failed_in_a_row = 0
        self._error: BaseException | None = None
        wanted = _UNPACED_THREADS if rate is None else min(_MOST_THREADS, max(4, math.ceil(rate * _ON_THEIR_WAY)))
        count = wanted if self._total is None else min(wanted, self._total)
        self._threads = [threading.Thread(target=self._work, name=f"submission-{n}") for n in range(count)]
        self._working = count  # threads
        self._active = count > 0

    def start(self, ended: Callable[[BaseException | None], object] = lambda _: None) -> None:
        """Begin, in threads that the interpreter waits for at its end.

        Args:
            ended: called in one of them at the end, with what ended the submission before its time.
        """
        self._ended = ended
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # Ctrl-C, or no further thread is to be had: nobody would know of what goes on
            self.end()
            raise

    @property
    def active(self) -> bool:
        """Whether jobs may still be created."""
        with self._changed:
            return self._active

    def entries(self) -> list[Entry]:
        """Return the jobs that are there by now, in the order of the runs."""
        with self._changed:
            return list(self._entries)

    def failures(self) -> dict[str, Exception]:
        """Return by key why jobs could not be created."""
        with self._changed:
            return dict(self._failures)

    def counts(self) -> FleetProgress:
        """Return how far it has come."""
        with self._changed:
            return self._counts()

    def end(self) -> None:
        """Let no further job be created. Those on their way are: `join` waits for them."""
        self._gate.close()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until no further job will be created, and return whether it has come to that in time.

        Args:
            timeout: seconds to wait at most.

        Raises:
            Exception: what ended the submission before its time: the runs' own error, or that of too many failures.
        """
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

    # What the threads do.

    def _work(self) -> None:
        try:
            while (run := self._next()) is not None:
                self._take(run)
        except BaseException as error:  # noqa: BLE001 - of the user's generator or function, whatever it is
            self._give_up(error)
        finally:
            with self._changed:
                self._working -= 1
                last = not self._working
            if last:
                self._finish()

    def _finish(self) -> None:
        try:
            self._ended(self._error)
        finally:
            with self._changed:
                self._active = False
                self._changed.notify_all()

    def _next(self) -> Run | None:
        with self._taking:  # a generator has no use for two threads
            return None if self._gate.closed or self._error else next(self._runs, None)

    def _take(self, run: Run) -> None:
        job = None
        if run.job_name not in self._there:
            try:
                job = self._start(run)
            except NotWantedError:
                return
            except NameTakenError:  # by another process that submits the same, or by a job that was not listed yet
                pass
            except Exception as error:  # noqa: BLE001 - the others may go all the same
                # Refused for want of room, say: the job that has the name may itself be what fills it.
                if not (isinstance(error, SubmissionError) and self._is_there(run)):
                    self._failed(run, error)
                    return
        self._arrived(run, job)

    def _start(self, run: Run) -> ProcessingJob:
        processor = copy.copy(self._processor)
        processor.jobs = []
        with names_listed(), paced_by(self._gate):
            job = processor.run(**run.arguments, job_name=run.job_name, **SET_BY_FLEET)
        return job if isinstance(job, ProcessingJob) else processor.latest_job  # a subclass's may return nothing

    def _failed(self, run: Run, error: Exception) -> None:
        logger.debug("job %s was not submitted: %s", run.job_name, error)
        with self._changed:
            self._failures[run.key] = error
            self._failed_in_a_row += 1
            hopeless = self._failed_in_a_row >= _HOPELESS_AFTER
        if hopeless:
            self._gate.close()
            self._give_up(
                SubmissionError(
                    f"given up after {_HOPELESS_AFTER} failures in a row, the last of them: {error}",
                    job_name=run.job_name,
                    code=getattr(error, "code", None),
                )
            )
        self._tell()

    def _is_there(self, run: Run) -> bool:
        with contextlib.suppress(Exception):  # the failure is told of then
            return describe_if_exists(self._session, run.job_name) is not None
        return False

    def _arrived(self, run: Run, created: ProcessingJob | None) -> None:
        """Note a job that was created, or is there already."""
        listed = self._there.get(run.job_name)
        found = listed.job(self._session) if listed else ProcessingJob.known(self._session, run.job_name)
        job = created or found
        with self._changed:
            bisect.insort(self._entries, Entry(run.position, run.key, job), key=_position)
            self._created += created is not None
            self._failed_in_a_row = 0
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            with self._taking:  # one at a time, and in order
                self._progress(self.counts())

    def _counts(self) -> FleetProgress:
        attached = len(self._entries) - self._created
        return FleetProgress(self._created, attached, len(self._failures), self._total)

    def _give_up(self, error: BaseException) -> None:
        """Take no further run; those on their way come to their end."""
        with self._changed:
            self._error = self._error or error


def _position(entry: Entry) -> int:
    return entry.position


def with_tag(tags: Any, name: str) -> Any:
    """Return a processor's tags with that of the fleet."""
    if tags is None or isinstance(tags, (list, tuple)):
        return [*(tags or ()), {"Key": FLEET_TAG, "Value": name}]
    return {**tags, FLEET_TAG: name}
