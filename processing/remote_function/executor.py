"""`RemoteExecutor`: a `concurrent.futures.Executor` whose calls are processing jobs."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from processing._utils.validation import integer, require
from processing.exceptions import ConfigurationError
from processing.remote_function.call import RemoteCall
from processing.remote_function.decorator import plain_function
from processing.remote_function.item_futures import future_of
from processing.remote_function.settings import RemoteSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from processing.remote_function.futures import RemoteFuture
    from processing.remote_function.settings import RemoteOptions

P = ParamSpec("P")
T = TypeVar("T")

_STARTERS = 8
"""The jobs that are started at the same moment: uploads and the requests to create them take about a second each."""


class RemoteExecutor(Executor):
    """Runs functions as processing jobs, at most `max_parallel_jobs` at a time; the others wait for their turn.

    Use it as a context manager, or call `shutdown`: calls that wait for their turn are lost when the program ends.

    Args:
        max_parallel_jobs: the most jobs that run at the same time.
        options: the parameters of `remote`.

    Raises:
        ConfigurationError: a parameter does not exist or cannot work.
    """

    def __init__(self, *, max_parallel_jobs: int = 1, **options: Unpack[RemoteOptions]) -> None:
        require("max_parallel_jobs", max_parallel_jobs, integer(at_least=1))
        self._settings = RemoteSettings.of(options)
        self._most = max_parallel_jobs
        self._lock = threading.RLock()
        self._waiting: collections.deque[tuple[RemoteCall, RemoteFuture[Any]]] = collections.deque()
        self._active: set[Future[Any]] = set()
        self._closed = False
        self._starters = ThreadPoolExecutor(min(max_parallel_jobs, _STARTERS), "remote-function-start")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RemoteFuture[T]:
        """Pack a call now, start its job when its turn comes, and return its future.

        Args:
            fn: the function. A remote function runs with the settings of this executor.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Raises:
            ConfigurationError: the arguments do not fit the function's signature.
            RuntimeError: the executor is shut down.
            SerializationError: the function or an argument cannot be packed.
        """
        function = plain_function(fn)
        if not callable(function):
            raise ConfigurationError(f"fn: must be a function, not {type(fn).__name__}")
        call = RemoteCall.of(function, self._settings, args, kwargs)
        future: RemoteFuture[T] = future_of(call)
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot submit a call after shutdown")
            self._waiting.append((call, future))
        future.add_done_callback(self._on_done)
        self._start_waiting()
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> MappedResults[T]:
        """Start a job for each call `fn(*arguments)`, and return the results in their order.

        `map` of a remote function runs all calls in one job, which is cheaper for many short calls.

        Args:
            fn: the function.
            iterables: the arguments: one iterable for each parameter. They are read to the end of the shortest.
            timeout: the longest wait in seconds, counted from this call; None waits without limit.
            chunksize: without effect.

        Returns:
            An iterator over the results, in order, which can be indexed too.
        """
        results = super().map(fn, *[list(each) for each in iterables], timeout=timeout, chunksize=chunksize)
        return MappedResults(results)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls.

        Args:
            wait: True to wait for the end of all jobs.
            cancel_futures: True to cancel the calls that wait for their turn. Jobs that run go on.
        """
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            if cancel_futures:
                self._waiting.clear()
            pending = [*self._active, *(() if cancel_futures else (future for _, future in waiting))]
        if cancel_futures:
            for _, future in waiting:
                future.cancel()
        if wait:
            wait_for(pending)
            self._starters.shutdown(wait=True)

    def _start_waiting(self) -> None:
        """Start as many waiting calls as may run now."""
        with self._lock:
            while self._waiting and len(self._active) < self._most:
                call, future = self._waiting.popleft()
                if not future.cancelled():
                    self._active.add(future)
                    self._starters.submit(_start, call, future)

    def _on_done(self, future: Future[Any]) -> None:
        with self._lock:
            self._active.discard(future)
        self._start_waiting()


class MappedResults(Iterator[T], Sequence[T], Generic[T]):
    """The results of `RemoteExecutor.map`: an iterator, as of any executor, and a sequence, as in `sagemaker`.

    Args:
        results: the results. Each one is awaited when it is read.
    """

    def __init__(self, results: Iterator[T]) -> None:
        self._results = results
        self._read: list[T] = []
        self._position = 0

    def __next__(self) -> T:
        """Wait for the next result, and return it."""
        while len(self._read) <= self._position:
            self._read.append(next(self._results))
        self._position += 1
        return self._read[self._position - 1]

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        """Wait for all results, and return one or several of them."""
        return self._all()[index]

    def __len__(self) -> int:
        """Wait for all results, and return their number."""
        return len(self._all())

    def _all(self) -> list[T]:
        self._read += self._results
        return self._read


def _start(call: RemoteCall, future: RemoteFuture[Any]) -> None:
    """Start a call, unless it was cancelled meanwhile."""
    if future.cancelled():
        return
    try:
        future.started(call.start())
    except BaseException as error:  # noqa: BLE001 - the future raises it from `result`
        future.fail(error)
