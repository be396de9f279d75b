"""SQS through boto3 and each transport."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing.local.errors import ApiError
from processing.local.handlers.sqs import SqsHandler
from processing.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing import LocalSession
    from processing.local.transports.server import Server

BATCH_ID = "AWS.SimpleQueueService.InvalidBatchEntryId"
GONE = "AWS.SimpleQueueService.NonExistentQueue"


@pytest.fixture
def sqs(client: Callable[..., Any]) -> Any:
    return client("sqs")


@pytest.fixture
def url(sqs: Any) -> str:
    made: str = sqs.create_queue(QueueName="jobs")["QueueUrl"]
    return made


def code_of(call: Callable[..., Any], **params: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**params)
    code: str = caught.value.response["Error"]["Code"]
    return code


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def test_a_message_goes_through(sqs: Any, url: str) -> None:
    """A message is sent, received with its digest, and deleted."""
    sent = sqs.send_message(QueueUrl=url, MessageBody="päckchen\n")
    assert sent["MD5OfMessageBody"] == md5("päckchen\n")
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert (message["Body"], message["MessageId"]) == ("päckchen\n", sent["MessageId"])
    assert message["MD5OfBody"] == md5("päckchen\n")
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_a_queue_has_a_url_by_which_it_is_found(sqs: Any, url: str) -> None:
    """Only the path of a URL counts, with any host."""
    assert url.startswith("http://")
    assert url.endswith("/000000000000/jobs")
    assert sqs.get_queue_url(QueueName="jobs")["QueueUrl"] == url
    sqs.send_message(QueueUrl="https://sqs.eu-west-1.amazonaws.com/000000000000/jobs", MessageBody="x")
    assert [message["Body"] for message in sqs.receive_message(QueueUrl=url)["Messages"]] == ["x"]


def test_queues_are_listed_by_prefix_and_page(sqs: Any) -> None:
    """They are sorted by name, and the paginator returns each once."""
    for name in ("b-2", "a", "b-1", "b-3"):
        sqs.create_queue(QueueName=name)
    pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix="b-", PaginationConfig={"PageSize": 2})
    assert [[url.rpartition("/")[2] for url in page["QueueUrls"]] for page in pages] == [["b-1", "b-2"], ["b-3"]]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="nothing")


def test_making_a_queue_again_needs_the_same_attributes(sqs: Any, url: str) -> None:
    """The answer is the same URL."""
    assert sqs.create_queue(QueueName="jobs", Attributes={"VisibilityTimeout": "30"})["QueueUrl"] == url
    with pytest.raises(sqs.exceptions.QueueNameExists, match="different value for attribute DelaySeconds"):
        sqs.create_queue(QueueName="jobs", Attributes={"DelaySeconds": "5"})


def test_attributes_are_set_and_got(sqs: Any, url: str) -> None:
    """They are texts, with the defaults of SQS."""
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})
    got = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout", "QueueArn"])["Attributes"]
    assert got == {"VisibilityTimeout": "7", "QueueArn": "arn:aws:sqs:us-east-1:000000000000:jobs"}
    whole = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (whole["MaximumMessageSize"], whole["MessageRetentionPeriod"]) == ("1048576", "345600")
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=url)


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"VisibilityTimeout": "43201"}, "InvalidAttributeValue"),
        ({"DelaySeconds": "soon"}, "InvalidAttributeValue"),
        ({"Nonsense": "1"}, "InvalidAttributeName"),
        ({"RedrivePolicy": "{}"}, "AWS.SimpleQueueService.UnsupportedOperation"),
        ({"FifoQueue": "true"}, "AWS.SimpleQueueService.UnsupportedOperation"),
    ],
)
def test_attributes_that_cannot_be_are_refused(sqs: Any, attributes: dict[str, str], code: str) -> None:
    """The errors for features that only the engine lacks name the engine."""
    assert code_of(sqs.create_queue, QueueName="new", Attributes=attributes) == code
    assert code_of(sqs.get_queue_url, QueueName="new") == GONE


def test_fifo_queues_are_refused(sqs: Any) -> None:
    """They promise an order and a uniqueness that the engine does not keep."""
    with pytest.raises(sqs.exceptions.UnsupportedOperation, match="do not have FIFO queues"):
        sqs.create_queue(QueueName="jobs.fifo", Attributes={"FifoQueue": "true"})


@pytest.mark.parametrize("name", ["a b", "x" * 81, "a/b", "ä"])
def test_a_queue_name_has_rules(sqs: Any, name: str) -> None:
    """A name has up to 80 letters, digits, hyphens and underscores."""
    assert code_of(sqs.create_queue, QueueName=name) == "InvalidParameterValue"


def test_a_missing_queue_is_reported_as_by_aws(sqs: Any, url: str) -> None:
    """Every operation raises its old code as the modelled exception."""
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(sqs.exceptions.QueueDoesNotExist, match="The specified queue does not exist") as caught:
        sqs.receive_message(QueueUrl=url)
    assert caught.value.response["Error"]["Code"] == GONE
    assert code_of(sqs.send_message, QueueUrl=url, MessageBody="x") == GONE
    assert code_of(sqs.purge_queue, QueueUrl=url) == GONE


def test_purging_leaves_an_empty_queue(sqs: Any, url: str) -> None:
    """Messages that are with a receiver are deleted, too."""
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(3)])
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    sqs.purge_queue(QueueUrl=url)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


def test_attributes_of_a_message_have_the_digest_that_sdks_check(sqs: Any, url: str) -> None:
    """The digest covers the attributes in the answer, by SQS's published rule."""
    attributes = {
        "one": {"DataType": "String", "StringValue": "ä"},
        "two": {"DataType": "Number.int", "StringValue": "2"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    sent = sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=attributes)
    parts = (
        b"\0\0\0\3one\0\0\0\6String\1\0\0\0\2\xc3\xa4",
        b"\0\0\0\3raw\0\0\0\6Binary\2\0\0\0\2\x00\xff",
        b"\0\0\0\3two\0\0\0\x0aNumber.int\1\0\0\0\0012",
    )
    assert sent["MD5OfMessageAttributes"] == hashlib.md5(b"".join(parts)).hexdigest()
    (message,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"], VisibilityTimeout=0)["Messages"]
    assert message["MessageAttributes"] == attributes
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    (message,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=["on.*"], VisibilityTimeout=0)["Messages"]
    assert list(message["MessageAttributes"]) == ["one"]
    assert message["MD5OfMessageAttributes"] == hashlib.md5(parts[0]).hexdigest()
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert "MessageAttributes" not in message


def test_system_attributes_tell_of_sending_and_receiving(sqs: Any, url: str) -> None:
    """They are returned only on request."""
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageGroupId="tenant")
    sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    (message,) = sqs.receive_message(QueueUrl=url, MessageSystemAttributeNames=["All"])["Messages"]
    attributes = message["Attributes"]
    assert attributes["ApproximateReceiveCount"] == "2"
    assert attributes["MessageGroupId"] == "tenant"
    assert int(attributes["SentTimestamp"]) <= int(attributes["ApproximateFirstReceiveTimestamp"])


def test_a_batch_reports_each_entry(sqs: Any, url: str) -> None:
    """An invalid message does not prevent the others."""
    bad = {"Id": "bad", "MessageBody": "x", "MessageAttributes": {"n": {"DataType": "Number", "StringValue": "x"}}}
    entries = [{"Id": "a", "MessageBody": "1"}, bad, {"Id": "b", "MessageBody": "2"}]
    answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [(each["Id"], each["MD5OfMessageBody"]) for each in answer["Successful"]] == [
        ("a", md5("1")),
        ("b", md5("2")),
    ]
    assert [(each["Id"], each["Code"], each["SenderFault"]) for each in answer["Failed"]] == [
        ("bad", "InvalidParameterValue", True)
    ]
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    handles = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(received)]
    answer = sqs.delete_message_batch(QueueUrl=url, Entries=[*handles, {"Id": "x", "ReceiptHandle": "nonsense"}])
    assert [each["Id"] for each in answer["Successful"]] == ["0", "1"]
    assert [(each["Id"], each["Code"]) for each in answer["Failed"]] == [("x", "ReceiptHandleIsInvalid")]


