"""The two ways of reading lines from CloudWatch Logs, a page at a time.

FilterLogEvents reads all streams of a prefix in one call, ordered by time, each line with an id. It needs a permission
that not everybody has; GetLogEvents, which does with less, reads one stream and gives no ids, so they are made here.
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_GetLogEvents.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs

from processing.aws.retry import error_code
from processing.container.contract import LOG_GROUP
from processing.watching.logs.page import Page, Record

Call: TypeAlias = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Calls one operation of CloudWatch Logs with retries: operation, parameters, answer."""

_SAME_TOKEN = 10  # answers in a row with the same token after which a sweep is taken to be at its end


class FilterLogEventsSource:
    """All streams at once, by the prefix of their names; a sweep is ordered by time."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def pages(self, prefix: str, start: int) -> Iterator[Page]:
        """Yield lines in pages; every sweep stands for itself.

        Args:
            prefix: what the names of the streams begin with.
            start: lines with an earlier timestamp (ms since the epoch) are left out.
        """
        token: str | None = None
        repeated, reached = 0, start
        restarted = -1  # how far the sweep had come when it last began anew
        while True:
            params = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": prefix, "startTime": start}
            try:
                answer = self._call("FilterLogEvents", {**params, **_token(token)})
            except Exception as error:
                if _is_absent(error):
                    return
                if token is None or not _is_stale(error) or restarted == reached:
                    raise
                token, start, restarted = None, reached, reached  # it was too old: on from the last line that was read
                continue
            events = answer["events"]
            page = events if isinstance(events, Page) else Page(records=events)
            yield page
            reached = max(reached, page.last or reached)
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


class GetLogEventsSource:
    """One stream after the other, each to the token that repeats itself."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._positions: dict[str, _Position] = {}

    def pages(self, prefix: str, start: int, *, from_head: bool) -> Iterator[Page]:
        """Yield the lines that follow those read before, in pages.

        Args:
            prefix: what the names of the streams begin with.
            start: lines with an earlier timestamp (ms since the epoch) are left out; the same in all calls that go on.
            from_head: begin at the head of every stream again.
        """
        for stream in list(self._streams(prefix)):
            if from_head:
                self._positions.pop(stream, None)
            position = self._positions.setdefault(stream, _Position())
            yield from self._stream_pages(stream, position, start)

    def forget(self, prefix: str) -> None:
        """Give up the positions of streams that are read no more."""
        for stream in [name for name in self._positions if name.startswith(prefix)]:
            del self._positions[stream]

    def _streams(self, prefix: str) -> Iterator[str]:
        token: str | None = None
        while True:
            params = {"logGroupName": LOG_GROUP, "logStreamNamePrefix": prefix}
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

    def _stream_pages(self, stream: str, position: _Position, start: int) -> Iterator[Page]:
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
            following = attrs.evolve(position, token=answer["nextForwardToken"], alike=Counter(position.alike))
            yield Page(records=[_identified(stream, event, following) for event in answer["events"]])
            at_end = following.token == position.token
            self._positions[stream] = position = following  # only now: a page that was left half way is read again
            if at_end:
                return


def _is_absent(error: BaseException) -> bool:
    """Return whether the group or the stream is not there yet: they are made with the first line."""
    return error_code(error) == "ResourceNotFoundException"


def _is_stale(error: BaseException) -> bool:
    return error_code(error) == "InvalidParameterException"  # tokens are good for 24 hours


def _token(token: str | None) -> dict[str, str]:
    return {} if token is None else {"nextToken": token}


def _identified(stream: str, event: Mapping[str, Any], position: _Position) -> Record:
    return {**event, "logStreamName": stream, "identity": position.identify(stream, event)}
