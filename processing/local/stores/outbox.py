"""The outbox: each change of a job's status, noted in the transaction that makes it, and who is still to be told.

A sink is a text, its kind and its place: `file:/path` or `queue:name`. Who delivers to it holds a lock of its own, so
that others neither overtake it nor deliver the same; where it is killed in between, the next one delivers again. The
job store is not locked meanwhile: a sink that hangs holds up who delivers to it, and no job. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container.contract import DAY

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from processing.local.stores.database import Database

KEPT_SECONDS = float(DAY)
KEPT_EVENTS = 5_000
"""An event goes when it is older, even if a sink waits for it, as EventBridge gives up after a day; one that no sink
waits for also goes when there are so many newer ones."""
TURN_SECONDS = 5.0
"""How long a deliverer waits for another one to the same sink."""
_LOOK_SECONDS = 0.002
_PRUNED_EVERY = 64
_BATCH = 100

_turns: dict[Path, threading.Lock] = {}
"""For each lock file, what the threads of this process queue at: the system's lock is the process's."""
_stuck: set[Path] = set()
"""Locks that were waited for in vain: nobody in this process waits for them again until one was free."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.clear)  # the thread that holds one may not exist in the child

SCHEMA = (
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


class Transition(NamedTuple):
    """A change of a job's status.

    Attributes:
        id: its number in this store: a later one is higher.
        uuid: what tells it from every other one.
        time: when it was, in seconds since the epoch.
        job: the fields of the job's record as it stood then.
        request: the request that created the job.
    """

    id: int
    uuid: str
    time: float
    job: Sequence[Any]
    request: dict[str, Any]


class Outbox:
    """The changes of status in one engine folder, and their deliveries.

    Args:
        database: the job store's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending_sinks(self) -> list[str]:
        """Return the sinks for which there is something to deliver."""
        found = [""]
        next_sink = "SELECT sink FROM deliveries WHERE sink > ? ORDER BY sink LIMIT 1"
        with self._database.read() as connection:  # from one to the next: many events may wait for each
            while row := connection.execute(next_sink, found[-1:]).fetchone():
                found.append(row[0])
        return found[1:]

    def deliver(self, sink: str, send: Callable[[Transition], None]) -> int:
        """Give `send` what the sink has not got yet, oldest first, a hundred at most; return how many there were.

        What it raises ends this, and is raised again; what it took before is delivered.

        Raises:
            OSError: another one has been delivering to this sink for long.
        """
        place = self._database.path
        with _turn(place.with_name(f"outbox-{zlib.crc32(sink.encode()):08x}.lock")):
            with self._database.read() as connection:
                rows = connection.execute(
                    "SELECT event, id, uuid, time, job, request FROM deliveries LEFT JOIN events ON id = event "
                    "WHERE sink = ? ORDER BY event LIMIT ?",
                    (sink, _BATCH),
                ).fetchall()
            taken = []
            try:
                for event, *row in rows:
                    if row[0] is not None:
                        send(_transition(tuple(row)))
                    taken.append((sink, event))
            finally:
                if taken:
                    with self._database.write() as connection:
                        connection.executemany("DELETE FROM deliveries WHERE sink = ? AND event = ?", taken)
        return len(rows)

    def transitions_after(self, event: int) -> list[Transition]:
        """Return the changes that followed the one of that number, oldest first, a hundred at most."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, uuid, time, job, request FROM events WHERE id > ? ORDER BY id LIMIT ?", (event, _BATCH)
            ).fetchall()
        return [_transition(row) for row in rows]

    def last_id(self, before: float | None = None) -> int:
        """Return the number of the newest change, or of the newest one before a time; 0 where there is none."""
        with self._database.read() as connection:
            (number,) = connection.execute(
                "SELECT COALESCE(MAX(id), 0) FROM events WHERE ? IS NULL OR time < ?", (before, before)
            ).fetchone()
        return int(number)

    def prune(self, now: float) -> None:
        """Forget what is older than a day, and what was delivered and has thousands of newer ones."""
        with self._database.write() as connection:
            _prune(connection, now)


def record_transition(connection: sqlite3.Connection, job: Sequence[Any], now: float) -> None:
    """Note that the status of a job has changed, in the transaction that changes it.

    Args:
        connection: inside that transaction, after the change.
        job: the job's record.
        now: the time.
    """
    request, plan = connection.execute("SELECT request, plan FROM jobs WHERE id = ?", (job[0],)).fetchone()
    event = connection.execute(
        "INSERT INTO events (uuid, time, job, request) VALUES (?, ?, ?, ?)",
        (_new_uuid(), now, json.dumps(list(job)), request),
    ).lastrowid
    sinks = json.loads(plan).get("events", ())
    connection.executemany("INSERT INTO deliveries VALUES (?, ?)", [(sink, event) for sink in sinks])
    if event is not None and event % _PRUNED_EVERY == 0:
        _prune(connection, now)


def _new_uuid() -> str:
    """Return a random UUID; the module for them would cost a supervisor more time than all else here."""
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
def _turn(path: Path) -> Iterator[None]:
    """Hold the lock of that file, which the system takes back from a process that is killed.

    It is one of POSIX, which no child inherits.

    Raises:
        OSError: it is not to be had.
    """
    turn = _turns.setdefault(path, threading.Lock())
    deadline = time.monotonic() + (0 if path in _stuck else TURN_SECONDS)
    if not turn.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise _busy(path)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while not _lock(fd):
                if time.monotonic() > deadline:
                    raise _busy(path)
                time.sleep(_LOOK_SECONDS)
            _stuck.discard(path)
            yield
        finally:
            os.close(fd)
    finally:
        turn.release()


def _lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            return False
        raise
    return True


def _busy(path: Path) -> OSError:
    _stuck.add(path)
    return OSError(errno.EBUSY, "Another process or thread has been delivering to it for long: does it hang?")


def _transition(row: tuple[Any, ...]) -> Transition:
    number, name, time, job, request = row
    return Transition(number, name, time, json.loads(job), json.loads(request))
