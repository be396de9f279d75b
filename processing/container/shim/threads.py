"""Work in threads with little memory: an item waits in its list, not in an object of its own."""

from __future__ import annotations

import contextlib
import threading
from typing import Callable, Dict, List, Optional, Sequence, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_threads(work: Callable[[T], R], items: Sequence[T], threads: int) -> List[R]:
    """Do the work for each item, several at a time, and return the results in the order of the items.

    If the machine has no further thread, fewer do the work. Each item is tried. An error of the work is raised after
    that: the one of the first item that failed.
    """
    numbers = iter(range(len(items)))
    results: Dict[int, R] = {}
    errors: Dict[int, BaseException] = {}
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                number: Optional[int] = next(numbers, None)
            if number is None:
                return
            try:
                results[number] = work(items[number])
            except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
                errors[number] = error

    started = _start(run, min(threads, len(items)))
    run()
    for thread in started:
        thread.join()
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(items))]


def _start(run: Callable[[], None], threads: int) -> List[threading.Thread]:
    """Start threads beside this one, as many as the machine has."""
    started: List[threading.Thread] = []
    with contextlib.suppress(RuntimeError):
        while len(started) < threads - 1:
            thread = threading.Thread(target=run)
            thread.start()
            started.append(thread)
    return started
