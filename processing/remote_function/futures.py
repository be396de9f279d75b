"""Futures of remote calls: `concurrent.futures.Future` objects with a job."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from processing.exceptions import JobError
from processing.forks import ForkSafeLock
from processing.remote_function.results import result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from processing.job.job import ProcessingJob
    from processing.remote_function.call import RemoteCall

T = TypeVar("T")


class RemoteFuture(Future[T]):
    """The future of a remote call.

    It is a `concurrent.futures.Future`, so `concurrent.futures.wait` and `as_completed` accept it. Unlike others it can
    be cancelled while it runs: its job is stopped.
    """

    def __init__(self, call: RemoteCall) -> None:
        super().__init__()
        self._call = call
        self._job: ProcessingJob | None = None
        self._end = threading.Lock()

    @property
    def job(self) -> ProcessingJob | None:
        """The job; None if it has not been started yet."""
        return self._job

    def running(self) -> bool:
        """Return whether the job has been started and its outcome is not known."""
        return self._job is not None and not self.done()

    def cancel(self) -> bool:
        """Stop the job, and return at once. Return False if the outcome is known already."""
        with self._end:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            self.set_running_or_notify_cancel()  # wakes the standard `wait` and `as_completed`
        if self._job is not None:
            threading.Thread(target=self._stop, args=(self._job,), name="remote-function-cancel").start()
        return True

    @staticmethod
    def _stop(job: ProcessingJob) -> None:
        job.stop()

    def started(self, job: ProcessingJob) -> None:
        """Record the job, and begin to wait for its end."""
        with self._end:
            self._job = job
            cancelled = self.cancelled()
        if cancelled:
            job.stop()
        else:
            in_background(self._follow(job))

    async def _follow(self, job: ProcessingJob) -> None:
        from processing.watching.aio import in_thread

        def ended() -> Any:
            if lost is not None:
                raise lost
            return result_of(job)

        lost: Exception | None = None
        try:
            await job.wait_async(logs=False)
        except JobError:
            pass  # the outcome has the function's own exception
        except Exception as error:  # noqa: BLE001 - the watch has ended
            lost = error
        await in_thread(lambda: self.finish(ended))

    def finish(self, outcome: Callable[[], Any]) -> None:
        """Set the result or the exception, unless the future was cancelled."""
        if self.cancelled():
            return
        value: Any = None
        failure: BaseException | None = None
        try:
            value = outcome()
        except BaseException as error:  # noqa: BLE001 - the function may have raised anything
            failure = error
        with self._end:
            if self.cancelled():
                return
            if failure is not None:
                self.set_exception(failure)
            else:
                self.set_result(value)


_lock = ForkSafeLock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def in_background(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in the one event loop of this process that serves all futures."""
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="remote-function-futures", daemon=True).start()
    asyncio.run_coroutine_threadsafe(coroutine, loop)
