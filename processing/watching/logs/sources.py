"""Sources of log lines: the two ways to read CloudWatch Logs a page at a time, and the choice between them.

FilterLogEvents reads all streams of a prefix in one call, ordered by time, each line with an id. Not every user has the
permission for it. GetLogEvents needs a more common one, reads one stream, and returns no ids, so they are made here.
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final, TypeAlias

import attrs

from processing.aws.retry import error_code, is_denied
from processing.container.contract import LOG_GROUP
from processing.watching.logs.job_groups import Sweep, stream_prefix
from processing.watching.logs.page import Page, Record

logger = logging.getLogger(__name__)

CallOperation: TypeAlias = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Calls an operation of CloudWatch Logs with retries: takes its name and parameters, returns the response."""

# The number of responses in a row with the same token after which a sweep is over. A service that repeats its token
# does not prolong a sweep forever.
_MAX_REPEATED_TOKENS: Final = 10


class FilterLogEventsSource:
    """Reads all streams of a prefix at once; the lines of a sweep are ordered by time.

    Args:
        call: calls an operation of CloudWatch Logs.

    Attributes:
        is_absent: whether the log group did not exist at the last read.
    """

    # Checkpoints contain this name, so it stays the same if the class is renamed.
    name: ClassVar = "FilteredSource"

    def __init__(self, call: CallOperation) -> None:
        self.is_absent = False
        self._call = call

    def pages(self, prefix: str, start: int) -> Iterator[Page]:
        """Yield the lines of all streams in pages.

        Args:
            prefix: the beginning of the streams' names.
            start: the earliest timestamp to read (ms since the epoch).
        """
        token: str | None = None
        repeated, reached = 0, start
        restarted_at = -1  # how far the sweep had come when it last started again
        while True:
            params = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": prefix, "startTime": start}
            try:
                response = self._call("FilterLogEvents", {**params, **_token(token)})
            except Exception as error:
                self.is_absent = _is_absent(error)
                if self.is_absent:
                    return
                if token is None or not _is_stale(error) or restarted_at == reached:
                    raise
                # The token was too old: continue from the last line that was read.
                token, start, restarted_at = None, reached, reached
                continue
            self.is_absent = False
            events = response["events"]
            page = events if isinstance(events, Page) else Page(records=events)
            yield page
            reached = max(reached, page.last or reached)
            next_token = response.get("nextToken")
            repeated = repeated + 1 if next_token == token else 0
            # Only a missing token is the end: a page may be empty before it.
            if next_token is None or repeated >= _MAX_REPEATED_TOKENS:
                return
            token = next_token


@attrs.define
class _Position:
    """A position in a stream.

    Args:
        token: the token of the next page; None at the stream's head.
        timestamp: the timestamp of the last line.
        equal_lines: of that millisecond, how often each line occurred, by time of arrival and text.
    """

    token: str | None = None
    timestamp: int = -1
    equal_lines: Counter[tuple[int, str]] = attrs.Factory(Counter)

    def identify(self, stream: str, event: Mapping[str, Any]) -> str:
        """Return an identity for the next line.

        It is the same each time the stream is read, and two equal lines get different ones. A stream is read in the
        order of timestamps, so it is enough to count the equal lines of one millisecond.
        """
        if event["timestamp"] != self.timestamp:
            self.timestamp = event["timestamp"]
            self.equal_lines.clear()
        key = (event.get("ingestionTime", 0), event["message"])
        self.equal_lines[key] += 1
        return "/".join(map(str, (stream, self.timestamp, *key, self.equal_lines[key])))


