"""The two ways of reading a job's lines from CloudWatch Logs, a page at a time.

FilterLogEvents reads all streams of a job in one call, ordered by time, each line with an id. It needs a permission
that not everybody has; GetLogEvents, which does with less, reads one stream and gives no ids, so they are made here.
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol, TypeAlias

import attrs

from processing.retrying import error_code

LOG_GROUP: Final = "/aws/sagemaker/ProcessingJobs"

Call: TypeAlias = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Calls one operation of CloudWatch Logs with retries: operation, parameters, answer."""

_SAME_TOKEN = 10  # answers in a row with the same token after which a sweep is taken to be at its end


@attrs.frozen
class Line:
    """One line as CloudWatch answered it; the members are those of `LogEvent`."""

    stream: str
    timestamp: int
    ingestion_time: int
    event_id: str
    identity: str
    message: str


class Source(Protocol):
    """Reads a job's lines."""

    ordered: bool
    """Whether one sweep over everything is ordered by time."""

    def pages(self, start: int, *, whole: bool) -> Iterator[list[Line]]:
        """Yield the lines from `start` (ms since the epoch) on, in pages.

        Args:
            start: lines with an earlier timestamp are left out.
            whole: False where it is enough to go on from where the last sweep ended.
        """


class FilteredSource:
    """All streams of a job at once, by the prefix of their names."""

    ordered = True

    def __init__(self, call: Call, job_name: str) -> None:
        self._call = call
        self._prefix = f"{job_name}/"

    def pages(self, start: int, *, whole: bool) -> Iterator[list[Line]]:
        """Yield the lines from `start` on; every sweep stands for itself."""
        del whole
        token: str | None = None
        repeated, reached = 0, start
        restarted = -1  # how far the sweep had come when it last began anew
        while True:
            params = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": self._prefix, "startTime": start}
            try:
                answer = self._call("FilterLogEvents", {**params, **_token(token)})
            except Exception as error:
                if _is_absent(error):
                    return
                if token is None or not _is_stale(error) or restarted == reached:
                    raise
                token, start, restarted = None, reached, reached  # it was too old: on from the last line that was read
                continue
            page = [_line(event) for event in answer["events"]]
            yield page
            reached = max([reached, *(line.timestamp for line in page)])
            following = answer.get("nextToken")
            repeated = repeated + 1 if following == token else 0
            if following is None or repeated >= _SAME_TOKEN:  # an empty page is not the end
                return
            token = following


@attrs.define
class _Position:
    """How far a stream has been read."""

    token: str | None = None
    timestamp: int = -1
    alike: Counter[tuple[int, str]] = attrs.Factory(Counter)

    def identify(self, stream: str, event: Mapping[str, Any]) -> str:
        """Return an identity for a line: the same at every reading, another one for each of two equal lines.

        A stream is read in the order of timestamps, so equal lines stand near each other, and counting those of one
        millisecond is enough.
        """
        if event["timestamp"] != self.timestamp:
            self.timestamp = event["timestamp"]
            self.alike.clear()
        key = (event.get("ingestionTime", 0), event["message"])
        self.alike[key] += 1
        return "/".join(map(str, (stream, self.timestamp, *key, self.alike[key])))


class StreamsSource:
    """One stream after the other, each to the token that repeats itself."""

    ordered = False

    def __init__(self, call: Call, job_name: str) -> None:
        self._call = call
        self._prefix = f"{job_name}/"
        self._positions: dict[str, _Position] = {}
        self._since: int | None = None

    def pages(self, start: int, *, whole: bool) -> Iterator[list[Line]]:
        """Yield the lines that follow those read before; `whole` begins at the head of every stream again."""
        if whole or self._since is None:
            self._positions.clear()
            self._since = start
        for stream in list(self._streams()):
            position = self._positions.setdefault(stream, _Position())
            yield from self._stream_pages(stream, position, self._since)

    def _streams(self) -> Iterator[str]:
        token: str | None = None
        while True:
            params = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": self._prefix}
            try:
                answer = self._call("DescribeLogStreams", {**params, **_token(token)})
            except Exception as error:
                if _is_absent(error):
                    return
                raise
            yield from (stream["logStreamName"] for stream in answer["logStreams"])
            token = answer.get("nextToken")
            if token is None:
                return

    def _stream_pages(self, stream: str, position: _Position, start: int) -> Iterator[list[Line]]:
        restarted = False
        while True:
            params = {"logGroupName": LOG_GROUP, "logStreamName": stream, "startTime": start, "startFromHead": True}
            try:
                answer = self._call("GetLogEvents", {**params, **_token(position.token)})
            except Exception as error:
                if _is_absent(error):
                    return
                if position.token is None or not _is_stale(error) or restarted:
                    raise
                restarted = True
                self._positions[stream] = position = _Position()
                continue
            yield [_line({**event, "logStreamName": stream}, position) for event in answer["events"]]
            at_end = answer["nextForwardToken"] == position.token
            position.token = answer["nextForwardToken"]
            if at_end:
                return


def is_denied(error: BaseException) -> bool:
    """Return whether the caller lacks the permission."""
    return error_code(error) in {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}


def _is_absent(error: BaseException) -> bool:
    """Return whether the group or the stream is not there yet: they are made with the first line."""
    return error_code(error) == "ResourceNotFoundException"


def _is_stale(error: BaseException) -> bool:
    return error_code(error) == "InvalidParameterException"  # tokens are good for 24 hours


def _token(token: str | None) -> dict[str, str]:
    return {} if token is None else {"nextToken": token}


def _line(event: Mapping[str, Any], position: _Position | None = None) -> Line:
    event_id = event.get("eventId", "")
    stream = event["logStreamName"]
    return Line(
        stream=stream,
        timestamp=event["timestamp"],
        ingestion_time=event.get("ingestionTime", event["timestamp"]),
        event_id=event_id,
        identity=position.identify(stream, event) if position else event_id,
        message=event["message"],
    )
