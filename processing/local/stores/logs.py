"""The log store: groups, streams and events of CloudWatch Logs, in SQLite."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.errors import ApiError, is_full, tolerating_full_disk
from processing.local.stores import log_paging
from processing.local.stores.database import Database, free_pages, give_space_back, is_saving_space
from processing.local.stores.log_paging import (
    EVENT_OVERHEAD,
    MAX_INTEGER,
    PAGE_EVENTS,
    LogEventRecord,
    SearchedStream,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_BY_LAST_EVENT = "CREATE INDEX streams_by_last_event ON streams (log_group, coalesce(last_event, -1), name)"
_SCHEMA = (
    """CREATE TABLE groups (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL, retention INTEGER, tags TEXT
    )""",
    """CREATE TABLE streams (
        id INTEGER PRIMARY KEY, log_group INTEGER NOT NULL REFERENCES groups, name TEXT NOT NULL,
        created INTEGER NOT NULL, first_event INTEGER, last_event INTEGER, last_ingestion INTEGER,
        UNIQUE (log_group, name)
    )""",
    _BY_LAST_EVENT,
    # AUTOINCREMENT never reuses the id of a deleted event, so readers can identify events by id.
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL REFERENCES streams,
        timestamp INTEGER NOT NULL, ingestion INTEGER NOT NULL, message TEXT NOT NULL
    )""",
    "CREATE INDEX events_in_order ON events (stream, timestamp, ingestion, id)",
)
_UPGRADES = {
    1: ("ALTER TABLE groups ADD COLUMN retention INTEGER", "ALTER TABLE groups ADD COLUMN tags TEXT", _BY_LAST_EVENT)
}

MAX_EVENT_BYTES = (1 << 20) - EVENT_OVERHEAD
"""The longest message of one event, in UTF-8."""

_LAST_CHARACTER = chr(0x10FFFF)
"""A code point that is not a character. No name contains it, so it sorts after every name with a prefix."""


class LogPage(NamedTuple):
    """A page of one stream, with the tokens of the next and the previous page."""

    events: list[LogEventRecord]
    forward: str
    backward: str


class StreamRecord(NamedTuple):
    """A stream. Times are in milliseconds since the epoch, or None if the stream has no event yet."""

    name: str
    created: int
    first_event: int | None
    last_event: int | None
    last_ingestion: int | None

    @property
    def key(self) -> tuple[int, str]:
        """The stream's position in its group when sorted by last event."""
        return (-1 if self.last_event is None else self.last_event), self.name


class GroupRecord(NamedTuple):
    """A log group. `created` is in milliseconds since the epoch, `retention` in days."""

    name: str
    created: int
    retention: int | None = None


