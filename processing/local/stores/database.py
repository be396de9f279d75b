"""SQLite, shared by threads, forked children and other processes.

Mutual exclusion between processes is SQLite's own: a write transaction begins with BEGIN IMMEDIATE, so there is one
writer at a time, whichever process it is in, and a writer that is killed leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import weakref
from typing import TYPE_CHECKING

from processing.local.errors import disk_full

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BUSY_SECONDS = 30.0
"""How long a transaction waits for another one."""

_abandoned: list[list[sqlite3.Connection]] = []
"""Connections that a forked child got from its parent. SQLite forbids to use them there, and to close them too."""


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection in autocommit mode, set up for many processes (write-ahead log, 30 s of patience).

    With `synchronous=NORMAL` a killed process loses no finished transaction; a power failure may lose the last ones.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # SQLite does not apply the busy timeout to the change of the journal mode, which is where processes that open a
    # new database at the same moment meet.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:  # noqa: PERF203 — a retry
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


class Database:
    """A database file and the connections to it of this process.

    Nothing is opened before the first use. Connections are lent to one thread at a time and kept for the next one.

    Args:
        path: the file; its folder must exist.
        schema: the statements that make a new database.
        version: stored in a new database; one of another version is refused.
    """

    def __init__(self, path: Path, schema: Sequence[str], version: int = 1) -> None:
        self.path = path
        self._schema = tuple(schema)
        self._version = version
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._closer = weakref.finalize(self, _close_all, self._idle, self._pid)

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a read transaction: all statements see one state of the database."""
        with self._lend() as connection, self._transaction(connection, "BEGIN"):
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a write transaction: committed at the end, rolled back on an exception.

        Raises:
            ApiError: the disk is full.
        """
        with self._lend() as connection, self._transaction(connection, "BEGIN IMMEDIATE"):
            yield connection

    def close(self) -> None:
        """Close the idle connections; the next use opens a new one."""
        if self._pid == os.getpid():
            _close_all(self._idle, self._pid)

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection, begin: str) -> Iterator[None]:
        try:
            connection.execute(begin)
            yield
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and "is full" in str(error):
                raise disk_full(self.path.parent) from error
            raise

    @contextlib.contextmanager
    def _lend(self) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            self._leave_to_parent()
        idle = self._idle
        try:
            connection = idle.pop()
        except IndexError:
            connection = self._open()
        try:
            yield connection
        except sqlite3.Error:
            connection.close()  # whatever is wrong with it, the next user gets a fresh one
            raise
        except BaseException:
            idle.append(connection)
            raise
        idle.append(connection)

    def _leave_to_parent(self) -> None:
        _abandoned.append(self._idle)
        self._closer.detach()
        self._pid = os.getpid()
        self._idle = []
        self._closer = weakref.finalize(self, _close_all, self._idle, self._pid)

    def _open(self) -> sqlite3.Connection:
        connection = connect(self.path)
        try:
            if self._stored_version(connection) == 0:
                self._create(connection)
            if self._stored_version(connection) != self._version:
                message = f"{self.path} was written by another version of sm-processing; move it away to start anew"
                raise sqlite3.DatabaseError(message)  # noqa: TRY301 — closing is all that follows
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        with self._transaction(connection, "BEGIN IMMEDIATE"):
            if self._stored_version(connection) == 0:  # nobody else was faster
                for statement in self._schema:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={self._version}")

    @staticmethod
    def _stored_version(connection: sqlite3.Connection) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version)


def _close_all(connections: list[sqlite3.Connection], pid: int) -> None:
    while connections and pid == os.getpid():
        connections.pop().close()
