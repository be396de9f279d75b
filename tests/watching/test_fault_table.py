"""The numbered faults of watching, through the public API, on a simulated AWS and virtual time.

The same numbers are in `test_fault_table_engine.py`, where jobs really run.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import heapq
import io
import itertools
import json
import logging
import os
import random
import statistics
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, TextIO

import attrs
import pytest

import processing
from processing import ProcessingJob, Processor, WaitTimeoutError
from processing.testing.clock import VirtualClock
from processing.testing.simulation import PUBLISHED_QUOTAS, Life, SimulatedAws, SimulatedLine
from processing.testing.wire import JsonService, make_client
from processing.watching import EventBridgeSource
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from processing.session.session import Session
    from processing.testing.faults import FaultKind

PASSING: list[FaultKind] = ["throttle", "error500", "error503", "unreachable", "reset_before", "hang", "truncate"]
HANG = 60.0  # seconds until a call that hangs is given up


@attrs.frozen
class World:
    """A simulated AWS, its clock, and a session."""

    clock: VirtualClock
    aws: SimulatedAws
    session: Session

    @classmethod
    def of(cls, **options: Any) -> World:
        clock = VirtualClock()
        aws = SimulatedAws(clock, **options)
        return cls(clock, aws, aws.session())

    def job(self, name: str = "job", **life: Any) -> ProcessingJob:
        """Add a job, and attach to it."""
        self.aws.add_job(name, **life)
        return processing.attach(name, self.session)

    def jobs(self, count: int, ends: Callable[[int], float], **life: Any) -> list[ProcessingJob]:
        """Add jobs, and attach to them without a call for each."""
        names = [f"fleet-{number:04d}" for number in range(count)]
        for number, name in enumerate(names):
            lines = [SimulatedLine(1.0, f"{name} begins"), SimulatedLine(ends(number) - 0.5, f"{name} ends")]
            self.aws.add_job(name, ends=ends(number), lines=lines, **life)
        return [ProcessingJob(self.session, name) for name in names]

    def storm(self, kind: FaultKind, begin: float, end: float) -> None:
        """Make every call fail for a while."""
        self.aws.faults.on("*", kind, probability=1.0, when=lambda: begin <= self.aws.now < end)


def lines(count: int, every: float = 1.0, **where: Any) -> list[SimulatedLine]:
    return [SimulatedLine(1.0 + number * every, f"line {number}", **where) for number in range(count)]


def followed(job: ProcessingJob) -> list[str]:
    """Follow a job to its end, check the stream, and return the lines."""
    events = list(job.events())
    check_stream(events)
    return [event.message for event in events if isinstance(event, LogEvent)]


def check_stream(events: Sequence[Any]) -> None:
    """The statuses go forward, each comes once, and the last one is the last event."""
    statuses = [event for event in events if isinstance(event, StatusChanged)]
    order = ["InProgress", "Stopping", "Completed", "Failed", "Stopped"]
    ranks = [order.index(event.status) for event in statuses]
    assert ranks == sorted(set(ranks))
    assert [event.previous for event in statuses[1:]] == [event.status for event in statuses[:-1]]
    assert events[-1] is statuses[-1]
    assert statuses[-1].status in {"Completed", "Failed", "Stopped"}


# 18: an hour of failures.


@pytest.mark.parametrize("kind", PASSING)
def test_18_an_hour_in_which_nothing_answers(kind: FaultKind, caplog: pytest.LogCaptureFixture) -> None:
    """One job's wait survives, has every line, logs one warning, and is no busy loop."""
    world = World.of()
    job = world.job(ends=4000, lines=lines(390, every=10.0))
    world.storm(kind, 60, 3660)
    with caplog.at_level(logging.WARNING, "processing"):
        assert followed(job) == [f"line {number}" for number in range(390)]
    assert world.aws.now < 4000 + 20
    assert len(world.aws.faults.calls) < 2500
    assert len(world.clock.sleeps) < 4000
    assert len([record for record in caplog.records if "job" in record.message]) <= 2


@pytest.mark.parametrize("kind", PASSING)
def test_18_an_hour_in_which_nothing_answers_a_fleet(kind: FaultKind) -> None:
    """A hundred jobs that end before, in and after the hour are all seen to end, and their lines come once."""
    world = World.of()
    jobs = world.jobs(100, lambda number: 30.0 + number * 40.0)
    world.storm(kind, 60, 3660)
    messages = Counter(event.message for event in processing.events(jobs) if isinstance(event, LogEvent))
    assert messages == Counter({f"{job.job_name} {what}": 1 for job in jobs for what in ("begins", "ends")})
    assert world.aws.now < 4000 + 20
    assert len(world.aws.faults.calls) < 3000
    assert len(world.clock.sleeps) < 20_000


