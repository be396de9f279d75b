"""The stream of events: every status once, all lines before the last one, through all failures."""

from __future__ import annotations

import logging
import random
import re
from typing import TYPE_CHECKING, Any

import pytest

from processing.aws.retry import RetryingApi
from processing.exceptions import ConfigurationError, WaitTimeoutError, WatchError
from processing.testing.clock import VirtualClock
from processing.testing.cloudwatch import ScriptedLine, ScriptedLogs
from processing.testing.faults import FaultInjector, FaultKind
from processing.testing.wire import JsonService, ServiceError, make_client
from processing.watching.checkpoint import Checkpoint
from processing.watching.events import Event, LogEvent, StatusChanged
from processing.watching.feed import Feed
from processing.watching.logs.batch import LogBatch
from processing.watching.polling import Polling
from processing.watching.status.model import WatchTarget
from processing.watching.status.poller import Poller
from processing.watching.stream import EventStream, FeedEvent, drive

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB = "clean"
START = 1_700_000_000


class World:
    """A job that goes through its statuses as the clock moves, and writes lines."""

    def __init__(self, statuses: list[tuple[float, str]], lines: list[ScriptedLine] | None = None) -> None:
        self.clock = VirtualClock(START)
        self.statuses = statuses
        self.logs = ScriptedLogs(lines or [], self.clock, page=100)
        self.faults = FaultInjector(seed=4)
        self.service = JsonService({"DescribeProcessingJob": self.describe, **self.logs.handlers()}, clock=self.clock)
        transport = self.faults.wrap(self.service)
        clients = {name: make_client(name, transport) for name in ("sagemaker", "logs")}
        self.api = RetryingApi(clients.__getitem__, clock=self.clock, random=random.Random(9))
        self.polling = Polling(jitter=0.0, longest=13.5)

    @property
    def poller(self) -> Poller:
        return Poller(self.api, self.polling, random=random.Random(3))

    def describe(self, _: dict[str, Any]) -> dict[str, Any]:
        now = self.clock.monotonic()
        passed = [(at, status) for at, status in self.statuses if at <= now]
        if not passed:
            raise ServiceError("ValidationException", "Could not find requested job with name: clean")
        at, status = passed[-1]
        ended = {"ProcessingEndTime": START + at} if status in {"Completed", "Failed", "Stopped"} else {}
        return {
            "ProcessingJobName": JOB,
            "ProcessingJobArn": "arn:aws:sagemaker:us-east-1:111122223333:processing-job/clean",
            "ProcessingJobStatus": status,
            "ProcessingResources": {"ClusterConfig": {"InstanceCount": 1, "VolumeSizeInGB": 1}},
            "AppSpecification": {"ImageUri": "image"},
            "CreationTime": START,
            **ended,
        }

    def watch(self, *, logs: bool = True, timeout: float | None = None) -> list[Event]:
        return list(self.stream(logs=logs, timeout=timeout))

    def stream(
        self, *, logs: bool = True, timeout: float | None = None, checkpoint: Checkpoint | None = None
    ) -> EventStream[Event]:
        feed = Feed(self, [WatchTarget(JOB)], logs=logs, timeout=timeout, checkpoint=checkpoint)
        return EventStream([feed], alone=True)


def line(number: int, at: float, delay: float = 0.0) -> ScriptedLine:
    written = START * 1000 + round(at * 1000)
    return ScriptedLine(f"{JOB}/algo-1-1", written, written + round(delay * 1000), f"{number:056d}", f"line {number}")


def texts(events: list[Event]) -> list[str]:
    return [event.message if isinstance(event, LogEvent) else event.status for event in events]


