"""CloudWatch Logs through boto3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from processing import LocalSession

GROUP = "/aws/sagemaker/ProcessingJobs"
WHERE = {"logGroupName": GROUP, "logStreamName": "job/algo-1-1"}


@pytest.fixture
def logs(local_session: LocalSession) -> Any:
    """A client of the engine, with one group."""
    client = local_session.client("logs")
    client.create_log_group(logGroupName=GROUP)
    return client


def put(logs: Any, stream: str, *events: tuple[int, str]) -> None:
    """Write events to a stream, which is made."""
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    batch = [{"timestamp": timestamp, "message": message} for timestamp, message in events]
    if batch:
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=batch)


def refused(call: Any, /, **params: Any) -> tuple[str, str]:
    """The code and the text of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in {400, 501}
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def messages(answer: dict[str, Any]) -> list[str]:
    """The messages of an answer."""
    return [event["message"] for event in answer["events"]]


def test_what_was_put_is_got(logs: Any) -> None:
    """Event by event, with both times."""
    put(logs, "job/algo-1-1", (5, "a"), (5, "b"), (7, "c"))
    answer = logs.get_log_events(**WHERE, startFromHead=True)
    assert messages(answer) == ["a", "b", "c"]
    assert [event["timestamp"] for event in answer["events"]] == [5, 5, 7]
    assert all(event["ingestionTime"] > 1_600_000_000_000 for event in answer["events"])
    assert answer["nextForwardToken"].startswith("f/")
    assert answer["nextBackwardToken"].startswith("b/")
    again = logs.get_log_events(**WHERE, nextToken=answer["nextForwardToken"])
    assert again["events"] == []
    assert again["nextForwardToken"] == answer["nextForwardToken"]
    assert messages(logs.get_log_events(**WHERE, limit=2)) == ["b", "c"]
    arn = logs.describe_log_groups()["logGroups"][0]["arn"]
    by_arn = logs.get_log_events(logGroupIdentifier=arn.removesuffix(":*"), logStreamName="job/algo-1-1")
    assert messages(by_arn) == ["a", "b", "c"]


def test_events_of_several_streams_come_by_time(logs: Any) -> None:
    """With unique ids and the stream of each; there is no token after the last page."""
    put(logs, "job/algo-1-1", (1, "1"), (4, "4"))
    put(logs, "job/algo-2-1", (2, "2"), (3, "3"))
    put(logs, "job2/algo-1-1", (0, "other"))
    params = {"logGroupName": GROUP, "logStreamNamePrefix": "job/"}
    pages = list(logs.get_paginator("filter_log_events").paginate(**params, PaginationConfig={"PageSize": 2}))
    assert [messages(page) for page in pages] == [["1", "2"], ["3", "4"]]
    assert "nextToken" not in pages[-1]
    events = [event for page in pages for event in page["events"]]
    assert len({event["eventId"] for event in events}) == 4
    assert [event["logStreamName"][4:10] for event in events] == ["algo-1", "algo-2", "algo-2", "algo-1"]
    named = logs.filter_log_events(logGroupName=GROUP, logStreamNames=["job2/algo-1-1"])
    assert messages(named) == ["other"]
    assert messages(logs.filter_log_events(**params, startTime=2, endTime=3)) == ["2", "3"]
    assert messages(logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix="job3")) == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["an ERROR here", "a warning", "ERROR and warning"]),
        ("ERROR", ["an ERROR here", "ERROR and warning"]),
        ("ERROR warning", ["ERROR and warning"]),
        ("?ERROR ?warning", ["an ERROR here", "a warning", "ERROR and warning"]),
        ("ERROR -warning", ["an ERROR here"]),
        ('"ERROR and"', ["ERROR and warning"]),
        ("error", []),
    ],
)
def test_a_pattern_of_terms_filters(logs: Any, pattern: str, found: list[str]) -> None:
    """All terms, one of those with a question mark, none of those with a minus; case counts."""
    put(logs, "s", (1, "an ERROR here"), (2, "a warning"), (3, "ERROR and warning"))
    assert messages(logs.filter_log_events(logGroupName=GROUP, filterPattern=pattern)) == found


