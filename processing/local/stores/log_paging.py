"""Paging of log events: positions, tokens, and the limits of a page.

An event's position is (timestamp, ingestion time, id). Ids increase over all streams. A token names a gap, written as
the position before it. So a page costs the same wherever it begins, and new events do not shift it.
"""

from __future__ import annotations

import heapq
import re
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import ApiError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator

EVENT_OVERHEAD = 26
"""Bytes that the service counts for an event besides its message."""
PAGE_BYTES = 1 << 20
"""The service's limit for the messages of a page, with `EVENT_OVERHEAD` each."""
PAGE_EVENTS = 10_000
"""The service's limit for the events of a page."""
PAGE_EXAMINED = 50_000
"""Events that are examined for one page, matching or not. So a page may have few events or none, and a token."""

MAX_INTEGER = (1 << 63) - 1
"""SQLite's largest integer."""
# A token packs a position into one number of 56 digits: timestamp, then ingestion time, then id.
_INGESTION_DIGITS, _ID_DIGITS = 17, 19
START = (-MAX_INTEGER, 0, 0)
END = (MAX_INTEGER, 10**_INGESTION_DIGITS - 1, MAX_INTEGER)
_TOKEN = re.compile(r"([fb])/(\d{56})")

Position = tuple[int, int, int]
Bounds = tuple[int, int]
"""The first and the last timestamp of a query, both inclusive."""


class LogEventRecord(NamedTuple):
    """A stored event. Times are in milliseconds since the epoch."""

    timestamp: int
    ingestion: int
    id: int
    message: str
    stream: str

    @property
    def position(self) -> Position:
        """The position of the event in its group."""
        return self[:3]


class SearchedStream(NamedTuple):
    """A stream to be read, with the timestamps of its first and last event."""

    id: int
    name: str
    first_event: int | None
    last_event: int | None


class EventPage(NamedTuple):
    """A page of events.

    `last` is the position of the last examined event, or None if there was none. `more` is True if a limit ended the
    page.
    """

    events: list[LogEventRecord]
    last: Position | None
    more: bool


def make_token(direction: str, gap: Position) -> str:
    """Return the token for continuing at a gap, forward (`f`) or backward (`b`).

    Like the service's tokens it is a letter and 56 digits.
    """
    number = ((gap[0] + MAX_INTEGER + 1) * 10**_INGESTION_DIGITS + gap[1]) * 10**_ID_DIGITS + gap[2]
    return f"{direction}/{number:056d}"


def parse_token(text: str) -> tuple[str, Position]:
    """Return the direction and the gap of a token.

    Raises:
        ApiError: the token is invalid.
    """
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.")
    rest, number = divmod(int(match[2]), 10**_ID_DIGITS)
    timestamp, ingestion = divmod(rest, 10**_INGESTION_DIGITS)
    return match[1], (min(timestamp - MAX_INTEGER - 1, MAX_INTEGER), ingestion, min(number, MAX_INTEGER))


def gap_before(position: Position) -> Position:
    """Return the gap before the event at a position."""
    return position[0], position[1], position[2] - 1


def iter_stream(
    connection: sqlite3.Connection, stream: SearchedStream, gap: Position, bounds: Bounds, *, backward: bool = False
) -> Iterator[LogEventRecord]:
    """Yield a stream's events within the bounds, starting at a gap, forward or backward."""
    # Use exactly one bound on each side. With two bounds on the same side SQLite uses the index for one of them and
    # tests every row against the other. So later pages would take longer.
    if backward:
        gap, side, order = min(gap, (bounds[1], MAX_INTEGER, MAX_INTEGER)), "<= (?, ?, ?) AND timestamp >= ?", "DESC"
    else:
        gap, side, order = max(gap, (bounds[0], -1, -1)), "> (?, ?, ?) AND timestamp <= ?", "ASC"
    statement = f"""SELECT timestamp, ingestion, id, message FROM events
        WHERE stream = ? AND (timestamp, ingestion, id) {side}
        ORDER BY timestamp {order}, ingestion {order}, id {order}"""  # noqa: S608 - constants
    for row in connection.execute(statement, (stream.id, *gap, bounds[0 if backward else 1])):
        yield LogEventRecord._make((*row, stream.name))


def merge_streams(
    connection: sqlite3.Connection,
    streams: Iterable[SearchedStream],
    gap: Position,
    bounds: Bounds,
    *,
    backward: bool = False,
) -> Iterator[LogEventRecord]:
    """Yield the events of several streams, merged by position.

    A stream is queried only when the merge reaches its first possible event, because a group may have many streams.
    """
    sign = -1 if backward else 1
    # A heap of (position, stream, event, rest of the stream). Positions are negated when reading backward. An entry
    # without an event stands for a stream that has not been queried, at the first position that it can have.
    heap: list[tuple[Position, int, LogEventRecord | None, Iterator[LogEventRecord]]] = []
    for stream in streams:
        first, last = stream.first_event, stream.last_event
        if first is None or last is None or last < bounds[0] or first > bounds[1]:
            continue
        if (last < gap[0]) if not backward else (first > gap[0]):
            continue
        first_position = (-last, -MAX_INTEGER, -MAX_INTEGER) if backward else (first, 0, 0)
        found = iter_stream(connection, stream, gap, bounds, backward=backward)
        heap.append((first_position, stream.id, None, found))
    heapq.heapify(heap)
    while heap:
        _, number, event, rest = heap[0]
        if event is not None:
            yield event
        following = next(rest, None)
        if following is None:
            heapq.heappop(heap)
        else:
            timestamp, ingestion, identity = following.position
            position = (sign * timestamp, sign * ingestion, sign * identity)
            heapq.heapreplace(heap, (position, number, following, rest))


def cut_page(found: Iterator[LogEventRecord], limit: int, matches: Callable[[str], bool] | None = None) -> EventPage:
    """Return a page of the matching events, of at most `limit` events and 1 MB, from at most `PAGE_EXAMINED` events."""
    events: list[LogEventRecord] = []
    last: Position | None = None
    size = 0
    for examined, event in enumerate(found):
        if examined >= PAGE_EXAMINED:
            return EventPage(events, last, more=True)
        if matches is None or matches(event.message):
            size += len(event.message.encode()) + EVENT_OVERHEAD
            if len(events) >= min(limit, PAGE_EVENTS) or (events and size > PAGE_BYTES):
                return EventPage(events, last, more=True)
            events.append(event)
        last = event.position
    return EventPage(events, last, more=False)
