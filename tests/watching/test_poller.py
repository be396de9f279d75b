"""The poller: the status of every job, by few calls, through any weather; on virtual time."""

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
from processing.watching.status.model import Lost, StatusUpdate, Target
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
        self.api = self.aws.api(rate_limiters=rate_limiters)
        self.poller = Poller(self.api, polling or Polling(), random=random.Random(3))

    def subscribe(self, *names: str) -> Subscription:
        return self.poller.subscribe(Target(name) for name in names)

    def follow(self, subscription: Subscription, until: float | None = None) -> list[tuple[float, StatusUpdate]]:
        """Wait for all news until then, and note when they came."""
        told: list[tuple[float, StatusUpdate]] = []
        while subscription.wait(until):
            told += [(self.clock.monotonic(), news) for news in subscription.drain()]
        return told

    def calls(self, operation: str = "DescribeProcessingJob") -> int:
        return self.aws.calls[operation]


def statuses(told: Iterable[tuple[float, StatusUpdate]]) -> list[str]:
    return [news.status if isinstance(news, StatusChanged) else "lost" for _, news in told]


def ends(told: Iterable[tuple[float, StatusUpdate]]) -> dict[str, float]:
    """Return when each job was seen to end."""
    return {news.job_name: at for at, news in told if isinstance(news, StatusChanged) and news.status == "Completed"}


def lost(told: Iterable[tuple[float, StatusUpdate]]) -> dict[str, Lost]:
    return {news.job_name: news for _, news in told if isinstance(news, Lost)}


# One job, or a few.


def test_the_first_look_is_made_at_once_and_the_next_soon() -> None:
    """The intervals grow from a second to the longest, and the first look is news too."""
    world = World(polling=Polling(jitter=0.0))
    world.aws.add_job("job", ends=None)
    with world.subscribe("job") as subscription:
        told = world.follow(subscription, until=100.0)
    assert [(at, news.status, news.previous) for at, news in told if isinstance(news, StatusChanged)] == [
        (0.0, "InProgress", None)
    ]
    assert world.clock.sleeps[:7] == [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390625]
    assert world.clock.sleeps[7:-1] == pytest.approx([LONGEST] * len(world.clock.sleeps[7:-1]))


def test_nothing_is_called_before_somebody_waits() -> None:
    """A subscription costs no call, and one that is closed is no longer looked at."""
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
    """It costs less than 290 looks, no sleep without one, and its end is seen within the longest interval."""
    world = World()
    world.aws.add_job("job", ends=3600.0 + phase)
    with world.subscribe("job") as subscription:
        told = world.follow(subscription)
    assert statuses(told) == ["InProgress", "Completed"]
    assert 0 <= told[-1][0] - (3600 + phase) <= LONGEST
    assert world.calls() < 290
    assert len(world.clock.sleeps) < world.calls()


def test_a_sign_of_life_saves_a_look() -> None:
    """While a job is known to run it is not looked at, and its end is seen as soon after its last sign as ever."""
    world = World()
    world.aws.add_job("job", ends=3605.0)
    began = world.clock.time()
    with world.subscribe("job") as subscription:
        told: list[tuple[float, StatusUpdate]] = []
        for moment in range(10, 3610, 10):
            told += world.follow(subscription, until=float(moment))
            subscription.record_alive("job", began + moment - 1.0)
        told += world.follow(subscription)
    assert statuses(told) == ["InProgress", "Completed"]
    assert world.calls() < 20
    assert told[-1][0] - 3605 <= LONGEST


def test_a_sign_of_life_from_the_future_puts_nothing_off_for_longer() -> None:
    """A line whose time is a day ahead is taken for one that was written now."""
    world = World()
    world.aws.add_job("job", ends=100.0)
    with world.subscribe("job") as subscription:
        world.follow(subscription, until=90.0)
        subscription.record_alive("job", world.clock.time() + 86_400)
        assert 100 <= world.follow(subscription)[-1][0] <= 90 + LONGEST


