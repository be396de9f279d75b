"""The validation of a training job's request beyond the service model: SageMaker's rules, and the engine's limits."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from processing.container import contract, training_contract
from processing.local.errors import ApiError
from processing.local.jobs.data import is_file_uri, overlap, split_uri
from processing.request.bucket_names import is_access_point
from processing.request.rules import broken_rules, volume_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from processing.local.stores.objects import ObjectStore
    from processing.request.service_model import Path

_MISSING = {
    "ServerlessJobConfig": "serverless training",
    "ModelPackageConfig": "model packages",
    "MlflowConfig": "MLflow servers",
}
"""The members of a request that ask for features that the engine lacks."""
_RESERVED = (training_contract.CHANNELS, training_contract.MODEL, "/opt/ml/output", "/opt/ml/input")
_PLACES: tuple[tuple[Path, Path], ...] = (
    (("AppSpecification", "ImageUri"), ("AlgorithmSpecification", "TrainingImage")),
    (("AppSpecification",), ("AlgorithmSpecification",)),
    (("ProcessingResources", "ClusterConfig"), ("ResourceConfig",)),
    (("ProcessingOutputConfig", "KmsKeyId"), ("OutputDataConfig", "KmsKeyId")),
)
"""The places of members in a processing job's request, and of the same members in a training job's."""


def check_trainable(
    request: Mapping[str, Any], *, region: str | None = None, objects: ObjectStore | None = None
) -> None:
    """Check a request against SageMaker's rules beyond the service model, and for features that the engine lacks.

    Args:
        request: the members of CreateTrainingJob, with their defaults.
        region: the region that images, keys and roles have to fit; None for any.
        objects: the engine's S3, to compare the channels with the volume; None to skip that.

    Raises:
        ApiError: `ValidationException`, the request has problems; the message has all of them.
    """
    problems = [
        *(
            f"{name}: the local engine does not have {feature}."
            for name, feature in _MISSING.items()
            if request.get(name)
        ),
        *_algorithm_problems(request["AlgorithmSpecification"]),
        *_resource_problems(request),
        *_channel_problems(request),
        *_output_problems(request),
    ]
    if not problems:
        alike = _as_processing_job(request)
        broken = broken_rules(alike, region, allow_shared_paths=True)
        problems += [each.describe(_member) for each in broken]
    if not problems:
        problems += _volume_problems(request, objects)
    if problems:
        raise ApiError("ValidationException", " ".join(problems))


def _algorithm_problems(algorithm: Mapping[str, Any]) -> Iterator[str]:
    if algorithm.get("AlgorithmName"):
        yield "AlgorithmName: the local engine has no algorithm resources. Give a TrainingImage."
    elif not algorithm.get("TrainingImage"):
        yield "TrainingImage is missing."
    for item in algorithm.get("MetricDefinitions") or ():
        problem = _regex_problem(item["Regex"])
        if problem is not None:
            yield f"The Regex of the metric {item['Name']} is not valid: {problem}."


def _regex_problem(regex: str) -> str | None:
    try:
        re.compile(regex)
    except re.error as error:
        return str(error)
    return None


def _resource_problems(request: Mapping[str, Any]) -> Iterator[str]:
    resources = request["ResourceConfig"]
    for name, feature in (("InstanceGroups", "groups of instances"), ("InstancePreferences", "instance preferences")):
        if resources.get(name):
            yield f"{name}: the local engine does not have {feature} for training. Give InstanceType and InstanceCount."
            return
    for name in ("InstanceType", "InstanceCount"):
        if not resources.get(name):
            yield f"{name} is missing."
    if resources["VolumeSizeInGB"] < 1:
        yield "VolumeSizeInGB must be at least 1."
    condition = request["StoppingCondition"]
    longest = condition.get("MaxWaitTimeInSeconds")
    if request["EnableManagedSpotTraining"]:
        if longest is None or longest < condition["MaxRuntimeInSeconds"]:
            yield "MaxWaitTimeInSeconds must be at least MaxRuntimeInSeconds in managed spot training."
    elif longest is not None:
        yield "MaxWaitTimeInSeconds is for managed spot training only."


def _channel_problems(request: Mapping[str, Any]) -> Iterator[str]:
    names = [channel["ChannelName"] for channel in request.get("InputDataConfig") or ()]
    yield from (f"The ChannelName {name} is used more than once." for name in sorted({*names}) if names.count(name) > 1)
    for channel in request.get("InputDataConfig") or ():
        label = f"The channel {channel['ChannelName']}"
        if channel["ChannelName"] in {".", ".."}:
            yield f"{label}: the name is not that of a directory."
        source = channel["DataSource"].get("S3DataSource")
        if not source:
            yield f"{label} has no S3DataSource: the local engine has no file systems and no data sets of a hub."
            continue
        if source["S3DataType"] not in {"S3Prefix", "ManifestFile"}:
            yield f"{label}: the local engine does not have the S3DataType {source['S3DataType']}."
        if source.get("InstanceGroupNames"):
            yield f"{label}: the local engine does not have groups of instances."
        if channel.get("RecordWrapperType") == "RecordIO":
            yield f"{label}: the local engine does not wrap objects as RecordIO. Store them in that format."
        mode = training_contract.channel_mode(channel, request["AlgorithmSpecification"])
        if channel.get("CompressionType") == "Gzip" and mode != "Pipe":
            yield f"{label}: the CompressionType Gzip needs the input mode Pipe."
        yield from _uri_problems(label, source["S3Uri"])


def _output_problems(request: Mapping[str, Any]) -> Iterator[str]:
    yield from _uri_problems("OutputDataConfig", request["OutputDataConfig"]["S3OutputPath"])
    config = training_contract.checkpoint_config(request)
    if config is None:
        return
    yield from _uri_problems("CheckpointConfig", config["S3Uri"])
    local = posixpath.normpath(config["LocalPath"])
    if not local.startswith(f"{contract.ML}/") or any(overlap(local, path) for path in _RESERVED):
        yield (
            f"CheckpointConfig: the LocalPath {config['LocalPath']!r} must be a directory of its own below "
            f"{contract.ML}, such as {training_contract.CHECKPOINTS}."
        )


def _uri_problems(label: str, uri: str) -> Iterator[str]:
    if not uri.startswith(("s3://", "file://")):
        yield f"{label}: the URI {uri} is neither s3:// nor file://."
    elif uri.startswith("s3://") and is_access_point(split_uri(uri)[0]):
        yield f"{label}: the URI {uri} is an access point, which the local engine lacks. Give a bucket."


def _as_processing_job(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a processing job's request with the members that both kinds have. The rules for them are the same."""
    algorithm, resources = request["AlgorithmSpecification"], request["ResourceConfig"]
    words = {name: algorithm[name] for name in ("ContainerEntrypoint", "ContainerArguments") if name in algorithm}
    rest = {
        name: request[name]
        for name in ("TrainingJobName", "RoleArn", "Environment", "HyperParameters", "Tags")
        if name in request
    }
    output = request["OutputDataConfig"]
    return {
        **rest,
        "AppSpecification": {"ImageUri": algorithm["TrainingImage"], **words},
        "ProcessingResources": {"ClusterConfig": resources},
        "ProcessingInputs": [{"S3Input": item} for item in training_contract.channel_inputs(request)],
        "ProcessingOutputConfig": {
            "Outputs": [{"S3Output": {"S3Uri": output["S3OutputPath"]}}],
            **({"KmsKeyId": output["KmsKeyId"]} if output.get("KmsKeyId") else {}),
        },
    }


