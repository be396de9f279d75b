"""Every setting of a processor, and what AWS is sent for it."""

import json
import pathlib

from sagemaker.network import NetworkConfig
from sagemaker.processing import ProcessingInput, ProcessingOutput
from sagemaker.session import Session
from sagemaker.sklearn.processing import SKLearnProcessor

session = Session(default_bucket="settings-bucket", default_bucket_prefix="team/a")
session.boto_session.client("s3").create_bucket(Bucket="settings-bucket")
pathlib.Path("prepare.py").write_text("import os; print(os.environ['STAGE'])\n")
pathlib.Path("lookup.json").write_text("{}")
processor = SKLearnProcessor(
    framework_version="1.2-1",
    role="arn:aws:iam::000000000000:role/etl",
    instance_count=1,
    instance_type="ml.m5.large",
    volume_size_in_gb=50,
    volume_kms_key="arn:aws:kms:us-east-1:000000000000:key/volume",
    max_runtime_in_seconds=1200,
    base_job_name="with.settings",
    sagemaker_session=session,
    env={"STAGE": "test"},
    tags=[{"Key": "team", "Value": "sales"}],
    network_config=NetworkConfig(subnets=["subnet-1"], security_group_ids=["sg-1"]),
)
processor.run(
    "prepare.py",
    [
        ProcessingInput("lookup.json", "/opt/ml/processing/input/lookup"),
        ProcessingInput(
            source="s3://settings-bucket/team/a/raw",
            destination="/opt/ml/processing/input/raw",
            input_name="raw",
            s3_data_distribution_type="ShardedByS3Key",
            app_managed=True,
        ),
    ],
    [ProcessingOutput("/opt/ml/processing/out", s3_upload_mode="EndOfJob")],
    ["--rate", "0.5"],
    wait=False,
    job_name="given-name",
    experiment_config={"ExperimentName": "e", "TrialComponentDisplayName": "t"},
)
job = processor.latest_job
sent = job.describe()
for entry in sent["ProcessingInputs"]:
    if entry["InputName"] == "code":  # its key names its content here
        entry["S3Input"]["S3Uri"] = entry["S3Input"]["S3Uri"].rsplit("/", 1)[-1]
for name in (
    "ProcessingJobName",
    "AppSpecification",
    "Environment",
    "ExperimentConfig",
    "NetworkConfig",
    "ProcessingInputs",
    "ProcessingOutputConfig",
    "ProcessingResources",
    "RoleArn",
    "StoppingCondition",
):
    print("RESULT", name, json.dumps(sent[name], sort_keys=True))
tags = session.sagemaker_client.list_tags(ResourceArn=sent["ProcessingJobArn"])["Tags"]
print("RESULT", tags)
