"""Log lines as signs of life: they save status calls, and never hide the end of a job for long."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from processing import ProcessingJob
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine
from processing.watching.logs.liveness import Liveness
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST = Polling().longest
WORST = 15.0
"""Seconds from the end of a job to the return of those who wait for it, at most."""


def steady(
    until: float, gap: float = 1.0, host: int = 1, delay: float = 0.5, ahead: float = 0.0
) -> list[SimulatedLine]:
    """Return lines that a host writes regularly until a moment, with timestamps that are `ahead` of the true time."""
    moments = [10.0 + gap * number for number in range(int((until - 10) / gap) + 1)]
    return [SimulatedLine(moment + ahead, f"{host}: {moment}", host, delay - ahead) for moment in moments]


class Waited:
    """A wait, with logs, for a job that is simulated.

    Attributes:
        delay: the seconds from the job's end to the return.
        looks: how often it was described.
        readings: how often its lines were read.
    """

    def __init__(self, ends: float, lines: Iterable[SimulatedLine], *, hosts: int = 1, seed: int = 1) -> None:
        aws = SimulatedAws(VirtualClock(), seed=seed)
        lines = list(lines)
        aws.add_job("job", ends=ends, hosts=hosts, lines=lines)
        got = [event for event in ProcessingJob(aws.session(), "job").events(logs=True) if hasattr(event, "message")]
        assert len(got) == len(lines)
        self.delay = aws.now - ends
        self.looks = aws.calls["DescribeProcessingJob"]
        self.readings = aws.calls["FilterLogEvents"]


def ages(liveness: Liveness, values: Sequence[float]) -> list[bool]:
    return [liveness.observe(value, LONGEST) for value in values]


# What an age tells.


def test_the_first_age_proves_nothing() -> None:
    """Until it is known how often a job writes, a young line does not prove that it still runs."""
    assert not Liveness().observe(0.1, LONGEST)


def test_an_age_as_usual_is_a_sign_of_life_and_one_that_is_not_is_none() -> None:
    """A job that writes every second runs while its newest line is a second old, but not if it is five seconds old."""
    liveness = Liveness()
    assert ages(liveness, [1.0, 1.2, 0.8, 1.1, 0.1, 1.3, 5.0]) == [False, True, True, True, True, True, False]


def test_an_old_line_proves_nothing_however_usual() -> None:
    """The limit is half the longest interval: the job may have ended since then."""
    liveness = Liveness()
    assert ages(liveness, [LONGEST * 0.7] * 20) == [False] * 20
    assert ages(liveness, [LONGEST * 0.4]) == [True]


def test_hardly_an_age_of_a_steady_job_is_unusual() -> None:
    """For a job that writes regularly, nearly every read is a sign of life."""
    dice = random.Random(4)
    liveness = Liveness()
    told = ages(liveness, [dice.uniform(0.2, 3.0) for _ in range(500)])
    assert told.count(True) > 0.97 * len(told)


@pytest.mark.parametrize("age", [-3600.0, 1e9])
def test_a_clock_that_is_wrong_for_once_is_forgotten(age: float) -> None:
    """A line from the future or from long ago does not change the usual age for good."""
    liveness = Liveness()
    ages(liveness, [1.0] * 10)
    liveness.observe(age, LONGEST)
    ages(liveness, [1.0] * 20)
    assert liveness.usual == pytest.approx(1.0, abs=0.5)
    assert not liveness.observe(LONGEST / 2, LONGEST)


# What that saves, and that it hides no end.


@pytest.mark.parametrize("gap", [0.3, 1.0, 3.0, 10.0, 20.0, 60.0, 4000.0])
def test_half_an_hour_keeps_to_its_calls_however_often_it_writes(gap: float) -> None:
    """Status calls and reads together are hardly more than status calls: one in less than 14 seconds, and a few."""
    waited = Waited(1800.0, steady(1799.0, gap))
    assert waited.looks + waited.readings <= 1800 / 13 + 24
    assert waited.delay <= WORST


def test_a_chatty_job_needs_few_status_calls() -> None:
    """The lines of a chatty job are read instead."""
    assert Waited(1800.0, steady(1799.0, 0.3)).looks < 25


@pytest.mark.parametrize("offset", [0.0, 3.5, 7.0, 10.5])
@pytest.mark.parametrize("gap", [0.3, 1.0, 3.0, 5.0])
def test_a_job_that_dies_silently_is_found_in_time(gap: float, offset: float) -> None:
    """The end is seen soon, no matter when the last line came and how young it looked."""
    ends = 600.0 + offset
    assert Waited(ends, steady(ends - 0.01, gap, delay=1.5)).delay <= WORST


@pytest.mark.parametrize("silence", [3.0, 30.0, 300.0])
def test_a_job_that_falls_silent_before_its_end_is_found_in_time(silence: float) -> None:
    """If no line proves that it runs, its status is called for as for any silent job."""
    waited = Waited(900.0, steady(900.0 - silence))
    assert waited.delay <= WORST


@pytest.mark.parametrize("ahead", [-3600.0, -60.0, -2.0, 0.4, 60.0, 3600.0])
def test_a_host_whose_clock_is_wrong_hides_no_end(ahead: float) -> None:
    """Lines from the past and the future count as much or not at all, because AWS's clock decides."""
    lines = steady(600.0, ahead=ahead) if ahead >= 0 else steady(600.0 + ahead, ahead=0.0, delay=-ahead)
    waited = Waited(601.0, lines)
    assert waited.delay <= WORST + 1.5  # the future's lines count from their arrival


def test_of_many_hosts_one_that_falls_silent_is_no_end() -> None:
    """The job runs as long as any host writes, and needs no more status calls."""
    all_write = Waited(1200.0, [line for host in (1, 2, 3) for line in steady(1199.0, host=host)], hosts=3)
    one_hushes = Waited(1200.0, [*steady(1199.0), *steady(1199.0, host=2), *steady(300.0, host=3)], hosts=3)
    assert one_hushes.looks <= all_write.looks + 5
    assert one_hushes.delay <= WORST


def test_late_lines_look_no_younger_than_they_are() -> None:
    """A host whose lines arrive a minute late does not make an ended job look alive."""
    waited = Waited(600.0, [*steady(540.0, delay=60.0), *steady(599.0, host=2)], hosts=2)
    assert waited.delay <= WORST