@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize("count", [1, 30])
def test_18_the_deadline_holds(kind: FaultKind, count: int) -> None:
    """While nothing answers, a wait of ten minutes takes ten minutes."""
    world = World.of()
    jobs = world.jobs(count, lambda _: 7200.0)
    world.storm(kind, 0, 7200)
    done, not_done = processing.wait(jobs, timeout=600)
    assert (set(done), set(not_done)) == (set(), set(jobs))
    slack = HANG if kind == "hang" else 1.0  # what is under way is not cut off
    assert 600 <= world.aws.now <= 600 + slack
    begun = world.aws.now
    with pytest.raises(WaitTimeoutError):
        jobs[0].wait(timeout=600)
    assert 600 <= world.aws.now - begun <= 600 + slack


# 19 to 22: faults of the List.


def test_19_a_truncated_list_loses_no_job() -> None:
    """A listing of which half is missing is asked for again: 250 jobs that end at once are all seen."""
    world = World.of(seed=5)
    jobs = world.jobs(250, lambda _: 100.0)
    world.aws.faults.on("ListProcessingJobs", "truncate", probability=0.3)
    done, not_done = processing.wait(jobs)
    assert (len(done), len(not_done)) == (250, 0)
    assert world.aws.faults.injected
    assert world.aws.now < 130


def test_20_a_list_that_lags_is_swept_again() -> None:
    """Changes that are listed a minute late, some out of order, are found by a listing that reaches back further."""
    lag = itertools.cycle([0.0, 60.0, 20.0, 90.0])
    world = World.of(list_lag=collections.defaultdict(lambda: next(lag)).__getitem__)
    jobs = world.jobs(60, lambda number: 100.0 + number)
    done, _ = processing.wait(jobs)
    assert len(done) == 60
    assert world.aws.now < 160 + 90 + 35


def test_21_a_list_whose_token_runs_out_is_begun_again() -> None:
    """A token that is refused half way costs a listing, and no job."""
    world = World.of()
    jobs = world.jobs(450, lambda _: 100.0)
    for moment in (100.0, 101.0, 102.0, 103.0):
        world.aws.at(moment, world.aws.jobs.forget_tokens)
    listed = world.aws.service.handlers["ListProcessingJobs"]
    refused: list[Any] = []

    def forgetful(params: dict[str, Any]) -> Any:
        if "NextToken" in params and len(refused) < 3:
            refused.append(params)
            world.aws.jobs.forget_tokens()
        return listed(params)

    world.aws.service.handlers["ListProcessingJobs"] = forgetful
    done, _ = processing.wait(jobs)
    assert (len(done), len(refused)) == (450, 3)
    assert world.aws.calls["DescribeProcessingJob"] < 20
    assert world.aws.now < 130


@pytest.mark.parametrize("others", [0, 30])
def test_22_a_name_that_is_used_again_is_another_job(others: int) -> None:
    """A wait for a deleted job raises an error, and ignores the next job of its name."""
    world = World.of()
    job = world.job(ends=50, status="Failed")
    rest = world.jobs(others, lambda _: 100.0)
    world.aws.at(55, lambda: world.aws.delete_job("job"))
    world.aws.at(56, lambda: world.aws.add_job("job", starts=56, ends=90))
    world.storm("unreachable", 40, 60)
    done, _ = result = processing.wait([job, *rest], timeout=3600)
    assert set(done) == {job, *rest}
    error = result.failed[job]
    assert isinstance(error, processing.WatchError)
    assert error.status == "InProgress"


def test_22_lines_of_the_former_job_are_not_the_next_ones() -> None:
    """A job that has the name of one before it has its own lines alone."""
    world = World.of()
    world.aws.add_job("job", ends=50, lines=[SimulatedLine(10, "of the first")])
    world.clock.advance(100)
    world.aws.delete_job("job")
    job = world.job(starts=100, ends=150, lines=[SimulatedLine(10, "of the second")])
    assert followed(job) == ["of the second"]
    assert [event.message for event in job.logs()] == ["of the second"]


