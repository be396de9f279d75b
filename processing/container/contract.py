"""The contract between SageMaker Processing and a container: paths, files and rules, independent of any transport.

Source: "How Amazon SageMaker Processing Configures Your Processing Container" in AWS's developer guide. Rules that no
public source settles are marked as assumed. Facts about jobs that several parts of the package need are here too,
because every module may import this one.
"""

# A host does many small file operations: functions of `os` cost a third of those of pathlib.
# ruff: noqa: PTH103, PTH118, PTH123

from __future__ import annotations

import codecs
import os
import posixpath
import re
import stat
from typing import Any, Dict, List, Mapping, Optional, Sequence

ML = "/opt/ml"
PROCESSING = "/opt/ml/processing"
ML_PATH = re.compile(r"(?<![\w.~+-])(?<!:/)/opt/ml(?![\w.-])")
"""Matches each /opt/ml in a text that is a path or begins one."""
TERMINAL = frozenset({"Completed", "Failed", "Stopped"})
"""The statuses that end a job; its status does not change afterwards."""
LOCAL_INSTANCE_TYPES = frozenset({"local", "local_gpu"})
"""The instance types that run a job on this machine, on the embedded engine."""
LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
"""The log group of all processing jobs in CloudWatch Logs."""
DAY = 86_400
"""Seconds in a day."""
DEFAULT_MAX_RUNTIME = DAY
"""The seconds after which AWS stops a job that was created without a StoppingCondition, https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ProcessingStoppingCondition.html."""
MESSAGE_LIMIT = 1024
"""The bytes of /opt/ml/output/message that become the exit message."""

_S3_INPUT = ("LocalPath", "S3Uri", "S3DataDistributionType", "S3DataType", "S3InputMode", "S3CompressionType")
_S3_OUTPUT = ("LocalPath", "S3Uri", "S3UploadMode")


def host_name(number: int) -> str:
    """Return the name of host `number`, counted from 1: `algo-1`."""
    return "algo-%d" % number


def resolve_path(ml_root: str, path: str) -> str:
    """Translate a path below /opt/ml into the directory `ml_root`, which stands for /opt/ml.

    Raises:
        ValueError: the path is not below /opt/ml.
    """
    clean = posixpath.normpath(path)
    if clean != ML and not clean.startswith(ML + "/"):
        raise ValueError("%s is not below %s" % (path, ML))
    return os.path.join(ml_root, *clean[len(ML) :].split("/")[1:])


def job_config(request: Mapping[str, Any], arn: str) -> Dict[str, Any]:
    """Return the content of /opt/ml/config/processingjobconfig.json: the request, with null for absent members."""
    app = request["AppSpecification"]
    cluster = request["ProcessingResources"]["ClusterConfig"]
    outputs = request.get("ProcessingOutputConfig") or {}
    return {
        "ProcessingJobArn": arn,
        "ProcessingJobName": request["ProcessingJobName"],
        "AppSpecification": {
            "ImageUri": app["ImageUri"],
            "ContainerEntrypoint": app.get("ContainerEntrypoint"),
            "ContainerArguments": app.get("ContainerArguments"),
        },
        "Environment": request.get("Environment"),
        "ProcessingInputs": [_input_config(item) for item in request.get("ProcessingInputs") or ()] or None,
        "ProcessingOutputConfig": {
            "Outputs": [_output_config(item) for item in outputs.get("Outputs", ())],
            "KmsKeyId": outputs.get("KmsKeyId"),
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": cluster.get("InstanceCount"),
                "InstanceType": cluster.get("InstanceType"),
                "VolumeSizeInGB": cluster.get("VolumeSizeInGB"),
                "VolumeKmsKeyId": cluster.get("VolumeKmsKeyId"),
            }
        },
        "NetworkConfig": request.get("NetworkConfig"),
        "RoleArn": request.get("RoleArn"),
        "StoppingCondition": request.get("StoppingCondition"),
        "ExperimentConfig": request.get("ExperimentConfig"),
    }


