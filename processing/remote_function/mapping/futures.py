"""The futures of a map: one for each call, and the sequence of all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from processing.job.job import ProcessingJob
    from processing.remote_function.mapping.results import CallResult

T = TypeVar("T")


class MapFuture(Future[T]):
    """The future of one call of a map. Cancelling the futures of all calls stops the job.

    Args:
        cancelled: is called when the future has been cancelled.
    """

    def __init__(self, cancelled: Callable[[], None]) -> None:
        super().__init__()
        self._on_cancel = cancelled
        self._end = threading.Lock()

    def cancel(self) -> bool:
        """Give up the call's result. Return False if the outcome is known already."""
        with self._end:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            self.set_running_or_notify_cancel()  # wakes the standard `wait` and `as_completed`
        self._on_cancel()
        return True

    def finish(self, outcome: CallResult) -> None:
        """Set the outcome, unless there is one."""
        with self._end:
            if self.done():
                return
            if outcome.error is not None:
                self.set_exception(outcome.error)
            else:
                self.set_result(outcome.value)


class MapFutures(Sequence[MapFuture[T]]):
    """The futures of a map, in order of its calls.

    Each is a `concurrent.futures.Future`: the standard `wait` and `as_completed` accept them.

    Attributes:
        jobs: the jobs that have been started, in order: more than one after a retry of the platform's failures.
        shown: set when no further log lines are to be shown.
    """

    def __init__(self, count: int) -> None:
        self.jobs: list[ProcessingJob] = []
        self.shown = threading.Event()
        self._lock = threading.Lock()
        self._futures = [MapFuture[T](self._cancelled) for _ in range(count)]

    @property
    def job(self) -> ProcessingJob | None:
        """The current job; None for a map without calls."""
        return self.jobs[-1] if self.jobs else None

    @overload
    def __getitem__(self, index: int) -> MapFuture[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[MapFuture[T]]: ...
    def __getitem__(self, index: int | slice) -> MapFuture[T] | Sequence[MapFuture[T]]:
        """Return the future of a call."""
        return self._futures[index]

    def __len__(self) -> int:
        return len(self._futures)

    def cancel(self) -> bool:
        """Cancel all calls without an outcome, and stop the job. Return False if there are none."""
        cancelled = [future.cancel() for future in self._futures if not future.done()]  # not lazily: all of them
        return any(cancelled)

    def __repr__(self) -> str:
        done = sum(future.done() for future in self._futures)
        job = self.job
        return f"<MapFutures: {done} of {len(self)} calls done, job={None if job is None else job.job_name!r}>"

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows: a cell for each call. No call to AWS."""
        from processing.report.grid import jobs_card

        calls = [(f"call {number}", _status(future)) for number, future in enumerate(self._futures)]
        return jobs_card("map" if self.job is None else self.job.job_name, calls, unit="calls")

    def _cancelled(self) -> None:
        job = self.job
        if job is not None and all(future.done() for future in self._futures):
            threading.Thread(target=job.stop, name="remote-function-cancel").start()


def _status(future: MapFuture[Any]) -> str:
    """Return the state of a call in the words of jobs."""
    if future.cancelled():
        return "Stopped"
    if not future.done():
        return "InProgress"
    return "Completed" if future.exception() is None else "Failed"
