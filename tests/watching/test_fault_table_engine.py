"""The numbered faults of watching, through the public API, with real jobs of the engine, in process and on sockets.

The same numbers are in `test_fault_table.py`, where a simulated AWS makes what an engine never does.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import attrs
import pytest

import processing
from processing import JobStoppedError, LocalSession, ProcessingJob, ScriptProcessor, Session, WaitTimeoutError
from processing.aws.retry import RetryPolicy
from processing.local.transports.server import Server
from processing.testing.faults import FaultInjector, FaultKind
from processing.testing.proxy import FaultProxy
from processing.watching.polling import Polling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = RetryPolicy(base=0.001, cap=0.002, attempts=3)
FAST = Polling(first=0.01, longest=0.02, settle=0.0, grace=0.0)
PASSING: list[FaultKind] = [
    "throttle",
    "error500",
    "error503",
    "unreachable",
    "reset_before",
    "reset_after",
    "truncate",
]
SLEEP = "import time\nprint('started', flush=True)\ntime.sleep(600)"


@attrs.frozen
class Place:
    """An engine, and a session that reaches it through faults."""

    engine: LocalSession
    session: Session
    faults: FaultInjector
    folder: Path

    def start(self, code: str, **options: Any) -> ProcessingJob:
        """Start a job, and return it as the session knows it."""
        script = self.folder / "script.py"
        script.write_text(textwrap.dedent(code))
        processor = ScriptProcessor(
            command=["python3"], instance_type="local", instance_count=1, sagemaker_session=self.engine
        )
        name = processor.run(script, wait=False, **options).job_name
        return processing.attach(name, self.session)

    def started(self) -> ProcessingJob:
        """Start a job that sleeps, and return it when it does."""
        job = self.start(SLEEP)
        next(job.logs(follow=True))
        return job


@pytest.fixture(params=["in process", "http"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    faults = FaultInjector(seed=3)
    home = tmp_path / "engine"
    engine = LocalSession(home, tick=0.01, grace=1.0)
    if request.param == "in process":
        session: Session = LocalSession(
            home, tick=0.01, grace=1.0, retry_policy=QUICK, polling=FAST, transport=faults.wrap
        )
        yield Place(engine, session, faults, tmp_path)
        return
    with Server(engine.engine) as server, FaultProxy(faults, server.endpoint) as proxy:
        for name, value in {**server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}.items():
            monkeypatch.setenv(name, value)
        session = Session(retry_policy=QUICK, polling=FAST)
        yield Place(engine, session, faults, tmp_path)
        for service in ("sagemaker", "logs"):
            session.client(service).close()


@pytest.mark.parametrize("kind", PASSING)
def test_18_the_wait_survives_transient_failures(place: Place, kind: FaultKind) -> None:
    """Twenty failures in a row, of each call that a wait makes, cost time and nothing else."""
    job = place.start("print('one')")
    for operation in ("DescribeProcessingJob", "FilterLogEvents"):
        place.faults.on(operation, kind, times=20)
    assert job.wait(timeout=60) is job
    assert job.status == "Completed"
    assert [event.message for event in job.logs()] == ["one"]


def test_18_the_deadline_holds_while_nothing_answers(place: Place) -> None:
    """A wait ends at its deadline even if no call is answered."""
    job = place.started()
    place.faults.on("*", "unreachable", probability=1.0)
    with pytest.raises(WaitTimeoutError):
        job.wait(timeout=0.3)
    assert place.engine.describe_processing_job(job.job_name)["ProcessingJobStatus"] == "InProgress"


def test_27_a_silent_job_is_logged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A job that wrote nothing ends without an error, with one message about it."""
    job = place.start("pass")
    with caplog.at_level(logging.WARNING, "processing"):
        job.wait()
    assert [record.message for record in caplog.records] == [f"{job.job_name} logged nothing"]


