"""Queues and their messages: SQS's standard queues.

A message that was received is invisible until its visibility timeout has passed, and comes again unless it was deleted
by then. All times are seconds since the epoch. Standard library only.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.errors import ApiError
from processing.local.stores.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

_SCHEMA = (
    """CREATE TABLE queues (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        created REAL NOT NULL,
        modified REAL NOT NULL,
        settings TEXT NOT NULL
    )""",
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL REFERENCES queues (id) ON DELETE CASCADE,
        uuid TEXT NOT NULL,
        body TEXT NOT NULL,
        extras TEXT NOT NULL,
        sent REAL NOT NULL,
        visible REAL NOT NULL,
        count INTEGER NOT NULL DEFAULT 0,
        received REAL,
        receipt TEXT
    )""",
    "CREATE INDEX messages_by_visibility ON messages (queue, visible, id)",
    "CREATE INDEX messages_by_age ON messages (queue, sent)",
)


DEFAULTS = {
    "DelaySeconds": 0,
    "MaximumMessageSize": 1_048_576,
    "MessageRetentionPeriod": 345_600,
    "ReceiveMessageWaitTimeSeconds": 0,
    "VisibilityTimeout": 30,
}
"""What can be set of a queue, by SQS's names, in seconds and bytes, and SQS's defaults."""


class Queue(NamedTuple):
    """A queue."""

    id: int
    name: str
    created: float
    modified: float
    settings: dict[str, int]


class MessageCounts(NamedTuple):
    """How many messages of a queue can be received, are with a receiver, or are not to be seen yet."""

    visible: int
    in_flight: int
    delayed: int


class Message(NamedTuple):
    """A message as it was received.

    Attributes:
        uuid: its MessageId.
        body: its text.
        extras: what was sent beside it, a JSON object.
        sent: when.
        receives: how often it was received, this time included.
        received: when for the first time.
        receipt: the handle by which this receiver deletes it, or changes its visibility.
    """

    uuid: str
    body: str
    extras: dict[str, Any]
    sent: float
    receives: int
    received: float
    receipt: str


def no_such_queue() -> ApiError:
    """Return the error for a queue that is not there."""
    return ApiError("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")


class QueueStore:
    """The queues of one engine folder.

    Args:
        root: the engine's folder.
    """

    def __init__(self, root: Path) -> None:
        self._database = Database(Path(root) / "queues.sqlite3", _SCHEMA)

    # --- queues

    def create(self, name: str, settings: Mapping[str, int], now: float) -> None:
        """Make a queue, unless there is one of that name and those settings.

        Raises:
            ApiError: `QueueAlreadyExists`, there is one with other settings.
        """
        with self._database.write() as connection:
            found = _find(connection, name)
            if found is None:
                _insert(connection, name, {**DEFAULTS, **settings}, now)
                return
        others = [each for each, value in settings.items() if found.settings[each] != value]
        if others:
            raise ApiError(
                "QueueAlreadyExists",
                f"A queue already exists with the same name and a different value for attribute {others[0]}",
            )

    def get(self, name: str) -> Queue:
        """Return the queue of that name.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`.
        """
        with self._database.read() as connection:
            return _queue(connection, name)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return names of queues that begin with the prefix and follow `after`, in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT name FROM queues WHERE substr(name, 1, ?) = ? AND name > ? ORDER BY name LIMIT ?",
                (len(prefix), prefix, after, limit),
            ).fetchall()
        return [name for (name,) in rows]

    def change(self, name: str, settings: Mapping[str, int], now: float) -> None:
        """Change some of a queue's settings.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`.
        """
        with self._database.write() as connection:
            queue = _queue(connection, name)
            connection.execute(
                "UPDATE queues SET settings = ?, modified = ? WHERE id = ?",
                (json.dumps({**queue.settings, **settings}), now, queue.id),
            )

    def delete(self, name: str) -> None:
        """Forget a queue and its messages.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`.
        """
        with self._database.write() as connection:
            connection.execute("DELETE FROM queues WHERE id = ?", (_queue(connection, name).id,))

    def purge(self, name: str) -> None:
        """Forget a queue's messages.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`.
        """
        with self._database.write() as connection:
            connection.execute("DELETE FROM messages WHERE queue = ?", (_queue(connection, name).id,))

    def counts(self, name: str, now: float) -> MessageCounts:
        """Return how many messages a queue has.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`.
        """
        with self._database.read() as connection:
            queue = _queue(connection, name)
            row = connection.execute(
                "SELECT COALESCE(SUM(visible <= ?1), 0), COALESCE(SUM(visible > ?1 AND count > 0), 0), "
                "COALESCE(SUM(visible > ?1 AND count = 0), 0) FROM messages WHERE queue = ?2 AND sent > ?3",
                (now, queue.id, now - queue.settings["MessageRetentionPeriod"]),
            ).fetchone()
        return MessageCounts(*row)

    # --- messages

    def send(self, name: str, messages: Sequence[tuple[str, Mapping[str, Any], int | None]], now: float) -> list[str]:
        """Add messages, all of them or none; return their MessageIds.

        Args:
            name: the queue's.
            messages: of each the body, what goes beside it, and the seconds until it can be received; None for the
                queue's delay.
            now: the time.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`.
        """
        with self._database.write() as connection:
            queue = _queue(connection, name)
            return [
                _add(connection, queue, body, extras, now, queue.settings["DelaySeconds"] if delay is None else delay)
                for body, extras, delay in messages
            ]

    def post(self, name: str, body: str, now: float) -> None:
        """Add a message of the engine's own; the queue is made if it is missing."""
        with self._database.write() as connection:
            queue = _find(connection, name) or _insert(connection, name, DEFAULTS, now)
            _add(connection, queue, body, {}, now, queue.settings["DelaySeconds"])

    def receive(self, name: str, limit: int, visibility: int | None, now: float) -> list[Message]:
        """Return messages that nobody else has, the oldest first; they are invisible for so many seconds.

        Args:
            name: the queue's.
            limit: how many at most.
            visibility: the seconds; None for the queue's visibility timeout.
            now: the time.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`.
        """
        with self._database.read() as connection:  # who waits for a message comes often: without a write, if he can
            if not _visible(connection, _queue(connection, name), 1, now):
                return []
        with self._database.write() as connection:
            queue = _queue(connection, name)
            connection.execute(
                "DELETE FROM messages WHERE queue = ? AND sent <= ?",
                (queue.id, now - queue.settings["MessageRetentionPeriod"]),
            )
            seconds = queue.settings["VisibilityTimeout"] if visibility is None else visibility
            found = _visible(connection, queue, limit, now)
            return [_take(connection, queue, message, now, now + seconds) for message in found]

    def remove(self, name: str, receipt: str) -> None:
        """Delete a received message; one that is gone, or was received again since, does not matter.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`; `ReceiptHandleIsInvalid`, no handle of this queue's.
        """
        with self._database.write() as connection:
            message, secret = _read_receipt(receipt, _queue(connection, name))
            connection.execute("DELETE FROM messages WHERE id = ? AND receipt = ?", (message, secret))

    def set_visibility(self, name: str, receipt: str, seconds: int, now: float) -> None:
        """Let a received message be visible again after so many seconds.

        Raises:
            ApiError: `AWS.SimpleQueueService.NonExistentQueue`; `ReceiptHandleIsInvalid`, no handle of this queue's;
                `InvalidParameterValue`, the message is not with this receiver any more.
        """
        with self._database.write() as connection:
            message, secret = _read_receipt(receipt, _queue(connection, name))
            changed = connection.execute(
                "UPDATE messages SET visible = ? WHERE id = ? AND receipt = ? AND visible > ?",
                (now + seconds, message, secret, now),
            ).rowcount
        if not changed:
            raise ApiError(
                "InvalidParameterValue",
                f"Value {receipt} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not "
                "available for visibility timeout change.",
            )

    def close(self) -> None:
        """Close the database's idle connections."""
        self._database.close()


