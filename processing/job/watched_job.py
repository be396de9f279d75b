"""The part of a job that watches it: the wait for its end, its events and its log lines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from processing._utils.validation import one_of, require
from processing.watching.detach import detaching, detaching_task

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta

    from typing_extensions import Self  # a stub file's module, which users need not have

    from processing.exceptions import JobError, WatchError
    from processing.job.cost import Instances
    from processing.job.outcome import EventHandler, Outcome
    from processing.job.watch_state import WatchState
    from processing.session.session import Session
    from processing.watching.aio import AsyncEventStream
    from processing.watching.checkpoint import Checkpoint
    from processing.watching.events import Event, LogEvent
    from processing.watching.feed import Feed
    from processing.watching.logs.filters import Selection
    from processing.watching.render.run_display import RunDisplay
    from processing.watching.stream import EventStream

Job = TypeVar("Job", bound="WatchedJob")


class WatchedJob:
    """The base of `ProcessingJob` with everything that watches the job.

    Attributes:
        sagemaker_session: the `Session` that reaches the job.
        job_name: the job's name.
        watch_state: the last observed state of the job; internal to the package.
        instances: the instances of the job, if they are known; internal to the package.
    """

    sagemaker_session: Session
    job_name: str
    watch_state: WatchState
    instances: list[Instances]
    _instance_count: int | None

    def describe(self) -> dict[str, Any]:
        """Return the answer of DescribeProcessingJob, as boto3 returns it."""
        return self.sagemaker_session.describe_processing_job(self.job_name)

    def events(
        self,
        *,
        logs: bool = True,
        timeout: float | None = None,
        checkpoint: Checkpoint | str | None = None,
    ) -> EventStream[Event]:
        """Return the job's events until its end: `StatusChanged` and `LogEvent` values.

        The last value is the change to the terminal status. Every log line comes once, before that change.

        Args:
            logs: False for status changes only.
            timeout: seconds from the call until WaitTimeoutError is raised; None waits without limit.
            checkpoint: the point at which an earlier stream of the job's events stopped, possibly in another process:
                the result of its `checkpoint()`, or the text of it. Lines that it delivered are not delivered again.

        Raises:
            WaitTimeoutError: while iterating: the time is up; the job goes on.
            WatchError: while iterating: the job cannot be watched any more, for example because a permission is
                missing.
        """
        from processing.job.outcome import read_checkpoint

        return self._stream(self._feed(logs=logs, timeout=timeout, checkpoint=read_checkpoint(checkpoint)))

    def events_async(
        self,
        *,
        logs: bool = True,
        timeout: float | None = None,
        checkpoint: Checkpoint | str | None = None,
    ) -> AsyncEventStream[Event]:
        """Return the same events as `events`, for `async for`.

        The session's poller is shared, and no thread is held between events.

        Args:
            logs: False for status changes only.
            timeout: seconds from the call until WaitTimeoutError is raised; None waits without limit.
            checkpoint: the point at which an earlier stream of the job's events stopped.
        """
        from processing.job.outcome import read_checkpoint
        from processing.watching.aio import AsyncEventStream

        feed = self._feed(logs=logs, timeout=timeout, checkpoint=read_checkpoint(checkpoint))
        return AsyncEventStream([feed], alone=True, advice=self._advice)

    def wait(
        self,
        logs: bool = True,
        *,
        timeout: float | None = None,
        on_stop: Literal["raise", "return"] = "raise",
        quiet: bool = False,
    ) -> Self:
        """Wait until the job has completed, and write its log lines to standard output meanwhile.

        Standard error gets the job's name, its page in the AWS console and its status. A terminal has a live line, and
        another output a line for each change.

        Ctrl-C detaches: the job goes on, and the text of the KeyboardInterrupt shows how to attach to it and how to
        stop it.

        Args:
            logs: False to show no log lines.
            timeout: the longest wait in seconds; None waits without limit.
            on_stop: `return` if a stopped job is not an error.
            quiet: True to show nothing: neither log lines nor the status.

        Returns:
            The job itself.

        Raises:
            JobFailedError: the job failed; the error has the reason, the exit message and the last log lines.
            JobStoppedError: the job was stopped.
            WaitTimeoutError: the timeout passed; the job goes on.
            WatchError: the job cannot be watched any more, for example because a permission is missing; the job may go
                on.
        """
        _check_on_stop(on_stop)
        with self._own_display(quiet=quiet) as display:
            return self.wait_in(display, logs=logs and not quiet, timeout=timeout, on_stop=on_stop)

    def wait_in(
        self,
        display: RunDisplay,
        *,
        logs: bool,
        timeout: float | None = None,
        on_stop: Literal["raise", "return"] = "raise",
    ) -> Self:
        """Wait as `wait` does, and show the run in a display that exists. Internal to the package."""
        from processing.job.outcome import follow_to_end

        handler = self._event_handler(logs=logs, display=display)
        feed = self._feed(logs=logs, timeout=timeout, ready=handler.ready)
        self._show_phases(display, feed)
        with detaching(self._advice):
            outcome = follow_to_end(feed, handler)
        return self._record_end(outcome, on_stop)

    def show_in(self, display: RunDisplay) -> None:
        """Show the job's name in a display, unless it has shown it already. Internal to the package."""
        from processing.job.cost import run_facts

        if not (display.announced or display.quiet):
            display.announce(
                run_facts(
                    self.sagemaker_session,
                    self.job_name,
                    self.instances,
                    shows_outputs=not self.watch_state.may_be_silent,
                )
            )

    def _show_phases(self, display: RunDisplay, feed: Feed) -> None:
        name, session = self.job_name, self.sagemaker_session
        display.watch(lambda: feed.subscription.started_at(name), lambda: session.known_phase(name))

    @contextlib.contextmanager
    def _own_display(self, *, quiet: bool) -> Iterator[RunDisplay]:
        from processing.watching.render.run_display import RunDisplay

        with RunDisplay(self.sagemaker_session.clock, quiet=quiet) as display:
            self.show_in(display)
            yield display

    async def wait_async(
        self,
        logs: bool = True,
        *,
        timeout: float | None = None,
        on_stop: Literal["raise", "return"] = "raise",
        quiet: bool = False,
    ) -> Self:
        """Wait until the job has completed, as `wait` does, without holding a thread.

        One poller serves all jobs of the session, however many are awaited. Cancelling the wait does not stop the job.

        Args:
            logs: False to show no log lines.
            timeout: the longest wait in seconds; None waits without limit.
            on_stop: `return` if a stopped job is not an error.
            quiet: True to show nothing: neither log lines nor the status.
        """
        from processing.job.outcome import follow_to_end_async
        from processing.watching.aio import in_thread

        _check_on_stop(on_stop)
        with self._own_display(quiet=quiet) as display:
            logs = logs and not quiet
            handler = self._event_handler(logs=logs, display=display)
            feed = self._feed(logs=logs, timeout=timeout, ready=handler.ready)
            self._show_phases(display, feed)
            with detaching_task(self._advice):
                outcome = await follow_to_end_async(feed, handler)
        return await in_thread(lambda: self._record_end(outcome, on_stop))

    def exception(self, timeout: float | None = None) -> JobError | WatchError | None:
        """Wait silently for the job's end, and return its error; None if the job completed.

        An end that `wait`, `processing.wait` or `processing.as_completed` has observed already is not awaited again.

        Args:
            timeout: the longest wait in seconds; None waits without limit.

        Raises:
            WaitTimeoutError: the timeout passed; the job goes on.
        """
        from processing.job.outcome import follow_to_end

        if self.watch_state.outcome is None:
            feed = self._feed(logs=False, timeout=timeout)
            with detaching(self._advice):
                outcome = follow_to_end(feed, self._event_handler(logs=False))
            self.watch_state = attrs.evolve(self.watch_state, outcome=outcome)
        return self._error()

    def _feed(
        self,
        *,
        logs: bool,
        timeout: float | None = None,
        selection: Selection | None = None,
        checkpoint: Checkpoint | None = None,
        ready: Callable[[], bool] = lambda: True,
    ) -> Feed:
        from processing.job.outcome import check_timeout
        from processing.watching.feed import Feed
        from processing.watching.logs.filters import Selection

        if selection is None and self.watch_state.may_be_silent:
            selection = Selection(may_be_silent=True)
        return Feed(
            self.sagemaker_session,
            [self.watch_state.target(self.job_name)],
            logs=logs,
            timeout=check_timeout(timeout),
            selection=selection,
            checkpoint=checkpoint,
            ready=ready,
        )

    def _stream(self, feed: Feed) -> EventStream[Any]:
        from processing.watching.stream import EventStream

        return EventStream([feed], alone=True, advice=self._advice)

    def _event_handler(self, *, logs: bool, display: RunDisplay | None = None) -> EventHandler:
        from processing.job.outcome import EventHandler
        from processing.watching.render.log_lines import Renderer

        # The renderer needs the number of hosts with the first line. An ended job's description comes after its lines.
        renderer = Renderer(instance_count=self._instance_count) if logs else None
        return EventHandler(renderer, keep_tails=logs, display=display)

    def _record_end(self, outcome: Outcome, on_stop: Literal["raise", "return"]) -> Self:
        """Record how the job ended, and raise its error if there is one."""
        from processing.job.outcome import warn_of_empty_outputs

        if self.watch_state.outcome is None:
            warn_of_empty_outputs(self.sagemaker_session, self.job_name, outcome)
        self.watch_state = attrs.evolve(self.watch_state, outcome=outcome)
        error = self._error() if outcome.is_error(stopped=on_stop == "raise") else None
        if error is not None:
            raise error
        return self

    def _error(self) -> JobError | WatchError | None:
        """Return the error of the job's observed end; None if the job completed or no end was observed."""
        from processing.job.outcome import error_of

        outcome = self.watch_state.outcome
        if outcome is None or not outcome.is_error():
            return None
        return error_of(self.sagemaker_session, self.job_name, outcome)

    def _advice(self) -> str:
        """Return the text of the interrupt after Ctrl-C: the calls that attach to the job and stop it."""
        call = f"processing.attach({self.job_name!r}, session={self.sagemaker_session.expression()})"
        return f"Detached: the job goes on.\n  attach: {call}.wait()\n  stop:   {call}.stop()"

    def logs(
        self,
        follow: bool = False,
        *,
        tail: int | None = None,
        since: datetime | timedelta | None = None,
        host: str | int | None = None,
        pattern: str | re.Pattern[str] | None = None,
    ) -> Iterator[LogEvent]:
        """Yield the job's log lines, each one once.

        Args:
            follow: True to go on until the job has ended, with the lines in order of arrival. False yields the lines
                that exist now, ordered by time.
            tail: only the last lines of those that exist now, as many as this number. With `follow`, later lines are
                yielded as well.
            since: a moment or an age; lines that were written before it are left out. A moment without a time zone is
                in this machine's.
            host: only the lines of one instance: `"algo-1"`, or its number.
            pattern: only the lines that contain a match of this regular expression. All lines are read all the same.

        Raises:
            ConfigurationError: an argument is not valid.
            WatchError: while iterating with `follow`: the job cannot be watched any more.
        """
        from processing.job.log_lines import LogQuery

        query = LogQuery(self.sagemaker_session, tail=tail, since=since, host=host, pattern=pattern)
        if follow:
            return query.follow(
                self.describe, lambda selection: self._stream(self._feed(logs=True, selection=selection))
            )
        return query.read(self.job_name, self.describe())


def _check_on_stop(on_stop: str) -> None:
    require("on_stop", on_stop, one_of("raise", "return"))
