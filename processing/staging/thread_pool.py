"""The thread pool of a transfer: whole files and parts of large ones share its threads, its rate and its memory.

Strategy: a thread has one request in flight, so the number of threads is the number of requests. The window of requests
begins at 8, grows fourfold every round trip, is halved when the server throttles, and then grows by one per round trip.
This is the congestion control of TCP with a faster start, and S3's own advice for SlowDown.

A large file would block its thread while it waits for its parts. Therefore its parts use the shared threads, and a few
extra threads only wait for them.

The effect: latency costs little for files of any size. Without obstore, 2,000 files of 8 KB are uploaded in 1/40 of the
time of `sagemaker` 2.x (`benchmarks/uploads.py`). A file of 512 MB is uploaded as fast as with boto3's `upload_file`
(`benchmarks/large_file.py`). The argument `workers=1` of `upload_all` and `download_prefix` switches the concurrency
off.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import deque
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from processing.aws.retry import FailureKind, http_status
from processing.clock import SYSTEM_CLOCK
from processing.exceptions import CredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processing.aws.retry import Failure
    from processing.staging.progress import ProgressMeter

T = TypeVar("T")
R = TypeVar("R")

MB = 1024 * 1024

SMALL_FILE = MB
"""A file of up to this many bytes is read or fetched at once by one thread. A larger one is streamed or split into
parts.
"""

PART_MEMORY = 80 * MB
"""Bytes of all parts in flight: ten parts of 8 MB. Parts that are not streamed are in memory."""

_INITIAL_REQUESTS = 8  # requests in flight at the beginning; the window grows from here
_START = 3  # further requests after each success at the beginning: 8, 32, 128, ... per round trip
_LARGE_ITEMS = 16  # large files with parts in flight at a time; their threads mostly wait


class CongestionWindow:
    """The number of requests that may be in flight. Not thread-safe by itself.

    Args:
        max_requests: the upper bound of the window.
    """

    def __init__(self, max_requests: int) -> None:
        self.limit = float(min(max_requests, _INITIAL_REQUESTS))
        self._max_requests = max_requests
        self._starting = True
        self._completed = 0  # attempts, successful or not
        self._ignore_until = 0

    def grow(self, in_flight: int) -> None:
        """Enlarge the window after a success, if it was full.

        An unused window proves nothing about the server.
        """
        self._completed += 1
        if in_flight + 1 > self.limit:
            self.limit = min(self._max_requests, self.limit + (_START if self._starting else 1 / self.limit))

    def shrink(self, in_flight: int) -> None:
        """Halve the window, because the server throttles. Further refusals of the same round trip are ignored."""
        self._completed += 1
        if self._completed > self._ignore_until:
            self._starting = False
            self.limit = max(1.0, self.limit / 2)
            self._ignore_until = self._completed + in_flight


class TransferPool(Generic[T]):
    """Does the work for many items of one transfer.

    Args:
        work: does the work of a small item. For a large one it returns a function instead, which passes parts to
            `submit` and waits for them.
        max_requests: the most requests in flight.
        meter: counts all files and bytes that arrive.
    """

    def __init__(
        self, work: Callable[[T], Callable[[], object] | None], max_requests: int, meter: ProgressMeter
    ) -> None:
        self._work = work
        self._meter = meter
        self._window = CongestionWindow(max_requests)
        self._give_up_after = max(2, min(max_requests, _INITIAL_REQUESTS))
        self._condition = threading.Condition()  # its lock guards all attributes below
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
        """Do the work for every item. Return the failed items, each with its error, or None if it was not tried.

        The rest is not tried after as many consecutive failures as there are requests in flight at the beginning. Each
        failure has used up its retries by then, and without a network a hundred thousand files would wait for theirs.

        Raises:
            CredentialsError: the credentials are missing, expired, refused or unusable.
            BaseException: the error passed to `abort`, or one that interrupted the wait. No thread works any more then.
        """
        try:
            with self._condition:
                self._items.extend(items)
                self._start_threads()
                while self._running or self._large_running:
                    SYSTEM_CLOCK.wait(self._condition, math.inf)
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
        """End the transfer with an error. Requests in flight end by themselves, and nothing else is started."""
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
        """Do a part of a large item before other waiting work. After an abort, the part is cancelled."""
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
        """Reserve memory for a part, and wait until it is free. Return whether it was reserved.

        A part that is larger than all the memory gets it exclusively.
        """
        with self._condition:
            if wait:
                self._condition.wait_for(lambda: not self._memory_in_use or self._memory_in_use + size <= PART_MEMORY)
            elif self._memory_in_use and self._memory_in_use + size > PART_MEMORY:
                return False
            self._memory_in_use += size
            return True

    def release_memory(self, size: int) -> None:
        """Release memory of a part."""
        with self._condition:
            self._memory_in_use -= size
            self._condition.notify_all()

    def record_arrival(self, size: int, files: int = 0) -> None:
        """Count bytes and files that have arrived. An error of the caller's progress report ends the transfer."""
        try:
            self._meter.advance(size, files)
        except BaseException as error:  # noqa: BLE001 - an error of the caller's report, which `run` raises
            self.abort(error)

    def record_failure(self, failure: Failure) -> None:
        """Handle a failed attempt of the retry layer, as `record_failed_request` does."""
        self.record_failed_request(failure.kind is FailureKind.THROTTLED or http_status(failure.error) == 503)

    def record_failed_request(self, throttled: bool) -> None:
        """Handle a failed request: slow down if the server throttles, and cancel further tries after an abort."""
        if self._aborted is not None:
            raise CancelledError
        if throttled:
            with self._condition:
                self._window.shrink(self._running)

    # The following methods need the lock.

    def _start_threads(self) -> None:
        """Start as many threads as there is work for."""
        new = min(int(self._window.limit) - self._running, len(self._parts) + len(self._items))
        rests = min(_LARGE_ITEMS - self._large_running, len(self._large))
        if new <= 0 and rests <= 0:
            return
        if len(self._threads) > 2 * (self._running + self._large_running):
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        # A refusal of one kind must not leave the other kind without any thread.
        for target, count in ((self._work_on_requests, new), (self._work_on_large_items, rests)):
            for _ in range(count):
                if not self._start_thread(target):
                    break

    def _start_thread(self, target: Callable[[], None]) -> bool:
        """Start a thread. If the machine refuses, that is an error only if no other thread works."""
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

    # The following methods run in the threads.

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
        except BaseException as error:  # noqa: BLE001 - the future raises it
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
        except CredentialsError as error:  # no file can be transferred, so `run` raises it once
            self.abort(error)
            return
        except Exception as error:  # noqa: BLE001 - each is reported, with the item
            with self._condition:
                self._failures.append((item, error))
                self._failed_in_a_row += 1
            return
        except BaseException as error:  # noqa: BLE001 - such as SystemExit, which `run` raises
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
