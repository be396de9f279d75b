"""The queue store: standard queues of SQS and their messages, in SQLite.

A received message is invisible until its visibility timeout ends. Then it can be received again, unless it was deleted.
All times are seconds since the epoch.
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
"""The settings of a queue by SQS's names, in seconds and bytes, with SQS's defaults."""


class Queue(NamedTuple):
    """A queue."""

    id: int
    name: str
    created: float
    modified: float
    settings: dict[str, int]


class MessageCounts(NamedTuple):
    """Numbers of the messages that can be received, that are with a receiver, and that are delayed."""

    visible: int
    in_flight: int
    delayed: int


class Message(NamedTuple):
    """A received message.

    Attributes:
        uuid: the MessageId.
        body: the text of the message.
        extras: the attributes that were sent with it, as JSON values.
        sent: the time at which it was sent.
        receives: the number of times it was received, including this one.
        received: the time at which it was received first.
        receipt: the handle with which this receiver deletes it or changes its visibility.
    """

    uuid: str
    body: str
    extras: dict[str, Any]
    sent: float
    receives: int
    received: float
    receipt: str


def no_such_queue() -> ApiError:
    """Return the error for a queue that does not exist."""
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
        """Create a queue, unless it exists with the same settings.

        Raises:
            ApiError: the queue exists with other settings (`QueueAlreadyExists`).
        """
        with self._database.write() as connection:
            found = _find(connection, name)
            if found is None:
                _insert(connection, name, {**DEFAULTS, **settings}, now)
                return
        different = [each for each, value in settings.items() if found.settings[each] != value]
        if different:
            raise ApiError(
                "QueueAlreadyExists",
                f"A queue already exists with the same name and a different value for attribute {different[0]}",
            )

    def get(self, name: str) -> Queue:
        """Return the queue with a name.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`).
        """
        with self._database.read() as connection:
            return _require(connection, name)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return at most `limit` names of queues that begin with the prefix and follow `after`, sorted."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT name FROM queues WHERE substr(name, 1, ?) = ? AND name > ? ORDER BY name LIMIT ?",
                (len(prefix), prefix, after, limit),
            ).fetchall()
        return [name for (name,) in rows]

    def change(self, name: str, settings: Mapping[str, int], now: float) -> None:
        """Change some of a queue's settings.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`).
        """
        with self._database.write() as connection:
            queue = _require(connection, name)
            connection.execute(
                "UPDATE queues SET settings = ?, modified = ? WHERE id = ?",
                (json.dumps({**queue.settings, **settings}), now, queue.id),
            )

    def delete(self, name: str) -> None:
        """Delete a queue and its messages.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`).
        """
        with self._database.write() as connection:
            connection.execute("DELETE FROM queues WHERE id = ?", (_require(connection, name).id,))

    def purge(self, name: str) -> None:
        """Delete a queue's messages.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`).
        """
        with self._database.write() as connection:
            connection.execute("DELETE FROM messages WHERE queue = ?", (_require(connection, name).id,))

    def counts(self, name: str, now: float) -> MessageCounts:
        """Return the numbers of a queue's messages.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`).
        """
        with self._database.read() as connection:
            queue = _require(connection, name)
            row = connection.execute(
                "SELECT COALESCE(SUM(visible <= ?1), 0), COALESCE(SUM(visible > ?1 AND count > 0), 0), "
                "COALESCE(SUM(visible > ?1 AND count = 0), 0) FROM messages WHERE queue = ?2 AND sent > ?3",
                (now, queue.id, now - queue.settings["MessageRetentionPeriod"]),
            ).fetchone()
        return MessageCounts(*row)

    # --- messages

    def send(self, name: str, messages: Sequence[tuple[str, Mapping[str, Any], int | None]], now: float) -> list[str]:
        """Add messages, all of them or none, and return their MessageIds.

        Args:
            name: the queue's name.
            messages: the body, the extras and the delay in seconds of each message. None stands for the queue's delay.
            now: the time.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`).
        """
        with self._database.write() as connection:
            queue = _require(connection, name)
            return [
                _add(connection, queue, body, extras, now, queue.settings["DelaySeconds"] if delay is None else delay)
                for body, extras, delay in messages
            ]

    def post(self, name: str, body: str, now: float) -> None:
        """Add a message of the engine itself. A missing queue is created."""
        with self._database.write() as connection:
            queue = _find(connection, name) or _insert(connection, name, DEFAULTS, now)
            _add(connection, queue, body, {}, now, queue.settings["DelaySeconds"])

    def receive(self, name: str, limit: int, visibility: int | None, now: float) -> list[Message]:
        """Return visible messages, the oldest first, and make them invisible for some time.

        Args:
            name: the queue's name.
            limit: the maximum number of messages.
            visibility: the seconds of invisibility. None stands for the queue's visibility timeout.
            now: the time.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`).
        """
        # Long polling calls this often, so an empty queue must not cost a write transaction.
        with self._database.read() as connection:
            if not _visible(connection, _require(connection, name), 1, now):
                return []
        with self._database.write() as connection:
            queue = _require(connection, name)
            connection.execute(
                "DELETE FROM messages WHERE queue = ? AND sent <= ?",
                (queue.id, now - queue.settings["MessageRetentionPeriod"]),
            )
            seconds = queue.settings["VisibilityTimeout"] if visibility is None else visibility
            found = _visible(connection, queue, limit, now)
            return [_mark_received(connection, queue, message, now, now + seconds) for message in found]

    def remove(self, name: str, receipt: str) -> None:
        """Delete a received message. One that is gone, or was received again since, is ignored.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`), or the handle is not one of
                this queue (`ReceiptHandleIsInvalid`).
        """
        with self._database.write() as connection:
            message, secret = _read_receipt(receipt, _require(connection, name))
            connection.execute("DELETE FROM messages WHERE id = ? AND receipt = ?", (message, secret))

    def set_visibility(self, name: str, receipt: str, seconds: int, now: float) -> None:
        """Set the seconds until a received message is visible again.

        Raises:
            ApiError: the queue does not exist (`AWS.SimpleQueueService.NonExistentQueue`), the handle is not one of
                this queue (`ReceiptHandleIsInvalid`), or the message is not with this receiver any more
                (`InvalidParameterValue`).
        """
        with self._database.write() as connection:
            message, secret = _read_receipt(receipt, _require(connection, name))
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


def _require(connection: sqlite3.Connection, name: str) -> Queue:
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


def _mark_received(
    connection: sqlite3.Connection, queue: Queue, row: tuple[Any, ...], now: float, visible: float
) -> Message:
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
    """Return the message's id and the secret in a receipt handle of this queue."""
    try:
        owner, message, secret = base64.b64decode(receipt, altchars=b"-_", validate=True).decode().split(":")
        if int(owner) == queue.id:
            return int(message), secret
    except (ValueError, binascii.Error):
        pass
    raise ApiError("ReceiptHandleIsInvalid", f'The input receipt handle "{receipt}" is not a valid receipt handle.')