class LogStore:
    """The logs in the engine's folder.

    Args:
        root: the engine's folder.
        now: returns the time in seconds since the epoch, for creation and ingestion times.

    Every method raises `ApiError` with the service's code: `ResourceNotFoundException`,
    `ResourceAlreadyExistsException`, `InvalidParameterException`.
    """

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._database = Database(root / "logs.sqlite3", _SCHEMA, version=2, upgrades=_UPGRADES)

    def check(self) -> None:
        """Open the database, so that an unusable folder is detected now."""
        self._database.check()

    def create_group(self, group: str, tags: Mapping[str, str] | None = None) -> None:
        """Create a log group."""
        with self._database.write() as connection:
            statement = "INSERT OR IGNORE INTO groups (name, created, tags) VALUES (?, ?, ?)"
            if not connection.execute(statement, (group, self._milliseconds(), json.dumps(dict(tags or {})))).rowcount:
                raise ApiError("ResourceAlreadyExistsException", "The specified log group already exists")

    def ensure_group(self, group: str) -> None:
        """Create a log group if it does not exist."""
        with self._database.read() as connection:
            if connection.execute("SELECT 1 FROM groups WHERE name = ?", (group,)).fetchone():
                return
        with contextlib.suppress(ApiError):  # another process created it meanwhile
            self.create_group(group)

    def delete_group(self, group: str) -> None:
        """Delete a log group with its streams and events."""
        with self._database.write() as connection:
            number = (_group_id(connection, group),)
            connection.execute(
                "DELETE FROM events WHERE stream IN (SELECT id FROM streams WHERE log_group = ?)", number
            )
            connection.execute("DELETE FROM streams WHERE log_group = ?", number)
            connection.execute("DELETE FROM groups WHERE id = ?", number)

    def set_retention(self, group: str, days: int | None) -> None:
        """Set the retention of a group in days, or None for no limit. This deletes no events."""
        with self._database.write() as connection:
            connection.execute("UPDATE groups SET retention = ? WHERE id = ?", (days, _group_id(connection, group)))

    def group(self, group: str) -> GroupRecord:
        """Return a log group."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT name, created, retention FROM groups WHERE id = ?", (_group_id(connection, group),)
            ).fetchone()
        return GroupRecord._make(row)

    def tags(self, group: str) -> dict[str, str]:
        """Return the tags of a log group."""
        with self._database.read() as connection:
            return _tags(connection, _group_id(connection, group))

    def change_tags(self, group: str, add: Mapping[str, str] | None = None, remove: Iterable[str] = ()) -> None:
        """Add tags to a log group and remove others by key."""
        removed = set(remove)
        with self._database.write() as connection:
            number = _group_id(connection, group)
            tags = {key: value for key, value in _tags(connection, number).items() if key not in removed}
            tags.update(add or {})
            connection.execute("UPDATE groups SET tags = ? WHERE id = ?", (json.dumps(tags), number))

    def create_stream(self, group: str, stream: str) -> None:
        """Create a stream in an existing group."""
        with self._database.write() as connection:
            statement = "INSERT OR IGNORE INTO streams (log_group, name, created) VALUES (?, ?, ?)"
            row = (_group_id(connection, group), stream, self._milliseconds())
            if not connection.execute(statement, row).rowcount:
                raise ApiError("ResourceAlreadyExistsException", "The specified log stream already exists")

    def delete_stream(self, group: str, stream: str) -> None:
        """Delete a stream with its events."""
        with self._database.write() as connection:
            (found,) = _named_streams(connection, _group_id(connection, group), [stream])
            connection.execute("DELETE FROM events WHERE stream = ?", (found.id,))
            connection.execute("DELETE FROM streams WHERE id = ?", (found.id,))

    def append(self, group: str, stream: str, events: Iterable[tuple[int, str]], *, create: bool = True) -> None:
        """Add events, each a timestamp (milliseconds since the epoch) and a message, in one transaction.

        Args:
            group: the log group.
            stream: the stream in it.
            events: the events in any order. Each message has at most `MAX_EVENT_BYTES` in UTF-8.
            create: create a missing group or stream. Otherwise `ResourceNotFoundException` is raised.
        """
        rows = [(timestamp, _storable(message)) for timestamp, message in events]
        with self._database.write() as connection:
            now = self._milliseconds()
            if create:
                connection.execute("INSERT OR IGNORE INTO groups (name, created) VALUES (?, ?)", (group, now))
                statement = "INSERT OR IGNORE INTO streams (log_group, name, created) VALUES (?, ?, ?)"
                connection.execute(statement, (_group_id(connection, group), stream, now))
            (found,) = _named_streams(connection, _group_id(connection, group), [stream])
            if not rows:
                return
            connection.executemany(
                "INSERT INTO events (stream, timestamp, ingestion, message) VALUES (?, ?, ?, ?)",
                [(found.id, timestamp, now, message) for timestamp, message in rows],
            )
            times = [timestamp for timestamp, _ in rows]
            connection.execute(
                """UPDATE streams SET first_event = min(coalesce(first_event, ?1), ?1),
                last_event = max(coalesce(last_event, ?2), ?2), last_ingestion = ?3 WHERE id = ?4""",
                (min(times), max(times), now, found.id),
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
        """Return a page of one stream, the oldest event first (GetLogEvents).

        Args:
            group: the log group.
            stream: the stream in it.
            token: a token of another page. None stands for the newest page, or for the oldest one with `from_head`.
            start_time: the first timestamp, in milliseconds since the epoch.
            end_time: the timestamp after the last one.
            limit: the maximum number of events. A page has at most 1 MB.
            from_head: begin with the oldest events if there is no token.
        """
        start = ("f", log_paging.START) if from_head else ("b", log_paging.END)
        direction, gap = log_paging.parse_token(token) if token else start
        bounds = (-MAX_INTEGER if start_time is None else start_time, MAX_INTEGER if end_time is None else end_time - 1)
        with self._database.read() as connection:
            (found,) = _named_streams(connection, _group_id(connection, group), [stream])
            events = log_paging.cut_page(
                log_paging.iter_stream(connection, found, gap, bounds, backward=direction == "b"), limit
            ).events
        if direction == "b":
            events.reverse()
        if not events:
            # The tokens of an empty stream must find events that are written later.
            gap = log_paging.START if gap == log_paging.END else gap
            return LogPage([], log_paging.make_token("f", gap), log_paging.make_token("b", gap))
        first, last = log_paging.gap_before(events[0].position), events[-1].position
        return LogPage(events, log_paging.make_token("f", last), log_paging.make_token("b", first))

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
        from_head: bool = True,
    ) -> tuple[list[LogEventRecord], str | None]:
        """Return a page of the events of several streams, sorted by position, and the next token.

        The token is None after the last page. A page with few matches, or none, may have a token.

        Args:
            group: the log group.
            streams: search only these streams.
            prefix: search only streams whose name begins with it.
            start_time: the first timestamp, in milliseconds since the epoch.
            end_time: the last timestamp.
            matches: a predicate for messages.
            limit: the maximum number of events. A page has at most 1 MB.
            token: the token that came with the page before, or None for the first page.
            from_head: return the oldest events first, otherwise the newest. A token determines the order instead.
        """
        start = ("f", log_paging.START) if from_head else ("b", log_paging.END)
        direction, gap = log_paging.parse_token(token) if token else start
        backward = direction == "b"
        bounds = (-MAX_INTEGER if start_time is None else start_time, MAX_INTEGER if end_time is None else end_time)
        with self._database.read() as connection:
            group_id = _group_id(connection, group)
            if streams:
                chosen = _named_streams(connection, group_id, streams)
            else:
                chosen = _prefixed_streams(connection, group_id, prefix or "")
            page = log_paging.cut_page(
                log_paging.merge_streams(connection, chosen, gap, bounds, backward=backward), limit, matches
            )
        if not page.more or page.last is None:
            return page.events, None
        return page.events, log_paging.make_token(
            direction, log_paging.gap_before(page.last) if backward else page.last
        )

    def last_id(self) -> int:
        """Return the id of the newest event of all groups, or 0 if there is none."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0])

    def events_between(
        self,
        after: int,
        last: int,
        groups: Sequence[str],
        *,
        streams: Sequence[str] = (),
        prefixes: Sequence[str] = (),
    ) -> Iterator[tuple[str, LogEventRecord]]:
        """Yield (group, event) for the events with ids after one and up to another, in the order of ids.

        Args:
            after: the id before the first event.
            last: the id of the last event.
            groups: search only these log groups. Missing groups are ignored.
            streams: search only these streams, unless it is empty.
            prefixes: search only streams whose name begins with one of them, unless it is empty.
        """
        statement = """SELECT timestamp, ingestion, events.id, message, streams.name, groups.name
            FROM events JOIN streams ON stream = streams.id JOIN groups ON log_group = groups.id
            WHERE events.id > ? AND events.id <= ? ORDER BY events.id"""
        with self._database.read() as connection:
            for *event, group in connection.execute(statement, (after, last)):
                record = LogEventRecord._make(event)
                if group not in groups or (streams and record.stream not in streams):
                    continue
                if not prefixes or record.stream.startswith(tuple(prefixes)):
                    yield group, record

    def streams(
        self,
        group: str,
        prefix: str = "",
        *,
        by_last_event: bool = False,
        descending: bool = False,
        limit: int = 50,
        after: tuple[int, str] | None = None,
    ) -> tuple[list[StreamRecord], bool]:
        """Return a page of a group's streams, and True if another page follows.

        Args:
            group: the log group.
            prefix: return only streams whose name begins with it.
            by_last_event: sort by the time of the last event, streams without events first. Otherwise sort by name.
            descending: reverse the order.
            limit: the size of the page.
            after: the `key` of the last stream on the page before.
        """
        keys = ["coalesce(last_event, -1)", "name"] if by_last_event else ["name"]
        order = "DESC" if descending else "ASC"
        conditions, values = _bounds(prefix, after, len(keys), descending=descending)
        statement = f"""SELECT name, created, first_event, last_event, last_ingestion FROM streams
            WHERE log_group = ? AND {conditions.format(", ".join(keys))}
            ORDER BY {", ".join(f"{key} {order}" for key in keys)} LIMIT ?"""  # noqa: S608 - constants
        with self._database.read() as connection:
            group_id = _group_id(connection, group)
            rows = connection.execute(statement, (group_id, *values, limit + 1)).fetchall()
        return [StreamRecord._make(row) for row in rows[:limit]], len(rows) > limit

    def groups(
        self,
        prefix: str = "",
        *,
        part: str = "",
        names: Sequence[str] | None = None,
        limit: int = 50,
        after: str = "",
    ) -> tuple[list[GroupRecord], bool]:
        """Return a page of the log groups, sorted by name, and True if another page follows.

        Args:
            prefix: return only groups whose name begins with it.
            part: return only groups whose name contains it.
            names: return only these groups. Missing groups are ignored.
            limit: the size of the page.
            after: the last name of the page before.
        """
        conditions, values = _bounds(prefix, (0, after) if after else None, 1, descending=False)
        if part:
            conditions += " AND instr(name, ?)"
            values.append(part)
        if names is not None:
            conditions += f" AND name IN ({', '.join('?' for _ in names)})"
            values += names
        statement = f"""SELECT name, created, retention FROM groups WHERE {conditions.format("name")}
            ORDER BY name LIMIT ?"""  # noqa: S608 - constants
        with self._database.read() as connection:
            rows = connection.execute(statement, (*values, limit + 1)).fetchall()
        return [GroupRecord._make(row) for row in rows[:limit]], len(rows) > limit

    def count_before(self, moment: int) -> int:
        """Return the number of events whose timestamp and ingestion time are before a moment, in milliseconds."""
        with self._database.read() as connection:
            statement = "SELECT COUNT(*) FROM events WHERE timestamp < ?1 AND ingestion < ?1"
            return int(connection.execute(statement, (moment,)).fetchone()[0])

    def delete_before(self, moment: int) -> int:
        """Delete the events of `count_before` and older streams without events, and return the number of events.

        The deletion runs in many transactions, between which others write.
        """
        with self._database.read() as connection:
            statement = "SELECT id FROM streams WHERE created < ?1 AND coalesce(first_event, 0) < ?1"
            streams = [stream for (stream,) in connection.execute(statement, (moment,))]
        return sum(self._delete_from_stream(stream, moment) for stream in streams)

    def _delete_from_stream(self, stream: int, moment: int) -> int:
        # The newest lines are at the end of the file, which then shrinks without moving pages. That takes the least
        # space.
        order = "DESC" if is_saving_space() else "ASC"
        deleted, batch = 0, PAGE_EVENTS
        while True:
            try:
                rows, done = self._delete_batch(stream, moment, batch, order)
            except ApiError as error:
                if not is_full(error) or batch == 1:
                    raise
                batch = max(1, batch // 10)
            else:
                deleted += rows
                if done:
                    return deleted
                batch = min(PAGE_EVENTS, 2 * batch)
            if is_saving_space():
                with tolerating_full_disk():
                    give_space_back(self._database.path)

    def _delete_batch(self, stream: int, moment: int, batch: int, order: str) -> tuple[int, bool]:
        """Delete events of a stream in one transaction. Return their number, and True if they are the last."""
        with self._database.write() as connection:
            rows = connection.execute(
                f"""DELETE FROM events WHERE id IN (SELECT id FROM events WHERE stream = ?1 AND timestamp < ?2
                AND ingestion < ?2 ORDER BY timestamp {order}, ingestion {order}, id {order} LIMIT ?3)""",  # noqa: S608 - constants
                (stream, moment, batch),
            ).rowcount
            (first,) = connection.execute("SELECT min(timestamp) FROM events WHERE stream = ?", (stream,)).fetchone()
            (last,) = connection.execute("SELECT max(timestamp) FROM events WHERE stream = ?", (stream,)).fetchone()
            if first is None:
                connection.execute("DELETE FROM streams WHERE id = ?", (stream,))
            elif rows:
                statement = "UPDATE streams SET first_event = ?, last_event = ? WHERE id = ?"
                connection.execute(statement, (first, last, stream))
            if is_saving_space():
                # Pages that leave the file in the same transaction are not written to the write-ahead log.
                free_pages(connection)
        return rows, rows < batch

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


def _group_id(connection: sqlite3.Connection, group: str) -> int:
    row = connection.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
    if row is None:
        raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
    return int(row[0])


def _tags(connection: sqlite3.Connection, group_id: int) -> dict[str, str]:
    (text,) = connection.execute("SELECT tags FROM groups WHERE id = ?", (group_id,)).fetchone()
    return {} if text is None else dict(json.loads(text))


def _bounds(
    prefix: str, after: tuple[int, str] | None, columns: int, *, descending: bool
) -> tuple[str, list[int | str]]:
    """Return SQL conditions, with a placeholder for the key columns, and their values.

    They select names with a prefix that follow a key. There is one bound on each side, because SQLite uses the index
    for only one of two lower bounds.
    """
    lower, upper = "name >= ?", "name < ?"
    values: list[Any] = [[prefix], [prefix + _LAST_CHARACTER]]
    if after is not None:
        beyond = f"({{}}) {'<' if descending else '>'} ({', '.join('?' for _ in range(columns))})"
        lower, upper = (lower, beyond) if descending else (beyond, upper)
        values[descending] = after[-columns:]
    return f"{lower} AND {upper}", [*values[0], *values[1]]


def _named_streams(connection: sqlite3.Connection, group_id: int, names: Sequence[str]) -> list[SearchedStream]:
    found = []
    for name in dict.fromkeys(names):
        statement = "SELECT id, name, first_event, last_event FROM streams WHERE log_group = ? AND name = ?"
        row = connection.execute(statement, (group_id, name)).fetchone()
        if row is None:
            raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
        found.append(SearchedStream._make(row))
    return found


def _prefixed_streams(connection: sqlite3.Connection, group_id: int, prefix: str) -> list[SearchedStream]:
    statement = """SELECT id, name, first_event, last_event FROM streams
        WHERE log_group = ? AND name >= ? AND name < ?"""
    rows = connection.execute(statement, (group_id, prefix, prefix + _LAST_CHARACTER))
    return [SearchedStream._make(row) for row in rows]


def _storable(message: str) -> str:
    """Return a message that UTF-8 can encode. A lone surrogate becomes a question mark."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) > MAX_EVENT_BYTES:
        size, most = len(encoded) + EVENT_OVERHEAD, MAX_EVENT_BYTES + EVENT_OVERHEAD
        raise ApiError("InvalidParameterException", f"Log event too large: {size} bytes exceeds limit of {most}")
    return encoded.decode()