def test_other_patterns_are_said_not_to_work(logs: Any) -> None:
    """Instead of matching nothing."""
    assert refused(logs.filter_log_events, logGroupName=GROUP, filterPattern="{ $.a = 1 }")[0] == "NotImplemented"


def test_streams_come_in_pages_of_fifty(logs: Any) -> None:
    """A token only if there is more: some clients go on for ever if there is one."""
    names = [f"job/algo-{number:03d}" for number in range(101)]
    for name in names:
        put(logs, name)
    pages = list(logs.get_paginator("describe_log_streams").paginate(logGroupName=GROUP, logStreamNamePrefix="job/"))
    assert [len(page["logStreams"]) for page in pages] == [50, 50, 1]
    assert [stream["logStreamName"] for page in pages for stream in page["logStreams"]] == names
    assert "nextToken" not in pages[-1]
    assert "nextToken" not in logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="job/algo-00")


def test_streams_are_ordered(logs: Any) -> None:
    """By name or last event, up or down."""
    put(logs, "b", (1, "x"), (9, "x"))
    put(logs, "a", (5, "x"))
    put(logs, "c")

    def names(**params: Any) -> list[str]:
        answer = logs.describe_log_streams(logGroupName=GROUP, **params)
        return [stream["logStreamName"] for stream in answer["logStreams"]]

    assert names() == ["a", "b", "c"]
    assert names(descending=True) == ["c", "b", "a"]
    assert names(orderBy="LastEventTime") == ["c", "a", "b"]
    assert names(orderBy="LastEventTime", descending=True, limit=1) == ["b"]
    stream = logs.describe_log_streams(logGroupName=GROUP)["logStreams"][1]
    assert (stream["firstEventTimestamp"], stream["lastEventTimestamp"]) == (1, 9)
    both = {"logGroupName": GROUP, "orderBy": "LastEventTime", "logStreamNamePrefix": "a"}
    assert refused(logs.describe_log_streams, **both)[0] == "InvalidParameterException"


def test_groups_are_listed(logs: Any) -> None:
    """By prefix, with their ARNs."""
    logs.create_log_group(logGroupName="other")
    assert [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]] == [GROUP, "other"]
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/aws/")["logGroups"]
    assert group["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}:*"


def test_errors_are_the_services(logs: Any) -> None:
    """Codes and texts as clients look for them."""
    missing = {"logGroupName": "none", "logStreamName": "none"}
    assert refused(logs.get_log_events, **missing) == (
        "ResourceNotFoundException",
        "The specified log group does not exist.",
    )
    assert refused(logs.get_log_events, **WHERE) == (
        "ResourceNotFoundException",
        "The specified log stream does not exist.",
    )
    assert refused(logs.filter_log_events, logGroupName="none")[0] == "ResourceNotFoundException"
    assert refused(logs.describe_log_streams, logGroupName="none")[0] == "ResourceNotFoundException"
    assert refused(logs.create_log_group, logGroupName=GROUP)[0] == "ResourceAlreadyExistsException"
    unordered = [{"timestamp": 2, "message": "a"}, {"timestamp": 1, "message": "b"}]
    put(logs, "job/algo-1-1")
    code, text = refused(logs.put_log_events, **WHERE, logEvents=unordered)
    assert (code, "chronological" in text) == ("InvalidParameterException", True)
    large = [{"timestamp": 1, "message": "x" * 200_000}] * 6
    assert refused(logs.put_log_events, **WHERE, logEvents=large)[0] == "InvalidParameterException"
    nowhere = [{"timestamp": 1, "message": "a"}]
    missing_stream = {"logGroupName": GROUP, "logStreamName": "none"}
    assert refused(logs.put_log_events, **missing_stream, logEvents=nowhere)[0] == "ResourceNotFoundException"


def test_parameters_are_held_against_the_model(logs: Any) -> None:
    """With AWS's text."""
    code, text = refused(logs.describe_log_streams, logGroupName=GROUP, limit=51)
    assert code == "InvalidParameterException"
    assert text == (
        "1 validation error detected: Value '51' at 'limit' failed to satisfy constraint: "
        "Member must have value less than or equal to 50"
    )
