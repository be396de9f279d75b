"""The exit code of each kind of end, and Ctrl-C at the moment of the submission."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import processing
from processing import exceptions
from processing.cli import main
from processing.cli.app import Interrupts
from processing.cli.exit_codes import code_of, end_by
from processing.job.launch import Launch

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.job.submit import Submitted

JOB = {"job_name": "clean", "status": "Failed"}
ERRORS = [
    (exceptions.JobFailedError("x", **JOB), 1),
    (exceptions.CapacityError("x", **JOB), 1),
    (exceptions.StagingError("x"), 1),
    (exceptions.SubmissionError("x", job_name="clean"), 1),
    (exceptions.CredentialsError("x"), 1),
    (exceptions.EngineError("x"), 1),
    (exceptions.ConfigurationError("x"), 2),
    (exceptions.CodeNotFoundError("x"), 2),
    (exceptions.JobStoppedError("x", job_name="clean", status="Stopped"), 3),
    (exceptions.WaitTimeoutError("x", job_name="clean"), 4),
    (exceptions.WatchError("x", job_name="clean"), 5),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])
def test_each_error_has_its_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The code says how the job ended, and the error is one line on standard error."""
    assert code_of(error) == code
    assert end_by(error) == code
    assert capsys.readouterr() == ("", "processing: error: x\n")


def test_an_unknown_error_is_a_traceback() -> None:
    """A defect of the package is not hidden."""
    with pytest.raises(ZeroDivisionError):
        end_by(ZeroDivisionError())
    assert end_by(KeyboardInterrupt()) == 130


@pytest.mark.parametrize("created", [True, False])
def test_ctrl_c_at_the_moment_of_the_submission(
    created: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that exists all the same is named with the commands to attach and stop; otherwise none was created."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "engine"))
    Path("hello.py").write_text("print('hello')\n")
    submit = Launch.submit

    def interrupted(launch: Launch) -> Submitted:
        if created:
            submit(launch)
        raise KeyboardInterrupt

    monkeypatch.setattr(Launch, "submit", interrupted)
    assert main(["run", "hello.py", "-t", "local", "--name", "there"]) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ("  stop:   processing stop there --local" if created else "Interrupted: no job was created.")
    for job in processing.jobs(session=processing.LocalSession()):
        job.exception()


class Interrupted:
    """An object whose finalizer is interrupted."""

    def __del__(self) -> None:
        """Press Ctrl-C."""
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_in_a_finalizer_is_not_lost() -> None:
    """Python drops the error of a finalizer; the interrupt is raised again, also in a wait."""
    report_before, handler_before = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts():
        _wait_after(Interrupted)
    assert (sys.unraisablehook, signal.getsignal(signal.SIGINT)) == (report_before, handler_before)


def _wait_after(make: Callable[[], object]) -> None:
    make()
    assert not threading.Event().wait(60)


def test_other_errors_of_finalizers_are_reported() -> None:
    """The hook of the interrupts leaves all other errors to the hook before it."""
    reported = []
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = lambda dropped: reported.append(dropped.exc_type)
        with Interrupts():
            Failing()
    assert reported == [ZeroDivisionError]


class Failing:
    """An object whose finalizer fails."""

    def __del__(self) -> None:
        """Divide by zero."""
        _ = 1 / 0
