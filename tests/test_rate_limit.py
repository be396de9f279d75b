"""Rate limits: many submissions to a server that enforces a rate cost hardly a call too many."""

from __future__ import annotations

import contextlib
import math
import threading
from typing import Any

import pytest

from processing import Session
from processing.aws.rate_limit import AdaptiveRateLimiter, FairLock, new_rate_limiters, shared_rate_limiters
from processing.aws.retry import RetryingApi
from processing.clock import SYSTEM_CLOCK
from processing.job.fleet.submission import Gate
from processing.testing.clock import VirtualClock
from processing.testing.wire import JsonService, ServiceError, make_client


class LimitedService:
    """A CreateProcessingJob that enforces a rate like AWS: a token bucket, and throttling when it is empty."""

    def __init__(self, clock: VirtualClock, rate: float, burst: float, seconds: float) -> None:
        self.clock, self.rate, self.burst, self.seconds = clock, rate, burst, seconds
        self.tokens, self.at = burst, 0.0
        self.created: list[str] = []
        self.transport = JsonService({"CreateProcessingJob": self.create}, clock=clock)

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        now = self.clock.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        self.clock.advance(self.seconds)
        if self.tokens < 1:
            raise ServiceError("ThrottlingException", "Rate exceeded")
        self.tokens -= 1
        name = params["ProcessingJobName"]
        self.created.append(name)
        return {"ProcessingJobArn": f"arn:aws:sagemaker:us-east-1:111122223333:processing-job/{name}"}


def parameters(name: str) -> dict[str, Any]:
    return {
        "ProcessingJobName": name,
        "ProcessingResources": {"ClusterConfig": {"VolumeSizeInGB": 1}},
        "AppSpecification": {"ImageUri": "image"},
        "RoleArn": "arn:aws:iam::111122223333:role/r",
    }


@pytest.mark.parametrize("rate", [0.2, 1.0, 10.0])
@pytest.mark.parametrize("burst", [1.0, 10.0])
def test_many_submissions_are_hardly_ever_throttled(rate: float, burst: float) -> None:
    """150 jobs are created with at most 165 calls, close to the rate that the server enforces."""
    clock = VirtualClock()
    service = LimitedService(clock, rate, burst, seconds=0.05)
    client = make_client("sagemaker", service.transport)
    api = RetryingApi(lambda _: client, clock=clock, rate_limiters=new_rate_limiters())
    for number in range(150):
        api.call("sagemaker", "CreateProcessingJob", parameters(f"job-{number}"))
    assert service.created == [f"job-{number}" for number in range(150)]
    assert len(service.transport.calls) <= 165
    assert clock.monotonic() < 2.5 * 150 / rate


def test_a_few_submissions_begin_at_the_published_rate() -> None:
    """A server that accepts one call a second, never two at once, refuses one of ten: the first that comes faster."""
    clock = VirtualClock()
    service = LimitedService(clock, 1.0, 1.0, seconds=0.05)
    client = make_client("sagemaker", service.transport)
    api = RetryingApi(lambda _: client, clock=clock, rate_limiters=new_rate_limiters())
    for number in range(10):
        api.call("sagemaker", "CreateProcessingJob", parameters(f"job-{number}"))
    assert len(service.transport.calls) == 11
    assert clock.monotonic() < 12


def test_threads_share_a_rate_limiter() -> None:
    """30 threads at once pass one by one: each gets its job, and the server is not overloaded."""
    clock = VirtualClock()
    service = LimitedService(clock, 1.0, 1.0, seconds=0.0)
    lock = threading.Lock()
    create = service.create

    def one_at_a_time(params: dict[str, Any]) -> dict[str, Any]:
        with lock:
            return create(params)

    service.transport.handlers["CreateProcessingJob"] = one_at_a_time
    client = make_client("sagemaker", service.transport)
    api = RetryingApi(lambda _: client, clock=clock, rate_limiters={"CreateProcessingJob": AdaptiveRateLimiter()})
    threads = [
        threading.Thread(target=api.call, args=("sagemaker", "CreateProcessingJob", parameters(f"job-{number}")))
        for number in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(service.created)) == 30


def test_without_a_rate_limiter_nothing_is_held_back() -> None:
    """The engine has no quota, so its calls are never slowed down."""
    clock = VirtualClock()
    service = LimitedService(clock, 1000.0, 1000.0, seconds=0.0)
    client = make_client("sagemaker", service.transport)
    api = RetryingApi(lambda _: client, clock=clock)
    for number in range(150):
        api.call("sagemaker", "CreateProcessingJob", parameters(f"job-{number}"))
    assert clock.sleeps == []


