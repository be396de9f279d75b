"""A submitted job, and everything that can be asked of it.

`start` makes one of what is about to start; `attach` and the two `from_` constructors find one that somebody else
started.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Literal

import attrs

from processing import default_sessions as targets
from processing.exceptions import ConfigurationError
from processing.job.launch import Launch
from processing.job.outputs import JobOutput, JobOutputs
from processing.models import ProcessingInput, ProcessingOutput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from processing.exceptions import JobError, WatchError
    from processing.job.outcome import EventHandler, Outcome
    from processing.session.session import Session
    from processing.watching.aio import AsyncEventStream
    from processing.watching.checkpoint import Checkpoint
    from processing.watching.events import Event, LogEvent
    from processing.watching.feed import Feed
    from processing.watching.logs.filters import Selection
    from processing.watching.status.model import Target
    from processing.watching.stream import EventStream

logger = logging.getLogger(__name__)

_STARTED_WITH = ("inputs", "outputs", "output_kms_key")


class ProcessingJob:
    """A processing job that AWS, or the embedded engine, knows.

    Args:
        sagemaker_session: the `Session` that reaches it.
        job_name: its name.
        inputs: its inputs, where known.
        outputs: its outputs, where known.
        output_kms_key: the KMS key that its outputs are encrypted with.
        arn: its ARN, where known; else it is asked for when needed.
        instance_count: on how many instances it runs, where known.
    """

    def __init__(
        self,
        sagemaker_session: Any,
        job_name: str,
        inputs: Sequence[ProcessingInput] | None = None,
        outputs: Sequence[ProcessingOutput] | None = None,
        output_kms_key: str | None = None,
        *,
        arn: str | None = None,
        instance_count: int | None = None,
    ) -> None:
        self.sagemaker_session: Session = targets.session_for_attach(sagemaker_session)
        self.job_name = job_name
        self.inputs = list(inputs or ())
        self.outputs = JobOutputs(
            # The fields of a ProcessingOutput: a subclass may have more.
            JobOutput(
                **{field.name: getattr(output, field.name) for field in attrs.fields(ProcessingOutput)},
                session=self.sagemaker_session,
            )
            for output in outputs or ()
        )
        self.output_kms_key = output_kms_key
        self._arn = arn
        self._instance_count = instance_count
        self._created: datetime | None = None
        self._ran: float | None = None  # a moment of AWS's time before which its status has not changed
        self._outcome: Outcome | None = None  # how it ended, once that was seen

    @classmethod
    def start_new(
        cls,
        processor: Any,
        inputs: Sequence[ProcessingInput] | None,
        outputs: Sequence[ProcessingOutput] | None,
        experiment_config: dict[str, str] | None = None,
    ) -> ProcessingJob:
        """Start the job that a processor describes; inputs and outputs are normalised already.

        Raises:
            ConfigurationError: the request is not valid; nothing was uploaded.
            EngineError: the embedded engine cannot run it here.
            StagingError: an upload failed; nothing was submitted.
            SubmissionError: AWS refused the request.
        """
        return start(Launch.from_processor(processor, inputs, outputs, experiment_config))

    @classmethod
    def from_processing_name(cls, sagemaker_session: Any, processing_job_name: str) -> ProcessingJob:
        """Return the job of that name, with the inputs and outputs that it was started with.

        Raises:
            ConfigurationError: there is no job of that name.
        """
        return cls._named(targets.session_for_attach(sagemaker_session), processing_job_name, "processing_job_name")

    @classmethod
    def _named(cls, session: Session, name: str, field: str) -> ProcessingJob:
        described = describe_if_exists(session, name)
        if described is None:
            where = "the embedded engine" if session.is_local else session.boto_region_name
            raise ConfigurationError(f"{field}: no processing job {name!r} in {where}")
        return cls._from_description(session, described)

    @classmethod
    def from_processing_arn(cls, sagemaker_session: Any, processing_job_arn: str) -> ProcessingJob:
        """Return the job of that ARN (`arn:<partition>:sagemaker:<region>:<account>:processing-job/<name>`).

        Raises:
            ConfigurationError: the text is not such an ARN, is of another region, or the job does not exist.
        """
        return cls._at(targets.session_for_attach(sagemaker_session), processing_job_arn, "processing_job_arn")

    @classmethod
    def _at(cls, session: Session, arn: str, field: str) -> ProcessingJob:
        match = re.fullmatch(r"arn:[^:]+:sagemaker:([^:]+):\d{12}:processing-job/([^/]+)", arn)
        if match is None:
            raise ConfigurationError(f"{field}: {arn!r} is not the ARN of a processing job")
        region, name = match.groups()
        _check_region(session, region, field)
        return cls._named(session, name, field)

    @classmethod
    def from_event(cls, event: Mapping[str, Any] | str | bytes, session: Any = None) -> ProcessingJob:
        """Return the job that an event of EventBridge tells of; no call is made.

        Args:
            event: a "SageMaker Processing Job State Change": as a Lambda function gets it, or its JSON text, such as
                the body of a message of SQS.
            session: the `Session` that reaches the job; None means AWS, unless the environment has
                PROCESSING_TARGET=local.

        Raises:
            ConfigurationError: it is no such event, or of another region than the session.
        """
        from processing.watching.status.eventbridge_event import read_event

        found = read_event(event)
        target = targets.session_for_attach(session, "session")
        if found is None:
            raise ConfigurationError('event: must be a "SageMaker Processing Job State Change" of EventBridge')
        _check_region(target, found.region, "event")
        return cls.known(target, found.job_name, arn=found.arn)

    @classmethod
    def known(cls, session: Session, job_name: str, *, arn: str | None = None) -> ProcessingJob:
        """Return a job that is known to be there, without a call.

        What it was started with (`inputs`, `outputs`, `output_kms_key`) is asked of AWS when it is first looked at.
        """
        job = cls(session, job_name, arn=arn)
        job._ask_later()
        return job

    @classmethod
    def listed(cls, session: Session, summary: Mapping[str, Any], *, at: float | None) -> ProcessingJob:
        """Return a job that ListProcessingJobs shows, without a call.

        Args:
            session: where it is.
            summary: what the listing says of it. A job that has ended by that needs no look any more.
            at: a moment of AWS's time whose changes the listing shows, in seconds since the epoch; None where AWS did
                not tell the time.
        """
        from processing.container.contract import TERMINAL
        from processing.job.outcome import Outcome

        job = cls(session, summary["ProcessingJobName"], arn=summary["ProcessingJobArn"])
        job._ask_later()
        job._created = summary["CreationTime"]
        if summary["ProcessingJobStatus"] in TERMINAL:
            job._outcome = Outcome.of(summary)
        elif summary["ProcessingJobStatus"] == "InProgress":
            job._ran = at
        return job

    def _ask_later(self) -> None:
        """Let what the job was started with be asked of AWS when it is first looked at."""
        for name in _STARTED_WITH:
            del self.__dict__[name]

    if not TYPE_CHECKING:  # a type checker would take every name for one that there is

        def __getattr__(self, name: str) -> Any:
            """Ask AWS for what a job was started with, where it is known by its name alone."""
            if name not in _STARTED_WITH:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            described = self._from_description(self.sagemaker_session, self.describe())
            for each in _STARTED_WITH:
                self.__dict__.setdefault(each, getattr(described, each))
            return self.__dict__[name]

    @classmethod
    def _from_description(cls, session: Session, described: dict[str, Any]) -> ProcessingJob:
        from processing.request.build import request_from_describe

        request = request_from_describe(described)
        job = cls(
            session,
            request.job_name,
            request.inputs,
            request.outputs,
            request.output_kms_key,
            arn=described["ProcessingJobArn"],
            instance_count=request.instance_count,
        )
        job._created = described["CreationTime"]
        return job

    @property
    def name(self) -> str:
        """The job's name; the same as `job_name`."""
        return self.job_name

    @property
    def arn(self) -> str:
        """The job's ARN; asked of AWS once where it is not known."""
        if self._arn is None:
            self._arn = str(self.describe()["ProcessingJobArn"])
        return self._arn

    @property
    def status(self) -> str:
        """The job's status now: InProgress, Completed, Failed, Stopping or Stopped. One call."""
        return str(self.describe()["ProcessingJobStatus"])

    def describe(self) -> dict[str, Any]:
        """Return DescribeProcessingJob's answer, as boto3 gives it."""
        return self.sagemaker_session.describe_processing_job(self.job_name)

    def events(
        self,
        *,
        logs: bool = True,
        timeout: float | None = None,
        checkpoint: Checkpoint | str | None = None,
    ) -> EventStream[Event]:
        """Return what happens to the job until it has ended: `StatusChanged` and `LogEvent` values.

        The last value is the `StatusChanged` to the terminal status; before it, every log line has been given once.

        Args:
            logs: False for the status alone.
            timeout: seconds from the call after which WaitTimeoutError is raised; None waits as long as it takes.
            checkpoint: where another stream of the job's events stopped, maybe in another process: what its
                `checkpoint()` returned, or the text of it. The lines that it gave are not given again.

        Raises:
            WaitTimeoutError: while iterating: the time is up; the job goes on.
            WatchError: while iterating: the job cannot be watched any more, such as for want of permission.
        """
        from processing.job.outcome import read_checkpoint
        from processing.watching.stream import EventStream

        feed = self._feed(logs=logs, timeout=timeout, checkpoint=read_checkpoint(checkpoint))
        return EventStream([feed], alone=True)

    def events_async(
        self,
        *,
        logs: bool = True,
        timeout: float | None = None,
        checkpoint: Checkpoint | str | None = None,
    ) -> AsyncEventStream[Event]:
        """Return the same as `events` for `async for`, sharing the session's poller; no thread is held meanwhile."""
        from processing.job.outcome import read_checkpoint
        from processing.watching.aio import AsyncEventStream

        feed = self._feed(logs=logs, timeout=timeout, checkpoint=read_checkpoint(checkpoint))
        return AsyncEventStream([feed], alone=True)

    def wait(
        self,
        logs: bool = True,
        *,
        timeout: float | None = None,
        on_stop: Literal["raise", "return"] = "raise",
    ) -> ProcessingJob:
        """Return when the job has completed, its log lines written to standard output as they come.

        Ctrl-C detaches: the job goes on, a warning says how to attach to it and how to stop it, and KeyboardInterrupt
        is passed on.

        Args:
            logs: False to wait silently.
            timeout: seconds to wait at most; None waits as long as it takes.
            on_stop: `return` where a stopped job is no error.

        Returns:
            The job itself.

        Raises:
            JobFailedError: the job failed; carries the reason, the exit message and the last log lines.
            JobStoppedError: the job was stopped.
            WaitTimeoutError: the timeout passed; the job goes on.
            WatchError: the job cannot be watched any more, such as for want of permission; it may well go on.
        """
        from processing.job.outcome import end_of

        _check_on_stop(on_stop)
        follower = self._follower(logs=logs)
        feed = self._feed(logs=logs, timeout=timeout, ready=follower.ready)
        try:
            outcome = end_of(feed, follower)
        except KeyboardInterrupt:
            logger.warning("Detached: the job goes on.\n%s", self._commands())
            raise
        return self._ended(outcome, on_stop)

    async def wait_async(
        self,
        logs: bool = True,
        *,
        timeout: float | None = None,
        on_stop: Literal["raise", "return"] = "raise",
    ) -> ProcessingJob:
        """Return when the job has completed, as `wait` does, without holding a thread.

        However many are awaited, one poller looks at all jobs of the session. Cancelling it leaves the job alone.
        """
        from processing.job.outcome import end_of_async
        from processing.watching.aio import in_thread

        _check_on_stop(on_stop)
        follower = self._follower(logs=logs)
        outcome = await end_of_async(self._feed(logs=logs, timeout=timeout, ready=follower.ready), follower)
        return await in_thread(lambda: self._ended(outcome, on_stop))

    def exception(self, timeout: float | None = None) -> JobError | WatchError | None:
        """Return the error that the job's end means, and None for a job that has completed; wait for it silently.

        A job that was waited for already, also by `processing.wait` or `processing.as_completed`, is not looked at
        again.

        Args:
            timeout: seconds to wait at most; None waits as long as it takes.

        Raises:
            WaitTimeoutError: the timeout passed; the job goes on.
        """
        from processing.job.outcome import end_of

        if self._outcome is None:
            self._outcome = end_of(self._feed(logs=False, timeout=timeout), self._follower(logs=False))
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

        return Feed(
            self.sagemaker_session,
            [self._target()],
            logs=logs,
            timeout=check_timeout(timeout),
            selection=selection,
            checkpoint=checkpoint,
            ready=ready,
        )

    def _target(self, *, look: bool = True) -> Target:
        """What is known of the job by who watches it.

        Args:
            look: whether its status is to be looked at first, though it is known that it ran a while ago.
        """
        from processing.watching.status.model import Target

        if look or self._ran is None:
            return Target(self.job_name, self._created)
        return Target(self.job_name, self._created, "InProgress", self._ran)

    def _follower(self, *, logs: bool) -> EventHandler:
        from processing.job.outcome import EventHandler
        from processing.watching.render import Renderer

        # How many hosts there are has to be known with the first line, and an ended job's status comes after its lines.
        return EventHandler(Renderer(instance_count=self._instance_count) if logs else None, tails=logs)

    def _ended(self, outcome: Outcome, on_stop: Literal["raise", "return"]) -> ProcessingJob:
        """Take note of how the job ended, and raise what that means."""
        self._outcome = outcome
        error = self._error() if outcome.is_error(stopped=on_stop == "raise") else None
        if error is not None:
            raise error
        return self

    def _error(self, *, read: bool = True) -> JobError | WatchError | None:
        """Return the error that the job's end means, as far as its end was seen.

        Args:
            read: whether its last lines are read where they were not followed.
        """
        from processing.job.outcome import error_of

        if self._outcome is None or not self._outcome.is_error():
            return None
        return error_of(self.sagemaker_session, self.job_name, self._outcome, read=read)

    def _commands(self) -> str:
        """How to attach to the job and how to stop it, from another process."""
        call = f"processing.attach({self.job_name!r}, session={self.sagemaker_session.expression()})"
        return f"  attach: {call}.wait()\n  stop:   {call}.stop()"

    def logs(
        self,
        follow: bool = False,
        *,
        tail: int | None = None,
        since: datetime | timedelta | None = None,
        host: str | int | None = None,
        pattern: str | re.Pattern[str] | None = None,
    ) -> Iterator[LogEvent]:
        """Yield the job's log lines, every one once.

        Args:
            follow: True to go on until the job has ended; lines then come in order of arrival. False gives what is
                there now, ordered by time.
            tail: the last so many of the lines that there are now; with `follow`, those that come later follow.
            since: no line that was written before that moment (without a time zone: of this machine's), or longer ago
                than that.
            host: the lines of one instance alone: `"algo-1"`, or its number.
            pattern: the lines in which this regular expression is found; every line is read all the same.

        Raises:
            ConfigurationError: one of them is not what it has to be.
            WatchError: while iterating with `follow`: the job cannot be watched any more.
        """
        from processing.watching.logs.filters import Selection
        from processing.watching.logs.history import read_all

        session = self.sagemaker_session
        selection = Selection.of(session.clock, since=since, tail=tail, host=host, pattern=pattern)
        if follow:
            return self._followed(selection)
        return read_all(
            session.api,
            self.describe(),
            tail=selection.tail,
            since=selection.since,
            host=selection.host,
            pattern=selection.pattern,
            polling=session.polling,
        )

    def _followed(self, selection: Selection) -> Iterator[LogEvent]:
        from processing.watching.events import LogEvent
        from processing.watching.stream import EventStream

        with EventStream[Any]([self._feed(logs=True, selection=selection)], alone=True) as events:
            yield from (event for event in events if isinstance(event, LogEvent))

    def stop(self) -> None:
        """Ask AWS to stop the job; returns at once. A job that has ended already stays as it is, and is no error."""
        from processing.aws.retry import error_code
        from processing.container.contract import TERMINAL

        try:
            self.sagemaker_session.stop_processing_job(self.job_name)
        except Exception as error:
            # AWS refuses to stop what has ended, and has no error code of its own for it.
            if error_code(error) != "ValidationException" or self.status not in TERMINAL | {"Stopping"}:
                raise

    def __repr__(self) -> str:
        return f"ProcessingJob({self.job_name!r})"