# 23 to 25: the machine's own trouble.


def test_23_credentials_that_are_renewed_cost_nothing() -> None:
    """A token that runs out and is renewed a few seconds later is no end of a wait."""
    world = World.of()
    job = world.job(ends=300, lines=lines(29, every=10.0))
    world.storm("expired", 100, 110)
    assert len(followed(job)) == 29
    assert world.aws.now < 320


@pytest.mark.parametrize("kind", ["expired", "skew"])
@pytest.mark.parametrize("count", [1, 30])
def test_23_24_credentials_and_clocks_are_waited_for(
    count: int, kind: FaultKind, caplog: pytest.LogCaptureFixture
) -> None:
    """Hours with an expired token or a clock that is off end no wait and lose no line; one warning has the remedy."""
    world = World.of()
    jobs = world.jobs(count, lambda _: 7200.0)
    world.storm(kind, 100, 7100)
    with caplog.at_level(logging.WARNING):
        events = list(processing.events(jobs))
    assert len([event for event in events if isinstance(event, LogEvent)]) == 2 * count
    assert world.aws.now < 7230
    advice = {"expired": "The AWS credentials have expired", "skew": "this machine's clock is right"}[kind]
    assert [advice in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("count", [1, 30])
def test_25_a_laptop_that_slept_resumes_within_one_poll(count: int) -> None:
    """After an hour asleep the next call finds the ends, and every line."""
    world = World.of()
    jobs = world.jobs(count, lambda _: 1800.0)
    stream = processing.events(jobs)
    events = [next(stream) for _ in range(2 * count)]
    world.clock.advance(3600)
    woken = world.aws.now
    events += stream
    assert {event.status for event in events if isinstance(event, StatusChanged)} == {"InProgress", "Completed"}
    assert sum(isinstance(event, LogEvent) for event in events) == 2 * count
    assert world.aws.now - woken < 35


# 26: events doubled, out of order, missing.


@pytest.mark.parametrize("count", [1, 30])
def test_26_old_answers_are_dropped(count: int) -> None:
    """If half of the answers are older than those before, each status comes once, and never backwards."""
    world = World.of()
    chance = random.Random(26)
    jobs = world.jobs(count, lambda number: 100.0 + number)
    stop = [job.job_name for job in jobs[::3]]
    for name in stop:
        world.aws.at(70, functools.partial(world.aws.stop_job, name))
    former: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)

    def aged(answer: Mapping[str, Any]) -> Mapping[str, Any]:
        answers = former[answer["ProcessingJobName"]]
        answers.append(answer)
        return chance.choice(answers)

    describe, listed = (
        world.aws.service.handlers[f"{verb}"] for verb in ("DescribeProcessingJob", "ListProcessingJobs")
    )
    world.aws.service.handlers["DescribeProcessingJob"] = lambda params: aged(describe(params))
    world.aws.service.handlers["ListProcessingJobs"] = lambda params: {
        **(answer := listed(params)),
        "ProcessingJobSummaries": [aged(summary) for summary in answer["ProcessingJobSummaries"]],
    }
    events = list(processing.events(jobs))
    for job in jobs:
        check_stream([event for event in events if event.job_name == job.job_name])
    ends = {event.job_name: event.status for event in events if isinstance(event, StatusChanged)}
    assert ends == {job.job_name: "Stopped" if job.job_name in stop else "Completed" for job in jobs}


