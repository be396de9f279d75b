"""Invocations of an endpoint, through both transports."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from forked import in_children
from processing.local.handlers import runtime
from processing.local.hosting import program_client
from processing.local.transports.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

GROUP = "/aws/sagemaker/Endpoints/shared"


@pytest.fixture(params=["in process", "http"])
def client(request: pytest.FixtureRequest, shared: Any) -> Iterator[Any]:
    """A client of SageMaker Runtime, through each transport."""
    if request.param == "in process":
        yield shared.runtime
        return
    with Server(shared.session.engine) as server:
        keys = server.environment()
        made: Any = boto3.client(
            "sagemaker-runtime",
            endpoint_url=server.endpoint,
            region_name=keys["AWS_REGION"],
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
        )
        with contextlib.closing(made):
            yield made


def test_an_answer_arrives_as_the_program_gave_it(client: Any) -> None:
    """Body, content type, variant and custom attributes pass in both directions, whatever the bytes are."""
    body = bytes(range(256))
    answer = client.invoke_endpoint(EndpointName="shared", Body=body, ContentType="a/b", Accept="c/d")
    assert answer["Body"].read() == body
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/plain", "shared")
    assert answer["CustomAttributes"] == "seen=c/d"
    answer = client.invoke_endpoint(EndpointName="shared", Body=b"headers", ContentType="a/b", CustomAttributes="x=1")
    headers = json.loads(answer["Body"].read())
    assert headers["Content-Type"] == "a/b"
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == "x=1"
    empty = client.invoke_endpoint(EndpointName="shared", Body=b"")
    assert empty["Body"].read() == b""


def test_bodies_have_six_mebibytes_at_most(client: Any) -> None:
    """A body of 6 MiB passes in both directions, a larger request is AWS's ValidationError, a larger answer fails."""
    body = os.urandom(6 << 20)
    assert client.invoke_endpoint(EndpointName="shared", Body=body)["Body"].read() == body
    with pytest.raises(ClientError, match="less than or equal to 6291456") as refused:
        client.invoke_endpoint(EndpointName="shared", Body=body + b"x")
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(client.exceptions.ModelError, match="exceeds 6291456 bytes"):
        client.invoke_endpoint(EndpointName="shared", Body=b"fat")


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (415, "client"), (500, "server"), (503, "server")])
def test_an_error_of_the_program_is_a_model_error(client: Any, status: int, side: str) -> None:
    """It has the program's status and text, and the stream of its log."""
    with pytest.raises(client.exceptions.ModelError) as failed:
        client.invoke_endpoint(EndpointName="shared", Body=f"status {status}".encode())
    response = failed.value.response
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (status, "no good")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert f'Received {side} error ({status}) from primary with message "no good". See https://' in str(failed.value)
    assert re.fullmatch(
        rf"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}:log-stream:shared/i-[0-9a-f]{{17}}",
        response["LogStreamArn"],
    )


def test_a_streamed_answer_arrives_in_parts(client: Any) -> None:
    """The parts together are the body, and the head is that of the program."""
    answer = client.invoke_endpoint_with_response_stream(EndpointName="shared", Body=b"stream")
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/plain", "shared")
    with contextlib.closing(answer["Body"]):
        parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert b"".join(parts) == b"piece 0piece 1piece 2piece 3piece 4"


def test_a_stream_that_breaks_ends_in_an_error(client: Any) -> None:
    """The parts before the break arrive, then ModelStreamError. An error before the stream is a ModelError."""
    answer = client.invoke_endpoint_with_response_stream(EndpointName="shared", Body=b"cut")
    parts: list[bytes] = []
    within = "closed the connection within its answer"
    with contextlib.closing(answer["Body"]), pytest.raises(ClientError, match=within) as broken:
        parts.extend(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    assert broken.value.response["Error"]["Code"] == "ModelStreamError"
    with pytest.raises(client.exceptions.ModelError, match="no good"):
        client.invoke_endpoint_with_response_stream(EndpointName="shared", Body=b"status 400")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"EndpointName": "nobody"}, "Endpoint nobody of account 000000000000 not found"),
        ({"TargetVariant": "other"}, "Variant other not found"),
        ({"TargetModel": "m.tar.gz"}, "TargetModel: the local engine does not have multi-model endpoints"),
        ({"TargetContainerHostname": "x"}, "pipelines of containers"),
        ({"InferenceComponentName": "x"}, "inference components"),
    ],
)
def test_invocations_that_reach_nothing_are_refused(client: Any, params: dict[str, str], message: str) -> None:
    """An unknown endpoint or variant, and a feature that the engine lacks, are AWS's ValidationError."""
    with pytest.raises(ClientError, match=message) as refused:
        client.invoke_endpoint(**{"EndpointName": "shared", "Body": b"", **params})
    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_the_program_sees_its_model_and_its_variables_and_the_engine(shared: Any) -> None:
    """The archive is at /opt/ml/model, the model's variables are set, and boto3 reaches the engine from its network."""
    assert json.loads(shared.invoke("shared", b"model /opt/ml/model")) == ["code", "inference.py", "weights.txt"]
    assert shared.invoke("shared", b"env VERSION") == b"1"
    assert json.loads(shared.invoke("shared", b"buckets")) == ["data"]
    assert shared.lines(GROUP)[:1] == ["serving"]


def test_many_invocations_at_once(shared: Any) -> None:
    """Threads that invoke one endpoint get their own answers."""
    wrong: list[bytes] = []

    def invoke(number: int) -> None:
        for each in range(20):
            body = f"{number}/{each}".encode()
            if (answer := shared.invoke("shared", body)) != body:
                wrong.append(answer)

    threads = [threading.Thread(target=invoke, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_have_connections_of_their_own(shared: Any) -> None:
    """Children of a process that keeps connections get their own answers, and so does the parent."""
    bodies = [b"parent", b"first child", b"second child"]

    def answers(body: bytes) -> bool:
        return all(shared.invoke("shared", body) == body for _ in range(20))

    assert answers(bodies[0])
    assert in_children(*(lambda body=body: answers(body) for body in bodies[1:])) == [True, True]
    assert answers(bodies[0])


def test_a_slow_program_is_aws_error(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit the error has AWS's words and the status 0. The endpoint goes on."""
    assert program_client.Call("GET", "/").seconds == 60
    monkeypatch.setattr(runtime, "Call", lambda *args: program_client.Call(*args)._replace(seconds=0.2))
    with pytest.raises(shared.runtime.exceptions.ModelError, match="Your invocation timed out") as failed:
        shared.invoke("shared", b"sleep 5")
    assert failed.value.response["OriginalStatusCode"] == 0
    assert shared.invoke("shared", b"fine") == b"fine"


def test_metrics_of_invocations(hosting: Any) -> None:
    """CloudWatch has the number of invocations, their errors and their latency, for each variant."""
    hosting.deploy("counted")
    for body in (b"1", b"2", b"status 400", b"status 500"):
        with contextlib.suppress(ClientError):
            hosting.invoke("counted", body)
    cloudwatch: Any = hosting.session.boto_session.client("cloudwatch")
    dimensions = [{"Name": "EndpointName", "Value": "counted"}, {"Name": "VariantName", "Value": "counted"}]

    def total(metric: str) -> float:
        now = time.time()
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=dimensions,
            StartTime=now - 3600,
            EndTime=now + 60,
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(point["Sum"] for point in points))

    hosting.until(lambda: total("Invocations") == 4)
    assert (total("Invocation4XXErrors"), total("Invocation5XXErrors")) == (1, 1)
    assert total("ModelLatency") > 0
