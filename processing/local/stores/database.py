"""SQLite, shared by threads, forked children and other processes.

SQLite excludes writers from each other. A write transaction begins with BEGIN IMMEDIATE, so there is one writer at a
time across all processes. A killed writer leaves nothing behind. The threads of one process wait for a lock first,
because SQLite waits by sleeping for up to 0.1 s at a time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from processing.exceptions import EngineError
from processing.local.errors import OTHER_FOLDER, ApiError, is_full
from processing.local.stores.database_errors import explain_error
from processing.local.stores.fork_gate import GATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

BUSY_SECONDS = 30.0
"""The time that a transaction waits for another one."""

_VACUUM_PAGES = 1000
"""Pages that one transaction of `give_space_back` frees: 4 MB, during which others wait."""
_CREATION_SECONDS = 60.0
"""The age from which an empty file is not one that another process is creating."""

_abandoned: list[list[_Opened]] = []
"""Connections of a parent that forked during a transaction. SQLite forbids its child to use and to close them."""

_write_locks: dict[str, threading.Lock] = {}
"""The lock that this process's writers wait for, by database file."""

_CHECKPOINT_MARGIN = 1 << 16
"""The bytes that a checkpoint leaves free."""
_DELETION_CACHE = 1 << 16
"""The KiB of memory for the pages of a deletion on a nearly full disk. Without it SQLite writes them too early."""
_saving_space: ContextVar[bool] = ContextVar("saving_space", default=False)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_write_locks.clear)  # the thread that holds a lock may not exist in the child


@contextlib.contextmanager
def saving_space() -> Iterator[None]:
    """Keep the databases from growing within the block, for deletions on a nearly full disk.

    A checkpoint copies pages from the write-ahead log to the database, which may take the space that a deletion needs.
    After deletions at the end of the database, these pages need no copy.
    """
    token = _saving_space.set(True)
    try:
        yield
    finally:
        _saving_space.reset(token)


def is_saving_space() -> bool:
    """Return True within a block of `saving_space`."""
    return _saving_space.get()


