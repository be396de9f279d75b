"""`RemotePool`: a job that stays warm and takes calls."""

from __future__ import annotations

import atexit
import collections
import functools
import itertools
import os
import threading
import weakref
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from processing._utils.validation import ITERABLE, SECONDS, integer, require
from processing.exceptions import ConfigurationError
from processing.remote_function.call import RemoteCall, complete_settings
from processing.remote_function.call_record import storage_root
from processing.remote_function.decorator import plain_function
from processing.remote_function.mapping.submit import refuse_launchers
from processing.remote_function.pool import leftovers
from processing.remote_function.pool.job import PoolJob
from processing.remote_function.pool.messages import OutgoingCall, PoolValues
from processing.remote_function.pool.queues import PoolQueues
from processing.remote_function.settings import RemoteSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Unpack

    from processing.job.job import ProcessingJob
    from processing.remote_function.settings import RemoteOptions

P = ParamSpec("P")
T = TypeVar("T")

_PROGRAM: Final = "pool_host"
_LIFE_SECONDS: Final = 90.0
"""The time without a sign of life after which a host ends: within two minutes of the owner's death."""
_LOOK_AHEAD: Final = 4
"""The calls of a `map` that are submitted beyond those that run, for each worker."""
_UNKNOWN_WORKERS: Final = 16
"""The workers of an instance before it has started, for the look-ahead."""


