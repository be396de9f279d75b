"""`sagemaker` 3.x: the ProcessingJob of its core, and its ScriptProcessor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "sagemaker-3"
SCRIPT = """
import boto3
from sagemaker.core.resources import ProcessingJob
from sagemaker.core.shapes import (
    AppSpecification, ProcessingClusterConfig, ProcessingOutputConfig, ProcessingOutput, ProcessingResources,
    ProcessingS3Output, ProcessingStoppingCondition)

boto3.client("s3").create_bucket(Bucket="v3-bucket")


def create(name, command):
    return ProcessingJob.create(
        processing_job_name=name, role_arn="arn:aws:iam::000000000000:role/any",
        processing_resources=ProcessingResources(cluster_config=ProcessingClusterConfig(
            instance_count=1, instance_type="ml.m5.large", volume_size_in_gb=5)),
        app_specification=AppSpecification(image_uri="image", container_entrypoint=["sh", "-c", command]),
        processing_output_config=ProcessingOutputConfig(outputs=[ProcessingOutput(
            output_name="out", s3_output=ProcessingS3Output(
                s3_uri="s3://v3-bucket/out", local_path="/opt/ml/processing/out", s3_upload_mode="EndOfJob"))]),
        stopping_condition=ProcessingStoppingCondition(max_runtime_in_seconds=600))


job = create("v3", "echo said by v3; echo result > /opt/ml/processing/out/r.txt")
job.wait(poll=1, logs=True)
print(job.processing_job_status)
print(boto3.client("s3").get_object(Bucket="v3-bucket", Key="out/r.txt")["Body"].read().decode())
print([each.processing_job_name for each in ProcessingJob.get_all(name_contains="v3")])
stopped = create("v3-stopped", "sleep 600")
stopped.stop()
stopped.wait(poll=1)
print(stopped.processing_job_status)
try:
    create("v3-failed", "exit 7").wait(poll=1)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_processing_job_of_the_core_is_created_waited_for_and_stopped(foreign: Client) -> None:
    """Its resource classes parse every answer."""
    printed = foreign.script(SCRIPT)
    for expected in ("Completed", "result", "['v3']", "Stopped", "exit code: 7"):
        assert expected in printed, printed
