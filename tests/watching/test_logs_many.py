"""The lines of many jobs: few calls, each line to its job, and continuation in another process."""

from __future__ import annotations

import logging
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import strategies as st

from processing.aws.retry import RetryingApi
from processing.exceptions import ConfigurationError
from processing.testing.clock import VirtualClock
from processing.testing.cloudwatch import ScriptedLine, ScriptedLogs
from processing.testing.faults import FaultInjector
from processing.testing.wire import JsonService, make_client
from processing.watching.checkpoint import Checkpoint
from processing.watching.events import LogEvent
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.endings import LogsComplete
from processing.watching.logs.reader import LogReader
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

START = 1_700_000_000_000  # ms since the epoch; where the virtual clock begins


def line(number: int, job: str, *, at: float, delay: float = 0.0, host: int = 1, text: str = "") -> ScriptedLine:
    """Return a line written `at` seconds after the start and readable `delay` seconds later."""
    written = START + round(at * 1000)
    stream = f"{job}/algo-{host}-1700000000"
    return ScriptedLine(stream, written, written + round(delay * 1000), f"{number:056d}", text or f"{job} {number}")


def poll(reader: LogReader) -> Generator[LogEvent | LogsComplete, None, None]:
    """Yield what a reader gives, line by line."""
    for item in reader.read():
        if isinstance(item, LogBatch):
            yield from item
        else:
            yield item


class World:
    """A simulated CloudWatch with lines, and readers one after the other."""

    def __init__(self, lines: list[ScriptedLine], **liberties: Any) -> None:
        self.clock = VirtualClock()
        self.logs = ScriptedLogs(lines, self.clock, **liberties)
        self.faults = FaultInjector(seed=11)
        self.prefixes: list[str] = []
        handlers = self.logs.handlers()
        self._filter = handlers["FilterLogEvents"]
        service = JsonService({**handlers, "FilterLogEvents": self.filter}, clock=self.clock)
        client = make_client("logs", self.faults.wrap(service))
        self.api = RetryingApi(lambda _: client, clock=self.clock, random=random.Random(2))
        self.given: list[LogEvent] = []
        self.complete: dict[str, int] = {}

    def filter(self, params: dict[str, Any]) -> Mapping[str, Any]:
        self.prefixes.append(params["logStreamNamePrefix"])
        return self._filter(params)

    def reader(self, jobs: Sequence[str] = (), **options: Any) -> LogReader:
        reader = LogReader(self.api, Polling(), random=random.Random(3), **options)
        for job in jobs:
            reader.add(job, START)
        return reader

    def follow(self, reader: LogReader, ends: Mapping[str, float], *, lines: int | None = None) -> bool:
        """Poll whenever it is due until all jobs are complete; or until so many lines came, and return whether."""
        left = dict(ends)
        while True:
            now = self.clock.monotonic()
            for job, end in [(job, end) for job, end in left.items() if end <= now]:
                del left[job]
                if job not in self.complete:
                    reader.mark_ended(job, ended_at=START / 1000 + end, all_arrived=False)
            for item in poll(reader):
                if isinstance(item, LogsComplete):
                    assert item.job_name not in self.complete
                    self.complete[item.job_name] = item.count
                    continue
                assert item.job_name not in self.complete
                self.given.append(item)
                if lines is not None and len(self.given) >= lines:
                    return True
            due = reader.due
            moments = [*left.values(), *([] if due is None else [due])]
            if not moments:
                return False
            self.clock.sleep(max(0.0, min(moments) - now))


def told(events: list[LogEvent]) -> Counter[tuple[str, str, str]]:
    return Counter((event.job_name, event.event_id, event.message) for event in events)


def written(lines: list[ScriptedLine]) -> Counter[tuple[str, str, str]]:
    return Counter((entry.stream.partition("/")[0], entry.event_id, entry.message) for entry in lines)


NAMES = ["run-a", "run-b", "run-b-2", "other"]
DELAYS = st.one_of(st.just(0.0), st.floats(0, 5), st.floats(0, 200))
HISTORIES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 200), DELAYS, st.integers(1, 2)), min_size=1, max_size=40
)
ENDS = st.lists(st.integers(200, 260), min_size=len(NAMES), max_size=len(NAMES))


