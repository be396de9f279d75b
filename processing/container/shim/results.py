"""Results: the JSON object that every task leaves, after success and failure, and its signature."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence

from processing.container.shim.files import RESULT_NAME, Output

if TYPE_CHECKING:
    from processing.container.shim.storage import Store
    from processing.container.shim.tasks import Task

FORM = "0.8.3"
"""The version of sagemaker-shim whose fields a result has."""
SIGNATURE = "signature_hmac_sha256"
"""The name of the signature in the metadata of an object."""
JOB = "processing_job_name"
"""The name of the job in the metadata of a result."""
SETUP_NAME = ".sagemaker_shim/runtime_setup_result.json"
"""The key of the setup's result after its prefix."""


class TaskResult(NamedTuple):
    """The end of a task.

    Attributes:
        pk: the task's name.
        return_code: the program's exit code, 128 plus the signal that ended it, or 1 if the shim failed.
        message: the reason of a failure, for the user of the program; empty without one.
        stderr: the last lines of stderr.
        seconds: the duration of the program; None if it did not start.
        invoked: whether a long-lived server did the task.
        outputs: the files that were uploaded.
        skipped: the paths of links and special files that were not.
        failed_phase: the part that failed: "setup", "download", "start", "run" or "upload"; None without a failure.
    """

    pk: str
    return_code: int
    message: str = ""
    stderr: Sequence[str] = ()
    seconds: Optional[float] = None
    invoked: bool = False
    outputs: Sequence[Output] = ()
    skipped: Sequence[str] = ()
    failed_phase: Optional[str] = None

    def to_json(self) -> bytes:
        """Return the result as JSON."""
        duration = None if self.seconds is None else _duration(self.seconds)
        outputs: List[Dict[str, Any]] = [{**each._asdict(), "decompress": False} for each in self.outputs]
        return _encode(
            {
                "pk": self.pk,
                "return_code": self.return_code,
                "user_safe_error_message": self.message,
                "user_process_last_stderr_lines": self.stderr,
                "exec_duration": None if self.invoked else duration,
                "invoke_duration": duration if self.invoked else None,
                "outputs": outputs,
                "sagemaker_shim_version": FORM,
                "skipped_outputs": self.skipped,
                "failed_phase": self.failed_phase,
            }
        )


def store_result(result: TaskResult, task: Task, store: Store, key: bytes, job: str = "") -> bytes:
    """Store a result after the task's prefix; return its JSON.

    Args:
        result: the result.
        task: the task.
        store: the object storage. One request writes the object, so a reader sees all of it or nothing.
        key: the key of the signature; empty for no signature.
        job: the name of the job, which distinguishes its results from those of another; empty for none.

    Raises:
        StoreError: the result cannot be written.
    """
    data = result.to_json()
    _put(data, task.output_bucket_name, task.output_prefix + RESULT_NAME, store, key, {JOB: job} if job else {})
    return data


def store_setup_result(bucket: str, prefix: str, message: str, store: Store, key: bytes) -> None:
    """Store the result of the setup.

    Args:
        bucket: the bucket.
        prefix: the beginning of the key, with a `/` at its end.
        message: the reason of a failure; empty for success.
        store: the object storage.
        key: the key of the signature; empty for no signature.

    Raises:
        StoreError: the result cannot be written.
    """
    fields = {"return_code": int(bool(message)), "user_safe_error_message": message, "sagemaker_shim_version": FORM}
    _put(_encode(fields), bucket, prefix + SETUP_NAME, store, key)


def _put(
    data: bytes, bucket: str, name: str, store: Store, key: bytes, metadata: Optional[Dict[str, str]] = None
) -> None:
    signature = {SIGNATURE: hmac.new(key, data, hashlib.sha256).hexdigest()} if key else {}
    store.put(bucket, name, io.BytesIO(data), {**(metadata or {}), **signature})


def _encode(fields: Dict[str, Any]) -> bytes:
    # Names of files may contain bytes that are not UTF-8; JSON escapes them.
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _duration(seconds: float) -> str:
    """Return a duration in ISO 8601."""
    return "PT%sS" % ("%.6f" % seconds).rstrip("0").rstrip(".")
