"""Every error that this package raises on purpose, in one tree.

```
ProcessingError
├─ ConfigurationError (ValueError)      what the caller gave cannot work; found before any call
│   └─ CodeNotFoundError
├─ StagingError                         an upload or download failed for good: names every file not moved
├─ SubmissionError                      AWS refused the request (cause: the ClientError)
├─ JobError                             carries job_name, status, failure_reason, exit_message, log_tail
│   ├─ JobFailedError (ValueError)      alias UnexpectedStatusException (allowed_statuses, actual_status)
│   │   └─ CapacityError
│   └─ JobStoppedError
├─ WaitTimeoutError (TimeoutError)      the caller's deadline passed; the job goes on
├─ WatchError                           a job's status cannot be had any more; the job itself may go on
└─ EngineError                          the embedded engine cannot do it here, and what would make it
```

`except ProcessingError` catches them all. Errors of the network and of AWS that the package cannot explain better than
botocore does are left as botocore's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class ProcessingError(Exception):
    """The root of the tree. Every error can be pickled: a pool of processes hands it on whole."""

    def __reduce__(self) -> tuple[Callable[..., ProcessingError], tuple[Any, ...]]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[ProcessingError], args: tuple[Any, ...], attributes: dict[str, Any]) -> ProcessingError:
    """Return an error as it was pickled, without its initialiser: that takes more than `args`."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigurationError(ProcessingError, ValueError):
    """What the caller gave cannot work. Raised before anything is uploaded or paid for.

    A problem begins with the field as the caller wrote it: `inputs[2].destination: must begin with ...`.

    Attributes:
        problems: everything that was found, a text each; the message has them line by line.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class CodeNotFoundError(ConfigurationError):
    """The script does not exist, or is not what it has to be."""


class StagingError(ProcessingError):
    """An upload or a download failed for good.

    Attributes:
        failures: what was not moved, each a pair of a path or URI and the reason.
    """

    def __init__(self, message: str, failures: Iterable[tuple[str, str]] = ()) -> None:
        self.failures = tuple(failures)
        listed = "".join(f"\n  {name}: {reason}" for name, reason in self.failures)
        super().__init__(message + listed)


class SubmissionError(ProcessingError):
    """AWS refused the request, or never said what became of it. The cause is botocore's error, where there is one.

    Attributes:
        job_name: the name that was asked for.
        code: AWS's error code, such as `ResourceLimitExceeded`; None where no answer came.
    """

    def __init__(self, message: str, *, job_name: str, code: str | None = None) -> None:
        self.job_name = job_name
        self.code = code
        super().__init__(message)


class JobError(ProcessingError):
    """A job did not end as it should.

    Attributes:
        job_name: the job.
        status: its status, such as `Failed`.
        failure_reason: AWS's FailureReason, or None.
        exit_message: what the job wrote to /opt/ml/output/message, or None.
        log_tail: its last log lines, oldest first; empty where they were not to be had.
    """

    def __init__(
        self,
        message: str,
        *,
        job_name: str,
        status: str,
        failure_reason: str | None = None,
        exit_message: str | None = None,
        log_tail: Iterable[str] = (),
    ) -> None:
        self.job_name = job_name
        self.status = status
        self.failure_reason = failure_reason
        self.exit_message = exit_message
        self.log_tail = tuple(log_tail)
        super().__init__(message)


class JobFailedError(JobError, ValueError):
    """The job's status is Failed. `UnexpectedStatusException` is the same class under the name of `sagemaker` 2.x.

    It can be made as there too, by who tests what becomes of it: from a message and the two kinds of statuses.

    Attributes:
        allowed_statuses: the statuses that would have been a success.
        actual_status: the same as `status`.
    """

    def __init__(
        self,
        message: str,
        allowed_statuses: Iterable[str] = ("Completed",),
        actual_status: str = "Failed",
        *,
        job_name: str = "",
        status: str | None = None,
        failure_reason: str | None = None,
        exit_message: str | None = None,
        log_tail: Iterable[str] = (),
    ) -> None:
        self.allowed_statuses = tuple(allowed_statuses)
        super().__init__(
            message,
            job_name=job_name,
            status=status or actual_status,
            failure_reason=failure_reason,
            exit_message=exit_message,
            log_tail=log_tail,
        )

    @property
    def actual_status(self) -> str:
        """The status that the job has."""
        return self.status


UnexpectedStatusException = JobFailedError


class CapacityError(JobFailedError):
    """The job failed because AWS had no instance to give it (`CapacityError` in the failure reason)."""


class JobStoppedError(JobError):
    """The job was stopped, by a call or at its maximum runtime. `wait(on_stop="return")` does not raise it."""


class WaitTimeoutError(ProcessingError, TimeoutError):
    """The deadline given to `wait` passed. The job goes on.

    Attributes:
        job_name: the job that is still running.
    """

    def __init__(self, message: str, *, job_name: str) -> None:
        self.job_name = job_name
        super().__init__(message)


class WatchError(ProcessingError):
    """How a job goes on cannot be seen any more: it was deleted, or looking is not allowed.

    The job itself may well go on. The cause is botocore's error, where there is one.

    Attributes:
        job_name: the job.
        status: its last known status; None where it was never seen.
    """

    def __init__(self, message: str, *, job_name: str, status: str | None = None) -> None:
        self.job_name = job_name
        self.status = status
        super().__init__(message)


class EngineError(ProcessingError):
    """The embedded engine cannot do this here; the message says what would make it."""
