"""The fault injector: the effect of each kind on the wire, with real clients of every protocol."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest
from botocore import exceptions as botocore_errors
from botocore.parsers import ResponseParserError

from processing.aws.clock_skew import ClockSkewError
from processing.aws.retry import RetryingApi
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector, FaultKind
from processing.testing.wire import JsonService, make_client, operation_of, respond

XML = {"Content-Type": "text/xml"}
IDENTITY = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn</Arn><UserId>u</UserId><Account>1</Account>"
    b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
LISTING = b"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated></ListBucketResult>"


class Service:
    """A service with one operation in each protocol, which records the calls that it carries out."""

    def __init__(self) -> None:
        self.carried_out: list[str] = []
        self.json = JsonService({"ListTags": lambda _: {"Tags": [{"Key": "a", "Value": "b"}]}})

    def send(self, request: Any) -> Any:
        operation = operation_of(request)
        self.carried_out.append(operation)
        if operation == "ListTags":
            return self.json.send(request)
        if operation == "HeadObject":
            return respond(request, 200, {"ETag": '"1"', "Content-Length": "10"}, b"")
        if operation == "GetObject":
            return respond(request, 200, {"ETag": '"1"'}, b"0123456789")
        return respond(request, 200, XML, IDENTITY if operation == "GetCallerIdentity" else LISTING)


def call(protocol: str, transport: Any) -> Any:
    """Make one call in the protocol."""
    if protocol == "json":
        return make_client("sagemaker", transport).list_tags(ResourceArn="arn:aws:sagemaker:us-east-1:1:x/y")
    if protocol == "query":
        return make_client("sts", transport).get_caller_identity()
    return make_client("s3", transport).list_objects_v2(Bucket="bucket")


@pytest.mark.parametrize("protocol", ["json", "query", "rest-xml"])
@pytest.mark.parametrize(
    ("kind", "error", "carried_out"),
    [
        ("unreachable", botocore_errors.EndpointConnectionError, 0),
        ("reset_before", botocore_errors.ConnectionClosedError, 0),
        ("reset_after", botocore_errors.ConnectionClosedError, 1),
        ("hang", botocore_errors.ReadTimeoutError, 0),
        ("timeout_after", botocore_errors.ReadTimeoutError, 1),
    ],
)
def test_broken_connections(protocol: str, kind: FaultKind, error: type[Exception], carried_out: int) -> None:
    """Connections break before or after the service has done its work, once."""
    service = Service()
    transport = FaultInjector().on("*", kind).wrap(service)
    with pytest.raises(error):
        call(protocol, transport)
    assert len(service.carried_out) == carried_out
    assert call(protocol, transport)["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(
    ("protocol", "kind", "status", "code"),
    [
        ("json", "throttle", 400, "ThrottlingException"),
        ("query", "throttle", 400, "ThrottlingException"),
        ("rest-xml", "throttle", 503, "SlowDown"),
        ("json", "error500", 500, "InternalFailure"),
        ("query", "error503", 503, "ServiceUnavailable"),
        ("rest-xml", "error500", 500, "InternalFailure"),
        ("json", "denied", 400, "AccessDeniedException"),
        ("query", "denied", 403, "AccessDenied"),
        ("rest-xml", "denied", 403, "AccessDenied"),
        ("json", "expired", 400, "ExpiredTokenException"),
        ("query", "expired", 403, "ExpiredToken"),
        ("rest-xml", "expired", 400, "ExpiredToken"),
        ("json", "skew", 400, "InvalidSignatureException"),
        ("query", "skew", 403, "SignatureDoesNotMatch"),
        ("rest-xml", "skew", 403, "RequestTimeTooSkewed"),
    ],
)
def test_refusals_are_in_the_services_protocol(protocol: str, kind: FaultKind, status: int, code: str) -> None:
    """botocore parses the refusal as it would AWS's, and the service saw nothing."""
    service = Service()
    with pytest.raises(botocore_errors.ClientError) as raised:
        call(protocol, FaultInjector().on("*", kind).wrap(service))
    assert raised.value.response["Error"]["Code"] == code
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert not service.carried_out


def test_half_a_json_answer_is_an_empty_success() -> None:
    """botocore parses it without an error, so the package checks answers itself."""
    answer = call("json", FaultInjector().on("ListTags", "truncate").wrap(Service()))
    assert set(answer) == {"ResponseMetadata"}


