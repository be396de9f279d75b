"""The codec: it reads botocore's requests, botocore reads its answers, and it reads further forms."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import io
import zlib
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode

import botocore.session
import pytest
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from processing.local.errors import ApiError
from processing.local.protocols import codec
from processing.local.protocols.aws_chunked import ChunkedBody
from processing.local.protocols.message import OperationCall, Request, endpoint
from processing.local.protocols.values import to_time

SERVICES = {
    "sagemaker": (
        "CreateProcessingJob",
        "DescribeProcessingJob",
        "ListProcessingJobs",
        "StopProcessingJob",
        "DeleteProcessingJob",
        "AddTags",
        "ListTags",
        "DeleteTags",
    ),
    "logs": (
        "CreateLogGroup",
        "CreateLogStream",
        "DescribeLogGroups",
        "DescribeLogStreams",
        "FilterLogEvents",
        "GetLogEvents",
        "PutLogEvents",
    ),
    "sts": ("GetCallerIdentity", "AssumeRole"),
    "iam": ("GetRole",),
    "s3": (
        "ListBuckets",
        "CreateBucket",
        "HeadBucket",
        "DeleteBucket",
        "ListObjectsV2",
        "ListObjects",
        "HeadObject",
        "CopyObject",
        "DeleteObject",
        "DeleteObjects",
        "CreateMultipartUpload",
        "UploadPartCopy",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
        "ListParts",
        "ListMultipartUploads",
        "GetObjectAttributes",
        "GetObjectTagging",
        "PutObjectTagging",
        "DeleteObjectTagging",
        "GetBucketTagging",
        "PutBucketTagging",
        "DeleteBucketTagging",
        "GetBucketVersioning",
        "GetBucketAcl",
        "GetObjectAcl",
    ),
}
OPERATIONS = [(service, operation) for service, operations in SERVICES.items() for operation in operations]

PLAIN = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=8)
# XML can express neither control characters nor U+FFFE and U+FFFF.
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\n\r&<>\"'"),
    max_size=8,
)
TIMES = st.integers(0, 4_000_000_000).map(lambda seconds: dt.datetime.fromtimestamp(seconds, dt.timezone.utc))
# What a client writes as several things, or the caller gives in a form of its own, is tested through boto3.
UNTESTED = {"ContentMD5", "Body", "Expires", "OptionalObjectAttributes", "ContentLength", "Tagging", "ResponseExpires"}


def values(shape: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a shape's type, which ignore its limits. Values outside a body are plain ASCII."""
    located = "location" in shape.serialization
    kind = shape.type_name
    if kind == "structure":
        members = {name: member for name, member in shape.members.items() if name not in UNTESTED and depth < 6}
        required = {name: values(members[name], depth + 1) for name in shape.required_members if name in members}
        optional = {name: values(member, depth + 1) for name, member in members.items() if name not in required}
        return st.fixed_dictionaries(required, optional=_some(optional))
    if kind == "list":
        in_header = PLAIN.filter(lambda text: not {",", '"'} & set(text))  # where values are separated by commas
        return st.lists(in_header if located else values(shape.member, depth + 1), min_size=1, max_size=2)
    if kind == "map":
        keys = PLAIN.map(str.lower) if located else TEXT.filter(bool)
        return st.dictionaries(
            keys.filter(str.isalnum), PLAIN if located else values(shape.value), min_size=1, max_size=2
        )
    simple: dict[str, st.SearchStrategy[Any]] = {
        "boolean": st.booleans(),
        "integer": st.integers(0, 1000),
        "long": st.integers(0, 2**50),
        "float": st.floats(0, 1000, width=16),
        "double": st.floats(0, 1000, width=16),
        "timestamp": TIMES,
        "blob": st.binary(max_size=8),
    }
    return simple.get(kind, PLAIN if located else TEXT)


def _some(optional: dict[str, Any]) -> dict[str, Any]:
    """Optional members, of very large structures the first ones only, to keep the examples small."""
    return dict(list(optional.items())[:25])


