"""The display of many jobs on standard error: counts by status, the ends of jobs, and the price so far."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import ConfigurationError, ProcessingJob, ScriptProcessor
from processing.testing.clock import VirtualClock
from processing.testing.simulation import Life, SimulatedAws, SimulatedLine
from processing.watching.render.group_display import GroupDisplay
from processing.watching.render.live_line import above_live_line
from pseudo_terminal import Terminal, outputs

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Mapping

ROLE = "arn:aws:iam::111122223333:role/x"
CONSOLE = "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1#/processing-jobs"


@pytest.fixture
def aws() -> SimulatedAws:
    return SimulatedAws(VirtualClock())


def jobs_of(aws: SimulatedAws, *names: str) -> list[ProcessingJob]:
    session = aws.session()
    return [ProcessingJob(session, name) for name in names]


def processor_of(aws: SimulatedAws) -> ScriptProcessor:
    session = aws.session(default_bucket="bucket")
    session.client("s3").create_bucket(Bucket="bucket")
    return ScriptProcessor(ROLE, "i:1", ["python3"], 1, "ml.m5.large", sagemaker_session=session)


def test_each_end_of_a_few_jobs_has_a_line(aws: SimulatedAws, capsys: pytest.CaptureFixture[str]) -> None:
    """The first line has the console's list of jobs; a failure has its reason; the log lines come before the end."""
    aws.add_job("run-a", ends=100, lines=[SimulatedLine(5, "hello")])
    aws.add_job("run-b", ends=30, status="Failed", failure_reason="it broke\nhere")
    aws.add_job("run-c", ends=50, status="Stopped")
    processing.wait(jobs_of(aws, "run-a", "run-b", "run-c"), logs=True)
    out, err = capsys.readouterr()
    assert out == "[run-a/algo-1] hello\n"
    first, *ends, last = err.splitlines()
    assert first == f"waiting for 3 processing jobs: {CONSOLE}"
    assert ends == [
        "run-b: Failed after 30 s: it broke",
        "run-c: Stopped after 50 s",
        "run-a: Completed after 1 min 40 s",
    ]
    assert last.startswith("3 jobs: 1 Completed, 1 Failed, 1 Stopped after 1 min 4")


