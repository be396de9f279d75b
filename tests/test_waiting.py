"""Waits for many jobs: each end is reported once, and no failure hides another one."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import processing
from processing import (
    ConfigurationError,
    JobFailedError,
    JobStoppedError,
    LocalSession,
    ProcessingJob,
    ScriptProcessor,
    WaitTimeoutError,
    WatchError,
    attach,
)
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine
from processing.watching.events import LogEvent, StatusChanged
from processing.watching.status.model import Lost, WatchTarget

if TYPE_CHECKING:
    import pathlib


@pytest.fixture
def aws() -> SimulatedAws:
    return SimulatedAws(VirtualClock())


def jobs_of(aws: SimulatedAws, *names: str, session: Any = None) -> list[ProcessingJob]:
    session = session or aws.session()
    return [ProcessingJob(session, name) for name in names]


def names(jobs: Any) -> list[str]:
    return sorted(job.job_name for job in jobs)


def test_wait_returns_when_all_have_ended(aws: SimulatedAws) -> None:
    """Done and not done as in `concurrent.futures`; failures are collected with their reasons and last lines."""
    aws.add_job("run-a", ends=100)
    aws.add_job("run-b", ends=30, status="Failed", failure_reason="it broke", lines=[SimulatedLine(5, "no rows")])
    aws.add_job("run-c", ends=50, status="Stopped")
    jobs = jobs_of(aws, "run-a", "run-b", "run-c")
    result = processing.wait(jobs)
    done, not_done = result
    assert (done, not_done) == (set(jobs), set())
    assert aws.now < 120
    assert list(result.failed) == [jobs[1], jobs[2]]
    failed, stopped = result.failed[jobs[1]], result.failed[jobs[2]]
    assert isinstance(failed, JobFailedError)
    assert (failed.failure_reason, failed.log_tail) == ("it broke", ("no rows",))
    assert isinstance(stopped, JobStoppedError)


def test_an_ended_job_is_not_polled_again(aws: SimulatedAws) -> None:
    """The end of a job is final: a second wait needs no call."""
    aws.add_job("run-a", ends=10)
    aws.add_job("run-b", ends=20, status="Failed", lines=[SimulatedLine(1, "no rows")])
    jobs = jobs_of(aws, "run-a", "run-b")
    processing.wait(jobs)
    calls = aws.calls["DescribeProcessingJob"]
    assert processing.wait(jobs).done == set(jobs)
    assert list(processing.as_completed(jobs)) == jobs
    assert jobs[0].exception() is None
    assert isinstance(jobs[1].exception(), JobFailedError)
    assert aws.calls["DescribeProcessingJob"] == calls
    told = [getattr(event, "status", None) for event in processing.events(jobs, logs=False)]  # who asks is told
    assert sorted(map(str, told)) == ["Completed", "Failed"]


def test_a_timeout_returns_the_state_so_far(aws: SimulatedAws) -> None:
    """A timeout is not an error for `wait`, and is one for `as_completed`."""
    aws.add_job("run-a", ends=30)
    aws.add_job("run-b", ends=3000)
    aws.add_job("run-c", ends=None)
    jobs = jobs_of(aws, "run-a", "run-b", "run-c")
    result = processing.wait(jobs, timeout=60)
    assert (names(result.done), names(result.not_done)) == (["run-a"], ["run-b", "run-c"])
    assert aws.now == pytest.approx(60, abs=1)
    completed = processing.as_completed(jobs, timeout=10)
    assert next(completed) is jobs[0]
    with pytest.raises(WaitTimeoutError, match="2 processing jobs have not ended in time; they go on: run-b, run-c"):
        next(completed)


@pytest.mark.parametrize(
    ("return_when", "done"),
    [
        ("FIRST_COMPLETED", ["run-a"]),
        ("FIRST_EXCEPTION", ["run-a", "run-b"]),
        ("ALL_COMPLETED", ["run-a", "run-b", "run-c"]),
    ],
)
def test_a_wait_may_end_with_the_first(aws: SimulatedAws, return_when: Any, done: list[str]) -> None:
    """With the first that has ended, or the first that did not complete."""
    aws.add_job("run-a", ends=100)
    aws.add_job("run-b", ends=200, status="Failed")
    aws.add_job("run-c", ends=300)
    result = processing.wait(jobs_of(aws, "run-a", "run-b", "run-c"), return_when=return_when)
    assert names(result.done) == done


def test_jobs_come_as_they_end(aws: SimulatedAws) -> None:
    """In the order of their ends; `exception` then answers without waiting."""
    for place, name in enumerate(("run-c", "run-a", "run-b")):
        aws.add_job(name, ends=100 * (place + 1), status="Failed" if name == "run-a" else "Completed")
    ended = list(processing.as_completed(jobs_of(aws, "run-a", "run-b", "run-c")))
    assert [job.job_name for job in ended] == ["run-c", "run-a", "run-b"]
    assert [type(job.exception()) for job in ended] == [type(None), JobFailedError, type(None)]


def test_a_job_given_twice_counts_once(aws: SimulatedAws) -> None:
    """The same object is one; two objects for one job both have ended with it."""
    aws.add_job("run-a", ends=10)
    session = aws.session()
    job, same = jobs_of(aws, "run-a", "run-a", session=session)
    assert processing.wait([job, same, job]).done == {job, same}
    again = jobs_of(aws, "run-a", "run-a", session=session)
    assert list(processing.as_completed([*again, *again])) == again
    assert processing.wait([]) == (set(), set())


def test_a_job_that_cannot_be_watched_is_collected(aws: SimulatedAws) -> None:
    """A job that is not there does not end the wait for the others, and is not forgotten."""
    aws.add_job("run-a", ends=100)
    jobs = jobs_of(aws, "run-a", "run-b")
    result = processing.wait(jobs)
    assert result.done == set(jobs)
    assert [(job.job_name, type(error)) for job, error in result.failed.items()] == [("run-b", WatchError)]
    assert isinstance(jobs[1].exception(), WatchError)
    told = list(processing.events(jobs_of(aws, "run-a", "run-b")))
    assert [event.job_name for event in told if isinstance(event, Lost)] == ["run-b"]
    with pytest.raises(WatchError):
        jobs[1].wait()


def test_many_jobs_cost_few_calls(aws: SimulatedAws) -> None:
    """A wait for hundreds of jobs uses listings, and reports every end within seconds."""
    count = 300
    for number in range(count):
        aws.add_job(f"fleet-{number:03}", ends=60 + number, status="Failed" if number % 50 == 0 else "Completed")
    jobs = jobs_of(aws, *(f"fleet-{number:03}" for number in range(count)))
    lags = [aws.now - (60 + int(job.job_name[-3:])) for job in processing.as_completed(jobs)]
    assert len(lags) == count
    assert max(lags) < 5
    assert aws.calls["DescribeProcessingJob"] < 60  # the last few, each by itself
    assert sum(aws.calls.values()) < 60 * aws.now / 60
    failed = processing.wait(jobs).failed
    assert len(failed) == 6
    assert all("fleet-" in str(error) for error in failed.values())


def test_lines_of_many_name_their_jobs(aws: SimulatedAws, capsys: pytest.CaptureFixture[str]) -> None:
    """With `logs`, every line of every job is shown once, with the job in front."""
    for name in ("run-a", "run-b"):
        aws.add_job(name, ends=40, lines=[SimulatedLine(5 * n, f"{name} {n}") for n in range(8)])
    result = processing.wait(jobs_of(aws, "run-a", "run-b"), logs=True)
    assert len(result.done) == 2
    lines = sorted(capsys.readouterr().out.splitlines())
    assert lines == sorted(f"[{name}/algo-1] {name} {n}" for name in ("run-a", "run-b") for n in range(8))


def test_events_of_many_are_one_stream(aws: SimulatedAws) -> None:
    """Each job's last event is its end, after all of its lines; another stream goes on where one stopped."""
    for name in ("run-a", "run-b"):
        aws.add_job(name, ends=60, lines=[SimulatedLine(n, f"{name} {n}") for n in range(50)])
    session = aws.session()
    seen: list[str] = []
    with processing.events(jobs_of(aws, "run-a", "run-b", session=session)) as stream:
        for event in stream:
            if isinstance(event, LogEvent):
                seen.append(event.message)
            if len(seen) == 33:
                break
        checkpoint = stream.checkpoint().to_json()
    ended = []
    for event in processing.events(jobs_of(aws, "run-a", "run-b", session=session), checkpoint=checkpoint):
        if isinstance(event, LogEvent):
            assert event.job_name not in ended
            seen.append(event.message)
        elif isinstance(event, StatusChanged) and event.status == "Completed":
            ended.append(event.job_name)
    assert sorted(seen) == sorted(f"{name} {n}" for name in ("run-a", "run-b") for n in range(50))
    assert sorted(ended) == ["run-a", "run-b"]