def test_lines_and_statuses_come_as_one_stream() -> None:
    """The last value is the terminal status; before it every line is delivered, the late ones too."""
    lines = [line(1, at=1), line(2, at=20), line(3, at=29.9, delay=0.6), line(4, at=3, delay=25)]
    world = World([(0, "InProgress"), (30, "Completed")], lines)
    events = world.watch()
    assert texts(events)[0] == "InProgress"
    assert texts(events)[-1] == "Completed"
    assert sorted(texts(events)[1:-1]) == ["line 1", "line 2", "line 3", "line 4"]
    last = events[-1]
    assert isinstance(last, StatusChanged)
    assert last.previous == "InProgress"
    assert last.description["ProcessingJobStatus"] == "Completed"


def test_a_job_that_has_ended_is_not_waited_for() -> None:
    """The first call is made at once, and a job that ended an hour ago has all its lines."""
    world = World([(0, "Failed")], [line(1, at=0)])
    world.clock.advance(3600)
    assert texts(world.watch()) == ["line 1", "Failed"]
    assert world.clock.sleeps == []
    assert world.faults.calls == ["DescribeProcessingJob", "FilterLogEvents"]


def test_without_logs_nothing_is_read() -> None:
    """Statuses alone need no permission for logs, and no call for them."""
    world = World([(0, "InProgress"), (15, "Completed")], [line(1, at=1)])
    assert texts(world.watch(logs=False)) == ["InProgress", "Completed"]
    assert set(world.faults.calls) == {"DescribeProcessingJob"}


def test_the_intervals_grow_to_the_longest() -> None:
    """An hour of waiting takes about 270 calls, and the end is seen 13.5 seconds late at most."""
    world = World([(0, "InProgress"), (3600, "Completed")])
    world.watch(logs=False)
    assert world.clock.sleeps[:8] == [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390625, 13.5]
    assert world.clock.monotonic() < 3614
    assert len(world.faults.calls) < 280


def test_a_job_that_is_stopping_is_described_more_often() -> None:
    """A change of status brings the short intervals back."""
    world = World([(0, "InProgress"), (100, "Stopping"), (130, "Stopped")])
    assert texts(world.watch(logs=False)) == ["InProgress", "Stopping", "Stopped"]
    assert world.clock.sleeps.count(1.0) == 2


def test_statuses_never_go_backwards() -> None:
    """An old answer after a new one is not an event."""
    world = World([(0, "InProgress"), (5, "Stopping"), (6, "InProgress"), (9, "Stopping"), (30, "Stopped")])
    assert texts(world.watch(logs=False)) == ["InProgress", "Stopping", "Stopped"]


@pytest.mark.parametrize("timeout", [0.0, 0.5, 60.0])
def test_the_deadline_is_kept(timeout: float) -> None:
    """After the deadline the error says that the job goes on; before it, there was at least one call."""
    world = World([(0, "InProgress")])
    with pytest.raises(WaitTimeoutError, match="it goes on") as raised:
        world.watch(timeout=timeout)
    assert raised.value.job_name == JOB
    assert isinstance(raised.value, TimeoutError)
    assert world.clock.monotonic() == timeout
    assert "DescribeProcessingJob" in world.faults.calls


def test_an_end_at_the_deadline_is_an_end() -> None:
    """The last call is made when the deadline passes, and then the lines are read to the end."""
    world = World([(0, "InProgress"), (59.9, "Completed")], [line(1, at=59.8, delay=1.0)])
    assert texts(world.watch(timeout=60.0)) == ["InProgress", "line 1", "Completed"]


@pytest.mark.parametrize("kind", ["throttle", "error503", "unreachable", "reset_before", "timeout_after", "truncate"])
def test_an_hour_of_failures_is_survived(kind: FaultKind, caplog: pytest.LogCaptureFixture) -> None:
    """After an hour of failures, the wait goes on, with one warning each and without a busy loop."""
    world = World([(0, "InProgress"), (4000, "Completed")], [line(1, at=10), line(2, at=3900)])

    class Faulty:
        def send(self, request: Any) -> Any:
            bad = 5 < world.clock.monotonic() < 3605
            return (faulty if bad else world.service).send(request)

    faulty = FaultInjector(seed=1).on("*", kind, probability=1.0).wrap(world.service)
    clients = {name: make_client(name, Faulty()) for name in ("sagemaker", "logs")}
    world.api = RetryingApi(clients.__getitem__, clock=world.clock, random=random.Random(9))
    with caplog.at_level(logging.WARNING, "processing"):
        assert texts(world.watch()) == ["InProgress", "line 1", "line 2", "Completed"]
    assert len(world.clock.sleeps) < 3000
    assert sum("still trying" in record.message for record in caplog.records) <= 2