def test_quiet(aws: SimulatedAws, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With quiet=True nothing is shown, nor by a wait without any time; another value is refused."""
    (tmp_path / "clean.py").write_text("print(1)\n")
    fleet = processing.submit_all(processor_of(aws), [{"code": tmp_path / "clean.py"}] * 3, name="many", quiet=True)
    fleet.wait(timeout=0)
    fleet.wait(logs=True, quiet=True)
    aws.add_job("run", ends=100, lines=[SimulatedLine(5, "hello")])
    asyncio.run(processing.wait_async(jobs_of(aws, "run"), logs=True, quiet=True))
    assert capsys.readouterr() == ("", "")
    wrong: Any = "yes"
    with pytest.raises(ConfigurationError, match="quiet: must be True or False"):
        processing.wait([], quiet=wrong)
    with pytest.raises(ConfigurationError, match="quiet: must be True or False"):
        fleet.wait(quiet=wrong)


def test_a_fleet_has_tenths(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Many jobs have no lines of their own, except for the first failures. Their prices are upper bounds."""
    clock = VirtualClock()

    def life(request: Mapping[str, Any]) -> Life:
        return Life(ends=60, status="Failed" if request["ProcessingJobName"][-1] == "7" else "Completed")

    aws = SimulatedAws(clock, life=life)
    (tmp_path / "clean.py").write_text("print(1)\n")
    fleet = processing.submit_all(processor_of(aws), [{"code": tmp_path / "clean.py"}] * 200, name="many", rate=10)
    submission = capsys.readouterr().err.splitlines()
    assert submission[0] == f"submitting 200 processing jobs as many: {CONSOLE}"
    assert submission[1:3] == ["many: 20 of 200 submitted", "many: 40 of 200 submitted"]
    assert len(submission) == 11
    assert submission[-1].startswith("many: 200 of 200 submitted after ")
    fleet.wait()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"waiting for 200 processing jobs of many: {CONSOLE}"
    assert lines[-1].startswith("200 jobs: 180 Completed, 20 Failed after ")
    assert "at most 0." in lines[-1]
    assert len([line for line in lines if line.startswith("many-")]) == 10
    counts = [line for line in lines[1:-1] if line.startswith("200 jobs: ")]
    assert 1 <= len(counts) <= 9
    fleet.wait()
    assert capsys.readouterr().err.splitlines()[-1].startswith("200 jobs: 180 Completed, 20 Failed after ")


def test_one_live_line(aws: SimulatedAws, terminal: Terminal) -> None:
    """A terminal shows the counts, the time and the price so far in its last line, and nothing of it stays."""
    screens: list[list[str]] = []
    for name in ("a", "b"):
        aws.add_job(name, ends=7200)

    def look() -> None:
        with above_live_line():
            pass  # the line is drawn again, without a second's wait
        screens.append(terminal.lines())

    aws.at(3600, look)
    with outputs(terminal.out):
        processing.wait(jobs_of(aws, "a", "b"))
    assert screens[0][-1].startswith("2 jobs: 2 InProgress, 1:0")
    assert terminal.lines()[-1].startswith("2 jobs: 2 Completed after 2 h 0 min, 0.4600 USD")


def test_a_ctrl_c_at_the_beginning_leaves_no_live_line(terminal: Terminal) -> None:
    """The line is removed although the display was never entered."""

    def interrupted() -> str:
        raise KeyboardInterrupt

    display = GroupDisplay(VirtualClock(), interrupted, expected=lambda: None, started_at=lambda _: None, quiet=False)
    with outputs(terminal.out), pytest.raises(KeyboardInterrupt), display:
        pass
    assert terminal.lines() == []


def test_an_unfinished_wait_has_no_summary(aws: SimulatedAws, capsys: pytest.CaptureFixture[str]) -> None:
    """After a time-out, and at the first end, no line states that all have ended."""
    aws.add_job("a", ends=100)
    aws.add_job("b", ends=9000)
    processing.wait(jobs_of(aws, "a", "b"), 200)
    assert capsys.readouterr().err.splitlines()[1:] == ["a: Completed after 1 min 40 s"]


def test_jobs_of_two_places(aws: SimulatedAws, capsys: pytest.CaptureFixture[str]) -> None:
    """Jobs of two sessions have no common place, and may have the same name."""
    other = SimulatedAws(VirtualClock())
    for each in (aws, other):
        each.add_job("same", ends=30)
    processing.wait([*jobs_of(aws, "same"), *jobs_of(other, "same")])
    first, *ends, last = capsys.readouterr().err.splitlines()
    assert first == "waiting for 2 processing jobs"
    assert ends == ["same: Completed after 30 s"] * 2
    assert last.startswith("2 jobs: 2 Completed after ")


def test_a_reason_cannot_forge_lines(aws: SimulatedAws, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of a failure are escapes, and a long reason is cut."""
    aws.add_job("run", ends=30, status="Failed", failure_reason="\x1b[1Arun: Completed\r" + "x" * 900)
    processing.wait(jobs_of(aws, "run"))
    line = capsys.readouterr().err.splitlines()[1]
    assert line.startswith("run: Failed after 30 s: \\x1b[1Arun: Completed\\rxxx")
    assert len(line) < 240


def test_a_narrow_terminal_gets_a_short_line() -> None:
    """The counts give way to the number of ended jobs."""
    plain = io.StringIO()
    with (
        outputs(plain),
        GroupDisplay(
            VirtualClock(), lambda: "title", expected=lambda: 10_000, started_at=lambda _: None, quiet=False
        ) as display,
    ):
        display.add("a", "a", "InProgress", 0.1)
        texts: Callable[[], Any] = display._texts
        assert texts()[-2:] == ["0 of 10,000 jobs ended, 0:00", "0 of 10,000, 0:00"]
        assert texts()[0] == "1 of 10,000 jobs submitted: 1 InProgress, 0:00"
    assert plain.getvalue() == "title\n"
