"""The simulated AWS: jobs, lists and lines with real clients, on a virtual clock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing import ScriptProcessor
from processing.testing.clock import VirtualClock
from processing.testing.cloudwatch import ScriptedLine
from processing.testing.simulation import PUBLISHED_QUOTAS, Life, SimulatedAws, SimulatedLine
from processing.testing.wire import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GROUP = "/aws/sagemaker/ProcessingJobs"
BEGAN = 1_700_000_000


def simulated(**options: Any) -> SimulatedAws:
    return SimulatedAws(VirtualClock(BEGAN), **options)


def described(aws: SimulatedAws, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = aws.client("sagemaker").describe_processing_job(ProcessingJobName=name)
    return answer


def listed(aws: SimulatedAws, **filters: Any) -> list[str]:
    """Return the names of a listing, from all its pages."""
    pages = aws.client("sagemaker").get_paginator("list_processing_jobs").paginate(**filters)
    return [summary["ProcessingJobName"] for page in pages for summary in page["ProcessingJobSummaries"]]


def read(aws: SimulatedAws, **filters: Any) -> list[str]:
    """Return the lines of FilterLogEvents, from all its pages."""
    pages = aws.client("logs").get_paginator("filter_log_events").paginate(logGroupName=GROUP, **filters)
    return [event["message"] for page in pages for event in page["events"]]


# Jobs.


def test_a_job_lives_on_the_clock() -> None:
    """A job does not exist before its creation, then runs, and ends as scripted."""
    aws = simulated()
    aws.add_job("clean", starts=10, ends=70, status="Failed", failure_reason="broken", exit_message="bye", hosts=3)
    with pytest.raises(ClientError, match="Could not find"):
        described(aws, "clean")
    aws.clock.advance(10)
    running = described(aws, "clean")
    assert running["ProcessingJobStatus"] == "InProgress"
    assert running["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 3
    assert running["CreationTime"].timestamp() == running["ProcessingStartTime"].timestamp() == BEGAN + 10
    assert not {"ProcessingEndTime", "FailureReason", "ExitMessage"} & set(running)
    aws.clock.advance(60)
    ended = described(aws, "clean")
    assert ended["ProcessingJobStatus"] == "Failed"
    assert (ended["FailureReason"], ended["ExitMessage"]) == ("broken", "bye")
    assert ended["ProcessingEndTime"].timestamp() == ended["LastModifiedTime"].timestamp() == BEGAN + 70


def test_a_job_that_is_created_has_the_life_that_its_request_asks_for(tmp_path: Path) -> None:
    """A real processor's job is staged to a real store, described as requested, and lives as scripted."""
    aws = simulated(life=lambda request: Life(ends=len(request["ProcessingJobName"]), starts=2))
    (tmp_path / "script.py").write_text("print(1)")
    processor = ScriptProcessor(
        "arn:aws:iam::111122223333:role/processing",
        "image:1",
        ["python3"],
        1,
        "ml.m5.large",
        sagemaker_session=aws.session(),
    )
    job = processor.run(str(tmp_path / "script.py"), job_name="seven-7", wait=False)
    assert "ProcessingStartTime" not in job.describe()
    aws.clock.advance(6.9)
    assert job.status == "InProgress"
    assert "ProcessingStartTime" in job.describe()
    aws.clock.advance(0.1)
    assert job.status == "Completed"
    assert aws.calls["PutObject"] == aws.calls["CreateProcessingJob"] == 1
    code = job.describe()["ProcessingInputs"][0]["S3Input"]["S3Uri"].removeprefix("s3://")
    bucket, _, key = code.partition("/")
    assert aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read() == b"print(1)"


def test_a_name_is_given_once() -> None:
    """A second job of a name is refused until the first one is deleted, which takes its end."""
    aws = simulated()
    aws.add_job("clean", ends=10)
    client = aws.client("sagemaker")
    request = {member: value for member, value in described(aws, "clean").items() if member in REQUEST}
    with pytest.raises(client.exceptions.ResourceInUse, match="exists: clean"):
        client.create_processing_job(**request)
    with pytest.raises(ServiceError, match="exists: clean"):
        aws.add_job("clean")
    with pytest.raises(client.exceptions.ResourceInUse, match="has not ended"):
        client.delete_processing_job(ProcessingJobName="clean")
    aws.clock.advance(20)
    client.delete_processing_job(ProcessingJobName="clean")
    assert listed(aws) == []
    client.create_processing_job(**request)
    assert described(aws, "clean")["CreationTime"].timestamp() == BEGAN + 20
    assert listed(aws) == ["clean"]


