"""`map`, `starmap` and `submit_map`: many calls of a function in one job.

The calls travel in one file. Call i belongs to instance i modulo the number of instances, and each instance runs its
calls in worker processes. Results arrive while the job runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

import attrs

from processing._utils import did_you_mean
from processing._validation import FLAG, ITERABLE, NAME, field, integer, number, require
from processing.container.contract import TERMINAL
from processing.container.remote.calls import CallsPacker, PackedCall, calls_file
from processing.container.remote.worker import VALUE
from processing.exceptions import (
    ConfigurationError,
    DeserializationError,
    JobError,
    NameTakenError,
    ProcessingError,
    RemoteFunctionError,
)
from processing.remote_function.call import RemoteCall, complete_settings
from processing.remote_function.call_record import storage_root
from processing.remote_function.futures import in_background
from processing.remote_function.map_results import PICKLE, Outcome, SegmentReader
from processing.remote_function.named_maps import MapJobs
from processing.remote_function.packed_call import (
    arguments_check,
    function_name,
    packed_chunks,
    reference_to,
    sends_values,
    sent_function,
)
from processing.remote_function.results import failure_of

if TYPE_CHECKING:
    from processing.container.remote.segments import Announcement, Record
    from processing.job.job import ProcessingJob
    from processing.remote_function.settings import RemoteSettings

T = TypeVar("T")
Call = tuple[tuple[Any, ...], Mapping[str, Any]]

PLATFORM: Final = "platform"
"""The cause of a retry that is no exception: a killed worker, or lost capacity."""

_PROGRAM: Final = "map_host"
# A Continuous output reaches S3 one to two seconds after the write. Later looks are for a service that takes longer.
_LOOKS: Final = (1.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
# The platform ended a job: without capacity, with its instance, or for want of memory.
_LOST: Final = re.compile(r"InternalServerError|CapacityError|exit code:? 137")

logger = logging.getLogger(__name__)


def _causes(value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)


def _check_causes(_instance: Any, _attribute: Any, causes: tuple[Any, ...] | None) -> None:
    for cause in causes or ():
        if cause != PLATFORM and not (isinstance(cause, type) and issubclass(cause, BaseException)):
            raise ConfigurationError(f"retry_on: must be classes of exceptions or 'platform', not {cause!r}")


@attrs.frozen(kw_only=True)
class MapOptions:
    """The options of a map.

    Args:
        workers: the worker processes of each instance; None for one per processor.
        ordered: True to yield the results in order of the calls, False in order of their ends.
        return_exceptions: True to yield the exception of a call in place of its result.
        timeout: the longest time of one call in seconds; None for no limit.
        retries: the times that a call may run again.
        retry_on: the causes for which it may: classes of exceptions, and `"platform"` for a worker that was killed and
            for lost capacity. None for `Exception` and `"platform"`.
        chunksize: the calls that a worker gets at once; None for a number that follows from their duration.
        name: a name that makes the map resumable; None for a map of its own.
    """

    workers: int | None = attrs.field(default=None, validator=field(integer(at_least=1), optional=True))
    ordered: bool = attrs.field(default=True, validator=field(FLAG))
    return_exceptions: bool = attrs.field(default=False, validator=field(FLAG))
    timeout: float | None = attrs.field(default=None, validator=field(number(above=0), optional=True))
    retries: int = attrs.field(default=0, validator=field(integer()))
    retry_on: tuple[Any, ...] | None = attrs.field(default=None, converter=_causes, validator=_check_causes)
    chunksize: int | None = attrs.field(default=None, validator=field(integer(at_least=1), optional=True))
    name: str | None = attrs.field(default=None, validator=field(NAME, optional=True))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> MapOptions:
        """Return the options of keyword arguments.

        Raises:
            ConfigurationError: there is no such option, or a value is not valid.
        """
        known = [each.name for each in attrs.fields(cls)]
        for name in options:
            if name not in known:
                raise ConfigurationError(f"{name}: map has no such option{did_you_mean(name, known)}")
        return cls(**options)

    @property
    def classes(self) -> tuple[type[BaseException], ...]:
        """The exceptions for which a call may run again."""
        causes = (Exception,) if self.retry_on is None else self.retry_on
        return tuple(cause for cause in causes if cause != PLATFORM)

    @property
    def retries_platform(self) -> bool:
        """True if a call may run again after its worker was killed."""
        return self.retry_on is None or PLATFORM in self.retry_on

    def limits(self, attempts: int) -> dict[str, Any]:
        """Return the fields of `processing.container.remote.workers.Limits`.

        Args:
            attempts: the earlier jobs of the same map, each of which counts as one try of a call.
        """
        return {
            "workers": self.workers or 0,
            "timeout": self.timeout,
            "retries": max(0, self.retries - attempts),
            "retry_killed": self.retries_platform,
            "retry_timeout": any(issubclass(TimeoutError, cause) for cause in self.classes),
            "chunksize": self.chunksize or 0,
        }


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

    def finish(self, outcome: Outcome) -> None:
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
    """

    def __init__(self, count: int) -> None:
        self.jobs: list[ProcessingJob] = []
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
        cancelled = [future.cancel() for future in self._futures]  # not lazily: all of them
        return any(cancelled)

    def __repr__(self) -> str:
        done = sum(future.done() for future in self._futures)
        job = self.job
        return f"<MapFutures: {done} of {len(self)} calls done, job={None if job is None else job.job_name!r}>"

    def _cancelled(self) -> None:
        job = self.job
        if job is not None and all(future.done() for future in self._futures):
            threading.Thread(target=job.stop, name="remote-function-cancel").start()


