"""Time from the start of a Python to a created job, beside boto3 by hand and `sagemaker` 2.x in the same run.

The job has a script, one local input, a bucket and a role ARN. Each client runs in fresh processes, which alternate.
The bucket is empty at each start. The clock begins before the process does, and ends when the job has been created, so
the start of the interpreter, all imports and all calls are counted. The figures are medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import clients
import standin
from figures import Figure, finish, scaled

ROUNDS = scaled(15, 2)
ROUNDS_OF_SAGEMAKER = scaled(3, 1)
LIMITS = {"boto3": 0.9, "sagemaker": 0.5}

PROCESSOR = """
import time
from {module} import ProcessingInput, ScriptProcessor
{session}
processor = ScriptProcessor(
    role={role!r},
    image_uri="image",
    command=["python3"],
    instance_count=1,
    instance_type="ml.m5.xlarge",
    sagemaker_session=Session(default_bucket={bucket!r}),
)
given = [ProcessingInput(source={data!r}, destination="/opt/ml/processing/input/data")]
processor.run(code={script!r}, inputs=given, wait=False)
print(time.monotonic())
"""

BY_HAND = """
import time
import boto3
s3 = boto3.client("s3")
s3.upload_file({script!r}, {bucket!r}, "code/script.py")
s3.upload_file({data!r}, {bucket!r}, "data/one.txt")
code, data = "/opt/ml/processing/input/code", "/opt/ml/processing/input/data"


def given(name, uri, path):
    s3_input = dict(S3Uri=uri, LocalPath=path, S3DataType="S3Prefix", S3InputMode="File")
    return dict(InputName=name, S3Input=s3_input)


boto3.client("sagemaker").create_processing_job(
    ProcessingJobName=f"by-hand-{{time.time_ns()}}",
    RoleArn={role!r},
    AppSpecification=dict(ImageUri="image", ContainerEntrypoint=["python3", code + "/script.py"]),
    ProcessingResources=dict(ClusterConfig=dict(InstanceType="ml.m5.xlarge", InstanceCount=1, VolumeSizeInGB=30)),
    ProcessingInputs=[
        given("data", "s3://{bucket}/data/one.txt", data),
        given("code", "s3://{bucket}/code/script.py", code),
    ],
)
print(time.monotonic())
"""

# `sagemaker` prints its own lines and warnings before the moment.
PROGRAMS: dict[str, tuple[str, str, dict[str, str]]] = {
    "processing": (sys.executable, PROCESSOR, {"module": "processing", "session": "from processing import Session"}),
    "boto3": (sys.executable, BY_HAND, {}),
    "sagemaker": (
        str(clients.SAGEMAKER_2),
        PROCESSOR,
        {"module": "sagemaker.processing", "session": "from sagemaker.session import Session"},
    ),
}


def seconds_to_job(server: standin.StandIn, client: str, folder: Path) -> float:
    """Start a fresh process of a client; return the seconds from then to the created job."""
    python, program, words = PROGRAMS[client]
    given = {"role": clients.ROLE, "bucket": clients.BUCKET, "script": str(folder / "script.py")}
    text = program.format(**given, **words, data=str(folder / "one.txt"))
    # Every client uses bytecode, however it was installed, so Python must be allowed to write it.
    environment = {name: value for name, value in server.environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["SAGEMAKER_SUPPRESS_V2_WARNING"] = "1"
    began = time.monotonic()
    done = subprocess.run([python, "-c", text], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    created = float(done.stdout.splitlines()[-1])
    calls = server.reset().calls
    assert calls["CreateProcessingJob"] == 1, calls
    return created - began


def main() -> None:
    seconds: dict[str, list[float]] = {client: [] for client in PROGRAMS}
    with tempfile.TemporaryDirectory() as name, standin.running() as server:
        folder = Path(name)
        (folder / "script.py").write_text("print('hello')\n")
        (folder / "one.txt").write_text("1\n")
        for number in range(ROUNDS + 1):
            for client, found in seconds.items():
                if client == "sagemaker" and number > ROUNDS_OF_SAGEMAKER:
                    continue
                elapsed = seconds_to_job(server, client, folder)
                if number:  # the first round writes the bytecode and fills the disk cache
                    found.append(elapsed)
    medians = {client: statistics.median(found) for client, found in seconds.items()}
    ours = medians["processing"]
    finish(
        [
            Figure(
                f"a cold process to a created job: time against {client}",
                ours / medians[client],
                limit,
                note=f"{ours * 1000:.0f} ms and {medians[client] * 1000:.0f} ms, medians of {len(seconds[client])}",
            )
            for client, limit in LIMITS.items()
        ]
    )


if __name__ == "__main__":
    main()
