"""The replay of a call in this process: the stored function and arguments, verified, without a job."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from processing.container.remote.call import collected, find_function
from processing.exceptions import ConfigurationError, DeserializationError, ServiceError
from processing.remote_function import packing
from processing.remote_function.call_record import CALL_INPUT, CallRecord
from processing.remote_function.results import decode_values
from processing.staging.transfers import get_bytes

if TYPE_CHECKING:
    from processing.job.job import ProcessingJob
    from processing.request.s3_uri import S3Uri


def replay(job: ProcessingJob, root: S3Uri | None) -> Any:
    """Run the call of a job in this process, and return its result.

    Args:
        job: the job.
        root: the S3 prefix below which the call has to be; None for a job that this process has started.

    Raises:
        DeserializationError: the stored call is not the one that the job got, or cannot be loaded here.
        ServiceError: S3 could not be read.
    """
    record = CallRecord.of(job.describe(), root)
    manifest, packed = _verified(job, record)
    if manifest["program"] not in {"call", "generator", "launch"}:
        raise ConfigurationError(f"replay: job {job.job_name} ran a map, of which each call can be made locally")
    name = f"the call of job {job.job_name}"
    if manifest["values"]:
        call = decode_values(packed, name)
        function, args, kwargs = call["function"], call["args"], call["kwargs"]
    else:
        python = manifest["python"]
        written_by = None if python is None else ".".join(map(str, python))
        function, args, kwargs = packing.unpack(packed, name, written_by=written_by)
    if isinstance(function, (list, tuple)):
        function = find_function(*function)
    return collected(function(*args, **kwargs))


def _verified(job: ProcessingJob, record: CallRecord) -> tuple[dict[str, Any], bytearray]:
    """Return the manifest, and the packed function and arguments, verified with the digest in the job's request."""
    session, uri = job.sagemaker_session, record.places[CALL_INPUT]
    try:
        body = get_bytes(session.api, uri, expected_owner=lambda _bucket: session.account_id())
    except Exception as error:
        raise ServiceError(f"{uri}: the call of job {job.job_name} cannot be read: {error}") from error
    end = body.find(b"\n") + 1
    if hashlib.sha256(body[:end]).hexdigest() != record.manifest_digest:
        raise DeserializationError(f"{uri}: not the manifest that job {job.job_name} got: the object was replaced")
    manifest = json.loads(body[:end])
    entry, packed = manifest["files"]["call"], bytearray(memoryview(body)[end:])
    if len(packed) != entry["size"] or hashlib.sha256(packed).hexdigest() != entry["sha256"]:
        raise DeserializationError(f"{uri}: not the call that job {job.job_name} got: the object was replaced")
    return manifest, packed
