"""A clock that jumps hides no log line and orders no end before its start: this machine's, a host's, and AWS's."""

from __future__ import annotations

import datetime as dt
import math
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

import processing
from processing import LocalSession, ScriptProcessor
from processing.clock import SystemClock
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine

if TYPE_CHECKING:
    from pathlib import Path

    from processing import Session


@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize("stops", [False, True])
def test_the_engine_orders_the_times_of_a_job(
    hours: int, stops: bool, tmp_path: Path, local_session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock is set back or ahead after the creation: all lines show, and the times are in order."""
    code = tmp_path / "a.py"
    code.write_text("print('a'); print('b')\n" + "import time; time.sleep(60)\n" * stops)
    processor = ScriptProcessor(
        command=[sys.executable], instance_type="local", instance_count=1, sagemaker_session=local_session
    )
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() + hours * 3600)
        job = processor.run(code, wait=False)
    assert job is not None
    if stops:
        stream = (event.message for event in job.events() if isinstance(event, processing.LogEvent))
        assert next(stream) == "a"
        job.stop()
    job.wait(on_stop="return")
    described = job.describe()
    assert described["CreationTime"] <= described["ProcessingStartTime"] <= described["ProcessingEndTime"]
    assert described["CreationTime"] <= described["LastModifiedTime"]
    assert [event.message for event in job.logs()] == ["a", "b"]
    assert [event.message for event in job.logs(tail=1)] == ["b"]
    assert [event.message for event in job.events() if isinstance(event, processing.LogEvent)] == ["a", "b"]


def attached(lines: list[SimulatedLine], *, denied: bool = False) -> tuple[SimulatedAws, Session]:
    aws = SimulatedAws(VirtualClock())
    if denied:
        aws.logs.denied.add("FilterLogEvents")
    aws.add_job("job", starts=1000.0, ends=1100.0, lines=lines)
    aws.clock.advance(1001)
    return aws, aws.session()


@pytest.mark.parametrize("denied", [False, True])
@pytest.mark.parametrize("behind", [1, 60, 290])
def test_a_host_whose_clock_is_behind_loses_no_line(behind: float, denied: bool) -> None:
    """Its first lines have times before the job's creation. They arrived after it."""
    lines = [SimulatedLine(at=10.0 * number - behind, message=f"{number}", delay=behind) for number in range(1, 9)]
    expected = [line.message for line in lines]
    _, session = attached(lines, denied=denied)
    job = processing.attach("job", session)
    assert [event.message for event in job.logs(follow=True)] == expected
    assert [event.message for event in job.logs()] == expected
    assert [event.message for event in job.logs(tail=3)] == expected[-3:]


def test_lines_of_an_older_job_of_the_name_stay_hidden() -> None:
    """Lines that arrived before the creation are another job's, and so are late ones of a stream made before."""
    aws = SimulatedAws(VirtualClock())
    aws.add_job("job", ends=50.0, lines=[SimulatedLine(10, "old"), SimulatedLine(20, "late", delay=200)])
    aws.at(60.0, lambda: aws.delete_job("job"))
    aws.clock.advance(61)
    aws.client("sagemaker").list_processing_jobs()
    aws.add_job("job", starts=61.0, ends=161.0, lines=[SimulatedLine(200 - 150, "new")])
    job = processing.attach("job", aws.session())
    assert [event.message for event in job.logs(follow=True)] == ["new"]
    aws.clock.advance(1000)
    assert [event.message for event in job.logs()] == ["new"]


@pytest.mark.parametrize("hours", [5, -5])
def test_an_age_is_counted_by_the_clock_of_aws(hours: float) -> None:
    """`since=timedelta(...)` selects the same lines if this machine's clock is wrong."""
    lines = [SimulatedLine(at=10.0 * number, message=f"{number}") for number in range(1, 9)]
    aws, _ = attached(lines)

    class Wrong(VirtualClock):
        def time(self) -> float:
            return aws.clock.time() + hours * 3600

    aws.clock.advance(500)
    job = processing.attach("job", aws.session(clock=Wrong()))
    age = dt.timedelta(seconds=aws.now - 1000 - 55)
    for follow in (False, True):
        assert [event.message for event in job.logs(follow, since=age)] == ["6", "7", "8"]


class Recorded(threading.Condition):
    """A condition that records the times to wait. It is notified just after each wait has timed out."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        self.times.append(timeout)
        return False


def test_the_main_thread_waits_for_a_short_time() -> None:
    """A Ctrl-C that another thread has got is handled soon, and no notification is missed. Others wait at one go."""
    main, other, over = Recorded(), Recorded(), Recorded()
    clock = SystemClock()
    clock.wait(main, math.inf)
    assert main.times == [0.5]
    thread = threading.Thread(target=lambda: clock.wait(other, 1000.0))
    thread.start()
    thread.join()
    assert other.times == [1000.0]
    clock.wait(over, -1.0)
    assert over.times == [0.0]