class Queue:
    """A queue of SQS on the clock of a world: EventBridge fills it, and an empty queue delays the answer."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._filled = threading.Condition()
        self._is_read = threading.Event()
        self._coming: list[tuple[float, str, str]] = []
        handlers = {"ReceiveMessage": self.receive, "DeleteMessageBatch": self.delete}
        self.client = make_client("sqs", JsonService(handlers, clock=clock))

    def put(self, moment: float, name: str, status: str) -> None:
        """Schedule the arrival of an event."""
        heapq.heappush(self._coming, (moment, name, status))

    def receive(self, params: dict[str, Any]) -> dict[str, Any]:
        now = self._clock.monotonic()
        until = min([now + params["WaitTimeSeconds"], *(moment for moment, _, _ in self._coming[:1])])
        self._is_read.set()
        with self._filled:
            self._clock.wait(self._filled, until - now)
        found: list[dict[str, str]] = []
        while self._coming and self._coming[0][0] <= self._clock.monotonic() and len(found) < 10:
            _, name, status = heapq.heappop(self._coming)
            found.append({"MessageId": name, "ReceiptHandle": name, "Body": self._body(name, status)})
        return {"Messages": found}

    def delete(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"Successful": [{"Id": entry["Id"]} for entry in params["Entries"]]}

    def read_by(self, source: EventBridgeSource, session: Session) -> None:
        """Return when a source has begun to read. From then on the clock waits for it."""
        assert session.poller is not None  # connects the source
        with (condition := threading.Condition()):
            source.wait(condition, 0.0)
        assert self._is_read.wait(60)

    @staticmethod
    def _body(name: str, status: str) -> str:
        detail = {
            "ProcessingJobName": name,
            "ProcessingJobArn": f"arn:aws:sagemaker:us-east-1:000000000000:processing-job/{name}",
            "ProcessingJobStatus": status,
        }
        kind = "SageMaker Processing Job State Change"
        return json.dumps({"source": "aws.sagemaker", "detail-type": kind, "region": "us-east-1", "detail": detail})


@pytest.mark.parametrize("count", [8, 30])
def test_26_events_of_a_queue_are_hints(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are doubled, early, late, missing or about other jobs: each status comes once, and is the truth."""
    # Both threads always come back to the clock: it may wait for them, however busy the machine is.
    monkeypatch.setattr("processing.testing.clock._GRACE", 60.0)
    clock = VirtualClock()
    aws, queue = SimulatedAws(clock), Queue(clock)
    source = EventBridgeSource("https://sqs.us-east-1.amazonaws.com/000000000000/jobs", queue.client)
    slow = Polling(first=300.0, longest=300.0, list_every=300.0, sweep_every=300.0)
    world = World(clock, aws, aws.session(event_source=source, polling=slow))
    jobs = world.jobs(count, lambda number: 100.0 + 40.0 * number)
    ends = {job.job_name: 100.0 + 40.0 * number for number, job in enumerate(jobs)}
    silent = {job.job_name for job in jobs[1::3]}  # their events are lost
    for name, end in ends.items():
        queue.put(end - 50, name, "Completed")  # it has not
        queue.put(end - 30, f"{name}-of-somebody-else", "Completed")
        for late in (0.1, 0.1, 0.2, 30.0) if name not in silent else ():
            queue.put(end + late, name, "Completed")
            queue.put(end + late + 0.1, name, "InProgress")  # overtaken by the one before
    queue.read_by(source, world.session)
    lags: dict[str, float] = {}
    events = []
    for event in processing.events(jobs, logs=False):
        events.append(event)
        lags[event.job_name] = aws.now - ends[event.job_name]
    for job in jobs:
        check_stream([event for event in events if event.job_name == job.job_name])
    assert all(0 <= lag <= 310 for lag in lags.values()), lags
    heard = [lag for name, lag in lags.items() if name not in silent]
    assert statistics.median(heard) <= 2, lags


# 27 to 32: log lines.


def test_27_a_job_without_a_log_group_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The wait for a job without lines is quiet, and logs at the end that there were none."""
    world = World.of()
    job = world.job(ends=300)
    with caplog.at_level(logging.INFO, "processing"):
        assert followed(job) == []
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == ["job logged nothing"]


def test_28_late_lines_are_marked_and_not_lost() -> None:
    """A line that arrives minutes after its successors comes once, and is marked as late."""
    world = World.of()
    late = [SimulatedLine(5.5, "late", delay=200.0), SimulatedLine(250.5, "at the end", delay=50.5)]
    job = world.job(ends=300, lines=[*lines(290), *late])
    events = [event for event in job.events() if isinstance(event, LogEvent)]
    assert Counter(event.message for event in events) == Counter(line.message for line in [*lines(290), *late])
    assert [event.message for event in events if event.late] == ["late", "at the end"]


@pytest.mark.parametrize("seed", range(5))
def test_29_pages_of_every_kind(seed: int) -> None:
    """Empty pages, pages that come twice, and many lines of one millisecond: each line comes once, in order."""
    world = World.of(seed=seed, liberties=True)
    burst = [SimulatedLine(20.0, f"burst {number}") for number in range(50)]
    job = world.job(ends=60, lines=[*lines(10), *burst, *[SimulatedLine(40.0, "alike")] * 5])
    expected = [f"line {number}" for number in range(10)] + [line.message for line in burst] + ["alike"] * 5
    assert Counter(followed(job)) == Counter(expected)
    assert [event.message for event in job.logs()] == expected


def test_29_tokens_that_run_out_cost_no_line() -> None:
    """If every token is refused at its second use, reading continues from the last line."""
    world = World.of()
    world.aws.logs._page = 7
    job = world.job(ends=60, lines=lines(50))
    for moment in range(1, 80):
        world.aws.at(moment, world.aws.logs.forget_tokens)
    assert followed(job) == [f"line {number}" for number in range(50)]


@pytest.mark.parametrize("denied", [set(), {"FilterLogEvents"}], ids=["filtered", "by stream"])
def test_30_sixty_hosts_are_all_read(denied: set[str]) -> None:
    """Every host's lines come, however many streams there are, also of a host that writes for the first time late."""
    world = World.of()
    world.aws.logs.denied |= denied
    written = [
        SimulatedLine(host * 2.0 + again, f"{host}.{again}", host=host) for host in range(1, 61) for again in (0, 1)
    ]
    job = world.job(ends=200, hosts=60, lines=written)
    assert Counter(followed(job)) == Counter(line.message for line in written)


