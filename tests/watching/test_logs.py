"""Log lines: each is delivered once, no matter how CloudWatch delivers them."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import logging
import random
import types
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from botocore.exceptions import ClientError
from hypothesis import strategies as st

from processing.aws.retry import RetryingApi
from processing.testing.clock import VirtualClock
from processing.testing.cloudwatch import ScriptedLine, ScriptedLogs
from processing.testing.faults import FaultInjector, FaultKind
from processing.testing.wire import JsonService, ServiceError, make_client
from processing.watching.checkpoint import Checkpoint
from processing.watching.events import LogEvent
from processing.watching.logs.batch import LogBatch
from processing.watching.logs.endings import LogsComplete
from processing.watching.logs.history import read_all
from processing.watching.logs.reader import LogReader
from processing.watching.logs.router import host_of
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


JOB = "clean"
START = 1_700_000_000_000  # ms since the epoch; where the virtual clock begins
CREATED = dt.datetime.fromtimestamp(START / 1000, tz=dt.timezone.utc)
DESCRIPTION = {"ProcessingJobName": JOB, "CreationTime": CREATED, "ProcessingEndTime": CREATED}


def line(number: int, *, at: float, delay: float = 0.0, host: int = 1, text: str = "") -> ScriptedLine:
    """Return a line written `at` seconds after the start and readable `delay` seconds later."""
    written = START + round(at * 1000)
    stream = f"{JOB}/algo-{host}-1700000000"
    return ScriptedLine(stream, written, written + round(delay * 1000), f"{number:056d}", text or f"line {number}")


def poll(reader: LogReader) -> Generator[LogEvent | LogsComplete, None, None]:
    """Yield what a reader gives, line by line."""
    for item in reader.read():
        if isinstance(item, LogBatch):
            yield from item
        else:
            yield item


class World:
    """A simulated CloudWatch with lines, a clock, and a reader."""

    def __init__(self, lines: list[ScriptedLine], polling: Polling | None = None, **liberties: Any) -> None:
        self.clock = VirtualClock()
        self.logs = ScriptedLogs(lines, self.clock, **liberties)
        self.faults = FaultInjector(seed=11)
        self.service = JsonService(self.logs.handlers(), clock=self.clock)
        client = make_client("logs", self.faults.wrap(self.service))
        self.api = RetryingApi(lambda _: client, clock=self.clock, random=random.Random(2))
        self.polling = polling or Polling()
        self.reader = LogReader(self.api, self.polling, random=random.Random(3))
        self.reader.add(JOB, START)
        self.complete: list[LogsComplete] = []

    def poll(self) -> list[LogEvent]:
        """Return the lines that a poll gives."""
        items = list(poll(self.reader))
        self.complete += [item for item in items if isinstance(item, LogsComplete)]
        return [item for item in items if isinstance(item, LogEvent)]

    def follow(self, seconds: float) -> list[LogEvent]:
        """Poll whenever it is due for so long, then until the lines are complete."""
        got: list[LogEvent] = []
        while self.clock.monotonic() < seconds:
            got += self.poll()
            due = self.reader.due
            self.clock.sleep((seconds if due is None else min(seconds, due)) - self.clock.monotonic())
        return [*got, *self.finish()]

    def finish(self, *, ended_at: float | None = None, all_arrived: bool = False) -> list[LogEvent]:
        """End the job, by default now, and return its last lines."""
        self.reader.mark_ended(
            JOB, ended_at=self.clock.time() if ended_at is None else ended_at, all_arrived=all_arrived
        )
        got: list[LogEvent] = []
        while (due := self.reader.due) is not None:
            self.clock.sleep(due - self.clock.monotonic())
            got += self.poll()
        return got


def texts(events: list[LogEvent]) -> list[str]:
    return [event.message for event in events]


# Most lines come at once, some minutes late, and many share a millisecond.
DELAYS = st.one_of(st.just(0.0), st.floats(0, 5), st.floats(0, 400))
HISTORIES = st.lists(st.tuples(st.integers(0, 300), DELAYS, st.integers(1, 3)), max_size=60)


def histories(drawn: list[tuple[int, float, int]], end: float) -> list[ScriptedLine]:
    """Return lines of a job that ends at `end`: the last of them arrive before the settle time is over."""
    lines = []
    for number, (at, delay, host) in enumerate(drawn):
        in_time = min(delay, end + 0.9 - at)
        lines.append(line(number, at=float(at), delay=in_time, host=host, text=f"line {at}"))
    return lines


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(drawn=HISTORIES, seed=st.integers(0, 10_000), filtered=st.booleans())
def test_every_line_is_delivered_once(drawn: list[tuple[int, float, int]], seed: int, filtered: bool) -> None:
    """For any history, paging and delay, the delivered lines are the written ones, with either source."""
    lines = histories(drawn, end=301.0)
    world = World(lines, seed=seed, call_seconds=0.05)
    if not filtered:
        world.logs.denied.add("FilterLogEvents")
    got = world.follow(301.0)
    written = Counter((entry.stream, entry.timestamp, entry.message) for entry in lines)
    assert Counter((event.stream, event.timestamp, event.message) for event in got) == written
    newest: dict[str, int] = {}
    for event in got:
        assert event.late == (event.timestamp < newest.get(event.stream, 0))
        newest[event.stream] = max(event.timestamp, newest.get(event.stream, 0))


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(drawn=HISTORIES, seed=st.integers(0, 10_000))
def test_every_line_is_delivered_once_under_faults(drawn: list[tuple[int, float, int]], seed: int) -> None:
    """The same if a tenth of the calls fail, in every way."""
    lines = histories(drawn, end=301.0)
    world = World(lines, seed=seed)
    kinds: list[FaultKind] = ["throttle", "error503", "reset_before", "reset_after", "truncate"]
    for kind in kinds:
        world.faults.on("*", kind, probability=0.02)
    got = world.follow(301.0)
    assert sorted(event.event_id for event in got) == sorted(entry.event_id for entry in lines)


def test_a_line_that_is_an_hour_late_is_found_at_the_end() -> None:
    """No lateness loses a line, as long as it is readable when the job has ended."""
    world = World([line(1, at=1), line(2, at=2, delay=3500), line(3, at=3000)])
    got = world.follow(3600)
    assert texts(got) == ["line 1", "line 3", "line 2"]
    assert [event.late for event in got] == [False, False, True]


def test_a_line_that_is_a_little_late_comes_with_the_next_poll() -> None:
    """A line that is late within the bound is not held back until the job has ended."""
    world = World([line(1, at=50), line(2, at=1, delay=55)])
    world.clock.advance(51)
    assert texts(world.poll()) == ["line 1"]
    world.clock.advance(10)
    assert texts(world.poll()) == ["line 2"]


def test_a_late_line_is_marked() -> None:
    """A line that arrives after a newer one of its stream is marked; an older line of another host is not late."""
    world = World([line(1, at=5), line(2, at=1, delay=10), line(3, at=2, delay=10, host=2)])
    got = world.follow(20)
    assert [(event.message, event.late) for event in got] == [("line 1", False), ("line 2", True), ("line 3", False)]


def test_lines_of_one_millisecond_are_all_delivered() -> None:
    """A hundred equal lines in one millisecond are a hundred lines, with or without ids."""
    for denied in (set(), {"FilterLogEvents"}):
        world = World([line(number, at=1, text="same") for number in range(100)], page=7)
        world.logs.denied |= denied
        assert texts(world.follow(5)) == ["same"] * 100


def test_more_than_fifty_hosts_are_all_read() -> None:
    """DescribeLogStreams returns fifty streams at a time; every page is read."""
    world = World([line(number, at=1, host=number) for number in range(1, 121)], page=50)
    world.logs.denied.add("FilterLogEvents")
    got = world.follow(3)
    assert len({event.host for event in got}) == len(got) == 120


def test_a_host_that_appears_late_is_read() -> None:
    """A stream that is created an hour after the start is found."""
    for denied in (set(), {"FilterLogEvents"}):
        world = World([line(1, at=1), line(2, at=3000, host=2)])
        world.logs.denied |= denied
        assert texts(world.follow(3600)) == ["line 1", "line 2"]


def test_a_missing_log_group_is_no_error() -> None:
    """Before the first line neither group nor stream exists."""
    for denied in (set(), {"FilterLogEvents"}):
        world = World([line(1, at=50)])
        world.logs.denied |= denied
        assert world.poll() == []
        assert texts(world.follow(60)) == ["line 1"]


def test_a_clock_that_is_ahead_hides_no_other_lines() -> None:
    """If the clock of one host is a day ahead, the lines of the other still arrive as they are written."""
    ahead = ScriptedLine(f"{JOB}/algo-1-1", START + 86_400_000, START + 1000, "1", "from tomorrow")
    world = World([ahead, line(2, at=200, host=2)])
    world.clock.advance(100)
    assert texts(world.poll()) == ["from tomorrow"]
    world.clock.advance(101)
    assert texts(world.poll()) == ["line 2"]


def test_polls_read_again_no_more_than_they_have_to() -> None:
    """An hour of lines costs about a page per poll, not all lines each time."""
    world = World([line(number, at=float(number)) for number in range(3600)], page=10_000)
    got = world.follow(3600)
    assert len(got) == 3600
    assert len(world.faults.calls) < 3600 / 10 + 20


def test_a_denied_filter_is_asked_once() -> None:
    """Without the permission for FilterLogEvents the streams are read one by one from then on."""
    world = World([line(1, at=1), line(2, at=100)])
    world.logs.denied.add("FilterLogEvents")
    assert texts(world.follow(120)) == ["line 1", "line 2"]
    assert world.faults.count()["FilterLogEvents"] == 1


def test_denied_logs_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Without any permission there are no lines, one warning, and no further calls."""
    world = World([line(1, at=1)])
    world.logs.denied |= {"FilterLogEvents", "DescribeLogStreams"}
    with caplog.at_level(logging.WARNING, "processing"):
        assert world.follow(60) == []
    assert len(caplog.records) == 1
    assert "not allowed" in caplog.text
    assert len(world.faults.calls) == 2


