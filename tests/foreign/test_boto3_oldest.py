"""The oldest boto3 that the package itself allows: other protocols, other checksums, the same answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "boto3-oldest"
SCRIPT = """
import datetime as dt, time, boto3

s3, sm, logs, cloudwatch, sqs = map(boto3.client, ("s3", "sagemaker", "logs", "cloudwatch", "sqs"))
s3.create_bucket(Bucket="oldest")
s3.put_object(Bucket="oldest", Key="in/a.txt", Body=b"data")
sm.create_processing_job(
    ProcessingJobName="oldest",
    RoleArn="arn:aws:iam::000000000000:role/any",
    AppSpecification={
        "ImageUri": "image",
        "ContainerEntrypoint": ["cp", "/opt/ml/processing/in/a.txt", "/opt/ml/processing/out/b.txt"],
    },
    ProcessingResources={"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 5}},
    ProcessingInputs=[{"InputName": "in", "S3Input": {
        "S3Uri": "s3://oldest/in", "LocalPath": "/opt/ml/processing/in", "S3DataType": "S3Prefix",
        "S3InputMode": "File"}}],
    ProcessingOutputConfig={"Outputs": [{"OutputName": "out", "S3Output": {
        "S3Uri": "s3://oldest/out", "LocalPath": "/opt/ml/processing/out", "S3UploadMode": "EndOfJob"}}]},
)
sm.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName="oldest", WaiterConfig={"Delay": 1})
assert s3.get_object(Bucket="oldest", Key="out/b.txt")["Body"].read() == b"data"
host = [{"Name": "Host", "Value": "oldest/algo-1"}]
found = cloudwatch.list_metrics(Namespace="/aws/sagemaker/ProcessingJobs", Dimensions=host)["Metrics"]
assert {"CPUUtilization", "MemoryUtilization", "DiskUtilization"} <= {each["MetricName"] for each in found}, found
metric = {"Namespace": "/aws/sagemaker/ProcessingJobs", "MetricName": "MemoryUtilization", "Dimensions": host}
now = dt.datetime.now(dt.timezone.utc)
data = cloudwatch.get_metric_data(
    MetricDataQueries=[{"Id": "m", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}],
    StartTime=now - dt.timedelta(hours=1), EndTime=now + dt.timedelta(hours=1))
assert data["MetricDataResults"][0]["Values"], data
url = sqs.create_queue(QueueName="oldest")["QueueUrl"]
sqs.send_message(QueueUrl=url, MessageBody="hello")
(message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
print(boto3.__version__, message["Body"])
"""


def test_jobs_files_metrics_and_queues(foreign: Client) -> None:
    """A job from its input to its output, its metrics, and a message, with the waiter of botocore."""
    assert foreign.script(SCRIPT).split() == ["1.37.0", "hello"]
