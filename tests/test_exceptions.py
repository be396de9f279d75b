"""The errors themselves: what they keep on their way to another process."""

from __future__ import annotations

import copy
import pickle

import pytest

from processing import (
    CapacityError,
    CodeNotFoundError,
    ConfigurationError,
    EngineError,
    JobFailedError,
    JobStoppedError,
    ProcessingError,
    StagingError,
    SubmissionError,
    UnexpectedStatusException,
    WaitTimeoutError,
    WatchError,
)
from processing.local.errors import ApiError

JOB = {"job_name": "nightly", "failure_reason": "reason", "exit_message": "exit", "log_tail": ["last line"]}


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("one", "two"),
        CodeNotFoundError("code: missing"),
        StagingError("failed", [("a.csv", "gone")]),
        SubmissionError("refused", job_name="nightly", code="ResourceLimitExceeded"),
        JobFailedError("failed", status="Failed", **JOB),  # type: ignore[arg-type]
        CapacityError("failed", status="Failed", **JOB),  # type: ignore[arg-type]
        JobStoppedError("stopped", status="Stopped", **JOB),  # type: ignore[arg-type]
        WaitTimeoutError("late", job_name="nightly"),
        WatchError("gone", job_name="nightly", status="InProgress"),
        EngineError("not here"),
        ApiError("NoSuchKey", "gone", 404, Key="a"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_can_be_pickled(error: ProcessingError) -> None:
    """A pool of processes hands it on as it is: its type, its text and all its attributes."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))


def test_a_failure_can_be_made_as_in_sagemaker_2() -> None:
    """From a message, the statuses that are a success, and the one that it was."""
    error = UnexpectedStatusException("failed", ["Completed", "Stopped"], "Failed")
    assert (error.allowed_statuses, error.actual_status, error.status) == (("Completed", "Stopped"), "Failed", "Failed")
    assert JobFailedError("failed", job_name="nightly", status="Failed").allowed_statuses == ("Completed",)
