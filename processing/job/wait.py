"""Waits for any number of jobs, after the model of `concurrent.futures`, over one poller for each session.

A job that fails does not end the wait for the others; its error is collected. Jobs of several sessions, on AWS and on
the embedded engine, may be awaited together.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import attrs

from processing._utils import type_name
from processing._utils.validation import FLAG, require
from processing.exceptions import ConfigurationError
from processing.job.job import ProcessingJob
from processing.job.outcome import EventHandler, check_timeout, error_of, read_checkpoint, warn_of_empty_outputs
from processing.job.wait_display import WaitDisplay
from processing.watching.detach import detaching, detaching_task
from processing.watching.feed import Feed
from processing.watching.logs.batch import LogBatch
from processing.watching.render.log_lines import Renderer
from processing.watching.stream import EventStream, Idle, drive, timeout_error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

    from processing.clock import Clock
    from processing.job.outcome import Outcome
    from processing.session.session import Session
    from processing.watching.aio import AsyncEventStream
    from processing.watching.checkpoint import Checkpoint
    from processing.watching.events import Event, StatusChanged
    from processing.watching.status.model import Lost, WatchTarget

logger = logging.getLogger(__name__)

ReturnWhen: TypeAlias = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]

# The last lines of a failed job take a call or two. They are read for this many jobs, and for this many seconds in each
# session. So the lines of many failed jobs do not delay the result of the wait.
_MAX_TAILS = 10
_MAX_TAIL_SECONDS = 10.0

# The detach message names each of up to ten jobs. For more jobs it shows a common prefix of their names, if that has at
# least four characters. A shorter one might find other people's jobs too.
_MAX_NAMES = 10
_SHORTEST_PREFIX = 4


class _Pair(NamedTuple):
    done: set[ProcessingJob]
    not_done: set[ProcessingJob]


class WaitResult(_Pair):
    """The result of `wait`, a pair: `done, not_done = processing.wait(jobs)`.

    Args:
        done: the jobs that have ended, with success or without.
        not_done: the jobs that have not ended.
        failed: the ended jobs that did not complete, each with its error; None for an empty mapping.

    Attributes:
        done: the jobs that have ended, with success or without.
        not_done: the jobs that have not ended.
        failed: the ended jobs that did not complete, each with its error: a `JobFailedError`, a `JobStoppedError`, or a
            `WatchError` for a job that cannot be watched any more.
    """

    failed: Mapping[ProcessingJob, Exception]

    def __new__(
        cls,
        done: set[ProcessingJob],
        not_done: set[ProcessingJob],
        failed: Mapping[ProcessingJob, Exception] | None = None,
    ) -> WaitResult:
        """Create a result."""
        made = super().__new__(cls, done, not_done)
        made.failed = dict(failed or {})
        return made

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows: a cell for each job, with its last observed status. No call."""
        from processing.report.grid import jobs_card

        jobs = sorted((job.job_name, job.watch_state.status) for job in self.done | self.not_done)
        return jobs_card("wait", jobs)

    def __repr__(self) -> str:
        return f"WaitResult(done={self.done!r}, not_done={self.not_done!r}, failed={self.failed!r})"


def wait(
    jobs: Iterable[ProcessingJob],
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    *,
    logs: bool = False,
    quiet: bool = False,
) -> WaitResult:
    """Wait for jobs to end.

    Standard error shows how many jobs are in each status, the time, and the price so far. A terminal and a notebook
    have a live line, and another output a line for each job that ends, or for each tenth of more than 20 jobs. A wait
    with `timeout=0` shows nothing.

    Ctrl-C detaches: the jobs go on, and the text of the KeyboardInterrupt shows how to attach to them and how to
    stop them.

    Args:
        jobs: the jobs; a job that occurs twice counts once.
        timeout: the longest wait in seconds, after which the jobs' state so far is returned; None waits without limit.
        return_when: `ALL_COMPLETED` waits for all jobs. `FIRST_COMPLETED` returns when a job has ended,
            `FIRST_EXCEPTION` when a job has failed or was stopped.
        logs: True to write the jobs' log lines to standard output as they arrive.
        quiet: True to show nothing: neither log lines nor statuses.

    Returns:
        The jobs that have ended, those that have not, and the errors of failed ones. The first ten errors have the
        jobs' last log lines; for the others `job.exception()` reads them.

    Raises:
        ConfigurationError: an argument is not valid.
    """
    return _wait(WaitGroup(jobs, timeout, logs=logs and not quiet, display=_display(timeout, quiet=quiet)), return_when)


