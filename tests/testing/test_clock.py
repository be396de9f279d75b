"""The virtual clock: time moves by sleeps, waits and advances only."""

from __future__ import annotations

import math
import threading

import pytest

from processing.clock import SYSTEM_CLOCK, Clock
from processing.testing.clock import VirtualClock


def test_it_moves_only_on_request() -> None:
    """Sleeping moves both readings alike and is recorded. Advancing is not recorded."""
    clock = VirtualClock(start=100.0)
    clock.sleep(3600)
    clock.advance(0.5)
    clock.sleep(-1)
    assert clock.time() == 3700.5
    assert clock.monotonic() == 3600.5
    assert clock.sleeps == [3600, -1]


def test_it_never_goes_back() -> None:
    """A step back is a mistake in the test. Code that measures intervals could wait for ever."""
    clock = VirtualClock()
    with pytest.raises(ValueError, match="seconds: must be a number of at least 0, not -1"):
        clock.advance(-1)
    assert clock.monotonic() == 0


def test_threads_share_it() -> None:
    """No sleep is lost between threads."""
    clock = VirtualClock()

    def sleep_often() -> None:
        for _ in range(100):
            clock.sleep(1)

    threads = [threading.Thread(target=sleep_often) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic() == 800


def test_a_single_thread_waits_no_real_time() -> None:
    """Waiting moves the time on at once, is recorded, and returns the lock to the caller."""
    clock = VirtualClock()
    condition = threading.Condition()
    with condition:
        for _ in range(1000):
            clock.wait(condition, 3.6)
        clock.wait(condition, -1.0)
        assert condition._is_owned()  # type: ignore[attr-defined]
    assert clock.monotonic() == pytest.approx(3600)
    assert len(clock.sleeps) == 1001


def test_the_earliest_moment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of threads that wait for several moments, each returns at its own, in order."""
    monkeypatch.setattr("processing.testing.clock._GRACE", math.inf)
    clock = VirtualClock()
    condition = threading.Condition()
    ready = threading.Barrier(3)
    returned: list[tuple[float, float]] = []

    def wait(seconds: float) -> None:
        clock.monotonic()  # makes the thread known, so that none goes ahead of it
        ready.wait()
        with condition:
            clock.wait(condition, seconds)
            returned.append((seconds, clock.monotonic()))

    threads = [threading.Thread(target=wait, args=(seconds,)) for seconds in (50.0, 10.0, 3600.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert returned == [(10.0, 10.0), (50.0, 50.0), (3600.0, 3600.0)]


def test_time_waits_for_a_thread_that_was_notified(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notified thread returns at that moment, even if it runs late."""
    monkeypatch.setattr("processing.testing.clock._GRACE", math.inf)
    clock, told, other = VirtualClock(), threading.Condition(), threading.Condition()
    ready = threading.Semaphore(0)
    returned: list[float] = []

    def wait() -> None:
        with told:
            for _ in range(100):
                ready.release()
                clock.wait(told, 3600)
                returned.append(clock.monotonic())

    clock.monotonic()  # makes this thread known, so that the other does not go ahead
    thread = threading.Thread(target=wait)
    thread.start()
    for _ in range(100):
        ready.acquire()
        with told:  # to be had once the thread waits
            told.notify()
        with other:
            clock.wait(other, 1)
    thread.join()
    assert returned == list(range(100))


def test_a_thread_that_has_ended_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock does not wait for it."""
    monkeypatch.setattr("processing.testing.clock._GRACE", math.inf)
    clock, condition = VirtualClock(), threading.Condition()
    thread = threading.Thread(target=clock.monotonic)
    thread.start()
    thread.join()
    with condition:
        clock.wait(condition, 5)
    assert clock.monotonic() == 5


@pytest.mark.parametrize("clock", [VirtualClock(), SYSTEM_CLOCK])
def test_a_notification_ends_a_wait(clock: Clock) -> None:
    """With either clock a notified wait returns at once. Without notification it would last for ever."""
    condition = threading.Condition()
    ready = threading.Event()

    def wait() -> None:
        with condition:
            ready.set()
            clock.wait(condition, math.inf)

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    with condition:  # to be had once the thread waits
        condition.notify_all()
    thread.join()


def test_the_system_clock_waits_no_negative_time() -> None:
    """A moment that has passed is not waited for."""
    condition = threading.Condition()
    with condition:
        SYSTEM_CLOCK.wait(condition, -5.0)
