"""A simulated AWS in a test's process and on its clock: jobs with scripted lives, log lines, lags and quotas.

```python
clock = VirtualClock()
aws = SimulatedAws(clock, quotas=PUBLISHED_QUOTAS)
aws.add_job("clean", ends=3600, lines=[SimulatedLine(10, "hello")])
aws.faults.on("DescribeProcessingJob", "throttle", probability=0.05)
processing.attach("clean", session=aws.session()).wait()  # an hour, in milliseconds
```

SageMaker's processing jobs and CloudWatch Logs are simulated. An embedded engine answers everything else (S3, STS, IAM
and so on), in a folder that is removed with the simulation. Nothing above the wire is replaced: clients are real
botocore clients.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import shutil
import tempfile
import threading
import uuid
import weakref
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from processing._utils.validation import (
    CLOCK,
    FLAG,
    FUNCTION,
    INTEGER,
    ITERABLE,
    MAPPING,
    NAME,
    SECONDS,
    Kind,
    instance_of,
    integer,
    is_number,
    number,
    require,
)
from processing.aws.rate_limit import shared_rate_limiters
from processing.aws.retry import RetryingApi
from processing.exceptions import ConfigurationError
from processing.local.engine import ACCOUNT, REGION, Engine
from processing.local.jobs.description import selected_instances
from processing.local.transports.in_process import InProcessTransport
from processing.request.service_model import shared_loader
from processing.session.session import Session
from processing.testing.cloudwatch import ScriptedLine, ScriptedLogs
from processing.testing.faults import FaultInjector
from processing.testing.jobs import Life, SimulatedJobs, SimulatedLine
from processing.testing.quotas import PUBLISHED_QUOTAS, Quotas
from processing.testing.wire import JsonService, ServiceError, operation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.aws.rate_limit import AdaptiveRateLimiter
    from processing.aws.retry import RetryPolicy
    from processing.testing.clock import VirtualClock

__all__ = ["PUBLISHED_QUOTAS", "Life", "SimulatedAws", "SimulatedLine"]

_ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/processing"
_SIMULATED: Final = ("SageMaker.", "Logs_", "ResourceGroupsTaggingAPI_")  # the prefixes of X-Amz-Target
_PAGE = 10_000  # lines of FilterLogEvents and GetLogEvents


_QUOTAS = Kind(
    "a dictionary of calls per second by operation",
    lambda value: (
        isinstance(value, Mapping)
        and all(isinstance(name, str) and is_number(rate) and rate > 0 for name, rate in value.items())
    ),
)


class SimulatedAws:
    """Simulated SageMaker Processing and CloudWatch Logs. Safe for threads.

    Times are seconds since the simulation began, which is when it is created. On a clock that was created just before,
    they are the clock's `monotonic()`.

    Args:
        clock: the clock for everything.
        seed: the seed for faults, jitter and irregular pages.
        quotas: calls per second by operation, such as `PUBLISHED_QUOTAS`. Calls beyond them are refused with
            ThrottlingException. None means no quotas.
        list_lag: the seconds by which List shows a change later than Describe, or a function of the job's name that
            returns them.
        latency: the duration of each call, in seconds on the clock.
        life: a function from the parameters of CreateProcessingJob to the job's life. By default jobs complete after a
            minute, without log lines.
        liberties: True to make log pages irregular, as CloudWatch's may be: of any length, empty, or repeated.
        faults: the faults of calls, by default an injector of its own.

    Attributes:
        clock: the clock.
        faults: the injector of faults.
        calls: the number of calls by operation, failed and refused ones included.
        throttled: the number of calls that quotas refused, by operation.
        per_minute: the number of calls by operation and minute of the simulation, from 0.
        logs: the log lines. `logs.denied` has the operations that are refused.
        jobs: the simulated SageMaker.
        service: the service that answers the calls. Its `handlers` may be replaced.
    """

    def __init__(
        self,
        clock: VirtualClock,
        *,
        seed: int = 0,
        quotas: Mapping[str, float] | None = None,
        list_lag: float | Callable[[str], float] = 0.0,
        latency: float = 0.0,
        life: Callable[[dict[str, Any]], Life] = lambda _: Life(),
        liberties: bool = False,
        faults: FaultInjector | None = None,
    ) -> None:
        require("clock", clock, CLOCK)
        require("seed", seed, INTEGER)
        require("quotas", quotas, _QUOTAS, optional=True)
        require("list_lag", list_lag, SECONDS | FUNCTION)
        require("latency", latency, SECONDS)
        require("life", life, FUNCTION)
        require("liberties", liberties, FLAG)
        require("faults", faults, instance_of(FaultInjector, name="a FaultInjector"), optional=True)
        self.clock = clock
        self.faults = faults or FaultInjector(seed, clock=clock)
        self.calls: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.per_minute: Counter[tuple[str, int]] = Counter()
        self.logs = ScriptedLogs([], clock, seed=seed if liberties else None, page=_PAGE)
        self.jobs = SimulatedJobs(
            clock,
            life,
            list_lag=list_lag,
            account=ACCOUNT,
            region=REGION,
            on_created=self._write_lines,
            on_stopped=self._cut_lines,
        )
        self.service = JsonService({**self.jobs.handlers(), **self.logs.handlers()}, clock=clock, admit=self._admit)
        self._seed = seed
        self._latency = latency
        self._quotas = Quotas(quotas or {}, clock)
        self._began = clock.time()
        self._event_ids = itertools.count()
        self._actions: list[tuple[float, int, Callable[[], object]]] = []  # a heap by moment
        self._action_numbers = itertools.count()
        self._lock = threading.RLock()
        self._transport = self.faults.wrap(_Router(self.service))

    # State of the simulated account

    @property
    def now(self) -> float:
        """The seconds since the simulation began."""
        return self.clock.time() - self._began

    def add_job(
        self,
        name: str,
        *,
        starts: float = 0.0,
        ends: float | None = 60.0,
        status: str = "Completed",
        lines: Iterable[SimulatedLine] = (),
        hosts: int = 1,
        failure_reason: str | None = None,
        exit_message: str | None = None,
        stopping: float = 2.0,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a job, as if another client had created it.

        Args:
            name: the job's name.
            starts: the time of its creation and start, in seconds since the simulation began. It does not exist before.
            ends: the time at which it ends by itself, on the same scale, or None for never.
            status: its final status: `Completed`, `Failed` or `Stopped`.
            lines: its log lines, with times in seconds after its start.
            hosts: the number of its instances.
            failure_reason: the FailureReason of Describe.
            exit_message: the ExitMessage of Describe.
            stopping: the seconds from a stop request to its end.
            request: further members of CreateProcessingJob, such as Tags.

        Raises:
            ServiceError: a job has this name already.
            ValueError: the end is before the start, the status is not final, or a line names a host that the job does
                not have.
        """
        require("name", name, NAME)
        require("starts", starts, number())
        require("ends", ends, number(), optional=True)
        require("hosts", hosts, integer(at_least=1, at_most=100))
        require("request", request, MAPPING, optional=True)
        require("lines", lines, ITERABLE)
        life = Life(
            ends=None if ends is None else ends - starts,
            status=status,
            stopping=stopping,
            failure_reason=failure_reason,
            exit_message=exit_message,
            lines=lines,
        )
        whole = {**_request(name, hosts), **(request or {})}
        self.jobs.add(whole, self._began + starts, life)

    def stop_job(self, name: str) -> None:
        """Stop a job, as another client would."""
        self.jobs.stop({"ProcessingJobName": name})

    def delete_job(self, name: str) -> None:
        """Delete a job that has ended, as another client would. Its log lines remain."""
        self.jobs.delete({"ProcessingJobName": name})

    def at(self, moment: float, action: Callable[[], object]) -> None:
        """Schedule a function, which runs with the first call to AWS at or after a moment.

        The moment is in seconds since the simulation began.
        """
        require("moment", moment, number())
        require("action", action, FUNCTION)
        with self._lock:
            heapq.heappush(self._actions, (moment, next(self._action_numbers), action))

    # Clients

    def client(self, service: str) -> Any:
        """Return the boto3 client of a service such as `sagemaker`. It is always the same one, and does not retry."""
        return self._own_session.client(service)

    def boto_session(self) -> Any:
        """Return a `boto3.Session` whose clients all call the simulation. Any library may use it."""
        import boto3
        import botocore.session

        core = botocore.session.Session()
        core.register_component("data_loader", shared_loader())
        core.set_credentials("AKIDEXAMPLE", "example-secret-key")
        register: Any = core.register  # clients inherit the handlers of their session
        register("before-send", lambda request, **_: self.send(request))
        return boto3.Session(botocore_session=core, region_name=REGION)

    def api(
        self, *, pacers: Mapping[str, AdaptiveRateLimiter] | None = None, policy: RetryPolicy | None = None
    ) -> RetryingApi:
        """Return an API that retries calls, as a session has it.

        Args:
            pacers: rate limiters by operation, by default none.
            policy: the policy for retries.
        """
        return RetryingApi(
            self.client, policy=policy, clock=self.clock, random=self._new_random(), rate_limiters=pacers
        )

    def session(self, *, pacers: Mapping[str, AdaptiveRateLimiter] | None = None, **options: Any) -> Session:
        """Return a real `Session` on the simulation.

        Args:
            pacers: rate limiters by operation, by default those of a session on AWS, shared with no other.
            options: further options of `Session`, such as `polling` and `retry_policy`.
        """
        if pacers is None:
            pacers = shared_rate_limiters("simulation", uuid.uuid4().hex)
        options = {"clock": self.clock, "sagemaker_config": {}, **options}
        return _SimulatedSession(self.boto_session(), pacers, self._new_random(), **options)

    # Calls

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer one request, or let it fail. So the simulation is a `processing.testing.Transport`."""
        operation = operation_of(request)
        with self._lock:
            self.calls[operation] += 1
            self.per_minute[operation, int(self.now // 60)] += 1
        self.clock.advance(self._latency / 2)
        for action in self._due_actions():
            action()
        try:
            return self._transport.send(request)
        finally:
            self.clock.advance(self._latency / 2)

    @functools.cached_property
    def _own_session(self) -> Session:
        return self.session(pacers={})

    def _new_random(self) -> random.Random:
        return random.Random(self._seed)  # noqa: S311 - jitter, not a secret

    def _due_actions(self) -> list[Callable[[], object]]:
        """Return the scheduled functions that are due, each only once."""
        due = []
        with self._lock:
            while self._actions and self._actions[0][0] <= self.now:
                due.append(heapq.heappop(self._actions)[2])
        return due

    def _admit(self, operation: str) -> None:
        if operation not in self.service.handlers:
            raise ServiceError("UnknownOperationException", f"{operation} is not simulated")
        with self._lock:
            if self._quotas.allows(operation):
                return
            self.throttled[operation] += 1
        raise ServiceError("ThrottlingException", "Rate exceeded")

    def _write_lines(self, name: str, request: Mapping[str, Any], created: float, life: Life) -> None:
        streams = dict(enumerate(_stream_names(name, request, created), 1))

        def stream_of(line: SimulatedLine) -> str:
            require("lines", line, instance_of(SimulatedLine, name="SimulatedLine values"))
            if line.host not in streams:
                raise ConfigurationError(
                    f"lines: {name} has {len(streams)} instances, and a line is of host {line.host}"
                )
            return streams[line.host]

        self.logs.write(
            ScriptedLine(
                stream=stream_of(line),
                timestamp=round((created + line.at) * 1000),
                arrival=round((created + line.at + line.delay) * 1000),
                event_id=f"{next(self._event_ids):056d}",
                message=line.message,
            )
            for line in life.lines
        )

    def _cut_lines(self, name: str, request: Mapping[str, Any], created: float, ends: float) -> None:
        for stream in _stream_names(name, request, created):
            self.logs.cut(stream, after=round(ends * 1000))


class _Router:
    """A transport that routes requests to the simulated services or to an embedded engine."""

    def __init__(self, simulated: JsonService) -> None:
        self._simulated = simulated

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        target = request.headers.get("X-Amz-Target") or b""
        simulated = (target.decode() if isinstance(target, bytes) else target).startswith(_SIMULATED)
        return (self._simulated if simulated else self._engine).send(request)

    @functools.cached_property
    def _engine(self) -> InProcessTransport:
        folder = tempfile.mkdtemp(prefix="simulated-aws-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return InProcessTransport(Engine(Path(folder)))


class _SimulatedSession(Session):
    """A session with its own rate limiters and its own source of randomness."""

    def __init__(
        self, boto_session: Any, rate_limiters: Mapping[str, AdaptiveRateLimiter], chance: random.Random, **options: Any
    ) -> None:
        super().__init__(boto_session, **options)
        self._api = RetryingApi(
            self.client,
            policy=options.get("retry_policy"),
            clock=self.clock,
            random=chance,
            rate_limiters=rate_limiters,
            boto_session=None,  # with it, calls could bypass the simulation by a transport that signs by itself
        )


def _request(name: str, hosts: int) -> dict[str, Any]:
    cluster = {"InstanceCount": hosts, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 30}
    return {
        "ProcessingJobName": name,
        "RoleArn": _ROLE,
        "AppSpecification": {"ImageUri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/image:1"},
        "ProcessingResources": {"ClusterConfig": cluster},
    }


def _stream_names(name: str, request: Mapping[str, Any], created: float) -> list[str]:
    """Return the names of a job's log streams, one for each host."""
    return [f"{name}/algo-{host + 1}-{int(created)}" for host in range(selected_instances(request)[1])]