def test_several_who_watch_a_job_share_its_looks() -> None:
    """Both have the same news, at the cost of one; who comes later has a first look of its own at once."""
    world = World()
    world.aws.add_job("job", ends=600.0)
    with world.subscribe("job") as first, world.subscribe("job") as second:
        world.follow(first, until=300.0)
        assert statuses([(0.0, news) for news in second.drain()]) == ["InProgress"]
        before = world.calls()
        with world.subscribe("job") as third:
            assert third.wait(300.0)
            assert [news.job_name for news in third.drain()] == ["job"]
            assert world.calls() == before + 1
            told = [world.follow(third), world.follow(first), world.follow(second)]
    assert [statuses(each) for each in told] == [["Completed"]] * 3
    assert world.calls() < 70


def test_jobs_that_nobody_watches_any_more_are_not_looked_at() -> None:
    """What was dropped costs no call, and its news do not come."""
    world = World()
    for name in ("one", "two"):
        world.aws.add_job(name, ends=100.0)
    with world.subscribe("one", "two") as subscription:
        subscription.remove("one")
        subscription.remove("one")
        assert set(ends(world.follow(subscription))) == {"two"}


@pytest.mark.parametrize("count", [1, 8, 250])
def test_without_any_time_there_is_a_first_look(count: int) -> None:
    """A wait that may not take time looks at every job once, and does not sleep."""
    world = World()
    for number in range(count):
        world.aws.add_job(f"job-{number:03d}", ends=1.0)
    world.clock.advance(50.0)
    with world.subscribe(*(f"job-{number:03d}" for number in range(count))) as subscription:
        assert len(ends(world.follow(subscription, until=0.0))) == count
    assert world.clock.sleeps == []
    assert sum(world.aws.calls.values()) <= max(8, count / 50)


def test_without_any_time_a_failure_is_the_end() -> None:
    """Where the first look fails, a wait that may take no time returns."""
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


def test_a_job_that_is_being_stopped_is_looked_at_more_often() -> None:
    """A change of status brings the short intervals back."""
    world = World()
    world.aws.add_job("job", ends=None, stopping=3.0)
    world.aws.at(1000.0, lambda: world.aws.stop_job("job"))
    with world.subscribe("job") as subscription:
        told = world.follow(subscription)
    assert statuses(told) == ["InProgress", "Stopping", "Stopped"]
    assert told[2][0] - told[1][0] < 6


def test_a_status_never_goes_backwards() -> None:
    """Old answers that come after new ones are no news, nor is one that comes twice."""
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


def test_a_machine_that_slept_looks_once() -> None:
    """After an hour in which no time passed for the program, the next look tells the end."""
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
def test_bad_weather_is_ridden_out(kind: FaultKind, count: int, caplog: pytest.LogCaptureFixture) -> None:
    """An hour without an answer costs few calls, is said once when it begins and once when it is over."""
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
        told = world.follow(subscription, until=3700.0)
        assert sum(world.aws.calls.values()) - before < 300
        told += world.follow(subscription)
    assert len(ends(told)) == count
    assert max(ends(told).values()) < 4000 + LONGEST
    words = [(record.levelname, record.message) for record in caplog.records if "status of jobs" in record.message]
    assert [level for level, _ in words] == ["WARNING", "INFO"]
    assert "still trying" in words[0][1]
    assert "can be read again, after 3" in words[1][1]


def test_credentials_that_are_renewed_are_waited_for() -> None:
    """Half a minute with an old token is ridden out."""
    world = World()
    world.aws.add_job("job", ends=300.0)
    world.aws.faults.on("*", "expired", probability=1.0, when=lambda: 100 < world.clock.monotonic() < 130)
    with world.subscribe("job") as subscription:
        assert statuses(world.follow(subscription)) == ["InProgress", "Completed"]


@pytest.mark.parametrize("count", [3, 30])
def test_credentials_that_are_not_renewed_end_the_watch(count: int) -> None:
    """After a minute every job is lost, at once, with what happened and what to do."""
    world = World()
    names = [f"job-{number:02d}" for number in range(count)]
    for name in names:
        world.aws.add_job(name, ends=None)
    world.aws.faults.on("*", "expired", probability=1.0, when=lambda: world.clock.monotonic() > 100)
    with world.subscribe(*names) as subscription:
        told = world.follow(subscription)
        assert len(subscription) == 0
    assert set(lost(told)) == set(names)
    assert 160 <= told[-1][0] <= 160 + 2 * LONGEST
    error = lost(told)["job-00"].error
    assert (error.job_name, error.status) == ("job-00", "InProgress")
    assert "renew the credentials" in str(error)
    assert error.__cause__ is not None


