"""A simulated CloudWatch Logs, whose lines arrive at scripted times, with the irregular pages of the real one."""

from __future__ import annotations

import heapq
import itertools
import json
import random
import threading
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from processing._utils.validation import CLOCK, INTEGER, ITERABLE, SECONDS, Kind, integer, require, with_attributes
from processing.container.contract import DAY
from processing.testing.wire import Handler, Rendered, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from processing.testing.clock import VirtualClock

Position: TypeAlias = tuple[int, int, str]
"""The position of a line in the order of FilterLogEvents: timestamp, arrival, id."""

_PAGE_BYTES: Final = 1 << 20  # CloudWatch's limit on a page
_STREAMS = 50  # in a page of DescribeLogStreams
_TOKEN_SECONDS = float(DAY)  # the validity of a token, as CloudWatch documents it


@attrs.frozen
class ScriptedLine:
    """A log line and the moment at which it becomes readable.

    Args:
        stream: the name of the log stream.
        timestamp: the time at which it was written, in ms since the epoch.
        arrival: the time from which on it can be read, in ms since the epoch. This is CloudWatch's ingestion time.
        event_id: the event id.
        message: the text.
    """

    stream: str
    timestamp: int
    arrival: int
    event_id: str
    message: str

    @property
    def position(self) -> Position:
        """The position of the line in the order of FilterLogEvents."""
        return (self.timestamp, self.arrival, self.event_id)


_LINES = Kind(
    "ScriptedLine values", with_attributes("", "stream", "timestamp", "arrival", "event_id", "message").accepts
)