def test_another_refusal_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """An error that is neither a denial nor an absence is raised by `read_all` and one warning while following."""

    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise ServiceError("InvalidParameterException", "no")

    world = World([])
    world.service.handlers["FilterLogEvents"] = refuse
    with pytest.raises(ClientError, match="InvalidParameterException"):
        list(read_all(world.api, JOB, DESCRIPTION))
    with caplog.at_level(logging.WARNING, "processing"):
        assert world.follow(60) == []
    assert len(caplog.records) == 1
    assert "the logs of clean cannot be shown, they cannot be read" in caplog.text
    assert world.complete == [LogsComplete(JOB, 0, gave_up=True)]


@pytest.mark.parametrize("filtered", [True, False])
def test_tokens_that_expire_are_replaced(filtered: bool) -> None:
    """An expired token costs a fresh start, but no line is lost or doubled."""
    world = World([line(number, at=1) for number in range(10)], page=2)
    if not filtered:
        world.logs.denied.add("FilterLogEvents")
    world.clock.advance(5)
    polled = (item for item in poll(world.reader) if isinstance(item, LogEvent))
    first = next(polled)
    world.logs.forget_tokens()
    assert sorted(texts([first, *polled])) == [f"line {number}" for number in range(10)]
    world.logs.forget_tokens()
    assert world.poll() == []


