"""The outputs of a completed job into which no host wrote a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from processing.local.errors import ApiError
from processing.local.jobs.data import file_path, is_file_uri, split_uri

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from processing.local.context import EngineContext


def empty_outputs(engine: EngineContext, job_name: str) -> list[str]:
    """Return the names of the outputs that received no file; none if the job was deleted, or uses another S3.

    Args:
        engine: the engine that ran the job.
        job_name: the job's name.
    """
    if engine.settings.remote_s3_endpoint is not None:
        return []
    try:
        job = engine.jobs.get(job_name)
        items = (engine.jobs.request(job.id).get("ProcessingOutputConfig") or {}).get("Outputs") or ()
    except ApiError:
        return []
    # A Continuous output has files only if there is something to report while the job runs, such as an exception.
    uploaded = [
        item
        for item in items
        if item.get("S3Output") and not item.get("AppManaged") and item["S3Output"]["S3UploadMode"] != "Continuous"
    ]
    return [item["OutputName"] for item in uploaded if not _has_file(engine, item["S3Output"], job.created)]


def _has_file(engine: EngineContext, output: Mapping[str, Any], since: float) -> bool:
    """Return whether an output has a file. In S3 only objects since the job's creation count."""
    uri = output["S3Uri"]
    if is_file_uri(uri):
        return any(names for _, _, names in os.walk(file_path(uri)))
    bucket, prefix = split_uri(uri)
    prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    try:
        return any(record.last_modified >= since for record in engine.objects.iter_prefix(bucket, prefix))
    except ApiError:  # the bucket was deleted since
        return True
