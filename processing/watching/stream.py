"""One stream of events: what `wait`, `logs(follow=True)` and the command line all consume."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.exceptions import WaitTimeoutError
from processing.retrying import Kind, RetryPolicy, classify, is_not_found
from processing.watching.events import Event, LogEvent, StatusChanged
from processing.watching.logs import LogReader, LogsComplete, is_settled, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.retrying import RetryingApi
    from processing.watching.policy import Polling

logger = logging.getLogger(__name__)

TERMINAL: Final = frozenset({"Completed", "Failed", "Stopped"})
_ORDER: Final[Mapping[str, int]] = {"InProgress": 0, "Stopping": 1}
_PASSING: Final = frozenset({Kind.THROTTLED, Kind.TRANSIENT, Kind.AMBIGUOUS})
_SHOWN_AFTER = 15.0  # seconds in which a job that was just made may not yet be shown


def watch(
    api: RetryingApi,
    job_name: str,
    *,
    logs: bool,
    polling: Polling,
    deadline: float | None = None,
    since: int | None = None,
) -> Iterator[Event]:
    """Yield what happens to a job until it has ended.

    The job is looked at at once, then at growing intervals. The last value is the `StatusChanged` to the terminal
    status; before it every line has been yielded, in order of arrival. Failures that pass are waited out.

    Args:
        api: the session's calls.
        job_name: the job.
        logs: False for the status alone.
        polling: the intervals.
        deadline: the reading of the API's monotonic clock after which to give up; None for never.
        since: lines with an earlier timestamp (ms since the epoch) are left out; by default those that are older than
            the job, which are of another job that had the name before.

    Raises:
        WaitTimeoutError: the deadline passed; the job goes on.
        botocore.exceptions.ClientError: AWS refused to answer for good, such as for want of permission.
    """
    return _Watcher(api, job_name, logs, polling, deadline, since).events()


class _Watcher:
    """One watch over one job."""

    def __init__(
        self,
        api: RetryingApi,
        job_name: str,
        logs: bool,
        polling: Polling,
        deadline: float | None,
        since: int | None,
    ) -> None:
        self._api = api
        self._job_name = job_name
        self._logs = logs
        self._polling = polling
        self._deadline = deadline
        self._since = since
        self._reader: LogReader | None = None
        self._status: str | None = None
        self._started = api.clock.monotonic()
        self._failing: set[str] = set()

    def events(self) -> Iterator[Event]:
        wait: float | None = None
        while True:
            description = self._describe()
            if description is not None:
                status = description["ProcessingJobStatus"]
                if status in TERMINAL:
                    yield from self._last_lines(description)
                    yield StatusChanged(self._job_name, status, self._status, description)
                    return
                if self._is_news(status):
                    wait = None  # a job that is being stopped has ended soon
                    yield StatusChanged(self._job_name, status, self._status, description)
                    self._status = status
                yield from self._new_lines(description)
            wait = self._polling.after(wait)
            self._sleep(wait)

    def _is_news(self, status: str) -> bool:
        """Return whether a status is a step forward: AWS may answer an old one after a new one."""
        if self._status is None:
            return True
        return status != self._status and _ORDER.get(status, 2) >= _ORDER.get(self._status, 0)

    def _sleep(self, wait: float) -> None:
        clock = self._api.clock
        if self._deadline is not None:
            left = self._deadline - clock.monotonic()
            if left <= 0:
                raise WaitTimeoutError(
                    f"processing job {self._job_name} has not ended in time (status: {self._status or 'not known'}); "
                    "it goes on",
                    job_name=self._job_name,
                )
            wait = min(wait, left)
        clock.sleep(wait)

    def _describe(self) -> dict[str, Any] | None:
        """Return the job's description; None where it cannot be had at the moment."""
        params = {"ProcessingJobName": self._job_name}
        try:
            answer = self._api.call("sagemaker", "DescribeProcessingJob", params, policy=self._policy())
        except Exception as error:
            young = self._api.clock.monotonic() - self._started < _SHOWN_AFTER
            if is_not_found(error) and self._status is None and young:
                return None
            if not self._passes("status", error):
                raise
            return None
        self._failing.discard("status")
        return answer

    def _new_lines(self, description: Mapping[str, Any]) -> Iterator[LogEvent]:
        if not self._logs:
            return
        try:
            yield from _lines(self._reader_of(description).poll())
        except Exception as error:
            if not self._passes("log lines", error):
                raise
        else:
            self._failing.discard("log lines")

    def _last_lines(self, description: Mapping[str, Any]) -> Iterator[LogEvent]:
        if not self._logs:
            return
        self._deadline = None  # the job has ended in time; its last lines are bounded by the settle limit
        reader = self._reader_of(description)
        ended = description.get("ProcessingEndTime")
        settled = is_settled(self._api, description)
        reader.ended(self._job_name, ended_at=ended.timestamp() if ended else None, settled=settled)
        while (due := reader.due) is not None:
            self._api.clock.sleep(due - self._api.clock.monotonic())
            yield from _lines(reader.poll())

    def _reader_of(self, description: Mapping[str, Any]) -> LogReader:
        if self._reader is None:
            since = milliseconds(description["CreationTime"]) if self._since is None else self._since
            self._reader = LogReader(self._api, self._polling, policy=self._policy)
            self._reader.add(self._job_name, since)
        return self._reader

    def _policy(self) -> RetryPolicy:
        """Return the API's policy, cut to the time that is left."""
        policy = self._api.policy
        if self._deadline is None:
            return policy
        left = max(0.0, self._deadline - self._api.clock.monotonic())
        return attrs.evolve(policy, budget=min(policy.budget, left))

    def _passes(self, what: str, error: Exception) -> bool:
        """Return whether a failure is worth waiting out, and say so once for each time that it begins."""
        passes = classify(error) in _PASSING
        if passes and what not in self._failing:
            self._failing.add(what)
            logger.warning("the %s of %s cannot be read at the moment, still trying: %s", what, self._job_name, error)
        return passes


def _lines(items: Iterator[LogEvent | LogsComplete]) -> Iterator[LogEvent]:
    return (item for item in items if isinstance(item, LogEvent))
