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
    from processing.staging.progress import Meter

T = TypeVar("T")
R = TypeVar("R")

MB = 1024 * 1024

SMALL = MB
"""Bytes up to which a file is read, or fetched, at once by one thread; a larger one is streamed, or goes in parts."""

MEMORY = 80 * MB
"""Bytes of all the large files' parts that are in flight at a time: what is not streamed is held meanwhile."""

_BEGIN = 8  # requests in flight to begin with
_LARGE_AT_ONCE = 16  # large files whose parts may be in flight at a time; they wait for their parts most of the time


class Window:
    """How many requests may be in flight; not safe for threads by itself.

    Args:
        most: never more than this.
    """

    def __init__(self, most: int) -> None:
        self.limit = float(min(most, _BEGIN))
        self._most = most
        self._doubling = True
        self._ended = 0  # tries, successful or not
        self._deaf_until = 0

    def succeeded(self, in_flight: int) -> None:
        """Open the window a little, if it was full: one that is not used has not been tried."""
        self._ended += 1
        if in_flight + 1 > self.limit:
            self.limit = min(self._most, self.limit + (1 if self._doubling else 1 / self.limit))

    def refused(self, in_flight: int) -> None:
        """Halve the window: the server asks for less. The other requests of the same round say nothing new."""
        self._ended += 1
        if self._ended > self._deaf_until:
            self._doubling = False
            self.limit = max(1.0, self.limit / 2)
            self._deaf_until = self._ended + in_flight


class Pool(Generic[T]):
    """Does the work for many items. One object for one transfer.

    Args:
        work: does what an item needs by itself. Where that is large it returns the rest instead: what hands parts to
            `submit` and waits for them.
        most: requests in flight at most.
        meter: what is told of all that arrives.
    """

    def __init__(self, work: Callable[[T], Callable[[], object] | None], most: int, meter: Meter) -> None:
        self._work = work
        self._meter = meter
        self._window = Window(most)
        self._hopeless_after = max(2, min(most, _BEGIN))
        self._changed = threading.Condition()  # its lock guards all below
        self._items: deque[T] = deque()
        self._parts: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._rests: deque[tuple[T, Callable[[], object]]] = deque()
        self._threads: list[threading.Thread] = []
        self._running = 0
        self._resting = 0
        self._held = 0
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
            with self._changed:
                self._items.extend(items)
                self._staff()
                self._changed.wait_for(lambda: not self._running and not self._resting)
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
        with self._changed:
            self._aborted = self._aborted or error
            self._items.clear()
            self._rests.clear()
            for future, _ in self._parts:
                future.cancel()
                future.set_running_or_notify_cancel()
            self._parts.clear()
            self._changed.notify_all()

    def submit(self, part: Callable[[], R]) -> Future[R]:
        """Do a part of a large item before whatever else waits; a part of an aborted transfer is cancelled."""
        future: Future[R] = Future()
        with self._changed:
            if self._aborted is None:
                self._parts.append((future, part))
                self._staff()
                return future
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    def hold(self, size: int, *, wait: bool = True) -> bool:
        """Take memory for a part, waiting until others have released it; say whether there was any.

        A part that is larger than all the memory gets it alone.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: not self._held or self._held + size <= MEMORY)
            elif self._held and self._held + size > MEMORY:
                return False
            self._held += size
            return True

    def release(self, size: int) -> None:
        """Give memory back."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def arrived(self, size: int, files: int = 0) -> None:
        """Take note of bytes, and files, that have arrived. What the caller's report of it raises ends the transfer."""
        try:
            self._meter.advance(size, files)
        except BaseException as error:  # noqa: BLE001 - it is the caller's, and raised there
            self.abort(error)

    def note(self, failure: Failure) -> None:
        """Take note of a try that failed: where the server asks for less, less is sent; after an abort, nothing."""
        if self._aborted is not None:
            raise CancelledError
        if failure.kind is FailureKind.THROTTLED or http_status(failure.error) == 503:
            self.refused()

    def refused(self) -> None:
        """Slow down: the server asks for less."""
        with self._changed:
            self._window.refused(self._running)

    # With the lock held.

    def _staff(self) -> None:
        """Start the threads that there is work for."""
        new = [self._serve] * min(int(self._window.limit) - self._running, len(self._parts) + len(self._items))
        rests = [self._serve_rests] * min(_LARGE_AT_ONCE - self._resting, len(self._rests))
        if not new and not rests:
            return
        if len(self._threads) > 2 * (self._running + self._resting):
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        for target in new + rests:
            if not self._start(target):
                break

    def _start(self, target: Callable[[], None]) -> bool:
        """Start a thread. A machine may refuse to have more of them: as long as there is one, that is no error."""
        thread = threading.Thread(target=target, name="processing-transfer", daemon=True)
        self._threads.append(thread)
        self._count(target, 1)
        try:
            thread.start()
        except RuntimeError as error:
            self._threads.remove(thread)
            self._count(target, -1)
            if not (self._running if target == self._serve else self._resting):
                self.abort(error)
            return False
        return True

    def _count(self, target: Callable[[], None], change: int) -> None:
        if target == self._serve:
            self._running += change
        else:
            self._resting += change

    def _next(self) -> Callable[[], None] | None:
        if self._running > self._window.limit:
            return None
        if self._parts:
            return functools.partial(self._do_part, *self._parts.popleft())
        if self._items:
            return functools.partial(self._do, self._items.popleft())
        return None

    # In the threads.

    def _serve(self) -> None:
        while True:
            with self._changed:
                task = self._next()
                if task is None:
                    self._running -= 1
                    self._changed.notify_all()
                    return
            task()

    def _serve_rests(self) -> None:
        while True:
            with self._changed:
                if not self._rests:
                    self._resting -= 1
                    self._changed.notify_all()
                    return
                item, rest = self._rests.popleft()
            self._try(item, rest)

    def _do_part(self, future: Future[Any], part: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = part()
        except BaseException as error:  # noqa: BLE001 - it is raised where the future is asked
            future.set_exception(error)
        else:
            with self._changed:
                self._window.succeeded(self._running)
            future.set_result(result)

    def _do(self, item: T) -> None:
        if self._failed_in_a_row >= self._hopeless_after:
            with self._changed:
                self._failures.append((item, None))
        else:
            self._try(item, lambda: self._work(item))

    def _try(self, item: T, work: Callable[[], object]) -> None:
        try:
            rest = work()
        except Exception as error:  # noqa: BLE001 - each is reported, with the item
            with self._changed:
                self._failures.append((item, error))
                self._failed_in_a_row += 1
            return
        except BaseException as error:  # noqa: BLE001 - such as SystemExit: it is the caller's
            self.abort(error)
            return
        with self._changed:
            if callable(rest):
                if self._aborted is None:
                    self._rests.append((item, rest))
            else:
                self._failed_in_a_row = 0
                self._window.succeeded(self._running)
            self._staff()
