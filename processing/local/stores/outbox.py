"""The outbox: each change of a job's status, noted in the transaction that makes it, and who is still to be told.

A sink is a text, its kind and its place: `file:/path` or `queue:name`. Who delivers holds the write transaction of the
job store meanwhile, so that others neither overtake it nor deliver the same; where it is killed in between, the next
one delivers again. Standard library only.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from processing.local.stores.database import Database

KEPT_SECONDS = 86_400.0
KEPT_EVENTS = 5_000
"""An event that nobody waits for any more goes when it is older, or when there are so many newer ones."""
_PRUNED_EVERY = 64
_BATCH = 100

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

    def waiting(self) -> list[str]:
        """Return the sinks for which there is something to deliver."""
        found = [""]
        next_sink = "SELECT sink FROM deliveries WHERE sink > ? ORDER BY sink LIMIT 1"
        with self._database.read() as connection:  # from one to the next: many events may wait for each
            while row := connection.execute(next_sink, found[-1:]).fetchone():
                found.append(row[0])
        return found[1:]

    def hand_over(self, sink: str, send: Callable[[Transition], None]) -> int:
        """Give `send` what the sink has not got yet, oldest first, a hundred at most; return how many there were.

        What it raises ends this, and is raised again; what it took before is delivered.
        """
        failure: Exception | None = None
        with self._database.write() as connection:
            waiting = connection.execute(
                "SELECT event FROM deliveries WHERE sink = ? ORDER BY event LIMIT ?", (sink, _BATCH)
            ).fetchall()
            for event in waiting:
                row = connection.execute(
                    "SELECT id, uuid, time, job, request FROM events WHERE id = ?", event
                ).fetchone()
                try:
                    send(_transition(row))
                except Exception as error:  # noqa: BLE001 -- raised again below, when the others are noted
                    failure = error
                    break
                connection.execute("DELETE FROM deliveries WHERE sink = ? AND event = ?", (sink, *event))
        if failure is not None:
            raise failure
        return len(waiting)

    def after(self, event: int) -> list[Transition]:
        """Return the changes that followed the one of that number, oldest first, a hundred at most."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, uuid, time, job, request FROM events WHERE id > ? ORDER BY id LIMIT ?", (event, _BATCH)
            ).fetchall()
        return [_transition(row) for row in rows]

    def last(self, before: float | None = None) -> int:
        """Return the number of the newest change, or of the newest one before a time; 0 where there is none."""
        with self._database.read() as connection:
            (number,) = connection.execute(
                "SELECT COALESCE(MAX(id), 0) FROM events WHERE ? IS NULL OR time < ?", (before, before)
            ).fetchone()
        return int(number)

    def prune(self, now: float) -> None:
        """Forget what was delivered, and is older than a day or has thousands of newer ones."""
        with self._database.write() as connection:
            _prune(connection, now)


def note(connection: sqlite3.Connection, job: Sequence[Any], now: float) -> None:
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
    connection.execute(
        "DELETE FROM events WHERE (time < ? OR id <= (SELECT MAX(id) FROM events) - ?) "
        "AND id NOT IN (SELECT event FROM deliveries)",
        (now - KEPT_SECONDS, KEPT_EVENTS),
    )


def _transition(row: tuple[Any, ...]) -> Transition:
    number, name, time, job, request = row
    return Transition(number, name, time, json.loads(job), json.loads(request))
