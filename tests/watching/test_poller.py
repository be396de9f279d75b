"""The poller reads the status of every job by few calls and through all failures; on virtual time."""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

from processing.aws.rate_limit import new_rate_limiters
from processing.aws.retry import classify
from processing.testing.clock import VirtualClock
from processing.testing.simulation import PUBLISHED_QUOTAS, SimulatedAws
from processing.testing.wire import ServiceError
from processing.watching.events import StatusChanged
from processing.watching.polling import Polling
from processing.watching.status.model import Lost, StatusUpdate, WatchTarget
from processing.watching.status.poller import Poller

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from processing.testing.faults import FaultKind
    from processing.watching.status.poller import Subscription

LONGEST = Polling().longest


class World:
    """A simulated AWS, its clock, and a poller."""

    def __init__(
        self, *, polling: Polling | None = None, rate_limiters: Mapping[str, Any] | None = None, **aws: Any
    ) -> None:
        self.clock = VirtualClock()
        self.aws = SimulatedAws(self.clock, **aws)
        self.api = self.aws.api(pacers=rate_limiters)
        self.poller = Poller(self.api, polling or Polling(), random=random.Random(3))

    def subscribe(self, *names: str) -> Subscription:
        return self.poller.subscribe(WatchTarget(name) for name in names)

    def follow(self, subscription: Subscription, until: float | None = None) -> list[tuple[float, StatusUpdate]]:
        """Wait for updates until then, and return each with its moment."""
        updates: list[tuple[float, StatusUpdate]] = []
        while subscription.wait(until):
            updates += [(self.clock.monotonic(), update) for update in subscription.drain()]
        return updates

    def calls(self, operation: str = "DescribeProcessingJob") -> int:
        return self.aws.calls[operation]


def statuses(updates: Iterable[tuple[float, StatusUpdate]]) -> list[str]:
    return [update.status if isinstance(update, StatusChanged) else "lost" for _, update in updates]


def ends(updates: Iterable[tuple[float, StatusUpdate]]) -> dict[str, float]:
    """Return when each job was seen to end."""
    return {
        update.job_name: at
        for at, update in updates
        if isinstance(update, StatusChanged) and update.status == "Completed"
    }


def lost(updates: Iterable[tuple[float, StatusUpdate]]) -> dict[str, Lost]:
    return {update.job_name: update for _, update in updates if isinstance(update, Lost)}


# A few jobs.


def test_the_first_describe_is_immediate_and_the_next_soon() -> None:
    """The intervals grow from a second to the longest, and the first status is an update too."""
    world = World(polling=Polling(jitter=0.0))
    world.aws.add_job("job", ends=None)
    with world.subscribe("job") as subscription:
        updates = world.follow(subscription, until=100.0)
    assert [(at, update.status, update.previous) for at, update in updates if isinstance(update, StatusChanged)] == [
        (0.0, "InProgress", None)
    ]
    assert world.clock.sleeps[:7] == [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390625]
    assert world.clock.sleeps[7:-1] == pytest.approx([LONGEST] * len(world.clock.sleeps[7:-1]))


def test_nothing_is_called_before_the_first_wait() -> None:
    """A subscription costs no call, and after its end its jobs cost none."""
    world = World()
    world.aws.add_job("job", ends=5)
    subscription = world.subscribe("job")
    assert world.calls() == 0
    assert subscription.drain() == []
    subscription.close()
    assert not subscription.wait(None)
    assert not subscription.wait(50.0)
    assert (world.calls(), world.clock.monotonic()) == (0, 50.0)


@pytest.mark.parametrize("phase", range(0, 14, 2))
def test_an_hour_of_a_silent_job(phase: int) -> None:
    """It costs less than 290 calls, no sleep without one, and its end is seen within the longest interval."""
    world = World()
    world.aws.add_job("job", ends=3600.0 + phase)
    with world.subscribe("job") as subscription:
        updates = world.follow(subscription)
    assert statuses(updates) == ["InProgress", "Completed"]
    assert 0 <= updates[-1][0] - (3600 + phase) <= LONGEST
    assert world.calls() < 290
    assert len(world.clock.sleeps) < world.calls()


