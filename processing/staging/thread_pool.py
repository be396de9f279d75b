"""The one pool of a transfer: whole files and parts of large ones share its threads, its pace and its memory.

A thread has one request in flight, so the number of threads is the number of requests. It begins small, doubles every
round trip, is halved when the server asks for less, and then grows slowly: what TCP does, and what S3 asks for.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from processing.aws.retry import FailureKind, http_status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processing.aws.retry import Failure
    from processing.staging.progress import ProgressMeter

T = TypeVar("T")
R = TypeVar("R")

MB = 1024 * 1024

SMALL_FILE = MB
"""Bytes up to which a file is read, or fetched, at once by one thread; a larger one is streamed, or goes in parts."""

PART_MEMORY = 80 * MB
"""Bytes of all the large files' parts that are in flight at a time: what is not streamed is held meanwhile."""

_INITIAL_REQUESTS = 8  # requests in flight to begin with
_LARGE_ITEMS = 16  # large files whose parts may be in flight at a time; they wait for their parts most of the time


class CongestionWindow:
    """How many requests may be in flight; not safe for threads by itself.

    Args:
        max_requests: never more than this.
    """

    def __init__(self, max_requests: int) -> None:
        self.limit = float(min(max_requests, _INITIAL_REQUESTS))
        self._max_requests = max_requests
        self._doubling = True
        self._completed = 0  # tries, successful or not
        self._ignore_until = 0

    def grow(self, in_flight: int) -> None:
        """Open the window a little, if it was full: one that is not used has not been tried."""
        self._completed += 1
        if in_flight + 1 > self.limit:
            self.limit = min(self._max_requests, self.limit + (1 if self._doubling else 1 / self.limit))

    def shrink(self, in_flight: int) -> None:
        """Halve the window: the server asks for less. The other requests of the same round say nothing new."""
        self._completed += 1
        if self._completed > self._ignore_until:
            self._doubling = False
            self.limit = max(1.0, self.limit / 2)
            self._ignore_until = self._completed + in_flight


