"""A framework processor: a script with its package beside it."""

import pathlib

import sagemaker
from sagemaker.processing import ProcessingInput, ProcessingOutput
from sagemaker.pytorch.processing import PyTorchProcessor

session = sagemaker.Session()
pathlib.Path("src/helpers").mkdir(parents=True)
pathlib.Path("src/helpers/__init__.py").write_text("def double(text):\n    return text * 2\n")
pathlib.Path("src/main.py").write_text(
    "import os, pathlib, sys\n"
    "from helpers import double\n"
    "text = pathlib.Path(sys.argv[1], 'word.txt').read_text()\n"
    "pathlib.Path(sys.argv[2], 'out.txt').write_text(double(text) + os.environ['END'])\n"
)
pathlib.Path("word.txt").write_text("ab")
processor = PyTorchProcessor(
    framework_version="2.1.0",
    py_version="py310",
    role="arn:aws:iam::000000000000:role/etl",
    instance_count=1,
    instance_type="ml.m5.large",
    base_job_name="torch",
    sagemaker_session=session,
    env={"END": "."},
)
processor.run(
    code="main.py",
    source_dir="src",
    inputs=[ProcessingInput(source="word.txt", destination="/opt/ml/processing/input/word")],
    outputs=[ProcessingOutput(source="/opt/ml/processing/output", output_name="out")],
    arguments=["/opt/ml/processing/input/word", "/opt/ml/processing/output"],
    logs=False,
)
described = processor.latest_job.describe()
print("RESULT", described["AppSpecification"]["ImageUri"], described["AppSpecification"]["ContainerEntrypoint"])
print(
    "RESULT",
    [(entry["InputName"], entry["S3Input"]["LocalPath"].rstrip("/")) for entry in described["ProcessingInputs"]],
)
uri = described["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
print("RESULT", sagemaker.s3.S3Downloader.read_file(f"{uri}/out.txt", session))