def test_a_clock_that_is_wrong_is_named() -> None:
    """A signature that is refused for the time is a diagnosis, and ends the watch."""
    world = World()
    world.aws.add_job("job", ends=None)
    world.aws.faults.on("*", "skew", probability=1.0, when=lambda: world.clock.monotonic() > 50)
    with world.subscribe("job") as subscription:
        told = world.follow(subscription)
    assert "10 minutes" in str(lost(told)["job"].error)
    assert "The job itself goes on" in str(lost(told)["job"].error)


@pytest.mark.parametrize("count", [2, 20])
def test_a_job_that_may_not_be_looked_at_is_lost_alone(count: int) -> None:
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
        told = world.follow(subscription)
    assert set(lost(told)) == {"job-00"}
    assert "sagemaker:DescribeProcessingJob" in str(lost(told)["job-00"].error)
    assert set(ends(told)) == set(names[1:])


def test_a_job_that_is_shown_late_is_waited_for() -> None:
    """Right after its creation a job may not be there yet."""
    world = World()
    world.aws.add_job("job", starts=5.0, ends=20.0)
    with world.subscribe("job") as subscription:
        assert statuses(world.follow(subscription)) == ["InProgress", "Completed"]


@pytest.mark.parametrize("others", [0, 30])
def test_a_job_that_is_not_there_is_lost(others: int) -> None:
    """What is not shown for a while does not exist; whatever else is watched goes on."""
    world = World()
    for number in range(others):
        world.aws.add_job(f"job-{number:02d}", ends=100.0)
    with world.subscribe("job-none", *(f"job-{number:02d}" for number in range(others))) as subscription:
        told = world.follow(subscription)
    assert "there is no job of that name" in str(lost(told)["job-none"].error)
    assert next(at for at, news in told if isinstance(news, Lost)) < 30
    assert len(ends(told)) == others


@pytest.mark.parametrize("others", [0, 30])
def test_a_job_that_is_deleted_is_lost(others: int) -> None:
    """A job whose end nobody saw, as nothing answered, and that was deleted, is no success."""
    world = World()
    names = [f"job-{number:02d}" for number in range(others + 1)]
    for name in names:
        world.aws.add_job(name, ends=50.0 if name == "job-00" else 700.0)
    world.aws.faults.on("*", "unreachable", probability=1.0, when=lambda: 40 < world.clock.monotonic() < 60)
    world.aws.at(59.0, lambda: world.aws.delete_job("job-00"))
    with world.subscribe(*names) as subscription:
        told = world.follow(subscription)
    assert set(lost(told)) == {"job-00"}
    assert len(ends(told)) == others


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
    with world.poller.subscribe(Target(name, created) for name in names) as subscription:
        told = world.follow(subscription)
    assert set(lost(told)) == {"job-00"}
    assert "another job has its name now" in str(lost(told)["job-00"].error)
    assert len(ends(told)) == others


@pytest.mark.parametrize("others", [0, 30])
def test_an_older_job_of_the_name_is_not_this_one(others: int) -> None:
    """Where AWS still shows a job that was deleted, its end is not that of the new job of its name."""
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
    with world.poller.subscribe(Target(name, created, "InProgress") for name in names) as subscription:
        told = world.follow(subscription)
    assert len(ends(told)) == others + 1
    assert set(statuses(told)) == {"InProgress", "Completed"}


# Many jobs.


def fleet(world: World, count: int, ends: Any, **life: Any) -> list[str]:
    names = [f"fleet-{number:05d}" for number in range(count)]
    for number, name in enumerate(names):
        world.aws.add_job(name, ends=ends(number), **life)
    return names


def test_many_jobs_cost_no_more_than_some() -> None:
    """200 jobs that end one a second are seen to within a few seconds, by forty calls a minute, none refused."""
    world = World(quotas=PUBLISHED_QUOTAS, rate_limiters=new_rate_limiters())
    names = fleet(world, 200, lambda number: 300.0 + number)
    with world.subscribe(*names) as subscription:
        told = world.follow(subscription)
    lags = sorted(at - 300 - names.index(name) for name, at in ends(told).items())
    assert len(lags) == 200
    assert lags[197] < 3
    assert lags[-1] < LONGEST
    minutes = range(1, 8)
    per_minute = [sum(n for (_, when), n in world.aws.per_minute.items() if when == minute) for minute in minutes]
    assert max(per_minute) <= 60
    assert not world.aws.throttled