def test_a_sign_of_life_saves_a_describe() -> None:
    """While a job is known to run it is not described, and its end is seen as soon after its last sign as ever."""
    world = World()
    world.aws.add_job("job", ends=3605.0)
    began = world.clock.time()
    with world.subscribe("job") as subscription:
        updates: list[tuple[float, StatusUpdate]] = []
        for moment in range(10, 3610, 10):
            updates += world.follow(subscription, until=float(moment))
            subscription.record_alive("job", began + moment - 1.0)
        updates += world.follow(subscription)
    assert statuses(updates) == ["InProgress", "Completed"]
    assert world.calls() < 20
    assert updates[-1][0] - 3605 <= LONGEST


def test_a_sign_of_life_from_the_future_puts_nothing_off_for_longer() -> None:
    """A line whose time is a day ahead is taken for one that was written now."""
    world = World()
    world.aws.add_job("job", ends=100.0)
    with world.subscribe("job") as subscription:
        world.follow(subscription, until=90.0)
        subscription.record_alive("job", world.clock.time() + 86_400)
        assert 100 <= world.follow(subscription)[-1][0] <= 90 + LONGEST


def test_subscriptions_to_one_job_share_its_calls() -> None:
    """Both get the same updates at the cost of one; a later subscription gets a first call of its own at once."""
    world = World()
    world.aws.add_job("job", ends=600.0)
    with world.subscribe("job") as first, world.subscribe("job") as second:
        world.follow(first, until=300.0)
        assert statuses([(0.0, update) for update in second.drain()]) == ["InProgress"]
        before = world.calls()
        with world.subscribe("job") as third:
            assert third.wait(300.0)
            assert [update.job_name for update in third.drain()] == ["job"]
            assert world.calls() == before + 1
            updates = [world.follow(third), world.follow(first), world.follow(second)]
    assert [statuses(each) for each in updates] == [["Completed"]] * 3
    assert world.calls() < 70


def test_jobs_that_are_watched_no_longer_cost_no_call() -> None:
    """A job that was removed costs no call, and has no updates."""
    world = World()
    for name in ("one", "two"):
        world.aws.add_job(name, ends=100.0)
    with world.subscribe("one", "two") as subscription:
        subscription.remove("one")
        subscription.remove("one")
        assert set(ends(world.follow(subscription))) == {"two"}


@pytest.mark.parametrize("count", [1, 8, 250])
def test_without_any_time_there_is_a_first_call(count: int) -> None:
    """A wait that may not take time reads the status of every job once, and does not sleep."""
    world = World()
    for number in range(count):
        world.aws.add_job(f"job-{number:03d}", ends=1.0)
    world.clock.advance(50.0)
    with world.subscribe(*(f"job-{number:03d}" for number in range(count))) as subscription:
        assert len(ends(world.follow(subscription, until=0.0))) == count
    assert world.clock.sleeps == []
    assert sum(world.aws.calls.values()) <= max(8, count / 50)


def test_without_any_time_a_failure_is_the_end() -> None:
    """If the first call fails, a wait that may take no time returns."""
    world = World()
    world.aws.add_job("job")
    world.aws.faults.on("*", "unreachable", probability=1.0)
    with world.subscribe("job") as subscription:
        assert not subscription.wait(0.0)
    assert world.clock.monotonic() < 1.0


def test_a_deadline_is_kept_to() -> None:
    """The wait ends at its moment, neither earlier nor later."""
    world = World()
    world.aws.add_job("job", ends=None)
    with world.subscribe("job") as subscription:
        world.follow(subscription, until=1234.5)
    assert world.clock.monotonic() == pytest.approx(1234.5)


def test_a_job_that_is_being_stopped_is_described_more_often() -> None:
    """A change of status brings the short intervals back."""
    world = World()
    world.aws.add_job("job", ends=None, stopping=3.0)
    world.aws.at(1000.0, lambda: world.aws.stop_job("job"))
    with world.subscribe("job") as subscription:
        updates = world.follow(subscription)
    assert statuses(updates) == ["InProgress", "Stopping", "Stopped"]
    assert updates[2][0] - updates[1][0] < 6


def test_a_status_never_goes_backwards() -> None:
    """Old answers that come after new ones are not updates, nor is one that comes twice."""
    world = World()
    world.aws.add_job("job", ends=30.0)
    real = world.aws.service.handlers["DescribeProcessingJob"]
    answers = iter(["InProgress", "Stopping", "InProgress", "Stopping", "InProgress", "Stopped"])
    world.aws.service.handlers["DescribeProcessingJob"] = lambda params: {
        **real(params),
        "ProcessingJobStatus": next(answers),
    }
    with world.subscribe("job") as subscription:
        assert statuses(world.follow(subscription)) == ["InProgress", "Stopping", "Stopped"]


