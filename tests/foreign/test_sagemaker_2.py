"""`sagemaker` 2.x: a script written for it, on the engine's endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.foreign.conftest import Client

CLIENT = "sagemaker-2"
SCRIPT = """
import boto3, pathlib, sagemaker
from sagemaker.processing import ProcessingInput, ProcessingOutput, ScriptProcessor

boto3.client("s3").create_bucket(Bucket="v2-bucket")
session = sagemaker.Session(boto3.Session(region_name="us-east-1"), default_bucket="v2-bucket")
pathlib.Path("count.py").write_text('''
import pathlib
lines = pathlib.Path("/opt/ml/processing/input/data/lines.txt").read_text().splitlines()
print("counting", len(lines), "lines")
pathlib.Path("/opt/ml/processing/output/count.txt").write_text(str(len(lines)))
''')
pathlib.Path("lines.txt").write_text("a\\nb\\nc\\n")
processor = ScriptProcessor(
    image_uri="image", command=["python3"], role="arn:aws:iam::000000000000:role/any",
    instance_type="ml.m5.large", instance_count=1, sagemaker_session=session, base_job_name="v2")
processor.run(
    "count.py", wait=True, logs=True,
    inputs=[ProcessingInput(source="lines.txt", destination="/opt/ml/processing/input/data")],
    outputs=[ProcessingOutput(source="/opt/ml/processing/output", output_name="count")])
output = processor.latest_job.outputs[0].destination
print(sagemaker.s3.S3Downloader.read_file(output + "/count.txt", session), sagemaker.__version__)
pathlib.Path("fail.py").write_text("raise SystemExit(7)")
try:
    processor.run("fail.py", wait=True, logs=True)
except sagemaker.exceptions.UnexpectedStatusException as error:
    print(error)
"""


def test_a_script_processor_runs_waits_and_shows_its_log(foreign: Client) -> None:
    """Its session uploads, submits, waits and reads the log; a failure has its reason."""
    printed = foreign.script(SCRIPT)
    assert "counting 3 lines" in printed
    assert "3 2.257.7" in printed.splitlines()
    assert "exit code: 7" in printed


TRAINING = """
import boto3, io, pathlib, tarfile, sagemaker
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput

QUIET = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
s3 = boto3.client("s3")
s3.create_bucket(Bucket="v2-training")
session = sagemaker.Session(
    boto3.Session(region_name="us-east-1"), default_bucket="v2-training", sagemaker_config=QUIET)
pathlib.Path("points").mkdir()
pathlib.Path("points/a.csv").write_text("1,1\\n8,8\\n")
pathlib.Path("points/b.csv").write_text("1,2\\n8,9\\n")


def estimator(**hyperparameters):
    return Estimator(
        image_uri="registry/kmeans:1", role="arn:aws:iam::000000000000:role/any", instance_count=1,
        instance_type="ml.m5.large", sagemaker_session=session, base_job_name="v2",
        output_path="s3://v2-training/models", hyperparameters=hyperparameters)


fitted = estimator(k=2, feature_dim=2)
location = session.upload_data("points", key_prefix="points")
# With logs=True it looks at the job every 30 seconds only.
points = {"train": TrainingInput(location, content_type="text/csv;label_size=0")}
fitted.fit(points, wait=True, logs=False)
session.logs_for_job(fitted.latest_training_job.name)
bucket, _, key = fitted.model_data.removeprefix("s3://").partition("/")
with tarfile.open(fileobj=io.BytesIO(s3.get_object(Bucket=bucket, Key=key)["Body"].read())) as tar:
    print("files", tar.getnames())
name = fitted.latest_training_job.name
print("attached", Estimator.attach(name, session).latest_training_job.name == name)
try:
    estimator(k=0, feature_dim=2).fit(points, wait=True, logs=False)
except sagemaker.exceptions.UnexpectedStatusException as error:
    print(error)
"""


def test_an_estimator_fits_and_is_attached(foreign: Client) -> None:
    """Its session uploads the channel, waits, and finds the log and the model; a failure has its reason."""
    printed = foreign.script(TRAINING)
    for expected in ("stand-in", "files ['model_algo-1']", "attached True", "Reason: AlgorithmError: k: must be"):
        assert expected in printed, printed
