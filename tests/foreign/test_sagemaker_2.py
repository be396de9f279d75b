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
