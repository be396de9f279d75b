"""Writes that a client repeats because it lost the answer: each has the result that AWS documents."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable


def code(call: Callable[..., Any], /, **params: Any) -> str:
    """Return the code of the error that a call raises."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    return str(caught.value.response["Error"]["Code"])


class TestQueues:
    """SQS."""

    def test_a_queue_is_created_once(self, client: Callable[..., Any]) -> None:
        """The same attributes have the same URL, and other attributes are refused."""
        sqs = client("sqs")
        create = {"QueueName": "q", "Attributes": {"DelaySeconds": "1"}}
        assert sqs.create_queue(**create)["QueueUrl"] == sqs.create_queue(**create)["QueueUrl"]
        other = {"QueueName": "q", "Attributes": {"DelaySeconds": "2"}}
        assert code(sqs.create_queue, **other) == "QueueAlreadyExists"

    def test_a_message_is_deleted_once(self, client: Callable[..., Any]) -> None:
        """A repeated deletion succeeds. A repeated deletion of the queue does not find it."""
        sqs = client("sqs")
        queue = sqs.create_queue(QueueName="q")["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody="one")
        (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
        for _ in range(2):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        for _ in range(2):
            sqs.purge_queue(QueueUrl=queue)
            sqs.set_queue_attributes(QueueUrl=queue, Attributes={"DelaySeconds": "1"})
        sqs.delete_queue(QueueUrl=queue)
        assert code(sqs.delete_queue, QueueUrl=queue) == "AWS.SimpleQueueService.NonExistentQueue"

    def test_a_message_that_is_sent_twice_is_there_twice(self, client: Callable[..., Any]) -> None:
        """Standard queues have no deduplication: its parameter is refused, not ignored."""
        sqs = client("sqs")
        queue = sqs.create_queue(QueueName="q")["QueueUrl"]
        ids = {sqs.send_message(QueueUrl=queue, MessageBody="one")["MessageId"] for _ in range(2)}
        assert len(ids) == 2
        send = {"QueueUrl": queue, "MessageBody": "one", "MessageDeduplicationId": "1"}
        assert code(sqs.send_message, **send) == "InvalidParameterValue"


class TestLogs:
    """CloudWatch Logs."""

    def test_a_group_is_created_and_deleted_once(self, client: Callable[..., Any]) -> None:
        """Errors name the second request. Settings and tags have the same answer again."""
        logs = client("logs")
        group, stream = {"logGroupName": "g"}, {"logGroupName": "g", "logStreamName": "s"}
        logs.create_log_group(**group)
        logs.create_log_stream(**stream)
        assert code(logs.create_log_group, **group) == "ResourceAlreadyExistsException"
        assert code(logs.create_log_stream, **stream) == "ResourceAlreadyExistsException"
        arn = logs.describe_log_groups()["logGroups"][0]["logGroupArn"]
        for _ in range(2):
            logs.put_retention_policy(**group, retentionInDays=7)
            logs.tag_resource(resourceArn=arn, tags={"a": "b"})
        assert logs.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "b"}
        for _ in range(2):
            logs.delete_retention_policy(**group)
            logs.untag_resource(resourceArn=arn, tagKeys=["a"])
        for delete, params in ((logs.delete_log_stream, stream), (logs.delete_log_group, group)):
            delete(**params)
            assert code(delete, **params) == "ResourceNotFoundException"

    def test_events_are_accepted_twice(self, client: Callable[..., Any]) -> None:
        """The sequence token is ignored, so repeated events are there twice, as in CloudWatch."""
        logs = client("logs")
        stream = {"logGroupName": "g", "logStreamName": "s"}
        logs.create_log_group(logGroupName="g")
        logs.create_log_stream(**stream)
        event = {"timestamp": int(time.time() * 1000), "message": "line"}
        token = logs.put_log_events(**stream, logEvents=[event])["nextSequenceToken"]
        for again in (token, "1"):
            logs.put_log_events(**stream, logEvents=[event], sequenceToken=again)
        assert len(logs.get_log_events(**stream, startFromHead=True)["events"]) == 3
