"""The run of a map: its jobs, one after the other, until each call has an outcome."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import attrs

from processing._utils import lazy
from processing.container.contract import TERMINAL
from processing.container.remote.worker import VALUE
from processing.exceptions import DeserializationError, JobError, NameTakenError, RemoteFunctionError
from processing.remote_function.bundle import FUNCTION_DIGEST
from processing.remote_function.call import RemoteCall, complete_settings
from processing.remote_function.call_record import storage_root
from processing.remote_function.futures import in_background
from processing.remote_function.mapping.early import early_results
from processing.remote_function.mapping.futures import MapFutures
from processing.remote_function.mapping.named import MapJobs
from processing.remote_function.mapping.results import PICKLE, CallResult, SegmentReader
from processing.remote_function.packed_call import sends_values
from processing.remote_function.results import failure_of
from processing.request.warnings import warn_user

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.container.remote.segments import SegmentEntry
    from processing.job.job import ProcessingJob
    from processing.remote_function.mapping.options import MapOptions
    from processing.remote_function.mapping.packed_calls import PackedCalls
    from processing.remote_function.settings import RemoteSettings
    from processing.watching.events import Event
    from processing.watching.render.log_lines import Renderer

T = TypeVar("T")

_PROGRAM: Final = "map_host"
# The platform ended a job: no capacity, a lost instance, or too little memory.
_LOST: Final = re.compile(r"InternalServerError|CapacityError|exit code:? 137")

logger = logging.getLogger(__name__)


class MapRun(Generic[T]):
    """A map from its packed calls to their outcomes.

    Args:
        name: the function's name.
        settings: the settings of the remote function.
        options: the options of the map.
        packed: the packed function and calls.
        renderer: shows the log lines of the jobs; None shows nothing.

    Attributes:
        futures: the futures of the calls.
    """

    def __init__(
        self,
        name: str,
        settings: RemoteSettings,
        options: MapOptions,
        packed: PackedCalls,
        renderer: Renderer | None = None,
    ) -> None:
        self.futures: MapFutures[T] = MapFutures(len(packed))
        self._name = name
        self._settings = settings
        self._options = options
        self._packed = packed
        self._renderer = renderer
        self._attempts = 0
        self._has_warned = False
        self._seen: set[str] = set()

    def start(self) -> MapFutures[T]:
        """Start the job, or follow one that another caller of the same map has started. Return the futures."""
        job = self._next_job(self._open_calls())
        if job is None:
            self.futures.shown.set()
        else:
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
                    self._compare_function(job, description)
                    if description["ProcessingJobStatus"] not in TERMINAL:
                        return job
                    self._read_earlier(job, description)
            numbers = self._open_calls()
            if numbers:
                with contextlib.suppress(NameTakenError):  # by another caller of the same map
                    return self._start_job(numbers, self._named_jobs.job_name(free))
        return None

    @lazy
    def _named_jobs(self) -> MapJobs:
        assert self._options.name is not None
        settings, session = complete_settings(self._settings)
        root = str(storage_root(session, settings.s3_root_uri))
        return MapJobs.of(session, root, settings.job_name_prefix or self._name, self._options.name)

    def _compare_function(self, job: ProcessingJob, description: Mapping[str, Any]) -> None:
        """Warn of results of an earlier version of the function: a map often goes on after a correction of it."""
        earlier = (description.get("Environment") or {}).get(FUNCTION_DIGEST, self._packed.digest)
        if earlier != self._packed.digest and not self._has_warned:
            self._has_warned = True
            warn_user(
                f"name: {self._name} has changed since job {job.job_name}, whose results are kept; a map with another "
                "name runs all calls again"
            )

    def _read_earlier(self, job: ProcessingJob, description: Mapping[str, Any]) -> None:
        """Take the values of an earlier job. Calls that raised an exception run again."""
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
        manifest = {"map": self._options.limits(self._attempts)._asdict(), "values": sends_values(settings)}
        content = self._packed.file(numbers)
        call = RemoteCall(self._name, settings, content, _PROGRAM, manifest, function_digest=self._packed.digest)
        job = call.start()
        self._seen.add(job.job_name)
        self.futures.jobs.append(job)
        self._attempts += 1
        if not self._open_calls():  # all were cancelled during the start, when no future knew this job
            try:
                job.stop()
            except Exception as error:  # noqa: BLE001 - no call waits for the job
                logger.warning("%s: the job could not be stopped: %s", job.job_name, error)
        return job

    async def _follow(self, job: ProcessingJob | None) -> None:
        """Follow the job, and those that replace it, until each call has an outcome."""
        from processing.watching.aio import in_thread

        try:
            while job is not None:
                reader = SegmentReader(job, self._deliver)
                async with early_results(job, reader, self._show) as log:
                    with contextlib.suppress(JobError):  # the outcomes tell more
                        await job.wait_async(logs=False, quiet=self._renderer is None)
                    job = await in_thread(lambda job=job, reader=reader: self._end(job, reader))  # type: ignore[misc]
                    if self._renderer is not None and not self.futures.shown.is_set():
                        await log  # the last lines
                        self._renderer.flush()
        except Exception as error:  # noqa: BLE001 - each call gets the reason that it has no outcome
            self._fail(error)
        finally:
            self.futures.shown.set()

    def _show(self, event: Event) -> None:
        if self._renderer is not None and not self.futures.shown.is_set():
            self._renderer.show(event)

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

    def _deliver(self, records: list[SegmentEntry]) -> None:
        for record in records:
            number = self._packed.number_of.get(record.key)
            if number is not None and not self.futures[number].done():
                outcome = CallResult.of(
                    record, f"call {number} of {self._name}", self._settings.result_format or PICKLE
                )
                self.futures[number].finish(outcome)

    def _fail(self, error: BaseException) -> None:
        for future in self.futures:
            future.finish(CallResult(error=error))