def connect(path: Path) -> sqlite3.Connection:
    """Open a connection in autocommit mode, configured for many processes (write-ahead log, 30 s busy timeout).

    With `synchronous=NORMAL` a killed process loses no committed transaction. A power failure may lose the last ones.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _set_modes(connection)
        connection.execute("PRAGMA synchronous=NORMAL")  # also in place of OFF, which a new file was made with
        connection.execute("PRAGMA foreign_keys=ON")
        if _saving_space.get():
            connection.execute("PRAGMA wal_autocheckpoint=0")
            # So that pages that a deletion empties are not written.
            connection.execute("PRAGMA secure_delete=OFF")
            connection.execute(f"PRAGMA cache_size=-{_DELETION_CACHE}")
    except BaseException:
        connection.close()
        raise
    return connection


def _set_modes(connection: sqlite3.Connection) -> None:
    # SQLite does not apply the busy timeout to a change of the journal mode. Processes that open a new database at the
    # same moment collide here. So this function retries on its own.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA page_count").fetchone() == (0,):  # only an empty file accepts auto_vacuum
                # Both changes write the first page, and would wait for the disk: a new folder has four databases. A
                # power failure at this moment finds no data in them.
                connection.execute("PRAGMA synchronous=OFF")
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:  # noqa: PERF203 - a retry
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


class _Opened(NamedTuple):
    """A connection, and the identity of its file; None for one that serves a single transaction."""

    connection: sqlite3.Connection
    file: tuple[int, int] | None


class Database:
    """A database file and the connections to it of this process.

    Nothing is opened before the first use. A connection serves one thread at a time and is then kept for the next one.

    Args:
        path: the file. Its folder must exist.
        schema: the statements that create a database of this version.
        version: the version of the schema. A file of an older version is upgraded in one transaction when it is
            opened. A file of a newer version is refused.
        upgrades: for each older version, the statements that upgrade it to the next version. They add tables, indexes,
            and columns that are nullable or have a default, or replace a table by one with more columns of that kind.
            So a process that already has the file open, like the supervisor of a running job, can continue with its
            own statements.
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
        self._file: tuple[int, int] | None = None  # that of the newest connection
        self._idle: list[_Opened] = []
        self._closer = weakref.finalize(self, _close_all, self._idle, self._pid)
        GATE.watch(self)

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside a read transaction. All statements see one state of the database.

        Raises:
            EngineError: the folder is gone, or the database is damaged or of a newer version.
        """
        with self._lend(for_reading=True) as connection, self._transaction(connection, "BEGIN"):
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection inside a write transaction, committed at the end and rolled back on an exception.

        Raises:
            ApiError: the disk is full.
            EngineError: the folder is gone or cannot be written to, or the database is damaged or of a newer version.
        """
        with self._write_lock(), self._lend() as connection, self._transaction(connection, "BEGIN IMMEDIATE"):
            yield connection

    def check(self) -> None:
        """Open the database, so that an unusable one is detected now.

        Raises:
            EngineError: the database cannot be used.
        """
        with self._lend():
            pass

    def close(self) -> None:
        """Close the idle connections. The next use opens a new one."""
        if self._pid == os.getpid():
            _close_all(self._idle, self._pid)

    @contextlib.contextmanager
    def _write_lock(self) -> Iterator[None]:
        lock = _write_locks.setdefault(str(self.path), threading.Lock())
        # After a timeout the transaction starts nevertheless: SQLite excludes writers, and the lock only saves waiting.
        acquired = lock.acquire(timeout=BUSY_SECONDS)
        try:
            yield
        finally:
            if acquired:
                lock.release()

    @contextlib.contextmanager
    def _transaction(self, connection: sqlite3.Connection, begin: str) -> Iterator[None]:
        try:
            connection.execute(begin)
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # the first error has the reason
                    connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _lend(self, *, for_reading: bool = False) -> Iterator[sqlite3.Connection]:
        with GATE.transaction(), self._lend_one(for_reading) as connection:
            yield connection

    @contextlib.contextmanager
    def _lend_one(self, for_reading: bool) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            self._leave_to_parent()
        idle = self._idle
        opened = self._take(idle, for_reading)
        kept = opened.file is not None
        try:
            yield opened.connection
        except sqlite3.Error as error:
            explained = explain_error(self.path, error)
            # A damaged connection is closed. On a full disk it stays, since it may be impossible to open a new one.
            kept = kept and isinstance(explained, ApiError)
            raise explained from error
        finally:
            if kept and opened.file == self._file:  # an older file was removed, and would keep its space
                idle.append(opened)
            else:
                opened.connection.close()

    def _take(self, idle: list[_Opened], for_reading: bool) -> _Opened:
        """Return an idle connection to the present file, or a new one."""
        with contextlib.suppress(IndexError):  # other threads take connections too
            while True:
                opened = idle.pop()
                if opened.file == _identity(self.path):
                    return opened
                opened.connection.close()  # the file was removed or replaced, so writes through it would be lost
        try:
            return self._open()
        except ApiError as error:
            unshared = self._open_unshared() if for_reading and is_full(error) else None
            if unshared is None:
                raise
            return _Opened(unshared, None)

    def _leave_to_parent(self) -> None:
        _abandoned.append(self._idle)
        self._closer.detach()
        self._pid = os.getpid()
        self._idle = []
        self._closer = weakref.finalize(self, _close_all, self._idle, self._pid)

    def _open(self) -> _Opened:
        was_emptied = _was_emptied(self.path)
        try:
            connection = connect(self.path)
            try:
                file = self._file = _identity(self.path)
                if _pragma(connection, "user_version") != self._version:
                    with self._transaction(connection, "BEGIN IMMEDIATE"):
                        self._bring_up_to_date(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise explain_error(self.path, error) from error
        if was_emptied:
            import logging  # here, because a supervisor starts without it

            logging.getLogger(__name__).warning("%s was an empty file: the engine begins a new one.", self.path)
        return _Opened(connection, file)

    def _open_unshared(self) -> sqlite3.Connection | None:
        """Open the database for reading without the files for which a full disk has no room.

        Return None if it needs them: another process writes, or left a log. The connection sees no later transaction.
        """
        with contextlib.suppress(OSError, sqlite3.Error):
            log = self.path.with_name(f"{self.path.name}-wal")
            if not log.exists() or log.stat().st_size == 0:
                uri = f"{self.path.as_uri()}?mode=ro&immutable=1"
                connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
                if _pragma(connection, "user_version") == self._version:
                    return connection
                connection.close()
        return None

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        """Create or upgrade the tables, inside a write transaction."""
        stored = _pragma(connection, "user_version")  # again, because another process may have been faster
        if stored > self._version:
            raise self._too_new(stored)
        statements = self._schema if stored == 0 else self._upgrade_statements(stored)
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={self._version}")

    def _upgrade_statements(self, stored: int) -> list[str]:
        missing = [version for version in range(stored, self._version) if version not in self._upgrades]
        if missing:
            raise EngineError(
                f"the engine's folder {self.path.parent} is too old: {self.path.name} has format {stored}, and this "
                f"version of sm-processing can only upgrade formats from {missing[-1] + 1} on. Use another folder"
            )
        return [statement for version in range(stored, self._version) for statement in self._upgrades[version]]

    def _too_new(self, stored: int) -> EngineError:
        return EngineError(
            f"the engine's folder {self.path.parent} was written by a newer version of sm-processing: "
            f"{self.path.name} has format {stored}, and this version knows formats up to {self._version}. "
            f"Upgrade the package (pip install --upgrade sm-processing), or {OTHER_FOLDER}"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return an identity that distinguishes a file from a later one with the same name, or None if there is no file."""
    try:
        state = os.stat(path)  # noqa: PTH116 - this is part of every transaction
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _was_emptied(path: Path) -> bool:
    """Return whether a file lost its content. A failure of the machine may leave such a file."""
    with contextlib.suppress(OSError):
        state = os.stat(path)  # noqa: PTH116 - one system call
        return state.st_size == 0 and time.time() - state.st_mtime > _CREATION_SECONDS
    return False


def _close_all(idle: list[_Opened], pid: int) -> None:
    while idle and pid == os.getpid():
        idle.pop().connection.close()


def verify(path: Path) -> None:
    """Read a whole database, and change nothing.

    Raises:
        ProcessingError: it cannot be used.
    """
    try:
        with (
            GATE.transaction(),
            contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", timeout=1, uri=True)) as connection,
        ):
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
    except sqlite3.Error as error:
        raise explain_error(path, error) from error


def give_space_back(path: Path) -> None:
    """Return the pages of deleted rows to the file system, in small transactions between which others write.

    A file from before incremental vacuum was enabled is rewritten once, if a quarter of it is free.

    Raises:
        ApiError: the disk is full.
        EngineError: the database is damaged.
    """
    try:
        with GATE.transaction(), contextlib.closing(connect(path)) as connection:
            _vacuum(connection, path)
    except sqlite3.Error as error:
        raise explain_error(path, error) from error


def _vacuum(connection: sqlite3.Connection, path: Path) -> None:
    # Long readers may prevent a truncation. A later call does it then, so 1 s is enough to wait.
    if _pragma(connection, "auto_vacuum"):
        _free_pages(connection, path)
    elif _pragma(connection, "freelist_count") * 4 >= _pragma(connection, "page_count"):
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        # VACUUM needs space for a copy. If there is none, a later call tries again.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("VACUUM")
    connection.execute("PRAGMA busy_timeout=1000")
    if _fits(connection, path):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def free_pages(connection: sqlite3.Connection, limit: int | None = None) -> None:
    """Remove unused pages from the end of the file, inside a write transaction.

    Args:
        connection: a connection in a write transaction.
        limit: the number of pages; None for all.
    """
    unused = _pragma(connection, "freelist_count")
    for _ in range(unused if limit is None else min(unused, limit)):
        connection.execute(
            "PRAGMA incremental_vacuum(1)"
        ).close()  # the module sqlite3 executes only the first step of more


def _free_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Free all unused pages at the end of the file, in smaller steps if the disk is full."""
    pages = _VACUUM_PAGES
    while _pragma(connection, "freelist_count"):
        connection.execute("BEGIN IMMEDIATE")
        try:
            free_pages(connection, pages)
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if "is full" not in str(error) or pages == 1:
                raise
            pages = max(1, pages // 10)
        else:
            if pages < _VACUUM_PAGES and _fits(connection, path):
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _fits(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether a checkpoint fits on the disk. If not, it would take the remaining space in vain."""
    growth = _pragma(connection, "page_count") * _pragma(connection, "page_size") - path.stat().st_size
    return growth <= 0 or growth + _CHECKPOINT_MARGIN < shutil.disk_usage(path.parent).free


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