def test_queued_threads_wait_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """One waits for its token, the others for the lock: none of them stops a virtual clock."""
    monkeypatch.setattr("processing.testing.clock._GRACE", math.inf)
    clock, rate_limiter = VirtualClock(), AdaptiveRateLimiter(1.0, 1.0)

    def acquire() -> None:
        for _ in range(10):
            rate_limiter.acquire(clock)

    threads = [threading.Thread(target=acquire) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.monotonic() == pytest.approx(39)


def test_an_interrupt_in_the_queue_lets_the_next_thread_in() -> None:
    """Ctrl-C in a queued thread does not block the threads behind it."""
    line = FairLock()

    class Interrupting(VirtualClock):
        def wait(self, *_: object) -> None:
            raise KeyboardInterrupt

    with line.hold(VirtualClock()), pytest.raises(KeyboardInterrupt), line.hold(Interrupting()):
        pytest.fail("it was another's turn")
    with line.hold(Interrupting()):  # does not wait
        pass


def test_a_pause_earns_a_burst() -> None:
    """After a quiet minute several calls are sent at once again."""
    clock = VirtualClock()
    rate_limiter = AdaptiveRateLimiter(rate=1.0, burst=5.0)
    for _ in range(6):
        rate_limiter.acquire(clock)
    assert clock.sleeps == [1.0]
    clock.advance(60)
    for _ in range(5):
        assert rate_limiter.acquire(clock) == 0.0


def test_a_burst_is_one_on_the_clock_of_the_system_too() -> None:
    """Calls that find a token prove nothing about the rate, though they take some time on a real clock."""
    rate_limiter = AdaptiveRateLimiter(rate=1.0, burst=5.0)
    for _ in range(5):
        rate_limiter.acquire(SYSTEM_CLOCK)
        rate_limiter.succeeded()
    assert rate_limiter.rate == 1.0
    rate_limiter.throttled()  # the first burst was too long
    assert rate_limiter.rate == 1.0


def test_a_gate_counts_the_time_in_its_own_queue() -> None:
    """The budget of a call's retries does not shrink while other creations wait for the rate."""

    class Queue(VirtualClock):
        """A clock on which the thread that holds the gate leaves it after a minute."""

        def wait(self, condition: threading.Condition, seconds: float) -> None:  # noqa: ARG002 - the clock's signature
            self.advance(60.0)
            held.close()

    clock, gate = Queue(), Gate(None)
    held = contextlib.ExitStack()
    held.enter_context(gate._lock.hold(clock))
    assert gate.acquire(clock) == 60.0


def test_the_rate_never_falls_to_nothing() -> None:
    """However long a server refuses calls, it is called again within twenty seconds."""
    rate_limiter = AdaptiveRateLimiter()
    for _ in range(100):
        rate_limiter.throttled()
    assert rate_limiter.rate == rate_limiter.slowest == 0.05


def test_rate_limiters_are_shared_by_account_and_region() -> None:
    """Two sessions of one account and region share a rate; another region has its own."""
    ours = shared_rate_limiters("111122223333", "us-east-1")
    assert shared_rate_limiters("111122223333", "us-east-1") is ours
    assert shared_rate_limiters("111122223333", "eu-west-1") is not ours


def test_limited_operations_have_rate_limiters() -> None:
    """Submitting, describing, listing, stopping and reading logs each have a rate of their own."""
    rate_limiters = shared_rate_limiters("111122223333", "us-east-1")
    assert set(rate_limiters) == {
        "CreateProcessingJob",
        "DescribeLogStreams",
        "DescribeProcessingJob",
        "FilterLogEvents",
        "GetLogEvents",
        "ListProcessingJobs",
        "StopProcessingJob",
    }
    assert rate_limiters["ListProcessingJobs"].rate < 2


def test_the_delay_is_known_without_a_call() -> None:
    """Asking acquires no token: after a delay of 0, `acquire` does not wait."""
    clock = VirtualClock()
    rate_limiter = AdaptiveRateLimiter(rate=2.0, burst=1.0)
    assert rate_limiter.delay(clock) == rate_limiter.delay(clock) == 0.0
    rate_limiter.acquire(clock)
    assert rate_limiter.delay(clock) == 0.5
    clock.advance(0.5)
    assert rate_limiter.delay(clock) == 0.0
    assert rate_limiter.acquire(clock) == 0.0


def test_a_rate_is_not_raised_above_the_fastest() -> None:
    """A known quota is kept, however many calls succeed."""
    clock = VirtualClock()
    rate_limiter = AdaptiveRateLimiter(rate=1.0, burst=1.0, fastest=1.5)
    for _ in range(1000):
        rate_limiter.acquire(clock)
        rate_limiter.succeeded()
    assert rate_limiter.rate == 1.5


@pytest.mark.parametrize(
    ("region", "variables"),
    [
        ("eu-west-1", {}),
        ("eu-west-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
        ("us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("us-gov-west-1", {}),
        ("us-gov-west-1", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("us-gov-west-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_USE_FIPS_ENDPOINT": "true"}),
        ("cn-north-1", {}),
        ("cn-north-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
        ("eusc-de-east-1", {}),
        ("us-iso-east-1", {}),
        ("us-isob-east-1", {}),
        ("us-isof-south-1", {}),
        ("eu-isoe-west-1", {}),
        ("xx-new-1", {}),
        ("eu-west-1", {"AWS_ENDPOINT_URL": "https://vpce-1-a.api.sagemaker.eu-west-1.vpce.amazonaws.com:443/"}),
    ],
)
def test_calls_are_limited_in_every_partition(
    monkeypatch: pytest.MonkeyPatch, region: str, variables: dict[str, str]
) -> None:
    """Wherever botocore's partitions are AWS, its quotas hold."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Session(region_name=region).api.rate_limiter("CreateProcessingJob")


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:5000",
        "http://127.0.0.1:4566",
        "https://sagemaker.example.com",
        "https://notamazonaws.com",
        "https://amazonaws.com.example.org/sagemaker.amazonaws.com",
        "http://moto.internal/api.aws",
    ],
)
def test_calls_of_a_stand_in_are_not_limited(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """moto, LocalStack and other servers have no quotas."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert Session(region_name="eu-west-1").api.rate_limiter("CreateProcessingJob") is None
