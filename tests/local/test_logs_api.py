"""CloudWatch Logs through boto3."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "/aws/sagemaker/ProcessingJobs"
WHERE = {"logGroupName": GROUP, "logStreamName": "job/algo-1-1"}
NOW = int(time.time() * 1000)
HOUR = 3600 * 1000
DAY = 24 * HOUR


@pytest.fixture
def logs(client: Callable[..., Any]) -> Any:
    """A client of the engine, with one group."""
    made = client("logs")
    made.create_log_group(logGroupName=GROUP)
    return made


def put(logs: Any, stream: str, *events: tuple[int, str]) -> None:
    """Create a stream with events. Times are in milliseconds after `NOW`."""
    logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    batch = [{"timestamp": NOW + timestamp, "message": message} for timestamp, message in events]
    if batch:
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=batch)


def refused(call: Any, /, **params: Any) -> tuple[str, str]:
    """Return the code and the text of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in {400, 501}
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def messages(answer: dict[str, Any]) -> list[str]:
    """Return the messages of an answer."""
    return [event["message"] for event in answer["events"]]


def test_what_was_put_is_got(logs: Any) -> None:
    """Each event has both of its times."""
    put(logs, "job/algo-1-1", (5, "a"), (5, "b"), (7, "c"))
    answer = logs.get_log_events(**WHERE, startFromHead=True)
    assert messages(answer) == ["a", "b", "c"]
    assert [event["timestamp"] - NOW for event in answer["events"]] == [5, 5, 7]
    assert all(event["ingestionTime"] > 1_600_000_000_000 for event in answer["events"])
    assert re.fullmatch(r"f/\d{56}", answer["nextForwardToken"])
    assert re.fullmatch(r"b/\d{56}", answer["nextBackwardToken"])
    again = logs.get_log_events(**WHERE, nextToken=answer["nextForwardToken"])
    assert again["events"] == []
    assert again["nextForwardToken"] == answer["nextForwardToken"]
    assert messages(logs.get_log_events(**WHERE, limit=2)) == ["b", "c"]
    arn = logs.describe_log_groups()["logGroups"][0]["arn"]
    by_arn = logs.get_log_events(logGroupIdentifier=arn.removesuffix(":*"), logStreamName="job/algo-1-1")
    assert messages(by_arn) == ["a", "b", "c"]


def test_events_of_several_streams_come_by_time(logs: Any) -> None:
    """Each event has a unique id and its stream, and the last page has no token."""
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
    assert messages(logs.filter_log_events(**params, startTime=NOW + 2, endTime=NOW + 3)) == ["2", "3"]
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
    """All plain terms match, one term with a question mark, and no term with a minus. Case matters."""
    put(logs, "s", (1, "an ERROR here"), (2, "a warning"), (3, "ERROR and warning"))
    assert messages(logs.filter_log_events(logGroupName=GROUP, filterPattern=pattern)) == found


@pytest.mark.parametrize("pattern", ["[a, b]", "{ $.a = 1 }", "%^an?%"])
def test_other_patterns_are_not_implemented(logs: Any, pattern: str) -> None:
    """They are refused instead of matching nothing."""
    assert refused(logs.filter_log_events, logGroupName=GROUP, filterPattern=pattern)[0] == "NotImplemented"


def test_streams_come_in_pages_of_fifty(logs: Any) -> None:
    """The last page has no token, because some clients never end otherwise."""
    names = [f"job/algo-{number:03d}" for number in range(101)]
    for name in names:
        put(logs, name)
    pages = list(logs.get_paginator("describe_log_streams").paginate(logGroupName=GROUP, logStreamNamePrefix="job/"))
    assert [len(page["logStreams"]) for page in pages] == [50, 50, 1]
    assert [stream["logStreamName"] for page in pages for stream in page["logStreams"]] == names
    assert "nextToken" not in pages[-1]
    assert "nextToken" not in logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="job/algo-00")


def test_streams_are_ordered(logs: Any) -> None:
    """They are sorted by name or last event, in either direction."""
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
    assert (stream["firstEventTimestamp"] - NOW, stream["lastEventTimestamp"] - NOW) == (1, 9)
    both = {"logGroupName": GROUP, "orderBy": "LastEventTime", "logStreamNamePrefix": "a"}
    assert refused(logs.describe_log_streams, **both)[0] == "InvalidParameterException"


