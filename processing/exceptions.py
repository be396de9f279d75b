"""The tree of errors that this package raises.

```
ProcessingError
├─ ConfigurationError (ValueError)      an argument cannot work; found before any call
│   └─ CodeNotFoundError
├─ CredentialsError                     missing, expired or unusable credentials: where we looked, what to do
├─ StagingError                         an upload or download failed for good: names the files not moved
├─ SubmissionError                      AWS refuses the request (cause: the ClientError)
│   └─ NameTakenError
├─ JobError                             carries job_name, status, failure_reason, exit_message, log_tail
│   ├─ JobFailedError (ValueError)      alias UnexpectedStatusException (allowed_statuses, actual_status)
│   │   └─ CapacityError
│   └─ JobStoppedError
├─ WaitTimeoutError (TimeoutError)      the caller's deadline passes; the job goes on
├─ WatchError                           a job's status cannot be read any more; the job may go on
├─ EngineError                          the embedded engine cannot do it on this machine; the message has the remedy
└─ RemoteFunctionError                  a remote function has no trusted result
    ├─ SerializationError               a function, argument or result cannot be serialized
    ├─ DeserializationError             stored bytes are not what was stored, or cannot be loaded
    ├─ ServiceError                     a call to S3 failed
    └─ RuntimeEnvironmentError          the job's environment cannot run the function
```

`except ProcessingError` catches them all. Errors of the network and of AWS stay botocore's own if this package cannot
explain them better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.container.terminal_text import safe_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


MAX_LISTED = 10
"""The most findings of one kind in the text of an error. Thousands of lines would hide the first ones."""


def listed(lines: Iterable[str], rest: str = "more") -> list[str]:
    """Return the first ten lines, and a line `and N more` for the others.

    Args:
        lines: the findings, the most important first.
        rest: the word or words after the number.
    """
    every = list(lines)
    hidden = len(every) - MAX_LISTED
    return every if hidden <= 0 else [*every[:MAX_LISTED], f"and {hidden:,} {rest}"]


class ProcessingError(Exception):
    """The base class of all errors. Every error can be pickled with all its attributes.

    Its text may quote a job. Control characters in it are escapes, except line breaks.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(safe_text(value) if isinstance(value, str) else value for value in args))

    def __reduce__(self) -> tuple[Callable[..., ProcessingError], tuple[Any, ...]]:
        return _restored, (type(self), self.args, self.__dict__)


def portable(error: Exception) -> Exception:
    """Return an error that can be pickled: the error itself, or one with its text."""
    import pickle

    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
    except Exception:  # noqa: BLE001 - any object may be in a third party's error
        return ProcessingError(f"{type(error).__name__}: {error}")
    return error


def _restored(kind: type[ProcessingError], args: tuple[Any, ...], attributes: dict[str, Any]) -> ProcessingError:
    """Return a pickled error without calling its initialiser, which needs more than `args`."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


def _texts(values: Any) -> tuple[Any, ...]:
    """Return texts as a tuple. One text is one. Any other value has none: an error must not fail to be made."""
    if isinstance(values, str):
        return (values,)
    try:
        return tuple(values)
    except TypeError:
        return ()


class ConfigurationError(ProcessingError, ValueError):
    """An argument cannot work. Raised before anything is uploaded or paid for.

    A problem begins with the field as the caller wrote it: `inputs[2].destination: must begin with ...`.

    Attributes:
        problems: all problems found. The message has one per line, at most ten.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(listed(problems)))


class CodeNotFoundError(ConfigurationError):
    """The script does not exist, or is not a file that can run."""


class CredentialsError(ProcessingError):
    """AWS credentials are missing, have expired, or cannot be used.

    The first call to AWS raises it: an upload, CreateProcessingJob, a wait, `attach`, a fleet. The message names the
    places that were searched, or the place that the credentials come from, and the remedy. The cause is botocore's
    error.

    Attributes:
        reason: `missing`; `expired`; `refused` if AWS does not accept them; `unusable` if they cannot be loaded.
        code: the error code of AWS, such as `ExpiredToken`; None if nothing was sent.
    """

    def __init__(self, message: str, *, reason: str = "unusable", code: str | None = None) -> None:
        self.reason = reason
        self.code = code
        super().__init__(message)