class Closed(io.StringIO):
    """An output whose other end is closed."""

    def write(self, _: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_31_a_closed_output_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reader, the wait goes on to the job's end."""
    world = World.of()
    job = world.job(ends=60, lines=lines(50))
    monkeypatch.setattr(sys, "stdout", Closed())
    assert job.wait() is job


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Both ends of a pipe, which is full when 64 KB are in it."""
    reading, writing = os.pipe()
    out = os.fdopen(writing, "w")
    yield reading, out
    os.close(reading)
    with contextlib.suppress(BrokenPipeError):
        out.close()


def test_31_a_deadline_holds_while_the_output_is_stuck(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a blocked output, a wait of ten minutes takes ten minutes, however many lines there are."""
    world = World.of()
    job = world.job(ends=None, lines=[SimulatedLine(float(number), "x" * 50_000) for number in range(500)])
    monkeypatch.setattr(sys, "stdout", pipe[1])
    with pytest.raises(WaitTimeoutError):
        job.wait(timeout=600)
    assert 600 <= world.aws.now <= 601
    assert 0 < len(os.read(pipe[0], 1 << 20)) < 1 << 20


def test_31_a_slow_output_loses_nothing(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is paused while the job ends has every line afterwards, in order."""
    world = World.of()
    written = [SimulatedLine(number / 10, f"{number} {'x' * 50_000}") for number in range(500)]
    job = world.job(ends=60, lines=written)
    shown: list[str] = []

    def read() -> None:
        with (condition := threading.Condition()):
            world.clock.wait(condition, 300.0)
        with os.fdopen(os.dup(pipe[0])) as lines:
            shown.extend(itertools.islice(lines, len(written)))

    monkeypatch.setattr(sys, "stdout", pipe[1])
    reader = threading.Thread(target=read)
    reader.start()
    assert job.wait() is job
    reader.join(60)
    assert shown == [f"{line.message}\n" for line in written]


def test_32_the_content_of_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are kept in the line, and shown as escapes; a line of ten megabytes stays one."""
    long = "é" * 5_000_000
    world = World.of()
    pieces = [SimulatedLine(2.0, long[start : start + 131_059]) for start in range(0, len(long), 131_059)]
    job = world.job(ends=60, lines=[SimulatedLine(1.0, "a\x00b\x1b[2Jc\ufffd"), *pieces, SimulatedLine(3.0, "after")])
    expected = ["a\x00b\x1b[2Jc\ufffd", long, "after"]
    messages = followed(job)
    assert [len(message) for message in messages] == [len(message) for message in expected]
    assert messages == expected
    job.wait()
    shown = capsys.readouterr().out.splitlines()
    assert (shown[0], shown[1] == long, shown[2:]) == ("a\\x00b\\x1b[2Jc\ufffd", True, ["after"])


# 33 to 35: stopping.


def test_33_stopping_an_ended_job_is_a_success() -> None:
    """The job keeps its status."""
    world = World.of()
    job = world.job(ends=10)
    world.clock.advance(20)
    job.stop()
    assert job.status == "Completed"


@pytest.mark.parametrize("kind", ["reset_after", "timeout_after", "error500", "throttle", "double"])
def test_34_a_stop_whose_answer_is_lost(kind: FaultKind) -> None:
    """The job stops once, and its wait shows that."""
    world = World.of()
    job = world.job(ends=3600, lines=lines(1, every=1.0))
    world.aws.faults.on("StopProcessingJob", kind)
    job.stop()
    with pytest.raises(processing.JobStoppedError):
        job.wait()
    assert [event.status for event in job.events() if isinstance(event, StatusChanged)] == ["Stopped"]
    assert world.aws.now < 60 + HANG


def test_35_stopping_a_fleet_that_is_being_submitted() -> None:
    """After `stop` no job is created any more, and the existing ones are stopped."""
    world = World.of(quotas=PUBLISHED_QUOTAS, life=lambda _: Life(ends=3600))
    create, ten = world.aws.service.handlers["CreateProcessingJob"], threading.Event()
    created: list[str] = []

    def counted(params: dict[str, Any]) -> Mapping[str, Any]:
        answer = create(params)
        created.append(params["ProcessingJobName"])
        if len(created) == 10:
            ten.set()
        return answer

    world.aws.service.handlers["CreateProcessingJob"] = counted
    processor = Processor(
        "arn:aws:iam::123456789012:role/etl",
        "image",
        1,
        "ml.m5.large",
        entrypoint=["true"],
        sagemaker_session=world.session,
    )
    fleet = processing.submit_all(processor, ({} for _ in range(10_000)), name="fleet", block=False)
    assert ten.wait(timeout=60)
    fleet.stop()
    stopped = len(created)
    world.clock.advance(600)
    done, not_done = fleet.wait(timeout=60)
    assert 10 <= len(created) == stopped < 10_000
    assert ({job.job_name for job in done}, not_done) == (set(created), set())
    assert fleet.statuses() == {"Stopped": stopped}


# 41 and 42: the ends of a wait, and denials that do not end it.


def test_41_a_deadline() -> None:
    """The error names the job; it goes on, and can be waited for again."""
    world = World.of()
    job = world.job(ends=3600)
    with pytest.raises(WaitTimeoutError, match="job") as raised:
        job.wait(timeout=100)
    assert world.aws.now == pytest.approx(100, abs=0.01)
    assert raised.value.job_name == "job"
    assert job.wait() is job


class Interrupted(VirtualClock):
    """A clock with a Ctrl-C at a moment."""

    presses = 1

    def _press(self) -> None:
        if self.presses and self.monotonic() > 100:
            self.presses -= 1
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._press()

    def wait(self, condition: Any, seconds: float) -> None:
        super().wait(condition, seconds)
        self._press()


@pytest.mark.parametrize("count", [1, 30])
def test_41_ctrl_c_detaches_with_commands(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """It is passed on, the jobs go on, and a message shows how to attach and how to stop; another wait works."""
    clock = Interrupted()
    aws = SimulatedAws(clock)
    world = World(clock, aws, aws.session())
    jobs = world.jobs(count, lambda _: 3600.0)
    wait = jobs[0].wait if count == 1 else lambda: processing.wait(jobs)
    with caplog.at_level(logging.WARNING, "processing"), pytest.raises(KeyboardInterrupt):
        wait()
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "attach" in said
    assert "stop" in said
    assert jobs[0].job_name[:-2] in said
    assert {job.status for job in jobs} == {"InProgress"}
    assert len(processing.wait(jobs).done) == count


@pytest.mark.parametrize("count", [1, 30])
def test_42_logs_denied_status_allowed(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """The wait goes on, and one warning says that the lines cannot be read."""
    world = World.of()
    world.aws.logs.denied |= {"FilterLogEvents", "GetLogEvents", "DescribeLogStreams"}
    jobs = world.jobs(count, lambda number: 100.0 + number)
    with caplog.at_level(logging.WARNING, "processing"):
        events = list(processing.events(jobs))
    assert sum(isinstance(event, StatusChanged) and event.status == "Completed" for event in events) == count
    assert len(caplog.records) == 1
    assert "not allowed" in caplog.text


def test_42_status_denied_logs_allowed() -> None:
    """Without permission for the status, the wait ends with an error about it, and not botocore's own."""
    world = World.of()
    job = world.job(ends=3600)
    world.storm("denied", 100, 7200)
    with pytest.raises(processing.WatchError, match="job") as raised:
        job.wait()
    assert raised.value.status == "InProgress"
    assert raised.value.__cause__ is not None
    assert world.aws.now < 200