def attach(name: str, session: Any = None) -> ProcessingJob:
    """Return the job of that name, started by whomever and wherever.

    Args:
        name: the job's name, or its ARN.
        session: the `Session` that reaches it. None means AWS, unless the environment has PROCESSING_TARGET=local;
            give a `LocalSession()` for a job of the embedded engine.

    Raises:
        ConfigurationError: there is no such job.
    """
    given: object = name  # not every caller has a type checker
    if not isinstance(given, str) or not re.fullmatch(r"arn:.*|[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", given):
        raise ConfigurationError(f"name: must be a job's name or ARN, not {name!r}")
    target = targets.session_for_attach(session, "session")
    if name.startswith("arn:"):
        return ProcessingJob._at(target, name, "name")  # noqa: SLF001 - of this module
    return ProcessingJob._named(target, name, "name")  # noqa: SLF001 - the same


def start(launch: Launch) -> ProcessingJob:
    """Stage and submit what is about to start, and return the job.

    Raises:
        EngineError: the embedded engine cannot run it here.
        StagingError: an upload failed; nothing was submitted.
        SubmissionError: AWS refused the request.
    """
    submitted, request = launch.submit(), launch.request
    job = ProcessingJob(
        launch.session,
        request.job_name,
        request.inputs,
        request.outputs,
        request.output_kms_key,
        arn=submitted.arn,
        instance_count=request.instance_count,
    )
    job._ran = submitted.since  # noqa: SLF001 - of this module
    return job


def describe_if_exists(session: Session, job_name: str) -> dict[str, Any] | None:
    """Return DescribeProcessingJob's answer, or None where there is no job of that name."""
    from processing.aws.retry import is_not_found

    try:
        return session.describe_processing_job(job_name)
    except Exception as error:
        if is_not_found(error):
            return None
        raise


def _check_region(session: Session, region: str, field: str) -> None:
    if region != session.boto_region_name:
        raise ConfigurationError(
            f"{field}: the job is in {region}, the session in {session.boto_region_name}; "
            f"give a Session(region_name={region!r})"
        )


def _check_on_stop(on_stop: str) -> None:
    if on_stop not in {"raise", "return"}:
        raise ConfigurationError(f"on_stop: must be 'raise' or 'return', not {on_stop!r}")
