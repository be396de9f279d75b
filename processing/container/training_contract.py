"""The contract between SageMaker Training and a container: paths, files and rules, independent of any transport.

Sources: "How Amazon SageMaker AI Provides Training Information" and "How Amazon SageMaker AI Processes Training Output"
in AWS's developer guide. Rules that no public source settles are marked as assumed.
"""

# A host does many small file operations: functions of `os` cost a third of those of pathlib.
# ruff: noqa: PTH103, PTH118

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional

from processing.container import contract

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
"""The log group of all training jobs in CloudWatch Logs, and the namespace of their metrics."""
CONFIG = "input/config"
"""The directory of the configuration files, relative to /opt/ml."""
CHANNELS = "/opt/ml/input/data"
"""The directory of the channels."""
MODEL = "/opt/ml/model"
"""The directory whose files become model.tar.gz."""
OUTPUT_DATA = "/opt/ml/output/data"
"""The directory whose files become output.tar.gz."""
CHECKPOINTS = "/opt/ml/checkpoints"
"""The directory of checkpoints by default."""
GROUP = "homogeneousCluster"
"""The name of the only group of instances."""
DEFAULT_VOLUME = 30
"""The size in GB of the volume of a job that names none. Assumed."""


def channel_mode(channel: Mapping[str, Any], algorithm: Mapping[str, Any]) -> str:
    """Return the input mode of a channel: its own, or else that of the job.

    Assumed: data in the mode FastFile are files, which are there before the program starts.
    """
    mode = channel.get("InputMode") or algorithm["TrainingInputMode"]
    return "Pipe" if mode == "Pipe" else "File"


def channel_config(request: Mapping[str, Any]) -> Dict[str, Dict[str, str]]:
    """Return the content of inputdataconfig.json: the channels by name."""
    found: Dict[str, Dict[str, str]] = {}
    for channel in request.get("InputDataConfig") or ():
        source = channel["DataSource"]["S3DataSource"]
        config = {
            "TrainingInputMode": channel_mode(channel, request["AlgorithmSpecification"]),
            "S3DistributionType": source.get("S3DataDistributionType") or "FullyReplicated",
            "RecordWrapperType": channel.get("RecordWrapperType") or "None",
        }
        if channel.get("ContentType"):
            config["ContentType"] = channel["ContentType"]
        found[channel["ChannelName"]] = config
    return found


def resource_config(request: Mapping[str, Any], number: int, count: int) -> Dict[str, Any]:
    """Return the content of resourceconfig.json for host `number` of `count`.

    Assumed: hosts reach each other through the loopback interface, as they do on one machine.
    """
    hosts = [contract.host_name(each) for each in range(1, count + 1)]
    kind = request["ResourceConfig"]["InstanceType"]
    group: Dict[str, Any] = {"instance_group_name": GROUP, "instance_type": kind, "hosts": hosts}
    return {
        "current_host": contract.host_name(number),
        "current_instance_type": kind,
        "current_group_name": GROUP,
        "hosts": hosts,
        "instance_groups": [group],
        "network_interface_name": "lo",
    }


def checkpoint_config(request: Mapping[str, Any]) -> Optional[Dict[str, str]]:
    """Return the location of checkpoints in S3 and on the host, as `S3Uri` and `LocalPath`; None if there is none."""
    config = request.get("CheckpointConfig")
    if not config:
        return None
    return {"S3Uri": config["S3Uri"], "LocalPath": (config.get("LocalPath") or CHECKPOINTS).rstrip("/")}


def write_config(ml_root: str, request: Mapping[str, Any], number: int, count: int) -> None:
    """Write the files of /opt/ml/input/config for host `number` of `count`."""
    folder = os.path.join(ml_root, CONFIG)
    os.makedirs(folder, exist_ok=True)
    files: Dict[str, Any] = {
        "hyperparameters": dict(request.get("HyperParameters") or {}),
        "inputdataconfig": channel_config(request),
        "resourceconfig": resource_config(request, number, count),
        "checkpointconfig": checkpoint_config(request),
    }
    for name, content in files.items():
        if content is not None:
            contract.write_json(os.path.join(folder, name + ".json"), content)


def job_variables(name: str, arn: str) -> Dict[str, str]:
    """Return the variables that the platform sets."""
    return {"TRAINING_JOB_NAME": name, "TRAINING_JOB_ARN": arn}


def failure(ml_root: str) -> Optional[str]:
    """Return the first 1 KB of /opt/ml/output/failure; None if the file is missing or empty.

    Assumed: a byte that is not UTF-8 becomes a replacement character.
    """
    data = contract.read_beginning(ml_root, "failure")
    return None if not data else data[: contract.MESSAGE_LIMIT].decode("utf-8", "replace").strip() or None


def artifact_uri(request: Mapping[str, Any], name: str) -> str:
    """Return the location of an artifact in S3.

    Args:
        request: the job's request.
        name: `model` or `output`. Without compression these are directories, `model/` and `data/`.
    """
    config = request["OutputDataConfig"]
    folder = "%s/%s/output" % (config["S3OutputPath"].rstrip("/"), request["TrainingJobName"])
    if is_compressed(request):
        return "%s/%s.tar.gz" % (folder, name)
    return "%s/%s/" % (folder, "data" if name == "output" else name)


def is_compressed(request: Mapping[str, Any]) -> bool:
    """Return whether artifacts are archives."""
    return bool(request["OutputDataConfig"].get("CompressionType") != "NONE")


def channel_inputs(request: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return the channels as inputs with the members of a processing job's S3Input."""
    found = []
    for channel in request.get("InputDataConfig") or ():
        source = channel["DataSource"]["S3DataSource"]
        found.append(
            {
                "LocalPath": "%s/%s" % (CHANNELS, channel["ChannelName"]),
                "S3Uri": source["S3Uri"],
                "S3DataType": source["S3DataType"],
                "S3InputMode": channel_mode(channel, request["AlgorithmSpecification"]),
                "S3DataDistributionType": source.get("S3DataDistributionType") or "FullyReplicated",
                "S3CompressionType": channel.get("CompressionType") or "None",
            }
        )
    return found
