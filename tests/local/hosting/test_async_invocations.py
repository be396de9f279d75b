"""Asynchronous invocations: their payloads and results are objects."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from processing import EngineError
from processing.container.runner import ProgramExit
from processing.local.hosting.asynchronous import worker
from processing.local.hosting.asynchronous.queue import AsyncQueue, AsyncRequest
from processing.local.hosting.broker import ConnectionBroker
from processing.local.hosting.endpoint_host import EndpointHost
from processing.local.hosting.health import HealthCheck
from processing.local.hosting.program_client import Answer
from processing.local.jobs.host_supervisor import HostSupervisor

if TYPE_CHECKING:
    from pathlib import Path

    from processing.local.hosting.program_process import ProgramProcess

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


class _SlowHost(EndpointHost):
    """A host whose program ends just after it was found healthy."""

    ended: threading.Event

    def own_network(self) -> bool:
        return False  # no relay is needed

    def may_restart(self) -> bool:
        return False

    def on_program_end(self) -> None:
        super().on_program_end()
        self.ended.set()

    def on_healthy(self, process: ProgramProcess) -> None:
        assert self.ended.wait(60)
        super().on_healthy(process)


def test_a_program_that_ends_early_leaves_no_worker(
    hosting: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of a program that has ended is stopped, and clients wait, even if it begins after that end."""

    def run(host: Any, *_: object) -> ProgramExit:
        host._process.started()
        return ProgramExit(1, None)

    _deploy(hosting)
    (record,) = hosting.session.engine.jobs.endpoint_hosts()
    host = _SlowHost(hosting.home, hosting.session.engine.jobs, record, 1)
    host.ended = threading.Event()
    host._broker = broker = ConnectionBroker(str(tmp_path))
    monkeypatch.setattr(HealthCheck, "wait", lambda _: True)
    monkeypatch.setattr(HostSupervisor, "run_to_end", run)
    unused: Any = None
    host._run_programs([], {}, unused, [])
    assert host._async is not None
    was_stopped, waits = host._async._stopped.is_set(), broker._connect is None
    host._async.stop()
    broker.close()
    assert (was_stopped, waits) == (True, True)


class _Objects:
    """An S3 that fails once."""

    def __init__(self) -> None:
        self.tries: list[bytes] = []
        self.stored = threading.Event()

    def put(self, bucket: str, key: str, content: bytes) -> None:
        self.tries.append(content)
        if len(self.tries) == 1:
            raise EngineError(f"{bucket}/{key} cannot be stored")
        self.stored.set()


def test_a_worker_survives_a_failure_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that cannot be stored is stored by a later attempt, also if the log fails at the same time."""

    def log(text: str) -> None:
        raise EngineError(text)

    monkeypatch.setattr(worker, "_PROBLEM_SECONDS", 0.0)
    queue, objects = AsyncQueue(tmp_path, "endpoint"), _Objects()
    queue.put(_request(0))
    made: Any = objects
    running = worker.AsyncWorker(queue, made, lambda _: Answer(200, {}, b"answer"), log, 1)
    assert objects.stored.wait(60)
    running.stop()
    assert objects.tries == [b"answer"] * 2
