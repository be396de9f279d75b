"""The virtual clock: time passes when it is told to."""

from __future__ import annotations

import threading

from processing.testing.clock import VirtualClock


def test_it_moves_only_when_told() -> None:
    """Sleeping moves both readings by the same, and is noted; advancing is not."""
    clock = VirtualClock(start=100.0)
    clock.sleep(3600)
    clock.advance(0.5)
    clock.sleep(-1)
    assert clock.time() == 3700.5
    assert clock.monotonic() == 3600.5
    assert clock.sleeps == [3600, -1]


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