def test_a_machine_that_slept_makes_one_call() -> None:
    """After an hour in which no time passed for the program, the next call shows the end."""
    world = World()
    world.aws.add_job("job", ends=600.0)
    with world.subscribe("job") as subscription:
        world.follow(subscription, until=300.0)
        before = world.calls()
        world.clock.advance(3600.0)
        assert statuses(world.follow(subscription)) == ["Completed"]
    assert world.calls() == before + 1


# Failures.


@pytest.mark.parametrize("count", [1, 8, 30])
@pytest.mark.parametrize("kind", ["throttle", "error503", "unreachable", "reset_after", "truncate"])
def test_an_outage_is_survived(kind: FaultKind, count: int, caplog: pytest.LogCaptureFixture) -> None:
    """An hour without an answer costs few calls, one warning at the start and one message at recovery."""
    world = World()
    for number in range(count):
        world.aws.add_job(f"job-{number:03d}", ends=4000.0)
    world.aws.faults.on("*", kind, probability=1.0, when=lambda: 100 < world.clock.monotonic() < 3700)
    with (
        caplog.at_level(logging.INFO, "processing"),
        world.subscribe(*(f"job-{number:03d}" for number in range(count))) as subscription,
    ):
        world.follow(subscription, until=100.0)
        before = sum(world.aws.calls.values())
        updates = world.follow(subscription, until=3700.0)
        assert sum(world.aws.calls.values()) - before < 300
        updates += world.follow(subscription)
    assert len(ends(updates)) == count
    assert max(ends(updates).values()) < 4000 + LONGEST
    logged = [(record.levelname, record.message) for record in caplog.records if "status of jobs" in record.message]
    assert [level for level, _ in logged] == ["WARNING", "INFO"]
    assert "still trying" in logged[0][1]
    assert "can be read again, after 3" in logged[1][1]


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("expired", "The wait then continues."),
        ("skew", "The wait continues when this machine's clock is right."),
    ],
)
def test_credentials_and_clocks_are_waited_for(
    kind: FaultKind, advice: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Hours with an expired token or a wrong clock end no watch; one warning has the remedy."""
    world = World()
    names = add_jobs(world, count, lambda _: 4000.0)
    world.aws.faults.on("*", kind, probability=1.0, when=lambda: 100 < world.clock.monotonic() < 8000)
    with caplog.at_level(logging.INFO, "processing"), world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert set(ends(updates)) == set(names)
    assert max(ends(updates).values()) < 8000 + 2 * LONGEST
    logged = [(record.levelname, record.message) for record in caplog.records if "status of jobs" in record.message]
    assert [level for level, _ in logged] == ["WARNING", "INFO"]
    assert logged[0][1].endswith(advice)


@pytest.mark.parametrize("code", ["UnrecognizedClientException", "InvalidClientTokenId"])
def test_credentials_that_are_lost_are_waited_for(code: str, caplog: pytest.LogCaptureFixture) -> None:
    """AWS may stop to accept a token. A wait without any good credentials from its start ends with the reason."""
    world = World()
    world.aws.add_job("job", ends=300.0)
    real = world.aws.service.handlers["DescribeProcessingJob"]
    bad = (100.0, 1000.0)

    def refuse(params: dict[str, Any]) -> Mapping[str, Any]:
        if bad[0] <= world.clock.monotonic() < bad[1]:
            raise ServiceError(code, "The security token included in the request is invalid.")
        return real(params)

    world.aws.service.handlers["DescribeProcessingJob"] = refuse
    with world.subscribe("job") as subscription:
        assert statuses(world.follow(subscription)) == ["InProgress", "Completed"]
    assert ["With other credentials the wait continues." in record.message for record in caplog.records] == [True]
    bad = (0.0, 1e9)
    another = Poller(world.api, Polling())
    with another.subscribe([WatchTarget("job")]) as subscription:
        assert statuses(world.follow(subscription)) == ["lost"]


@pytest.mark.parametrize("count", [3, 30])
def test_credentials_that_are_not_renewed_in_time_end_the_watch(count: int) -> None:
    """After `Polling.renewal` every job is lost, at once, with the reason and the remedy."""
    world = World(polling=Polling(renewal=60.0))
    names = [f"job-{number:02d}" for number in range(count)]
    for name in names:
        world.aws.add_job(name, ends=None)
    world.aws.faults.on("*", "expired", probability=1.0, when=lambda: world.clock.monotonic() > 100)
    with world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
        assert len(subscription) == 0
    assert set(lost(updates)) == set(names)
    assert 160 <= updates[-1][0] <= 160 + 2 * LONGEST
    error = lost(updates)["job-00"].error
    assert (error.job_name, error.status) == ("job-00", "InProgress")
    assert "renew the credentials" in str(error)
    assert error.__cause__ is not None


def test_a_clock_that_is_not_set_in_time_is_named() -> None:
    """A signature that is refused for the time is a diagnosis, and ends the watch after `Polling.renewal`."""
    world = World(polling=Polling(renewal=60.0))
    world.aws.add_job("job", ends=None)
    world.aws.faults.on("*", "skew", probability=1.0, when=lambda: world.clock.monotonic() > 50)
    with world.subscribe("job") as subscription:
        updates = world.follow(subscription)
    assert "10 minutes" in str(lost(updates)["job"].error)
    assert "The job itself goes on" in str(lost(updates)["job"].error)


@pytest.mark.parametrize("count", [2, 20])
def test_a_job_that_may_not_be_described_is_lost_alone(count: int) -> None:
    """A denial ends the watch of that job, with advice; the others go on."""
    world = World()
    names = [f"job-{number:02d}" for number in range(count)]
    for name in names:
        world.aws.add_job(name, ends=100.0)
    real = world.aws.service.handlers["DescribeProcessingJob"]

    def refuse(params: dict[str, Any]) -> Mapping[str, Any]:
        if params["ProcessingJobName"] == "job-00":
            raise ServiceError("AccessDeniedException", "User is not authorized to perform: DescribeProcessingJob")
        return real(params)

    world.aws.service.handlers["DescribeProcessingJob"] = refuse
    with world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert set(lost(updates)) == {"job-00"}
    assert "sagemaker:DescribeProcessingJob" in str(lost(updates)["job-00"].error)
    assert set(ends(updates)) == set(names[1:])


def test_a_job_that_is_visible_late_is_waited_for() -> None:
    """Right after its creation a job may not be visible yet."""
    world = World()
    world.aws.add_job("job", starts=5.0, ends=20.0)
    with world.subscribe("job") as subscription:
        assert statuses(world.follow(subscription)) == ["InProgress", "Completed"]


@pytest.mark.parametrize("others", [0, 30])
def test_a_job_that_does_not_exist_is_lost(others: int) -> None:
    """A job that stays invisible for a while does not exist; the other watches go on."""
    world = World()
    for number in range(others):
        world.aws.add_job(f"job-{number:02d}", ends=100.0)
    with world.subscribe("job-none", *(f"job-{number:02d}" for number in range(others))) as subscription:
        updates = world.follow(subscription)
    assert "there is no job of that name" in str(lost(updates)["job-none"].error)
    assert next(at for at, update in updates if isinstance(update, Lost)) < 30
    assert len(ends(updates)) == others


@pytest.mark.parametrize("others", [0, 30])
def test_a_job_that_is_deleted_is_lost(others: int) -> None:
    """A job that ended and was deleted during an outage is not a success."""
    world = World()
    names = [f"job-{number:02d}" for number in range(others + 1)]
    for name in names:
        world.aws.add_job(name, ends=50.0 if name == "job-00" else 700.0)
    world.aws.faults.on("*", "unreachable", probability=1.0, when=lambda: 40 < world.clock.monotonic() < 60)
    world.aws.at(59.0, lambda: world.aws.delete_job("job-00"))
    with world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert set(lost(updates)) == {"job-00"}
    assert len(ends(updates)) == others


@pytest.mark.parametrize("others", [0, 30])
@pytest.mark.parametrize("known", [True, False])
def test_a_name_that_is_used_again_is_another_job(others: int, known: bool) -> None:
    """The next job of a name is not taken for the one before, which is lost."""
    world = World()
    names = [f"job-{number:02d}" for number in range(others + 1)]
    for name in names:
        world.aws.add_job(name, ends=50.0 if name == "job-00" else 700.0)
    world.aws.faults.on("*", "unreachable", probability=1.0, when=lambda: 40 < world.clock.monotonic() < 80)
    world.aws.at(60.0, lambda: world.aws.delete_job("job-00"))
    world.aws.at(61.0, lambda: world.aws.add_job("job-00", starts=61.0, ends=300.0))
    created = dt.datetime.fromtimestamp(world.clock.time(), tz=dt.timezone.utc) if known else None
    with world.poller.subscribe(WatchTarget(name, created) for name in names) as subscription:
        updates = world.follow(subscription)
    assert set(lost(updates)) == {"job-00"}
    assert "another job has its name now" in str(lost(updates)["job-00"].error)
    assert len(ends(updates)) == others


@pytest.mark.parametrize("others", [0, 30])
def test_an_older_job_of_the_name_is_not_this_one(others: int) -> None:
    """While AWS still shows a deleted job, its end is not taken for that of the new job of its name."""
    world = World()
    names = [f"job-{number:02d}" for number in range(others + 1)]
    for name in names:
        world.aws.add_job(name, starts=1000.0, ends=1200.0)
    world.clock.advance(1001.0)
    stale = {"ProcessingJobStatus": "Failed", "CreationTime": world.clock.time() - 900}
    describe, listed = (
        world.aws.service.handlers[f"{verb}ProcessingJob{s}"] for verb, s in (("Describe", ""), ("List", "s"))
    )

    def describe_stale(params: dict[str, Any]) -> Mapping[str, Any]:
        answer = describe(params)
        old = params["ProcessingJobName"] == "job-00" and world.clock.monotonic() < 1020
        return {**answer, **stale} if old else answer

    def list_stale(params: dict[str, Any]) -> Mapping[str, Any]:
        answer = listed(params)
        old = world.clock.monotonic() < 1020
        summaries = [
            {**summary, **stale} if old and summary["ProcessingJobName"] == "job-00" else summary
            for summary in answer["ProcessingJobSummaries"]
        ]
        return {**answer, "ProcessingJobSummaries": summaries}

    world.aws.service.handlers.update(DescribeProcessingJob=describe_stale, ListProcessingJobs=list_stale)
    created = dt.datetime.fromtimestamp(world.clock.time(), tz=dt.timezone.utc)
    with world.poller.subscribe(WatchTarget(name, created, "InProgress") for name in names) as subscription:
        updates = world.follow(subscription)
    assert len(ends(updates)) == others + 1
    assert set(statuses(updates)) == {"InProgress", "Completed"}


# Many jobs.


def add_jobs(world: World, count: int, ends: Any, **life: Any) -> list[str]:
    names = [f"fleet-{number:05d}" for number in range(count)]
    for number, name in enumerate(names):
        world.aws.add_job(name, ends=ends(number), **life)
    return names


def test_many_jobs_cost_no_more_than_a_few() -> None:
    """200 jobs that end one a second are seen to within a few seconds, by forty calls a minute, none refused."""
    world = World(quotas=PUBLISHED_QUOTAS, rate_limiters=new_rate_limiters())
    names = add_jobs(world, 200, lambda number: 300.0 + number)
    with world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    lags = sorted(at - 300 - names.index(name) for name, at in ends(updates).items())
    assert len(lags) == 200
    assert lags[197] < 3
    assert lags[-1] < LONGEST
    minutes = range(1, 8)
    per_minute = [sum(n for (_, when), n in world.aws.per_minute.items() if when == minute) for minute in minutes]
    assert max(per_minute) <= 60
    assert not world.aws.throttled


def test_updates_of_many_jobs_carry_the_summary_of_the_list() -> None:
    """The summary states how a job ended, without a Describe."""
    world = World()
    names = add_jobs(
        world, 30, lambda _: 200.0, status="Failed", failure_reason="AlgorithmError: no", exit_message="bad"
    )
    with world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    final = [update for _, update in updates if isinstance(update, StatusChanged) and update.status == "Failed"]
    assert len(final) == 30
    assert {update.description["ExitMessage"] for update in final} == {"bad"}
    assert {update.description["FailureReason"] for update in final} == {"AlgorithmError: no"}
    assert [update.previous for update in final] == ["InProgress"] * 30
    assert world.calls() < 10


def test_jobs_that_are_known_to_run_are_not_described() -> None:
    """Jobs that were created a moment ago are seen by the changes alone."""
    world = World()
    names = add_jobs(world, 200, lambda _: 100.0)
    created = dt.datetime.fromtimestamp(world.clock.time(), tz=dt.timezone.utc)
    with world.poller.subscribe(WatchTarget(name, created, "InProgress") for name in names) as subscription:
        assert len(ends(world.follow(subscription))) == 200
    assert world.calls() == 0


def test_new_jobs_that_are_watched_late_are_listed() -> None:
    """A busy thread hands over its new jobs after a minute: no Describe follows, and an end since then is seen."""
    world = World()
    names = add_jobs(world, 20, lambda _: 2000.0)
    began = world.clock.time()
    for number in range(15):
        world.aws.add_job(f"late-{number:02d}", starts=300.0, ends=330.0 if number < 5 else 400.0)
    with world.subscribe(*names) as subscription:
        world.follow(subscription, until=350.0)
        before = world.calls()
        for number in range(15):
            subscription.add(WatchTarget(f"late-{number:02d}", None, "InProgress", began + 301.0))
        updates = world.follow(subscription, until=360.0)
        assert set(ends(updates)) == {f"late-{number:02d}" for number in range(5)}
        updates += world.follow(subscription, until=410.0)
        assert len(ends(updates)) == 15
        assert world.calls() == before


def test_jobs_that_ended_long_ago_are_found_by_pages() -> None:
    """1,000 jobs of a name's prefix, whenever they ended, are known after ten pages."""
    world = World()
    names = add_jobs(world, 1000, lambda number: 1.0 + number)
    world.clock.advance(100_000.0)
    with world.subscribe(*names) as subscription:
        assert len(ends(world.follow(subscription, until=world.clock.monotonic() + 60))) == 1000
    assert sum(world.aws.calls.values()) < 20


def test_jobs_that_come_one_by_one_are_caught_up_with_together() -> None:
    """A thousand jobs that are added between the calls cost pages, and not a Describe each."""
    world = World()
    names = iter(add_jobs(world, 1000, lambda number: 100_200.0 if number < 20 else 5.0))
    world.clock.advance(100_000.0)
    listed = world.aws.service.handlers["ListProcessingJobs"]
    subscription = world.subscribe(*itertools.islice(names, 30))

    def add_some(params: dict[str, Any]) -> Mapping[str, Any]:
        for name in itertools.islice(names, 15):
            subscription.add(WatchTarget(name))
        return listed(params)

    world.aws.service.handlers["ListProcessingJobs"] = add_some
    with subscription:
        assert len(ends(world.follow(subscription))) == 1000
    assert world.calls() < 300
    assert world.calls("ListProcessingJobs") < 400


def test_jobs_without_a_common_prefix_are_described_one_by_one() -> None:
    """Nine jobs that ended long ago, in an account with thousands of others, cost nine calls."""
    world = World()
    add_jobs(world, 3000, lambda _: 10.0)
    names = [f"{letter}-job" for letter in "abcdefghi"]
    for name in names:
        world.aws.add_job(name, ends=10.0)
    world.clock.advance(100_000.0)
    with world.subscribe(*names) as subscription:
        assert len(ends(world.follow(subscription))) == 9
    assert sum(world.aws.calls.values()) < 12


def test_a_list_that_lags_is_swept_again() -> None:
    """Changes that are listed a minute late are found by the next sweep."""
    world = World(list_lag=60.0)
    names = add_jobs(world, 50, lambda _: 200.0)
    with world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert len(ends(updates)) == 50
    assert max(ends(updates).values()) < 200 + 60 + 35


def test_a_change_that_is_never_listed_is_found() -> None:
    """A job whose end the List does not show in time is found by the next census, and then described."""
    world = World(list_lag=lambda name: 1e9 if name == "fleet-00007" else 0.0)
    names = add_jobs(world, 30, lambda number: 100.0 if number == 7 else 800.0)
    with world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert len(ends(updates)) == 30
    assert ends(updates)["fleet-00007"] < 650


def test_without_permission_to_list_jobs_are_described(caplog: pytest.LogCaptureFixture) -> None:
    """Credentials that may describe but not list cost a call for each job, at a bounded rate, and one warning."""
    world = World()
    names = add_jobs(world, 40, lambda _: 60.0)
    world.aws.faults.on("ListProcessingJobs", "denied", probability=1.0)
    with caplog.at_level(logging.WARNING, "processing"), world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert len(ends(updates)) == 40
    assert max(ends(updates).values()) < 60 + 2 * LONGEST
    assert world.calls("ListProcessingJobs") == 1
    assert world.calls() < 10 * max(ends(updates).values()) + 100
    assert ["one by one" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("kind", "every"),
    [
        ("ValidationException", 1),
        ("ValidationException", 2),
        ("AccessDeniedException", 1),
        ("AccessDeniedException", 2),
        ("ThrottlingException", 1),
        ("InternalFailure", 1),
    ],
)
def test_a_listing_without_progress_is_given_up(kind: str, every: int, caplog: pytest.LogCaptureFixture) -> None:
    """If later pages keep failing, each job is described within a minute, with one warning."""
    world = World()
    names = add_jobs(world, 450, lambda number: 100 + number / 10)
    listed = world.aws.service.handlers["ListProcessingJobs"]
    described = world.aws.service.handlers["DescribeProcessingJob"]
    pages, moments = itertools.count(1), []

    def refuse(params: dict[str, Any]) -> Mapping[str, Any]:
        if "NextToken" in params and next(pages) % every == 0:
            raise ServiceError(kind, "The pagination token is invalid or has expired")
        return listed(params)

    def note(params: dict[str, Any]) -> Mapping[str, Any]:
        moments.append(world.clock.monotonic())
        return described(params)

    world.aws.service.handlers["ListProcessingJobs"] = refuse
    world.aws.service.handlers["DescribeProcessingJob"] = note
    with caplog.at_level(logging.WARNING, "processing"), world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert len(ends(updates)) == 450
    assert moments[1] < 60
    assert max(at - 100 - int(name[-5:]) / 10 for name, at in ends(updates).items()) < 100
    assert ["one by one" in record.message for record in caplog.records] == [True]


def test_a_listing_that_recovers_is_used_again() -> None:
    """After ten minutes of describing, the jobs are listed again."""
    world = World()
    names = add_jobs(world, 250, lambda _: 3000.0)
    listed = world.aws.service.handlers["ListProcessingJobs"]

    def refuse(params: dict[str, Any]) -> Mapping[str, Any]:
        if "NextToken" in params and world.clock.monotonic() < 300:
            raise ServiceError("ValidationException", "The pagination token is invalid")
        return listed(params)

    world.aws.service.handlers["ListProcessingJobs"] = refuse
    with world.subscribe(*names) as subscription:
        world.follow(subscription, until=1000.0)
        before = world.calls()
        updates = world.follow(subscription)
    assert len(ends(updates)) == 250
    assert world.calls() - before < 20
    assert max(ends(updates).values()) < 3000 + 2 * LONGEST


def test_a_first_page_that_fails_alone_is_given_up_too(caplog: pytest.LogCaptureFixture) -> None:
    """If List is refused for hours and Describe is not, the jobs are described after one warning."""
    world = World()
    names = add_jobs(world, 40, lambda _: 300.0)
    world.aws.faults.on("ListProcessingJobs", "error503", probability=1.0)
    with caplog.at_level(logging.WARNING, "processing"), world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert len(ends(updates)) == 40
    assert max(ends(updates).values()) < 300 + 2 * LONGEST
    assert len(caplog.records) == 1


def test_a_token_that_is_never_accepted_is_no_busy_loop() -> None:
    """If no second page is ever answered, the scan restarts, but at a bounded rate."""
    world = World()
    names = add_jobs(world, 250, lambda _: 100.0)
    listed = world.aws.service.handlers["ListProcessingJobs"]

    def forgetful(params: dict[str, Any]) -> Mapping[str, Any]:
        if world.clock.monotonic() < 300:
            world.aws.jobs.forget_tokens()
        return listed(params)

    world.aws.service.handlers["ListProcessingJobs"] = forgetful
    with world.subscribe(*names) as subscription:
        updates = world.follow(subscription)
    assert len(ends(updates)) == 250
    assert max(ends(updates).values()) < 330
    assert world.calls("ListProcessingJobs") < 400


def test_jobs_may_come_and_go() -> None:
    """No job is lost and each status comes once, as Describe gives way to List and returns."""
    world = World()
    for number in range(30):
        world.aws.add_job(f"fleet-{number:02d}", starts=number * 10.0, ends=number * 10.0 + 85.0)
    updates: list[tuple[float, StatusUpdate]] = []
    with world.subscribe() as subscription:
        for number in range(30):
            subscription.add(WatchTarget(f"fleet-{number:02d}"))
            updates += world.follow(subscription, until=number * 10.0 + 10.0)
        updates += world.follow(subscription)
    assert len(ends(updates)) == 30
    assert len(updates) == 60
    assert all(at - 85 - int(name[-2:]) * 10 <= LONGEST for name, at in ends(updates).items())


def test_jobs_that_only_a_listing_has_shown_may_be_listed_again() -> None:
    """Listing stops and begins again during an outage of Describe: it continues where it stopped, and misses no end."""
    world = World()
    names = add_jobs(world, 60, lambda number: 305.0 if number < 5 else 2000.0)
    with world.subscribe(*names) as subscription:
        world.follow(subscription, until=300.0)
        assert world.calls() == 0
        world.aws.faults.on("DescribeProcessingJob", "unreachable", probability=1.0)
        for name in names[5:]:
            subscription.remove(name)
        assert not world.follow(subscription, until=310.0)
        requested: list[Any] = []
        listed = world.aws.service.handlers["ListProcessingJobs"]

        def note(params: dict[str, Any]) -> Mapping[str, Any]:
            requested.append(params["LastModifiedTimeAfter"])
            return listed(params)

        world.aws.service.handlers["ListProcessingJobs"] = note
        for name in names[5:]:
            subscription.add(WatchTarget(name))
        assert ends(world.follow(subscription, until=320.0)).keys() == set(names[:5])
        assert min(requested) >= world.clock.time() - 60


def test_an_end_during_an_outage_is_found_though_more_jobs_come() -> None:
    """A job that ended during an outage is seen at once when listing takes over from describing."""
    world = World()
    world.aws.add_job("fleet-first", ends=200.0)
    names = add_jobs(world, 30, lambda _: 3000.0)
    world.aws.faults.on("*", "unreachable", probability=1.0, when=lambda: 100 < world.clock.monotonic() < 1000)
    with world.subscribe("fleet-first") as subscription:
        world.follow(subscription, until=995.0)
        for name in names:
            subscription.add(WatchTarget(name))
        assert ends(world.follow(subscription, until=1030.0)).keys() == {"fleet-first"}


def test_names_are_listed_by_their_common_prefix() -> None:
    """Only the changes of these jobs are listed, in an account with many others."""
    world = World()
    names = add_jobs(world, 20, lambda _: 300.0)
    requested: list[Any] = []
    listed = world.aws.service.handlers["ListProcessingJobs"]

    def note(params: dict[str, Any]) -> Mapping[str, Any]:
        requested.append((params.get("NameContains"), params["MaxResults"]))
        return listed(params)

    world.aws.service.handlers["ListProcessingJobs"] = note
    with world.subscribe(*names) as subscription:
        world.follow(subscription)
    assert set(requested) == {("fleet-000", 100)} | {each for each in requested if each[0].startswith("fleet-000")}


def test_ten_thousand_jobs_take_little_memory() -> None:
    """A job that is watched takes less than a kilobyte."""
    import tracemalloc

    world = World()
    names = [f"fleet-{number:05d}" for number in range(10_000)]
    tracemalloc.start()
    try:
        created = dt.datetime.fromtimestamp(world.clock.time(), tz=dt.timezone.utc)
        subscription = world.poller.subscribe(WatchTarget(name, created, "InProgress") for name in names)
        subscription.wait(5.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(subscription) == 10_000
    assert taken / 10_000 < 1000
    subscription.close()


def test_an_error_has_its_cause() -> None:
    """The cause of a lost job is botocore's error, which the rules of retries know."""
    world = World()
    world.aws.add_job("job", ends=None)
    world.aws.faults.on("*", "denied", probability=1.0)
    with world.subscribe("job") as subscription:
        error = lost(world.follow(subscription))["job"].error
    assert error.status is None
    assert classify(error.__cause__ or error).value == "fatal"


def test_a_listing_that_starts_takes_no_first_update_from_a_second_consumer() -> None:
    """Jobs that are watched already are described for a new consumer, though a ninth job comes before the call."""
    world = World()
    names = [f"run-{number}" for number in range(9)]
    for name in names:
        world.aws.add_job(name, ends=5000)
    with world.subscribe(*names[:8]) as first, world.subscribe() as ninth:
        world.follow(first, until=400.0)
        with world.subscribe("run-0", "run-1") as second:
            world.aws.at(0, lambda: ninth.add(WatchTarget("run-8")))
            updates = world.follow(second, until=410.0)
    assert {update.job_name for _, update in updates} == {"run-0", "run-1"}