REQUEST = {"ProcessingJobName", "RoleArn", "AppSpecification", "ProcessingResources"}


def test_a_stopped_job_goes_through_stopping() -> None:
    """Stopping takes time. Stopping twice is no error, but stopping an ended job is one. Later lines are dropped."""
    aws = simulated()
    aws.add_job("clean", ends=100, stopping=5, lines=[SimulatedLine(float(at), f"line {at}") for at in range(100)])
    client = aws.client("sagemaker")
    aws.clock.advance(10)
    for _ in range(2):
        client.stop_processing_job(ProcessingJobName="clean")
        aws.clock.advance(1)
    assert described(aws, "clean")["ProcessingJobStatus"] == "Stopping"
    aws.clock.advance(4)
    assert described(aws, "clean")["ProcessingEndTime"].timestamp() == BEGAN + 15
    with pytest.raises(ClientError, match="in status Stopped"):
        client.stop_processing_job(ProcessingJobName="clean")
    aws.clock.advance(1000)
    assert read(aws, logStreamNamePrefix="clean/") == [f"line {at}" for at in range(16)]
    assert aws.client("sagemaker").list_processing_jobs(StatusEquals="Stopped")["ProcessingJobSummaries"]


def test_scheduled_actions_run_with_the_next_call() -> None:
    """Actions run once, in order of their moments, before the call that comes after them is answered."""
    aws = simulated()
    aws.add_job("clean", ends=None)
    done: list[float] = []
    aws.at(20, lambda: aws.stop_job("clean"))
    aws.at(10, lambda: done.append(aws.now))
    aws.clock.advance(15)
    assert described(aws, "clean")["ProcessingJobStatus"] == "InProgress"
    assert done == [15]
    aws.clock.advance(15)
    assert described(aws, "clean")["ProcessingJobStatus"] == "Stopping"
    aws.clock.advance(15)
    assert described(aws, "clean")["ProcessingJobStatus"] == "Stopped"
    aws.delete_job("clean")
    assert done == [15]


def test_tags_are_those_of_the_request() -> None:
    """ListTags answers what the job was created with, and Describe does not."""
    aws = simulated()
    aws.add_job("clean", request={"Tags": [{"Key": "team", "Value": "etl"}]})
    answer = described(aws, "clean")
    assert "Tags" not in answer
    tags = aws.client("sagemaker").list_tags(ResourceArn=answer["ProcessingJobArn"])["Tags"]
    assert tags == [{"Key": "team", "Value": "etl"}]


def test_jobs_are_found_by_their_tags() -> None:
    """Every filter has to match, and a key without values matches any. Untagged and future jobs are left out."""
    aws = simulated()
    tags = {
        "a": {"team": "etl", "run": "1"},
        "b": {"team": "etl", "run": "2"},
        "c": {"team": "ml"},
        "later": {"team": "ml"},
    }
    for name, given in tags.items():
        request = {"Tags": [{"Key": key, "Value": value} for key, value in given.items()]}
        aws.add_job(name, request=request, starts=10 if name == "later" else 0)
    aws.add_job("plain")
    client = aws.client("resourcegroupstaggingapi")

    def found(*filters: dict[str, Any]) -> str:
        pages = client.get_paginator("get_resources").paginate(TagFilters=filters, ResourcesPerPage=1)
        arns = [mapping["ResourceARN"] for page in pages for mapping in page["ResourceTagMappingList"]]
        return "".join(arn.rpartition("/")[2] for arn in arns)

    assert found() == "abc"
    assert found({"Key": "team", "Values": ["etl", "other"]}) == "ab"
    assert found({"Key": "team"}, {"Key": "run", "Values": ["2"]}) == "b"


# Lists.


def fleet() -> SimulatedAws:
    """Six jobs, ten seconds apart; those of even number end after 100 seconds, the others never."""
    aws = simulated()
    for number in range(6):
        kind = "even" if number % 2 == 0 else "odd"
        ends = 100.0 + number if number % 2 == 0 else None
        aws.add_job(f"{kind}-{5 - number}", starts=number * 10.0, ends=ends)
    aws.clock.advance(120)
    return aws


