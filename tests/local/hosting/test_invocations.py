"""Invocations of an endpoint, through both transports."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from forked import in_children
from processing.container.relay import CONNECT, send_socket
from processing.local.handlers import runtime
from processing.local.hosting import program_client
from processing.local.hosting.broker import LEASE, ConnectionBroker, Relay
from processing.local.hosting.health import HealthCheck
from processing.local.hosting.invoker import EndpointInvoker
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
    shared.until(lambda: shared.lines(GROUP)[:1] == ["serving"])


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
    with monkeypatch.context() as hasty:
        hasty.setattr(runtime, "Call", lambda *args: program_client.Call(*args)._replace(seconds=0.2))
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


@pytest.mark.parametrize("streamed", [False, True])
def test_a_host_that_is_ending_delays_no_call_beyond_its_time(shared: Any, streamed: bool) -> None:
    """A call whose time is over is not tried again, streamed or not."""
    import fcntl  # absent on Windows

    recoveries: list[int] = []

    class Invoker(EndpointInvoker):
        def recover(self, *args: Any) -> None:
            if recoveries:
                fcntl.flock(lease, fcntl.LOCK_UN)  # else the call would go on for ever
            recoveries.append(1)
            super().recover(*args)

    invoker = Invoker(shared.session.engine)
    target = invoker.target("shared")
    call = program_client.Call("POST", "/invocations", seconds=0.0)
    with Path(invoker.folder(target.variant), LEASE).open("rb") as lease, contextlib.ExitStack() as stack:
        fcntl.flock(lease, fcntl.LOCK_EX)
        ask: Any = (lambda *args: stack.enter_context(invoker.stream(*args))) if streamed else invoker.ask
        with pytest.raises(program_client.ProgramTimeoutError):
            ask("shared", target, call)
    assert len(recoveries) == 1


def test_a_host_without_free_files_serves_later(tmp_path: Path) -> None:
    """The client for which no socket can be made is turned away, and the next one is served."""
    first, second = socket.socketpair()
    tries: list[int] = []

    def make() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return first

    broker = ConnectionBroker(str(tmp_path))
    broker.open(make)
    with contextlib.closing(second), contextlib.closing(broker):
        with pytest.raises(program_client.NotConnectedError):
            program_client.connect(str(tmp_path), time.monotonic() + 10)
        program_client.connect(str(tmp_path), time.monotonic() + 10).close()
    assert len(tries) == 2


def test_a_relay_whose_socket_is_dropped_serves_later(tmp_path: Path) -> None:
    """A message of the relay without its socket is no end of the relay: the next client is served."""
    relay = Relay(gateway=False)
    first, second = socket.socketpair()

    def answer() -> None:
        assert relay._theirs.recv(1) == CONNECT
        relay._theirs.send(CONNECT)  # all that arrives in a process with too many open files
        assert relay._theirs.recv(1) == CONNECT
        send_socket(relay._theirs, CONNECT, first)

    answering = threading.Thread(target=answer)
    answering.start()
    broker = ConnectionBroker(str(tmp_path))
    broker.open(relay.connection)
    with contextlib.closing(second), contextlib.closing(relay), contextlib.closing(broker):
        with pytest.raises(program_client.NotConnectedError):
            program_client.connect(str(tmp_path), time.monotonic() + 10)
        program_client.connect(str(tmp_path), time.monotonic() + 10).close()
        answering.join()


def test_a_health_check_without_free_files_goes_on() -> None:
    """A connection that cannot be made says nothing about the program."""
    tries: list[int] = []

    def make() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        check.stop()

    check = HealthCheck(make, 60)
    assert not check.wait()
    assert (len(tries), check.gave_up) == (2, False)


@pytest.mark.parametrize("name", ["host-connections", "invocation-metrics"])
def test_a_thread_that_does_not_start_fails_no_invocation(
    shared: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The invocation has its answer, and the next one starts the thread."""
    tries: list[threading.Thread] = []
    start = threading.Thread.start

    def start_later(thread: threading.Thread) -> None:
        if thread.name == name:
            tries.append(thread)
            if len(tries) == 1:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_later)
    handler = runtime.RuntimeHandler(shared.session.engine)
    for body in (b"first", b"second"):
        assert handler.invoke_endpoint({"EndpointName": "shared", "Body": body})["Body"] == body
    assert len(tries) == 2