class RemotePool(Executor):
    """A processing job that stays warm: calls start in a fraction of a second, not in minutes.

    The job starts with the first call. It ends after `idle` seconds without a call, when the pool is closed, and within
    two minutes after this process has ended without closing it. A call after an idle end starts another job. Use the
    pool as a context manager, or call `shutdown`.

    The image needs boto3, and the job's role the permissions to receive and delete messages of SQS queues
    `processing-pool-*`, and to send to them. This process creates and deletes the queues.

    Args:
        idle: the seconds without a call after which the job ends.
        workers: the worker processes of each instance; None for one per processor.
        options: the parameters of `remote`, such as `instance_type` and `instance_count`.

    Raises:
        ConfigurationError: a parameter does not exist or cannot work.
    """

    def __init__(self, *, idle: float = 300, workers: int | None = None, **options: Unpack[RemoteOptions]) -> None:
        require("idle", idle, SECONDS)
        require("workers", workers, integer(at_least=1), optional=True)
        self._settings = RemoteSettings.of(options)
        refuse_launchers(self._settings, "a pool")
        for name in ("by_reference", "result_format"):
            if getattr(self._settings, name) not in {None, False, "pickle"}:
                raise ConfigurationError(f"{name}: a pool sends functions and results as pickles; use map")
        self._idle = float(idle)
        self._most = workers
        self._name = ""
        self._numbers = itertools.count()
        self._jobs: list[PoolJob] = []
        self._current: PoolJob | None = None
        self._values: PoolValues | None = None
        self._closed = False
        self._lock = threading.RLock()
        self._process = os.getpid()
        _open_pools.add(self)

    @property
    def job(self) -> ProcessingJob | None:
        """The latest job; None before the first call."""
        return self._jobs[-1].job if self._jobs else None

    def _repr_html_(self) -> str | None:
        """Return the card of its latest job, which a notebook shows; None before the first call."""
        return None if self.job is None else self.job._repr_html_()

    @property
    def instance_count(self) -> int:
        """The number of instances of its job."""
        return self._settings.instance_count or 1

    @property
    def workers(self) -> int:
        """The worker processes that are ready for calls; 0 before the job has started."""
        current = self._current
        return 0 if current is None else current.workers

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Send a call, and return its future. The first call starts the job.

        A call runs at most once. It can be cancelled until a worker has room for it.

        Args:
            fn: the function. A remote function runs in the pool, without its own settings.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Raises:
            ConfigurationError: the arguments do not fit the function's signature, or a setting cannot work.
            RuntimeError: the pool is shut down, or belongs to the parent of this process.
            SerializationError: the function or an argument cannot be packed.
            SubmissionError: AWS refused the job.
        """
        function = plain_function(fn)
        if not callable(function):
            raise ConfigurationError(f"fn: must be a function, not {type(fn).__name__}")
        with self._lock:
            self._check_open()
            values = self._opened_values()
        call = values.call(next(self._numbers), function, args, kwargs)
        self._add(call)
        return call.future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Run `fn(*arguments)` for the elements of iterables, which may be endless, and yield the results in order.

        Args:
            fn: the function.
            iterables: the arguments: one iterable for each parameter; the shortest ends the calls.
            timeout: the longest wait in seconds, counted from this call; None waits without limit.
            chunksize: without effect.
            buffersize: the most calls whose results have not been taken; None for a few for each worker.

        Raises:
            ConfigurationError: an argument is not valid.
            TimeoutError: while iterating: the time is up.
        """
        del chunksize
        require("buffersize", buffersize, integer(at_least=1), optional=True)
        require("timeout", timeout, SECONDS, optional=True)
        for each in iterables:
            require("iterables", each, ITERABLE)
        if not iterables:
            raise ConfigurationError("iterables: map needs an iterable of arguments")
        clock = complete_settings(self._settings)[1].clock
        deadline = None if timeout is None else clock.monotonic() + timeout
        arguments = zip(*iterables, strict=False)
        futures = collections.deque(
            self.submit(fn, *each) for each in itertools.islice(arguments, self._look_ahead(buffersize))
        )

        def results() -> Iterator[T]:
            try:
                while futures:
                    left = None if deadline is None else deadline - clock.monotonic()
                    result = _result_within(futures[0], left)
                    futures.popleft()
                    room = self._look_ahead(buffersize) - len(futures)
                    futures.extend(self.submit(fn, *each) for each in itertools.islice(arguments, max(0, room)))
                    yield result
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def _look_ahead(self, buffersize: int | None) -> int:
        if buffersize is not None:
            return buffersize
        return _LOOK_AHEAD * (self.workers or (self._most or _UNKNOWN_WORKERS) * self.instance_count)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls, and end the job when those it has are done.

        Args:
            wait: True to wait until all calls have outcomes and the hosts end.
            cancel_futures: True to cancel the calls that no worker has room for yet.
        """
        with self._lock:
            self._closed = True
            jobs = list(self._jobs)
        for job in jobs:
            job.close(cancel=cancel_futures)
        if wait:
            for job in jobs:
                job.join()
        self._remove_objects()  # a job that ended by itself has left them for later calls

    def close_at_exit(self) -> None:
        """Announce the end of this process to the hosts, if it is the one that made the pool."""
        current = self._current
        if current is not None and self._process == os.getpid():
            current.order_close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("cannot submit a call after shutdown")
        if self._process != os.getpid():
            raise RuntimeError("a forked process cannot use the pool of its parent; make another one")

    def _opened_values(self) -> PoolValues:
        if self._values is None:
            settings, session = complete_settings(self._settings)
            if settings.network_config is not None and settings.network_config.enable_network_isolation:
                raise ConfigurationError("network_config: a pool needs a network; use map under network isolation")
            root = storage_root(session, settings.s3_root_uri)
            self._name = leftovers.new_name(session)
            prefix = root / self._name
            self._values = PoolValues(session, prefix, settings.s3_kms_key)
            remove = functools.partial(leftovers.remove_stale, session, root)
            threading.Thread(target=remove, name="remote-pool-stale", daemon=True).start()
            self._objects = str(prefix)
        return self._values

    def _add(self, call: OutgoingCall) -> None:
        with self._lock:
            if self._current is None or not self._current.add(call):
                self._check_open()
                started = self._start_job()
                started.add(call)  # before it is served: a job without calls may be idle at once
                try:
                    started.start()
                except BaseException:  # such as the RuntimeError of a machine without a further thread
                    self._jobs.remove(started)
                    started.discard()
                    raise
                self._current = started

    def _start_job(self) -> PoolJob:
        """Start a job. It is served once it has a call."""
        settings, session = complete_settings(self._settings)
        hosts = settings.instance_count or 1
        queues = PoolQueues.create(session.api, f"{self._name}-{len(self._jobs)}", hosts)
        manifest = {
            "calls": list(queues.names[0]),
            "results": queues.names[1],
            "objects": self._objects,
            "region": session.boto_region_name,
            "kms_key": settings.s3_kms_key,
            "workers": self._most or 0,
            "life": _LIFE_SECONDS,
        }
        try:
            job = RemoteCall("pool", self._settings, b"", _PROGRAM, {"pool": manifest}).start()
        except BaseException:
            queues.delete()
            raise
        assert self._values is not None
        started = PoolJob(job, queues, self._values, session.clock, self._idle, self._job_ended, self._remove_objects)
        self._jobs.append(started)
        return started

    def _job_ended(self, ended: PoolJob) -> None:
        """Give the calls that no host has had to another job."""
        with self._lock:
            if self._current is ended:
                self._current = None
        for call in ended.take_waiting():
            self._move(call)

    def _remove_objects(self) -> None:
        """Remove the objects of a closed pool once, after its last job."""
        with self._lock:
            if not self._closed or self._process != os.getpid() or not all(job.has_left for job in self._jobs):
                return
            values, self._values = self._values, None
        if values is not None:
            values.remove()

    def _move(self, call: OutgoingCall) -> None:
        try:
            self._add(call)
        except Exception as error:  # noqa: BLE001 - the caller of the call gets it
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(error)


def _result_within(future: Future[T], seconds: float | None) -> T:
    """Return the result of a future; raise TimeoutError if it takes longer."""
    try:
        return future.result(seconds)
    except FutureTimeoutError as error:
        if future.done():
            raise
        raise TimeoutError("map: the time is up") from error


_open_pools: weakref.WeakSet[RemotePool] = weakref.WeakSet()


@atexit.register
def _close_pools() -> None:
    for pool in list(_open_pools):
        pool.close_at_exit()
