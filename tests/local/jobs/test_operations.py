"""The operations on processing jobs, through each transport: their answers, errors, filters and pages."""

from __future__ import annotations

import datetime as dt
import errno
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from processing.local.errors import ApiError
from processing.local.jobs import gateway_options
from processing.local.stores.jobs import JobStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processing import LocalSession

ARN = "arn:aws:sagemaker:us-east-1:000000000000:processing-job/"


class Refusal(NamedTuple):
    """An error answer."""

    code: str
    message: str
    status: int


@pytest.fixture
def jobs(client: Callable[..., Any], local_session: LocalSession, make_jobs: Callable[..., Any]) -> Any:
    """The engine that the client reaches, its operations called as a client does."""
    sagemaker = client("sagemaker")
    reached = make_jobs(sandbox=local_session.engine.settings.sandbox)
    assert reached.home == local_session.home

    def call(operation: str, **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(sagemaker, re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower())(**params)
        metadata = answer.pop("ResponseMetadata")
        assert metadata["HTTPStatusCode"] == 200
        return answer

    reached.call = call
    return reached


def _note(jobs: Any, name: str, now: float, status: str | None = None) -> None:
    """Put a job into the store without running it; with a status it is finished."""
    store = JobStore(jobs.home)
    request = jobs.request("pass", name=name)
    record = store.create(request, arn=ARN + name, folder=f"jobs/{name}", plan={}, hosts=1, tags={}, now=now)
    if status is not None:
        with store._database.write() as connection:
            connection.execute("UPDATE jobs SET status = ? WHERE id = ?", (status, record.id))


def _error(jobs: Any, operation: str, **params: Any) -> Refusal:
    with pytest.raises(ClientError) as caught:
        jobs.call(operation, **params)
    answer: Any = caught.value.response
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    return Refusal(answer["Error"]["Code"], answer["Error"]["Message"], status)


def test_describe_answers_everything_that_was_asked_for(jobs: Any) -> None:
    """The request comes back whole but for its tags, with SageMaker's defaults filled in."""
    request = jobs.request(
        "pass",
        name="asked",
        Environment={"A": "b"},
        NetworkConfig={"EnableNetworkIsolation": False},
        Tags=[{"Key": "k", "Value": "v"}],
    )
    assert jobs.call("CreateProcessingJob", **request) == {"ProcessingJobArn": f"{ARN}asked"}
    described = jobs.wait("asked")
    for name in ("ProcessingJobName", "RoleArn", "AppSpecification", "ProcessingResources", "Environment"):
        assert described[name] == request[name]
    assert described["ProcessingJobArn"] == f"{ARN}asked"
    assert described["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    assert described["ProcessingInputs"][0]["S3Input"]["S3InputMode"] == "File"
    assert "Tags" not in described
    for name in ("CreationTime", "ProcessingStartTime", "ProcessingEndTime", "LastModifiedTime"):
        assert described[name].tzinfo is not None


def test_a_name_is_taken_once(jobs: Any) -> None:
    """A second job of the same name is refused in AWS's words, and nothing of it is left behind."""
    jobs.run("pass", name="twice")
    error = _error(jobs, "CreateProcessingJob", **jobs.request("pass", name="twice"))
    assert error.code == "ResourceInUse"
    assert error.message == (
        "Job name must be unique within an AWS account and region, and a job with this name already exists "
        f"({ARN}twice)"
    )
    jobs.check_nothing_left()


@pytest.mark.parametrize("operation", ["DescribeProcessingJob", "StopProcessingJob"])
def test_an_unknown_job_is_named(jobs: Any, operation: str) -> None:
    """AWS answers with a ValidationException, unlike its service model."""
    error = _error(jobs, operation, ProcessingJobName="nobody")
    assert (error.code, error.message) == (
        "ValidationException",
        "Could not find requested job with name: nobody",
    )


def test_a_finished_job_cannot_be_stopped(jobs: Any) -> None:
    """The error gives the status that it has."""
    jobs.run("pass", name="over")
    error = _error(jobs, "StopProcessingJob", ProcessingJobName="over")
    assert error.code == "ValidationException"
    assert "in status Completed" in error.message


def test_only_a_finished_job_can_be_deleted(jobs: Any) -> None:
    """A running job is in use; a deleted one is forgotten, and its name is free again."""
    jobs.create("import time\ntime.sleep(600)\n", name="short", Tags=[{"Key": "k", "Value": "v"}])
    assert _error(jobs, "DeleteProcessingJob", ProcessingJobName="short").code == "ResourceInUse"
    jobs.stop("short")
    jobs.wait("short")
    assert jobs.call("DeleteProcessingJob", ProcessingJobName="short") == {}
    assert _error(jobs, "DescribeProcessingJob", ProcessingJobName="short").code == "ValidationException"
    assert _error(jobs, "DeleteProcessingJob", ProcessingJobName="short").code == "ResourceNotFound"
    assert jobs.run("pass", name="short")["ProcessingJobStatus"] == "Completed"
    assert jobs.call("ListTags", ResourceArn=f"{ARN}short") == {"Tags": []}


def test_tags_are_added_overwritten_and_removed(jobs: Any) -> None:
    """Tags live beside the job, 50 at most, and are listed by key."""
    _note(jobs, "tagged", 1.0, "Completed")
    arn = f"{ARN}tagged"
    jobs.call("AddTags", ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    added = jobs.call("AddTags", ResourceArn=arn, Tags=[{"Key": "a", "Value": "3"}, {"Key": "c", "Value": ""}])
    assert added["Tags"] == [{"Key": "a", "Value": "3"}, {"Key": "b", "Value": "2"}, {"Key": "c", "Value": ""}]
    jobs.call("DeleteTags", ResourceArn=arn, TagKeys=["b", "nothing"])
    listed = jobs.call("ListTags", ResourceArn=arn, MaxResults=50)
    assert listed == {"Tags": [{"Key": "a", "Value": "3"}, {"Key": "c", "Value": ""}]}
    assert _error(jobs, "ListTags", ResourceArn=f"{ARN}nobody").code == "ValidationException"
    many = [{"Key": f"k{number}", "Value": "v"} for number in range(49)]
    assert _error(jobs, "AddTags", ResourceArn=arn, Tags=many).code == "ResourceLimitExceeded"
    assert len(jobs.call("ListTags", ResourceArn=arn)["Tags"]) == 2


def _names(jobs: Any, **filters: Any) -> list[str]:
    summaries = jobs.call("ListProcessingJobs", **filters)["ProcessingJobSummaries"]
    return [summary["ProcessingJobName"] for summary in summaries]


def test_list_filters_and_sorts(jobs: Any) -> None:
    """Every filter narrows, and the order is by creation unless another is asked for."""
    for name, now, status in [("b-1", 100.0, "Completed"), ("a-1", 200.0, "Failed"), ("a-2", 300.0, "Completed")]:
        _note(jobs, name, now, status)
    moment = dt.datetime.fromtimestamp(200, dt.timezone.utc)
    assert _names(jobs) == ["b-1", "a-1", "a-2"]
    assert _names(jobs, SortOrder="Descending") == ["a-2", "a-1", "b-1"]
    assert _names(jobs, SortBy="Name") == ["a-1", "a-2", "b-1"]
    assert _names(jobs, SortBy="Status", SortOrder="Descending") == ["a-1", "a-2", "b-1"]
    assert _names(jobs, NameContains="-1") == ["b-1", "a-1"]
    assert _names(jobs, NameContains="A") == []
    assert _names(jobs, StatusEquals="Failed") == ["a-1"]
    assert _names(jobs, CreationTimeAfter=moment) == ["a-2"]
    assert _names(jobs, CreationTimeBefore=moment) == ["b-1"]
    assert _names(jobs, LastModifiedTimeAfter=150.0, LastModifiedTimeBefore=250.0) == ["a-1"]


@pytest.mark.parametrize("sort_by", ["Name", "CreationTime", "Status"])
@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_pages_hold_each_job_once(jobs: Any, sort_by: str, order: str) -> None:
    """Pages follow each other without gap or overlap, also where jobs have the same time and status."""
    for number in range(7):
        _note(jobs, f"job-{number * 5 % 7}", 100.0 + number // 3, "Completed" if number % 2 else "Failed")
    whole = _names(jobs, SortBy=sort_by, SortOrder=order)
    token: dict[str, str] = {}
    found: list[str] = []
    while True:
        page = jobs.call("ListProcessingJobs", SortBy=sort_by, SortOrder=order, MaxResults=2, **token)
        found += [summary["ProcessingJobName"] for summary in page["ProcessingJobSummaries"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == whole
    assert len(set(found)) == 7


@pytest.mark.parametrize("token", ["nonsense", "e30=", "NQ==", "ééé"])
def test_a_foreign_token_is_refused(jobs: Any, token: str) -> None:
    """A token that this listing did not give is a ValidationException."""
    assert _error(jobs, "ListProcessingJobs", NextToken=token).code == "ValidationException"


def _change(request: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    place: Any = request
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("AppSpecification.ContainerEntrypoint", None, "ContainerEntrypoint is missing"),
        ("ProcessingInputs.0.S3Input.LocalPath", "/tmp/x", "must begin with /opt/ml/processing/"),
        ("ProcessingInputs.0.S3Input.LocalPath", "/opt/ml/processing/../../x", "must begin with"),
        ("ProcessingInputs.0.S3Input.S3Uri", "https://x/y", "neither s3:// nor file://"),
        ("ProcessingInputs.0.S3Input.S3CompressionType", "Gzip", "needs the S3InputMode Pipe"),
        ("ProcessingInputs.0.S3Input", None, "has no S3Input"),
        ("ProcessingInputs.0.DatasetDefinition", {"LocalPath": "/opt/ml/processing/x"}, "neither Athena nor Redshift"),
        ("ProcessingOutputConfig.Outputs.0.S3Output", None, "has no S3Output"),
        ("ProcessingOutputConfig.Outputs.0.FeatureStoreOutput", {"FeatureGroupName": "f"}, "no feature store"),
        ("ProcessingResources.ClusterConfig.InstanceType", None, "InstanceType and InstanceCount are required"),
        (
            "ProcessingResources.ClusterConfig.InstancePreferences",
            [{"InstanceType": "ml.c5.xlarge"}],
            "exclude each other",
        ),
    ],
)
def test_what_cannot_run_is_refused(jobs: Any, path: str, value: Any, words: str) -> None:
    """A request that passes the service model and still cannot run gets a ValidationException with the reason."""
    request = jobs.request("pass", name="bad", outputs={"out": "s3://data/out"})
    _change(request, path, value)
    error = _error(jobs, "CreateProcessingJob", **request)
    assert (error.code, error.status) == ("ValidationException", 400)
    assert words in error.message
    assert _error(jobs, "DescribeProcessingJob", ProcessingJobName="bad").code == "ValidationException"
    assert not (jobs.home / "jobs").exists()


def test_names_and_paths_are_used_once(jobs: Any) -> None:
    """Two inputs of one name or at one path are refused together."""
    request = jobs.request("pass")
    request["ProcessingInputs"] *= 2
    error = _error(jobs, "CreateProcessingJob", **request)
    assert "The input name code is used more than once." in error.message
    assert "is used by more than one input." in error.message


@pytest.mark.parametrize("inner", ["inputs", "outputs"])
def test_an_output_in_place_hides_nothing(jobs: Any, inner: str, tmp_path: Path) -> None:
    """An output to this machine's disk would hide all paths inside its own, so it is refused."""
    others: dict[str, Any] = {"inputs": {"out/in": "s3://data/in"}} if inner == "inputs" else {}
    outputs = {"out": tmp_path.as_uri()} | ({"out/in": "s3://data/out"} if inner == "outputs" else {})
    error = _error(jobs, "CreateProcessingJob", **jobs.request("pass", outputs=outputs, **others))
    assert error.code == "ValidationException"
    assert "overlaps with the LocalPath /opt/ml/processing/out/in," in error.message


def test_the_first_instance_preference_is_taken(jobs: Any) -> None:
    """Describe has the selected preference."""
    cluster = {
        "VolumeSizeInGB": 30,
        "InstancePreferences": [{"InstanceType": "ml.m5.large", "InstanceCount": 2}, {"InstanceType": "ml.c5.xlarge"}],
    }
    name = jobs.create("print('x')", ProcessingResources={"ClusterConfig": cluster})
    selected = jobs.wait(name)["ProcessingResources"]["ClusterConfig"]
    assert (selected["SelectedInstanceType"], selected["SelectedInstanceCount"]) == ("ml.m5.large", 2)
    assert jobs.lines(name) == ["x", "x"]


def test_settings_that_do_not_work_here_refuse_the_job(make_jobs: Callable[..., Any]) -> None:
    """A program that is not there is named at once, not by a job that fails later."""
    jobs = make_jobs(sandbox="container", container_program="no-such-program")
    with pytest.raises(ApiError, match="no-such-program") as caught:
        jobs.create("pass")
    assert caught.value.code == "ValidationException"
    assert not (jobs.home / "jobs").exists()


def test_a_full_disk_refuses_the_job(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no space for the keys of a job, the answer is that of a full disk, which no client retries."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gateway_options, "job_credentials", full)
    error = _error(jobs, "CreateProcessingJob", **jobs.request("pass"))
    assert (error.code, error.status) == ("InsufficientStorage", 507)