class GetLogEventsSource:
    """Reads one stream after the other, each until its token repeats itself.

    Args:
        call: calls an operation of CloudWatch Logs.

    Attributes:
        is_absent: whether the log group did not exist at the last read.
    """

    # Checkpoints contain this name, so it stays the same if the class is renamed.
    name: ClassVar = "StreamsSource"

    def __init__(self, call: CallOperation) -> None:
        self.is_absent = False
        self._call = call
        self._positions: dict[str, _Position] = {}

    def pages(self, prefix: str, start: int, *, from_head: bool) -> Iterator[Page]:
        """Yield the lines that follow those read before, in pages.

        Args:
            prefix: the beginning of the streams' names.
            start: the earliest timestamp to read (ms since the epoch). It belongs to the token, so it stays the same in
                all calls that continue.
            from_head: True to begin at the head of every stream again.
        """
        for stream in list(self._streams(prefix)):
            if from_head:
                self._positions.pop(stream, None)
            position = self._positions.setdefault(stream, _Position())
            yield from self._stream_pages(stream, position, start)

    def forget(self, prefix: str) -> None:
        """Delete the positions of streams that are not read any more."""
        for stream in [name for name in self._positions if name.startswith(prefix)]:
            del self._positions[stream]

    def _streams(self, prefix: str) -> Iterator[str]:
        token: str | None = None
        while True:
            params = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": prefix}
            try:
                response = self._call("DescribeLogStreams", {**params, **_token(token)})
            except Exception as error:
                self.is_absent = _is_absent(error)
                if self.is_absent:
                    return
                raise
            self.is_absent = False
            yield from (stream["logStreamName"] for stream in response["logStreams"])
            token = response.get("nextToken")
            if token is None:
                return

    def _stream_pages(self, stream: str, position: _Position, start: int) -> Iterator[Page]:
        restarted = False
        while True:
            params = {"logGroupName": LOG_GROUP, "logStreamName": stream, "startTime": start, "startFromHead": True}
            try:
                response = self._call("GetLogEvents", {**params, **_token(position.token)})
            except Exception as error:
                if _is_absent(error):
                    return
                if position.token is None or not _is_stale(error) or restarted:
                    raise
                restarted = True
                self._positions[stream] = position = _Position()
                continue
            reached = attrs.evolve(
                position, token=response["nextForwardToken"], equal_lines=Counter(position.equal_lines)
            )
            yield Page(records=[_identified(stream, event, reached) for event in response["events"]])
            at_end = reached.token == position.token
            # Not before the page was consumed: a page that was interrupted is read again.
            self._positions[stream] = position = reached
            if at_end:
                return


class LogSource:
    """The source in use: FilterLogEvents first, GetLogEvents if that is denied, and none if both are.

    Args:
        call: calls an operation of CloudWatch Logs.
        host: the host whose lines are read; None for all hosts.
    """

    def __init__(self, call: CallOperation, host: str | None) -> None:
        self._call = call
        self._host = host
        self._current: FilterLogEventsSource | GetLogEventsSource | None = FilterLogEventsSource(call)

    @property
    def name(self) -> str:
        """The name of the source in use; the ids of its lines differ from those of another source."""
        return self._current.name if self._current else ""

    @property
    def is_absent(self) -> bool:
        """True if the log group did not exist at the last read. The first line of any job creates it."""
        return self._current is not None and self._current.is_absent

    @property
    def is_readable(self) -> bool:
        """True if logs can be read at all."""
        return self._current is not None

    @property
    def reads_prefixes(self) -> bool:
        """True if one call reads the streams of several jobs."""
        return isinstance(self._current, FilterLogEventsSource)

    @property
    def is_ordered(self) -> bool:
        """True if a sweep delivers its lines in the order of time."""
        return not isinstance(self._current, GetLogEventsSource)

    def pages(self, sweep: Sweep) -> Iterator[Page]:
        """Yield the lines of a sweep in pages."""
        if isinstance(self._current, FilterLogEventsSource):
            yield from self._current.pages(stream_prefix(sweep.jobs, self._host), sweep.start)
        elif self._current:
            # Stream by stream a common prefix would be no gain: other jobs' streams have it too, and each costs a call.
            for job in sweep.jobs:
                start = job.since if sweep.group else sweep.start
                from_head = sweep.whole or not sweep.group
                yield from self._current.pages(stream_prefix([job], self._host), start, from_head=from_head)

    def fall_back(self, error: Exception) -> bool:
        """Use GetLogEvents from now on if FilterLogEvents is denied, and return whether that is so.

        Args:
            error: how reading failed.
        """
        if not is_denied(error) or not self.reads_prefixes:
            return False
        logger.info("FilterLogEvents is not allowed (%s); reading stream by stream", error)
        self._current = GetLogEventsSource(self._call)
        return True

    def give_up(self) -> None:
        """Read nothing any more."""
        self._current = None

    def forget(self, job_name: str) -> None:
        """Delete the positions in the streams of a job that is not read any more."""
        if isinstance(self._current, GetLogEventsSource):
            self._current.forget(f"{job_name}/")


def _is_absent(error: BaseException) -> bool:
    """Return whether the log group or the stream does not exist yet: the first line creates it."""
    return error_code(error) == "ResourceNotFoundException"


def _is_stale(error: BaseException) -> bool:
    """Return whether a token was refused; tokens expire after 24 hours."""
    return error_code(error) == "InvalidParameterException"


def _token(token: str | None) -> dict[str, str]:
    return {} if token is None else {"nextToken": token}


def _identified(stream: str, event: Mapping[str, Any], position: _Position) -> Record:
    return {**event, "logStreamName": stream, "identity": position.identify(stream, event)}
