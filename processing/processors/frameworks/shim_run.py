"""Runs of `ShimProcessor`: the job of some tasks, and the result of each."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import attrs

from processing.container.shim.files import RESULT_NAME
from processing.container.shim.results import JOB, SIGNATURE
from processing.exceptions import JobFailedError, JobStoppedError, StagingError
from processing.request.s3_uri import S3Uri
from processing.staging.downloads import get_object
from processing.staging.error_text import failure_reason
from processing.staging.objects import object_params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processing.container.shim.tasks import Task
    from processing.job.job import ProcessingJob

_READERS = 16
"""Results that are read at a time. One takes a few milliseconds, and thousands are read in seconds."""


@attrs.frozen
class ShimResult:
    """The end of one task.

    Args:
        pk: the task's name.
        return_code: the program's exit code; 1 if the shim failed; None if the task left no result.
        message: the reason of a failure, for people; empty without one, and if the program failed by itself.
        failed_phase: the part that failed: `setup`, `download`, `start`, `run` or `upload`; None without a failure.
        stderr: the last lines of the program's stderr, each with its newline.
        outputs: the uploaded files: `relative_path`, `bucket_name`, `bucket_key`, `size` in bytes and `sha256`.
        document: the result object as the shim wrote it; empty if the task left none.
    """

    pk: str
    return_code: int | None
    message: str = ""
    failed_phase: str | None = None
    stderr: tuple[str, ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()
    document: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @property
    def succeeded(self) -> bool:
        """True if the program ended with 0 and all outputs were uploaded."""
        return self.return_code == 0


class ShimRun:
    """The job of some tasks. `ShimProcessor.run_tasks` returns it.

    Attributes:
        job: the job.
        pks: the names of the tasks, in their order.
    """

    def __init__(self, job: ProcessingJob, tasks: Sequence[Task], signing_key: bytes) -> None:
        self.job = job
        self.pks = tuple(task.pk for task in tasks)
        self._tasks = tuple(tasks)
        self._signing_key = signing_key

    def wait(self, logs: bool = True, *, timeout: float | None = None, quiet: bool = False) -> ShimRun:
        """Wait for the job's end, whichever it is, and write its log lines to standard output meanwhile.

        Args:
            logs: False to show no log lines.
            timeout: the longest wait in seconds; None waits without limit.
            quiet: True to show nothing: neither log lines nor the status.

        Returns:
            The run itself.

        Raises:
            WaitTimeoutError: the timeout passed; the job goes on.
        """
        self._wait(timeout, logs=logs, quiet=quiet)
        return self

    def results(self, *, timeout: float | None = None) -> list[ShimResult]:
        """Wait for the job's end, and return the result of each task, in the order of the tasks.

        A failed task is no error: its result tells. A task that was not run, or whose host failed, has a result with
        the reason. A result of an earlier job at the same place does not count.

        Args:
            timeout: the longest wait in seconds; None waits without limit.

        Raises:
            WaitTimeoutError: the timeout passed; the job goes on.
            StagingError: a result cannot be read, or its signature is wrong.
        """
        reason = self._wait(timeout, logs=False, quiet=True)
        with ThreadPoolExecutor(min(_READERS, len(self._tasks))) as pool:
            return list(pool.map(functools.partial(self._result, reason=reason), self._tasks))

    def _wait(self, timeout: float | None, *, logs: bool, quiet: bool) -> str:
        """Wait for the end; return the reason of tasks that left no result."""
        try:
            self.job.wait(logs=logs, timeout=timeout, quiet=quiet)
        except JobFailedError as error:
            return f"the job {self.job.name} failed: {error.failure_reason or error.exit_message or error.status}"
        except JobStoppedError:
            return f"the job {self.job.name} was stopped"
        return f"the job {self.job.name} completed without it"

    def _result(self, task: Task, reason: str) -> ShimResult:
        session = self.job.sagemaker_session
        uri = S3Uri(task.output_bucket_name, task.output_prefix + RESULT_NAME)
        try:
            found = get_object(session.api, object_params(uri, session.expected_owner), _read)
        except Exception as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code")
            if code in {"NoSuchKey", "404"}:
                return ShimResult(task.pk, None, f"There is no result: {reason}")
            raise StagingError(
                f"the result of the task {task.pk} cannot be read: {failure_reason(error, uri)}"
            ) from error
        if found.job != self.job.name:
            return ShimResult(task.pk, None, f"There is no result: {reason}")
        if self._signing_key:
            self._verify(found, uri)
        return _from_document(task.pk, found.content, uri)

    def _verify(self, found: _Stored, uri: S3Uri) -> None:
        expected = hmac.new(self._signing_key, found.content, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, found.signature):
            raise StagingError(f"{uri}: the signature of the result is wrong or missing, so it is not from the shim")


@attrs.frozen
class _Stored:
    """A result object."""

    content: bytes
    job: str
    signature: str


def _read(answer: Mapping[str, Any]) -> _Stored:
    metadata = answer.get("Metadata") or {}
    return _Stored(answer["Body"].read(), metadata.get(JOB, ""), metadata.get(SIGNATURE, ""))


def _from_document(pk: str, content: bytes, uri: S3Uri) -> ShimResult:
    try:
        document = json.loads(content)
        return ShimResult(
            pk,
            int(document["return_code"]),
            str(document.get("user_safe_error_message", "")),
            document.get("failed_phase"),
            tuple(document.get("user_process_last_stderr_lines", ())),
            tuple(document.get("outputs", ())),
            document,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StagingError(f"{uri}: the object is not a result of the shim ({error!r})") from error
