"""A simulated SageMaker, whose processing jobs have scripted lives on a virtual clock."""

from __future__ import annotations

import base64
import heapq
import itertools
import json
import threading
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing._utils.validation import ITERABLE, SECONDS, TEXT, field, integer, number, one_of
from processing.container.contract import TERMINAL
from processing.exceptions import ConfigurationError
from processing.local.jobs.description import with_defaults
from processing.testing.wire import Handler, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from processing.testing.clock import VirtualClock

_SORT_MEMBERS: Final = {"CreationTime": "CreationTime", "Name": "ProcessingJobName", "Status": "ProcessingJobStatus"}
_PAGE = 10  # the default of ListProcessingJobs


@attrs.frozen
class Life:
    """The scripted life of a job. Times are seconds after its creation.

    Args:
        ends: the time at which it ends by itself, or None for never.
        status: its final status: `Completed`, `Failed` or `Stopped`.
        starts: the time at which its container starts.
        stopping: the seconds from a stop request to its end.
        failure_reason: the FailureReason of Describe.
        exit_message: the ExitMessage of Describe.
        lines: its log lines.

    Raises:
        ConfigurationError: the status is not final, or the end is before the creation.
    """

    ends: float | None = attrs.field(default=60.0, validator=field(number(), optional=True))
    status: str = attrs.field(default="Completed", validator=field(one_of(*sorted(TERMINAL))))
    starts: float = attrs.field(default=0.0, validator=field(SECONDS))
    stopping: float = attrs.field(default=2.0, validator=field(SECONDS))
    failure_reason: str | None = attrs.field(default=None, validator=field(TEXT, optional=True))
    exit_message: str | None = attrs.field(default=None, validator=field(TEXT, optional=True))
    lines: Iterable[SimulatedLine] = attrs.field(default=(), validator=field(ITERABLE))

    def __attrs_post_init__(self) -> None:
        if self.ends is not None and self.ends < 0:
            raise ConfigurationError(f"ends: must not be before the job is there, {-self.ends:g} seconds later")


@attrs.frozen
class SimulatedLine:
    """A log line of a job.

    Args:
        at: the time at which it is written, in seconds after the job's creation.
        message: the text.
        host: the number of the instance that writes it, from 1.
        delay: the seconds until it can be read.
    """

    at: float = attrs.field(validator=field(number()))
    message: str = attrs.field(validator=field(TEXT))
    host: int = attrs.field(default=1, validator=field(integer(at_least=1)))
    delay: float = attrs.field(default=0.0, validator=field(number()))  # negative for a clock that is ahead


@attrs.define
class _Job:
    number: int
    request: Mapping[str, Any]
    created: float
    life: Life
    ends: float
    stopped: float | None = None
    deleted: bool = False

    @property
    def name(self) -> str:
        return str(self.request["ProcessingJobName"])

    @property
    def tags(self) -> dict[str, str]:
        return {tag["Key"]: tag["Value"] for tag in self.request.get("Tags", ())}

    def is_tagged(self, filters: Iterable[tuple[str, set[str]]]) -> bool:
        """Return whether the job has every key with one of its values. No values stand for any value."""
        return all(key in self.tags and (not values or self.tags[key] in values) for key, values in filters)

    def state(self, moment: float) -> tuple[str, float]:
        """Return the status at a moment, and the time of the latest change of the answer."""
        if moment >= self.ends:
            return ("Stopped" if self.stopped is not None else self.life.status), self.ends
        if self.stopped is not None and moment >= self.stopped:
            return "Stopping", self.stopped
        started = self.created + self.life.starts
        return "InProgress", started if moment >= started else self.created

    def summary(self, moment: float, arn: str) -> dict[str, Any]:
        """Return the members of the job that both List and Describe answer."""
        status, modified = self.state(moment)
        answer: dict[str, Any] = {
            "ProcessingJobName": self.name,
            "ProcessingJobArn": arn,
            "ProcessingJobStatus": status,
            "CreationTime": round(self.created, 3),
            "LastModifiedTime": round(modified, 3),
        }
        if status in TERMINAL:
            answer["ProcessingEndTime"] = round(self.ends, 3)
            if status == "Failed" and self.life.failure_reason:
                answer["FailureReason"] = self.life.failure_reason
            if status == self.life.status and self.life.exit_message:
                answer["ExitMessage"] = self.life.exit_message
        return answer