def test_32_any_output_is_kept_and_shown_safely(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are not UTF-8, NUL and terminal sequences stay in the line, and are written out as escapes."""
    job = place.start(
        r"""
        import sys
        sys.stdout.buffer.write(b"\xff\xfe|\x00|\x1b[2J|\r|\xc3\xa9\n")
        """
    )
    job.wait()
    assert [event.message for event in job.logs()] == ["\ufffd\ufffd|\x00|\x1b[2J|\r|é"]
    assert capsys.readouterr().out == "\ufffd\ufffd|\\x00|\\x1b[2J|\\r|é\n"


def test_32_a_line_of_ten_megabytes_is_kept_whole(place: Place) -> None:
    """A line of forty events is one line, while following and afterwards."""
    job = place.start("print('x' * 10_000_000 + 'é')\nprint('after')")
    expected = "x" * 10_000_000 + "é"
    for events in (job.logs(follow=True), job.logs()):
        long, after = (event.message for event in events)
        assert (len(long), long == expected, after) == (10_000_001, True, "after")


def test_33_stopping_an_ended_job_is_a_success(place: Place) -> None:
    """Stopping an ended job succeeds, and its status does not change."""
    job = place.start("pass")
    job.wait()
    job.stop()
    assert job.status == "Completed"
    assert job.wait() is job


@pytest.mark.parametrize("kind", ["reset_after", "double", "truncate", "error500", "throttle"])
def test_34_a_stop_whose_answer_is_lost_stops_once(place: Place, kind: FaultKind) -> None:
    """If the call's answer is lost, the job is stopped all the same, and the call succeeds."""
    job = place.started()
    place.faults.on("StopProcessingJob", kind, times=2)
    job.stop()
    with pytest.raises(JobStoppedError) as raised:
        job.wait(timeout=60)
    assert raised.value.status == "Stopped"
    assert job.wait(on_stop="return") is job


def test_42_denied_logs_do_not_end_the_wait(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Credentials for statuses but not for logs can wait, with one warning."""
    job = place.start("print('secret')")
    for operation in ("FilterLogEvents", "GetLogEvents", "DescribeLogStreams"):
        place.faults.on(operation, "denied", probability=1.0)
    with caplog.at_level(logging.WARNING, "processing"):
        assert job.wait(timeout=60) is job
    assert len([record for record in caplog.records if "not allowed" in record.message]) == 1
    assert job.status == "Completed"


# Tests in a process of their own.


@pytest.fixture
def engine(tmp_path: Path) -> LocalSession:
    return LocalSession(tmp_path / "engine", tick=0.01, grace=1.0)


def client(engine: LocalSession, tmp_path: Path, code: str, *, then: str = "") -> subprocess.Popen[str]:
    """Start a program that runs `code` as a job and waits for it, then goes on with `then`."""
    (tmp_path / "script.py").write_text(textwrap.dedent(code))
    program = f"""
from processing import LocalSession, ScriptProcessor
session = LocalSession({str(engine.home)!r}, tick=0.01, grace=1.0)
processor = ScriptProcessor(command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session)
job = processor.run({str(tmp_path / "script.py")!r}, job_name="job")
{then}
"""
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_31_a_closed_output_does_not_end_the_wait(engine: LocalSession, tmp_path: Path) -> None:
    """If the reader of the lines has gone, as behind `head -1`, the program goes on to the job's end."""
    gate = tmp_path / "gate"
    code = f"""
        import os, time
        print("first", flush=True)
        while not os.path.exists({str(gate)!r}):
            time.sleep(0.01)
        for number in range(1000):
            print(number)
    """
    process = client(engine, tmp_path, code, then=f"open({str(tmp_path / 'ended')!r}, 'w').write(job.status)")
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    gate.touch()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), (tmp_path / "ended").read_text()) == (0, "Completed"), errors


def test_41_a_deadline_and_a_stop_have_errors_of_their_own(place: Place) -> None:
    """WaitTimeoutError leaves the job running; JobStoppedError reports a stop, unless that is not an error."""
    job = place.started()
    with pytest.raises(WaitTimeoutError, match="goes on"):
        job.wait(timeout=0.05)
    assert job.status == "InProgress"
    job.stop()
    with pytest.raises(JobStoppedError):
        job.wait()
    assert job.wait(on_stop="return") is job


def test_41_ctrl_c_detaches_with_commands(engine: LocalSession, tmp_path: Path) -> None:
    """The first Ctrl-C ends the wait, shows how to attach and how to stop, and leaves the job alone."""
    process = client(engine, tmp_path, SLEEP)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert "processing.attach('job'" in errors
    assert ".stop()" in errors
    job = processing.attach("job", engine)
    assert job.status == "InProgress"
    job.stop()
    job.wait(on_stop="return")


def test_41_a_second_ctrl_c_leaves_at_once(engine: LocalSession, tmp_path: Path) -> None:
    """A second Ctrl-C ends the program, even if the first one is still being handled."""
    process = client(engine, tmp_path, SLEEP)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    job = processing.attach("job", engine)
    assert job.status == "InProgress"
    job.stop()
    job.wait(on_stop="return")