def test_a_token_that_never_changes_ends_the_sweep() -> None:
    """A service that returns the same empty page forever is not called forever."""
    world = World([])
    world.service.handlers["FilterLogEvents"] = lambda _: {"events": [], "nextToken": "same"}
    assert world.poll() == []
    assert len(world.faults.calls) < 20


def test_the_end_waits_for_the_last_lines() -> None:
    """Lines that arrive after the end of the job are awaited until two sweeps are quiet."""
    world = World([line(number, at=1, delay=10 + 0.8 * number) for number in range(10)])
    world.clock.advance(10)
    assert len(world.finish()) == 10
    assert world.clock.sleeps[-2:] == pytest.approx([world.polling.settle] * 2)


def test_without_a_grace_the_end_is_instant() -> None:
    """With a grace of 0, as on the engine, nothing is awaited, no matter how late earlier lines were."""
    world = World([line(number, at=float(number), delay=4.0) for number in range(20)], Polling(settle=0.0, grace=0.0))
    world.clock.advance(100.7)  # the time of answers has whole seconds only: that is not waited for
    assert len(world.finish()) == 20
    assert world.clock.monotonic() == 100.7


@pytest.mark.parametrize(("after", "sweeps"), [(4.0, 2), (6.0, 1)])
def test_long_after_the_end_one_sweep_is_enough(after: float, sweeps: int) -> None:
    """If twice the grace has passed when the end is seen, a second sweep would add nothing."""
    world = World([line(number, at=-1.0, delay=0.2) for number in range(20)], page=1000)
    world.reader.add(JOB, START - 5000)
    world.clock.advance(after)
    assert len(world.finish(ended_at=START / 1000)) == 20
    assert len(world.service.calls) == sweeps


