"""Work in threads."""

from __future__ import annotations

import threading

import pytest

from processing.container.shim.threads import map_in_threads


def test_results_are_in_the_order_of_the_items() -> None:
    """Each item is done once, by no more threads than asked for."""
    names: set[str] = set()
    done: list[int] = []

    def work(item: int) -> int:
        names.add(threading.current_thread().name)
        done.append(item)
        return item * 2

    assert map_in_threads(work, range(1000), 5) == [item * 2 for item in range(1000)]
    assert sorted(done) == list(range(1000))
    assert len(names) <= 5
    assert map_in_threads(work, [], 5) == []


def test_threads_work_at_the_same_time() -> None:
    """As many items as threads are in work at once."""
    together = threading.Barrier(4, timeout=60)
    map_in_threads(lambda _: together.wait(), range(4), 4)


@pytest.mark.parametrize("most", [0, 2])
def test_fewer_threads_do_the_work_of_more(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a further thread gets all of the work done."""
    left = iter(range(most))
    start = threading.Thread.start

    def start_some(thread: threading.Thread) -> None:
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    assert map_in_threads(lambda item: item + 1, range(100), 50) == list(range(1, 101))


def test_the_error_of_the_first_failed_item_is_raised() -> None:
    """The other items are tried all the same."""
    done = []

    def work(item: int) -> None:
        if item % 2:
            raise ValueError(item)
        done.append(item)

    with pytest.raises(ValueError, match=r"^1$"):
        map_in_threads(work, range(10), 3)
    assert sorted(done) == [0, 2, 4, 6, 8]