def test_visibility_of_a_batch_can_be_changed(sqs: Any, url: str) -> None:
    """With a visibility of zero, messages can be received again."""
    sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": "x"} for n in range(2)])
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    entries = [
        {"Id": str(n), "ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": 0}
        for n, each in enumerate(received)
    ]
    assert len(sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)["Successful"]) == 2
    assert len(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]) == 2


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([], "EmptyBatchRequest"),
        ([{"Id": str(n), "MessageBody": "x"} for n in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "a", "MessageBody": "x"}] * 2, "BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "MessageBody": "x"}], "InvalidBatchEntryId"),
        ([{"Id": str(n), "MessageBody": "x" * 524_289} for n in range(2)], "BatchRequestTooLong"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_as_a_whole(
    sqs: Any, url: str, entries: list[dict[str, str]], code: str
) -> None:
    """The error has the code of SQS."""
    assert code_of(sqs.send_message_batch, QueueUrl=url, Entries=entries) == f"AWS.SimpleQueueService.{code}"
    assert "Messages" not in sqs.receive_message(QueueUrl=url)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"MessageBody": ""}, "MissingParameter"),
        ({"MessageBody": "x" * 1_048_577}, "InvalidParameterValue"),
        ({"MessageBody": "\x00"}, "InvalidMessageContents"),
        ({"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ({"MessageBody": "x", "MessageDeduplicationId": "1"}, "InvalidParameterValue"),
        (
            {
                "MessageBody": "x",
                "MessageAttributes": {f"a{n}": {"DataType": "String", "StringValue": "1"} for n in range(11)},
            },
            "InvalidParameterValue",
        ),
        (
            {"MessageBody": "x", "MessageAttributes": {"a": {"DataType": "Text", "StringValue": "1"}}},
            "InvalidParameterValue",
        ),
        (
            {"MessageBody": "x", "MessageAttributes": {"AWS.a": {"DataType": "String", "StringValue": "1"}}},
            "InvalidParameterValue",
        ),
    ],
)
def test_a_message_that_cannot_be_is_refused(sqs: Any, url: str, params: dict[str, Any], code: str) -> None:
    """The error has the code of SQS."""
    assert code_of(sqs.send_message, QueueUrl=url, **params) == code


