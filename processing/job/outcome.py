"""The outcome of a job: its events are handled until its end, and a failure becomes an error with the last lines."""

from __future__ import annotations

import collections
import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils.validation import TIMEOUT, require
from processing.container.contract import TERMINAL
from processing.container.exit_codes import explain_reason
from processing.exceptions import CapacityError, JobFailedError, JobStoppedError
from processing.request.capacity import capacity_advice
from processing.watching.checkpoint import Checkpoint
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.filters import time_order
from processing.watching.logs.history import read_all
from processing.watching.status.model import Lost
from processing.watching.stream import Idle, drive, timeout_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from processing.exceptions import WatchError
    from processing.session.session import Session
    from processing.watching.events import LogEvent, StatusChanged
    from processing.watching.feed import Feed
    from processing.watching.logs.batch import RawLine
    from processing.watching.render.log_lines import Renderer
    from processing.watching.render.run_display import RunDisplay

logger = logging.getLogger(__name__)

TAIL: Final = 20
"""The number of log lines in an error: enough for a usual traceback and the lines before it."""

_READ_HOSTS: Final = 3
"""The number of hosts whose last lines are read for one error: each takes calls of its own."""
_HOST: Final = re.compile(r"(?<![\w-])algo-\d+(?!\w)")
_FAILED_HOST: Final = re.compile(r"host: (algo-\d+)$")
"""The end of a FailureReason that names the host, as the engine writes it."""

# The last lines are an extra: calls for them are retried this long, in seconds, and then the error comes without them.
_PATIENCE: Final = 10.0


@attrs.frozen
class Outcome:
    """The end of a job, or of the watch over it.

    Args:
        description: the answer of DescribeProcessingJob, or the summary by ListProcessingJobs, with the terminal
            status. Empty if the watch ended before the job.
        tail: the job's last lines; None if its lines were not followed.
        lost: the error that ended the watch before the job; None otherwise.
    """

    description: Mapping[str, Any]
    tail: tuple[LogEvent, ...] | None = None
    lost: WatchError | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any], tail: tuple[LogEvent, ...] | None = None) -> Outcome:
        """Return the outcome of a job whose description has a terminal status."""
        status = description["ProcessingJobStatus"]
        # Ten thousand descriptions take memory, and nothing reads the rest of a completed job's.
        return cls({"ProcessingJobStatus": status} if status == "Completed" else description, tail)

    def is_error(self, *, stopped: bool = True) -> bool:
        """Return whether the job did not complete.

        Args:
            stopped: False if a stopped job is not an error.
        """
        status = self.description.get("ProcessingJobStatus")
        return self.lost is not None or status == "Failed" or (stopped and status == "Stopped")


class EventHandler:
    """Consumer of the events of jobs: shows lines, and determines how each job ended.

    Use it as a context manager: leaving it writes the lines that a slow output has not accepted yet.

    Args:
        renderer: shows the lines; None if they are not shown.
        keep_tails: True if lines are followed; the last ones of each job are then kept for its error.
        display: shows the run; None shows nothing of it.
    """

    def __init__(self, renderer: Renderer | None, *, keep_tails: bool, display: RunDisplay | None = None) -> None:
        self._renderer = renderer
        self._display = display
        self._tails: dict[tuple[Feed, str], _LastLines] | None = {} if keep_tails else None

    def __enter__(self) -> EventHandler:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the buffered lines; after an interrupt or a timeout, do not wait for a slow output."""
        self.close(patient=kind is None)

    def close(self, *, patient: bool = True) -> None:
        """Write the lines that are buffered for a slow output.

        Args:
            patient: False to write only as much as the output accepts at once.
        """
        if self._renderer is not None:
            self._renderer.flush(patient=patient)
        if self._display is not None:
            self._display.close()

    def ready(self) -> bool:
        """Write as many lines as the output accepts, and return whether it accepts more."""
        if self._display is not None:
            self._display.refresh()
        return self._renderer is None or self._renderer.ready()

    def handle(self, feed: Feed, event: StatusChanged | LogBatch | Lost) -> Outcome | None:
        """Handle one event of a feed, and return the job's outcome if the event ends it."""
        if isinstance(event, LogBatch):
            self._handle_lines(feed, event)
            return None
        job = (feed, event.job_name)
        if isinstance(event, Lost):
            return Outcome({}, self._last(job, {}), event.error)
        ended = event.status in TERMINAL
        if self._renderer is not None:
            self._renderer.show(event)
        if self._display is not None:
            if ended and self._renderer is not None:
                self._renderer.ready()  # the lines come before the end, unless the output is slow
            self._display.show_event(event)
        return Outcome.of(event.description, self._last(job, event.description)) if ended else None

    def _handle_lines(self, feed: Feed, lines: LogBatch) -> None:
        if self._display is not None:
            self._display.show_lines()
        if self._renderer is not None:
            self._renderer.show(lines)
        if self._tails is not None:
            for job_name, last in lines.last(TAIL).items():
                if (feed, job_name) not in self._tails:
                    self._tails[feed, job_name] = _LastLines()
                self._tails[feed, job_name].extend(last)

    def _last(self, job: tuple[Feed, str], description: Mapping[str, Any]) -> tuple[LogEvent, ...] | None:
        if self._tails is None:
            return None
        return self._tails.pop(job, _LastLines()).events(job[1], failed_hosts(description))