def _input_config(item: Mapping[str, Any]) -> Dict[str, Any]:
    config = {"InputName": item["InputName"], "AppManaged": item.get("AppManaged", False)}
    for name in ("S3Input", "DatasetDefinition"):
        config[name] = item.get(name)
    if item.get("S3Input"):
        config["S3Input"] = {name: item["S3Input"].get(name) for name in _S3_INPUT}
        config["S3Input"]["S3DownloadMode"] = "StartOfJob"
    return config


def _output_config(item: Mapping[str, Any]) -> Dict[str, Any]:
    config = {"OutputName": item["OutputName"], "AppManaged": item.get("AppManaged", False)}
    for name in ("S3Output", "FeatureStoreOutput"):
        config[name] = item.get(name)
    if item.get("S3Output"):
        config["S3Output"] = {name: item["S3Output"].get(name) for name in _S3_OUTPUT}
    return config


def write_config(ml_root: str, config: Mapping[str, Any], number: int, count: int) -> None:
    """Write both files of /opt/ml/config for host `number` of `count`."""
    folder = os.path.join(ml_root, "config")
    os.makedirs(folder, exist_ok=True)
    hosts = [host_name(each) for each in range(1, count + 1)]
    write_json(os.path.join(folder, "resourceconfig.json"), {"current_host": host_name(number), "hosts": hosts})
    write_json(os.path.join(folder, "processingjobconfig.json"), config)


def write_json(path: str, value: Any) -> None:
    """Write a value as JSON."""
    import json  # needed on a host only, whereas `import processing` needs the constants

    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


def exit_message(ml_root: str) -> Optional[str]:
    """Return the first 1 KB of /opt/ml/output/message; None if the file is missing or empty.

    A character that the limit cuts in two is left out.

    Raises:
        UnicodeDecodeError: the text is not UTF-8.
    """
    data = read_beginning(ml_root, "message")
    if data is None:
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    return decoder.decode(data[:MESSAGE_LIMIT], final=len(data) <= MESSAGE_LIMIT) or None


def read_beginning(ml_root: str, name: str) -> Optional[bytes]:
    """Return the beginning of a file in /opt/ml/output, up to one byte more than 1 KB; None if there is no such file.

    Only a regular file is read, so a pipe of that name cannot delay the end of the job. Links are not followed, neither
    there nor at /opt/ml/output, so a job cannot expose other files of this machine.
    """
    try:
        folder = os.open(os.path.join(ml_root, "output"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return os.read(fd, MESSAGE_LIMIT + 1)
    finally:
        os.close(fd)


def shard(keys: Sequence[str], number: int, count: int) -> List[str]:
    """Return the keys that host `number` of `count` receives under ShardedByS3Key.

    Assumed: the keys are sorted by their UTF-8 bytes, and each host receives every `count`-th key, starting at its own
    number.
    """
    return sorted(keys, key=lambda key: key.encode("utf-8", "surrogateescape"))[number - 1 :: count]


def relative_name(key: str, prefix: str) -> str:
    """Return the path, relative to LocalPath, of the object `key` of an input with the key prefix `prefix`.

    Assumed: the path is the part of the key after `prefix/`. If the prefix is the whole key, it is the object's own
    name. If the prefix ends within a name (`data/part` for `data/part-1.csv`), it is the part after the prefix's last
    slash.

    Returns:
        A relative path with `/`. It ends in `/` for a key that represents a folder.

    Raises:
        ValueError: the path would leave the directory.
    """
    if key.startswith(prefix if prefix.endswith("/") or not prefix else prefix + "/"):
        name = key[len(prefix) :].lstrip("/")
    else:
        name = key[prefix.rfind("/") + 1 :]
    if ".." in name.split("/") or "\0" in name or name.startswith("/"):
        raise ValueError("the key %r leads out of the input's directory" % key)
    return name