def test_a_message_may_have_a_mebibyte(sqs: Any, url: str) -> None:
    """It is returned completely, and a queue may have a smaller limit."""
    sqs.send_message(QueueUrl=url, MessageBody="x" * 1_048_576)
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert len(message["Body"]) == 1_048_576
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "1024"})
    with pytest.raises(ClientError, match="Message must be shorter than 1024 bytes"):
        sqs.send_message(QueueUrl=url, MessageBody="x" * 1025)


@pytest.mark.parametrize("params", [{"MaxNumberOfMessages": 11}, {"WaitTimeSeconds": 21}, {"VisibilityTimeout": -1}])
def test_receiving_has_limits(sqs: Any, url: str, params: dict[str, int]) -> None:
    """The limits are ten messages, twenty seconds and twelve hours."""
    assert code_of(sqs.receive_message, QueueUrl=url, **params) == "InvalidParameterValue"


def test_receipts_that_are_none_are_refused(sqs: Any, url: str) -> None:
    """The error is the modelled exception."""
    with pytest.raises(sqs.exceptions.ReceiptHandleIsInvalid):
        sqs.delete_message(QueueUrl=url, ReceiptHandle="nonsense")
    with pytest.raises(sqs.exceptions.ReceiptHandleIsInvalid):
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle="nonsense", VisibilityTimeout=1)


