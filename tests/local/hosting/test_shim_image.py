"""A patched image on the engine: the same image trains and serves, and its program knows nothing of SageMaker."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from image_archives import docker_archive, layer, python_layer
from processing.images import patch_image

if TYPE_CHECKING:
    from pathlib import Path

    from container_fixtures import Containers

pytestmark = pytest.mark.complete("containers start slowly")

PROGRAM = b"""#!/usr/bin/python3
import os, pathlib, sys
for folder, _, names in os.walk("/input", followlinks=True):
    for name in names:
        text = pathlib.Path(folder, name).read_text()
        pathlib.Path("/output", name).write_text("%s %s %d" % (text, sys.argv[1:], os.getuid()))
"""


def test_a_patched_image_trains_and_serves(container_hosting: Any, containers: Containers, tmp_path: Path) -> None:
    """A training job, an endpoint and its tasks run the image's own program, as the image's user."""
    source = docker_archive(
        tmp_path / "image.tar",
        [python_layer(), layer({"program": PROGRAM})],
        Entrypoint=["/program"],
        Env=["PATH=/usr/bin"],
        User="1234:5678",
    )
    patch_image(source, tmp_path / "new.tar", tag="patched:1")
    assert containers.call("load", "--input", str(tmp_path / "new.tar")).returncode == 0
    container_hosting.image = "patched:1"
    container_hosting.s3.put_object(Bucket="data", Key="in/a", Body=b"content")
    sagemaker = container_hosting.sagemaker
    data = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}}
    sagemaker.create_training_job(
        TrainingJobName="trained",
        RoleArn="arn:aws:iam::000000000000:role/training",
        AlgorithmSpecification={"TrainingImage": "patched:1", "TrainingInputMode": "File"},
        HyperParameters={"depth": "3"},
        InputDataConfig=[{"ChannelName": "c", "DataSource": data}],
        OutputDataConfig={"S3OutputPath": "s3://data/models"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )

    def described() -> dict[str, Any]:
        found: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName="trained")
        return found

    container_hosting.until(lambda: described()["TrainingJobStatus"] != "InProgress")
    assert described()["TrainingJobStatus"] == "Completed", described()
    archive = io.BytesIO(container_hosting.keys("models/trained/output/")["model.tar.gz"])
    with tarfile.open(fileobj=archive) as model:
        content = model.extractfile("a")
        assert content is not None
        assert content.read() == b"content ['--depth', '3'] 1234"
    container_hosting.deploy("e", {})
    task = {
        "pk": "one",
        "inputs": [{"relative_path": "a", "bucket_name": "data", "bucket_key": "in/a"}],
        "output_bucket_name": "data",
        "output_prefix": "out/one",
    }
    assert json.loads(container_hosting.invoke("e", json.dumps(task)))["return_code"] == 0
    assert container_hosting.keys("out/one/")["a"] == b"content [] 1234"