def wait_with_arrivals(
    session: Session,
    arrivals: Callable[[], Sequence[ProcessingJob] | None],
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    *,
    logs: bool = False,
    quiet: bool = False,
    fleet: str,
    expected: Callable[[], int | None],
    commands: Callable[[], str],
    has_failures: Callable[[], bool],
) -> WaitResult:
    """Wait, as `wait` does, for jobs that are still being submitted.

    Args:
        session: the session of all jobs.
        arrivals: a function that returns the jobs that are new since its last call, and None when no more will follow.
            An error that it raises ends the wait.
        timeout: the longest wait in seconds; None waits without limit.
        return_when: see `wait`. `ALL_COMPLETED` waits for future arrivals too.
        logs: True to write the jobs' log lines to standard output as they arrive.
        quiet: True to show nothing.
        fleet: the name of all these jobs.
        expected: a function that returns the number of jobs that there will be; None if it is not known.
        commands: a function that returns the text of the detach message: the calls that attach to the jobs and stop
            them.
        has_failures: a function that returns whether a job could not be submitted. `FIRST_EXCEPTION` ends then.
    """
    display = _display(timeout, quiet=quiet, fleet=fleet, session=session, expected=expected)
    wait_group = WaitGroup(
        (),
        timeout,
        logs=logs and not quiet,
        arrivals=(session, arrivals),
        has_failures=has_failures,
        display=display,
    )
    return _wait(wait_group, return_when, commands)


def _wait(wait_group: WaitGroup, return_when: ReturnWhen, commands: Callable[[], str] | None = None) -> WaitResult:
    is_over = _over_when(return_when)
    with _detaching(wait_group, commands), contextlib.closing(drive(wait_group.feeds)) as items:
        for item in items:
            if not isinstance(item, Idle):
                wait_group.handle(item.feed, item.event)
                continue
            wait_group.handler.ready()
            # Checked only when no event is left, so that jobs that ended together are returned together.
            if is_over(wait_group):
                break
    return wait_group.result()


def _display(timeout: float | None, *, quiet: bool, **options: Any) -> Callable[[Clock], WaitDisplay]:
    """Return a function that makes the display of a wait. A wait without any time shows nothing."""
    require("quiet", quiet, FLAG)
    return functools.partial(WaitDisplay, quiet=quiet or timeout == 0, **options)


def as_completed(
    jobs: Iterable[ProcessingJob], timeout: float | None = None, *, logs: bool = False
) -> Iterator[ProcessingJob]:
    """Yield jobs as they end, with success or without. `job.exception()` then returns a job's error without waiting.

    Args:
        jobs: the jobs; a job that occurs twice is yielded once.
        timeout: seconds from the call until WaitTimeoutError is raised; None waits without limit.
        logs: True to write the jobs' log lines to standard output as they arrive.

    Raises:
        ConfigurationError: an argument is not valid.
        WaitTimeoutError: while iterating: the time is up, and some jobs have not ended.
    """
    return _as_completed(WaitGroup(jobs, timeout, logs=logs))


def _as_completed(wait_group: WaitGroup) -> Iterator[ProcessingJob]:
    yield from wait_group.done
    with _detaching(wait_group), contextlib.closing(drive(wait_group.feeds)) as items:
        for item in items:
            if isinstance(item, Idle):
                wait_group.handler.ready()
            else:
                yield from wait_group.handle(item.feed, item.event)
    if error := timeout_error(wait_group.feeds):
        raise error


def events(
    jobs: Iterable[ProcessingJob],
    *,
    logs: bool = True,
    timeout: float | None = None,
    checkpoint: Checkpoint | str | None = None,
) -> EventStream[Event | Lost]:
    """Return the events of jobs until all have ended: `StatusChanged`, `LogEvent` and `Lost` values.

    A job's last value is the change to its terminal status, after all of its lines. For a job that cannot be watched
    any more it is a `Lost`, which has the error.

    Args:
        jobs: the jobs; a job that occurs twice counts once.
        logs: False for status changes only.
        timeout: seconds from the call until WaitTimeoutError is raised; None waits without limit.
        checkpoint: the point at which an earlier stream over the same jobs stopped, as its `checkpoint()` returned it
            or as text. Lines that it delivered are not delivered again.

    Raises:
        ConfigurationError: an argument is not valid.
        WaitTimeoutError: while iterating: the time is up, and some jobs have not ended.
    """
    wait_group = WaitGroup(jobs, timeout, logs=logs, show=False, checkpoint=checkpoint)
    return EventStream(wait_group.feeds, alone=False, advice=wait_group.advice)