@functools.cache
def service_model(service: str) -> Any:
    """A separate model, since S3 clients change the paths in theirs."""
    return botocore.session.Session().get_service_model(service)


@functools.cache
def input_values(service: str, operation: str) -> st.SearchStrategy[Any]:
    """Parameters of an operation."""
    shape = service_model(service).operation_model(operation).input_shape
    return st.just({}) if shape is None else values(shape)


@functools.cache
def output_values(service: str, operation: str) -> st.SearchStrategy[Any]:
    """Results of an operation."""
    shape = service_model(service).operation_model(operation).output_shape
    return st.just({}) if shape is None else values(shape)


def written(service: str, operation: str, params: dict[str, Any]) -> Request:
    """Return botocore's request for parameters."""
    model = service_model(service)
    serializer = create_serializer(model.resolved_protocol, include_validation=False)
    made = serializer.serialize_to_request(params, model.operation_model(operation))
    body = made["body"]
    if isinstance(body, dict):
        body = urlencode(body)
    path = made["url_path"]
    url = endpoint(service) + path
    query = made["query_string"]
    if query:
        url += ("&" if "?" in path else "?") + (query if isinstance(query, str) else urlencode(query, doseq=True))
    headers = dict(made["headers"])
    if operation == "DeleteObjects":  # S3 refuses it without; botocore adds it later
        headers["Content-MD5"] = base64.b64encode(hashlib.md5(body).digest()).decode()
    return Request.from_url(made["method"], url, headers, body)


def without_returns(value: Any) -> Any:
    """Return a value without carriage returns. botocore's serializer leaves them to handlers of few operations."""
    if isinstance(value, dict):
        return {key: without_returns(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_returns(each) for each in value]
    return value.replace("\r", "") if isinstance(value, str) else value


def tidy(value: Any) -> Any:
    """Return a value without empty structures and lists, which some protocols cannot express."""
    if isinstance(value, dict):
        return {key: tidy(each) for key, each in value.items() if tidy(each) not in (None, {}, [])}
    if isinstance(value, (list, tuple)):
        return [each for each in map(tidy, value) if each != {}]
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.timezone.utc)
    return value


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
@given(data=st.data())
def test_what_botocore_writes_is_read(service: str, operation: str, data: st.DataObject) -> None:
    """Service, operation and every parameter are decoded unchanged. S3's ResponseExpires stays text."""
    params = data.draw(input_values(service, operation))
    if service == "s3":
        params = without_returns(params)
        params |= {name: "bucket" for name in ("Bucket",) if name in params}
        params |= {name: data.draw(TEXT.filter(bool)) for name in ("Key",) if name in params}
        assume(not params.get("Key", "").startswith("?"))
    request = written(service, operation, params)
    assert codec.identify(request) == (service, operation)
    call = codec.decode(request)
    assert (call.service, call.operation) == (service, operation)
    if "ResponseExpires" in params:
        params["ResponseExpires"] = format_datetime(tidy(params["ResponseExpires"]), usegmt=True)
    assert tidy(call.params) == tidy(params)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize(("service", "operation"), OPERATIONS)
@given(data=st.data())
def test_what_is_written_botocore_reads(service: str, operation: str, data: st.DataObject) -> None:
    """botocore parses the handler's result unchanged."""
    result = data.draw(output_values(service, operation))
    model = service_model(service)
    shape: Any = model.operation_model(operation).output_shape
    method = model.operation_model(operation).http["method"]
    request = Request.from_url(method, endpoint(service) + "/bucket/key", {}, b"")
    protocol = {"s3": "rest", "sts": "query", "iam": "query"}.get(service, "json")
    response = codec._encode(protocol, OperationCall(service, operation, {}), result, request, "ID")
    parser = create_parser(model.resolved_protocol)
    body = {
        "headers": HeadersDict(response.headers),
        "status_code": response.status,
        "body": response.body,
        "context": {},
    }
    parsed = parser.parse(body, shape)
    parsed.pop("ResponseMetadata")
    assert tidy(parsed) == tidy(result)


