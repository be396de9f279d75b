"""Pages of log events: places between events, the tokens that name them, and how far a page goes.

An event's place is (timestamp, ingestion time, id); ids grow over all streams. A token names a place between two of
them, so a page costs the same wherever it is, and events that arrive meanwhile shift nothing.
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
PAGE_EVENTS = 10_000
PAGE_EXAMINED = 50_000
"""So many events are looked at for one page, whether they match or not: a page may have few events, or none."""

MAX_INTEGER = (1 << 63) - 1  # SQLite's largest integer
_INGESTION_DIGITS, _ID_DIGITS = 17, 19
START = (-MAX_INTEGER, 0, 0)
END = (MAX_INTEGER, 10**_INGESTION_DIGITS - 1, MAX_INTEGER)
_TOKEN = re.compile(r"([fb])/(\d{56})")

Position = tuple[int, int, int]
Bounds = tuple[int, int]
"""The first and the last timestamp."""


class LogEventRecord(NamedTuple):
    """A stored event; times in milliseconds since the epoch."""

    timestamp: int
    ingestion: int
    id: int
    message: str
    stream: str

    @property
    def place(self) -> Position:
        """Its place among the events of a group."""
        return self[:3]


class SearchedStream(NamedTuple):
    """A stream to look for events in, and the timestamps of its first and last one."""

    id: int
    name: str
    first_event: int | None
    last_event: int | None


class EventPage(NamedTuple):
    """A page, the place of the last event that was looked at (None: there was none), and whether there is more."""

    events: list[LogEventRecord]
    last: Position | None
    more: bool


def make_token(direction: str, gap: Position) -> str:
    """Return the token for going on from a gap, `f`orward or `b`ackward: as the service's, a letter and 56 digits."""
    number = ((gap[0] + MAX_INTEGER + 1) * 10**_INGESTION_DIGITS + gap[1]) * 10**_ID_DIGITS + gap[2]
    return f"{direction}/{number:056d}"


def parse_token(text: str) -> tuple[str, Position]:
    """Return the direction and the gap of a token.

    Raises:
        ApiError: it is none.
    """
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.")
    rest, number = divmod(int(match[2]), 10**_ID_DIGITS)
    timestamp, ingestion = divmod(rest, 10**_INGESTION_DIGITS)
    return match[1], (min(timestamp - MAX_INTEGER - 1, MAX_INTEGER), ingestion, min(number, MAX_INTEGER))


def gap_before(place: Position) -> Position:
    """Return the gap before the event at a place."""
    return place[0], place[1], place[2] - 1


def iter_stream(
    connection: sqlite3.Connection, stream: SearchedStream, gap: Position, bounds: Bounds, *, backward: bool = False
) -> Iterator[LogEventRecord]:
    """Yield a stream's events from a gap on, forwards or backwards, within the times."""
    # One bound on each side, and no other on the same columns: SQLite would look one of them up and try all rows for
    # the other, which takes the longer the further the page is.
    if backward:
        gap, side, order = min(gap, (bounds[1], MAX_INTEGER, MAX_INTEGER)), "<= (?, ?, ?) AND timestamp >= ?", "DESC"
    else:
        gap, side, order = max(gap, (bounds[0], -1, -1)), "> (?, ?, ?) AND timestamp <= ?", "ASC"
    statement = f"""SELECT timestamp, ingestion, id, message FROM events
        WHERE stream = ? AND (timestamp, ingestion, id) {side}
        ORDER BY timestamp {order}, ingestion {order}, id {order}"""  # noqa: S608 — constants
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
    """Yield the events of several streams in their order. A stream is looked into only when its time has come."""
    sign = -1 if backward else 1
    # An entry is due at a place (as if times ran forward): an event, or the earliest that a stream can have.
    waiting: list[tuple[Position, int, LogEventRecord | None, Iterator[LogEventRecord]]] = []
    for stream in streams:
        first, last = stream.first_event, stream.last_event
        if first is None or last is None or last < bounds[0] or first > bounds[1]:
            continue
        if (last < gap[0]) if not backward else (first > gap[0]):
            continue
        due = (-last, -MAX_INTEGER, -MAX_INTEGER) if backward else (first, 0, 0)
        found = iter_stream(connection, stream, gap, bounds, backward=backward)
        waiting.append((due, stream.id, None, found))
    heapq.heapify(waiting)
    while waiting:
        _, number, event, rest = waiting[0]
        if event is not None:
            yield event
        following = next(rest, None)
        if following is None:
            heapq.heappop(waiting)
        else:
            timestamp, ingestion, identity = following.place
            due = (sign * timestamp, sign * ingestion, sign * identity)
            heapq.heapreplace(waiting, (due, number, following, rest))


def cut_page(found: Iterator[LogEventRecord], limit: int, matches: Callable[[str], bool] | None = None) -> EventPage:
    """Take a page of the events that match: at most `limit`, 1 MB, and what `PAGE_EXAMINED` events hold."""
    events: list[LogEventRecord] = []
    last: Position | None = None
    size = 0
    for scanned, event in enumerate(found):
        if scanned >= PAGE_EXAMINED:
            return EventPage(events, last, more=True)
        if matches is None or matches(event.message):
            size += len(event.message.encode()) + EVENT_OVERHEAD
            if len(events) >= min(limit, PAGE_EVENTS) or (events and size > PAGE_BYTES):
                return EventPage(events, last, more=True)
            events.append(event)
        last = event.place
    return EventPage(events, last, more=False)