class ScriptedLogs:
    """Handlers for a `JsonService`, with log lines that arrive as the clock moves. Safe for threads.

    With a seed, pages have random lengths, and some are empty or repeated. As on AWS, a sweep misses a line that
    arrives during the sweep at an earlier position. GetLogEvents reads forward from the head only.

    Args:
        lines: the lines. `write` adds more.
        clock: the clock that decides which lines have arrived.
        seed: the seed for irregular pages, or None for regular ones.
        page: the largest number of lines in a page. A page has at most a megabyte, too.
        call_seconds: the longest duration of a call on the clock. It applies with a seed only.

    Attributes:
        denied: the operations that are refused. It may be changed at any time.
    """

    def __init__(
        self,
        lines: Iterable[ScriptedLine],
        clock: VirtualClock,
        *,
        seed: int | None = None,
        page: int = 4,
        call_seconds: float = 0.0,
    ) -> None:
        require("lines", lines, ITERABLE)
        require("clock", clock, CLOCK)
        require("seed", seed, INTEGER, optional=True)
        require("page", page, integer(at_least=1))
        require("call_seconds", call_seconds, SECONDS)
        self.denied: set[str] = set()
        self._clock = clock
        self._random = None if seed is None else random.Random(seed)  # noqa: S311 - randomness in a test
        self._page = page
        self._call_seconds = call_seconds
        self._generation = 0  # of the valid tokens
        self._numbers = itertools.count()
        self._pending: list[tuple[int, int, str, Position, str]] = []  # a heap by arrival
        self._cuts: dict[str, int] = {}
        self._streams: dict[str, _LogStream] = {}
        self._names: list[str] = []  # of the streams that exist, sorted
        self._lock = threading.RLock()
        self.write(lines)

    def handlers(self) -> dict[str, Handler]:
        """Return the operations for reading logs, by name."""
        return {
            "FilterLogEvents": self.filter_log_events,
            "GetLogEvents": self.get_log_events,
            "DescribeLogStreams": self.describe_log_streams,
        }

    def write(self, lines: Iterable[ScriptedLine]) -> None:
        """Add lines. Each becomes readable at its arrival."""
        with self._lock:
            for line in lines:
                require("lines", line, _LINES)
                # Encoded once, since many calls may return it.
                body = (
                    f'"timestamp":{line.timestamp},"ingestionTime":{line.arrival},"message":{json.dumps(line.message)}'
                )
                entry = (line.arrival, next(self._numbers), line.stream, line.position, body)
                heapq.heappush(self._pending, entry)

    def cut(self, stream: str, after: int) -> None:
        """Drop the lines of a stream with timestamps after a moment, in ms since the epoch."""
        with self._lock:
            self._cuts[stream] = after

    def forget_tokens(self) -> None:
        """Invalidate every token so far."""
        self._generation += 1

    def filter_log_events(self, params: dict[str, Any]) -> Rendered:
        """Answer FilterLogEvents."""
        with self._lock:
            self._begin_call("FilterLogEvents", params)
            after = self._position(params)
            streams = self._selected_streams(params)
            reaching = [stream.after(after) for stream in streams if stream.positions[-1] > after]
            rest = reaching[0] if len(reaching) == 1 else heapq.merge(*reaching)
            page, more = self._next_page(rest, params)
            again = self._happens(0.1)  # whether the next page is this one again
            token = self._token(after if again or not page else page[-1][0]) if again or more else None
        events = ",".join([f"{{{body},{stream}}}" for _, body, stream in page])
        following = "" if token is None else f',"nextToken":"{token}"'
        return Rendered(f'{{"events":[{events}],"searchedLogStreams":[]{following}}}')

    def get_log_events(self, params: dict[str, Any]) -> Rendered:
        """Answer GetLogEvents, from the head forward."""
        with self._lock:
            self._begin_call("GetLogEvents", params)
            stream = self._streams.get(params["logStreamName"])
            if stream is None:
                raise ServiceError("ResourceNotFoundException", "The specified log stream does not exist.")
            after = self._position(params)
            page, more = self._next_page(stream.after(after), params)
            if page or more:  # the token of an empty page differs, unless it is the end
                token = self._token(page[-1][0] if page else after)
            else:
                token = params.get("nextToken") or self._token(after)
        events = ",".join([f"{{{body}}}" for _, body, _ in page])
        return Rendered(f'{{"events":[{events}],"nextForwardToken":"{token}","nextBackwardToken":"b/0"}}')

    def describe_log_streams(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer DescribeLogStreams: at most 50 to a page, ordered by name."""
        with self._lock:
            self._begin_call("DescribeLogStreams", params)
            names = self._with_prefix(params.get("logStreamNamePrefix", ""))
        start = int(params.get("nextToken", 0))
        end = start + min(_STREAMS, params.get("limit", _STREAMS))
        answer: dict[str, Any] = {"logStreams": [{"logStreamName": name} for name in names[start:end]]}
        if len(names) > end:
            answer["nextToken"] = str(end)
        return answer

    def _begin_call(self, operation: str, params: dict[str, Any]) -> None:
        """Begin a call: move arrived lines into their streams, and refuse unsupported parameters."""
        if operation in self.denied:
            raise ServiceError("AccessDeniedException", f"User is not authorized to perform: logs:{operation}")
        if params.get("filterPattern"):
            raise ServiceError("InvalidParameterException", "filterPattern is not simulated")
        if self._random:
            self._clock.advance(self._random.uniform(0.0, self._call_seconds))
        now = self._clock.time() * 1000
        while self._pending and self._pending[0][0] <= now:
            self._arrive(*heapq.heappop(self._pending)[2:])
        if not self._streams:
            raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")

    def _arrive(self, name: str, position: Position, body: str) -> None:
        if position[0] > self._cuts.get(name, position[0]):
            return
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _LogStream(name)
            insort(self._names, name)
        stream.add(position, body)

    def _selected_streams(self, params: dict[str, Any]) -> list[_LogStream]:
        named = params.get("logStreamNames")
        names = self._with_prefix(params.get("logStreamNamePrefix", "")) if named is None else named
        return [self._streams[name] for name in names if name in self._streams]

    def _with_prefix(self, prefix: str) -> Sequence[str]:
        first = bisect_left(self._names, prefix)
        return self._names[first : bisect_right(self._names, f"{prefix}\U0010ffff", first)]

    def _next_page(self, rest: Iterator[_Entry], params: dict[str, Any]) -> tuple[list[_Entry], bool]:
        """Return the next page, and whether more lines follow."""
        end, longest = params.get("endTime"), min(self._length(), params.get("limit", self._page))
        page: list[_Entry] = []
        size = 0
        for entry in rest:
            if end is not None and entry[0][0] > end:
                return page, False
            size += len(entry[1])
            if len(page) == longest or (page and size > _PAGE_BYTES):
                return page, True
            page.append(entry)
        return page, False

    def _position(self, params: dict[str, Any]) -> Position:
        token = params.get("nextToken")
        if token is None:
            return (params.get("startTime", 0), -1, "")
        generation, made, _, timestamp, arrival, event_id = token.split("/", 5)
        if int(generation) != self._generation or float(made) + _TOKEN_SECONDS < self._clock.time():
            raise ServiceError("InvalidParameterException", "The specified nextToken is invalid.")
        return (int(timestamp), int(arrival), event_id)

    def _token(self, position: Position) -> str:
        # Every token differs, also for the same position and moment: GetLogEvents marks its end by repeating a token.
        return "/".join(map(str, (self._generation, self._clock.time(), next(self._numbers), *position)))

    def _length(self) -> int:
        if self._random is None:
            return self._page
        return 0 if self._happens(0.15) else self._random.randint(1, self._page)

    def _happens(self, probability: float) -> bool:
        return self._random is not None and self._random.random() < probability


_Entry: TypeAlias = tuple[Position, str, str]
"""A line of an answer: position, members as JSON, and the further members of FilterLogEvents."""


class _LogStream:
    """The arrived lines of a stream, in order."""

    def __init__(self, name: str) -> None:
        self.positions: list[Position] = []
        self._name = json.dumps(name)
        self._bodies: list[str] = []

    def add(self, position: Position, body: str) -> None:
        """Insert a line at its position, which is mostly the end."""
        at = (
            len(self.positions)
            if not self.positions or position > self.positions[-1]
            else bisect_right(self.positions, position)
        )
        self.positions.insert(at, position)
        self._bodies.insert(at, body)

    def after(self, position: Position) -> Iterator[_Entry]:
        """Yield the lines after a position."""
        for at in range(bisect_right(self.positions, position), len(self.positions)):
            found = self.positions[at]
            yield found, self._bodies[at], f'"logStreamName":{self._name},"eventId":"{found[2]}"'
