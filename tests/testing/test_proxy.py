"""The fault proxy: the same faults on real sockets, before the engine, which checks every signature."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import exceptions as botocore_errors
from botocore.config import Config

from processing.local.transports.server import Server
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector, FaultKind
from processing.testing.proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession

BODY = b"0123456789" * 30_000


class Place:
    """An engine over HTTP behind the proxy."""

    def __init__(self, server: Server, proxy: FaultProxy, faults: FaultInjector, clock: VirtualClock) -> None:
        self.server = server
        self.proxy = proxy
        self.faults = faults
        self.clock = clock
        self.clients: list[Any] = []

    def client(self, service: str, **options: Any) -> Any:
        keys = self.server.environment()
        session: Any = boto3.Session(
            keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], region_name=keys["AWS_REGION"]
        )
        config = Config(
            s3={"addressing_style": "path"}, retries={"total_max_attempts": 1, "mode": "standard"}, **options
        )
        made = session.client(service, endpoint_url=self.proxy.endpoint, config=config)
        self.clients.append(made)
        return made


@pytest.fixture
def place(local_session: LocalSession) -> Iterator[Place]:
    clock = VirtualClock()
    faults = FaultInjector()
    with Server(local_session.engine) as server, FaultProxy(faults, server.endpoint, clock=clock) as proxy:
        made = Place(server, proxy, faults, clock)
        yield made
        for client in made.clients:
            client.close()


def test_what_does_not_fail_goes_through_unchanged(place: Place) -> None:
    """Signatures, keys that need encoding, large bodies, chunked ones, HEAD and listings pass, both ways."""
    s3 = place.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a//b c/ü", Body=BODY)
    assert s3.get_object(Bucket="bucket", Key="a//b c/ü")["Body"].read() == BODY
    assert s3.head_object(Bucket="bucket", Key="a//b c/ü")["ContentLength"] == len(BODY)
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["a//b c/ü"]
    s3.delete_object(Bucket="bucket", Key="a//b c/ü")
    assert place.client("sts").get_caller_identity()["Account"]
    assert place.client("sagemaker").list_processing_jobs()["ProcessingJobSummaries"] == []
    assert place.faults.calls == [
        "CreateBucket",
        "PutObject",
        "GetObject",
        "HeadObject",
        "ListObjectsV2",
        "DeleteObject",
        "GetCallerIdentity",
        "ListProcessingJobs",
    ]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("unreachable", botocore_errors.ConnectionClosedError),
        ("reset_before", botocore_errors.ConnectionClosedError),
        ("reset_after", botocore_errors.ConnectionClosedError),
        ("hang", botocore_errors.ReadTimeoutError),
        ("timeout_after", botocore_errors.ReadTimeoutError),
    ],
)
def test_connections_break(place: Place, kind: FaultKind, error: type[Exception]) -> None:
    """Real connections break or hang before or after the engine has done its work; the next call is answered."""
    hurried = place.client("s3", read_timeout=0.1 if error is botocore_errors.ReadTimeoutError else 60)
    place.faults.on("CreateBucket", kind)
    with pytest.raises(error):
        hurried.create_bucket(Bucket="bucket")
    patient = place.client("s3")
    if kind == "timeout_after":  # the client may have given up before the engine was done
        patient.get_waiter("bucket_exists").wait(Bucket="bucket", WaiterConfig={"Delay": 0, "MaxAttempts": 1000})
    made = [bucket["Name"] for bucket in patient.list_buckets()["Buckets"]]
    assert made == (["bucket"] if kind.endswith("_after") else [])


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("throttle", "ThrottlingException"),
        ("error500", "InternalFailure"),
        ("error503", "ServiceUnavailable"),
        ("denied", "AccessDeniedException"),
        ("expired", "ExpiredTokenException"),
        ("skew", "InvalidSignatureException"),
    ],
)
def test_refusals(place: Place, kind: FaultKind, code: str) -> None:
    """The client parses the refusal as it would AWS's, its Date is that of the service, and the connection is kept."""
    client = place.client("sagemaker")
    place.faults.on("ListProcessingJobs", kind, seconds=600)
    with pytest.raises(botocore_errors.ClientError) as raised:
        client.list_processing_jobs()
    assert raised.value.response["Error"]["Code"] == code
    date = raised.value.response["ResponseMetadata"]["HTTPHeaders"]["date"]
    assert date == ("Tue, 14 Nov 2023 22:23:20 GMT" if kind == "skew" else "Tue, 14 Nov 2023 22:13:20 GMT")
    assert client.list_processing_jobs()["ProcessingJobSummaries"] == []


def test_half_an_answer(place: Place) -> None:
    """A body that is cut is an error or an answer without its members, and never a whole one."""
    s3 = place.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=BODY)
    place.faults.on("*", "truncate", times=2)
    with pytest.raises((botocore_errors.IncompleteReadError, botocore_errors.ResponseStreamingError)):
        s3.get_object(Bucket="bucket", Key="key")["Body"].read()
    with pytest.raises((botocore_errors.BotoCoreError, AssertionError)):
        assert "ProcessingJobSummaries" in place.client("sagemaker").list_processing_jobs()


def test_a_slow_answer_is_whole(place: Place) -> None:
    """A body in delayed pieces arrives whole."""
    s3 = place.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=BODY)
    place.faults.on("GetObject", "slow_body", seconds=30)
    assert s3.get_object(Bucket="bucket", Key="key")["Body"].read() == BODY
    assert place.clock.monotonic() == pytest.approx(30)


def test_a_doubled_request_is_carried_out_twice(place: Place) -> None:
    """The client receives the second answer: here, that the job exists already."""
    client = place.client("logs")
    place.faults.on("CreateLogGroup", "double")
    with pytest.raises(client.exceptions.ResourceAlreadyExistsException):
        client.create_log_group(logGroupName="group")
    assert place.faults.count()["CreateLogGroup"] == 1
    place.faults.on("PutObject", "double")
    s3 = place.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=BODY)
    assert s3.get_object(Bucket="bucket", Key="key")["Body"].read() == BODY


def test_the_proxy_can_be_stopped_while_it_hangs(local_session: LocalSession) -> None:
    """Stopping ends hanging connections, and leaves no thread behind."""
    before = set(threading.enumerate())
    faults = FaultInjector().on("ListBuckets", "hang")
    clock = VirtualClock()
    with Server(local_session.engine) as server:
        with FaultProxy(faults, server.endpoint) as proxy:
            place = Place(server, proxy, faults, clock)
            failed: list[Exception] = []

            def call() -> None:
                try:
                    place.client("s3").list_buckets()
                except botocore_errors.HTTPClientError as error:
                    failed.append(error)

            thread = threading.Thread(target=call)
            thread.start()
            while not faults.injected:
                thread.join(0.01)
        thread.join()
    assert len(failed) == 1
    assert not set(threading.enumerate()) - before
    place.clients[0].close()


def test_a_reset_is_a_reset(place: Place) -> None:
    """The client's socket gets a RST, not an end."""
    place.faults.on("*", "reset_before")
    host, port = place.proxy.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_an_upstream_that_is_not_plain_http_is_refused() -> None:
    """A server behind TLS would refuse a Host header that names the proxy."""
    with pytest.raises(ValueError, match="upstream: must be a URL such as"):
        FaultProxy(FaultInjector(), "https://sagemaker.us-east-1.amazonaws.com")