def error_of(service: str, request: Request, error: ApiError) -> dict[str, Any]:
    """Return botocore's error for an answer."""
    response = codec._encode_error(error, request, "ID")
    parser = create_parser(service_model(service).resolved_protocol)
    body = {"headers": response.headers, "status_code": response.status, "body": response.body, "context": {}}
    nothing: Any = None
    parsed = parser.parse(body, nothing)
    assert response.status == error.status
    return {name: parsed["Error"][name] for name in ("Code", "Message")}


@pytest.mark.parametrize("service", SERVICES)
def test_errors_are_read_in_every_protocol(service: str) -> None:
    """Code and text, with characters that are special in XML and JSON."""
    headers = {"x-amz-target": "SageMaker.X"} if service in {"sagemaker", "logs"} else {}
    request = Request.from_url("POST", endpoint(service), headers, b"")
    error = ApiError("SomeCode", 'a <b> & "c" é', 409)
    assert error_of(service, request, error) == {"Code": "SomeCode", "Message": 'a <b> & "c" é'}


@pytest.mark.parametrize(
    ("method", "host", "path", "expected"),
    [
        ("GET", "s3.amazonaws.com", "/bucket/a/b", ("bucket", "a/b")),
        ("GET", "bucket.s3.amazonaws.com", "/a/b", ("bucket", "a/b")),
        ("GET", "my.bucket.s3.eu-west-1.amazonaws.com", "/a", ("my.bucket", "a")),
        ("GET", "s3.eu-west-1.amazonaws.com", "/bucket/a", ("bucket", "a")),
        ("GET", "bucket.localhost:4566", "/a%2Fb%20c", ("bucket", "a/b c")),
        ("GET", "localhost:4566", "/bucket/a", ("bucket", "a")),
        ("GET", "127.0.0.1:4566", "/bucket//", ("bucket", "/")),
        ("GET", "s3.processing.localhost", "/bucket/../x", ("bucket", "../x")),
        ("GET", "bucket.s3.processing.localhost", "/+", ("bucket", "+")),
    ],
)
def test_a_bucket_may_stand_in_the_host(method: str, host: str, path: str, expected: tuple[str, str]) -> None:
    """Path and virtual-host addressing name the same object."""
    call = codec.decode(Request.from_url(method, f"http://{host}{path}", {"Host": host}, b""))
    assert call.operation == "GetObject"
    assert (call.params["Bucket"], call.params["Key"]) == expected


def test_a_service_is_identified_by_its_signature() -> None:
    """On a loopback port the host does not name the service. The credential scope does."""
    scope = "AWS4-HMAC-SHA256 Credential=AKIA/20240101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0"
    headers = {"authorization": scope, "content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    request = Request.from_url("POST", "http://127.0.0.1:4566/", headers, body)
    assert codec.identify(request) == ("sts", "GetCallerIdentity")
    unsigned = Request.from_url("POST", "http://127.0.0.1:4566/", {"content-type": headers["content-type"]}, body)
    assert codec.identify(unsigned) == ("sts", "GetCallerIdentity")
    other = scope.replace("/sts/", "/ec2/")
    assert codec.identify(Request.from_url("GET", "http://127.0.0.1/", {"authorization": other}, b"")) == ("ec2", "")


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"x-amz-target": "SageMaker.DescribeProcessingJob"}, b"{", "SerializationException"),
        ({"x-amz-target": "SageMaker.DescribeProcessingJob"}, b"[1]", "SerializationException"),
        ({"x-amz-target": "SageMaker.ListProcessingJobs"}, b'{"CreationTimeAfter": "x"}', "SerializationException"),
    ],
)
def test_malformed_json_is_an_answer(headers: dict[str, str], body: bytes, code: str) -> None:
    """The client gets an error, not the engine's traceback."""

    def handle(_service: str, _operation: str, _params: dict[str, Any], /) -> dict[str, Any]:
        pytest.fail("there is nothing to carry out")

    response = codec.handle_request(handle, Request.from_url("POST", endpoint("sagemaker"), headers, body))
    assert response.status == 400
    assert code.encode() in bytes(response.body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "status"),
    [
        ("POST", "/bucket?delete", b"<Delete/>", b"InvalidRequest", 400),
        ("PUT", "/bucket?tagging", b"<Tagging>", b"MalformedXML", 400),
        ("PUT", "/bucket/k", b"x", b"MissingContentLength", 411),
        ("GET", "/bucket?list-type=2&max-keys=x", b"", b"InvalidArgument", 400),
        ("GET", "/bucket/%ff", b"", b"InvalidURI", 400),
        ("PATCH", "/bucket/k", b"", b"MethodNotAllowed", 405),
    ],
)
def test_malformed_s3_is_an_answer(method: str, path: str, body: bytes, code: bytes, status: int) -> None:
    """With S3's code and status."""

    def handle(_service: str, _operation: str, _params: dict[str, Any], /) -> dict[str, Any]:
        pytest.fail("there is nothing to carry out")

    response = codec.handle_request(handle, Request.from_url(method, endpoint("s3") + path, {}, body))
    assert response.status == status
    assert code in bytes(response.body)  # type: ignore[arg-type]


