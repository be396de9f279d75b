"""The descriptions of a transform job: answers of DescribeTransformJob and ListTransformJobs, and details of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.jobs.description import to_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.stores.jobs import JobRecord


def transform_with_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of a transform job as Describe answers it: without tags, with SageMaker's defaults."""
    request = {name: value for name, value in params.items() if name != "Tags"}
    source = {"CompressionType": "None", "SplitType": "None", **request["TransformInput"]}
    target = {"AssembleWith": "None", **request["TransformOutput"]}
    processing = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None", **request.get("DataProcessing", {})}
    return {**request, "TransformInput": source, "TransformOutput": target, "DataProcessing": processing}


def transform_description(request: Mapping[str, Any], job: JobRecord) -> dict[str, Any]:
    """Return the answer of DescribeTransformJob.

    Args:
        request: the job's request, with its defaults and the copy of its model.
        job: the job.
    """
    answer = {
        **{name: value for name, value in request.items() if name != "Model"},
        "TransformJobArn": job.arn,
        "TransformJobStatus": job.status,
        "FailureReason": job.failure_reason,
        "CreationTime": to_datetime(job.created),
        "TransformStartTime": None if job.started is None else to_datetime(job.started),
        "TransformEndTime": None if job.ended is None else to_datetime(job.ended),
    }
    return {name: value for name, value in answer.items() if value is not None}


def transform_summary(job: JobRecord) -> dict[str, Any]:
    """Return the item of ListTransformJobs."""
    answer = {
        "TransformJobName": job.name,
        "TransformJobArn": job.arn,
        "CreationTime": to_datetime(job.created),
        "TransformEndTime": None if job.ended is None else to_datetime(job.ended),
        "LastModifiedTime": to_datetime(job.modified),
        "TransformJobStatus": job.status,
        "FailureReason": job.failure_reason,
    }
    return {name: value for name, value in answer.items() if value is not None}
