"""Time of a trivial training job on the embedded engine, as a multiple of a trivial processing job.

Both run the same program in one process, one after the other, after one round that does not count: it reads a file of
one input and writes one file. A training job also has phases, and its result is an archive. The figure is the ratio of
the medians of the times from Create to the terminal status.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import Figure, finish, scaled

from processing import LocalSession

ROUNDS = scaled(20, 3)
POLL = 0.002
ROLE = "arn:aws:iam::000000000000:role/local"
PROGRAM = "import shutil, sys; print('hello'); shutil.copyfile(sys.argv[1], sys.argv[2])"


def seconds_of(call: Callable[..., Any], kind: str, name: str, request: dict[str, Any]) -> float:
    """Return the seconds from the creation of a job to its end."""
    start = time.perf_counter()
    call("sagemaker", f"Create{kind}Job", {f"{kind}JobName": name, **request})
    while True:
        described = call("sagemaker", f"Describe{kind}Job", {f"{kind}JobName": name})
        status = described[f"{kind}JobStatus"]
        if status not in {"InProgress", "Stopping"}:
            assert status == "Completed", described
            return time.perf_counter() - start
        time.sleep(POLL)


def processing_request() -> dict[str, Any]:
    source = {
        "S3Uri": "s3://data/in/",
        "LocalPath": "/opt/ml/processing/in",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    target = {"S3Uri": "s3://data/out", "LocalPath": "/opt/ml/processing/out", "S3UploadMode": "EndOfJob"}
    return {
        "RoleArn": ROLE,
        "AppSpecification": {
            "ImageUri": "image",
            "ContainerEntrypoint": ["python3", "-c", PROGRAM, "/opt/ml/processing/in/a", "/opt/ml/processing/out/a"],
        },
        "ProcessingResources": {"ClusterConfig": {"InstanceType": "local", "InstanceCount": 1, "VolumeSizeInGB": 1}},
        "ProcessingInputs": [{"InputName": "in", "S3Input": source}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "S3Output": target}]},
    }


def training_request() -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/in/"}}
    return {
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "-c", PROGRAM, "/opt/ml/input/data/in/a", "/opt/ml/model/a"],
        },
        "ResourceConfig": {"InstanceType": "local", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "InputDataConfig": [{"ChannelName": "in", "DataSource": source}],
        "OutputDataConfig": {"S3OutputPath": "s3://data/out"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


def main() -> None:
    requests = {"Processing": processing_request(), "Training": training_request()}
    times: dict[str, list[float]] = {kind: [] for kind in requests}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the engine may write until the end
        engine = LocalSession(Path(folder) / "engine").engine
        engine.handle("s3", "CreateBucket", {"Bucket": "data"})
        engine.handle("s3", "PutObject", {"Bucket": "data", "Key": "in/a", "Body": b"data"})
        for number in range(ROUNDS + 1):
            for kind, request in requests.items():
                elapsed = seconds_of(engine.handle, kind, f"job-{number}", request)
                if number:
                    times[kind].append(elapsed)
    processing, training = (statistics.median(times[kind]) for kind in requests)
    note = f"{training * 1000:.0f} ms and {processing * 1000:.0f} ms, medians of {ROUNDS}"
    finish([Figure("a trivial training job, over a processing job", training / processing, 1.3, "", note)])


if __name__ == "__main__":
    main()
