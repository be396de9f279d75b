"""SQLite, shared by threads, forked children and other processes.

Mutual exclusion between processes is SQLite's own: a write transaction begins with BEGIN IMMEDIATE, so there is one
writer at a time, whichever process it is in, and a writer that is killed leaves nothing behind. Threads of one process
queue up before that, because SQLite waits by sleeping, in steps of up to 0.1 s.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING

from processing.exceptions import EngineError
from processing.local.errors import disk_full, folder_gone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

BUSY_SECONDS = 30.0
"""How long a transaction waits for another one."""

_VACUUM_PAGES = 1000
_ROOM_BYTES = 1 << 16
_WITHOUT_ROOM = ("disk I/O error", "unable to open database file")

_abandoned: list[list[sqlite3.Connection]] = []
"""Connections that a forked child got from its parent. SQLite forbids to use them there, and to close them too."""

_turns: dict[str, threading.Lock] = {}
"""For each file, what this process's writers queue at."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.clear)  # the thread that holds one may not exist in the child


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection in autocommit mode, set up for many processes (write-ahead log, 30 s of patience).

    With `synchronous=NORMAL` a killed process loses no finished transaction; a power failure may lose the last ones.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _lay_out(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _lay_out(connection: sqlite3.Connection) -> None:
    # SQLite does not apply the busy timeout to the change of the journal mode, which is where processes that open a
    # new database at the same moment meet.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA page_count").fetchone() == (0,):  # it can only be said of a new file
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
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
        schema: the statements that make a new database, of this version.
        version: the version of that schema. A file of an older one is upgraded when it is opened, in one transaction;
            one of a newer version is refused.
        upgrades: for each older version, the statements that make the next one of it. They add tables, indexes, and
            columns that are nullable or have a default, so that a process which has the file open already (the
            supervisor of a running job) can go on with the statements it knows.
    """

    def __init__(
        self,
        path: Path,
        schema: Sequence[str],
        version: int = 1,
        upgrades: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self.path = path
        self._schema = tuple(schema)
        self._version = version
        self._upgrades = dict(upgrades or {})
        self._pid = os.getpid()
        self._file: tuple[int, int] | None = None
        self._idle: list[sqlite3.Connection] = []
        self._closer = weakref.finalize(self, _close_all, self._idle, self._pid)

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a read transaction: all statements see one state of the database.

        Raises:
            EngineError: the folder is gone, or the database is of a newer version.
        """
        with self._lend() as connection, self._transaction(connection, "BEGIN"):
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a write transaction: committed at the end, rolled back on an exception.

        Raises:
            ApiError: the disk is full.
            EngineError: the folder is gone or cannot be written to, or the database is of a newer version.
        """
        with self._turn(), self._lend() as connection, self._transaction(connection, "BEGIN IMMEDIATE"):
            yield connection

    def check(self) -> None:
        """Open the database, so that one that cannot be used is found out now.

        Raises:
            EngineError: it cannot.
        """
        with self._lend():
            pass

    def close(self) -> None:
        """Close the idle connections; the next use opens a new one."""
        if self._pid == os.getpid():
            _close_all(self._idle, self._pid)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        lock = _turns.setdefault(str(self.path), threading.Lock())
        # Without a turn it goes on all the same: who writes is SQLite's decision, this only saves its waiting.
        got_it = lock.acquire(timeout=BUSY_SECONDS)
        try:
            yield
        finally:
            if got_it:
                lock.release()

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection, begin: str) -> Iterator[None]:
        try:
            connection.execute(begin)
            yield
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                self._explain(error)
            raise

    def _explain(self, error: sqlite3.OperationalError) -> None:
        """Raise what lies behind an error of SQLite's, if it is the folder's state."""
        folder = self.path.parent
        if "is full" in str(error) or (_has_no_room(folder) and any(text in str(error) for text in _WITHOUT_ROOM)):
            raise disk_full(folder) from error
        if not folder.is_dir():
            raise folder_gone(folder) from error
        if "readonly" in str(error) or not os.access(folder, os.W_OK | os.X_OK):
            raise EngineError(
                f"the engine cannot write to its folder {folder}: {error} ({self.path.name}). "
                "Make it writable, or use another folder"
            ) from error

    @contextlib.contextmanager
    def _lend(self) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            self._leave_to_parent()
        if self._idle and self._file != _identity(self.path):
            self.close()  # it was removed: what is written to it now, nobody would ever read
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
        try:
            connection = connect(self.path)
            self._file = _identity(self.path)
        except sqlite3.OperationalError as error:
            self._explain(error)
            raise
        try:
            if _pragma(connection, "user_version") != self._version:
                with self._transaction(connection, "BEGIN IMMEDIATE"):
                    self._bring_up_to_date(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or those that later versions added, inside a write transaction."""
        stored = _pragma(connection, "user_version")  # once more: somebody may have been faster
        if stored > self._version:
            raise self._too_new(stored)
        statements = self._schema if stored == 0 else self._steps_from(stored)
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={self._version}")

    def _steps_from(self, stored: int) -> list[str]:
        missing = [version for version in range(stored, self._version) if version not in self._upgrades]
        if missing:
            raise EngineError(
                f"the engine's folder {self.path.parent} is too old: {self.path.name} has format {stored}, and this "
                f"version of sm-processing can only upgrade from {missing[-1] + 1} on. Use another folder"
            )
        return [statement for version in range(stored, self._version) for statement in self._upgrades[version]]

    def _too_new(self, stored: int) -> EngineError:
        return EngineError(
            f"the engine's folder {self.path.parent} was written by a newer version of sm-processing: "
            f"{self.path.name} has format {stored}, and this version knows formats up to {self._version}. "
            "Upgrade the package (pip install --upgrade sm-processing), or use another folder: "
            "LocalSession(home), or the environment's PROCESSING_LOCAL_HOME"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from a later one of its name; None where there is none."""
    try:
        state = os.stat(path)  # noqa: PTH116 -- this is part of every transaction
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _has_no_room(folder: Path) -> bool:
    """Return whether SQLite cannot make the small files beside a database that it works with."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _ROOM_BYTES
    return False


def _close_all(connections: list[sqlite3.Connection], pid: int) -> None:
    while connections and pid == os.getpid():
        connections.pop().close()


def give_space_back(path: Path) -> None:
    """Return the pages of deleted rows to the file system, in steps between which others write.

    A file that was made before this was provided for is rewritten once, if a quarter of it is free.
    """
    with contextlib.closing(connect(path)) as connection:
        if _pragma(connection, "auto_vacuum") == 0:
            if _pragma(connection, "freelist_count") * 4 >= _pragma(connection, "page_count"):
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
                with contextlib.suppress(sqlite3.OperationalError):  # no space for the copy: another time
                    connection.execute("VACUUM")
        else:
            while _pragma(connection, "freelist_count"):
                connection.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
        connection.execute("PRAGMA busy_timeout=1000")  # not longer, for readers who stay: the next one truncates it
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
