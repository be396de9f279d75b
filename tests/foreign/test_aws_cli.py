"""The AWS CLI: jobs, their logs, and files, as a user types the commands."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import threading
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.foreign.conftest import Client

CLIENT = "aws-cli"
GROUP = "/aws/sagemaker/ProcessingJobs"


@pytest.fixture
def job(foreign: Client) -> Iterator[str]:
    """A job that says what it is told to, from the CLI's own JSON."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    create(foreign, name, ["sh", "-c", "echo one; echo two of $WORD; echo three"], {"WORD": "words"})
    yield name
    wait(foreign, name)
    foreign.run("aws", "sagemaker", "delete-processing-job", "--processing-job-name", name)


def create(foreign: Client, name: str, entrypoint: list[str], environment: dict[str, str] | None = None) -> None:
    """Create a job from a JSON file."""
    request = {
        "ProcessingJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/any",
        "AppSpecification": {"ImageUri": "image", "ContainerEntrypoint": entrypoint},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 5}
        },
        "Environment": environment or {},
    }
    path = foreign.folder / f"{name}.json"
    path.write_text(json.dumps(request))
    aws(foreign, "sagemaker", "create-processing-job", "--cli-input-json", f"file://{path}")


def aws(foreign: Client, *arguments: str) -> Any:
    """Run a command and return its answer."""
    text = foreign.run("aws", *arguments, "--output", "json")
    return json.loads(text) if text.strip() else None


def describe(foreign: Client, name: str) -> Any:
    """Describe a job."""
    return aws(foreign, "sagemaker", "describe-processing-job", "--processing-job-name", name)


def wait(foreign: Client, name: str) -> Any:
    """Look at a job until it has ended; the CLI takes half a second for each look."""
    while (found := describe(foreign, name))["ProcessingJobStatus"] in {"InProgress", "Stopping"}:
        pass
    return found


def test_a_job_is_created_described_and_listed(foreign: Client, job: str) -> None:
    """The job runs, and its answers parse."""
    found = wait(foreign, job)
    assert (found["ProcessingJobStatus"], found["Environment"]) == ("Completed", {"WORD": "words"})
    listed = aws(foreign, "sagemaker", "list-processing-jobs", "--name-contains", job)["ProcessingJobSummaries"]
    assert [each["ProcessingJobName"] for each in listed] == [job]


def test_a_job_is_stopped(foreign: Client) -> None:
    """SIGTERM reaches the program, and the job ends as Stopped."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    create(foreign, name, ["sleep", "600"])
    aws(foreign, "sagemaker", "stop-processing-job", "--processing-job-name", name)
    assert wait(foreign, name)["ProcessingJobStatus"] == "Stopped"


def test_the_log_is_read_and_filtered(foreign: Client, job: str) -> None:
    """A stream's events, and those of several streams that hold a word."""
    wait(foreign, job)
    named = ["--log-group-name", GROUP, "--log-stream-name-prefix", job]
    (stream,) = aws(foreign, "logs", "describe-log-streams", *named)["logStreams"]
    read = ["--log-group-name", GROUP, "--log-stream-name", stream["logStreamName"], "--start-from-head"]
    events = aws(foreign, "logs", "get-log-events", *read)["events"]
    assert [event["message"] for event in events] == ["one", "two of words", "three"]
    found = aws(foreign, "logs", "filter-log-events", *named, "--filter-pattern", "words")["events"]
    assert [event["message"] for event in found] == ["two of words"]


