"""Ctrl-C at every step of a wait that gives up its lock: the lock is held again, and the interrupt arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from processing._utils import locks
from processing.clock import SystemClock
from processing.testing.clock import VirtualClock


class InterruptedLock:
    """A re-entrant lock with a Ctrl-C: Python may raise it before or after each of its methods.

    Args:
        step: the step at which the interrupt comes, counted from one. Each method has two: its begin and its end.

    Attributes:
        steps: the number of steps so far; None counts none.
    """

    def __init__(self, step: int) -> None:
        self._lock: Any = threading.RLock()
        self._step = step
        self.steps: int | None = None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.steps = None
        self._lock.release()

    def _interrupted(self, method: Callable[..., Any], *arguments: Any) -> Any:
        self._count()
        result = method(*arguments)
        self._count()
        return result

    def _count(self) -> None:
        if self.steps is not None:
            self.steps += 1
            if self.steps == self._step:
                raise KeyboardInterrupt

    def acquire(self, blocking: bool = True) -> Any:
        return self._interrupted(self._lock.acquire, blocking)

    def release(self) -> None:
        self._interrupted(self._lock.release)

    def _release_save(self) -> Any:
        return self._interrupted(self._lock._release_save)

    def _acquire_restore(self, state: Any) -> None:
        self._interrupted(self._lock._acquire_restore, state)

    def _is_owned(self) -> Any:
        return self._interrupted(self._lock._is_owned)


Wait: TypeAlias = Callable[[threading.Condition], object]


def wait_by_system_clock(condition: threading.Condition) -> None:
    SystemClock().wait(condition, 0.0)


def wait_by_virtual_clock(condition: threading.Condition) -> None:
    VirtualClock().wait(condition, 1.0)


def call_unlocked(condition: threading.Condition) -> None:
    assert locks.call_unlocked(condition, lambda: 5) == 5


def fail_unlocked(condition: threading.Condition) -> None:
    def fail() -> None:
        raise ValueError("the function failed")

    with pytest.raises(ValueError, match="the function failed"):
        locks.call_unlocked(condition, fail)


WAITS = [wait_by_system_clock, wait_by_virtual_clock, call_unlocked, fail_unlocked]


def steps_of(wait: Wait) -> int:
    """Return the number of steps of an undisturbed wait."""
    lock = InterruptedLock(0)
    with lock:
        lock.steps = 0
        wait(threading.Condition(lock))  # type: ignore[arg-type]
        return lock.steps


def is_free(lock: InterruptedLock) -> bool:
    """Return whether another thread can acquire a lock."""
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    return answers == [True]


@pytest.mark.parametrize("wait", WAITS)
def test_an_interrupt_at_every_step(wait: Wait) -> None:
    """The caller gets the KeyboardInterrupt, not an error of the lock, and leaves the lock free."""
    steps = steps_of(wait)
    assert steps >= 4
    for step in range(1, steps + 1):
        lock = InterruptedLock(step)
        with pytest.raises(KeyboardInterrupt), lock:  # noqa: PT012 - the exit of the block counts, too
            lock.steps = 0
            wait(threading.Condition(lock))  # type: ignore[arg-type]
        assert is_free(lock), step