@pytest.mark.parametrize("size", [1, 2, 5, 6, 100])
@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["even-5", "odd-4", "even-3", "odd-2", "even-1", "odd-0"]),
        ({"SortOrder": "Descending"}, ["odd-0", "even-1", "odd-2", "even-3", "odd-4", "even-5"]),
        ({"SortBy": "Name"}, ["even-1", "even-3", "even-5", "odd-0", "odd-2", "odd-4"]),
        ({"SortBy": "Status", "SortOrder": "Descending"}, ["odd-0", "odd-2", "odd-4", "even-1", "even-3", "even-5"]),
        ({"NameContains": "ven"}, ["even-5", "even-3", "even-1"]),
        ({"StatusEquals": "InProgress"}, ["odd-4", "odd-2", "odd-0"]),
        ({"CreationTimeAfter": BEGAN + 10, "CreationTimeBefore": BEGAN + 40}, ["even-3", "odd-2"]),
        ({"LastModifiedTimeAfter": BEGAN + 30}, ["even-5", "even-3", "even-1", "odd-0"]),
        ({"LastModifiedTimeAfter": BEGAN + 30, "LastModifiedTimeBefore": BEGAN + 104}, ["even-5", "even-3", "odd-0"]),
        ({"LastModifiedTimeAfter": BEGAN + 30, "NameContains": "odd"}, ["odd-0"]),
        ({"LastModifiedTimeAfter": BEGAN + 200}, []),
    ],
)
def test_lists_are_filtered_sorted_and_in_pages(size: int, filters: dict[str, Any], names: list[str]) -> None:
    """For every page size, each job that passes the filters appears once, in order."""
    paging = {"PageSize": size}
    assert listed(fleet(), **filters, PaginationConfig=paging) == names


def test_a_page_has_ten_jobs_and_tokens_run_out() -> None:
    """As on AWS, ten is the default, and an expired token is refused."""
    aws = simulated()
    for number in range(11):
        aws.add_job(f"job-{number:02}")
    client = aws.client("sagemaker")
    answer = client.list_processing_jobs()
    assert len(answer["ProcessingJobSummaries"]) == 10
    aws.jobs.forget_tokens()
    with pytest.raises(ClientError, match="NextToken is no longer valid"):
        client.list_processing_jobs(NextToken=answer["NextToken"])


@pytest.mark.parametrize("lag", [60.0, lambda name: 60.0 if name == "slow" else 0.0])
def test_the_list_shows_changes_late(lag: Any) -> None:
    """Describe shows a change at once, List a minute later, with the same time."""
    aws = simulated(list_lag=lag)
    aws.add_job("slow", ends=100)
    aws.clock.advance(100)
    assert described(aws, "slow")["ProcessingJobStatus"] == "Completed"
    assert listed(aws, StatusEquals="InProgress") == ["slow"]
    aws.clock.advance(60)
    assert listed(aws, StatusEquals="InProgress") == []
    assert listed(aws, LastModifiedTimeAfter=BEGAN + 99) == ["slow"]
    assert listed(aws, LastModifiedTimeAfter=BEGAN + 100) == []


# Lines.


def test_lines_are_read_in_each_way() -> None:
    """A prefix returns the lines of all hosts in order of time, a stream its own. No line appears before it arrives."""
    aws = simulated()
    with pytest.raises(ClientError, match="log group does not exist"):
        read(aws, logStreamNamePrefix="clean/")
    lines = [
        SimulatedLine(1, "a"),
        SimulatedLine(2, "b", host=2),
        SimulatedLine(3, "c"),
        SimulatedLine(2, "late", delay=60),
    ]
    aws.add_job("clean", hosts=2, lines=lines)
    aws.add_job("cleaner", lines=[SimulatedLine(1, "another's")])
    aws.clock.advance(10)
    assert read(aws, logStreamNamePrefix="clean/") == ["a", "b", "c"]
    aws.clock.advance(60)
    assert read(aws, logStreamNamePrefix="clean/") == ["a", "b", "late", "c"]
    assert sorted(read(aws, logStreamNamePrefix="clean")) == ["a", "another's", "b", "c", "late"]
    assert read(aws, logStreamNamePrefix="clean/", startTime=(BEGAN + 2) * 1000) == ["b", "late", "c"]
    assert read(aws, logStreamNamePrefix="clean/", endTime=(BEGAN + 2) * 1000) == ["a", "b", "late"]
    assert read(aws, logStreamNamePrefix="clean/", PaginationConfig={"PageSize": 1}) == ["a", "b", "late", "c"]
    assert read(aws, logStreamNamePrefix="nobody/") == []
    client = aws.client("logs")
    streams = client.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="clean/")["logStreams"]
    names = [stream["logStreamName"] for stream in streams]
    assert [name.rpartition("-")[0] for name in names] == ["clean/algo-1", "clean/algo-2"]
    assert read(aws, logStreamNames=names[1:]) == ["b"]
    page = client.get_log_events(logGroupName=GROUP, logStreamName=names[0], startFromHead=True)
    assert [event["message"] for event in page["events"]] == ["a", "late", "c"]
    token = page["nextForwardToken"]
    again = client.get_log_events(logGroupName=GROUP, logStreamName=names[0], startFromHead=True, nextToken=token)
    assert (again["events"], again["nextForwardToken"]) == ([], token)