class MapRun(Generic[T]):
    """A map from its packed calls to their outcomes.

    Args:
        name: the function's name.
        settings: the settings of the remote function.
        options: the options of the map.
        packed: the packed function and calls.

    Attributes:
        futures: the futures of the calls.
    """

    def __init__(self, name: str, settings: RemoteSettings, options: MapOptions, packed: PackedCalls) -> None:
        self.futures: MapFutures[T] = MapFutures(len(packed))
        self._name = name
        self._settings = settings
        self._options = options
        self._packed = packed
        self._attempts = 0
        self._seen: set[str] = set()

    def start(self) -> MapFutures[T]:
        """Start the job, or follow one that another caller of the same map has started. Return the futures."""
        job = self._next_job(self._open_calls())
        if job is not None:
            in_background(self._follow(job))
        return self.futures

    def _open_calls(self) -> list[int]:
        return [number for number, future in enumerate(self.futures) if not future.done()]

    def _next_job(self, numbers: list[int]) -> ProcessingJob | None:
        """Return a job that runs the open calls; None if there are none."""
        if self._options.name is None:
            return self._start_job(numbers, None) if numbers else None
        while numbers:
            free = 1
            for job, description in self._named_jobs.existing():
                free += 1
                if job.job_name not in self._seen:
                    self._seen.add(job.job_name)
                    self.futures.jobs.append(job)
                    if description["ProcessingJobStatus"] not in TERMINAL:
                        return job
                    self._read_earlier(job, description)
            numbers = self._open_calls()
            if numbers:
                with contextlib.suppress(NameTakenError):  # by another caller of the same map
                    return self._start_job(numbers, self._named_jobs.job_name(free))
        return None

    @functools.cached_property
    def _named_jobs(self) -> MapJobs:
        assert self._options.name is not None
        settings, session = complete_settings(self._settings)
        root = str(storage_root(session, settings.s3_root_uri))
        return MapJobs.of(session, root, settings.job_name_prefix or self._name, self._options.name)

    def _read_earlier(self, job: ProcessingJob, description: Mapping[str, Any]) -> None:
        """Take the values of an earlier job. Its exceptions are no results: such calls run again."""
        reader = SegmentReader(job, lambda records: self._deliver([each for each in records if each.kind == VALUE]))
        reader.read_rest(description)
        for problem in reader.problems:
            logger.warning("%s: its calls run again", problem)

    def _start_job(self, numbers: Sequence[int], job_name: str | None) -> ProcessingJob:
        settings = self._settings
        if (settings.instance_count or 1) > len(numbers):
            settings = attrs.evolve(settings, instance_count=len(numbers))
        if job_name is not None:
            settings = attrs.evolve(settings, job_name=job_name, if_exists="fail")
        manifest = {"map": self._options.limits(self._attempts), "values": sends_values(settings)}
        job = RemoteCall(self._name, settings, self._packed.file(numbers), _PROGRAM, manifest).start()
        self._seen.add(job.job_name)
        self.futures.jobs.append(job)
        self._attempts += 1
        return job

    async def _follow(self, job: ProcessingJob | None) -> None:
        """Follow the job, and those that replace it, until each call has an outcome."""
        from processing.watching.aio import in_thread

        try:
            while job is not None:
                reader = SegmentReader(job, self._deliver)
                async with _early_results(job, reader):
                    with contextlib.suppress(JobError):  # the outcomes tell more
                        await job.wait_async(logs=False)
                job = await in_thread(lambda job=job, reader=reader: self._end(job, reader))  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - each call gets the reason that it has no outcome
            self._fail(error)

    def _end(self, job: ProcessingJob, reader: SegmentReader) -> ProcessingJob | None:
        """Read the rest of an ended job. Return the job that replaces it, or give each open call an error."""
        description = job.describe()
        reader.read_rest(description)
        numbers = self._open_calls()
        is_another_callers = self._attempts == 0
        if is_another_callers or self._may_repeat(description):
            return self._next_job(numbers)
        if reader.problems and description["ProcessingJobStatus"] == "Completed":
            self._fail(DeserializationError("\n".join(reader.problems)))
        elif description["ProcessingJobStatus"] == "Completed":
            self._fail(RemoteFunctionError(f"processing job {job.job_name}: it ended without an outcome of the call"))
        elif numbers:
            self._fail(failure_of(job, description))
        return None

    def _may_repeat(self, description: Mapping[str, Any]) -> bool:
        """Return whether another job may run the open calls of one that failed."""
        reason = description.get("FailureReason") or ""
        if description["ProcessingJobStatus"] != "Failed":
            return False
        if "CapacityError" in reason and "ProcessingStartTime" not in description:  # no call has run
            most = self._settings.max_retry_attempts
            return self._attempts <= (1 if most is None else most)
        return bool(_LOST.search(reason)) and self._options.retries_platform and self._attempts <= self._options.retries

    def _deliver(self, records: list[Record]) -> None:
        for record in records:
            number = self._packed.number_of.get(record.key)
            if number is not None and not self.futures[number].done():
                outcome = Outcome.of(record, f"call {number} of {self._name}", self._settings.result_format or PICKLE)
                self.futures[number].finish(outcome)

    def _fail(self, error: BaseException) -> None:
        for future in self.futures:
            future.finish(Outcome(error=error))


