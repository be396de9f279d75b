"""The wait for a result: how soon it arrives, which failures start the job again, and faults on the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from processing import CapacityError, LocalSession, RemoteFunctionError, RetryPolicy, ServiceError, attach
from processing.container.remote import packing
from processing.remote_function import MapFutures, get_future, remote
from processing.remote_function.mapping import MapOptions
from processing.remote_function.mapping.results import CallResult
from processing.remote_function.mapping.submit import yield_results
from processing.request.s3_uri import S3Uri
from processing.session.prompt import prompt_session
from processing.testing import FaultInjector, SimulatedAws, VirtualClock
from processing.testing.jobs import Life

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processing import Session

ROLE = "arn:aws:iam::000000000000:role/processing"


class Service:
    """A simulated AWS whose jobs have the result 42, stored when they are created.

    Args:
        lives: the life of each job, in order of creation, without the exit message; the last one repeats.
        clock: its clock; by default a new one.
    """

    def __init__(self, lives: list[Callable[[str], Life]], clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self.aws = SimulatedAws(self.clock, life=self._life)
        self.session: Session = self.aws.session()
        self.created = 0
        self._lives = lives

    def _life(self, request: dict[str, Any]) -> Life:
        life = self._lives[min(self.created, len(self._lives) - 1)]
        self.created += 1
        (uri,) = (
            each["S3Output"]["S3Uri"]
            for each in request["ProcessingOutputConfig"]["Outputs"]
            if each["OutputName"] == "remote-result"
        )
        place, packed = S3Uri.parse(uri) / "result", packing.pack(42)
        client = self.session.boto_session.client("s3")
        client.put_object(Bucket=place.bucket, Key=place.key, Body=packed.to_bytes())
        return life(json.dumps({"slot": "result", "sha256": packed.sha256, "size": packed.size}))

    def function(self, function: Callable[..., Any] = lambda: None, **options: Any) -> Any:
        """A remote function on the simulated AWS."""
        given = {"instance_type": "ml.m5.large", "image_uri": "mine:1", "role": ROLE, **options}
        return remote(function, sagemaker_session=self.session, **given)


@pytest.fixture
def faults() -> FaultInjector:
    """The faults of `session`."""
    return FaultInjector(clock=VirtualClock())


@pytest.fixture
def session(tmp_path: Path, faults: FaultInjector) -> LocalSession:
    """An engine behind a wire with faults, with short pauses between retries."""
    policy = RetryPolicy(base=0.001, cap=0.01)
    return LocalSession(tmp_path / "engine", tick=0.01, retry_policy=policy, transport=faults.wrap)


def completed(seconds: float) -> Callable[[str], Life]:
    """A job that completes after so many seconds."""
    return lambda message: Life(seconds, exit_message=message)


def failed(reason: str) -> Callable[[str], Life]:
    """A job that fails with a reason."""
    return lambda _message: Life(30.0, status="Failed", failure_reason=reason)


def test_results_arrive_one_second_after_the_end() -> None:
    """The mean delay is that of a look every two seconds, over jobs of any length."""
    lengths = [60 + number / 10 for number in range(20)]  # every phase of the interval
    service = Service([completed(seconds) for seconds in lengths])
    function = service.function()
    delays = []
    for _ in lengths:
        future = function.submit()
        assert future.result() == 42
        now = service.clock.time()
        # Not from `submit` on: the clock may have moved on before it returned.
        delays.append(now - future.job.describe()["ProcessingEndTime"].timestamp())
    assert min(delays) >= 0
    assert max(delays) <= 2.1
    assert sum(delays) / len(delays) <= 1.1


def test_jobs_share_one_poller() -> None:
    """All calls of a session watch their jobs through one poller, and one that the user configured stays as it is."""
    service = Service([completed(60)])
    first, second = service.function().submit(), service.function().submit()
    assert (first.result(), second.result()) == (42, 42)
    assert first.job.sagemaker_session is second.job.sagemaker_session is prompt_session(service.session)
    assert prompt_session(prompt_session(service.session)).polling.longest == 2


@pytest.mark.parametrize("reason", ["InternalServerError: retry", "CapacityError: no instance"])
def test_failures_of_the_platform_start_the_job_again(reason: str) -> None:
    """A job that AWS could not run is started again, as often as `max_retry_attempts` says."""
    service = Service([failed(reason), completed(60)])
    future = service.function().submit()
    assert future.result() == 42
    assert service.created == 2
    service = Service([failed(reason)])
    with pytest.raises(RemoteFunctionError) as caught:
        service.function(max_retry_attempts=2)()
    assert service.created == 3
    assert isinstance(caught.value.__cause__, CapacityError) == reason.startswith("Capacity")
    service = Service([failed(reason)])
    assert isinstance(service.function(max_retry_attempts=0).submit().exception(), RemoteFunctionError)
    assert service.created == 1


def test_a_generator_without_an_item_is_started_again() -> None:
    """A generator function is started again like any other, since no item of it has come."""
    service = Service([failed("CapacityError: no instance")])
    items = service.function(lambda: (yield 1))()
    with pytest.raises(RemoteFunctionError, match="no instance"):
        next(items)
    assert service.created == 2


def test_failures_of_the_function_do_not_start_the_job_again() -> None:
    """A job that failed by itself has run, so it is not started again."""
    service = Service([failed("AlgorithmError: exit code: 1")])
    with pytest.raises(RemoteFunctionError):
        service.function(max_retry_attempts=5)()
    assert service.created == 1


@pytest.mark.parametrize(
    "kind", ["throttle", "error500", "error503", "reset_before", "reset_after", "truncate", "double", "unreachable"]
)
def test_faults_on_every_call(session: LocalSession, faults: FaultInjector, kind: Any) -> None:
    """Each call of the path meets a fault at first: the result is right, and there is one job."""
    for operation in ("HeadObject", "PutObject", "CreateProcessingJob", "DescribeProcessingJob", "GetObject"):
        faults.on(operation, kind)
    function = remote(lambda x: x + 1, instance_type="local", sagemaker_session=session, job_name="faulty")
    assert function(1) == 2
    assert get_future("faulty", session).result() == 2


def test_an_s3_that_fails_for_good(session: LocalSession, faults: FaultInjector) -> None:
    """A result that cannot be read is a ServiceError, which names the object."""
    future = remote(lambda: 1, instance_type="local", sagemaker_session=session).submit()
    assert future.result() == 1
    assert future.job is not None
    name = future.job.job_name
    faults.on("GetObject", "denied", probability=1.0)
    with pytest.raises(ServiceError, match=name):
        get_future(name, session).result()


class Interrupting(VirtualClock):
    """A clock on which Ctrl-C comes after ten seconds."""

    def wait(self, condition: Any, seconds: float) -> None:
        super().wait(condition, seconds)
        if self.monotonic() >= 10:
            raise KeyboardInterrupt


def test_the_interrupt_of_a_call_says_how_to_get_the_result() -> None:
    """After Ctrl-C the job goes on; the text has the call for its result, with the root that it needs."""
    service = Service([completed(600)], clock=Interrupting())
    root = f"s3://{service.session.default_bucket()}/here"
    with pytest.raises(KeyboardInterrupt) as raised:
        service.function(job_name="mine", s3_root_uri=root)()
    lines = str(raised.value).splitlines()
    assert lines[0] == "Detached: the job goes on."
    assert lines[-1].startswith("  result: processing.remote_function.get_future('mine', processing.Session(")
    assert lines[-1].endswith(f"s3_root_uri={root!r}).result()")


@pytest.mark.parametrize("name", [None, "nightly"])
def test_the_interrupt_of_a_map_says_how_to_go_on(name: str | None) -> None:
    """After Ctrl-C the job of a map goes on; a map with a name can be run again for its results."""
    service = Service([completed(600)])
    service.aws.add_job("mine", ends=None)
    futures: MapFutures[int] = MapFutures(1)
    futures.jobs.append(attach("mine", service.session))
    futures[0].finish(CallResult(error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt) as raised:
        list(yield_results(futures, MapOptions(name=name)))
    lines = str(raised.value).splitlines()
    assert lines[0] == "Detached: the job goes on."
    assert lines[-1].startswith("  stop:   processing.attach('mine'")
    assert lines[1:-1] == ([] if name is None else ["  result: the same map with name='nightly'"])
