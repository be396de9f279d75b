"""Asynchronous invocations: their payloads and results are objects."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from processing.local.hosting.asynchronous.queue import AsyncQueue, AsyncRequest

OUTPUT = {"S3OutputPath": "s3://data/out", "S3FailurePath": "s3://data/failures"}


def _deploy(hosting: Any, **client: int) -> None:
    config: dict[str, Any] = {"OutputConfig": OUTPUT, "ClientConfig": client} if client else {"OutputConfig": OUTPUT}
    hosting.config("later", hosting.model("later"), AsyncInferenceConfig=config)
    hosting.sagemaker.create_endpoint(EndpointName="later", EndpointConfigName="later")
    assert hosting.settled("later")["EndpointStatus"] == "InService"


def _content(hosting: Any, uri: str) -> bytes:
    """The content of an object, as soon as it exists."""
    key = uri.removeprefix("s3://data/")
    hosting.until(lambda: hosting.keys(key))
    found: bytes = hosting.keys(key)[""]
    return found


def test_results_and_failures_are_objects(either: Any) -> None:
    """A payload from S3 or in the request has its answer in S3, and a failed invocation a description there."""
    _deploy(either)
    either.s3.put_object(Bucket="data", Key="payload", Body=b"\x00payload")
    invoke = either.runtime.invoke_endpoint_async
    answer = invoke(EndpointName="later", InputLocation="s3://data/payload", ContentType="a/b", InferenceId="mine")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "mine"
    assert answer["OutputLocation"].startswith("s3://data/out/")
    assert _content(either, answer["OutputLocation"]) == b"\x00payload"
    answer = invoke(EndpointName="later", Body=b"in the request", S3OutputPathExtension="a/b", Filename="c.out")
    assert answer["OutputLocation"] == "s3://data/out/a/b/c.out"
    assert _content(either, answer["OutputLocation"]) == b"in the request"
    answer = invoke(EndpointName="later", Body=b"status 400")
    assert b'client error (400) from primary with message "no good"' in _content(either, answer["FailureLocation"])
    answer = invoke(EndpointName="later", InputLocation="s3://data/missing")
    assert b"s3://data/missing cannot be read" in _content(either, answer["FailureLocation"])
    assert either.describe("later")["AsyncInferenceConfig"]["OutputConfig"] == OUTPUT


def test_each_kind_of_endpoint_has_its_own_operation(either: Any) -> None:
    """InvokeEndpoint is refused for an asynchronous endpoint, and InvokeEndpointAsync for any other."""
    _deploy(either)
    either.deploy("now")
    with pytest.raises(ClientError, match="call InvokeEndpointAsync"):
        either.invoke("later")
    with pytest.raises(ClientError, match="call InvokeEndpoint"):
        either.runtime.invoke_endpoint_async(EndpointName="now", InputLocation="s3://data/x")
    for payloads in ({}, {"Body": b"x", "InputLocation": "s3://data/x"}):
        with pytest.raises(ClientError, match="either InputLocation or Body"):
            either.runtime.invoke_endpoint_async(EndpointName="later", **payloads)


def test_notifications_are_refused(either: Any) -> None:
    """The engine has no SNS, and says so when the endpoint is created."""
    topic = "arn:aws:sns:us-east-1:000000000000:topic"
    output = {**OUTPUT, "NotificationConfig": {"SuccessTopic": topic}}
    either.config("c", either.model("m"), AsyncInferenceConfig={"OutputConfig": output})
    with pytest.raises(ClientError, match="does not have SNS"):
        either.sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")


def _request(number: int) -> AsyncRequest:
    return AsyncRequest(str(number), None, "", {}, "s3://data/out", None, time.time() + 60, 60.0)


def test_a_queue_gives_each_request_once(tmp_path: Any) -> None:
    """Claims are in order and exclude each other, and a claim that ends in an error leaves the request."""
    queue = AsyncQueue(tmp_path, "endpoint")
    with queue.claim() as nothing:
        assert nothing is None
    for number in range(3):
        queue.put(_request(number))
    with queue.claim() as first, queue.claim() as second:
        assert (first and first.id, second and second.id) == ("0", "1")
    with pytest.raises(ValueError, match="interrupted"), queue.claim() as third:  # noqa: PT012 - the claim is left
        assert third is not None
        raise ValueError("interrupted")
    with queue.claim() as again:
        assert again is not None
        assert again.id == "2"
    with queue.claim() as nothing:
        assert nothing is None
    queue.put(_request(3))
    queue.clear()
    with queue.claim() as nothing:
        assert nothing is None
