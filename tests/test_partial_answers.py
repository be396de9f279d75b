"""An answer without members that nobody uses is an answer: waits, attach, outputs and logs do without them."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import boto3
import moto
import pytest

import processing
from processing import Fleet, JobFailedError, ProcessingJob, ScriptProcessor, Session
from processing.aws.truncation import TruncatedResponseError
from processing.testing.clock import VirtualClock
from processing.testing.simulation import SimulatedAws, SimulatedLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROLE = "arn:aws:iam::000000000000:role/processing"
REQUEST: dict[str, Any] = {
    "ProcessingInputs": [
        {
            "InputName": "data",
            "AppManaged": False,
            "S3Input": {
                "S3Uri": "s3://bucket/in",
                "LocalPath": "/opt/ml/processing/in",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
                "S3DataDistributionType": "FullyReplicated",
                "S3CompressionType": "None",
            },
        }
    ],
    "ProcessingOutputConfig": {
        "KmsKeyId": "key",
        "Outputs": [
            {
                "OutputName": "clean",
                "AppManaged": False,
                "S3Output": {
                    "S3Uri": "s3://bucket/out",
                    "LocalPath": "/opt/ml/processing/out",
                    "S3UploadMode": "EndOfJob",
                },
            }
        ],
    },
    "Environment": {"KEY": "value"},
    "NetworkConfig": {"EnableNetworkIsolation": False, "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["s-1"]}},
    "StoppingCondition": {"MaxRuntimeInSeconds": 100},
    "ExperimentConfig": {"ExperimentName": "e"},
    "Tags": [{"Key": "sm-processing:fleet", "Value": "job"}],
}
REQUIRED = ["ProcessingJobName", "ProcessingResources", "AppSpecification", "ProcessingJobArn", "CreationTime"]
OPTIONAL = ["RoleArn", "ProcessingInputs", "ProcessingOutputConfig", "NetworkConfig", "ProcessingEndTime"]


def without(path: tuple[str | int, ...], answer: Any) -> Any:
    """Return a copy of an answer without one of its members."""
    answer = inner = copy.deepcopy(dict(answer))
    for step in path[:-1]:
        inner = inner[step]
    inner.pop(path[-1], None)
    return answer


def paths(value: Any, prefix: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every member of a structure."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(key, str):
            yield (*prefix, key)
        if isinstance(inner, (dict, list)):
            yield from paths(inner, (*prefix, key))


def simulated(change: Callable[[Any], Any], *, count: int = 1, **job: Any) -> tuple[SimulatedAws, Session]:
    """Return jobs whose descriptions are changed on the way."""
    aws = SimulatedAws(VirtualClock())
    for number in range(count):
        aws.add_job(f"job-{number}", ends=100.0, request=REQUEST, lines=[SimulatedLine(5, "hello")], **job)
    describe = aws.service.handlers["DescribeProcessingJob"]
    aws.service.handlers["DescribeProcessingJob"] = lambda params: change(describe(params))
    return aws, aws.session()


@pytest.mark.parametrize("member", [*REQUIRED, *OPTIONAL])
def test_a_wait_needs_the_status_alone(member: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever other member Describe lacks, the job is attached to and awaited, and its lines come."""
    aws, session = simulated(lambda answer: without((member,), answer))
    job = processing.attach("job-0", session)
    assert job.job_name == "job-0"
    assert job.status == "InProgress"
    job.wait()
    assert 100 <= aws.now < 130
    assert "hello" in capsys.readouterr().out
    assert [line.message for line in job.logs()] == ["hello"]


def test_an_error_needs_the_status_alone() -> None:
    """A failed job is an error with its last lines, though Describe has the status and nothing else."""
    _, session = simulated(
        lambda answer: {"ProcessingJobStatus": answer["ProcessingJobStatus"]}, status="Failed", failure_reason="x"
    )
    job = processing.attach("job-0", session)
    assert (job.inputs, list(job.outputs), job.output_kms_key) == ([], [], None)
    with pytest.raises(JobFailedError, match="job-0: Failed") as failure:
        job.wait(logs=False)
    assert failure.value.log_tail == ("hello",)
    with pytest.raises(TruncatedResponseError, match="ProcessingJobArn is missing"):
        _ = job.arn


def test_a_job_is_attached_to_whichever_member_is_missing() -> None:
    """Every member of every structure is optional for `attach`, `inputs` and `outputs`."""
    aws, _ = simulated(dict)
    answer = aws.client("sagemaker").describe_processing_job(ProcessingJobName="job-0")
    found = [path for path in paths({**answer, "ResponseMetadata": {}}) if path[0] != "ProcessingJobStatus"]
    assert len(found) > 35
    for path in found:
        _, session = simulated(functools.partial(without, path))
        job = processing.attach("job-0", session)
        assert len(job.inputs) == (path != ("ProcessingInputs",)), path
        lacks_outputs = path in {("ProcessingOutputConfig",), ("ProcessingOutputConfig", "Outputs")}
        assert len(job.outputs) == (not lacks_outputs), path