def _member(path: Path) -> str:
    """Return a path of `_as_processing_job` in the spelling of a training job's request."""
    if path[0] == "ProcessingInputs" and path[-1] == "LocalPath":
        path = ("InputDataConfig", path[1], "ChannelName")
    elif path[0] == "ProcessingInputs":
        path = ("InputDataConfig", path[1], "DataSource", "S3DataSource", *path[3:])
    elif path[:2] == ("ProcessingOutputConfig", "Outputs"):
        path = ("OutputDataConfig", "S3OutputPath")
    for ours, theirs in _PLACES:
        if path[: len(ours)] == ours:
            path = (*theirs, *path[len(ours) :])
            break
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _volume_problems(request: Mapping[str, Any], objects: ObjectStore | None) -> list[str]:
    """Return a problem if the channels in the engine's S3 are larger than the volume. A local job has no volume."""
    if objects is None or request["ResourceConfig"]["InstanceType"] in contract.LOCAL_INSTANCE_TYPES:
        return []
    sizes = {
        index: objects.size_below(*split_uri(item["S3Uri"]))
        for index, item in enumerate(training_contract.channel_inputs(request))
        if item["S3DataType"] == "S3Prefix" and not is_file_uri(item["S3Uri"])
    }
    found = volume_problem(_as_processing_job(request), sizes)
    return [] if found is None else [found.describe(_member)]
