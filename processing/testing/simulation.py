"""AWS in a test's process, on the test's clock: jobs with scripted lives, their log lines, lags and quotas.

```python
clock = VirtualClock()
aws = SimulatedAws(clock, quotas=PUBLISHED_QUOTAS)
aws.add_job("clean", ends=3600, lines=[SimulatedLine(10, "hello")])
aws.faults.on("DescribeProcessingJob", "throttle", probability=0.05)
processing.attach("clean", session=aws.session()).wait()  # an hour, in milliseconds
```

SageMaker's processing jobs and CloudWatch Logs are simulated; everything else (S3, STS, IAM, ...) is answered by an
embedded engine in a folder that is removed with the simulation. Real botocore clients speak to it: nothing is
pretended above the wire.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from processing.aws.rate_limit import shared_rate_limiters
from processing.aws.retry import RetryingApi
from processing.local.engine import ACCOUNT, REGION, Engine
from processing.local.jobs.description import selected_instances
from processing.local.transports.in_process import InProcessTransport
from processing.session.session import Session
from processing.testing.cloudwatch import ScriptedLine, ScriptedLogs
from processing.testing.faults import FaultInjector
from processing.testing.jobs import Life, SimulatedJobs, SimulatedLine
from processing.testing.quotas import PUBLISHED_QUOTAS, Quotas
from processing.testing.wire import JsonService, ServiceError, operation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.aws.rate_limit import AdaptiveRateLimiter
    from processing.aws.retry import RetryPolicy
    from processing.testing.clock import VirtualClock

__all__ = ["PUBLISHED_QUOTAS", "Life", "SimulatedAws", "SimulatedLine"]

_ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/processing"
_SIMULATED: Final = ("SageMaker.", "Logs_", "ResourceGroupsTaggingAPI_")  # what their targets begin with
_PAGE = 10_000  # lines of FilterLogEvents and GetLogEvents


class SimulatedAws:
    """SageMaker Processing and CloudWatch Logs, as they would be. Safe for threads.

    Times are seconds since the simulation began, which is when it is made: on a clock that was made just before, they
    are the clock's `monotonic()`.

    Args:
        clock: what everything happens on.
        seed: for chance: faults, jitter, liberties.
        quotas: calls per second by operation, such as `PUBLISHED_QUOTAS`; what is beyond is refused with
            ThrottlingException. None for no quotas.
        list_lag: how many seconds later than Describe the List knows of a change; or what says so of a job's name.
        latency: what each call takes, in seconds on the clock.
        life: what becomes of jobs that are created by CreateProcessingJob, by its parameters; by default they
            complete after a minute, without a line.
        liberties: True to let log pages be of any length, empty, or come twice, as CloudWatch may.
        faults: makes calls fail; an injector of its own where not given.

    Attributes:
        clock: as given.
        faults: as given, or its own.
        calls: how often each operation was asked for, what failed or was refused included.
        throttled: how often the quotas refused each operation.
        per_minute: the calls by operation and minute (from 0) of the simulation.
        logs: the log lines; `logs.denied` has the operations that nobody may call.
        jobs: SageMaker's part.
        service: answers the calls; its `handlers` may be replaced.
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
            created=self._write_lines,
            stopped=self._cut_lines,
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

    # The world.

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
        """Let there be a job that somebody else created.

        Args:
            name: its name.
            starts: when it is created and starts; it is not there before. Seconds since the simulation began, as
                everywhere here, save for the lines.
            ends: when it ends by itself; None for never.
            status: how it ends: `Completed`, `Failed` or `Stopped`.
            lines: what it writes, their times in seconds after its start.
            hosts: the number of its instances.
            failure_reason: as Describe answers it.
            exit_message: as Describe answers it.
            stopping: seconds that it takes to stop when it is asked to.
            request: further members of CreateProcessingJob, such as Tags.

        Raises:
            ServiceError: there is a job of that name.
            ValueError: it would end before it starts, or in no way that a job ends, or a line is of a host that it has
                not.
        """
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
        """Stop a job, as somebody else would."""
        self.jobs.stop({"ProcessingJobName": name})

    def delete_job(self, name: str) -> None:
        """Delete a job that has ended, as somebody else would; its lines stay."""
        self.jobs.delete({"ProcessingJobName": name})

    def at(self, moment: float, action: Callable[[], object]) -> None:
        """Call something with the first call to AWS at or after a moment, in seconds since the simulation began."""
        with self._lock:
            heapq.heappush(self._actions, (moment, next(self._action_numbers), action))

    # The ways to it.

    def client(self, service: str) -> Any:
        """Return a boto3 client of a service such as `sagemaker`; always the same one. It does not retry."""
        return self._own_session.client(service)

    def boto_session(self) -> Any:
        """Return a `boto3.Session` all of whose clients speak to the simulation: any library may use it."""
        import boto3
        import botocore.session

        from processing.request.service_model import shared_loader

        core = botocore.session.Session()
        core.register_component("data_loader", shared_loader())
        core.set_credentials("AKIDEXAMPLE", "example-secret-key")
        register: Any = core.register  # clients inherit the handlers of their session
        register("before-send", lambda request, **_: self.send(request))
        return boto3.Session(botocore_session=core, region_name=REGION)

    def api(
        self, *, rate_limiters: Mapping[str, AdaptiveRateLimiter] | None = None, policy: RetryPolicy | None = None
    ) -> RetryingApi:
        """Return what makes calls with retries, as a session has it.

        Args:
            rate_limiters: by operation; by default none.
            policy: how long a call is tried.
        """
        return RetryingApi(
            self.client, policy=policy, clock=self.clock, random=self._new_random(), rate_limiters=rate_limiters
        )

    def session(self, *, rate_limiters: Mapping[str, AdaptiveRateLimiter] | None = None, **options: Any) -> Session:
        """Return a real `Session` whose AWS is the simulation.

        Args:
            rate_limiters: by operation; by default what a session on AWS has, of its own.
            options: of `Session`, such as `polling` and `retry_policy`.
        """
        if rate_limiters is None:
            rate_limiters = shared_rate_limiters("simulation", uuid.uuid4().hex)
        options = {"clock": self.clock, "sagemaker_config": {}, **options}
        return _SimulatedSession(self.boto_session(), rate_limiters, self._new_random(), **options)

    # What happens at a call.

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer one request, faults included: the simulation is a transport for `processing.testing.wire`."""
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
        return self.session(rate_limiters={})

    def _new_random(self) -> random.Random:
        return random.Random(self._seed)  # noqa: S311 - jitter, not a secret

    def _due_actions(self) -> list[Callable[[], object]]:
        """Return what should have happened by now, once."""
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
            if line.host not in streams:
                raise ValueError(f"lines: {name} has {len(streams)} instances, and a line is of host {line.host}")
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
    """Gives each request to whoever answers it."""

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
    """A session on AWS, with the rate limiters and the chance that it is given."""

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
            boto_session=None,  # a transport that signs by itself would not come by here
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
