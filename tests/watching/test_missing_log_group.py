"""A log group that does not exist yet is waited for longer than for a line; on virtual time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import JobFailedError
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine
from processing.testing.wire import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

READS = ("FilterLogEvents", "GetLogEvents", "DescribeLogStreams")


def world(until: float, ends: float, *, lines: int = 6, count: int = 1, **job: Any) -> SimulatedAws:
    """Return jobs with a line every ten seconds in an account whose log group appears at a moment."""
    aws = SimulatedAws(VirtualClock())
    for number in range(count):
        written = [SimulatedLine(at=10.0 * place, message=f"line {place}") for place in range(lines)]
        aws.add_job(f"job-{number}", ends=ends, lines=written, **job)
    for operation in READS:
        real = aws.service.handlers[operation]

        def read(params: dict[str, Any], real: Any = real) -> Mapping[str, Any]:
            if aws.now < until:
                raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")
            answer: Mapping[str, Any] = real(params)
            return answer

        aws.service.handlers[operation] = read
    return aws


def follow(aws: SimulatedAws, name: str = "job-0") -> list[str]:
    return [line.message for line in processing.attach(name, aws.session()).logs(follow=True)]


@pytest.mark.parametrize("denied", [False, True])
@pytest.mark.parametrize("until", [62, 70, 80, 95, 130])
def test_a_group_that_appears_after_the_end_is_read(until: float, denied: bool) -> None:
    """No line is lost, and the wait ends soon after the group appears."""
    aws = world(until, 60)
    if denied:
        aws.logs.denied.add("FilterLogEvents")
    assert follow(aws) == [f"line {place}" for place in range(6)]
    assert aws.now < max(until, 70) + 10


@pytest.mark.parametrize("until", [60, 150, 300, 600, 900])
def test_a_group_that_appears_during_the_job_is_read_in_order(until: float) -> None:
    """The lines begin with the first one, as nothing counts as read before the group exists."""
    aws = world(until, 1200, lines=120)
    assert follow(aws) == [f"line {place}" for place in range(120)]
    assert aws.now < 1225


def test_many_jobs_wait_for_the_group_together() -> None:
    """The ends of many jobs are listed, and their lines are awaited all the same."""
    aws = world(130, 60, count=12)
    session = aws.session()
    jobs = [processing.attach(f"job-{number}", session) for number in range(12)]
    found = [event.message for event in processing.events(jobs) if isinstance(event, processing.LogEvent)]
    assert len(found) == 12 * 6
    assert aws.now < 145


def test_a_group_that_never_appears_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """The wait ends within two minutes of the job's end, with the notice of a job without lines."""
    aws = world(1e9, 60)
    with caplog.at_level(logging.WARNING, "processing"):
        assert follow(aws) == []
    assert aws.now < 180
    assert [record.message for record in caplog.records] == ["job-0 logged nothing"]


def test_a_container_that_never_started_is_not_waited_for() -> None:
    """A job without ProcessingStartTime has written no line."""
    aws = world(1e9, 60, status="Failed")
    describe = aws.service.handlers["DescribeProcessingJob"]
    aws.service.handlers["DescribeProcessingJob"] = lambda params: {
        member: value for member, value in describe(params).items() if member != "ProcessingStartTime"
    }
    assert follow(aws) == []
    assert aws.now < 80


def test_a_job_that_ended_long_ago_is_not_waited_for() -> None:
    """Its lines have all arrived, so there are none; a look at present lines never waits."""
    aws = world(1e9, 60)
    aws.clock.advance(3600)
    assert follow(aws) == []
    assert list(processing.attach("job-0", aws.session()).logs()) == []
    assert aws.now < 3610


def test_an_error_waits_a_little() -> None:
    """The last lines in an error are an extra: a missing group delays it by seconds only."""
    aws = world(1e9, 60, status="Failed")
    with pytest.raises(JobFailedError) as failure:
        processing.attach("job-0", aws.session()).wait(logs=False)
    assert failure.value.log_tail == ()
    assert aws.now < 90
