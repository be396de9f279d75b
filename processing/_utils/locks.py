"""Locks that a block gives up for a while, and holds again at its end, even if Ctrl-C comes in between.

Python raises a KeyboardInterrupt between any two calls of the main thread. If that is just after `release`, or amid the
`acquire` that follows, then the enclosing `with` block has no lock to release. Its RuntimeError replaces the
KeyboardInterrupt. `threading.Condition.wait` of the standard library has this fault, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

T = TypeVar("T")


def wait_on(condition: threading.Condition, seconds: float) -> None:
    """Call `condition.wait(seconds)`. The caller holds the condition's lock once, also after an interrupt."""
    try:
        condition.wait(seconds)
    except BaseException:
        _hold(condition)
        raise


def call_unlocked(lock: threading.RLock | threading.Condition, function: Callable[[], T]) -> T:
    """Release a lock, call a function, acquire the lock again, and return the function's result.

    The caller holds the lock once. It holds it again however the call ends.
    """
    try:
        try:
            lock.release()
            return function()
        finally:
            _hold(lock)
    except BaseException:
        _hold(lock)  # the interrupt may have come before the lock was held again
        raise


def _hold(lock: threading.RLock | threading.Condition) -> None:
    """Acquire a lock unless this thread holds it. An interrupt is raised once the thread holds the lock."""
    interrupt: BaseException | None = None
    while not lock._is_owned():  # type: ignore[union-attr]  # noqa: SLF001 - threading.Condition relies on it, too
        try:
            lock.acquire()
        except BaseException as error:  # noqa: BLE001, PERF203 - raised below
            interrupt = error
    if interrupt is not None:
        raise interrupt