def test_a_live_tail_shows_lines_as_they_come(foreign: Client) -> None:
    """The event stream brings what a job says while it runs."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    create(foreign, name, ["sh", "-c", "while :; do echo tick; sleep 0.1; done"])
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"
    command = [str(foreign.bin / "aws"), "logs", "start-live-tail", "--log-group-identifiers", arn]
    environment = {**foreign.served.environment, "HOME": str(foreign.folder), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        guard = threading.Timer(60, tail.kill)
        guard.start()
        found = any("tick" in line for line in tail.stdout)
        guard.cancel()
        tail.terminate()
    aws(foreign, "sagemaker", "stop-processing-job", "--processing-job-name", name)
    wait(foreign, name)
    assert found


def test_a_training_job_runs_from_the_options_of_the_command(foreign: Client) -> None:
    """In the CLI's short form; the model is in S3, a taken name is refused."""
    name = f"cli-{uuid.uuid4().hex[:8]}"
    (foreign.folder / "points").write_text("1,1\n1,2\n8,8\n8,9\n")
    foreign.run("aws", "s3", "mb", f"s3://{name}")
    foreign.run("aws", "s3", "cp", str(foreign.folder / "points"), f"s3://{name}/in/points")
    source = f"S3DataSource={{S3DataType=S3Prefix,S3Uri=s3://{name}/in/}}"
    command = ["sagemaker", "create-training-job", "--training-job-name", name]
    command += ["--algorithm-specification", "TrainingImage=registry/kmeans:1,TrainingInputMode=File"]
    command += ["--role-arn", "arn:aws:iam::000000000000:role/any", "--hyper-parameters", "k=2,feature_dim=2"]
    command += ["--input-data-config", f"ChannelName=train,ContentType=text/csv;label_size=0,DataSource={{{source}}}"]
    command += ["--output-data-config", f"S3OutputPath=s3://{name}/out"]
    command += ["--resource-config", "InstanceType=ml.m5.large,InstanceCount=1,VolumeSizeInGB=5"]
    command += ["--stopping-condition", "MaxRuntimeInSeconds=600"]
    assert aws(foreign, *command)["TrainingJobArn"].endswith(f":training-job/{name}")
    assert "ResourceInUse" in foreign.run("aws", *command, check=False)
    look = ("sagemaker", "describe-training-job", "--training-job-name", name)
    while (found := aws(foreign, *look))["TrainingJobStatus"] == "InProgress":
        pass
    assert found["TrainingJobStatus"] == "Completed", found
    foreign.run("aws", "s3", "cp", found["ModelArtifacts"]["S3ModelArtifacts"], "model.tar.gz")
    with tarfile.open(foreign.folder / "model.tar.gz") as tar:
        assert tar.getnames() == ["model_algo-1"]
    foreign.run("aws", "s3", "rb", "--force", f"s3://{name}")


def test_files_are_copied_listed_and_synchronised(foreign: Client) -> None:
    """`cp` of a large file goes in parts; `sync` moves what differs, both ways."""
    folder = foreign.folder / "data"
    (folder / "sub").mkdir(parents=True)
    large = os.urandom(20 << 20)
    (folder / "large.bin").write_bytes(large)
    (folder / "sub" / "ä b.txt").write_text("text")
    foreign.run("aws", "s3", "mb", "s3://cli-files")
    foreign.run("aws", "s3", "cp", str(folder / "large.bin"), "s3://cli-files/large.bin")
    foreign.run("aws", "s3", "sync", str(folder), "s3://cli-files/tree")
    listed = foreign.run("aws", "s3", "ls", "--recursive", "s3://cli-files")
    assert [line.split(None, 3)[2:] for line in listed.splitlines()] == [
        [str(20 << 20), "large.bin"],
        [str(20 << 20), "tree/large.bin"],
        ["4", "tree/sub/ä b.txt"],
    ]
    assert foreign.run("aws", "s3", "sync", str(folder), "s3://cli-files/tree") == ""
    foreign.run("aws", "s3", "sync", "s3://cli-files/tree", "back")
    assert (foreign.folder / "back" / "large.bin").read_bytes() == large
    assert (foreign.folder / "back" / "sub" / "ä b.txt").read_text() == "text"
    foreign.run("aws", "s3", "mv", "s3://cli-files/large.bin", "s3://cli-files/moved.bin")
    url = foreign.run("aws", "s3", "presign", "s3://cli-files/moved.bin").strip()
    with urllib.request.urlopen(url, timeout=30) as answer:  # nobody signs: the URL is enough
        assert answer.read() == large
    foreign.run("aws", "s3", "rb", "--force", "s3://cli-files")


def test_a_wrong_secret_is_refused(foreign: Client) -> None:
    """With 403, by every protocol."""
    for command in (["s3", "ls"], ["sagemaker", "list-processing-jobs"], ["sts", "get-caller-identity"]):
        text = foreign.run("aws", *command, "--debug", check=False, AWS_SECRET_ACCESS_KEY="wrong")
        assert " 403 " in text
        assert "SignatureDoesNotMatch" in text or "InvalidSignatureException" in text