class _LastLines:
    """The last lines of a job, of each host and of all. Their events are created for an error only.

    Hosts that are stopped after a failure may write a lot, and must not drive out the lines of the host that failed.
    """

    def __init__(self) -> None:
        self._all: collections.deque[RawLine] = collections.deque(maxlen=TAIL)
        self._by_host: dict[str, collections.deque[RawLine]] = {}

    def extend(self, lines: Sequence[RawLine]) -> None:
        """Add the job's next lines."""
        self._all.extend(lines)
        for line in lines:
            if line.host not in self._by_host:
                self._by_host[line.host] = collections.deque(maxlen=TAIL)
            self._by_host[line.host].append(line)

    def events(self, job_name: str, hosts: Sequence[str]) -> tuple[LogEvent, ...]:
        """Return the last lines of certain hosts; of all hosts if these wrote nothing."""
        lines = [line for host in hosts for line in self._by_host.get(host, ())] or self._all
        events = [line.event(job_name) for line in lines]
        return tuple(sorted(events, key=time_order)[-TAIL:] if len(hosts) > 1 else events)


def failed_hosts(description: Mapping[str, Any]) -> list[str]:
    """Return the hosts that a job's FailureReason names, such as `algo-1`."""
    reason = description.get("FailureReason") or ""
    named = _FAILED_HOST.search(reason)
    return [named[1]] if named else sorted(set(_HOST.findall(reason)))


def follow_to_end(feed: Feed, handler: EventHandler) -> Outcome:
    """Handle the events of one job until its end, and return its outcome.

    Raises:
        WaitTimeoutError: the feed's time is up.
    """
    outcome: Outcome | None = None
    with handler, contextlib.closing(drive([feed])) as items:
        for item in items:
            if isinstance(item, Idle):
                handler.ready()
            else:
                outcome = handler.handle(item.feed, item.event) or outcome
        return _outcome_in_time(outcome, feed)


async def follow_to_end_async(feed: Feed, handler: EventHandler) -> Outcome:
    """Do the same as `follow_to_end` in a coroutine."""
    from processing.watching.aio import drive_async, in_thread

    outcome: Outcome | None = None
    async with contextlib.aclosing(drive_async([feed])) as items:
        async for item in items:
            if isinstance(item, Idle):
                handler.ready()
            else:
                outcome = handler.handle(item.feed, item.event) or outcome

    def finished() -> Outcome:
        with handler:
            return _outcome_in_time(outcome, feed)

    return await in_thread(finished)


def _outcome_in_time(outcome: Outcome | None, feed: Feed) -> Outcome:
    if error := timeout_error([feed]):
        raise error
    assert outcome is not None
    return outcome


def error_of(
    session: Session, job_name: str, outcome: Outcome, *, read: bool = True
) -> JobFailedError | JobStoppedError | WatchError:
    """Return the error of a job's outcome, for which `Outcome.is_error` is true.

    Args:
        session: the session that reaches the job.
        job_name: the job's name.
        outcome: the job's outcome.
        read: True to read the last lines if they were not followed.
    """
    if outcome.lost is not None:
        return outcome.lost
    lines: Sequence[LogEvent] | None = outcome.tail
    if lines is None and read:
        lines = _last_lines(session, job_name, outcome.description)
    return job_error(job_name, outcome.description, _texts(lines or (), outcome.description))