def test_several_sessions_at_once(aws: SimulatedAws) -> None:
    """Jobs of two accounts, of the same name, are waited for together; each account's ends are its own."""
    other = SimulatedAws(aws.clock)
    aws.add_job("same", ends=50)
    other.add_job("same", ends=100, status="Failed")
    (here,), (there,) = jobs_of(aws, "same"), jobs_of(other, "same")
    assert list(processing.as_completed([there, here])) == [here, there]
    assert (here.exception(), type(there.exception())) == (None, JobFailedError)
    with pytest.raises(ConfigurationError, match="jobs: a checkpoint is for the jobs of one session"):
        processing.events([here, there]).checkpoint()


@pytest.mark.parametrize(
    ("jobs", "options", "problem"),
    [
        ("name", {}, "jobs: must be several jobs"),
        (["name"], {}, r"jobs\[0\]: must be a ProcessingJob, not str"),
        (5, {}, "jobs: must be several jobs"),
        ([], {"timeout": "soon"}, "timeout: must be a number of seconds"),
        ([], {"timeout": float("nan")}, "timeout: must be a number of seconds"),
        ([], {"return_when": "LAST"}, "return_when: must be 'ALL_COMPLETED'"),
    ],
)
def test_invalid_arguments_of_a_wait_are_refused(jobs: Any, options: dict[str, Any], problem: str) -> None:
    """Bad input is named, as it was written."""
    with pytest.raises(ConfigurationError, match=problem):
        processing.wait(jobs, **options)


