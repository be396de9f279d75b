"""The outcome of a call: its result, or the exception of its function, once their bytes are verified.

A permission to write to S3 is enough to replace a result. So the digest comes from the exit message in
DescribeProcessingJob, which only the job itself can set. Bytes with another digest are not unpickled.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
from typing import TYPE_CHECKING, Any, Final

from processing.container.remote import values
from processing.container.remote.call import EXCEPTION, RESULT, RETURNING
from processing.exceptions import (
    DeserializationError,
    RemoteFunctionError,
    RuntimeEnvironmentError,
    SerializationError,
    ServiceError,
)
from processing.remote_function import packing
from processing.remote_function.call_record import EXCEPTION_OUTPUT, RESULT_OUTPUT, CallRecord, ExitMessage
from processing.remote_function.object_transfer import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.job.job import ProcessingJob
    from processing.request.s3_uri import S3Uri

_OUTPUT_OF: Final = {RESULT: RESULT_OUTPUT, EXCEPTION: EXCEPTION_OUTPUT}
_IN_REASON: Final = re.compile(r"\bexit code:? (-?\d+)")
_CONTROL: Final = (
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    StopAsyncIteration,
    StopIteration,
    SystemExit,
)
_NO_PYTHON: Final = frozenset({126, 127})
"""The exit codes of a program that does not exist or cannot be executed."""


def result_of(job: ProcessingJob, root: S3Uri | None = None) -> Any:
    """Return the result of a job that has ended, or raise the exception of its function.

    Args:
        job: the job.
        root: the S3 prefix below which its result has to be; None for a job that this process has started.

    Raises:
        DeserializationError: the stored bytes are not those of the job, or cannot be loaded.
        RemoteFunctionError: the job has neither a result nor an exception.
        RuntimeEnvironmentError: the job's environment could not run the function.
        ServiceError: S3 could not be read.
    """
    description = job.describe()
    record, message = CallRecord.of(description, root), ExitMessage.of(description)
    if description["ProcessingJobStatus"] != "Completed":
        raise failure_of(job, description)
    if message is None or message.slot != RESULT:
        raise DeserializationError(
            f"processing job {job.job_name}: its exit message does not name a result, so none can be trusted"
        )
    body, name = verified(job, record, message), f"the result of job {job.job_name}"
    if record.result_format != "pickle":
        return decode_values(body, name)
    return packing.unpack(body, name, written_by=message.python)


def failure_of(job: ProcessingJob, description: Mapping[str, Any]) -> BaseException:
    """Return the error of a job that has ended and has not completed: its function's exception, if that is known."""
    status, message = description["ProcessingJobStatus"], ExitMessage.of(description)
    cause = job.exception(timeout=0)
    # A job with a result fails if another of its processes does.
    if status == "Failed" and message is not None and message.slot != RESULT:
        error = _reported(job, description, message)
    else:
        code = _exit_code(description)
        text = str(cause) if cause is not None else f"processing job {job.job_name}: {status}"
        if code in _NO_PYTHON:
            error = RuntimeEnvironmentError(f"{text}\nThe image has no python3 that runs; give another image_uri")
        else:
            error = RemoteFunctionError(text, exit_code=code)
    if isinstance(error, RemoteFunctionError):
        error.__cause__ = error.__cause__ or cause
    return error


def verified(job: ProcessingJob, record: CallRecord, message: ExitMessage) -> bytearray:
    """Return the bytes in the slot of a message.

    Raises:
        DeserializationError: they are missing, or are not the ones that the message names.
        ServiceError: S3 could not be read.
    """
    uri = record.places[_OUTPUT_OF[message.slot]] / message.slot
    if message.size is None or message.sha256 is None:
        raise DeserializationError(f"processing job {job.job_name}: its exit message has no digest")
    return read_object(job.sagemaker_session, uri, size=message.size, sha256=message.sha256)


def _reported(job: ProcessingJob, description: Mapping[str, Any], message: ExitMessage) -> BaseException:
    """Return the error that the exit message of a failed job reports."""
    name, record = f"processing job {job.job_name}", CallRecord.of(description)
    if message.slot != EXCEPTION:
        return RuntimeEnvironmentError(f"{name}: {message.text}")
    if message.code is not None:
        text = f"{name}: the function ended with sys.exit({message.code})"
        return RemoteFunctionError(text, exit_code=message.code)
    if message.stage:
        return not_transferred(name, message.stage, message.text)
    if not message.size or record.result_format != "pickle":  # a pickle of untrusted code is not loaded
        return RemoteFunctionError(f"{name}: the function raised {message.text}")
    try:
        body = verified(job, record, message)
        error = packing.unpack(body, f"the exception of job {job.job_name}", written_by=message.python)
    except (DeserializationError, ServiceError) as problem:
        failed = RemoteFunctionError(f"{name}: the function raised {message.text}\nThe exception is lost: {problem}")
        failed.__cause__ = problem
        return failed
    return for_caller(error, name)


def for_caller(error: BaseException, name: str) -> BaseException:
    """Return an exception of a function as its caller gets it.

    An exception with which Python ends iterators, tasks and programs would do so with the caller's: it becomes the
    cause of a RemoteFunctionError.

    Args:
        error: the exception.
        name: the name of the call for messages.
    """
    assert isinstance(error, BaseException)
    if not isinstance(error, _CONTROL):
        return error
    failed = RemoteFunctionError(f"{name}: the function raised {type(error).__name__}({error})")
    failed.__cause__ = error
    return failed


def not_transferred(name: str, stage: str, problem: str) -> RemoteFunctionError:
    """Return the error of a call whose function or arguments could not be loaded, or whose result could not be stored.

    Args:
        name: the name of the call for messages.
        stage: `LOADING` or `RETURNING`.
        problem: the text of the exception in the job.
    """
    if stage == RETURNING:
        return SerializationError(f"{name}: the result of the function cannot be sent: {problem}")
    text = f"{name}: the function or its arguments cannot be loaded in the image: {problem}"
    if problem.startswith(("ModuleNotFoundError", "ImportError")):
        return RuntimeEnvironmentError(f"{text}. Give `dependencies`, or an image_uri that has the module")
    return DeserializationError(text)


def decode_values(body: bytearray, name: str) -> Any:
    """Return a verified value in the form of JSON or Arrow. No code runs.

    Raises:
        DeserializationError: it is not such a value.
    """
    try:
        return values.decode(body)
    except Exception as error:
        raise DeserializationError(f"{name}: it is not a value: {type(error).__name__}: {error}") from error


def _exit_code(description: Mapping[str, Any]) -> int | None:
    found = _IN_REASON.search(description.get("FailureReason") or "")
    return None if found is None else int(found[1])
