"""Futures of remote calls: `concurrent.futures.Future` objects with a job."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, TypeVar

from processing._utils.forks import ForkSafeLock
from processing.exceptions import ConfigurationError, JobError
from processing.remote_function.results import result_of

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from processing.job.job import ProcessingJob
    from processing.remote_function.call import RemoteCall
    from processing.request.s3_uri import S3Uri

T = TypeVar("T")

logger = logging.getLogger(__name__)


class RemoteFuture(Future[T]):
    """The future of a remote call.

    It is a `concurrent.futures.Future`, so `concurrent.futures.wait` and `as_completed` accept it. Unlike others it can
    be cancelled while it runs: its job is stopped.

    Args:
        call: the call, which can be started again; None for a job that another process has started.
        root: the S3 prefix that the result has to be below; None for a job of this process.
    """

    def __init__(self, call: RemoteCall | None = None, root: S3Uri | None = None) -> None:
        super().__init__()
        self._call = call
        self._root = root
        self._job: ProcessingJob | None = None
        self._changes = threading.Lock()
        self._loading = threading.Lock()
        self._loaded: tuple[Any, BaseException | None] | None = None

    @property
    def job(self) -> ProcessingJob | None:
        """The job; None if it has not been started yet."""
        return self._job

    def _repr_html_(self) -> str | None:
        """Return the card of the job, which a notebook shows; None before its start."""
        return None if self._job is None else self._job._repr_html_()

    def running(self) -> bool:
        """Return whether the job has been started, and its end has not been observed."""
        return self._job is not None and not self.done()

    def cancel(self) -> bool:
        """Stop the job, and return at once. Return False if it has ended already."""
        with self._changes:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            self.set_running_or_notify_cancel()  # wakes the standard `wait` and `as_completed`
            job = self._job
        if job is not None:
            # Not a daemon: the program does not end before the request is sent.
            threading.Thread(target=_stop, args=(job,), name="remote-function-cancel").start()
        return True

    def result(self, timeout: float | None = None) -> T:
        """Wait for the job's end, and return the result of the function or raise its exception.

        Args:
            timeout: the longest wait in seconds; None waits without limit.

        Raises:
            concurrent.futures.CancelledError: the future was cancelled.
            concurrent.futures.TimeoutError: the timeout passed; the job goes on.
            DeserializationError: the stored bytes are not those of the job, or cannot be loaded.
            RemoteFunctionError: the job has neither a result nor an exception.
            RuntimeEnvironmentError: the job's environment could not run the function.
            processing.ServiceError: S3 could not be read.
        """
        super().result(timeout)
        value, error = self._load()
        if error is not None:
            raise error
        result: T = value
        return result

    def items(self) -> Iterator[Any]:
        """Yield the items of a generator function while its job runs; those of another function's result at its end.

        An exception of the function is raised after the items before it. Each call of this method begins with the first
        item. Without the permission to read logs, all items come at the end.

        Raises:
            concurrent.futures.CancelledError: the future was cancelled.
            DeserializationError: stored bytes are not those of the job, or cannot be loaded.
            RemoteFunctionError: the job has neither a result nor an exception.
            RuntimeEnvironmentError: the job's environment could not run the function.
            TypeError: the result of another function has no items.
            processing.ServiceError: S3 could not be read.
        """
        result: Any = self.result()
        yield from result

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the job's end, and return without its outcome.

        Args:
            timeout: the longest wait in seconds, after which the job goes on; None waits without limit.
        """
        wait_for([self], timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the job's end, and return the exception of the function; None if it has a result.

        Args:
            timeout: the longest wait in seconds; None waits without limit.

        Raises:
            concurrent.futures.CancelledError: the future was cancelled.
            concurrent.futures.TimeoutError: the timeout passed; the job goes on.
        """
        return super().exception(timeout) or self._load()[1]

    def replay(self) -> T:
        """Run the same call in this process, for a debugger, and return its result.

        The function and its arguments are verified before they are loaded. Modules that the function imports are those
        of this process.

        Raises:
            DeserializationError: the stored call is not the one that the job got, or cannot be loaded here.
            processing.ServiceError: S3 could not be read.
        """
        from processing.remote_function.replay import replay

        if self._job is None:
            raise ConfigurationError("replay: the job has not been started yet")
        result: T = replay(self._job, self._root)
        return result

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "running" if self._job else "waiting"
        return f"<RemoteFuture: {state}, job={None if self._job is None else self._job.job_name!r}>"

    def started(self, job: ProcessingJob) -> None:
        """Record the job, and begin to wait for its end."""
        with self._changes:
            self._job = job
            cancelled = self.cancelled()
        if cancelled:
            job.stop()
        elif job.watch_state.outcome is not None:
            self._end()
        else:
            in_background(self._follow(job))

    def fail(self, error: BaseException) -> None:
        """End with an error: the job could not be started or watched."""
        with self._changes:
            if not self.cancelled():
                self.set_exception(error)

    async def _follow(self, job: ProcessingJob) -> None:
        from processing.watching.aio import in_thread

        retries = 0
        try:
            while True:
                error = await self._end_of(job)
                call = self._call
                if call is None or error is None or not self._may_retry(call, error, retries):
                    break
                retries += 1
                job = await in_thread(lambda: call.restart(error))  # noqa: B023 - it is awaited here
                with self._changes:
                    self._job = job
                    cancelled = self.cancelled()
                if cancelled:
                    await in_thread(job.stop)
                    return
            if self._call is not None:  # the caller's own; others are not loaded before they are asked for
                await in_thread(self._load)
        except Exception as problem:  # noqa: BLE001 - the watch has ended, or the retry failed
            self.fail(problem)
            return
        self._end()

    def _end(self) -> None:
        with self._changes:
            if not self.cancelled():
                self.set_result(None)  # type: ignore[arg-type]  # `result` loads the value

    def _load(self) -> tuple[Any, BaseException | None]:
        """Return the value or the exception. They are loaded once."""
        with self._loading:
            if self._loaded is None:
                assert self._job is not None
                try:
                    self._loaded = self._read(self._job), None
                except BaseException as error:  # noqa: BLE001 - the function may have raised anything
                    self._loaded = None, error
            return self._loaded

    def _read(self, job: ProcessingJob) -> Any:
        """Return the result of a job that has ended, or raise its error."""
        return result_of(job, self._root)

    def _may_retry(self, call: RemoteCall, error: JobError, retries: int) -> bool:
        """Return whether the call may be started again after the error of its job."""
        return call.may_retry(error, retries)

    async def _end_of(self, job: ProcessingJob) -> JobError | None:
        """Wait for a job's end, and return its error; None if it has completed."""
        try:
            await job.wait_async(logs=False, quiet=True)
        except JobError as error:
            return error
        return None


def _stop(job: ProcessingJob) -> None:
    try:
        job.stop()
    except Exception as error:  # noqa: BLE001 - nobody waits for this thread
        logger.warning("processing job %s could not be stopped: %s", job.job_name, error)


_lock = ForkSafeLock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def in_background(coroutine: Coroutine[Any, Any, None]) -> Future[None]:
    """Run a coroutine in the one event loop of this process that serves all futures, and return its future."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="remote-function-futures", daemon=True).start()
    return asyncio.run_coroutine_threadsafe(coroutine, loop)