async def wait_async(
    jobs: Iterable[ProcessingJob],
    timeout: float | None = None,
    return_when: ReturnWhen = "ALL_COMPLETED",
    *,
    logs: bool = False,
    quiet: bool = False,
) -> WaitResult:
    """Wait for jobs to end, as `wait` does, without holding a thread. Cancelling the wait does not stop the jobs.

    Args:
        jobs: the jobs; a job that occurs twice counts once.
        timeout: the longest wait in seconds; None waits without limit.
        return_when: `ALL_COMPLETED`, `FIRST_COMPLETED` or `FIRST_EXCEPTION`; see `wait`.
        logs: True to write the jobs' log lines to standard output as they arrive.
        quiet: True to show nothing: neither log lines nor statuses.
    """
    from processing.watching.aio import drive_async, in_thread

    wait_group = WaitGroup(jobs, timeout, logs=logs and not quiet, display=_display(timeout, quiet=quiet))
    is_over = _over_when(return_when)

    def finished() -> WaitResult:
        with wait_group.handler:
            return wait_group.result()

    with detaching_task(wait_group.advice), wait_group.shown():
        async with contextlib.aclosing(drive_async(wait_group.feeds)) as items:
            async for item in items:
                if not isinstance(item, Idle):
                    wait_group.handle(item.feed, item.event)
                    continue
                wait_group.handler.ready()
                if is_over(wait_group):
                    break
        return await in_thread(finished)


async def as_completed_async(
    jobs: Iterable[ProcessingJob],
    timeout: float | None = None,
    *,
    logs: bool = False,
) -> AsyncGenerator[ProcessingJob, None]:
    """Yield jobs as they end, as `as_completed` does, without holding a thread.

    Args:
        jobs: the jobs; a job that occurs twice is yielded once.
        timeout: seconds from the first iteration until WaitTimeoutError is raised; None waits without limit.
        logs: True to write the jobs' log lines to standard output as they arrive.

    Raises:
        WaitTimeoutError: the time is up, and some jobs have not ended.
    """
    from processing.watching.aio import drive_async, in_thread

    wait_group = WaitGroup(jobs, timeout, logs=logs)
    for job in list(wait_group.done):
        yield job
    with detaching_task(wait_group.advice):
        async with contextlib.aclosing(drive_async(wait_group.feeds)) as items:
            async for item in items:
                if isinstance(item, Idle):
                    wait_group.handler.ready()
                else:
                    for job in wait_group.handle(item.feed, item.event):
                        yield job
    await in_thread(wait_group.handler.close)
    if error := timeout_error(wait_group.feeds):
        raise error


def events_async(
    jobs: Iterable[ProcessingJob],
    *,
    logs: bool = True,
    timeout: float | None = None,
    checkpoint: Checkpoint | str | None = None,
) -> AsyncEventStream[Event | Lost]:
    """Return the events of jobs until all have ended, as `events` does, for `async for` and without holding a thread.

    Args:
        jobs: the jobs; a job that occurs twice counts once.
        logs: False for status changes only.
        timeout: seconds from the call until WaitTimeoutError is raised; None waits without limit.
        checkpoint: the point at which an earlier stream over the same jobs stopped.
    """
    from processing.watching.aio import AsyncEventStream

    wait_group = WaitGroup(jobs, timeout, logs=logs, show=False, checkpoint=checkpoint)
    return AsyncEventStream(wait_group.feeds, alone=False, advice=wait_group.advice)


