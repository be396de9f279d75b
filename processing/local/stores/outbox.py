"""A transactional outbox for status changes of jobs, with the pending deliveries to each sink.

A change is recorded in the transaction that makes it. A sink is a text with its kind and its address: `file:/path` or
`queue:name`. A process holds the sink's own lock while it delivers, so that no other process overtakes it or delivers
the same change. If it is killed in between, the next process delivers again. The job store is not locked meanwhile, so
a sink that hangs delays its deliverers and no job.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container.contract import DAY
from processing.local.stores.job_kinds import KINDS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from processing.local.stores.database import Database

KEPT_SECONDS = float(DAY)
"""Age at which an event is deleted even if a sink still waits for it. EventBridge, too, gives up after a day."""
KEPT_EVENTS = 5_000
"""Delivered events are deleted once this many newer ones exist."""
LOCK_SECONDS = 5.0
"""The time that a deliverer waits for another one to the same sink."""
_LOCK_POLL_SECONDS = 0.002
"""Interval of the attempts to lock a file, because POSIX has no locking with a timeout."""
_PRUNED_EVERY = 64
"""Old events are deleted once per so many new ones, so that most transactions are short."""
_BATCH = 100
"""Events per delivery, after which the deliveries are recorded."""

_thread_locks: dict[Path, threading.Lock] = {}
"""Locks between the threads of this process, by lock file. A file lock belongs to the whole process."""
_stuck: set[Path] = set()
"""Lock files that another process held for too long. This process does not wait for them again until one is free."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_thread_locks.clear)  # the thread that holds a lock may not exist in the child

SCHEMA_OF_2 = (
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        uuid TEXT NOT NULL,
        time REAL NOT NULL,
        job TEXT NOT NULL,
        request TEXT NOT NULL
    )""",
    """CREATE TABLE deliveries (
        sink TEXT NOT NULL,
        event INTEGER NOT NULL,
        PRIMARY KEY (sink, event)
    ) WITHOUT ROWID""",
)
TO_3 = (
    "ALTER TABLE events ADD COLUMN kind TEXT NOT NULL DEFAULT 'processing-job'",
    "ALTER TABLE events ADD COLUMN state TEXT NOT NULL DEFAULT '{}'",
)
SCHEMA = (*SCHEMA_OF_2, *TO_3)
_COLUMNS = "id, uuid, time, job, request, kind, state"
_FIELDS = 11
"""The fields of a job's record in the column `job`. Version 2 knew these; later fields have columns of their own."""


class Transition(NamedTuple):
    """A change of a job's status.

    Attributes:
        id: the number of the change in this store. Later changes have higher numbers.
        uuid: the globally unique id.
        time: the time of the change, in seconds since the epoch.
        job: the fields of the job's record after the change.
        request: the request that created the job.
    """

    id: int
    uuid: str
    time: float
    job: Sequence[Any]
    request: dict[str, Any]


class Outbox:
    """The status changes of one engine folder, and their deliveries.

    Args:
        database: the database of the job store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending_sinks(self) -> list[str]:
        """Return the sinks with undelivered changes."""
        # Many changes may wait for one sink, so the query jumps from one sink to the next.
        found = [""]
        next_sink = "SELECT sink FROM deliveries WHERE sink > ? ORDER BY sink LIMIT 1"
        with self._database.read() as connection:
            while row := connection.execute(next_sink, found[-1:]).fetchone():
                found.append(row[0])
        return found[1:]

    def deliver(self, sink: str, send: Callable[[Transition], None]) -> int:
        """Call `send` for at most 100 undelivered changes of a sink, oldest first, and return their number.

        An exception of `send` ends the delivery and propagates. The changes before it count as delivered.

        Raises:
            OSError: another process or thread has been delivering to this sink for too long.
        """
        with _delivery_lock(self._database.path.with_name(f"outbox-{zlib.crc32(sink.encode()):08x}.lock")):
            with self._database.read() as connection:
                rows = connection.execute(
                    f"SELECT event, {_COLUMNS} FROM deliveries LEFT JOIN events ON id = event "  # noqa: S608 - constants
                    "WHERE sink = ? ORDER BY event LIMIT ?",
                    (sink, _BATCH),
                ).fetchall()
            delivered = []
            try:
                for event, *row in rows:
                    if row[0] is not None:
                        send(_transition(tuple(row)))
                    delivered.append((sink, event))
            finally:
                if delivered:
                    with self._database.write() as connection:
                        connection.executemany("DELETE FROM deliveries WHERE sink = ? AND event = ?", delivered)
        return len(rows)

    def transitions_after(self, event: int) -> list[Transition]:
        """Return at most 100 changes that follow a number, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM events WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - constants
                (event, _BATCH),
            ).fetchall()
        return [_transition(row) for row in rows]

    def last_id(self, before: float | None = None) -> int:
        """Return the number of the newest change (before a time, if one is passed), or 0 if there is none."""
        with self._database.read() as connection:
            (number,) = connection.execute(
                "SELECT COALESCE(MAX(id), 0) FROM events WHERE ? IS NULL OR time < ?", (before, before)
            ).fetchone()
        return int(number)

    def prune(self, now: float) -> None:
        """Delete changes older than a day, and delivered ones with 5,000 newer ones."""
        with self._database.write() as connection:
            _prune(connection, now)