def test_one_job_is_no_list(aws: SimulatedAws) -> None:
    """A job alone has a `wait` of its own."""
    with pytest.raises(ConfigurationError, match="jobs: must be several jobs, such as a list of them"):
        processing.wait(jobs_of(aws, "run-a")[0])  # type: ignore[arg-type]


class Interrupting(VirtualClock):
    """A clock on which Ctrl-C comes at a moment."""

    at = 100.0

    def wait(self, condition: Any, seconds: float) -> None:
        super().wait(condition, seconds)
        if self.monotonic() >= self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("count", "said"), [(2, r"for name in \['run-00', 'run-01'\]\]"), (30, r"name_prefix='run-'")])
def test_ctrl_c_detaches_from_all(count: int, said: str, caplog: pytest.LogCaptureFixture) -> None:
    """Ctrl-C leaves the jobs running, and shows how to attach to those that have not ended."""
    aws = SimulatedAws(Interrupting())
    for number in range(count):
        aws.add_job(f"run-{number:02}", ends=None)
    jobs = jobs_of(aws, *(f"run-{number:02}" for number in range(count)))
    with caplog.at_level(logging.WARNING, "processing"), pytest.raises(KeyboardInterrupt):
        processing.wait(jobs)
    (record,) = caplog.records
    assert re.search(rf"attach: processing\.wait\(.*{said}", record.message)
    assert re.search(r"stop: .*job\.stop\(\)", record.message)
    assert not jobs[0].sagemaker_session.poller._subscribers