LONE = "\ud800"


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        ("ReceiveMessage", {"QueueUrl": "http://["}, GONE),
        ("ReceiveMessage", {"QueueUrl": LONE}, GONE),
        ("ReceiveMessage", {"QueueUrl": 5}, "InvalidParameterValue"),
        ("ReceiveMessage", {"QueueUrl": "q", "WaitTimeSeconds": "5"}, "InvalidParameterValue"),
        ("GetQueueUrl", {"QueueName": LONE}, GONE),
        ("CreateQueue", {"QueueName": LONE}, "InvalidParameterValue"),
        ("DeleteMessage", {"QueueUrl": "q", "ReceiptHandle": LONE}, "ReceiptHandleIsInvalid"),
        ("SendMessage", {"QueueUrl": "q", "MessageBody": LONE}, "InvalidMessageContents"),
        ("SendMessage", {"QueueUrl": "q", "MessageBody": "x", "MessageGroupId": LONE}, "InvalidParameterValue"),
        (
            "SendMessage",
            {
                "QueueUrl": "q",
                "MessageBody": "x",
                "MessageAttributes": {"a": {"DataType": f"String.{LONE}", "StringValue": "1"}},
            },
            "InvalidMessageContents",
        ),
        (
            "SendMessage",
            {
                "QueueUrl": "q",
                "MessageBody": "x",
                "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": LONE}},
            },
            "InvalidMessageContents",
        ),
        ("SendMessageBatch", {"QueueUrl": "q", "Entries": [{"Id": LONE, "MessageBody": "x"}]}, BATCH_ID),
    ],
)
def test_what_no_client_sends_is_refused_all_the_same(
    local_session: LocalSession, operation: str, params: dict[str, Any], code: str
) -> None:
    """Malformed requests of other programs are client errors, not faults of the engine."""
    local_session.engine.handle("sqs", "CreateQueue", {"QueueName": "q"})
    with pytest.raises(ApiError) as caught:
        local_session.engine.handle("sqs", operation, params)
    assert caught.value.code == code


def test_a_url_leads_to_the_server_that_returned_it(server: Server, http_client: Callable[..., Any]) -> None:
    """Some SDKs send their requests there."""
    sqs = http_client("sqs")
    assert sqs.create_queue(QueueName="q")["QueueUrl"] == f"{server.endpoint}/000000000000/q"


class _Sender(VirtualClock):
    """A clock that sends a message after some time of sleep."""

    def __init__(self, after: float, send: Callable[[float], object]) -> None:
        super().__init__()
        self._after = after
        self._send = send

    def sleep(self, seconds: float) -> None:
        before = self.monotonic()
        super().sleep(seconds)
        if before < self._after <= self.monotonic():
            self._send(self.time())


@pytest.mark.parametrize(("waits", "queue_waits", "found"), [(10, 0, True), (None, 10, True), (2, 20, False)])
def test_long_polling_waits_for_the_first_message(
    local_session: LocalSession, waits: int | None, queue_waits: int, found: bool
) -> None:
    """It waits as long as the request or the queue specifies, and ends when a message arrives."""
    queues = local_session.engine.queues
    clock = _Sender(5.0, lambda now: queues.send("q", [("x", {}, None)], now))
    queues.create("q", {"ReceiveMessageWaitTimeSeconds": queue_waits}, clock.time())
    params = {"QueueUrl": "q"} if waits is None else {"QueueUrl": "q", "WaitTimeSeconds": waits}
    answer = SqsHandler(local_session.engine, clock).receive_message(params)
    assert [message["Body"] for message in answer.get("Messages", [])] == (["x"] if found else [])
    assert clock.monotonic() == pytest.approx(5.0 if found else 2.0, abs=0.1)
