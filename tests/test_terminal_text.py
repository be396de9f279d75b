"""A job's control characters reach no terminal: not in an error's text, its traceback or a log message."""

from __future__ import annotations

import pickle
import traceback

import pytest

import processing
from processing import JobFailedError, WatchError
from processing.container.terminal_text import safe_text
from processing.exceptions import ProcessingError, StagingError, SubmissionError
from processing.job.outcome import job_error
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine

EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202e\x9b\x00"
ESCAPED = r"\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202e\x9b\x00"


def is_clean(text: str) -> bool:
    return all(part.isprintable() for part in text.replace("\t", "").split("\n"))


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
def test_an_error_of_a_job_is_escaped(status: str) -> None:
    """The text has escapes; the attributes keep the raw text, also in a pickle."""
    description = {"ProcessingJobStatus": status, "FailureReason": f"CapacityError {EVIL}", "ExitMessage": EVIL}
    error = job_error("job", description, [EVIL, "one\rtwo", "three\nfour\n"])
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert is_clean(str(each))
        assert is_clean("".join(traceback.format_exception(each)))
        assert str(each).count(ESCAPED) == 3
        assert r"one\rtwo" in str(each)
        assert "\n  three\n  four" in str(each)
        assert (each.exit_message, each.log_tail[0]) == (EVIL, EVIL)
        assert each.failure_reason == f"CapacityError {EVIL}"


def test_the_error_of_a_wait_is_escaped() -> None:
    """The lines may be followed, or read afterwards."""
    aws = SimulatedAws(VirtualClock())
    for name in ("shown", "silent"):
        aws.add_job(
            name, ends=50, status="Failed", failure_reason=EVIL, exit_message=EVIL, lines=[SimulatedLine(1, EVIL)]
        )
    for name, logs in (("shown", True), ("silent", False)):
        with pytest.raises(JobFailedError) as failure:
            processing.attach(name, aws.session()).wait(logs=logs)
        assert is_clean(str(failure.value))
        assert failure.value.log_tail == (EVIL,)


@pytest.mark.parametrize(
    "error",
    [
        ProcessingError(EVIL),
        StagingError("failed", [(EVIL, EVIL)]),
        SubmissionError(EVIL, job_name="job"),
        WatchError(EVIL, job_name="job", status=None),
        processing.ConfigurationError(EVIL, "inputs[0]: no"),
        processing.WaitTimeoutError(EVIL, job_name="job"),
        processing.EngineError(EVIL),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_is_escaped(error: ProcessingError) -> None:
    """Names of files and texts of AWS may be a job's too."""
    assert is_clean(str(error))
    assert ESCAPED in str(error)


def test_a_text_is_escaped_once() -> None:
    """Escapes are plain text, and printable text stays as it is."""
    assert safe_text(EVIL) == ESCAPED == safe_text(safe_text(EVIL))
    assert safe_text("naïve – 日本語\n\tc:\\new") == "naïve – 日本語\n\tc:\\new"