def test_the_deadline_holds_during_an_outage() -> None:
    """While no call is answered, the wait ends at its deadline."""
    world = World([(0, "InProgress")])
    world.faults.on("*", "throttle", probability=1.0)
    with pytest.raises(WaitTimeoutError, match="status: not known"):
        world.watch(timeout=100.0)
    assert world.clock.monotonic() <= 101


def test_a_lasting_failure_is_raised() -> None:
    """Credentials that stay expired end the wait; the job goes on."""
    world = World([(0, "InProgress")])

    def expired(_: dict[str, Any]) -> dict[str, Any]:
        raise ServiceError("ExpiredTokenException", "The security token included in the request is expired")

    world.service.handlers["DescribeProcessingJob"] = expired
    with pytest.raises(WatchError, match="ExpiredToken"):
        world.watch()


def test_a_job_that_is_visible_late_is_waited_for() -> None:
    """Right after its creation a job may not be visible yet."""
    world = World([(5, "InProgress"), (20, "Completed")])
    assert texts(world.watch(logs=False)) == ["InProgress", "Completed"]


def test_a_job_that_does_not_exist_is_an_error() -> None:
    """A job that is not visible after some seconds does not exist."""
    world = World([])
    with pytest.raises(WatchError, match="there is no job of that name"):
        world.watch()
    assert world.clock.monotonic() < 30