class StagingError(ProcessingError):
    """An upload or a download failed for good. The message names at most ten files.

    Attributes:
        failures: all files that were not transferred, as pairs of a path or URI and the reason.
    """

    def __init__(self, message: str, failures: Iterable[tuple[str, str]] = ()) -> None:
        pairs = [pair for pair in _texts(failures) if isinstance(pair, tuple) and len(pair) == 2]
        self.failures: tuple[tuple[str, str], ...] = tuple(pairs)
        lines = listed(f"{name}: {reason}" for name, reason in self.failures)
        super().__init__("\n  ".join([str(message), *lines]))


class SubmissionError(ProcessingError):
    """AWS refused the request, or its outcome stayed unknown. The cause is botocore's error, if there is one.

    Attributes:
        job_name: the requested name.
        code: AWS's error code, such as `ResourceLimitExceeded`; None if no answer came.
        may_exist: True if the job may have been created.
    """

    def __init__(self, message: str, *, job_name: str, code: str | None = None, may_exist: bool = False) -> None:
        self.job_name = job_name
        self.code = code
        self.may_exist = may_exist
        super().__init__(message)


class NameTakenError(SubmissionError):
    """Another job has the name. That job was not touched.

    Attributes:
        job_name: the requested name.
        code: AWS's error code, `ResourceInUse`.
    """


class JobError(ProcessingError):
    """A job ended without success.

    Attributes:
        job_name: the job's name.
        status: the job's status, such as `Failed`.
        failure_reason: AWS's FailureReason, or None.
        exit_message: the text that the job wrote to /opt/ml/output/message, or None.
        log_tail: the job's last log lines, oldest first; empty if they could not be read.
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
        self.log_tail: tuple[str, ...] = _texts(log_tail)
        super().__init__(message)


class JobFailedError(JobError, ValueError):
    """The job's status is Failed. `UnexpectedStatusException` is the same class under the name of `sagemaker` 2.x.

    Tests can construct it as in `sagemaker` 2.x, from a message and the allowed and the actual status.

    Attributes:
        allowed_statuses: the statuses that count as a success.
        actual_status: the same as `status`.
        job_name: the job's name.
        status: the job's status, such as `Failed`.
        failure_reason: AWS's FailureReason, or None.
        exit_message: the text that the job wrote to /opt/ml/output/message, or None.
        log_tail: the job's last log lines, oldest first; empty if they could not be read.
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
        self.allowed_statuses: tuple[str, ...] = _texts(allowed_statuses)
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
        """The job's status."""
        return self.status


UnexpectedStatusException = JobFailedError


class CapacityError(JobFailedError):
    """The job failed because AWS had no free instance (`CapacityError` in the failure reason).

    It has the attributes of `JobFailedError`, such as `job_name` and `failure_reason`.
    """


class JobStoppedError(JobError):
    """The job was stopped, by a call or at its maximum runtime. `wait(on_stop="return")` does not raise it.

    Attributes:
        job_name: the job's name.
        status: the job's status, such as `Stopped`.
        failure_reason: AWS's FailureReason, or None.
        exit_message: the text that the job wrote to /opt/ml/output/message, or None.
        log_tail: the job's last log lines, oldest first; empty if they could not be read.
    """


class WaitTimeoutError(ProcessingError, TimeoutError):
    """The deadline given to `wait` passed. The job goes on.

    Attributes:
        job_name: the name of the job, which still runs.
    """

    def __init__(self, message: str, *, job_name: str) -> None:
        self.job_name = job_name
        super().__init__(message)


class WatchError(ProcessingError):
    """A job's status cannot be read any more: the job was deleted, or the permission is missing.

    The job itself may go on. The cause is botocore's error, if there is one.

    Attributes:
        job_name: the job's name.
        status: the last known status; None if it was never read.
    """

    def __init__(self, message: str, *, job_name: str, status: str | None = None) -> None:
        self.job_name = job_name
        self.status = status
        super().__init__(message)


class EngineError(ProcessingError):
    """The embedded engine cannot do this on this machine. The message names the remedy."""


class RemoteFunctionError(ProcessingError):
    """A remote function has no result that can be trusted.

    The function's own exception is not one of these: the caller gets it as it was raised.

    Attributes:
        exit_code: the exit code of the job's program, if that ended the call; else None.
    """

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class SerializationError(RemoteFunctionError):
    """A function, an argument, a result or an exception cannot be serialized. The message names it."""


class DeserializationError(RemoteFunctionError):
    """Stored bytes are not the ones that were stored, or cannot be loaded. They were not unpickled if not genuine."""


class ServiceError(RemoteFunctionError):
    """A call to S3 failed. The cause is botocore's error."""


class RuntimeEnvironmentError(RemoteFunctionError):
    """The job's environment cannot run the function: another Python, a missing or failing dependency."""