def test_groups_are_listed(logs: Any) -> None:
    """They are selected by prefix and have ARNs."""
    logs.create_log_group(logGroupName="other")
    assert [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]] == [GROUP, "other"]
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/aws/")["logGroups"]
    assert group["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}:*"


def test_groups_are_found(logs: Any) -> None:
    """They are selected by a case-sensitive part of the name or by ARNs, but not by both."""
    for name in ("/app/one", "/app/One", "/other/one"):
        logs.create_log_group(logGroupName=name)

    def found(**params: Any) -> list[str]:
        return [each["logGroupName"] for each in logs.describe_log_groups(**params)["logGroups"]]

    assert found(logGroupNamePattern="p/on") == ["/app/one"]
    assert found(logGroupNamePattern="one") == ["/app/one", "/other/one"]
    arns = [f"arn:aws:logs:us-east-1:000000000000:log-group:{name}" for name in ("/other/one", "/none", "/app/One")]
    assert found(logGroupIdentifiers=arns) == ["/app/One", "/other/one"]
    assert found(logGroupNamePattern="one", logGroupClass="INFREQUENT_ACCESS") == []
    first = logs.describe_log_groups(logGroupNamePattern="one", limit=1)
    assert found(logGroupNamePattern="one", nextToken=first["nextToken"]) == ["/other/one"]
    with pytest.raises(ClientError, match="mutually exclusive"):
        found(logGroupNamePrefix="/app", logGroupNamePattern="one")


def test_errors_are_the_services(logs: Any) -> None:
    """Clients depend on these codes and texts."""
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
    unordered = [{"timestamp": NOW + 2, "message": "a"}, {"timestamp": NOW + 1, "message": "b"}]
    put(logs, "job/algo-1-1")
    code, text = refused(logs.put_log_events, **WHERE, logEvents=unordered)
    assert (code, "chronological" in text) == ("InvalidParameterException", True)
    nowhere = [{"timestamp": NOW, "message": "a"}]
    missing_stream = {"logGroupName": GROUP, "logStreamName": "none"}
    assert refused(logs.put_log_events, **missing_stream, logEvents=nowhere)[0] == "ResourceNotFoundException"


def test_batches_have_limits(logs: Any) -> None:
    """1,048,576 bytes with 26 for each event, one event or many; 24 hours; 10,000 events."""
    put(logs, "job/algo-1-1")
    most = [{"timestamp": NOW, "message": "x" * (1_048_576 - 26)}]
    assert logs.put_log_events(**WHERE, logEvents=most)["nextSequenceToken"].isdecimal()
    larger = [{"timestamp": NOW, "message": "é" * 524_288}]
    assert refused(logs.put_log_events, **WHERE, logEvents=larger) == (
        "InvalidParameterException",
        "Log event too large: 1048602 bytes exceeds limit of 1048576",
    )
    many = [{"timestamp": NOW, "message": "x" * 100_000}] * 11
    assert refused(logs.put_log_events, **WHERE, logEvents=many)[1].startswith("Upload too large: 1100286 bytes")
    long = [{"timestamp": NOW - DAY - 1, "message": "x"}, {"timestamp": NOW, "message": "x"}]
    assert refused(logs.put_log_events, **WHERE, logEvents=long) == (
        "InvalidParameterException",
        "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
    )
    numerous = [{"timestamp": NOW, "message": "x"}] * 10_001
    assert "less than or equal to 10000" in refused(logs.put_log_events, **WHERE, logEvents=numerous)[1]


def test_events_of_wrong_times_are_left_out(logs: Any) -> None:
    """The answer has their indexes in the batch, and the other events are stored."""
    put(logs, "job/algo-1-1")
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=3)
    ages = [15 * DAY, 14 * DAY + HOUR, 4 * DAY, HOUR, 0, -3 * HOUR]
    batch = [{"timestamp": NOW - age, "message": str(age // HOUR)} for age in ages]
    rejected = logs.put_log_events(**WHERE, logEvents=batch)["rejectedLogEventsInfo"]
    assert rejected == {"tooOldLogEventEndIndex": 2, "expiredLogEventEndIndex": 3, "tooNewLogEventStartIndex": 5}
    assert messages(logs.get_log_events(**WHERE)) == ["1", "0"]
    nothing = logs.put_log_events(**WHERE, logEvents=batch[:1])
    assert nothing["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 1}
    fine = logs.put_log_events(**WHERE, logEvents=batch[3:5], sequenceToken="ignored")
    assert "rejectedLogEventsInfo" not in fine


def test_newest_events_come_first_if_asked(logs: Any) -> None:
    """The order holds over pages and streams, and the token remembers it."""
    put(logs, "a", (1, "1"), (3, "3"), (4, "4"))
    put(logs, "b", (0, "0"), (2, "2"), (5, "5"))
    params = {"logGroupName": GROUP, "startFromHead": False, "startTime": NOW, "limit": 2}
    pages = [logs.filter_log_events(**params)]
    while "nextToken" in pages[-1]:
        pages.append(logs.filter_log_events(logGroupName=GROUP, limit=2, nextToken=pages[-1]["nextToken"]))
    assert [messages(page) for page in pages] == [["5", "4"], ["3", "2"], ["1", "0"]]


def test_groups_and_streams_are_deleted(logs: Any) -> None:
    """Their content is deleted with them, and nothing else."""
    put(logs, "a", (1, "a"))
    put(logs, "b", (1, "b"))
    logs.delete_log_stream(logGroupName=GROUP, logStreamName="a")
    assert messages(logs.filter_log_events(logGroupName=GROUP)) == ["b"]
    assert refused(logs.delete_log_stream, logGroupName=GROUP, logStreamName="a")[0] == "ResourceNotFoundException"
    logs.create_log_group(logGroupName="other")
    logs.delete_log_group(logGroupName=GROUP)
    assert [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]] == ["other"]
    assert refused(logs.delete_log_group, logGroupName=GROUP)[0] == "ResourceNotFoundException"
    logs.create_log_group(logGroupName=GROUP)
    assert logs.describe_log_streams(logGroupName=GROUP)["logStreams"] == []


def test_retention_is_kept(logs: Any) -> None:
    """It can be removed again, and only certain numbers of days are accepted."""
    assert "retentionInDays" not in logs.describe_log_groups()["logGroups"][0]
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=14)
    assert logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 14
    logs.delete_retention_policy(logGroupName=GROUP)
    assert "retentionInDays" not in logs.describe_log_groups()["logGroups"][0]
    code, text = refused(logs.put_retention_policy, logGroupName=GROUP, retentionInDays=2)
    assert (code, "Value '2' at 'retentionInDays'" in text) == ("InvalidParameterException", True)
    for call, more in ((logs.put_retention_policy, {"retentionInDays": 1}), (logs.delete_retention_policy, {})):
        assert refused(call, logGroupName="none", **more)[0] == "ResourceNotFoundException"


def test_groups_have_tags(logs: Any) -> None:
    """Tags can be set at creation or later."""
    logs.create_log_group(logGroupName="tagged", tags={"a": "1", "b": "2"})
    arn = logs.describe_log_groups(logGroupNamePrefix="tagged")["logGroups"][0]["logGroupArn"]
    logs.untag_resource(resourceArn=arn, tagKeys=["a"])
    logs.tag_resource(resourceArn=arn, tags={"c": "3"})
    assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2", "c": "3"}


def test_lists_go_on_behind_their_tokens(logs: Any) -> None:
    """Streams by last event, in both directions, and groups have tokens. Invalid tokens are refused."""
    for number in range(7):
        put(logs, f"s{number}", *([(-number, "x")] if number % 3 else []))
        logs.create_log_group(logGroupName=f"g{number}")
    for descending in (False, True):
        params = {"logGroupName": GROUP, "orderBy": "LastEventTime", "descending": descending}
        whole = logs.describe_log_streams(**params)["logStreams"]
        pages = logs.get_paginator("describe_log_streams").paginate(**params, PaginationConfig={"PageSize": 2})
        assert [stream for page in pages for stream in page["logStreams"]] == whole
        assert len(whole) == 7
    pages = logs.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 3})
    names = [group["logGroupName"] for page in pages for group in page["logGroups"]]
    assert names == [GROUP, *(f"g{number}" for number in range(7))]
    for token in ("?", "WyJhIiwgMV0=", "MQ=="):
        bad = {"logGroupName": GROUP, "nextToken": token}
        for call in (logs.describe_log_streams, logs.filter_log_events):
            assert refused(call, **bad) == ("InvalidParameterException", "The specified nextToken is invalid.")


def test_parameters_are_held_against_the_model(logs: Any) -> None:
    """The error has AWS's text."""
    code, text = refused(logs.describe_log_streams, logGroupName=GROUP, limit=51)
    assert code == "InvalidParameterException"
    assert text == (
        "1 validation error detected: Value '51' at 'limit' failed to satisfy constraint: "
        "Member must have value less than or equal to 50"
    )