# On the engine.


@pytest.fixture
def processor(local_session: LocalSession) -> ScriptProcessor:
    return ScriptProcessor(
        command=["python3"], instance_type="local", instance_count=1, sagemaker_session=local_session
    )


@pytest.fixture
def script(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "script.py"
    path.write_text("import sys; print('exiting with', sys.argv[1]); sys.exit(int(sys.argv[1]))")
    return str(path)


def test_real_jobs_and_simulated_ones_together(aws: SimulatedAws, processor: ScriptProcessor, script: str) -> None:
    """Jobs of the engine, which take real time, and others."""
    aws.add_job("elsewhere", ends=5, status="Stopped")
    jobs = [processor.run(script, arguments=[str(code)], wait=False) for code in (0, 3)]
    jobs += jobs_of(aws, "elsewhere")
    result = processing.wait(jobs, timeout=60)
    assert result.done == set(jobs)
    assert [type(result.failed.get(job)) for job in jobs] == [type(None), JobFailedError, JobStoppedError]


def test_jobs_of_the_engine_show_their_lines(
    processor: ScriptProcessor, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several real jobs, one stream of lines."""
    jobs = [processor.run(script, arguments=["0"], wait=False, job_name=f"real-{n}") for n in range(3)]
    assert set(processing.as_completed(jobs, logs=True)) == set(jobs)
    assert sorted(capsys.readouterr().out.splitlines()) == [f"[real-{n}/algo-1] exiting with 0" for n in range(3)]


def test_a_second_ctrl_c_leaves_at_once(tmp_path: pathlib.Path, local_session: LocalSession) -> None:
    """Fault 41: however often it comes, the program ends at Ctrl-C, with the commands, and the jobs go on."""
    (tmp_path / "slow.py").write_text("import time; print('started', flush=True); time.sleep(600)")
    client = tmp_path / "client.py"
    client.write_text(
        textwrap.dedent(
            f"""
            import processing
            from processing import LocalSession, ScriptProcessor
            session = LocalSession({str(local_session.home)!r}, tick=0.02, grace=1)
            processor = ScriptProcessor(
                command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
            )
            jobs = [
                processor.run({str(tmp_path / "slow.py")!r}, wait=False, job_name=f"slow-{{n}}") for n in range(2)
            ]
            processing.wait(jobs, logs=True)
            """
        )
    )
    process = subprocess.Popen([sys.executable, client], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "started" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in stderr
    for name in ("slow-0", "slow-1"):
        job = attach(name, local_session)
        assert job.status == "InProgress"
        job.stop()
        job.wait(logs=False, on_stop="return")


@pytest.mark.parametrize(("count", "timeout"), [(1, 0), (3, 0), (12, 0), (1, 62), (3, 62)])
@pytest.mark.parametrize("way", ["wait", "wait_async", "events"])
def test_at_its_deadline_a_wait_learns_of_every_job(way: str, count: int, timeout: int) -> None:
    """All jobs that have ended by then are done, not only the first one that AWS answers about."""
    aws = SimulatedAws(VirtualClock())
    for number in range(count):
        aws.add_job(f"run-{number}", ends=60)
    if not timeout:
        aws.clock.advance(160)
    jobs = jobs_of(aws, *(f"run-{number}" for number in range(count)))
    if way == "events":
        ended = [each.job_name for each in processing.events(jobs, timeout=timeout, logs=False) if is_end(each)]
        assert sorted(ended) == sorted(job.job_name for job in jobs)
    elif way == "wait":
        assert processing.wait(jobs, timeout=timeout).not_done == set()
    else:
        assert asyncio.run(processing.wait_async(jobs, timeout=timeout)).not_done == set()


class _TickingClock(VirtualClock):
    """A clock that no two readings of are equal, as that of the system."""

    def monotonic(self) -> float:
        self.advance(1e-5)
        return super().monotonic()


@pytest.mark.parametrize("count", [1, 3, 12])
@pytest.mark.parametrize("way", ["wait", "wait_async"])
def test_without_any_time_a_wait_learns_of_every_job_on_a_real_clock(way: str, count: int) -> None:
    """The first calls are due at the start, though some microseconds pass until they are planned."""
    aws = SimulatedAws(_TickingClock())
    for number in range(count):
        aws.add_job(f"run-{number}", ends=60)
    aws.clock.advance(160)
    jobs = jobs_of(aws, *(f"run-{number}" for number in range(count)))
    if way == "wait":
        assert processing.wait(jobs, timeout=0).not_done == set()
    else:
        assert asyncio.run(processing.wait_async(jobs, timeout=0)).not_done == set()


@pytest.mark.parametrize("way", ["wait", "wait_async"])
def test_without_any_time_a_wait_learns_of_the_jobs_of_every_session(way: str) -> None:
    """Each session has a poller of its own, and each makes its calls."""
    aws = SimulatedAws(_TickingClock())
    for number in range(5):
        aws.add_job(f"run-{number}", ends=60)
    aws.clock.advance(160)
    jobs = [job for number in range(5) for job in jobs_of(aws, f"run-{number}")]
    if way == "wait":
        assert processing.wait(jobs, timeout=0).not_done == set()
    else:
        assert asyncio.run(processing.wait_async(jobs, timeout=0)).not_done == set()


def test_a_job_that_is_not_visible_yet_hides_no_other_one() -> None:
    """The answer that there is no such job is one: the other jobs are asked for, too."""
    aws = SimulatedAws(VirtualClock())
    for number in range(2):
        aws.add_job(f"run-{number}", ends=60)
    aws.clock.advance(160)
    jobs = jobs_of(aws, "absent", "run-0", "run-1")
    assert names(processing.wait(jobs, timeout=0).done) == ["run-0", "run-1"]


@pytest.mark.parametrize("others", [0, 12])
def test_no_answer_is_awaited_in_vain_at_a_deadline(others: int) -> None:
    """None comes after a failed call, and none about running jobs that are listed with many others."""
    aws = SimulatedAws(VirtualClock())
    session = aws.session()
    for number in range(6 + others):
        aws.add_job(f"run-{number}", ends=5000)
    watched = session.poller.subscribe([WatchTarget(f"run-{number}") for number in range(6 + others)])
    if not others:
        aws.faults.on("*", "error503", probability=1.0)
    jobs = jobs_of(aws, *(f"run-{number}" for number in range(6)), session=session)
    assert processing.wait(jobs, timeout=60).done == set()
    watched.close()
    assert aws.now < 61.5


def is_end(event: Any) -> bool:
    return isinstance(event, StatusChanged) and event.status == "Completed"


def test_a_batch_is_shown_once_if_the_deadline_falls_into_a_long_read(capsys: pytest.CaptureFixture[str]) -> None:
    """The job has ended in time, so its last lines are read after the deadline, from where the reading stopped."""
    aws = SimulatedAws(VirtualClock(), latency=0.3)
    aws.add_job("run", ends=58.0, lines=[SimulatedLine(n / 1000, f"line {n}") for n in range(0, 57000, 10)])
    aws.logs._page = 500
    aws.clock.advance(15)
    (job,) = jobs_of(aws, "run")
    job.wait(logs=True, timeout=45)
    shown = [text for text in capsys.readouterr().out.splitlines() if text.startswith("line ")]
    assert shown == [f"line {n}" for n in range(0, 57000, 10)]