def test_news_of_many_jobs_carry_what_the_list_says() -> None:
    """How a job ended is known without a look at it."""
    world = World()
    names = fleet(world, 30, lambda _: 200.0, status="Failed", failure_reason="AlgorithmError: no", exit_message="bad")
    with world.subscribe(*names) as subscription:
        told = world.follow(subscription)
    final = [news for _, news in told if isinstance(news, StatusChanged) and news.status == "Failed"]
    assert len(final) == 30
    assert {news.description["ExitMessage"] for news in final} == {"bad"}
    assert {news.description["FailureReason"] for news in final} == {"AlgorithmError: no"}
    assert [news.previous for news in final] == ["InProgress"] * 30
    assert world.calls() < 10


def test_jobs_that_are_known_to_run_take_no_look_of_their_own() -> None:
    """Jobs that were created a moment ago are seen by the changes alone."""
    world = World()
    names = fleet(world, 200, lambda _: 100.0)
    created = dt.datetime.fromtimestamp(world.clock.time(), tz=dt.timezone.utc)
    with world.poller.subscribe(Target(name, created, "InProgress") for name in names) as subscription:
        assert len(ends(world.follow(subscription))) == 200
    assert world.calls() == 0


def test_jobs_that_ended_long_ago_are_found_by_pages() -> None:
    """1,000 jobs of a name's prefix, whenever they ended, are known after ten pages."""
    world = World()
    names = fleet(world, 1000, lambda number: 1.0 + number)
    world.clock.advance(100_000.0)
    with world.subscribe(*names) as subscription:
        assert len(ends(world.follow(subscription, until=world.clock.monotonic() + 60))) == 1000
    assert sum(world.aws.calls.values()) < 20


def test_jobs_that_come_one_by_one_are_caught_up_with_together() -> None:
    """A thousand jobs that somebody begins to watch between the calls cost pages, and no look each."""
    world = World()
    names = iter(fleet(world, 1000, lambda number: 100_200.0 if number < 20 else 5.0))
    world.clock.advance(100_000.0)
    listed = world.aws.service.handlers["ListProcessingJobs"]
    subscription = world.subscribe(*itertools.islice(names, 30))

    def add_some(params: dict[str, Any]) -> Mapping[str, Any]:
        for name in itertools.islice(names, 15):
            subscription.add(Target(name))
        return listed(params)

    world.aws.service.handlers["ListProcessingJobs"] = add_some
    with subscription:
        assert len(ends(world.follow(subscription))) == 1000
    assert world.calls() < 300
    assert world.calls("ListProcessingJobs") < 400


def test_jobs_without_a_common_name_are_looked_at_one_by_one() -> None:
    """Nine jobs that ended long ago, in an account with thousands of others, cost nine looks."""
    world = World()
    fleet(world, 3000, lambda _: 10.0)
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
    names = fleet(world, 50, lambda _: 200.0)
    with world.subscribe(*names) as subscription:
        told = world.follow(subscription)
    assert len(ends(told)) == 50
    assert max(ends(told).values()) < 200 + 60 + 35


def test_a_change_that_is_never_listed_is_found() -> None:
    """A job whose end the List does not show in time is found by the next census, which looks at it."""
    world = World(list_lag=lambda name: 1e9 if name == "fleet-00007" else 0.0)
    names = fleet(world, 30, lambda number: 100.0 if number == 7 else 800.0)
    with world.subscribe(*names) as subscription:
        told = world.follow(subscription)
    assert len(ends(told)) == 30
    assert ends(told)["fleet-00007"] < 650


def test_a_list_that_is_denied_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    """Who may look but not list has every job looked at, at a bounded rate, and one warning."""
    world = World()
    names = fleet(world, 40, lambda _: 60.0)
    world.aws.faults.on("ListProcessingJobs", "denied", probability=1.0)
    with caplog.at_level(logging.WARNING, "processing"), world.subscribe(*names) as subscription:
        told = world.follow(subscription)
    assert len(ends(told)) == 40
    assert max(ends(told).values()) < 60 + 2 * LONGEST
    assert world.calls("ListProcessingJobs") == 1
    assert world.calls() < 10 * max(ends(told).values()) + 100
    assert ["one by one" in record.message for record in caplog.records] == [True]


