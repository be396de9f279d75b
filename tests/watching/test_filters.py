"""The selection of lines: parsed from arguments, and applied while lines arrive."""

from __future__ import annotations

import random
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import ConfigurationError, ProcessingJob
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine
from processing.watching.events import LogEvent
from processing.watching.logs.filters import LogTail, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable

CLOCK = VirtualClock(1_700_000_000)


def line(number: int) -> LogEvent:
    return LogEvent("job", "algo-1", "job/algo-1-1", number, number, f"{number:08}", f"line {number}")


def test_arguments_are_parsed() -> None:
    """A moment or a length of time, the name or number of a host, a pattern as text or compiled."""
    moment = datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
    assert Selection.of(CLOCK, since=moment).since == 1_700_000_000_000
    assert Selection.of(CLOCK, since=timedelta(minutes=1)).since == 1_699_999_940_000
    assert Selection.of(CLOCK, host=3).host == Selection.of(CLOCK, host="algo-3").host == "algo-3"
    assert Selection.of(CLOCK, pattern="^a").pattern == Selection.of(CLOCK, pattern=re.compile("^a")).pattern
    assert Selection.of(CLOCK) == Selection()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("since", value) for value in (5, "yesterday", timedelta(seconds=-1))),
        *(("tail", value) for value in (0, -1, True, 2.5, "5")),
        *(("host", value) for value in (0, True, "algo-0", "algo", "algo-1-2", 1.0)),
        *(("pattern", value) for value in ("(", 5, b"a", re.compile(b"a"))),
    ],
)
def test_wrong_arguments_are_refused(field: str, value: Any) -> None:
    """The message begins with the field."""
    with pytest.raises(ConfigurationError, match=rf"^{field}: "):
        Selection.of(CLOCK, **{field: value})


def test_a_tail_holds_little() -> None:
    """It keeps the last lines by time for any order of arrival, without holding all of them."""
    tail, numbers = LogTail(10), list(range(20_000))
    random.Random(5).shuffle(numbers)
    for number in numbers:
        tail.add([line(number)])
        assert len(tail._lines) <= 1020
    assert [each.timestamp for each in tail.lines()] == list(range(19_990, 20_000))


@pytest.fixture
def job() -> ProcessingJob:
    """A job that has written a hundred lines on each of two hosts, and writes as many again."""
    aws = SimulatedAws(VirtualClock())
    lines = [SimulatedLine(n, f"{host}: {n}", host=host) for n in range(200) for host in (1, 2)]
    aws.add_job("job", ends=300, lines=lines, hosts=2)
    aws.clock.advance(100.5)
    return processing.attach("job", session=aws.session())


def messages(lines: Iterable[LogEvent]) -> list[str]:
    return [line.message for line in lines]


def test_lines_so_far(job: ProcessingJob) -> None:
    """One host, the last seconds, a pattern, and the last lines of these."""
    assert messages(job.logs(host=2)) == [f"2: {n}" for n in range(101)]
    assert messages(job.logs(host="algo-1", since=timedelta(seconds=3))) == ["1: 98", "1: 99", "1: 100"]
    assert messages(job.logs(pattern="1: .9$", tail=3)) == ["1: 79", "1: 89", "1: 99"]


def test_lines_to_come(job: ProcessingJob) -> None:
    """The same while following: the last lines so far, then all new ones."""
    followed = messages(job.logs(follow=True, host=2, tail=5))
    assert followed == [f"2: {n}" for n in range(96, 200)]
    assert job.sagemaker_session.poller._subscribers == {}


def test_following_from_a_moment_on(job: ProcessingJob) -> None:
    """Neither older lines nor lines without the pattern."""
    found = messages(job.logs(follow=True, since=timedelta(seconds=10), pattern="^1: .*5$"))
    assert found == [f"1: {n}" for n in range(95, 200, 10)]


def test_bad_input_is_refused_at_once(job: ProcessingJob) -> None:
    """The error is raised by the call, not by the first line."""
    with pytest.raises(ConfigurationError, match="tail: "):
        job.logs(follow=True, tail=0)
