"""What a wait makes of a job's events: lines to show, the last of them kept, and the error that a job's end means."""

from __future__ import annotations

import collections
import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.contract import TERMINAL
from processing.exceptions import CapacityError, ConfigurationError, JobFailedError, JobStoppedError
from processing.request.capacity import capacity_advice
from processing.watching.checkpoint import Checkpoint
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.history import read_all
from processing.watching.status.model import Lost
from processing.watching.stream import Idle, drive, timeout_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from processing.exceptions import WatchError
    from processing.session.session import Session
    from processing.watching.events import LogEvent, StatusChanged
    from processing.watching.feed import Feed
    from processing.watching.render import Renderer

logger = logging.getLogger(__name__)

TAIL: Final = 20
"""The number of log lines that an error carries: a traceback and what led to it."""

_PATIENCE: Final = 10.0  # seconds for which calls for the last lines of an error are tried again


@attrs.frozen
class Outcome:
    """How the watch over a job ended.

    Args:
        description: what said that it had ended: DescribeProcessingJob's answer, or the summary of
            ListProcessingJobs. Empty where nobody did.
        tail: its last lines, where they were followed.
        lost: why it cannot be watched any more, where it is so.
    """

    description: Mapping[str, Any]
    tail: tuple[LogEvent, ...] | None = None
    lost: WatchError | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any], tail: tuple[LogEvent, ...] | None = None) -> Outcome:
        """Return how a job ended that is described, or listed, with a terminal status."""
        status = description["ProcessingJobStatus"]
        # Of ten thousand jobs that completed not everything is kept.
        return cls({"ProcessingJobStatus": status} if status == "Completed" else description, tail)

    def is_error(self, *, stopped: bool = True) -> bool:
        """Return whether the job did not complete.

        Args:
            stopped: False where a stopped job is no error.
        """
        status = self.description.get("ProcessingJobStatus")
        return self.lost is not None or status == "Failed" or (stopped and status == "Stopped")


