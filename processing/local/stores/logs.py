"""The log store: CloudWatch Logs' groups, streams and events, in SQLite.

An event's place in its stream is (timestamp, ingestion time, id); ids grow over all streams. A token names a place
between two events, so a page costs the same wherever it is, and events that arrive meanwhile shift nothing.
"""

from __future__ import annotations

import heapq
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import ApiError
from processing.local.stores.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_SCHEMA = (
    "CREATE TABLE groups (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL)",
    """CREATE TABLE streams (
        id INTEGER PRIMARY KEY, log_group INTEGER NOT NULL REFERENCES groups, name TEXT NOT NULL,
        created INTEGER NOT NULL, first_event INTEGER, last_event INTEGER, last_ingestion INTEGER,
        UNIQUE (log_group, name)
    )""",
    # AUTOINCREMENT: the id of a deleted event is never given again, so readers may tell events apart by it.
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL REFERENCES streams,
        timestamp INTEGER NOT NULL, ingestion INTEGER NOT NULL, message TEXT NOT NULL
    )""",
    "CREATE INDEX events_in_order ON events (stream, timestamp, ingestion, id)",
)

EVENT_OVERHEAD = 26
"""Bytes that the service counts for an event besides its message."""
MAX_EVENT_BYTES = 262_144 - EVENT_OVERHEAD
"""The longest message of one event, in UTF-8."""
PAGE_BYTES = 1 << 20
PAGE_EVENTS = 10_000

_FAR = (1 << 63) - 1  # SQLite's largest integer
_START = (-_FAR, 0, 0)
_END = (_FAR, _FAR, _FAR)
_TOKEN = re.compile(r"([fb])/(-?\d{1,19})\.(\d{1,19})\.(\d{1,19})")

Place = tuple[int, int, int]


class LogEventRecord(NamedTuple):
    """A stored event; times in milliseconds since the epoch."""

    timestamp: int
    ingestion: int
    id: int
    message: str
    stream: str

    @property
    def place(self) -> Place:
        """Its place among the events of a group."""
        return self[:3]


class LogPage(NamedTuple):
    """A page of one stream, and the tokens of the pages beside it."""

    events: list[LogEventRecord]
    forward: str
    backward: str


class StreamRecord(NamedTuple):
    """A stream; times in milliseconds since the epoch, None where it has no event yet."""

    name: str
    created: int
    first_event: int | None
    last_event: int | None
    last_ingestion: int | None


class GroupRecord(NamedTuple):
    """A log group; created in milliseconds since the epoch."""

    name: str
    created: int


class LogStore:
    """The logs in the engine's folder.

    Args:
        root: the engine's folder.
        now: the time in seconds since the epoch, for creation and ingestion times.

    Every method raises `ApiError` with the service's code: `ResourceNotFoundException`,
    `ResourceAlreadyExistsException`, `InvalidParameterException`.
    """

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._database = Database(root / "logs.sqlite3", _SCHEMA)

    def check(self) -> None:
        """Open the database, so that a folder that cannot be used is found out now."""
        self._database.check()

    def create_group(self, group: str) -> None:
        """Make a log group."""
        with self._database.write() as connection:
            statement = "INSERT OR IGNORE INTO groups (name, created) VALUES (?, ?)"
            if not connection.execute(statement, (group, self._milliseconds())).rowcount:
                raise ApiError("ResourceAlreadyExistsException", "The specified log group already exists")

    def create_stream(self, group: str, stream: str) -> None:
        """Make a stream in an existing group."""
        with self._database.write() as connection:
            statement = "INSERT OR IGNORE INTO streams (log_group, name, created) VALUES (?, ?, ?)"
            row = (_group_id(connection, group), stream, self._milliseconds())
            if not connection.execute(statement, row).rowcount:
                raise ApiError("ResourceAlreadyExistsException", "The specified log stream already exists")

    def append(self, group: str, stream: str, events: Iterable[tuple[int, str]], *, create: bool = True) -> None:
        """Add events, each a timestamp (milliseconds since the epoch) and a message, in one transaction.

        Args:
            group: the log group.
            stream: the stream in it.
            events: in any order; each message at most `MAX_EVENT_BYTES` of UTF-8.
            create: make group and stream if they are missing; otherwise that is `ResourceNotFoundException`.
        """
        rows = [(timestamp, _storable(message)) for timestamp, message in events]
        with self._database.write() as connection:
            now = self._milliseconds()
            if create:
                connection.execute("INSERT OR IGNORE INTO groups (name, created) VALUES (?, ?)", (group, now))
                statement = "INSERT OR IGNORE INTO streams (log_group, name, created) VALUES (?, ?, ?)"
                connection.execute(statement, (_group_id(connection, group), stream, now))
            ((stream_id, _),) = _named_streams(connection, _group_id(connection, group), [stream])
            if not rows:
                return
            connection.executemany(
                "INSERT INTO events (stream, timestamp, ingestion, message) VALUES (?, ?, ?, ?)",
                [(stream_id, timestamp, now, message) for timestamp, message in rows],
            )
            times = [timestamp for timestamp, _ in rows]
            connection.execute(
                """UPDATE streams SET first_event = min(coalesce(first_event, ?1), ?1),
                last_event = max(coalesce(last_event, ?2), ?2), last_ingestion = ?3 WHERE id = ?4""",
                (min(times), max(times), now, stream_id),
            )

    def read(
        self,
        group: str,
        stream: str,
        *,
        token: str | None = None,
        start_time: int | None = None,
        end_time: int | None = None,
        limit: int = PAGE_EVENTS,
        from_head: bool = False,
    ) -> LogPage:
        """Return a page of one stream, oldest event first (GetLogEvents).

        Args:
            group: the log group.
            stream: the stream in it.
            token: a token of an earlier page; None for the newest page, or the oldest one.
            start_time: only events of this time or later, in milliseconds since the epoch.
            end_time: only events before this time.
            limit: at most so many events, and at most 1 MB.
            from_head: without a token, begin with the oldest events.
        """
        direction, gap = _parse(token) if token else (("f", _START) if from_head else ("b", _END))
        with self._database.read() as connection:
            ((stream_id, name),) = _named_streams(connection, _group_id(connection, group), [stream])
            bounds = (_FAR * -1 if start_time is None else start_time, _FAR if end_time is None else end_time - 1)
            found = _scan(connection, stream_id, name, gap, bounds, backward=direction == "b")
            events, _ = _page(found, limit)
        if direction == "b":
            events.reverse()
        if not events:
            gap = _START if gap == _END else gap  # an empty stream: what comes later must be found
            return LogPage([], _token("f", gap), _token("b", gap))
        first = events[0]
        before = (first.timestamp, first.ingestion, first.id - 1)
        return LogPage(events, _token("f", events[-1].place), _token("b", before))

    def filter(
        self,
        group: str,
        *,
        streams: Sequence[str] | None = None,
        prefix: str | None = None,
        start_time: int | None = None,
        end_time: int | None = None,
        matches: Callable[[str], bool] | None = None,
        limit: int = PAGE_EVENTS,
        token: str | None = None,
    ) -> tuple[list[LogEventRecord], str | None]:
        """Return a page of the events of several streams, by (timestamp, ingestion time, id), and the next token.

        Args:
            group: the log group.
            streams: only these streams.
            prefix: only streams whose name begins with it.
            start_time: only events of this time or later, in milliseconds since the epoch.
            end_time: only events of this time or earlier.
            matches: only events for whose message it is true.
            limit: at most so many events, and at most 1 MB.
            token: the token that came with the page before; None for the first page. After the last page it is None.
        """
        gap = _parse(token)[1] if token else _START
        bounds = (_FAR * -1 if start_time is None else start_time, _FAR if end_time is None else end_time)
        with self._database.read() as connection:
            group_id = _group_id(connection, group)
            if streams:
                chosen = _named_streams(connection, group_id, streams)
            else:
                chosen = [(row[0], row[1]) for row in _prefixed(connection, group_id, prefix or "")]
            found: Iterator[LogEventRecord] = heapq.merge(
                *(_scan(connection, stream_id, name, gap, bounds) for stream_id, name in chosen),
                key=lambda event: event.place,
            )
            if matches is not None:
                wanted = matches
                found = (event for event in found if wanted(event.message))
            events, more = _page(found, limit)
        return events, _token("f", events[-1].place) if more else None

    def streams(
        self,
        group: str,
        prefix: str = "",
        *,
        by_last_event: bool = False,
        descending: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> tuple[list[StreamRecord], bool]:
        """Return a page of a group's streams, by name or by the time of the last event, and whether there is more."""
        with self._database.read() as connection:
            rows = _prefixed(connection, _group_id(connection, group), prefix)
        found = [StreamRecord(*row[1:]) for row in rows]
        if by_last_event:
            found.sort(key=lambda stream: (-1 if stream.last_event is None else stream.last_event, stream.name))
        if descending:
            found.reverse()
        return found[offset : offset + limit], len(found) > offset + limit

    def groups(self, prefix: str = "", *, limit: int = 50, offset: int = 0) -> tuple[list[GroupRecord], bool]:
        """Return a page of the log groups by name, and whether there is more."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT name, created FROM groups ORDER BY name").fetchall()
        found = [GroupRecord(*row) for row in rows if row[0].startswith(prefix)]
        return found[offset : offset + limit], len(found) > offset + limit

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


def _group_id(connection: sqlite3.Connection, group: str) -> int:
    row = connection.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
    if row is None:
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
    return int(row[0])


def _named_streams(connection: sqlite3.Connection, group_id: int, names: Sequence[str]) -> list[tuple[int, str]]:
    found = []
    for name in dict.fromkeys(names):
        statement = "SELECT id, name FROM streams WHERE log_group = ? AND name = ?"
        row = connection.execute(statement, (group_id, name)).fetchone()
        if row is None:
            raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
        found.append(row)
    return found


def _prefixed(connection: sqlite3.Connection, group_id: int, prefix: str) -> list[tuple]:  # type: ignore[type-arg]
    statement = """SELECT id, name, created, first_event, last_event, last_ingestion FROM streams
        WHERE log_group = ?1 AND name >= ?2 AND substr(name, 1, ?3) = ?2 AND name < ?4 ORDER BY name"""
    # The upper bound keeps the search in the index; the last code point is no character, so no name is lost by it.
    return connection.execute(statement, (group_id, prefix, len(prefix), prefix + chr(0x10FFFF))).fetchall()


def _scan(
    connection: sqlite3.Connection,
    stream_id: int,
    name: str,
    gap: Place,
    bounds: tuple[int, int],
    *,
    backward: bool = False,
) -> Iterator[LogEventRecord]:
    """Yield a stream's events from a gap on, forwards or backwards, within the (inclusive) times."""
    side, order = ("<=", "DESC") if backward else (">", "ASC")
    statement = f"""SELECT timestamp, ingestion, id, message FROM events
        WHERE stream = ? AND (timestamp, ingestion, id) {side} (?, ?, ?) AND timestamp BETWEEN ? AND ?
        ORDER BY timestamp {order}, ingestion {order}, id {order}"""  # noqa: S608 — four constants
    for row in connection.execute(statement, (stream_id, *gap, *bounds)):
        yield LogEventRecord._make((*row, name))


def _page(found: Iterator[LogEventRecord], limit: int) -> tuple[list[LogEventRecord], bool]:
    """Take a page of events, and say whether there is another one."""
    events: list[LogEventRecord] = []
    size = 0
    for event in found:
        size += len(event.message.encode()) + EVENT_OVERHEAD
        if len(events) >= min(limit, PAGE_EVENTS) or (events and size > PAGE_BYTES):
            return events, True
        events.append(event)
    return events, False


def _storable(message: str) -> str:
    """Return the message as something that UTF-8 can write: half of a surrogate pair becomes a question mark."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) > MAX_EVENT_BYTES:
        raise ApiError("InvalidParameterException", f"Log event too large: {len(encoded) + EVENT_OVERHEAD} bytes")
    return encoded.decode()


def _token(direction: str, gap: Place) -> str:
    return f"{direction}/{gap[0]}.{gap[1]}.{gap[2]}"


def _parse(token: str) -> tuple[str, Place]:
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ApiError("InvalidParameterException", "The specified nextToken is invalid.")
    return match[1], (int(match[2]), int(match[3]), int(match[4]))
