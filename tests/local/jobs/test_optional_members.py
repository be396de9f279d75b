"""Requests without each of the optional members of CreateProcessingJob."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing import LocalSession, ProcessingInput, Processor, attach
from processing.request.service_model import processing_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE: Any = processing_model().operation_model("CreateProcessingJob").input_shape
ROOT = "/opt/ml/processing/"
WHOLE: dict[str, Any] = {
    "ProcessingJobName": "job",
    "ProcessingInputs": [
        {
            "InputName": "in",
            "AppManaged": False,
            "S3Input": {
                "S3Uri": "s3://data/in/",
                "LocalPath": ROOT + "in",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
                "S3DataDistributionType": "FullyReplicated",
                "S3CompressionType": "None",
            },
        }
    ],
    "ProcessingOutputConfig": {
        "Outputs": [
            {
                "OutputName": "out",
                "AppManaged": False,
                "S3Output": {"S3Uri": "s3://data/out", "LocalPath": ROOT + "out", "S3UploadMode": "EndOfJob"},
            }
        ],
        "KmsKeyId": "key",
    },
    "ProcessingResources": {
        "ClusterConfig": {
            "InstanceCount": 1,
            "InstanceType": "ml.m5.large",
            "VolumeSizeInGB": 1,
            "VolumeKmsKeyId": "key",
        }
    },
    "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    "AppSpecification": {
        "ImageUri": "image",
        "ContainerEntrypoint": ["true"],
        "ContainerArguments": ["a"],
    },
    "Environment": {"A": "b"},
    "NetworkConfig": {
        "EnableInterContainerTrafficEncryption": False,
        "EnableNetworkIsolation": False,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    },
    "RoleArn": "arn:aws:iam::000000000000:role/r",
    "Tags": [{"Key": "k", "Value": "v"}],
    "ExperimentConfig": {"ExperimentName": "e", "TrialName": "t", "TrialComponentDisplayName": "d", "RunName": "r"},
}

# The engine needs these: there is no image to take the entrypoint from, and nothing to do with an input without S3.
NEEDED = {
    ("AppSpecification", "ContainerEntrypoint"): "ContainerEntrypoint is missing",
    ("ProcessingInputs", 0, "S3Input"): "has no S3Input",
    ("ProcessingInputs", 0, "S3Input", "LocalPath"): "the LocalPath '' must begin with",
    ("ProcessingOutputConfig", "Outputs", 0, "S3Output"): "has no S3Output",
    ("ProcessingOutputConfig", "Outputs", 0, "S3Output", "LocalPath"): "the LocalPath '' must begin with",
    ("ProcessingResources", "ClusterConfig", "InstanceCount"): "InstanceType and InstanceCount are required",
    ("ProcessingResources", "ClusterConfig", "InstanceType"): "InstanceType and InstanceCount are required",
}


def optional_members(shape: Any, value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each member of a request that its shape does not require."""
    if shape.type_name == "structure":
        for name, member in value.items():
            if name not in shape.required_members:
                yield (*path, name)
            yield from optional_members(shape.members[name], member, (*path, name))
    elif shape.type_name == "list":
        for index, member in enumerate(value):
            yield from optional_members(shape.member, member, (*path, index))


OPTIONAL = list(optional_members(SHAPE, WHOLE))


def without(path: tuple[str | int, ...]) -> dict[str, Any]:
    """Return the request without one member."""
    request: Any = copy.deepcopy(WHOLE)
    place = request
    for part in path[:-1]:
        place = place[part]
    del place[path[-1]]
    whole: dict[str, Any] = request
    return whole


@pytest.mark.parametrize("path", OPTIONAL, ids=[".".join(map(str, path)) for path in OPTIONAL])
def test_a_request_without_an_optional_member(path: tuple[str | int, ...], tmp_path: Path) -> None:
    """The job runs, or the request is refused with the reason; from no member does another error come."""
    session = LocalSession(tmp_path)
    session.client("s3").create_bucket(Bucket="data")
    session.client("s3").put_object(Bucket="data", Key="in/a", Body=b"x")
    create = session.client("sagemaker").create_processing_job
    if path in NEEDED:
        with pytest.raises(ClientError, match=NEEDED[path]) as refused:
            create(**without(path))
        assert refused.value.response["Error"]["Code"] == "ValidationException"
        return
    create(**without(path))
    job = attach("job", session)
    job.wait(logs=False)
    assert job.status == "Completed"


@pytest.mark.parametrize(
    "left_out", ["s3_data_distribution_type", "s3_compression_type", "s3_input_mode", "input_name"]
)
def test_an_input_without_an_optional_setting(left_out: str, tmp_path: Path) -> None:
    """The same for the models: None leaves a member out."""
    (tmp_path / "a").write_text("x")
    session = LocalSession(tmp_path / "engine")
    processor = Processor(entrypoint=["true"], instance_type="local", instance_count=1, sagemaker_session=session)
    changes: dict[str, Any] = {left_out: None}
    processor.run([ProcessingInput(tmp_path / "a", ROOT + "in", **changes)], logs=False)
    assert processor.latest_job is not None
    assert processor.latest_job.status == "Completed"