class WaitGroup:
    """The jobs of one wait: a feed for each session, and the jobs that have ended so far.

    Args:
        jobs: the jobs.
        timeout: seconds until the feeds end; None for no limit.
        logs: True to follow the jobs' log lines.
        show: True to write the log lines to standard output. False is for event streams, which begin with each job's
            current status even if the job's end was observed before.
        checkpoint: the point at which an earlier stream stopped.
        arrivals: the session of jobs that are still being submitted, and the function that returns the new ones.
        has_failures: returns whether a job could not be submitted.
        display: makes the display of the jobs; None shows their log lines alone.

    Attributes:
        jobs: the jobs, each once, in their order.
        done: the jobs that have ended, in the order of their ends.
        feeds: the source of events, one for each session.
        handler: the consumer of events.
        has_failures: returns whether a job could not be submitted.
    """

    def __init__(
        self,
        jobs: Iterable[ProcessingJob],
        timeout: float | None,
        *,
        logs: bool,
        show: bool = True,
        checkpoint: Checkpoint | str | None = None,
        arrivals: tuple[Session, Callable[[], Sequence[ProcessingJob] | None]] | None = None,
        has_failures: Callable[[], bool] = lambda: False,
        display: Callable[[Clock], WaitDisplay] | None = None,
    ) -> None:
        check_timeout(timeout)
        self.jobs = _check_jobs(jobs)
        self.done: dict[ProcessingJob, None] = {}
        self.has_failures = has_failures
        self._running: dict[tuple[Session, str], list[ProcessingJob]] = {}  # several objects may stand for one job
        self._logs = logs
        self._poll_first = not show
        for job in self.jobs:
            if not self._is_done(job):
                self._running.setdefault((job.sagemaker_session, job.job_name), []).append(job)
        sessions = dict.fromkeys(session for session, _ in self._running) if arrivals is None else [arrivals[0]]
        renderer = Renderer(several_jobs=len(self._running) > 1 or arrivals is not None) if logs and show else None
        self.handler = EventHandler(renderer, keep_tails=logs and show)
        self._display = display(next(iter(sessions)).clock) if display is not None and sessions else None
        for job in {(job.sagemaker_session, job.job_name): job for job in self.jobs}.values():
            self._show(job)
        self.feeds = [
            Feed(
                session,
                [self._target(same[0]) for (owner, _), same in self._running.items() if owner is session],
                logs=logs,
                timeout=timeout,
                checkpoint=read_checkpoint(checkpoint),
                ready=self.handler.ready,
                arrivals=None if arrivals is None else functools.partial(self._add_arrivals, arrivals[1]),
            )
            for session in sessions
        ]

    def _add_arrivals(self, arrivals: Callable[[], Sequence[ProcessingJob] | None]) -> list[WatchTarget] | None:
        """Add the newly submitted jobs, and return their targets for the feed; None if no more will follow."""
        targets: list[WatchTarget] = []
        while jobs := arrivals():  # to the end: all of them may have ended, and then the feed ends too
            self.jobs += tuple(jobs)
            watched = [job for job in jobs if not self._is_done(job)]
            for job in watched:
                self._running[job.sagemaker_session, job.job_name] = [job]
            for job in jobs:
                self._show(job)
            targets += [self._target(job) for job in watched]
        return None if jobs is None and not targets else targets

    def shown(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which the jobs are on display."""
        return self._display or contextlib.nullcontext()

    def _show(self, job: ProcessingJob) -> None:
        if self._display is not None:
            self._display.add(job, awaited=job not in self.done)

    def _target(self, job: ProcessingJob) -> WatchTarget:
        return job.watch_state.target(job.job_name, poll_first=self._poll_first)

    def _is_done(self, job: ProcessingJob) -> bool:
        """Return whether a job's end was observed before and nothing else is wanted of it; add it to the done ones."""
        outcome = job.watch_state.outcome
        if outcome is None or outcome.lost is not None or self._logs or self._poll_first:
            return False
        self.done[job] = None
        return True

    def handle(self, feed: Feed, event: StatusChanged | LogBatch | Lost) -> list[ProcessingJob]:
        """Handle one event of a feed, and return the job objects that it ends."""
        outcome = self.handler.handle(feed, event)
        if isinstance(event, LogBatch):
            return []
        if self._display is not None:
            self.handler.ready()  # the lines come before the end, unless the output is slow
            self._display.handle(feed, event)
        if outcome is None:
            return []
        session = cast("Session", feed.session)
        ended = self._running[session, event.job_name]
        if any(job.watch_state.outcome is None for job in ended):
            warn_of_empty_outputs(session, event.job_name, outcome)
        for job in ended:
            job.watch_state = attrs.evolve(job.watch_state, outcome=outcome)
            self.done[job] = None
        return ended

    def failed(self) -> dict[ProcessingJob, Outcome]:
        """Return the jobs that have ended without completing, with their outcomes."""
        outcomes = ((job, job.watch_state.outcome) for job in self.done)
        return {job: outcome for job, outcome in outcomes if outcome is not None and outcome.is_error()}

    def result(self) -> WaitResult:
        """Return the jobs that have ended and those that have not; read the last lines of some failed jobs."""
        failed: dict[ProcessingJob, Exception] = {}
        started: dict[Session, float] = {}
        for job, outcome in self.failed().items():
            session = job.sagemaker_session
            limit = started.setdefault(session, session.clock.monotonic()) + _MAX_TAIL_SECONDS
            read = len(failed) < _MAX_TAILS and session.clock.monotonic() < limit
            failed[job] = error_of(session, job.job_name, outcome, read=read)
        return WaitResult(set(self.done), {job for job in self.jobs if job not in self.done}, failed)

    def advice(self, commands: Callable[[], str] | None = None) -> str:
        """Return the text of the interrupt after Ctrl-C.

        Args:
            commands: returns the calls that attach to the jobs and stop them; None names the unfinished jobs.
        """
        return f"Detached: the jobs go on.\n{(commands or self._commands)()}"

    def _commands(self) -> str:
        """Return the calls that attach to the unfinished jobs, and stop them, in another process."""
        texts = []
        for session in dict.fromkeys(session for session, _ in self._running):
            left = [job for job in self.jobs if job.sagemaker_session is session and job not in self.done]
            names = list(dict.fromkeys(job.job_name for job in left))
            if names:
                texts.append(_commands(session, names))
        return "\n".join(texts)


def _check_jobs(jobs: Iterable[ProcessingJob]) -> tuple[ProcessingJob, ...]:
    """Return the jobs, each once, in their order."""
    value: object = jobs  # not every caller has a type checker
    if isinstance(value, (ProcessingJob, str, bytes)) or not hasattr(value, "__iter__"):
        raise ConfigurationError(f"jobs: must be several jobs, such as a list of them, not {type_name(value)}")
    found: tuple[object, ...] = tuple(jobs)
    for place, job in enumerate(found):
        if not isinstance(job, ProcessingJob):
            raise ConfigurationError(f"jobs[{place}]: must be a ProcessingJob, not {type_name(job)}")
    return tuple(dict.fromkeys(cast("tuple[ProcessingJob, ...]", found)))


def _over_when(return_when: ReturnWhen) -> Callable[[WaitGroup], bool]:
    """Return the condition that ends a wait before all jobs have ended."""
    value: object = return_when  # not every caller has a type checker
    if value == "ALL_COMPLETED":
        return lambda _: False
    if value == "FIRST_COMPLETED":
        return lambda wait_group: bool(wait_group.done)
    if value == "FIRST_EXCEPTION":
        return lambda wait_group: wait_group.has_failures() or bool(wait_group.failed())
    raise ConfigurationError(
        f"return_when: must be 'ALL_COMPLETED', 'FIRST_COMPLETED' or 'FIRST_EXCEPTION', not {return_when!r}"
    )


@contextlib.contextmanager
def _detaching(wait_group: WaitGroup, commands: Callable[[], str] | None = None) -> Iterator[None]:
    """Write the remaining lines at the end of the block; at Ctrl-C, show how to attach to the jobs again."""
    with detaching(lambda: wait_group.advice(commands)), wait_group.shown(), wait_group.handler:
        yield


def _commands(session: Session, names: Sequence[str]) -> str:
    """Return the calls that attach to jobs of one session, and stop them."""
    where = f"session={session.expression()}"
    prefix = os.path.commonprefix([*names])  # noqa: RUF071 - the strings are names, not paths
    if len(names) > _MAX_NAMES and len(prefix) >= _SHORTEST_PREFIX:
        jobs = f"processing.jobs(name_prefix={prefix!r}, {where})"
    else:
        jobs = f"[processing.attach(name, {where}) for name in {list(names)!r}]"
    return f"  attach: processing.wait({jobs})\n  stop:   for job in {jobs}: job.stop()"