def test_sixty_streams_come_in_two_pages() -> None:
    """DescribeLogStreams answers fifty at a time, or fewer by its limit."""
    aws = simulated()
    aws.add_job("wide", hosts=60, lines=[SimulatedLine(0, "x", host=host + 1) for host in range(60)])
    client = aws.client("logs")
    first = client.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="wide/")
    rest = client.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="wide/", nextToken=first["nextToken"])
    assert (len(first["logStreams"]), len(rest["logStreams"])) == (50, 10)
    assert "nextToken" not in rest
    assert len(client.describe_log_streams(logGroupName=GROUP, limit=7)["logStreams"]) == 7


def test_a_page_has_a_megabyte_at_most() -> None:
    """Long lines take more pages. A line that is longer than a page has one of its own."""
    aws = simulated()
    aws.add_job("wide", lines=[SimulatedLine(at, "x" * 400_000) for at in range(5)])
    aws.add_job("long", lines=[SimulatedLine(at, "x" * 2_000_000) for at in range(2)])
    aws.clock.advance(10)
    assert len(read(aws, logStreamNamePrefix="wide/")) == 5
    assert aws.calls["FilterLogEvents"] == 3
    assert len(read(aws, logStreamNamePrefix="long/")) == 2


def test_messages_come_as_they_are() -> None:
    """Lines with any characters reach the client unchanged."""
    text = 'quotes " \\ \x00 \x1b[31m \u2028 日本 \U0001f600 \n'
    aws = simulated()
    aws.add_job("clean", lines=[SimulatedLine(0, text)])
    assert read(aws, logStreamNamePrefix="clean/") == [text]


def test_tokens_of_lines_run_out() -> None:
    """Tokens are refused after a day, or after `forget_tokens`."""
    aws = simulated()
    aws.add_job("clean", lines=[SimulatedLine(0, "a"), SimulatedLine(1, "b")])
    aws.clock.advance(10)
    client = aws.client("logs")
    asked = {"logGroupName": GROUP, "logStreamNamePrefix": "clean/"}
    ways: list[Callable[[], object]] = [lambda: aws.clock.advance(24 * 3600 + 1), aws.logs.forget_tokens]
    for expire in ways:
        token = client.filter_log_events(**asked, limit=1)["nextToken"]
        assert client.filter_log_events(**asked, nextToken=token)["events"][0]["message"] == "b"
        expire()
        with pytest.raises(ClientError, match="nextToken is invalid"):
            client.filter_log_events(**asked, nextToken=token)


def test_irregular_pages_lose_nothing() -> None:
    """With empty and repeated pages, every line is still there once by its id."""
    aws = simulated(liberties=True, seed=5)
    aws.add_job("clean", lines=[SimulatedLine(at, f"line {at}") for at in range(50)])
    aws.clock.advance(60)
    assert set(read(aws, logStreamNamePrefix="clean/")) == {f"line {at}" for at in range(50)}


def test_lines_of_any_kind_can_be_written() -> None:
    """A test chooses any stream, any ids and any times."""
    aws = simulated()
    aws.logs.write([ScriptedLine("clean/algo-1-x", BEGAN * 1000 + 5, BEGAN * 1000, "id", "from a clock ahead")])
    assert read(aws, logStreamNamePrefix="clean/") == ["from a clock ahead"]