def test_denied_logs_do_not_end_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    """Credentials for statuses but not for logs get the statuses, and one warning."""
    world = World([(0, "InProgress"), (60, "Completed")], [line(1, at=1)])
    world.logs.denied |= {"FilterLogEvents", "DescribeLogStreams", "GetLogEvents"}
    with caplog.at_level(logging.WARNING, "processing"):
        assert texts(world.watch()) == ["InProgress", "Completed"]
    assert sum("not allowed" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("code", ["ServiceUnavailableException", "ExpiredTokenException", "OptInRequired"])
def test_logs_that_fail_at_the_end_do_not_hide_the_end(code: str, caplog: pytest.LogCaptureFixture) -> None:
    """The job's end is delivered even if its last lines cannot be read; a warning says that they are missing."""
    world = World([(0, "InProgress"), (10, "Completed")], [line(1, at=1)])
    read = world.service.handlers["FilterLogEvents"]

    def fail_at_the_end(params: dict[str, Any]) -> Mapping[str, Any]:
        if world.clock.monotonic() >= 10:
            raise ServiceError(code)
        return read(params)

    world.service.handlers["FilterLogEvents"] = fail_at_the_end
    with caplog.at_level(logging.WARNING, "processing"):
        assert texts(world.watch()) == ["InProgress", "line 1", "Completed"]
    assert re.search("logs of clean cannot be shown|log lines of clean could not be read", caplog.text)


def test_a_silent_job_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A job without a log group ends with one message about it."""
    world = World([(0, "InProgress"), (10, "Completed")])
    with caplog.at_level(logging.WARNING, "processing"):
        world.watch()
    assert [record.message for record in caplog.records] == ["clean logged nothing"]


def test_lines_of_a_former_job_of_the_name_are_left_out() -> None:
    """A name that was used before has old streams under the same prefix."""
    world = World([(0, "InProgress"), (10, "Completed")], [line(1, at=-3600), line(2, at=5)])
    assert texts(world.watch()) == ["InProgress", "line 2", "Completed"]


def test_an_hour_of_following_takes_few_calls() -> None:
    """An hour with lines takes about two calls every ten seconds."""
    lines = [line(number, at=float(number * 10)) for number in range(360)]
    world = World([(0, "InProgress"), (3600, "Completed")], lines)
    events = world.watch()
    assert len(events) == 362
    assert len(world.faults.calls) < 800


def test_a_sleeping_laptop_resumes_with_the_next_call() -> None:
    """After an hour of sleep, the next call finds the end of the job, and all lines."""
    world = World([(0, "InProgress"), (600, "Completed")], [line(number, at=float(number)) for number in range(600)])
    stream = world.stream()
    assert texts([next(stream)]) == ["InProgress"]
    world.clock.advance(3600)
    assert len(list(stream)) == 601


def test_a_checkpoint_needs_lines() -> None:
    """A stream without lines has no position to continue from."""
    world = World([(0, "InProgress")])
    with pytest.raises(ConfigurationError, match="logs: a checkpoint is about log lines"):
        world.stream(logs=False).checkpoint()


def test_another_process_continues_from_a_checkpoint() -> None:
    """After any line at which a stream stops, the next one begins with the line after it."""
    lines = [line(number, at=number / 10) for number in range(300)]
    for left_at in (1, 57, 200, 300):
        world = World([(0, "InProgress"), (60, "Completed")], lines)
        first: list[str] = []
        with world.stream() as stream:
            while len(first) < left_at:
                event = next(stream)
                first += [event.message] if isinstance(event, LogEvent) else []
            kept = stream.checkpoint().to_json()
        rest = world.stream(checkpoint=Checkpoint.from_json(kept))
        assert first + [event.message for event in rest if isinstance(event, LogEvent)] == [
            f"line {number}" for number in range(300)
        ]


def test_lines_wait_for_an_output_and_statuses_do_not() -> None:
    """While the output cannot take lines, none are read; the statuses go on, and then all lines come."""
    world = World([(0, "InProgress"), (100, "Stopping"), (200, "Stopped")], [line(n, at=n) for n in range(50)])
    feed = Feed(world, [WatchTarget(JOB)], logs=True, ready=lambda: world.clock.monotonic() >= 150)
    at: dict[str, float] = {}
    for item in drive([feed]):
        if isinstance(item, FeedEvent):
            event = item.event
            names = (
                [line.message for line in event] if isinstance(event, LogBatch) else [getattr(event, "status", "lost")]
            )
            at.update(dict.fromkeys(names, world.clock.monotonic()))
    assert at["Stopping"] < 120
    assert min(at[f"line {n}"] for n in range(50)) >= 150
    assert list(at)[-1] == "Stopped"


def test_a_long_reading_does_not_hold_statuses_up() -> None:
    """While hundreds of slow pages are read, status calls go on."""
    world = World([(0, "InProgress"), (1e6, "Completed")], [line(n, at=n / 1000) for n in range(20_000)])
    world.clock.advance(3600)
    read = world.service.handlers["FilterLogEvents"]

    def slow(params: dict[str, Any]) -> Mapping[str, Any]:
        world.clock.advance(0.5)
        return read(params)

    world.service.handlers["FilterLogEvents"] = slow
    with pytest.raises(WaitTimeoutError):
        world.watch(timeout=60.0)
    calls = world.faults.calls
    longest = max(len(part) for part in "".join("d" if call[0] == "D" else "f" for call in calls).split("d"))
    assert longest <= 40  # pages: twenty seconds
    assert world.clock.monotonic() < 3600 + 65


def test_a_feed_that_is_closed_watches_nothing() -> None:
    """This holds even if one thread closes it before another one first uses its subscription."""
    world = World([(0.0, "InProgress")])
    feed = Feed(world, [WatchTarget(JOB)])
    feed.close()
    assert not len(feed.subscription)