def test_unknown_members_and_values_are_no_obstacle() -> None:
    """An answer may have values and members that this version does not know."""

    def newer(answer: Any) -> Any:
        answer = copy.deepcopy(dict(answer))
        s3_input = answer["ProcessingInputs"][0]["S3Input"]
        s3_input.update(S3DataType="Table", S3InputMode="FastFile", S3DataDistributionType="ByRow")
        answer["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3UploadMode"] = "Streaming"
        answer["ProcessingResources"]["ClusterConfig"]["InstanceType"] = "ml.x99.huge"
        return answer

    _, session = simulated(newer)
    job = processing.attach("job-0", session)
    assert job.inputs[0].s3_input_mode == "FastFile"
    assert job.outputs["clean"].s3_upload_mode == "Streaming"
    job.wait(logs=False)


@pytest.mark.parametrize("member", ["ProcessingJobArn", "CreationTime", "LastModifiedTime", "ProcessingEndTime"])
def test_a_listing_needs_names_and_statuses_alone(member: str) -> None:
    """Many jobs are awaited by a listing, whichever other member its summaries lack."""
    aws, session = simulated(dict, count=20)
    listing = aws.service.handlers["ListProcessingJobs"]
    handlers: Any = aws.service.handlers
    handlers["ListProcessingJobs"] = lambda params: {
        **listing(params),
        "ProcessingJobSummaries": [without((member,), each) for each in listing(params)["ProcessingJobSummaries"]],
    }
    assert len(processing.wait([processing.attach(f"job-{number}", session) for number in range(20)]).done) == 20
    assert len(list(processing.jobs(session=session))) == 20
    assert len(Fleet.attach("job", session, tagged=False)) == 20


@pytest.mark.parametrize("member", ["id", "account", "region", "time", "resources"])
def test_an_event_needs_the_name_alone(member: str) -> None:
    """A job is found by an event of EventBridge that has its type and the job's name."""
    _, session = simulated(dict)
    event = {
        "detail-type": "SageMaker Processing Job State Change",
        "account": "0",
        "region": session.boto_region_name,
        "id": "1",
        "time": "t",
        "resources": [],
        "detail": {"ProcessingJobName": "job-0", "ProcessingJobStatus": "Pending"},
    }
    job = ProcessingJob.from_event({key: value for key, value in event.items() if key != member}, session)
    assert (job.job_name, job.status, job.arn.rpartition("/")[2]) == ("job-0", "InProgress", "job-0")


@pytest.fixture
def moto_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session on moto, whose DescribeProcessingJob lacks members that the service model requires."""
    for name, value in {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}.items():
        monkeypatch.setenv(name, value)
    with moto.mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="moto-bucket")
        yield Session(boto3.Session(region_name="us-east-1"), default_bucket="moto-bucket", sagemaker_config={})


def test_jobs_on_moto(moto_session: Session, tmp_path: Path) -> None:
    """A run, its wait, attach, fleets and names that are taken work under moto."""
    script = tmp_path / "a.py"
    script.write_text("print(1)")
    processor = ScriptProcessor(ROLE, "image:1", ["python3"], 1, "ml.m5.large", sagemaker_session=moto_session)
    processor.run(script, job_name="etl", logs=False)
    job = processing.attach("etl", moto_session)
    assert job.status == "Completed"
    assert [entry.input_name for entry in job.inputs] == ["code"]
    job.wait(logs=False)
    attached = processor.run(script, job_name="etl", if_exists="attach", logs=False)
    assert isinstance(attached, ProcessingJob)
    assert attached.arn == job.arn
    assert len(processing.wait(list(processing.jobs(session=moto_session))).done) == 1


def test_a_member_that_moto_leaves_out_is_no_difference(
    moto_session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """moto's answer lacks ProcessingResources, which every job has: a fleet that attaches reports no other request."""
    script = tmp_path / "a.py"
    script.write_text("print(1)")
    processor = ScriptProcessor(ROLE, "image:1", ["python3"], 1, "ml.m5.large", sagemaker_session=moto_session)
    processing.submit_all(processor, [{"code": script}], name="nightly").wait(timeout=60)
    processing.submit_all(processor, [{"code": script}], name="nightly").wait(timeout=60)
    (warning,) = [record.getMessage() for record in caplog.records if "exists already" in record.getMessage()]
    assert "would differ" not in warning
    processing.submit_all(processor, [{"code": script, "arguments": ["x"]}], name="nightly").wait(timeout=60)
    assert "would differ now: 0 (AppSpecification)" in caplog.records[-1].getMessage()