def job_error(job_name: str, description: Mapping[str, Any], tail: Sequence[str]) -> JobFailedError | JobStoppedError:
    """Return the error of a job that failed or was stopped.

    Args:
        job_name: the job's name.
        description: the job's description with its terminal status, and the reason if there is one.
        tail: the job's last lines.
    """
    status = description["ProcessingJobStatus"]
    reason = description.get("FailureReason")
    exit_message = description.get("ExitMessage")
    # Further lines of a job's own texts are indented, so that they are not taken for lines of this package.
    parts = [f"processing job {job_name}: {status}" + (f": {_indented(reason)}" if reason else "")]
    if explanation := explain_reason(reason or ""):
        parts.append(explanation)
    kind: type[JobFailedError | JobStoppedError] = JobStoppedError
    if status == "Failed":
        kind = CapacityError if "CapacityError" in (reason or "") else JobFailedError
    if kind is CapacityError:
        parts.append(capacity_advice(description))
    if exit_message:
        parts.append(f"exit message: {_indented(exit_message)}")
    if tail:
        shown = (_indented(line.rstrip("\r\n")) for line in tail)
        parts.append("last log lines:\n  " + "\n  ".join(shown))
    return kind(
        "\n".join(parts),
        job_name=job_name,
        status=status,
        failure_reason=reason,
        exit_message=exit_message,
        log_tail=tail,
    )


def _indented(text: str) -> str:
    return text.replace("\n", "\n  ")


def warn_of_empty_outputs(session: Session, job_name: str, outcome: Outcome) -> None:
    """Log one warning that names the outputs of a completed job without files, if the session knows them."""
    if outcome.description.get("ProcessingJobStatus") != "Completed":
        return
    empty = session.empty_outputs(job_name)
    if empty:
        named = ", ".join(empty)
        subject = f"the output {named} is" if len(empty) == 1 else f"the outputs {named} are"
        logger.warning("processing job %s: %s empty: the job wrote no file there", job_name, subject)


def check_timeout(timeout: float | None) -> float | None:
    """Return a timeout unchanged.

    Raises:
        ConfigurationError: it is not a number of seconds.
    """
    require("timeout", timeout, TIMEOUT, optional=True)
    return timeout


def read_checkpoint(checkpoint: Checkpoint | str | None) -> Checkpoint | None:
    """Return a checkpoint from itself or from its text.

    Raises:
        ConfigurationError: the text is not a checkpoint.
    """
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return checkpoint
    return Checkpoint.from_json(checkpoint)


def _last_lines(session: Session, job_name: str, description: Mapping[str, Any]) -> Sequence[LogEvent]:
    """Return the last log lines for an error; none if they cannot be read."""
    hosts = failed_hosts(description)[:_READ_HOSTS]
    try:
        lines = [line for host in hosts for line in _read_last(session, job_name, description, host)]
        return sorted(lines, key=time_order)[-TAIL:] or _read_last(session, job_name, description, None)
    except Exception as error:  # noqa: BLE001 - the job's failure must not be hidden by this one
        logger.warning("the logs of %s could not be read: %s", job_name, error)
        return []


def _read_last(session: Session, job_name: str, description: Mapping[str, Any], host: str | None) -> list[LogEvent]:
    polling = session.polling
    lines = read_all(
        session.api, job_name, description, TAIL, host=host, polling=polling, complete=True, patience=_PATIENCE
    )
    return list(lines)


def _instance_count(description: Mapping[str, Any]) -> int:
    cluster = description.get("ProcessingResources", {}).get("ClusterConfig", {})
    count: int = cluster.get("SelectedInstanceCount") or cluster.get("InstanceCount") or 1
    return count


def _texts(lines: Iterable[LogEvent], description: Mapping[str, Any]) -> list[str]:
    """Return the lines as texts, with the host in front if the job has more than one."""
    lines = tuple(lines)
    several = _instance_count(description) > 1 or len({line.host for line in lines}) > 1
    return [f"[{line.host}] {line.message}" if several else line.message for line in lines]
