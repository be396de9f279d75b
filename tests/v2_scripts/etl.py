"""A typical ETL script: the session's bucket, a role, data up, a script that splits it, results read back."""

import json
import pathlib

import sagemaker
from sagemaker import get_execution_role
from sagemaker.processing import ProcessingInput, ProcessingOutput, ScriptProcessor

session = sagemaker.Session()
bucket = session.default_bucket()
region = session.boto_region_name
try:
    role = get_execution_role()
except ValueError:
    role = "arn:aws:iam::000000000000:role/service-role/AmazonSageMaker-ExecutionRole-1"

pathlib.Path("raw").mkdir()
for name in ("a", "b", "c"):
    pathlib.Path("raw", f"{name}.csv").write_text(f"{name},1\n{name},2\n")
raw_s3 = session.upload_data("raw", bucket=bucket, key_prefix="etl/raw")

pathlib.Path("split.py").write_text("""
import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--train")
parser.add_argument("--test")
parser.add_argument("--keep", type=int, default=1)
args = parser.parse_args()
rows = [row for file in sorted(pathlib.Path(args.data).glob("*.csv")) for row in file.read_text().splitlines()]
pathlib.Path(args.train, "train.csv").write_text("\\n".join(rows[args.keep:]))
pathlib.Path(args.test, "test.csv").write_text("\\n".join(rows[:args.keep]))
print("split", len(rows), "rows")
""")
processor = ScriptProcessor(
    image_uri=sagemaker.image_uris.retrieve(framework="sklearn", region=region, version="1.2-1"),
    command=["python3"],
    role=role,
    instance_count=1,
    instance_type="ml.m5.xlarge",
    base_job_name="etl-split",
    sagemaker_session=session,
)
processor.run(
    code="split.py",
    inputs=[ProcessingInput(source=raw_s3, destination="/opt/ml/processing/input/data")],
    outputs=[
        ProcessingOutput(output_name="train", source="/opt/ml/processing/train"),
        ProcessingOutput(output_name="test", source="/opt/ml/processing/test", destination=f"s3://{bucket}/etl/test"),
    ],
    arguments=[
        "--data",
        "/opt/ml/processing/input/data",
        "--train",
        "/opt/ml/processing/train",
        "--test",
        "/opt/ml/processing/test",
        "--keep",
        "2",
    ],
)

description = processor.jobs[-1].describe()
for output in description["ProcessingOutputConfig"]["Outputs"]:
    uri = output["S3Output"]["S3Uri"]
    files = sagemaker.s3.S3Downloader.list(uri, session)
    text = sagemaker.s3.S3Downloader.read_file(files[0], session)
    print("RESULT", output["OutputName"], [file.rsplit("/", 1)[-1] for file in files], json.dumps(text))
print("RESULT", description["AppSpecification"]["ImageUri"], description["RoleArn"])
print("RESULT", description["ProcessingJobStatus"], description["ProcessingJobName"].rsplit("-", 7)[0])
print("RESULT", sorted(entry["InputName"] for entry in description["ProcessingInputs"]))