def history(drawn: list[tuple[str, int, float, int]], ends: Mapping[str, float]) -> list[ScriptedLine]:
    return [
        line(number, job, at=at, delay=min(delay, ends[job] + 0.5 - at), host=host)
        for number, (job, at, delay, host) in enumerate(drawn)
    ]


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(HISTORIES, ENDS, st.integers(0, 10_000))
def test_every_line_goes_to_its_job_once(drawn: Any, ends: list[int], seed: int) -> None:
    """Jobs of one run and others, with faults: each line is delivered once, and before its job is complete."""
    until = dict(zip(NAMES, map(float, ends), strict=True))
    lines = history(drawn, until)
    world = World(lines, seed=seed, call_seconds=0.01)
    for kind in ("throttle", "error503", "reset_after", "truncate"):
        world.faults.on("*", kind, probability=0.02)
    world.follow(world.reader(NAMES), until)
    assert told(world.given) == written(lines)
    counts = Counter(event.job_name for event in world.given)
    assert world.complete == {name: counts[name] for name in NAMES}


AMID_A_STREAM = [
    ("run-b-2", 144, 0.0, 1),
    ("run-b-2", 196, 116.51571805700256, 1),
    ("run-a", 167, 0.0, 2),
    ("run-b-2", 152, 4.184749364488525, 2),
]
"""Where a page of GetLogEvents was empty, with the same token for the same moment, before the stream was at its end."""


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.example(drawn=AMID_A_STREAM, ends=[212, 250, 226, 211], seed=4336, cut=26, filtered=False)
@hypothesis.given(
    drawn=HISTORIES, ends=ENDS, seed=st.integers(0, 10_000), cut=st.integers(1, 40), filtered=st.booleans()
)
def test_another_process_continues_from_a_checkpoint(
    drawn: Any, ends: list[int], seed: int, cut: int, filtered: bool
) -> None:
    """Wherever a process stops, even within a page, the next one delivers the rest: no gap and no repeat."""
    until = dict(zip(NAMES, map(float, ends), strict=True))
    lines = history(drawn, until)
    world = World(lines, seed=seed)
    if not filtered:
        world.logs.denied.add("FilterLogEvents")
    reader = world.reader(NAMES)
    if world.follow(reader, until, lines=cut):
        checkpoint = Checkpoint.from_json(reader.checkpoint().to_json())
        world.follow(world.reader(NAMES, checkpoint=checkpoint), until)
    messages = Counter((entry.stream, entry.timestamp, entry.message) for entry in lines)
    assert Counter((event.stream, event.timestamp, event.message) for event in world.given) == messages
    assert set(world.complete) == set(NAMES)


def test_a_job_that_was_complete_stays_so() -> None:
    """The next process reports it as complete again, without its lines and without a call."""
    world = World([line(1, "clean", at=1)])
    reader = world.reader(["clean"])
    world.follow(reader, {"clean": 2.0})
    calls = len(world.faults.calls)
    again = world.reader(["clean"], checkpoint=reader.checkpoint())
    again.mark_ended("clean", ended_at=START / 1000 + 2, all_arrived=False)
    assert list(poll(again)) == [LogsComplete("clean", 1, gave_up=False)]
    assert len(world.faults.calls) == calls
    assert again.due is None
    assert Checkpoint.from_json(again.checkpoint().to_json()) == reader.checkpoint()


def test_a_checkpoint_of_another_job_of_the_name_is_not_used() -> None:
    """A job that was created later has lines of its own."""
    world = World([line(1, "clean", at=1), line(2, "clean", at=100)])
    reader = world.reader(["clean"])
    world.follow(reader, {"clean": 2.0})
    later = LogReader(world.api, Polling(), checkpoint=reader.checkpoint())
    later.add("clean", START + 50_000)
    world.clock.advance(100)
    assert [item.message for item in poll(later) if isinstance(item, LogEvent)] == ["clean 2"]


@pytest.mark.parametrize("text", ["", "[]", '{"version": 2, "jobs": {}}', '{"version": 1}', None])
def test_another_text_is_no_checkpoint(text: Any) -> None:
    """A text that to_json did not write is refused, and the error names the field."""
    with pytest.raises(ConfigurationError, match=r"^checkpoint: "):
        Checkpoint.from_json(text)


def test_a_damaged_checkpoint_is_refused() -> None:
    """A checkpoint with a damaged entry is refused when the job is added."""
    damaged = Checkpoint({"clean": {"since": START, "count": 1, "seen": {"1": "?"}, "newest": 1}})
    with pytest.raises(ConfigurationError, match=r"^checkpoint: .*clean"):
        World([]).reader(["clean"], checkpoint=damaged)


