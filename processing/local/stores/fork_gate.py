"""Forks while no connection to SQLite is in use or open.

SQLite keeps its locks in the memory of the process. A child that is forked during a call, or with open connections,
would inherit locks that no thread releases. It would wait for ever, or write without a lock. So a fork waits until the
transactions of other threads have ended, and closes the idle connections first. The next use opens new ones.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds for which a fork waits for transactions, and a transaction for a fork. A thread inside a transaction may wait
# for a lock that the forking thread holds. A transaction takes milliseconds, so a longer wait has such a reason.
_PATIENCE: Final = 10.0


class Closable(Protocol):
    """A database with connections that can be closed."""

    def close(self) -> None:
        """Close the idle connections."""


class ForkGate:
    """The gate between the transactions of a process and its forks."""

    def __init__(self) -> None:
        self._databases: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._forks = threading.RLock()  # one fork at a time
        self._changed = threading.Condition()  # its lock guards all below
        self._inside: dict[int, int] = {}  # the nested transactions of each thread
        self._forking: int | None = None

    def watch(self, database: Closable) -> None:
        """Close the idle connections of a database before each fork."""
        with self._changed:
            self._databases.add(database)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold off the forks of other threads until the block ends."""
        me = threading.get_ident()
        with self._changed:
            if self._forking not in {None, me} and me not in self._inside:
                self._changed.wait_for(lambda: self._forking is None, _PATIENCE)
            self._inside[me] = self._inside.get(me, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                left = self._inside.pop(me, 1) - 1
                if left:
                    self._inside[me] = left
                elif self._forking is not None:
                    self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until the other threads are outside, and close the idle connections."""
        me = threading.get_ident()
        self._forks.acquire()
        with self._changed:
            self._forking = me
            self._changed.wait_for(lambda: not self._inside.keys() - {me}, _PATIENCE)
            databases = () if self._inside else tuple(self._databases)
        for database in databases:
            database.close()

    def after_fork_in_parent(self) -> None:
        """Let the other threads go on."""
        with self._changed:
            self._forking = None
            self._changed.notify_all()
        self._forks.release()

    def after_fork_in_child(self) -> None:
        """Forget the other threads."""
        me = threading.get_ident()
        self._forks, self._changed = threading.RLock(), threading.Condition()
        self._inside = {me: self._inside[me]} if me in self._inside else {}
        self._forking = None


GATE = ForkGate()
"""The gate of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.before_fork, after_in_parent=GATE.after_fork_in_parent, after_in_child=GATE.after_fork_in_child
    )