def record_transition(connection: sqlite3.Connection, job: Sequence[Any], now: float) -> None:
    """Record a change of a job's status, in the transaction that makes it.

    Args:
        connection: the connection of that transaction, after the change.
        job: the job's record.
        now: the time.
    """
    if not KINDS[job[_FIELDS]].announced:
        return
    request, plan = connection.execute("SELECT request, plan FROM jobs WHERE id = ?", (job[0],)).fetchone()
    record_change(connection, job, request, json.loads(plan).get("events", ()), now)


def record_change(
    connection: sqlite3.Connection, job: Sequence[Any], request: str, sinks: Sequence[str], now: float
) -> None:
    """Record a change of the status of a job or an endpoint, in the transaction that makes it.

    Args:
        connection: the connection of that transaction.
        job: the record of the job, or the fields of the endpoint in the same order.
        request: the request that created it, in JSON.
        sinks: the sinks of the event.
        now: the time.
    """
    event = connection.execute(
        "INSERT INTO events (uuid, time, job, request, kind, state) VALUES (?, ?, ?, ?, ?, ?)",
        (_new_uuid(), now, json.dumps(list(job[:_FIELDS])), request, *job[_FIELDS:]),
    ).lastrowid
    connection.executemany("INSERT INTO deliveries VALUES (?, ?)", [(sink, event) for sink in sinks])
    if event is not None and event % _PRUNED_EVERY == 0:
        _prune(connection, now)


def _new_uuid() -> str:
    """Return a random UUID. The import of `uuid` would take a supervisor longer than the rest of this module."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _prune(connection: sqlite3.Connection, now: float) -> None:
    old = (now - KEPT_SECONDS,)
    connection.execute("DELETE FROM deliveries WHERE event IN (SELECT id FROM events WHERE time < ?)", old)
    connection.execute("DELETE FROM events WHERE time < ?", old)
    connection.execute(
        "DELETE FROM events WHERE id <= (SELECT MAX(id) FROM events) - ? AND id NOT IN (SELECT event FROM deliveries)",
        (KEPT_EVENTS,),
    )


@contextlib.contextmanager
def _delivery_lock(path: Path) -> Iterator[None]:
    """Hold a POSIX file lock, which the system releases if the process is killed and which children do not inherit.

    Raises:
        OSError: the lock was held by others for `LOCK_SECONDS`.
    """
    thread_lock = _thread_locks.setdefault(path, threading.Lock())
    deadline = time.monotonic() + (0 if path in _stuck else LOCK_SECONDS)
    if not thread_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise _busy(path)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _lock(fd):
                if time.monotonic() > deadline:
                    raise _busy(path)
                time.sleep(_LOCK_POLL_SECONDS)
            _stuck.discard(path)
            yield
        finally:
            os.close(fd)
    finally:
        thread_lock.release()


def _lock(fd: int) -> bool:
    import fcntl  # absent on Windows, where public names import this module all the same

    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            return False
        raise
    return True


def _busy(path: Path) -> OSError:
    _stuck.add(path)
    return OSError(errno.EBUSY, "Another process or thread has been delivering to it for long. Does it hang?")


def _transition(row: tuple[Any, ...]) -> Transition:
    number, name, moment, job, request, *rest = row
    return Transition(number, name, moment, [*json.loads(job), *rest], json.loads(request))