class TransferPool(Generic[T]):
    """Does the work for many items. One object for one transfer.

    Args:
        work: does what an item needs by itself. Where that is large it returns the rest instead: what hands parts to
            `submit` and waits for them.
        max_requests: requests in flight at most.
        meter: what is told of all that arrives.
    """

    def __init__(
        self, work: Callable[[T], Callable[[], object] | None], max_requests: int, meter: ProgressMeter
    ) -> None:
        self._work = work
        self._meter = meter
        self._window = CongestionWindow(max_requests)
        self._give_up_after = max(2, min(max_requests, _INITIAL_REQUESTS))
        self._condition = threading.Condition()  # its lock guards all below
        self._items: deque[T] = deque()
        self._parts: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._large: deque[tuple[T, Callable[[], object]]] = deque()
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._large_running = 0
        self._memory_in_use = 0
        self._failed_in_a_row = 0
        self._failures: list[tuple[T, Exception | None]] = []
        self._aborted: BaseException | None = None

    def run(self, items: Sequence[T]) -> list[tuple[T, Exception | None]]:
        """Do the work for every item; return those that failed, each with its error; None for one that was not tried.

        When as many items in a row have failed as are in flight at the beginning, the rest is not tried: each failure
        has waited out its tries by then, and a network that is gone would keep a hundred thousand files waiting.

        Raises:
            BaseException: what `abort` was given, or interrupted the wait, once no thread works any more.
        """
        try:
            with self._condition:
                self._items.extend(items)
                self._start_threads()
                self._condition.wait_for(lambda: not self._running and not self._large_running)
        except BaseException as error:
            self.abort(error)
            raise
        finally:
            for thread in self._threads:
                if thread.is_alive():
                    thread.join()
        if self._aborted is not None:
            raise self._aborted
        return self._failures

    def abort(self, error: BaseException) -> None:
        """End the transfer with an error: what is in flight comes to its end, nothing else is begun."""
        with self._condition:
            self._aborted = self._aborted or error
            self._items.clear()
            self._large.clear()
            for future, _ in self._parts:
                future.cancel()
                future.set_running_or_notify_cancel()
            self._parts.clear()
            self._condition.notify_all()

    def submit(self, part: Callable[[], R]) -> Future[R]:
        """Do a part of a large item before whatever else waits; a part of an aborted transfer is cancelled."""
        future: Future[R] = Future()
        with self._condition:
            if self._aborted is None:
                self._parts.append((future, part))
                self._start_threads()
                return future
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    def acquire_memory(self, size: int, *, wait: bool = True) -> bool:
        """Take memory for a part, waiting until others have released it; say whether there was any.

        A part that is larger than all the memory gets it alone.
        """
        with self._condition:
            if wait:
                self._condition.wait_for(lambda: not self._memory_in_use or self._memory_in_use + size <= PART_MEMORY)
            elif self._memory_in_use and self._memory_in_use + size > PART_MEMORY:
                return False
            self._memory_in_use += size
            return True

    def release_memory(self, size: int) -> None:
        """Give memory back."""
        with self._condition:
            self._memory_in_use -= size
            self._condition.notify_all()

    def record_arrival(self, size: int, files: int = 0) -> None:
        """Take note of bytes, and files, that have arrived. What the caller's report of it raises ends the transfer."""
        try:
            self._meter.advance(size, files)
        except BaseException as error:  # noqa: BLE001 - it is the caller's, and raised there
            self.abort(error)

    def record_failure(self, failure: Failure) -> None:
        """Take note of a try that failed: where the server asks for less, less is sent; after an abort, nothing."""
        if self._aborted is not None:
            raise CancelledError
        if failure.kind is FailureKind.THROTTLED or http_status(failure.error) == 503:
            self.slow_down()

    def slow_down(self) -> None:
        """Slow down: the server asks for less."""
        with self._condition:
            self._window.shrink(self._running)

    # With the lock held.

    def _start_threads(self) -> None:
        """Start the threads that there is work for."""
        new = [self._work_on_requests] * min(
            int(self._window.limit) - self._running, len(self._parts) + len(self._items)
        )
        rests = [self._work_on_large_items] * min(_LARGE_ITEMS - self._large_running, len(self._large))
        if not new and not rests:
            return
        if len(self._threads) > 2 * (self._running + self._large_running):
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        for target in new + rests:
            if not self._start_thread(target):
                break

    def _start_thread(self, target: Callable[[], None]) -> bool:
        """Start a thread. A machine may refuse to have more of them: as long as there is one, that is no error."""
        thread = threading.Thread(target=target, name="processing-transfer", daemon=True)
        self._threads.append(thread)
        self._count_thread(target, 1)
        try:
            thread.start()
        except RuntimeError as error:
            self._threads.remove(thread)
            self._count_thread(target, -1)
            if not (self._running if target == self._work_on_requests else self._large_running):
                self.abort(error)
            return False
        return True

    def _count_thread(self, target: Callable[[], None], change: int) -> None:
        if target == self._work_on_requests:
            self._running += change
        else:
            self._large_running += change

    def _next_task(self) -> Callable[[], None] | None:
        if self._running > self._window.limit:
            return None
        if self._parts:
            return functools.partial(self._do_part, *self._parts.popleft())
        if self._items:
            return functools.partial(self._do, self._items.popleft())
        return None

    # In the threads.

    def _work_on_requests(self) -> None:
        while True:
            with self._condition:
                task = self._next_task()
                if task is None:
                    self._running -= 1
                    self._condition.notify_all()
                    return
            task()

    def _work_on_large_items(self) -> None:
        while True:
            with self._condition:
                if not self._large:
                    self._large_running -= 1
                    self._condition.notify_all()
                    return
                item, rest = self._large.popleft()
            self._try(item, rest)

    def _do_part(self, future: Future[Any], part: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = part()
        except BaseException as error:  # noqa: BLE001 - it is raised where the future is asked
            future.set_exception(error)
        else:
            with self._condition:
                self._window.grow(self._running)
            future.set_result(result)

    def _do(self, item: T) -> None:
        if self._failed_in_a_row >= self._give_up_after:
            with self._condition:
                self._failures.append((item, None))
        else:
            self._try(item, lambda: self._work(item))

    def _try(self, item: T, work: Callable[[], object]) -> None:
        try:
            rest = work()
        except Exception as error:  # noqa: BLE001 - each is reported, with the item
            with self._condition:
                self._failures.append((item, error))
                self._failed_in_a_row += 1
            return
        except BaseException as error:  # noqa: BLE001 - such as SystemExit: it is the caller's
            self.abort(error)
            return
        with self._condition:
            if callable(rest):
                if self._aborted is None:
                    self._large.append((item, rest))
            else:
                self._failed_in_a_row = 0
                self._window.grow(self._running)
            self._start_threads()