class PackedCalls:
    """The packed function and calls of a map.

    Args:
        function: the packed function, with the exceptions for which a call may run again.
        calls: the packed arguments of each call.

    Attributes:
        number_of: the number of the call with a key.
    """

    def __init__(self, function: PackedCall, calls: Sequence[PackedCall]) -> None:
        self._function = function
        self._calls = calls
        self.number_of = {call.key: number for number, call in enumerate(calls)}

    @classmethod
    def of(
        cls, function: Callable[..., Any], settings: RemoteSettings, classes: tuple[Any, ...], calls: Iterable[Call]
    ) -> PackedCalls:
        """Pack a function and its calls, while they are read: the caller may use an object for several calls.

        Args:
            function: the function.
            settings: the settings, with the form of the calls.
            classes: the exceptions for which a call may run again.
            calls: the positional and the keyword arguments of each call.

        Raises:
            ConfigurationError: the arguments of a call do not fit the function's signature.
            SerializationError: the function or an argument cannot be packed.
        """
        name = function_name(function)
        fits = arguments_check(function)
        packer = CallsPacker()
        causes = tuple(map(reference_to, classes)) if sends_values(settings) else classes
        packed_function = packer.pack(packed_chunks(name, settings, sent_function(function, settings), causes, {}))
        packed_calls = []
        for position, (args, kwargs) in enumerate(calls):
            fits(f"call {position} of ", args, kwargs)
            packed_calls.append(packer.pack(packed_chunks(f"call {position} of {name}", settings, None, args, kwargs)))
        return cls(packed_function, packed_calls)

    def __len__(self) -> int:
        return len(self._calls)

    def file(self, numbers: Iterable[int]) -> bytes:
        """Return the file with the function and some of the calls."""
        return b"".join(calls_file(self._function, [self._calls[number] for number in numbers]))


