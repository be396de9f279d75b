"""A status that AWS adds is shown once, ends nothing and hides no end; on virtual time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import Fleet, WatchError
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws
from processing.watching.events import StatusChanged
from processing.watching.status.model import is_news

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing import Session

ENDS = 100.0


class World:
    """Jobs that end after 100 seconds, and a status in place of theirs for a part of that time."""

    def __init__(self, status: str, begins: float, ends: float, *, count: int = 1) -> None:
        self.aws = SimulatedAws(VirtualClock())
        self.names = [f"job-{number}" for number in range(count)]
        for name in self.names:
            self.aws.add_job(name, ends=ENDS, request={"Tags": [{"Key": "sm-processing:fleet", "Value": "job"}]})
        self._status, self._begins, self._ends = status, begins, ends
        handlers = self.aws.service.handlers
        describe, listing = handlers["DescribeProcessingJob"], handlers["ListProcessingJobs"]
        handlers["DescribeProcessingJob"] = lambda params: self._changed(describe(params))
        handlers["ListProcessingJobs"] = lambda params: self._list(listing(params), params)
        self.session: Session = self.aws.session()

    def _changed(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        is_now = self._begins <= self.aws.now < self._ends
        return {**answer, "ProcessingJobStatus": self._status} if is_now else dict(answer)

    def _list(self, answer: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        shown = [self._changed(summary) for summary in answer["ProcessingJobSummaries"]]
        wanted = params.get("StatusEquals")
        found = [each for each in shown if wanted in {None, each["ProcessingJobStatus"]}]
        return {**answer, "ProcessingJobSummaries": found}

    def jobs(self) -> list[processing.ProcessingJob]:
        return [processing.attach(name, self.session) for name in self.names]


@pytest.mark.parametrize(
    ("seen", "status", "expected"),
    [
        ((), "Pending", True),
        (("Pending",), "Pending", False),
        (("Pending",), "InProgress", True),
        (("Pending",), "Stopping", True),
        (("Pending",), "Completed", True),
        (("Pending", "Queued"), "Failed", True),
        (("InProgress",), "Pending", True),
        (("InProgress", "Pending"), "InProgress", False),
        (("Pending", "InProgress"), "Pending", False),
        (("Stopping", "Deleting"), "InProgress", False),
        (("Stopping", "Deleting"), "Stopped", True),
        (("Completed",), "Deleting", False),
        (("Completed",), "Failed", False),
    ],
)
def test_an_unknown_status_is_new_once_and_below_every_end(seen: tuple[str, ...], status: str, expected: bool) -> None:
    """It is no step back from another one, and no status comes after a final one."""
    assert is_news(seen, status) is expected


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize(("begins", "ends"), [(0, 60), (30, 60), (90, 150)])
def test_a_wait_outlives_an_unknown_status(begins: float, ends: float, count: int) -> None:
    """Few jobs and many are awaited to their end, whenever the status shows."""
    world = World("Pending", begins, ends, count=count)
    result = processing.wait(world.jobs())
    assert len(result.done) == count
    assert not result.failed
    assert max(ENDS, ends) <= world.aws.now < max(ENDS, ends) + 700 * (ends > ENDS) + 20


def test_an_unknown_status_is_an_event(caplog: pytest.LogCaptureFixture) -> None:
    """Events show it with the statuses around it, and one warning names it."""
    world = World("Pending", 0, 60)
    with caplog.at_level(logging.WARNING):
        events = list(world.jobs()[0].events(logs=False))
    changes = [(event.status, event.previous) for event in events if isinstance(event, StatusChanged)]
    assert changes == [("Pending", None), ("InProgress", "Pending"), ("Completed", "InProgress")]
    assert [record.getMessage() for record in caplog.records] == [
        "AWS reports the status 'Pending', which this version of sm-processing does not know; the wait goes on"
    ]


def test_a_fleet_with_an_unknown_status_ends() -> None:
    """An attached fleet counts the status, waits for the end, and stops its jobs."""
    world = World("Pending", 0, 60, count=12)
    fleet = Fleet.attach("job", world.session)
    assert fleet.statuses() == {"Pending": 12}
    assert len(fleet.wait().done) == 12
    stopped = World("Pending", 0, 60, count=12)
    stopped_fleet = Fleet.attach("job", stopped.session)
    stopped_fleet.stop()
    assert stopped.aws.calls["StopProcessingJob"] == 12
    assert len(stopped_fleet.wait().failed) == 12


@pytest.mark.parametrize("count", [1, 30])
def test_an_unknown_final_status_does_not_hang(count: int) -> None:
    """A job that ended minutes ago by AWS's own answer is given up, with a status that is no success."""
    world = World("Expired", ENDS, 1e9, count=count)
    jobs = world.jobs()
    result = processing.wait(jobs)
    assert len(result.failed) == count
    error = result.failed[jobs[0]]
    assert isinstance(error, WatchError)
    assert error.status == "Expired"
    assert "ended with a status that this version of sm-processing does not know; update it" in str(error)
    assert world.aws.now < ENDS + 1000
