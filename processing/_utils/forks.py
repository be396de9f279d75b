"""The state of objects after a fork: a forked child shares no lock, connection or thread with its parent.

A child has a copy of every object, and only the thread that forked. A lock that another thread held stays held for
ever. An open connection belongs to both processes, and each may read the other's answers. So an object with such state
registers itself with `reset_after_fork`. Its method `_after_fork` runs in each child before any other code does.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class ForkAware(Protocol):
    """An object with state that a forked child must not share."""

    def _after_fork(self) -> None:
        """Replace that state, in the child. It must not acquire a lock that another thread may hold."""


_registered: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def reset_after_fork(instance: ForkAware) -> None:
    """Let `instance._after_fork()` run in every child that is forked while the instance exists."""
    _registered.add(instance)


def _reset_all() -> None:
    for instance in list(_registered):
        try:
            instance._after_fork()  # noqa: SLF001 - the protocol's own method
        except Exception:  # noqa: PERF203 - the other instances have to be reset, too
            import logging  # takes a tenth of the import of a processor, and is rarely needed

            logging.getLogger(__name__).exception("%s cannot be used after this fork", type(instance).__name__)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_all)


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, unless the thread that forked holds it.

    A copy of it, or an unpickled one, is a new lock that is free.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        reset_after_fork(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[ForkSafeLock], tuple[()]]:
        return ForkSafeLock, ()

    def _after_fork(self) -> None:
        self._lock = free_lock(self._lock)


def free_lock(lock: threading.RLock) -> threading.RLock:
    """Return the lock if this thread holds it, otherwise a new one. For `_after_fork`."""
    held: bool = lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001 - threading.Condition relies on it, too
    return lock if held else threading.RLock()