def test_what_is_not_simulated_is_refused() -> None:
    """An ignored filter pattern would make a test pass for nothing."""
    aws = simulated()
    with pytest.raises(ClientError, match="not simulated"):
        aws.client("logs").filter_log_events(logGroupName=GROUP, filterPattern="ERROR")
    with pytest.raises(ClientError, match="DescribeTrainingJob is not simulated"):
        aws.client("sagemaker").describe_training_job(TrainingJobName="train")


# Quotas, time and counts.


@pytest.mark.parametrize("operation", ["DescribeProcessingJob", "ListProcessingJobs", "FilterLogEvents"])
def test_quotas_are_enforced(operation: str) -> None:
    """The calls of one second may come at once, then the rate holds. Refused calls do not count."""
    aws = simulated(quotas=PUBLISHED_QUOTAS)
    aws.add_job("clean", ends=None, lines=[SimulatedLine(0, "x")])
    calls: dict[str, Callable[[], object]] = {
        "DescribeProcessingJob": lambda: described(aws, "clean"),
        "ListProcessingJobs": lambda: listed(aws),
        "FilterLogEvents": lambda: read(aws),
    }
    answered = 0
    for _ in range(100):  # in ten seconds
        try:
            calls[operation]()
            answered += 1
        except ClientError as error:
            assert error.response["Error"]["Code"] == "ThrottlingException"  # noqa: PT017 - some calls succeed
        aws.clock.advance(0.1)
    expected = min(100, 11 * PUBLISHED_QUOTAS[operation])
    assert answered == pytest.approx(expected, abs=1)
    assert (aws.calls[operation], aws.throttled[operation]) == (100, 100 - answered)


def test_calls_are_counted_by_minute() -> None:
    """Calls that fail on the way count as well, since the client sent them."""
    aws = simulated()
    aws.add_job("clean")
    aws.faults.on("DescribeProcessingJob", "denied")
    with pytest.raises(ClientError):
        described(aws, "clean")
    aws.clock.advance(60)
    described(aws, "clean")
    assert aws.per_minute == {("DescribeProcessingJob", 0): 1, ("DescribeProcessingJob", 1): 1}
    assert aws.calls == {"DescribeProcessingJob": 2}


def test_a_call_takes_its_time() -> None:
    """Latency moves the clock, half of it before the call is answered; the Date header is of that time."""
    aws = simulated(latency=10.0)
    aws.add_job("clean", ends=5)
    answer = described(aws, "clean")
    assert aws.now == 10
    assert answer["ProcessingJobStatus"] == "Completed"
    assert answer["ResponseMetadata"]["HTTPHeaders"]["date"] == "Tue, 14 Nov 2023 22:13:25 GMT"


def test_threads_share_it() -> None:
    """Jobs that eight threads create at a time are all there, each once."""
    aws = simulated()
    client = aws.client("sagemaker")
    aws.add_job("first")
    request = {member: value for member, value in described(aws, "first").items() if member in REQUEST}

    def create(thread: int) -> None:
        for number in range(10):
            client.create_processing_job(**{**request, "ProcessingJobName": f"job-{thread}-{number}"})

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(listed(aws, NameContains="job-")) == 80
    assert aws.calls["CreateProcessingJob"] == 80


def test_a_session_has_what_a_session_on_aws_has() -> None:
    """It is paced as one on AWS is, by rate limiters of its own; its clients do not retry."""
    aws = simulated()
    first, second = aws.session(), aws.session()
    assert not first.is_local
    assert first.api.rate_limiter("CreateProcessingJob") is not None
    assert first.api.rate_limiter("CreateProcessingJob") is not second.api.rate_limiter("CreateProcessingJob")
    assert aws.session(pacers={}).api.rate_limiter("CreateProcessingJob") is None
    assert first.account_id() == "000000000000"
    assert first.client("sagemaker").meta.config.retries["total_max_attempts"] == 1


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"starts": 100, "ends": 50}, "ends: must not be before the job is there, 50 seconds later"),
        ({"status": "completed"}, "status: must be one of Completed, Failed, Stopped, not 'completed'"),
        ({"lines": [SimulatedLine(1, "text", host=2)]}, "lines: job has 1 instances, and a line is of host 2"),
    ],
)
def test_a_life_that_no_job_has_is_refused(job: dict[str, Any], said: str) -> None:
    """A mistyped status is an error at once, instead of a wait that never ends."""
    with pytest.raises(ValueError, match=said):
        SimulatedAws(VirtualClock()).add_job("job", **job)