@pytest.mark.parametrize(("delay", "least"), [(0.2, 2.5), (4.0, 4.0), (60.0, 10.0)])
def test_no_sweep_is_the_last_before_a_line_may_have_come(delay: float, least: float) -> None:
    """After the end lines are awaited for a while, or for as long as they were late before, within reason."""
    world = World([line(number, at=float(number), delay=delay) for number in range(20)], page=1000)
    assert len(world.follow(100.0)) == 20
    assert least <= world.clock.monotonic() - 100.0 <= least + 1.0 + world.polling.settle


def test_the_wait_for_the_last_lines_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A stream that is written to forever does not delay the end forever, and a warning reports that."""
    world = World([line(number, at=number / 10) for number in range(1000)], page=1000)
    world.clock.advance(5)
    with caplog.at_level(logging.WARNING, "processing"):
        got = world.finish()
    assert 350 <= len(got) <= 360
    assert 35 <= world.clock.monotonic() < 36
    assert "still came in 30 seconds after the job's end" in caplog.text
    assert world.complete == [LogsComplete(JOB, len(got), gave_up=True)]


def test_a_job_that_ended_long_ago_is_read_once() -> None:
    """If no line can be on its way any more, one sweep is enough."""
    world = World([line(number, at=1) for number in range(10)], page=5)
    world.clock.advance(9999)
    assert len(world.finish(all_arrived=True)) == 10
    assert world.faults.count() == {"FilterLogEvents": 2}


@pytest.mark.parametrize("filtered", [True, False])
def test_reading_all_is_ordered_by_time(filtered: bool) -> None:
    """The lines of all hosts are merged by their timestamps."""
    lines = [line(number, at=100 - number, host=number % 3 + 1) for number in range(50)]
    world = World(lines, page=7)
    if not filtered:
        world.logs.denied.add("FilterLogEvents")
    world.clock.advance(200)
    assert texts(list(read_all(world.api, JOB, DESCRIPTION))) == [f"line {number}" for number in range(49, -1, -1)]
    assert texts(list(read_all(world.api, JOB, DESCRIPTION, tail=3))) == ["line 2", "line 1", "line 0"]


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("tail", [1, 50, 120, 2000])
def test_the_last_lines_are_read_from_the_end(filtered: bool, ended: bool, tail: int) -> None:
    """Reading goes as far back as the last lines do and little further, however long the log is."""
    lines = [line(number, at=number, host=number % 2 + 1) for number in range(1000)]
    world = World(lines, page=10)
    if not filtered:
        world.logs.denied.add("FilterLogEvents")
    world.clock.advance(1000)
    description = {
        **DESCRIPTION,
        "ProcessingEndTime": dt.datetime.fromtimestamp(world.clock.time(), tz=dt.timezone.utc),
    }
    if not ended:
        del description["ProcessingEndTime"]
    found = texts(list(read_all(world.api, JOB, description, tail=tail)))
    assert found == [f"line {number}" for number in range(max(0, 1000 - tail), 1000)]
    assert len(world.service.calls) <= {1: 12, 50: 12, 120: 65, 2000: 170}[tail]


@pytest.mark.parametrize("tail", [1, 2])
def test_a_last_line_is_whole_that_began_long_before(tail: int) -> None:
    """The first piece of a line may be further back than the range that is read."""
    pieces = [line(1, at=904.9, text="a" * 16_384), line(2, at=905.4, text="b")]
    world = World([line(0, at=1), *pieces])
    world.clock.advance(965.2)
    found = texts(list(read_all(world.api, JOB, {"ProcessingJobName": JOB, "CreationTime": CREATED}, tail=tail)))
    assert found[-1] == "a" * 16_384 + "b"


def test_reading_all_leaves_out_an_older_job() -> None:
    """Lines from before the job belong to an older job of its name."""
    world = World([line(1, at=-50, text="of another job"), line(2, at=1)])
    world.clock.advance(5)
    assert texts(list(read_all(world.api, JOB, DESCRIPTION))) == ["line 2"]


@pytest.mark.parametrize(("complete", "expected"), [(True, ["line 1", "line 2"]), (False, ["line 1"])])
def test_reading_all_of_a_job_that_ended_just_now(complete: bool, expected: list[str]) -> None:
    """The last lines are awaited on request."""
    world = World([line(1, at=0), line(2, at=0, delay=0.9)])
    assert texts(list(read_all(world.api, JOB, DESCRIPTION, tail=5, complete=complete))) == expected


def test_reading_all_reads_page_by_page() -> None:
    """The first lines are available before the last ones are read."""
    world = World([line(number, at=1) for number in range(100)], page=10)
    world.clock.advance(5)
    lines = read_all(world.api, JOB, DESCRIPTION)
    assert next(lines).message == "line 0"
    assert len(world.faults.calls) == 1


@pytest.mark.parametrize("operation", ["FilterLogEvents", "GetLogEvents"])
def test_tokens_that_are_always_refused_end_the_reading(operation: str) -> None:
    """If every token is refused, reading ends with that error instead of starting again forever."""
    world = World([line(number, at=0) for number in range(10)])
    if operation == "GetLogEvents":
        world.logs.denied.add("FilterLogEvents")
    read = world.service.handlers[operation]

    def refuse_tokens(params: dict[str, Any]) -> Mapping[str, Any]:
        world.logs.forget_tokens()
        return read(params)

    world.service.handlers[operation] = refuse_tokens
    with pytest.raises(ClientError, match="nextToken"):
        list(read_all(world.api, JOB, DESCRIPTION))


def test_lines_are_kept_whole() -> None:
    """Lines are not changed: not by escapes, not by their length, not by bytes that are no text."""
    odd = ["", "\x1b[31mred\x1b[0m", "nul \x00 nul", "tab\tline\r", "\ufffd", "x" * 250_000]
    world = World([line(number, at=1, text=text or " ") for number, text in enumerate(odd)])
    assert texts(world.follow(3)) == [text or " " for text in odd]


@pytest.mark.parametrize(
    ("stream", "host"),
    [("clean/algo-1-1700000000", "algo-1"), ("clean/algo-12-1", "algo-12"), ("clean/other", "other"), ("x", "x")],
)
def test_the_host_is_read_from_the_stream(stream: str, host: str) -> None:
    """SageMaker names streams by instance; another name is shown as it is."""
    assert host_of(stream) == host


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("taken", [1, 7, 300, 999, 1000])
def test_a_checkpoint_amid_a_page_is_exact(filtered: bool, taken: int) -> None:
    """A consumer can stop at any line of a page; another process or the same reader continues from there."""
    lines = [line(number, at=number // 3 / 100, host=number % 2 + 1) for number in range(1000)]
    for same in (True, False):
        world = World(lines, page=1000)
        if not filtered:
            world.logs.denied.add("FilterLogEvents")
        world.clock.advance(15)
        polled = poll(world.reader)
        first = texts([item for item in itertools.islice(polled, taken) if isinstance(item, LogEvent)])
        polled.close()
        if not same:
            saved = Checkpoint.from_json(world.reader.checkpoint().to_json())
            world.reader = LogReader(world.api, world.polling, checkpoint=saved)
            world.reader.add(JOB, START)
        rest = texts(world.finish())
        assert sorted([*first, *rest]) == sorted(f"line {number}" for number in range(1000))
        assert [each.count for each in world.complete] == [1000]


def test_known_pages_are_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeps after the end of a job scan ids, and parse only the parts with new lines."""
    world = World([line(number, at=number / 100) for number in range(1000)] + [line(2000, at=5, delay=15.5)], page=100)
    world.clock.advance(20)
    assert len(world.poll()) == 1000
    read: list[int] = []
    loads = json.loads

    def counted(body: bytes) -> Any:
        answer = loads(body)
        read.append(len(answer.get("events", ())))
        return answer

    monkeypatch.setattr("processing.watching.logs.page.json", types.SimpleNamespace(loads=counted))
    assert texts(world.finish()) == ["line 2000"]
    assert sum(read) <= 400