@pytest.mark.parametrize("protocol", ["query", "rest-xml"])
def test_half_an_xml_answer_does_not_parse(protocol: str) -> None:
    """XML that ends early is noticed by botocore itself; of S3's it makes a server error."""
    with pytest.raises((ResponseParserError, botocore_errors.ClientError)):
        call(protocol, FaultInjector().on("*", "truncate").wrap(Service()))


def test_a_truncated_head_keeps_its_length() -> None:
    """The answer to HEAD has no body to cut. Its length is the object's."""
    client = make_client("s3", FaultInjector().on("HeadObject", "truncate").wrap(Service()))
    assert client.head_object(Bucket="bucket", Key="key")["ContentLength"] == 10


def test_half_a_body_is_noticed_by_its_length() -> None:
    """A streamed body is cut too, under its whole Content-Length."""
    client = make_client("s3", FaultInjector().on("GetObject", "truncate").wrap(Service()))
    body = client.get_object(Bucket="bucket", Key="key")["Body"]
    with pytest.raises(botocore_errors.IncompleteReadError):
        body.read()
    assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"0123456789"


@pytest.mark.parametrize("protocol", ["json", "query", "rest-xml"])
def test_a_doubled_request_is_carried_out_twice(protocol: str) -> None:
    """The service sees it twice, and the client one answer."""
    service = Service()
    assert call(protocol, FaultInjector().on("*", "double").wrap(service))["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert len(service.carried_out) == 2


def test_a_doubled_upload_has_its_body_twice() -> None:
    """A body that was read once is rewound for the second request."""
    bodies: list[bytes] = []

    class Store:
        def send(self, request: Any) -> Any:
            bodies.append(request.body.read())
            return respond(request, 200, {"ETag": '"1"'}, b"")

    client = make_client("s3", FaultInjector().on("*", "double").wrap(Store()))
    client.put_object(Bucket="bucket", Key="key", Body=io.BytesIO(b"0123456789"))
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    assert b"0123456789" in bodies[0]


@pytest.mark.parametrize(("kind", "seconds"), [("hang", 60), ("timeout_after", 60), ("slow_body", 30)])
def test_what_takes_long_takes_virtual_time(kind: FaultKind, seconds: float) -> None:
    """The clock moves on by the time that a client would wait. No real time passes."""
    clock = VirtualClock()
    faults = FaultInjector(clock=clock).on("*", kind).on("*", kind, seconds=5)
    for _ in range(2):
        with contextlib.suppress(botocore_errors.ReadTimeoutError):
            call("json", faults.wrap(Service()))
    assert clock.monotonic() == seconds + 5
    assert clock.sleeps == []


def test_a_wrong_clock_is_reported_as_one() -> None:
    """The retry layer computes the clock's error from the refusal, and does not retry."""
    clock = VirtualClock()
    faults = FaultInjector(clock=clock).on("*", "skew", seconds=-600, times=9)
    client = make_client("sagemaker", faults.wrap(Service()))
    with pytest.raises(ClockSkewError, match="10 minutes ahead of AWS's"):
        RetryingApi(lambda _: client, clock=clock).call("sagemaker", "ListTags", {"ResourceArn": "arn:aws:x:y:1:z/z"})
    assert faults.calls == ["ListTags"]


def test_without_a_clock_the_machine_s_is_off() -> None:
    """Without a virtual clock, the Date header is the real time plus the fault's seconds."""
    faults = FaultInjector().on("*", "skew", seconds=3600)
    client = make_client("sagemaker", faults.wrap(Service()))
    with pytest.raises(ClockSkewError, match="60 minutes behind AWS's"):
        RetryingApi(lambda _: client).call("sagemaker", "ListTags", {"ResourceArn": "arn:aws:x:y:1:z/z"})


def test_a_fault_can_have_a_condition() -> None:
    """A fault applies while its condition holds, and not after `clear`."""
    clock = VirtualClock()
    faults = FaultInjector().on("*", "throttle", probability=1.0, when=lambda: 10 <= clock.monotonic() < 20)
    failed = []
    for _ in range(3):
        failed.append(faults.choose("ListTags") is not None)
        clock.advance(10)
    assert failed == [False, True, False]
    faults.on("*", "throttle", probability=1.0).clear()
    assert faults.choose("ListTags") is None


def test_a_fault_has_an_operation_times_and_skip() -> None:
    """Only the named operation fails, `times` times, after `skip` calls."""
    faults = FaultInjector().on("ListTags", "throttle", times=2, skip=1)
    chosen = [faults.choose("ListTags") for _ in range(5)]
    assert [fault and fault.kind for fault in chosen] == [None, "throttle", "throttle", None, None]
    assert faults.choose("GetObject") is None
    assert faults.count() == {"ListTags": 5, "GetObject": 1}
    assert faults.injected == [("ListTags", "throttle")] * 2


def test_chance_is_seeded() -> None:
    """The same seed makes the same faults, another seed others. Their share is about the probability."""
    runs = []
    for seed in (1, 1, 2):
        faults = FaultInjector(seed).on("*", "reset_after", probability=0.3)
        runs.append([faults.choose("ListTags") for _ in range(200)])
    assert runs[0] == runs[1] != runs[2]
    assert 30 < sum(fault is not None for fault in runs[0]) < 90


def test_an_unknown_kind_is_refused() -> None:
    """A fault that never occurs is a mistake in the test."""
    with pytest.raises(ValueError, match="kind: must be one of throttle"):
        FaultInjector().on("ListTags", "explode")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"operation": "put_object"}, "operation: must be as AWS spells it, such as PutObject"),
        ({"probability": 5}, "probability: must be a number between 0 and 1, not 5"),
        ({"probability": -0.1}, "probability: must be a number between"),
        ({"times": 0}, "times: must be an integer of at least 1, not 0"),
        ({"times": -1}, "times: must be an integer of at least 1"),
        ({"skip": -1}, "skip: must be an integer of at least 0"),
        ({"kind": "hang", "seconds": -1}, "seconds: must be a number of at least 0"),
    ],
)
def test_a_meaningless_fault_is_refused(plan: dict[str, Any], said: str) -> None:
    """Such a fault would never occur, or always, and the test would prove nothing."""
    with pytest.raises(ValueError, match=said):
        FaultInjector().on(**{"operation": "ListTags", "kind": "throttle", **plan})
    with pytest.raises(ValueError, match="when: must be a function"):
        FaultInjector().on("ListTags", "throttle", when=True)  # type: ignore[arg-type]


CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("list_buckets", {}, "ListBuckets"),
    ("head_bucket", {"Bucket": "b"}, "HeadBucket"),
    ("create_bucket", {"Bucket": "b"}, "CreateBucket"),
    ("delete_bucket", {"Bucket": "b"}, "DeleteBucket"),
    ("get_bucket_location", {"Bucket": "b"}, "GetBucketLocation"),
    ("list_objects_v2", {"Bucket": "b", "Prefix": "p"}, "ListObjectsV2"),
    ("list_multipart_uploads", {"Bucket": "b"}, "ListMultipartUploads"),
    ("head_object", {"Bucket": "b", "Key": "k/l"}, "HeadObject"),
    ("get_object", {"Bucket": "b", "Key": "k/l"}, "GetObject"),
    ("put_object", {"Bucket": "b", "Key": "k/l", "Body": b"x"}, "PutObject"),
    ("copy_object", {"Bucket": "b", "Key": "k", "CopySource": "b/k"}, "CopyObject"),
    ("delete_object", {"Bucket": "b", "Key": "k"}, "DeleteObject"),
    ("delete_objects", {"Bucket": "b", "Delete": {"Objects": [{"Key": "k"}]}}, "DeleteObjects"),
    ("create_multipart_upload", {"Bucket": "b", "Key": "k"}, "CreateMultipartUpload"),
    ("upload_part", {"Bucket": "b", "Key": "k", "UploadId": "u", "PartNumber": 1, "Body": b""}, "UploadPart"),
    ("list_parts", {"Bucket": "b", "Key": "k", "UploadId": "u"}, "ListParts"),
    ("complete_multipart_upload", {"Bucket": "b", "Key": "k", "UploadId": "u"}, "CompleteMultipartUpload"),
    ("abort_multipart_upload", {"Bucket": "b", "Key": "k", "UploadId": "u"}, "AbortMultipartUpload"),
]


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize(("method", "parameters", "operation"), CALLS)
def test_s3_operations_are_identified(style: str, method: str, parameters: dict[str, Any], operation: str) -> None:
    """Requests of S3 do not name the operation. Method, path and query identify it."""
    faults = FaultInjector().on("*", "unreachable", times=99)
    client = make_client("s3", faults.wrap(Service()), s3={"addressing_style": style})
    with pytest.raises(botocore_errors.EndpointConnectionError):
        getattr(client, method)(**parameters)
    assert faults.calls == [operation]