def chunked(data: bytes, size: int, *, signed: bool, trailer: bytes = b"") -> bytes:
    """Return an aws-chunked body as clients encode it."""
    signature = b";chunk-signature=" + b"0" * 64 if signed else b""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), signature, piece) for piece in pieces)
    return body + b"0" + signature + b"\r\n" + trailer + b"\r\n"


class Dribble:
    """A stream that returns a few bytes at a time, as a socket may."""

    def __init__(self, data: bytes, most: int) -> None:
        self._file = io.BytesIO(data)
        self._most = most

    def read(self, size: int = -1, /) -> bytes:
        """Return at most a few bytes."""
        return self._file.read(self._most if size < 0 else min(size, self._most))


@given(
    data=st.binary(max_size=300),
    size=st.integers(1, 100),
    most=st.integers(1, 50),
    amount=st.integers(-1, 70).filter(bool),
    signed=st.booleans(),
)
def test_a_chunked_body_is_what_was_put_into_it(data: bytes, size: int, most: int, amount: int, signed: bool) -> None:
    """It is the same for every division into chunks and reads. The trailing checksum is found."""
    trailer = b"x-amz-checksum-crc32:" + base64.b64encode(zlib.crc32(data).to_bytes(4, "big")) + b"\r\n"
    body = ChunkedBody(Dribble(chunked(data, size, signed=signed, trailer=trailer), most), "x-amz-checksum-crc32")
    assert body.checksums == {"crc32": ""}
    found = b""
    while piece := body.read(amount):
        found += piece
    assert found == data
    assert base64.b64decode(body.checksums["crc32"]) == zlib.crc32(data).to_bytes(4, "big")


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_cut_chunked_body_is_an_error(cut: int) -> None:
    """It never passes for a shorter one."""
    whole = b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n"
    with pytest.raises(ApiError, match="IncompleteBody"):
        ChunkedBody(io.BytesIO(whole[:cut]), "").read()


def test_a_chunked_put_is_an_object_without_its_coding() -> None:
    """Length and coding of the object are those of the decoded bytes."""
    headers = {
        "content-encoding": "gzip,aws-chunked",
        "x-amz-decoded-content-length": "5",
        "content-length": "99",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    body = chunked(b"hello", 3, signed=True)
    call = codec.decode(Request.from_url("PUT", endpoint("s3") + "/bucket/k", headers, io.BytesIO(body)))
    assert call.operation == "PutObject"
    assert (call.params["ContentLength"], call.params["ContentEncoding"]) == (5, "gzip")
    assert call.params["Body"].read() == b"hello"


@pytest.mark.parametrize("value", [1e17, 1e300, float("inf"), float("nan"), 2**70, -(2**70), "100000000000000", "x"])
def test_no_time_is_beyond_all_calendars(value: Any) -> None:
    """Such a value is the client's error, not a failure of the engine."""
    with pytest.raises(ValueError, match=r"."):
        to_time(value)
