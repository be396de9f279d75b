"""Futures of generator functions: the items of one call, each as soon as its job has sent it.

Items are the records of segments, as the results of a map are. Nothing is loaded before its digest is compared.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from processing._utils import lazy
from processing.clock import SYSTEM_CLOCK
from processing.container.remote.segments import SegmentEntry
from processing.container.remote.worker import VALUE
from processing.exceptions import DeserializationError
from processing.remote_function.call_record import CallRecord
from processing.remote_function.futures import RemoteFuture
from processing.remote_function.mapping.early import early_results
from processing.remote_function.mapping.results import CallResult, SegmentReader
from processing.remote_function.results import failure_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from processing.exceptions import JobError
    from processing.job.job import ProcessingJob
    from processing.remote_function.call import RemoteCall
    from processing.request.s3_uri import S3Uri


def future_of(call: RemoteCall) -> RemoteFuture[Any]:
    """Return the future of a call that has not been started."""
    return ItemsFuture(call) if call.has_items else RemoteFuture(call)


def start_items(call: RemoteCall) -> RemoteItems:
    """Start the call of a generator function, and return the iterator over its items."""
    future = ItemsFuture(call)
    future.started(call.start())
    return RemoteItems(call, future)


class RemoteItems(Iterator[Any], AsyncIterator[Any]):
    """The items of a generator function, for `for` and for `async for`.

    Args:
        call: the call.
        future: its future.
    """

    def __init__(self, call: RemoteCall, future: ItemsFuture) -> None:
        self._call = call
        self._future = future
        self._items = future.items()

    def __next__(self) -> Any:
        """Wait for the next item, and return it."""
        try:
            return next(self._items)
        except KeyboardInterrupt as interrupt:
            assert self._future.job is not None
            raise self._call.detached(self._future.job, interrupt) from None

    def __iter__(self) -> RemoteItems:
        return self

    async def __anext__(self) -> Any:
        """Wait for the next item without holding the event loop, and return it."""
        from processing.watching.aio import in_thread

        found, item = await in_thread(self._next_or_end)
        if not found:
            raise StopAsyncIteration
        return item

    def _next_or_end(self) -> tuple[bool, Any]:
        """Return whether there is a next item, and the item: no StopIteration may leave a thread."""
        for item in self:
            return True, item
        return False, None

    def close(self) -> None:
        """End the iteration. The job goes on."""
        self._items.close()


class ItemsFuture(RemoteFuture[list[Any]]):
    """The future of a generator function's call. Its result is the list of all items.

    Args:
        call: the call, which can be started again; None for a job that another process has started.
        root: the S3 prefix that the items have to be below; None for a job of this process.
    """

    def __init__(self, call: RemoteCall | None = None, root: S3Uri | None = None) -> None:
        super().__init__(call, root)
        self._changed = threading.Condition()
        self._unpacking = threading.Lock()
        self._items: dict[int, SegmentEntry | CallResult] = {}
        self._failure: SegmentEntry | None = None
        self._readers: dict[str, SegmentReader] = {}
        self._abandoned: set[str] = set()
        self.add_done_callback(self._wake)

    def items(self) -> Generator[Any, None, None]:
        """Yield the items, each as soon as the job has sent it, and raise the exception of the function after them."""
        for number in itertools.count():
            with self._changed:
                while not (number in self._items or self.done()):
                    SYSTEM_CLOCK.wait(self._changed, math.inf)
            if number not in self._items:
                error = self.exception()  # reads the rest
                if number not in self._items:
                    if error is not None:
                        raise error
                    return
            yield self._value(number)

    def _wake(self, _: object) -> None:
        with self._changed:
            self._changed.notify_all()

    def _reader_of(self, job: ProcessingJob) -> SegmentReader:
        name = job.job_name
        return self._readers.setdefault(name, SegmentReader(job, functools.partial(self._deliver, name)))

    def _deliver(self, job_name: str, records: list[SegmentEntry]) -> None:
        with self._changed:
            if job_name in self._abandoned:
                return
            for record in records:
                if record.kind == VALUE:
                    self._items.setdefault(record.call, record)  # a second delivery finds an item that is loaded
                else:
                    self._failure = record
            self._changed.notify_all()

    async def _end_of(self, job: ProcessingJob) -> JobError | None:
        async with early_results(job, self._reader_of(job)):
            return await super()._end_of(job)

    def _may_retry(self, call: RemoteCall, error: JobError, retries: int) -> bool:
        """Return whether the call may be started again: not after its first item, since another run may differ."""
        with self._changed:
            if self._items or not super()._may_retry(call, error, retries):
                return False
            self._abandoned.add(error.job_name)
        return True

    def _read(self, job: ProcessingJob) -> list[Any]:
        description = job.describe()
        CallRecord.of(description, self._root)
        reader = self._reader_of(job)
        reader.read_rest(description)
        if self._failure is not None:
            error = CallResult.of(self._failure, f"processing job {job.job_name}", self._form).error
            assert error is not None
            raise error
        if description["ProcessingJobStatus"] != "Completed":
            raise failure_of(job, description)
        if reader.problems:
            raise DeserializationError("\n".join(reader.problems))
        return [self._value(number) for number in range(len(self._items))]

    def _value(self, number: int) -> Any:
        """Return an item. It is loaded once, as the result of any future is."""
        with self._unpacking:
            item = self._items[number]
            if isinstance(item, SegmentEntry):
                assert self._job is not None
                item = CallResult.of(item, f"item {number} of job {self._job.job_name}", self._form)
                self._items[number] = item
        if item.error is not None:
            raise item.error
        return item.value

    @lazy
    def _form(self) -> str:
        """The form of each item: `pickle`, `json` or `arrow`."""
        assert self._job is not None
        return CallRecord.of(self._job.describe(), self._root).result_format


class CallsFuture(ItemsFuture):
    """The future of the job of a map that another process has started. Its items are the results of the job's calls.

    The exception of a call is raised in its place. A map with a name that ran again has several jobs, and each has the
    calls that it has run.
    """

    def _deliver(self, job_name: str, records: list[SegmentEntry]) -> None:
        del job_name  # it is never started again here
        with self._changed:
            for record in records:
                self._items.setdefault(record.call, record)
            self._changed.notify_all()