class SimulatedJobs:
    """Handlers for a `JsonService`: the operations on processing jobs. Safe for threads.

    Args:
        clock: the clock of the jobs.
        life: a function from the parameters of CreateProcessingJob to the job's life.
        list_lag: the seconds by which List shows a change later than Describe, or a function of the job's name that
            returns them.
        account: the account's number, for ARNs.
        region: the region, for ARNs.
        on_created: called with each new job's name, request, creation (seconds since the epoch) and life.
        on_stopped: called with each stopped job's name, request, creation and end, in seconds since the epoch.
    """

    def __init__(
        self,
        clock: VirtualClock,
        life: Callable[[dict[str, Any]], Life],
        *,
        list_lag: float | Callable[[str], float] = 0.0,
        account: str,
        region: str,
        on_created: Callable[[str, Mapping[str, Any], float, Life], None],
        on_stopped: Callable[[str, Mapping[str, Any], float, float], None],
    ) -> None:
        self._clock = clock
        self.life = life
        self._lag = list_lag if callable(list_lag) else lambda _: list_lag
        self._prefix = f"arn:aws:sagemaker:{region}:{account}:processing-job/"
        self._on_created = on_created
        self._on_stopped = on_stopped
        self._jobs: dict[str, _Job] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._index = _JobIndex()
        self._generation = 0  # of the valid tokens

    def handlers(self) -> dict[str, Handler]:
        """Return the operations by name."""
        return {
            "CreateProcessingJob": self.create,
            "DescribeProcessingJob": self.describe,
            "ListProcessingJobs": self.list,
            "StopProcessingJob": self.stop,
            "DeleteProcessingJob": self.delete,
            "ListTags": self.list_tags,
            "GetResources": self.get_resources,
        }

    def forget_tokens(self) -> None:
        """Invalidate every token of List so far."""
        self._generation += 1

    def add(self, request: Mapping[str, Any], created: float, life: Life) -> None:
        """Add a job.

        Args:
            request: the members of CreateProcessingJob.
            created: the time of its creation, in seconds since the epoch. It does not exist before.
            life: its life.

        Raises:
            ServiceError: the name is taken (`ResourceInUse`).
        """
        with self._lock:
            if request["ProcessingJobName"] in self._jobs:
                raise ServiceError(
                    "ResourceInUse",
                    "Job name must be unique within an AWS account and region, "
                    f"and a job with this name exists: {request['ProcessingJobName']}",
                )
            ends = float("inf") if life.ends is None else created + life.ends
            job = _Job(next(self._numbers), request, created, attrs.evolve(life, lines=()), ends)
            self._jobs[job.name] = job
            for moment in {created, created + life.starts, ends} - {float("inf")}:
                self._schedule_change(job, moment)
        self._on_created(job.name, request, created, life)

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer CreateProcessingJob."""
        name, now = params["ProcessingJobName"], self._clock.time()
        self.add({**with_defaults(params), "Tags": params.get("Tags", [])}, now, self.life(params))
        return {"ProcessingJobArn": self._prefix + name}

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer DescribeProcessingJob."""
        now = self._clock.time()
        with self._lock:
            job = self._get(params, now)
            request = {member: value for member, value in job.request.items() if member != "Tags"}
            answer = {**request, **job.summary(now, self._prefix + job.name)}
            started = job.created + job.life.starts
            return {**answer, "ProcessingStartTime": round(started, 3)} if started <= now else answer

    def stop(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer StopProcessingJob."""
        now = self._clock.time()
        with self._lock:
            job = self._get(params, now)
            status, _ = job.state(now)
            if status in TERMINAL:
                raise ServiceError(
                    "ValidationException", f"The request was rejected because the processing job is in status {status}."
                )
            if status == "Stopping":
                return {}
            job.stopped, job.ends = now, now + job.life.stopping
            self._schedule_change(job, now)
            self._schedule_change(job, job.ends)
        self._on_stopped(job.name, job.request, job.created, job.ends)
        return {}

    def delete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer DeleteProcessingJob."""
        now = self._clock.time()
        with self._lock:
            job = self._get(params, now)
            if job.state(now)[0] not in TERMINAL:
                raise ServiceError("ResourceInUse", f"The processing job {job.name} has not ended.")
            del self._jobs[job.name]
            job.deleted = True
            self._schedule_change(job, now)
        return {}

    def list(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer ListProcessingJobs."""
        now = self._clock.time()
        order, descending = _SORT_MEMBERS[params.get("SortBy", "CreationTime")], params.get("SortOrder") == "Descending"
        with self._lock:
            self._index.advance(now, lambda job, moment: job.summary(moment, self._prefix + job.name))
            token = params.get("NextToken")
            found = self._index.find(params, order, descending, None if token is None else self._position(token))
            page = list(itertools.islice(found, params.get("MaxResults", _PAGE) + 1))
        more = page[params.get("MaxResults", _PAGE) :]
        answer: dict[str, Any] = {"ProcessingJobSummaries": [shown for _, shown in page[: len(page) - len(more)]]}
        if more:
            answer["NextToken"] = self._token(page[-2][1][order], page[-2][0])
        return answer

    def list_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer ListTags."""
        name = str(params["ResourceArn"]).removeprefix(self._prefix)
        with self._lock:
            return {"Tags": self._get({"ProcessingJobName": name}, self._clock.time()).request.get("Tags", [])}

    def get_resources(self, params: dict[str, Any]) -> dict[str, Any]:
        """Answer Resource Groups Tagging's GetResources: jobs by their tags, in pages by name."""
        now, size = self._clock.time(), params.get("ResourcesPerPage", 100)
        filters = [(each["Key"], set(each.get("Values", ()))) for each in params.get("TagFilters", ())]
        with self._lock:
            there = [job for job in self._jobs.values() if job.created <= now and job.tags and job.is_tagged(filters)]
        names = sorted(job.name for job in there if job.name > params.get("PaginationToken", ""))
        tags = {job.name: [{"Key": key, "Value": value} for key, value in job.tags.items()] for job in there}
        page = [{"ResourceARN": self._prefix + name, "Tags": tags[name]} for name in names[:size]]
        return {"ResourceTagMappingList": page, "PaginationToken": names[size - 1] if len(names) > size else ""}

    def _get(self, params: Mapping[str, Any], now: float) -> _Job:
        name = params["ProcessingJobName"]
        job = self._jobs.get(name)
        if job is None or job.created > now:
            raise ServiceError("ValidationException", f"Could not find requested job with name: {name}")
        return job

    def _schedule_change(self, job: _Job, moment: float) -> None:
        self._index.schedule(job, moment, moment + self._lag(job.name))

    def _token(self, value: Any, number: int) -> str:
        return base64.b64encode(json.dumps([self._generation, value, number]).encode()).decode()

    def _position(self, token: str) -> tuple[Any, int]:
        generation, value, number = json.loads(base64.b64decode(token))
        if generation != self._generation:
            raise ServiceError("ValidationException", "The NextToken is no longer valid.")
        return value, number


class _JobIndex:
    """The index behind List. Changes appear late, as on AWS, and queries by creation or change visit few jobs."""

    def __init__(self) -> None:
        self._pending: list[tuple[float, int, _Job, float]] = []  # a heap by visibility, with job and moment
        self._numbers = itertools.count()
        self._shown: dict[int, dict[str, Any]] = {}  # by the job's number
        self._by_creation: list[tuple[float, int]] = []
        self._by_change: list[tuple[float, int]] = []

    def schedule(self, job: _Job, moment: float, visible: float) -> None:
        """Schedule a change of a job at a moment. List shows it from `visible` on."""
        heapq.heappush(self._pending, (visible, next(self._numbers), job, moment))

    def advance(self, now: float, summary: Callable[[_Job, float], dict[str, Any]]) -> None:
        """Apply the changes that are visible by now."""
        while self._pending and self._pending[0][0] <= now:
            _, _, job, moment = heapq.heappop(self._pending)
            before = self._shown.pop(job.number, None)
            if before is not None:
                _remove(self._by_change, (before["LastModifiedTime"], job.number))
            if job.deleted:
                if before is not None:
                    _remove(self._by_creation, (before["CreationTime"], job.number))
                continue
            after = self._shown[job.number] = summary(job, moment)
            insort(self._by_change, (after["LastModifiedTime"], job.number))
            if before is None:
                insort(self._by_creation, (after["CreationTime"], job.number))

    def find(
        self, params: Mapping[str, Any], order: str, descending: bool, position: tuple[Any, int] | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield number and summary of the jobs that pass the filters, from after a position on."""
        chosen: Sequence[tuple[Any, int]] = self._by_creation
        if "LastModifiedTimeAfter" in params:
            first = bisect_right(self._by_change, (params["LastModifiedTimeAfter"], 1 << 62))
            chosen = sorted((self._shown[number][order], number) for _, number in self._by_change[first:])
        elif order != "CreationTime":
            chosen = sorted((shown[order], number) for number, shown in self._shown.items())
        if descending:
            last = len(chosen) if position is None else bisect_left(chosen, position)
            places: Iterable[int] = range(last - 1, -1, -1)
        else:
            places = range(0 if position is None else bisect_right(chosen, position), len(chosen))
        for place in places:
            number = chosen[place][1]
            if _passes(self._shown[number], params):
                yield number, self._shown[number]


def _passes(shown: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    return (
        params.get("NameContains", "") in shown["ProcessingJobName"]
        and shown["ProcessingJobStatus"] == params.get("StatusEquals", shown["ProcessingJobStatus"])
        and params.get("CreationTimeAfter", 0.0) < shown["CreationTime"]
        and shown["CreationTime"] < params.get("CreationTimeBefore", float("inf"))
        and params.get("LastModifiedTimeAfter", 0.0) < shown["LastModifiedTime"]
        and shown["LastModifiedTime"] < params.get("LastModifiedTimeBefore", float("inf"))
    )


def _remove(ordered: list[tuple[float, int]], member: tuple[float, int]) -> None:
    del ordered[bisect_left(ordered, member)]
