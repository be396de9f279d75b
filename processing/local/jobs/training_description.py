"""The descriptions of a training job: answers of DescribeTrainingJob and ListTrainingJobs, and details of its events.

Names and types are boto3's; times are timezone-aware datetimes. botocore is not imported: supervisors use this, too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from processing.container import contract, training_contract
from processing.local.jobs.description import to_datetime
from processing.local.stores import phases

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.stores.jobs import JobRecord

_NOT_DESCRIBED = frozenset({"Tags", "SessionChainingConfig"})
_FLAGS = ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining")


def with_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of a job as Describe answers it: without tags, with SageMaker's defaults."""
    request = {name: value for name, value in params.items() if name not in _NOT_DESCRIBED}
    request["StoppingCondition"] = {
        "MaxRuntimeInSeconds": contract.DEFAULT_MAX_RUNTIME,
        **(params.get("StoppingCondition") or {}),
    }
    request["OutputDataConfig"] = {"KmsKeyId": "", "CompressionType": "GZIP", **params["OutputDataConfig"]}
    resources = params.get("ResourceConfig") or {}
    request["ResourceConfig"] = {"VolumeSizeInGB": training_contract.DEFAULT_VOLUME, **resources}
    for flag in _FLAGS:
        request.setdefault(flag, False)
    if "InputDataConfig" in request:
        request["InputDataConfig"] = [_channel_with_defaults(channel) for channel in request["InputDataConfig"]]
    return request


def _channel_with_defaults(channel: Mapping[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {"CompressionType": "None", "RecordWrapperType": "None", **channel}
    source = (channel.get("DataSource") or {}).get("S3DataSource")
    if source:
        whole["DataSource"] = {"S3DataSource": {"S3DataDistributionType": "FullyReplicated", **source}}
    return whole


def description(request: Mapping[str, Any], job: JobRecord) -> dict[str, Any]:
    """Return the answer of Describe: the request and the job's status.

    Args:
        request: the job's request, with its defaults.
        job: the job's record.
    """
    state = json.loads(job.state)
    passed = phases.phases(state)
    answer = {**request, **summary(job), "SecondaryStatusTransitions": [_transition(phase) for phase in passed]}
    if job.failure_reason is not None and job.status == "Failed":
        answer["FailureReason"] = job.failure_reason
    # A job that was stopped has no phase of its own for the upload.
    stopped = job.status == "Stopped" and job.started is not None
    if stopped or phases.UPLOADING in {phase.status for phase in passed}:
        answer["ModelArtifacts"] = {"S3ModelArtifacts": training_contract.artifact_uri(request, "model")}
    if job.started is not None:
        answer["TrainingStartTime"] = to_datetime(job.started)
        if job.ended is not None:
            seconds = max(1, round(job.ended - job.started))
            answer["TrainingTimeInSeconds"] = answer["BillableTimeInSeconds"] = seconds
    metrics = state.get("metrics") or {}
    if metrics:
        answer["FinalMetricDataList"] = [
            {"MetricName": name, "Value": value, "Timestamp": to_datetime(moment)}
            for name, (value, moment) in metrics.items()
        ]
    return answer


def _transition(phase: phases.Phase) -> dict[str, Any]:
    answer = {"Status": phase.status, "StartTime": to_datetime(phase.started), "StatusMessage": phase.message}
    return answer if phase.ended is None else {**answer, "EndTime": to_datetime(phase.ended)}


def summary(job: JobRecord) -> dict[str, Any]:
    """Return the answer of List for a job, which is a part of Describe's answer."""
    passed = phases.phases(json.loads(job.state))
    answer: dict[str, Any] = {
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "TrainingJobStatus": job.status,
        "SecondaryStatus": passed[-1].status if passed else phases.STARTING,
        "CreationTime": to_datetime(job.created),
        "LastModifiedTime": to_datetime(job.modified),
    }
    if job.ended is not None:
        answer["TrainingEndTime"] = to_datetime(job.ended)
    return answer
