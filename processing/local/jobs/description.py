"""The descriptions of a job: answers of DescribeProcessingJob and ListProcessingJobs, and details of its events.

Names and types are boto3's; times are timezone-aware datetimes. botocore is not imported: supervisors use this, too.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from processing.container import contract

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.stores.jobs import JobRecord

_S3_INPUT_DEFAULTS = {
    "S3InputMode": "File",
    "S3DataDistributionType": "FullyReplicated",
    "S3CompressionType": "None",
}


def with_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of a job as Describe answers it: without tags, with SageMaker's defaults."""
    request = {name: value for name, value in params.items() if name != "Tags"}
    request.setdefault("StoppingCondition", {"MaxRuntimeInSeconds": contract.DEFAULT_MAX_RUNTIME})
    if "ProcessingInputs" in request:
        request["ProcessingInputs"] = [_input_with_defaults(item) for item in request["ProcessingInputs"]]
    if "ProcessingOutputConfig" in request:
        outputs = [{"AppManaged": False, **item} for item in request["ProcessingOutputConfig"].get("Outputs", ())]
        request["ProcessingOutputConfig"] = {**request["ProcessingOutputConfig"], "Outputs": outputs}
    return request


def _input_with_defaults(item: Mapping[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {"AppManaged": False, **item}
    if item.get("S3Input"):
        whole["S3Input"] = {**_S3_INPUT_DEFAULTS, **item["S3Input"]}
    return whole


def selected_instances(request: Mapping[str, Any]) -> tuple[str, int]:
    """Return instance type and count. Of several preferences it is the first, since this machine has no capacity limit.

    Args:
        request: the job's request.
    """
    cluster = request["ProcessingResources"]["ClusterConfig"]
    preferences = cluster.get("InstancePreferences")
    chosen = preferences[0] if preferences else cluster
    return chosen["InstanceType"], chosen.get("InstanceCount") or cluster.get("InstanceCount") or 1


def description(request: Mapping[str, Any], job: JobRecord) -> dict[str, Any]:
    """Return the answer of Describe: the request and the job's status.

    Args:
        request: the job's request, with its defaults.
        job: the job's record.
    """
    answer = dict(request)
    cluster = request["ProcessingResources"]["ClusterConfig"]
    if cluster.get("InstancePreferences"):
        kind, count = selected_instances(request)
        chosen = {**cluster, "SelectedInstanceType": kind, "SelectedInstanceCount": count}
        answer["ProcessingResources"] = {**request["ProcessingResources"], "ClusterConfig": chosen}
    answer.update(summary(job))
    if job.started is not None:
        answer["ProcessingStartTime"] = to_datetime(job.started)
    return answer


def summary(job: JobRecord) -> dict[str, Any]:
    """Return the answer of List for a job, which is a part of Describe's answer."""
    answer: dict[str, Any] = {
        "ProcessingJobName": job.name,
        "ProcessingJobArn": job.arn,
        "ProcessingJobStatus": job.status,
        "CreationTime": to_datetime(job.created),
        "LastModifiedTime": to_datetime(job.modified),
    }
    if job.ended is not None:
        answer["ProcessingEndTime"] = to_datetime(job.ended)
    if job.failure_reason is not None:
        answer["FailureReason"] = job.failure_reason
    if job.exit_message is not None:
        answer["ExitMessage"] = job.exit_message
    return answer


def to_datetime(seconds: float) -> dt.datetime:
    """Return a time of the stores as the API's datetime: UTC, in whole milliseconds."""
    return dt.datetime.fromtimestamp(round(seconds, 3), dt.timezone.utc)
