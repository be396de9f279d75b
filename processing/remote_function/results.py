"""The outcome of a call: the exit message of its job, and the bytes that it vouches for.

Whoever can write to S3 could replace a result. So the digest comes from DescribeProcessingJob, which only the job
itself can set, and bytes with another digest are not unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.container.remote import exceptions
from processing.container.remote.call import EXCEPTION, RESULT
from processing.exceptions import DeserializationError, RemoteFunctionError, RuntimeEnvironmentError, ServiceError
from processing.request.s3_uri import S3Uri
from processing.staging.transfers import get_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from processing.job.job import ProcessingJob

_JOB_PACKAGE: Final = "_processing_remote."
_OUTPUT_OF: Final = {RESULT: "remote-result", EXCEPTION: "remote-exception"}


@attrs.frozen
class ExitMessage:
    """The exit message of a call.

    Args:
        slot: `result`, `exception`, or `refused` if the boot program did not run the call.
        sha256: the SHA-256 of the file in the slot; None if there is none.
        size: its size in bytes.
        text: the text of an exception or of a refusal.
        kind: the name of the exception's class.
        code: the exit code of a function that called `sys.exit`.
    """

    slot: str
    sha256: str | None = None
    size: int | None = None
    text: str = ""
    kind: str = ""
    code: int | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> ExitMessage | None:
        """Return the message in a job's description; None if there is none in the form of ours."""
        try:
            fields = json.loads(description.get("ExitMessage") or "")
            return cls(
                str(fields["slot"]),
                fields.get("sha256"),
                fields.get("size"),
                str(fields.get("text", "")),
                str(fields.get("type", "")),
                fields.get("code"),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def result_of(job: ProcessingJob) -> Any:
    """Return the result of a job that has ended, or raise the exception of its function.

    Raises:
        DeserializationError: the stored bytes are not those of the job, or cannot be loaded.
        RemoteFunctionError: the job has neither a result nor an exception.
        RuntimeEnvironmentError: the job's environment could not run the function.
        ServiceError: S3 could not be read.
    """
    description = job.describe()
    status, message = description["ProcessingJobStatus"], ExitMessage.of(description)
    if status == "Completed":
        if message is None or message.slot != RESULT:
            raise DeserializationError(
                f"processing job {job.job_name}: its exit message does not name a result, so none can be trusted"
            )
        return loads(verified(job, message))
    raise failure_of(job, description)


def failure_of(job: ProcessingJob, description: Mapping[str, Any]) -> BaseException:
    """Return the error of a job that has ended and has not completed: its function's exception, if that is known."""
    status, message = description["ProcessingJobStatus"], ExitMessage.of(description)
    cause = job.exception(timeout=0)
    if status == "Failed" and message is not None:
        return _failure(job, message, cause)
    text = str(cause) if cause is not None else f"processing job {job.job_name}: {status}"
    error = RemoteFunctionError(text, exit_code=_exit_code(description))
    error.__cause__ = cause
    return error


def verified(job: ProcessingJob, message: ExitMessage) -> bytes:
    """Return the bytes in the slot of a message.

    Raises:
        DeserializationError: they are missing, or are not the ones that the message names.
        ServiceError: S3 could not be read.
    """
    from processing.aws.retry import error_code

    session = job.sagemaker_session
    uri = S3Uri.parse(str(job.outputs[_OUTPUT_OF[message.slot]].destination)) / message.slot
    try:
        body = get_bytes(session.api, uri, expected_owner=session.expected_owner)
    except Exception as error:
        if error_code(error) in {"NoSuchKey", "404"}:
            raise DeserializationError(f"{uri}: the {message.slot} of job {job.job_name} is missing") from error
        raise ServiceError(f"{uri}: the {message.slot} of job {job.job_name} cannot be read: {error}") from error
    if len(body) != message.size or hashlib.sha256(body).hexdigest() != message.sha256:
        raise DeserializationError(
            f"{uri}: not the {message.slot} that job {job.job_name} wrote: the object was replaced, and was not loaded"
        )
    return body


def loads(body: bytes | bytearray) -> Any:
    """Return the value of a verified pickle.

    Raises:
        DeserializationError: it cannot be loaded here.
    """
    try:
        return _Unpickler(io.BytesIO(body)).load()
    except Exception as error:
        raise DeserializationError(f"the value cannot be loaded: {type(error).__name__}: {error}") from error


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds the job's own functions in this package."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(_JOB_PACKAGE):
            return _RESTORERS[name]
        return super().find_class(module, name)


def _restore_state(error: BaseException, state: dict[str, Any]) -> None:
    """Set the state of an exception, and its traceback."""
    exceptions.restore_state(error, state)
    error.__traceback__ = _traceback(state["frames"])


_RESTORERS: Final = {"restore": exceptions.restore, "restore_state": _restore_state}


def _traceback(frames: exceptions.Frames) -> TracebackType | None:
    """Return a traceback with these frames."""
    from tblib import Traceback

    made: dict[str, Any] | None = None
    for file, line, function, module in reversed(frames):
        code = {"co_filename": file, "co_name": function}
        frame = {"f_globals": {"__name__": module, "__file__": file}, "f_code": code, "f_lineno": line}
        made = {"tb_frame": frame, "tb_lineno": line, "tb_next": made}
    trace: TracebackType | None = None if made is None else Traceback.from_dict(made).as_traceback()
    return trace


def _failure(job: ProcessingJob, message: ExitMessage, cause: BaseException | None) -> BaseException:
    """Return the error of a failed job that has an exit message of ours."""
    if message.slot == "refused":
        error: BaseException = RuntimeEnvironmentError(f"processing job {job.job_name}: {message.text}")
    elif message.code is not None:
        error = RemoteFunctionError(
            f"processing job {job.job_name}: the function ended with sys.exit({message.code})", exit_code=message.code
        )
    elif message.size:
        return _exception(job, message, cause)
    else:
        error = RemoteFunctionError(f"processing job {job.job_name}: the function raised {message.text}")
    error.__cause__ = cause
    return error


def _exception(job: ProcessingJob, message: ExitMessage, cause: BaseException | None) -> BaseException:
    try:
        error = loads(verified(job, message))
    except (DeserializationError, ServiceError) as problem:
        text = f"processing job {job.job_name}: the function raised {message.text}; {problem}"
        other = RemoteFunctionError(text)
        other.__cause__ = cause
        return other
    assert isinstance(error, BaseException)
    return error


def _exit_code(description: Mapping[str, Any]) -> int | None:
    import re

    found = re.search(r"\bexit code:? (-?\d+)", description.get("FailureReason") or "")
    return None if found is None else int(found[1])
