"""`sagemaker` 3.x: the ProcessingJob and the TrainingJob of its core."""

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


TRAINING = """
import boto3
from sagemaker.core.resources import TrainingJob
from sagemaker.core.shapes import (
    AlgorithmSpecification, Channel, DataSource, OutputDataConfig, ResourceConfig, S3DataSource, StoppingCondition)

s3 = boto3.client("s3")
s3.create_bucket(Bucket="v3-training")
s3.put_object(Bucket="v3-training", Key="in/a", Body=b"1,1\\n1,2\\n8,8\\n8,9\\n")


def create(name, **hyperparameters):
    return TrainingJob.create(
        training_job_name=name, role_arn="arn:aws:iam::000000000000:role/any", hyper_parameters=hyperparameters,
        algorithm_specification=AlgorithmSpecification(training_image="registry/kmeans:1", training_input_mode="File"),
        input_data_config=[Channel(
            channel_name="train", content_type="text/csv;label_size=0",
            data_source=DataSource(s3_data_source=S3DataSource(
            s3_data_type="S3Prefix", s3_uri="s3://v3-training/in/")))],
        output_data_config=OutputDataConfig(s3_output_path="s3://v3-training/out"),
        resource_config=ResourceConfig(instance_type="ml.m5.large", instance_count=1, volume_size_in_gb=5),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=600))


job = create("v3-training", k="2", feature_dim="2")
job.wait(poll=1, logs=True)
print(job.training_job_status, job.secondary_status, job.model_artifacts.s3_model_artifacts)
print([each.training_job_name for each in TrainingJob.get_all(name_contains="v3-training")])
try:
    create("v3-failing", k="0", feature_dim="2").wait(poll=1)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_training_job_of_the_core_is_created_and_waited_for(foreign: Client) -> None:
    """Its resource classes parse every answer, and its wait shows the log."""
    printed = foreign.script(TRAINING)
    for expected in ("Completed Completed s3://v3-training/out/", "['v3-training']", "AlgorithmError: k: must be"):
        assert expected in printed, printed