@contextlib.asynccontextmanager
async def _early_results(job: ProcessingJob, reader: SegmentReader) -> AsyncIterator[None]:
    """Read the segments that a job's log announces, until the block ends."""
    task = asyncio.ensure_future(_follow_log(job, reader))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _follow_log(job: ProcessingJob, reader: SegmentReader) -> None:
    from processing.watching.events import LogEvent

    looks: set[asyncio.Task[None]] = set()
    try:
        async with job.events_async(logs=True) as events:
            async for event in events:
                found = reader.announce(event.host, event.message) if isinstance(event, LogEvent) else None
                if found is not None:
                    looks.add(asyncio.create_task(_look_for(reader, found)))
    except ProcessingError as error:  # the results come at the end
        logger.debug("no early results of %s: %s", job.job_name, error)
    finally:
        for look in looks:
            look.cancel()


async def _look_for(reader: SegmentReader, found: Announcement) -> None:
    """Read a segment as soon as it is in S3. A wrong one may be replaced by the right one: the job's end decides."""
    from processing.watching.aio import in_thread

    for pause in _LOOKS:
        await asyncio.sleep(pause)
        with contextlib.suppress(ProcessingError):
            if await in_thread(lambda: reader.read(*found)):
                return


def submit_map(
    function: Callable[..., T], settings: RemoteSettings, options: MapOptions, calls: Iterable[Call]
) -> MapFutures[T]:
    """Start one job for many calls of a function.

    Args:
        function: the function.
        settings: the settings of the remote function.
        options: the options of the map.
        calls: the positional and the keyword arguments of each call; read to its end first.

    Raises:
        ConfigurationError: the arguments of a call do not fit the function's signature.
        SerializationError: the function or an argument cannot be packed.
    """
    refuse_launchers(settings, "map")
    packed = PackedCalls.of(function, settings, options.classes, calls)
    return MapRun[T](function_name(function), settings, options, packed).start()


def refuse_launchers(settings: RemoteSettings, what: str) -> None:
    """Refuse settings that start a program of another kind.

    Raises:
        ConfigurationError: there is one.
    """
    for name in ("use_torchrun", "use_mpirun", "spark_config"):
        if getattr(settings, name):
            raise ConfigurationError(f"{name}: {what} starts its own workers; call the function instead")


def results(futures: MapFutures[T], options: MapOptions) -> Iterator[T]:
    """Yield the results of a map, as its options say."""
    for future in futures if options.ordered else as_completed(futures):
        error = future.exception() if options.return_exceptions else None
        yield future.result() if error is None else error  # type: ignore[misc]


def positional(iterables: tuple[Iterable[Any], ...]) -> Iterator[Call]:
    """Return the calls of a `map`: one argument from each iterable, until the shortest ends."""
    if not iterables:
        raise ConfigurationError("map: needs an iterable of arguments")
    for each in iterables:
        require("map", each, ITERABLE)
    return ((args, {}) for args in zip(*iterables, strict=False))


def unpacked(arguments: Iterable[Any]) -> Iterator[Call]:
    """Return the calls of a `starmap`: the arguments of each call are an iterable of their own."""
    require("starmap", arguments, ITERABLE)
    return ((tuple(args), {}) for args in arguments)