def test_a_token_that_is_never_taken_is_no_busy_loop() -> None:
    """Where no second page is ever to be had, the listing is begun anew, but not without end in no time."""
    world = World()
    names = fleet(world, 250, lambda _: 100.0)
    listed = world.aws.service.handlers["ListProcessingJobs"]

    def forgetful(params: dict[str, Any]) -> Mapping[str, Any]:
        if world.clock.monotonic() < 300:
            world.aws.jobs.forget_tokens()
        return listed(params)

    world.aws.service.handlers["ListProcessingJobs"] = forgetful
    with world.subscribe(*names) as subscription:
        told = world.follow(subscription)
    assert len(ends(told)) == 250
    assert max(ends(told).values()) < 330
    assert world.calls("ListProcessingJobs") < 400


def test_jobs_may_come_and_go() -> None:
    """Between one by one and by the list and back, no job is lost, and each status comes once."""
    world = World()
    for number in range(30):
        world.aws.add_job(f"fleet-{number:02d}", starts=number * 10.0, ends=number * 10.0 + 85.0)
    told: list[tuple[float, StatusUpdate]] = []
    with world.subscribe() as subscription:
        for number in range(30):
            subscription.add(Target(f"fleet-{number:02d}"))
            told += world.follow(subscription, until=number * 10.0 + 10.0)
        told += world.follow(subscription)
    assert len(ends(told)) == 30
    assert len(told) == 60
    assert all(at - 85 - int(name[-2:]) * 10 <= LONGEST for name, at in ends(told).items())


def test_an_end_in_bad_weather_is_found_though_more_jobs_come() -> None:
    """A job that ended while nothing could be read is seen at once where the list takes over from the looks."""
    world = World()
    world.aws.add_job("fleet-first", ends=200.0)
    names = fleet(world, 30, lambda _: 3000.0)
    world.aws.faults.on("*", "unreachable", probability=1.0, when=lambda: 100 < world.clock.monotonic() < 1000)
    with world.subscribe("fleet-first") as subscription:
        world.follow(subscription, until=995.0)
        for name in names:
            subscription.add(Target(name))
        assert ends(world.follow(subscription, until=1030.0)).keys() == {"fleet-first"}


def test_names_are_asked_for_by_what_they_have_in_common() -> None:
    """The changes of the fleet alone are listed, of an account with many others."""
    world = World()
    names = fleet(world, 20, lambda _: 300.0)
    asked: list[Any] = []
    listed = world.aws.service.handlers["ListProcessingJobs"]

    def note(params: dict[str, Any]) -> Mapping[str, Any]:
        asked.append((params.get("NameContains"), params["MaxResults"]))
        return listed(params)

    world.aws.service.handlers["ListProcessingJobs"] = note
    with world.subscribe(*names) as subscription:
        world.follow(subscription)
    assert set(asked) == {("fleet-000", 100)} | {each for each in asked if each[0].startswith("fleet-000")}


def test_ten_thousand_jobs_take_little_memory() -> None:
    """A job that is watched takes less than a kilobyte."""
    import tracemalloc

    world = World()
    names = [f"fleet-{number:05d}" for number in range(10_000)]
    tracemalloc.start()
    try:
        created = dt.datetime.fromtimestamp(world.clock.time(), tz=dt.timezone.utc)
        subscription = world.poller.subscribe(Target(name, created, "InProgress") for name in names)
        subscription.wait(5.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(subscription) == 10_000
    assert taken / 10_000 < 1000
    subscription.close()


def test_an_error_says_what_kind_it_is() -> None:
    """The cause of a lost job is botocore's error, which the rules of retries know."""
    world = World()
    world.aws.add_job("job", ends=None)
    world.aws.faults.on("*", "denied", probability=1.0)
    with world.subscribe("job") as subscription:
        error = lost(world.follow(subscription))["job"].error
    assert error.status is None
    assert classify(error.__cause__ or error).value == "fatal"