class EventHandler:
    """Takes the events of jobs as they come, and says how each job ended. Leave it as a context manager.

    Args:
        renderer: shows the lines; None where they are not shown.
        tails: whether lines are followed, and the last ones kept for an error.
    """

    def __init__(self, renderer: Renderer | None, *, tails: bool) -> None:
        self._renderer = renderer
        self._tails: dict[tuple[Feed, str], collections.deque[LogEvent]] | None = {} if tails else None

    def __enter__(self) -> EventHandler:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write what was kept for a slow output; who is interrupted, or has no time left, does not wait for it."""
        self.close(patient=kind is None)

    def close(self, *, patient: bool = True) -> None:
        """Write what was kept for a slow output, waiting for it or not."""
        if self._renderer is not None:
            self._renderer.flush(patient=patient)

    def ready(self) -> bool:
        """Write what the output can take, and return whether it can take more lines."""
        return self._renderer is None or self._renderer.ready()

    def take(self, feed: Feed, event: StatusChanged | LogBatch | Lost) -> Outcome | None:
        """Take what a feed tells; the answer is how a job ended, and None as long as it has not."""
        if isinstance(event, LogBatch):
            if self._renderer is not None:
                self._renderer.show(event)
            if self._tails is not None:
                for line in event.last(TAIL):
                    self._tails.setdefault((feed, line.job_name), collections.deque(maxlen=TAIL)).append(line)
            return None
        job = (feed, event.job_name)
        if isinstance(event, Lost):
            return Outcome({}, self._last(job), event.error)
        if self._renderer is not None:
            self._renderer.show(event)
        if event.status not in TERMINAL:
            return None
        return Outcome.of(event.description, self._last(job))

    def _last(self, job: tuple[Feed, str]) -> tuple[LogEvent, ...] | None:
        return None if self._tails is None else tuple(self._tails.pop(job, ()))


def end_of(feed: Feed, follower: EventHandler) -> Outcome:
    """Follow a feed of one job to its end, and return how that was.

    Raises:
        WaitTimeoutError: the time is up.
    """
    outcome: Outcome | None = None
    with follower, contextlib.closing(drive([feed])) as items:
        for item in items:
            if isinstance(item, Idle):
                follower.ready()
            else:
                outcome = follower.take(item.feed, item.event) or outcome
        return _checked(outcome, feed)


async def end_of_async(feed: Feed, follower: EventHandler) -> Outcome:
    """Do the same as `end_of` in a coroutine."""
    from processing.watching.aio import drive_async, in_thread

    outcome: Outcome | None = None
    async with contextlib.aclosing(drive_async([feed])) as items:
        async for item in items:
            if isinstance(item, Idle):
                follower.ready()
            else:
                outcome = follower.take(item.feed, item.event) or outcome

    def finished() -> Outcome:
        with follower:
            return _checked(outcome, feed)

    return await in_thread(finished)


def _checked(outcome: Outcome | None, feed: Feed) -> Outcome:
    if error := timeout_error([feed]):
        raise error
    assert outcome is not None
    return outcome


def error_of(
    session: Session, job_name: str, outcome: Outcome, *, read: bool = True
) -> JobFailedError | JobStoppedError | WatchError:
    """Return the error that a job's end means; it is one by `Outcome.is_error`.

    Args:
        session: where the job is.
        job_name: the job.
        outcome: how it ended.
        read: whether its last lines are read, where they were not followed.
    """
    if outcome.lost is not None:
        return outcome.lost
    lines: Sequence[LogEvent] | None = outcome.tail
    if lines is None and read:
        lines = _last_lines(session, job_name, outcome.description)
    return job_error(job_name, outcome.description, _texts(lines or (), outcome.description))


def job_error(job_name: str, description: Mapping[str, Any], tail: Sequence[str]) -> JobFailedError | JobStoppedError:
    """Return the error of a job that failed or was stopped, with everything that is known of why."""
    status = description["ProcessingJobStatus"]
    reason = description.get("FailureReason")
    exit_message = description.get("ExitMessage")
    parts = [f"processing job {job_name}: {status}" + (f": {reason}" if reason else "")]
    kind: type[JobFailedError | JobStoppedError] = JobStoppedError
    if status == "Failed":
        kind = CapacityError if "CapacityError" in (reason or "") else JobFailedError
    if kind is CapacityError:
        parts.append(capacity_advice(description))
    if exit_message:
        parts.append(f"exit message: {exit_message}")
    if tail:
        parts.append("last log lines:\n  " + "\n  ".join(tail))
    return kind(
        "\n".join(parts),
        job_name=job_name,
        status=status,
        failure_reason=reason,
        exit_message=exit_message,
        log_tail=tail,
    )


def check_timeout(timeout: float | None) -> float | None:
    """Return a timeout as it was given.

    Raises:
        ConfigurationError: it is no number of seconds.
    """
    given: object = timeout  # not every caller has a type checker
    if given is None or (isinstance(given, (int, float)) and not isinstance(given, bool) and not math.isnan(given)):
        return timeout
    raise ConfigurationError(f"timeout: must be a number of seconds, not {timeout!r}")


def read_checkpoint(given: Checkpoint | str | None) -> Checkpoint | None:
    """Return a checkpoint, also where its text was given.

    Raises:
        ConfigurationError: it is none.
    """
    if given is None or isinstance(given, Checkpoint):
        return given
    return Checkpoint.from_json(given)


def _last_lines(session: Session, job_name: str, description: Mapping[str, Any]) -> Sequence[LogEvent]:
    """The last log lines, for an error; an error without them is better than another error in its place."""
    try:
        polling = session.polling
        return list(read_all(session.api, description, TAIL, polling=polling, complete=True, patience=_PATIENCE))
    except Exception as error:  # noqa: BLE001 - whatever it is, the job's own failure is the news
        logger.warning("the logs of %s could not be read: %s", job_name, error)
        return []


def _texts(lines: Iterable[LogEvent], description: Mapping[str, Any]) -> list[str]:
    """Return lines as texts, with the host in front where the job has more than one."""
    lines = tuple(lines)
    cluster = description.get("ProcessingResources", {}).get("ClusterConfig", {})
    several = cluster.get("InstanceCount", 1) > 1 or len({line.host for line in lines}) > 1
    return [f"[{line.host}] {line.message}" if several else line.message for line in lines]