def _find(connection: sqlite3.Connection, name: str) -> Queue | None:
    row = connection.execute(
        "SELECT id, name, created, modified, settings FROM queues WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else Queue(row[0], row[1], row[2], row[3], json.loads(row[4]))


def _queue(connection: sqlite3.Connection, name: str) -> Queue:
    found = _find(connection, name)
    if found is None:
        raise no_such_queue()
    return found


def _insert(connection: sqlite3.Connection, name: str, settings: Mapping[str, int], now: float) -> Queue:
    number = connection.execute(
        "INSERT INTO queues (name, created, modified, settings) VALUES (?, ?, ?, ?)",
        (name, now, now, json.dumps(settings)),
    ).lastrowid
    return Queue(number or 0, name, now, now, dict(settings))


def _add(
    connection: sqlite3.Connection, queue: Queue, body: str, extras: Mapping[str, Any], now: float, delay: int
) -> str:
    name = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO messages (queue, uuid, body, extras, sent, visible) VALUES (?, ?, ?, ?, ?, ?)",
        (queue.id, name, body, json.dumps(extras), now, now + delay),
    )
    return name


def _visible(connection: sqlite3.Connection, queue: Queue, limit: int, now: float) -> Sequence[tuple[Any, ...]]:
    return connection.execute(
        "SELECT id, uuid, body, extras, sent, count, received FROM messages "
        "WHERE queue = ? AND visible <= ? AND sent > ? ORDER BY visible, id LIMIT ?",
        (queue.id, now, now - queue.settings["MessageRetentionPeriod"], limit),
    ).fetchall()


def _take(connection: sqlite3.Connection, queue: Queue, row: tuple[Any, ...], now: float, visible: float) -> Message:
    number, name, body, extras, sent, count, received = row
    first = now if received is None else received
    secret = uuid.uuid4().hex
    connection.execute(
        "UPDATE messages SET visible = ?, count = ?, received = ?, receipt = ? WHERE id = ?",
        (visible, count + 1, first, secret, number),
    )
    receipt = base64.urlsafe_b64encode(f"{queue.id}:{number}:{secret}".encode()).decode()
    return Message(name, body, json.loads(extras), sent, count + 1, first, receipt)


def _read_receipt(receipt: str, queue: Queue) -> tuple[int, str]:
    """Return the message's number and the secret that a handle of this queue stands for."""
    try:
        owner, message, secret = base64.b64decode(receipt, altchars=b"-_", validate=True).decode().split(":")
        if int(owner) == queue.id:
            return int(message), secret
    except (ValueError, binascii.Error):
        pass
    raise ApiError("ReceiptHandleIsInvalid", f'The input receipt handle "{receipt}" is not a valid receipt handle.')
