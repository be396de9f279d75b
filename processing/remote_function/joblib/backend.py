"""The backend that `processing.remote_function.joblib` adds to joblib. Importing it needs joblib."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from joblib._parallel_backends import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from processing.remote_function.pool import RemotePool

_UNKNOWN_WORKERS: Final = 16
"""The parallel tasks of an instance before the first task has run, for loops that ask for all."""


class ProcessingBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """joblib's view of a pool."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, pool: RemotePool, **settings: Any) -> None:
        super().__init__(**settings)
        self._pool = pool
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return the number of tasks that run at the same time; a guess before the job has started."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else self._pool.workers or _UNKNOWN_WORKERS * self._pool.instance_count

    def configure(self, n_jobs: int = 1, parallel: Any = None, **settings: Any) -> int:
        """Prepare for a loop, and return the number of its parallel tasks. One task at a time runs here."""
        count = super().configure(n_jobs, parallel, **settings)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        return int(count)

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], None] | None = None) -> Future[Any]:
        """Send a batch of tasks."""
        # The batch is an argument: a worker keeps functions for later calls, but not arguments.
        future = self._pool.submit(lambda batch: batch(), func)
        self._futures.add(future)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """Return the results of a batch, or raise the exception of a task."""
        return future.result()

    def terminate(self) -> None:
        """Forget the durations of the loop's tasks."""
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002 - the pool stays ready
        """Cancel the tasks that no worker has."""
        for future in list(self._futures):
            future.cancel()

    def get_nested_backend(self) -> tuple[Any, None]:
        """Run loops within a task one after the other: the tasks use all processors already."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None
