"""The name of a deleted job is used again: the lines of the new job are not those of the old one."""

from __future__ import annotations

import contextlib

import pytest

import processing
from processing import WatchError
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine
from processing.watching.events import LogEvent


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize(("read", "begins"), [(1, "running"), (6, "running"), (3, "ended"), (11, "ended")])
def test_a_stream_has_the_lines_of_its_own_job(read: int, begins: str, hosts: int) -> None:
    """A consumer pauses, the job is deleted, and another one of its name writes on the same hosts and on a new one."""
    clock = VirtualClock()
    aws = SimulatedAws(clock, latency=0.05)
    old = [SimulatedLine(at=9.9 * number, message=f"old {number}", host=1 + number % hosts) for number in range(11)]
    aws.add_job("train", ends=100, hosts=hosts, lines=old)
    if begins == "ended":
        clock.advance(101)
    events = processing.attach("train", aws.session()).events()
    seen = [next(events) for _ in range(read)]
    clock.advance(max(0.1, 103 - aws.now))
    aws.delete_job("train")
    new = [SimulatedLine(at=2.0 * number, message=f"new {number}", host=1 + number % 2) for number in range(10)]
    aws.add_job("train", starts=aws.now, ends=aws.now + 300, hosts=2, lines=new)
    clock.advance(15)
    is_lost = pytest.raises(WatchError, match="another job has its name now")
    with is_lost if begins == "running" else contextlib.nullcontext():
        seen += events
    messages = [event.message for event in seen if isinstance(event, LogEvent)]
    assert messages == [line.message for line in old]
    lines = processing.attach("train", aws.session()).logs()
    assert [line.message for line in lines] == [line.message for line in new[:8]]
