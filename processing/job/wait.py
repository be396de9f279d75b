"""Waiting for jobs, whatever their number: the shapes of `concurrent.futures`, over one poller for each session.

A job that fails does not end the wait for the others: its error is collected. Jobs of several sessions, on AWS and on
the embedded engine, may be waited for together.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, cast

from processing._utils import type_name
from processing.exceptions import ConfigurationError
from processing.job.job import ProcessingJob
from processing.job.outcome import EventHandler, check_timeout, read_checkpoint
from processing.watching.feed import Feed
from processing.watching.logs.batch import LogBatch
from processing.watching.render import Renderer
from processing.watching.stream import EventStream, Idle, drive, timeout_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

    from processing.session.session import Session
    from processing.watching.aio import AsyncEventStream
    from processing.watching.checkpoint import Checkpoint
    from processing.watching.events import Event, StatusChanged
    from processing.watching.status.model import Lost, Target

logger = logging.getLogger(__name__)

ReturnWhen: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]

_TAILS = 10  # failed jobs whose last lines are read for their errors: each takes a call or two
_TAILS_SECONDS = 10.0  # after which no further ones are read: they are not what was waited for
_SPELLED_OUT = 10  # jobs that a message names
_SHORTEST_PREFIX = 4  # characters that jobs' names have in common, to be found by them


class _Pair(NamedTuple):
    done: set[ProcessingJob]
    not_done: set[ProcessingJob]


class WaitResult(_Pair):
    """What `wait` returns: `done, not_done = processing.wait(jobs)`.

    Attributes:
        done: the jobs that have ended, one way or another.
        not_done: the others.
        failed: of those that have ended, the ones that did not complete, each with its error: a `JobFailedError`, a
            `JobStoppedError`, or a `WatchError` for a job that cannot be watched any more.
    """

    failed: Mapping[ProcessingJob, Exception]

    def __new__(
        cls,
        done: set[ProcessingJob],
        not_done: set[ProcessingJob],
        failed: Mapping[ProcessingJob, Exception] | None = None,
    ) -> WaitResult:
        """Make one; `failed` is empty where left out."""
        made = super().__new__(cls, done, not_done)
        made.failed = dict(failed or {})
        return made

    def __repr__(self) -> str:
        return f"WaitResult(done={self.done!r}, not_done={self.not_done!r}, failed={self.failed!r})"


def wait(
    jobs: Iterable[ProcessingJob],
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    *,
    logs: bool = False,
) -> WaitResult:
    """Wait for jobs to end.

    Ctrl-C detaches: the jobs go on, a warning says how to attach to them and how to stop them, and KeyboardInterrupt
    is passed on.

    Args:
        jobs: the jobs; one that is given twice counts once.
        timeout: seconds after which to return with what there is; None waits as long as it takes.
        return_when: `FIRST_COMPLETED` returns when a job has ended, `FIRST_EXCEPTION` when one has failed or was
            stopped, else all are waited for.
        logs: True to write the jobs' log lines to standard output as they come.

    Returns:
        The jobs that have ended and those that have not, and the errors of the former. The errors of the first ten
        carry the jobs' last log lines; for others `job.exception()` reads them.
    """
    return _wait(WaitGroup(jobs, timeout, logs=logs), return_when)


def wait_as_they_come(
    session: Session,
    arrivals: Callable[[], Sequence[ProcessingJob] | None],
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    *,
    logs: bool = False,
    commands: Callable[[], str],
) -> WaitResult:
    """Wait, as `wait` does, for jobs of which some are still to come.

    Args:
        session: the jobs' own.
        arrivals: returns the jobs that have come since it was called last, and None when none will come any more. What
            it raises ends the wait.
        timeout: see `wait`, as of the others.
        return_when: with `ALL_COMPLETED`, those that are still to come are waited for.
        logs: see `wait`.
        commands: returns what is said at Ctrl-C: how to come back to the jobs.
    """
    return _wait(WaitGroup((), timeout, logs=logs, coming=(session, arrivals)), return_when, commands)


def _wait(together: WaitGroup, return_when: ReturnWhen, commands: Callable[[], str] | None = None) -> WaitResult:
    is_enough = _enough(return_when)
    with _detaching(together, commands), contextlib.closing(drive(together.feeds)) as items:
        for item in items:
            if not isinstance(item, Idle):
                together.take(item.feed, item.event)
                continue
            together.follower.ready()
            if is_enough(together):  # at a pause: what ended with the first one is returned with it
                break
    return together.result()


def as_completed(
    jobs: Iterable[ProcessingJob], timeout: float | None = None, *, logs: bool = False
) -> Iterator[ProcessingJob]:
    """Yield jobs as they end, however they do: `job.exception()` tells, without waiting.

    Args:
        jobs: the jobs; one that is given twice comes once.
        timeout: seconds from the call after which WaitTimeoutError is raised; None waits as long as it takes.
        logs: True to write the jobs' log lines to standard output as they come.

    Raises:
        WaitTimeoutError: the time is up, and some have not ended.
    """
    return _as_completed(WaitGroup(jobs, timeout, logs=logs))


def _as_completed(together: WaitGroup) -> Iterator[ProcessingJob]:
    yield from together.done
    with _detaching(together), contextlib.closing(drive(together.feeds)) as items:
        for item in items:
            if isinstance(item, Idle):
                together.follower.ready()
            else:
                yield from together.take(item.feed, item.event)
    if error := timeout_error(together.feeds):
        raise error


def events(
    jobs: Iterable[ProcessingJob],
    *,
    logs: bool = True,
    timeout: float | None = None,
    checkpoint: Checkpoint | str | None = None,
) -> EventStream[Event | Lost]:
    """Return what happens to jobs until all have ended: `StatusChanged`, `LogEvent` and `Lost` values.

    A job's last value is the change to its terminal status, after all of its lines; or `Lost`, which carries the error,
    where it cannot be watched any more.

    Args:
        jobs: the jobs.
        logs: False for the statuses alone.
        timeout: seconds from the call after which WaitTimeoutError is raised; None waits as long as it takes.
        checkpoint: where another stream over the same jobs stopped, by its `checkpoint()`: the lines that it gave are
            not given again.
    """
    together = WaitGroup(jobs, timeout, logs=logs, show=False, checkpoint=checkpoint)
    return EventStream(together.feeds, alone=False)


async def wait_async(
    jobs: Iterable[ProcessingJob],
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    *,
    logs: bool = False,
) -> WaitResult:
    """Wait for jobs to end, as `wait` does, without holding a thread. Cancelling it leaves the jobs alone."""
    from processing.watching.aio import drive_async, in_thread

    together = WaitGroup(jobs, timeout, logs=logs)
    is_enough = _enough(return_when)
    async with contextlib.aclosing(drive_async(together.feeds)) as items:
        async for item in items:
            if not isinstance(item, Idle):
                together.take(item.feed, item.event)
                continue
            together.follower.ready()
            if is_enough(together):
                break

    def finished() -> WaitResult:
        with together.follower:
            return together.result()

    return await in_thread(finished)


async def as_completed_async(
    jobs: Iterable[ProcessingJob],
    timeout: float | None = None,
    *,
    logs: bool = False,
) -> AsyncGenerator[ProcessingJob, None]:
    """Yield jobs as they end, as `as_completed` does, without holding a thread.

    Raises:
        WaitTimeoutError: the time is up, and some have not ended.
    """
    from processing.watching.aio import drive_async, in_thread

    together = WaitGroup(jobs, timeout, logs=logs)
    for job in list(together.done):
        yield job
    async with contextlib.aclosing(drive_async(together.feeds)) as items:
        async for item in items:
            if isinstance(item, Idle):
                together.follower.ready()
            else:
                for job in together.take(item.feed, item.event):
                    yield job
    await in_thread(together.follower.close)
    if error := timeout_error(together.feeds):
        raise error


def events_async(
    jobs: Iterable[ProcessingJob],
    *,
    logs: bool = True,
    timeout: float | None = None,
    checkpoint: Checkpoint | str | None = None,
) -> AsyncEventStream[Event | Lost]:
    """Return what happens to jobs until all have ended, as `events` does, for `async for` and without holding a thread.

    Args:
        jobs: see `events`, as of the others.
        logs: False for the statuses alone.
        timeout: seconds from the call after which WaitTimeoutError is raised; None waits as long as it takes.
        checkpoint: where another stream over the same jobs stopped.
    """
    from processing.watching.aio import AsyncEventStream

    together = WaitGroup(jobs, timeout, logs=logs, show=False, checkpoint=checkpoint)
    return AsyncEventStream(together.feeds, alone=False)


class WaitGroup:
    """Jobs that are waited for together: a feed for each session, and who has ended by now."""

    def __init__(
        self,
        jobs: Iterable[ProcessingJob],
        timeout: float | None,
        *,
        logs: bool,
        show: bool = True,
        checkpoint: Checkpoint | str | None = None,
        coming: tuple[Session, Callable[[], Sequence[ProcessingJob] | None]] | None = None,
    ) -> None:
        check_timeout(timeout)
        self.jobs = _checked(jobs)
        self.done: dict[ProcessingJob, None] = {}
        self._of: dict[tuple[Session, str], list[ProcessingJob]] = {}
        self._logs = logs
        self._look = not show  # who asks for events is told what there is to begin with
        for job in self.jobs:
            if not self._is_done(job):
                self._of.setdefault((job.sagemaker_session, job.job_name), []).append(job)
        sessions = dict.fromkeys(session for session, _ in self._of) if coming is None else [coming[0]]
        renderer = Renderer(several_jobs=len(self._of) > 1 or coming is not None) if logs and show else None
        self.follower = EventHandler(renderer, tails=logs and show)
        self.feeds = [
            Feed(
                session,
                [same[0]._target(look=self._look) for (owner, _), same in self._of.items() if owner is session],  # noqa: SLF001 - as above
                logs=logs,
                timeout=timeout,
                checkpoint=read_checkpoint(checkpoint),
                ready=self.follower.ready,
                arrivals=None if coming is None else functools.partial(self._arrived, coming[1]),
            )
            for session in sessions
        ]

    def _arrived(self, arrivals: Callable[[], Sequence[ProcessingJob] | None]) -> list[Target] | None:
        """Take in the jobs that have come, and return them for the feed."""
        jobs = arrivals()
        if jobs is None:
            return None
        self.jobs += tuple(jobs)
        watched = [job for job in jobs if not self._is_done(job)]
        for job in watched:
            self._of[job.sagemaker_session, job.job_name] = [job]
        return [job._target(look=self._look) for job in watched]  # noqa: SLF001 - as above

    def _is_done(self, job: ProcessingJob) -> bool:
        """Return whether it is known already how a job ended, having noted that; its lines are not shown then."""
        seen = job._outcome  # noqa: SLF001 - what a job's own methods keep too
        if seen is None or seen.lost is not None or self._logs or self._look:
            return False
        self.done[job] = None
        return True

    def take(self, feed: Feed, event: StatusChanged | LogBatch | Lost) -> list[ProcessingJob]:
        """Take what a feed tells, and return the jobs that end with it: several objects may stand for one."""
        outcome = self.follower.take(feed, event)
        if outcome is None or isinstance(event, LogBatch):
            return []
        ended = self._of[cast("Session", feed.session), event.job_name]
        for job in ended:
            job._outcome = outcome  # noqa: SLF001 - as above
            self.done[job] = None
        return ended

    def failed(self) -> list[ProcessingJob]:
        """Return the jobs that have ended and did not complete."""
        outcomes = [(job, job._outcome) for job in self.done]  # noqa: SLF001 - as above
        return [job for job, outcome in outcomes if outcome is not None and outcome.is_error()]

    def result(self) -> WaitResult:
        """Return who has ended and who has not; the last lines of failed jobs are read here."""
        failed: dict[ProcessingJob, Exception] = {}
        ended: dict[Session, float] = {}
        for job in self.failed():
            clock = job.sagemaker_session.clock
            limit = ended.setdefault(job.sagemaker_session, clock.monotonic()) + _TAILS_SECONDS
            error = job._error(read=len(failed) < _TAILS and clock.monotonic() < limit)  # noqa: SLF001 - as above
            if error is not None:
                failed[job] = error
        return WaitResult(set(self.done), {job for job in self.jobs if job not in self.done}, failed)

    def commands(self) -> str:
        """Return how to attach to the jobs that go on, and how to stop them, from another process."""
        texts = []
        for session in dict.fromkeys(session for session, _ in self._of):
            left = [job for job in self.jobs if job.sagemaker_session is session and job not in self.done]
            names = list(dict.fromkeys(job.job_name for job in left))
            if names:
                texts.append(_commands(session, names))
        return "\n".join(texts)


def _checked(jobs: Iterable[ProcessingJob]) -> tuple[ProcessingJob, ...]:
    """Return the jobs, each once, in their order."""
    given: object = jobs  # not every caller has a type checker
    if isinstance(given, (ProcessingJob, str, bytes)) or not hasattr(given, "__iter__"):
        raise ConfigurationError(f"jobs: must be several jobs, such as a list of them, not {type_name(given)}")
    found: tuple[object, ...] = tuple(jobs)
    for place, job in enumerate(found):
        if not isinstance(job, ProcessingJob):
            raise ConfigurationError(f"jobs[{place}]: must be a ProcessingJob, not {type_name(job)}")
    return tuple(dict.fromkeys(cast("tuple[ProcessingJob, ...]", found)))


def _enough(return_when: ReturnWhen) -> Callable[[WaitGroup], bool]:
    """Return what tells whether a wait is over before all jobs have ended."""
    given: object = return_when
    if given == "ALL_COMPLETED":
        return lambda _: False
    if given == "FIRST_COMPLETED":
        return lambda together: bool(together.done)
    if given == "FIRST_EXCEPTION":
        return lambda together: bool(together.failed())
    raise ConfigurationError(
        f"return_when: must be 'ALL_COMPLETED', 'FIRST_COMPLETED' or 'FIRST_EXCEPTION', not {return_when!r}"
    )


@contextlib.contextmanager
def _detaching(together: WaitGroup, commands: Callable[[], str] | None = None) -> Iterator[None]:
    """Show what is left to show; say at Ctrl-C that the jobs go on, and how to come back to them."""
    try:
        with together.follower:
            yield
    except KeyboardInterrupt:
        logger.warning("Detached: the jobs go on.\n%s", (commands or together.commands)())
        raise


def _commands(session: Session, names: Sequence[str]) -> str:
    """Return what attaches to jobs of a session, and what stops them."""
    where = f"session={session.expression()}"
    prefix = os.path.commonprefix([*names])  # noqa: RUF071 - of names, not of paths
    if len(names) > _SPELLED_OUT and len(prefix) >= _SHORTEST_PREFIX:
        jobs = f"processing.jobs(name_prefix={prefix!r}, {where})"
    else:
        jobs = f"[processing.attach(name, {where}) for name in {list(names)!r}]"
    return f"  attach: processing.wait({jobs})\n  stop:   for job in {jobs}: job.stop()"