def test_a_thousand_jobs_of_one_run_cost_the_calls_of_one() -> None:
    """Their names begin alike, so their lines are read together, even if they end together."""
    names = [f"run-{number:04d}" for number in range(1000)]
    lines = [line(number, name, at=number / 100) for number, name in enumerate(names)]
    world = World(lines, page=10_000)
    world.follow(world.reader(names), dict.fromkeys(names, 60.0))
    assert told(world.given) == written(lines)
    assert len(world.complete) == 1000
    assert len(world.prefixes) < 30
    assert set(world.prefixes) == {"run-0"}


def test_jobs_that_end_one_by_one_are_swept_one_by_one() -> None:
    """Reading the last lines of one job does not read those of all other jobs again."""
    names = [f"run-{number}" for number in range(5)]
    world = World([line(number, name, at=1) for number, name in enumerate(names)], page=100)
    world.follow(world.reader(names), {name: 100.0 + 30 * number for number, name in enumerate(names)})
    assert {f"{name}/" for name in names} | {"run-"} == set(world.prefixes)


def test_jobs_whose_names_have_nothing_in_common_are_read_apart() -> None:
    """A prefix of fewer than four characters could match half of the account."""
    world = World([line(1, "alpha", at=1), line(2, "beta", at=1)])
    world.follow(world.reader(["alpha", "beta"]), {"alpha": 20.0, "beta": 20.0})
    assert set(world.prefixes) == {"alpha/", "beta/"}
    assert len(world.given) == 2


def test_lines_of_other_jobs_are_left_out() -> None:
    """A job of another user may have a name that begins alike."""
    world = World([line(1, "run-1", at=1), line(2, "run-2", at=1), line(3, "run-12", at=1), line(4, "run-1x", at=1)])
    world.follow(world.reader(["run-1", "run-2"]), {"run-1": 20.0, "run-2": 20.0})
    assert sorted(event.message for event in world.given) == ["run-1 1", "run-2 2"]


def test_a_job_that_is_added_later_is_read_from_its_beginning() -> None:
    """A job can be added while others are followed, and removed again."""
    world = World([line(number, f"run-{1 + number % 3}", at=float(number)) for number in range(100)], page=1000)
    reader = world.reader(["run-1"])
    world.clock.advance(50.5)
    assert len(list(poll(reader))) == 17
    reader.add("run-2", START)
    reader.add("run-3", START)
    reader.remove("run-3")
    world.clock.advance(49.5)
    assert Counter(item.job_name for item in poll(reader)) == {"run-1": 17, "run-2": 33}
    assert reader.pop_signs_of_life().keys() == {"run-1"}  # of the other it is not known yet how it writes
    world.clock.advance(50)
    assert list(poll(reader)) == []
    assert reader.pop_signs_of_life() == {}


def test_one_host_alone() -> None:
    """The lines of one host can be selected from a job with many."""
    world = World([line(number, "clean", at=1, host=number) for number in range(1, 13)], page=100)
    world.follow(world.reader(["clean"], host="algo-1"), {"clean": 5.0})
    assert [event.host for event in world.given] == ["algo-1"]


def test_a_chatty_job_is_read_often_and_a_silent_one_seldom() -> None:
    """An hour costs up to 360 calls with a line a second, and less than half without lines."""
    for lines, bounds in [([line(n, "clean", at=float(n)) for n in range(3600)], (200, 360)), ([], (10, 145))]:
        world = World(lines, page=10_000)
        world.follow(world.reader(["clean"]), {"clean": 3600.0})
        assert bounds[0] < len(world.prefixes) < bounds[1]
        assert len(world.given) == len(lines)


def test_lines_after_a_long_silence_are_shown_in_time() -> None:
    """A job that has been silent for an hour is still read."""
    world = World([line(1, "clean", at=1), line(2, "clean", at=3600.5)])
    reader = world.reader(["clean"])
    world.follow(reader, {"clean": 9999.0}, lines=2)
    assert world.clock.monotonic() < 3600.5 + Polling().quiet_logs + 1


