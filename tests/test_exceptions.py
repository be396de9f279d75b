"""The errors themselves: what they keep on their way to another process."""

from __future__ import annotations

import copy
import pickle

import pytest

from processing import (
    CapacityError,
    CodeNotFoundError,
    ConfigurationError,
    CredentialsError,
    DeserializationError,
    EngineError,
    JobFailedError,
    JobStoppedError,
    ProcessingError,
    RemoteFunctionError,
    RuntimeEnvironmentError,
    SerializationError,
    ServiceError,
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
        CredentialsError("expired", reason="expired", code="ExpiredToken"),
        StagingError("failed", [("a.csv", "gone")]),
        SubmissionError("refused", job_name="nightly", code="ResourceLimitExceeded"),
        JobFailedError("failed", status="Failed", **JOB),  # type: ignore[arg-type]
        CapacityError("failed", status="Failed", **JOB),  # type: ignore[arg-type]
        JobStoppedError("stopped", status="Stopped", **JOB),  # type: ignore[arg-type]
        WaitTimeoutError("late", job_name="nightly"),
        WatchError("gone", job_name="nightly", status="InProgress"),
        EngineError("not here"),
        RemoteFunctionError("no result", exit_code=3),
        SerializationError("no"),
        DeserializationError("no"),
        ServiceError("no"),
        RuntimeEnvironmentError("no"),
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


def test_a_text_lists_ten_findings_and_their_number() -> None:
    """Thousands of lines would hide the first; the attributes keep all."""
    failures = [(f"{number}.csv", "gone") for number in range(3000)]
    staging = StagingError("3000 of 3000 files could not be uploaded", failures)
    assert staging.failures == tuple(failures)
    assert str(staging).splitlines()[1:] == [*(f"  {n}.csv: gone" for n in range(10)), "  and 2,990 more"]
    problems = [f"inputs[{number}]: missing" for number in range(12)]
    configuration = ConfigurationError(*problems)
    assert configuration.problems == tuple(problems)
    assert str(configuration).splitlines() == [*problems[:10], "and 2 more"]
    assert len(str(ConfigurationError(*problems[:10])).splitlines()) == 10