def test_a_long_line_is_whole_across_pages_and_polls() -> None:
    """Pieces of a line from different calls are one line, and a checkpoint in between loses none of them."""
    pieces = ["a" * 16_384, "b" * 16_384, "end"]
    lines = [line(number, "clean", at=1, delay=20.0 * number, text=text) for number, text in enumerate(pieces)]
    world = World(lines, page=1)
    reader = world.reader(["clean"])
    world.clock.advance(2)
    assert list(poll(reader)) == []
    reader = world.reader(["clean"], checkpoint=reader.checkpoint())
    world.clock.advance(40)
    (whole,) = poll(reader)
    assert isinstance(whole, LogEvent)
    assert whole.message == "".join(pieces)


def test_an_outage_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """Ten minutes of throttling are one warning, and one message when they are over; no line is lost."""
    world = World([line(number, "clean", at=float(number)) for number in range(0, 1200, 5)], page=1000)
    world.faults.on("FilterLogEvents", "throttle", probability=1.0, when=lambda: 100 < world.clock.monotonic() < 700)
    with caplog.at_level(logging.INFO, "processing.watching"):
        world.follow(world.reader(["clean"]), {"clean": 1200.0})
    assert len(world.given) == 240
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == ["WARNING", "INFO"]
    assert "the log lines of jobs cannot be read at the moment, still trying" in said[0][1]
    assert len(world.faults.calls) < 700


def test_a_permission_that_is_taken_away_repeats_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """If FilterLogEvents is denied halfway, reading continues stream by stream from there."""
    world = World([line(number, "clean", at=float(number)) for number in range(100)], page=10)
    reader = world.reader(["clean"])
    world.follow(reader, {"clean": 100.0}, lines=50)
    world.logs.denied.add("FilterLogEvents")
    world.follow(reader, {"clean": 100.0})
    assert [event.message for event in world.given] == [f"clean {number}" for number in range(100)]


def test_logs_that_fail_for_long_after_the_end_are_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """An outage of the logs does not hold back the end of a job forever."""
    world = World([line(1, "clean", at=1)])
    world.faults.on("*", "error503", probability=1.0)
    reader = world.reader(["clean"])
    with caplog.at_level(logging.WARNING, "processing"):
        world.follow(reader, {"clean": 10.0})
    assert world.complete == {"clean": 0}
    assert 300 < world.clock.monotonic() < 400
    assert "the last log lines of clean could not be read" in caplog.text


def test_a_job_without_a_line_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """No group, no stream, no line: nothing is logged while the job runs, and one warning at its end."""
    world = World([])
    reader = world.reader(["clean"])
    with caplog.at_level(logging.WARNING, "processing"):
        world.follow(reader, {"clean": 1000.0})
    assert [record.getMessage() for record in caplog.records] == ["clean logged nothing"]
    assert world.complete == {"clean": 0}


def test_a_complete_job_stays_complete_until_its_notice() -> None:
    """A checkpoint that is taken before the notice keeps the job's lines out, and so does the sweep of its siblings."""
    names = ("run-a", "run-b", "run-c")
    world = World([line(5 * at + place, job, at=at) for place, job in enumerate(names) for at in range(5)])
    first = world.reader(["run-a"])
    world.follow(first, {"run-a": 10.0})
    again = world.reader(names, checkpoint=first.checkpoint())
    again.mark_ended("run-a", ended_at=START / 1000 + 10, all_arrived=True)
    assert again.checkpoint().jobs["run-a"] == {"since": START, "count": 5}
    world.given, world.complete = [], {}
    world.follow(again, {}, lines=10)
    assert Counter(item.job_name for item in world.given) == {"run-b": 5, "run-c": 5}


def test_the_retry_of_a_new_job_is_not_put_off_by_quiet_siblings() -> None:
    """If the first read of a new job fails, its lines come after the outage, not after the others' long pause."""
    lines = [line(0, "run-a", at=1), *(line(number, "run-b", at=441 + number) for number in range(100))]
    world = World(lines)
    reader = world.reader(["run-a"])
    while world.clock.monotonic() < 440:
        list(poll(reader))
        assert reader.due is not None
        world.clock.sleep(max(0.0, min(reader.due, 440.0) - world.clock.monotonic()))
    reader.add("run-b", START + 440_000)
    world.faults.on("FilterLogEvents", "error503", probability=1.0, when=lambda: 452 <= world.clock.monotonic() < 474)
    world.follow(reader, {}, lines=1)
    assert world.clock.monotonic() < 500
