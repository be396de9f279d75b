"""Malformed bodies of signed requests: 400 with the error of the service, and no entry in the server's log."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing.local import strict_json
from processing.local.errors import ApiError
from processing.local.protocols import codec
from processing.local.protocols.message import Request
from raw_http import RawConnection, signed, signed_call

if TYPE_CHECKING:
    from processing.local.transports.server import Server

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ROLE = b"Action=AssumeRole&RoleArn=arn:aws:iam::000000000000:role/x&RoleSessionName=abc&DurationSeconds="
DIGITS = b"9" * 400


def answer(server: Server, request: bytes, caplog: pytest.LogCaptureFixture) -> tuple[int, bytes]:
    """Send a request, check that nothing is logged, and return the status and the body of the answer."""
    with caplog.at_level(logging.WARNING), contextlib.closing(RawConnection(server)) as wire:
        wire.send(request)
        status, _, body = wire.answer("POST")
    assert not caplog.records
    return status, body


JSON = {
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "nested, closed": b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
    "half a pair": b'{"NameContains": "\\ud800"}',
    "half a pair in capitals": b'{"NameContains": "\\uDFFF"}',
    "half a pair as a name": b'{"\\udc00": 1}',
    "bad UTF-8": b'{"NameContains": "\xff"}',
    "a surrogate in UTF-8": b'{"NameContains": "\xed\xa0\x80"}',
    "UTF-16": '{"NameContains": "x"}'.encode("utf-16"),
    "huge integer": b'{"MaxResults": ' + DIGITS + b"}",
    "integer beyond Python's limit": b'{"MaxResults": ' + DIGITS * 20 + b"}",
    "huge real": b'{"CreationTimeAfter": 1e400}',
    "no number": b'{"CreationTimeAfter": NaN}',
    "infinity": b'{"CreationTimeAfter": -Infinity}',
    "no object": b"[]",
    "cut": b'{"MaxResults"',
}


@pytest.mark.parametrize("body", JSON.values(), ids=JSON.keys())
@pytest.mark.parametrize("compressed", [False, True])
def test_malformed_json(server: Server, caplog: pytest.LogCaptureFixture, body: bytes, compressed: bool) -> None:
    """Plain or compressed."""
    headers = {"Content-Encoding": "gzip"} if compressed else {}
    content = gzip.compress(body) if compressed else body
    request = signed_call(server, "SageMaker.ListProcessingJobs", content, headers=headers)
    status, text = answer(server, request, caplog)
    assert (status, json.loads(text)["__type"]) == (400, "SerializationException")


NULLS: dict[str, tuple[str, dict[str, Any]]] = {
    "SageMaker.ListProcessingJobs": (
        "sagemaker",
        {"MaxResults": None, "NameContains": None, "CreationTimeAfter": None},
    ),
    "SageMaker.CreateModel": (
        "sagemaker",
        {
            "ModelName": "m",
            "ExecutionRoleArn": "arn:aws:iam::000000000000:role/r",
            "PrimaryContainer": {"Image": "image", "ModelDataUrl": None, "Environment": None, "ModelDataSource": None},
            "Containers": None,
            "Tags": [{"Key": "a", "Value": "b"}],
            "VpcConfig": None,
        },
    ),
    "Logs_20140328.DescribeLogGroups": ("logs", {"logGroupNamePrefix": None, "limit": 5}),
    "AmazonSQS.ListQueues": ("sqs", {"QueueNamePrefix": None}),
    "GraniteServiceVersion20100801.ListMetrics": (
        "monitoring",
        {"Namespace": None, "Dimensions": [{"Name": "a", "Value": None}]},
    ),
    "ResourceGroupsTaggingAPI_20170126.GetResources": ("tagging", {"TagFilters": None, "ResourcesPerPage": None}),
}


@pytest.mark.parametrize("target", NULLS)
def test_a_member_that_is_null_is_absent(server: Server, caplog: pytest.LogCaptureFixture, target: str) -> None:
    """Clients other than botocore may send one, at any depth of a request."""
    service, params = NULLS[target]
    status, text = answer(server, signed_call(server, target, json.dumps(params).encode(), service=service), caplog)
    assert status == 200, text


@pytest.mark.parametrize("tags", [[None], [{"Key": "a", "Value": None}]], ids=["in a list", "required"])
def test_a_null_that_is_needed_is_refused(server: Server, caplog: pytest.LogCaptureFixture, tags: list[Any]) -> None:
    """An item of a list cannot be absent, nor a required member."""
    _, params = NULLS["SageMaker.CreateModel"]
    body = json.dumps({**params, "Tags": tags}).encode()
    status, text = answer(server, signed_call(server, "SageMaker.CreateModel", body), caplog)
    assert (status, json.loads(text)["__type"]) == (400, "ValidationException")


GZIP = gzip.compress(b"{}")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", GZIP[:-3], GZIP + b"x", GZIP + GZIP, gzip.compress(b" " * (1 << 25))],
    ids=["empty", "plain", "cut", "trailing", "twice", "large"],  # a gzip body contains the time of its compression
)
def test_malformed_gzip(server: Server, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    """A cut one, one with more behind it, and one that is too large."""
    headers = {"Content-Encoding": "gzip"}
    status, text = answer(server, signed_call(server, "SageMaker.ListProcessingJobs", body, headers=headers), caplog)
    assert (status, json.loads(text)["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize(
    "token", [b"[" * 100_000, b'"\\ud800"', b'{"a": 1}', b"9" * 5000, b"\xff", b'[9, "\\udfff"]', b"[NaN, 1]"]
)
@pytest.mark.parametrize(
    ("target", "service", "params", "name"),
    [
        ("SageMaker.ListProcessingJobs", "sagemaker", {}, "NextToken"),
        ("Logs_20140328.DescribeLogGroups", "logs", {}, "nextToken"),
        ("Logs_20140328.DescribeLogStreams", "logs", {"logGroupName": "g"}, "nextToken"),
        ("GraniteServiceVersion20100801.ListMetrics", "monitoring", {}, "NextToken"),
    ],
)
def test_malformed_tokens(
    server: Server,
    caplog: pytest.LogCaptureFixture,
    target: str,
    service: str,
    params: dict[str, str],
    name: str,
    token: bytes,
) -> None:
    """Tokens are JSON inside base64, and a client may write anything there."""
    body = json.dumps({**params, name: base64.urlsafe_b64encode(token).decode()}).encode()
    assert answer(server, signed_call(server, target, body, service=service), caplog)[0] in {400, 200}


DELETE = b"<Delete><Object><Key>a</Key>%b</Object></Delete>"
ENCODINGS = ["utf-7", "utf-32", "rot13", "hex", "zlib", "idna", "punycode", "shift_jis", "undefined", "none", "mbcs"]
XML = {
    **{name: f'<?xml version="1.0" encoding="{name}"?><Delete/>'.encode() for name in ENCODINGS},
    "UTF-16 that is none": b'<?xml version="1.0" encoding="utf-16"?><Delete/>',
    "nested": b"<a>" * 100_000,
    "half a pair": DELETE % b"<ETag>&#xD800;</ETag>",
    "zero": DELETE % b"\0",
    "bad UTF-8": DELETE % b"<ETag>\xff</ETag>",
    "huge number": DELETE % (b"<Size>" + DIGITS + b"</Size>"),
    "other digits": DELETE % "<Size>١</Size>".encode(),
    "no number": DELETE % b"<Size>1_0</Size>",
    "no time": DELETE % b"<LastModifiedTime>9e99</LastModifiedTime>",
    "neither true nor false": b"<Delete><Quiet>maybe</Quiet></Delete>",
    "entities": b'<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><Delete>&a;</Delete>',
    "without a prefix": b"<x:Delete/>",
    "nothing": b"<Delete/>",
}


@pytest.mark.parametrize("body", XML.values(), ids=XML.keys())
def test_malformed_xml(server: Server, caplog: pytest.LogCaptureFixture, body: bytes) -> None:
    """Whichever encoding it claims to have."""
    server.handle("s3", "CreateBucket", {"Bucket": "bucket"})
    headers = {"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode()}
    status, text = answer(server, signed(server, "POST", "/bucket?delete", body, headers=headers), caplog)
    code = text.partition(b"<Error><Code>")[2].partition(b"<")[0]
    assert (status, code in {b"MalformedXML", b"InvalidArgument"}) == (400, True), text


@pytest.mark.parametrize(
    ("service", "body"),
    [
        ("sts", ROLE + DIGITS),
        ("sts", ROLE + DIGITS * 20),
        ("sts", ROLE + b"1_000"),
        ("sts", ROLE + b"%D9%A1%D9%A0%D9%A0%D9%A0"),
        ("sts", b"Action=AssumeRole&RoleArn=%ff&RoleSessionName=abc"),
        ("sts", b"Action=AssumeRole&RoleArn=\xff&RoleSessionName=abc"),
        ("sts", b"Action=AssumeRole&" + b"a." * 60_000 + b"=1"),
        ("sts", b"Action=%ff"),
        ("sqs", b"Action=SendMessage&QueueUrl=http://x/0/q&MessageBody=%ff"),
        ("sqs", b"Action=ReceiveMessage&QueueUrl=http://x/0/q&MaxNumberOfMessages=" + DIGITS),
        ("monitoring", b"Action=GetMetricStatistics&Namespace=a&MetricName=b&Period=60&StartTime=" + DIGITS),
    ],
)
def test_malformed_forms(server: Server, caplog: pytest.LogCaptureFixture, service: str, body: bytes) -> None:
    """In the query protocol's form."""
    status, text = answer(server, signed(server, "POST", "/", body, headers=FORM, service=service), caplog)
    assert (status, b"<ErrorResponse" in text and b"<Type>Sender</Type>" in text) == (400, True), text


@pytest.mark.parametrize(
    "query", ["list-type=2&max-keys=" + "9" * 30, "list-type=2&max-keys=1_0", "uploads&max-uploads=%D9%A1"]
)
def test_malformed_queries(server: Server, caplog: pytest.LogCaptureFixture, query: str) -> None:
    """Numbers in a URL of S3."""
    status, text = answer(server, signed(server, "GET", f"/bucket?{query}"), caplog)
    assert (status, b"<Error><Code>InvalidArgument</Code>" in text) == (400, True)


def test_a_query_that_is_not_utf_8_is_malformed() -> None:
    """Its characters are not guessed."""
    request = Request("GET", "s3.processing.localhost", "/bucket", "list-type=2&prefix=%ff", {})
    with pytest.raises(ApiError, match="InvalidURI"):
        codec.decode(request)


# fmt: off
ODD = st.sampled_from([
    b"[", b"{", b"]", b"}", b'"', b"\\ud800", b"\\u", b":", b",", b"NaN", b"1e999", DIGITS, b"\xff", b"\xfe\xff", b"\0",
    b"<a>", b"</a>", b"<Delete>", b"&#xD800;", b"&a;", b'<?xml version="1.0" encoding="', b'"?>', b"utf-7",
    b"<!DOCTYPE ", b"Action=", b"&", b"=", b"%", b"%ff", b"a.", b".1.", b"1_0", b"\r\n", b"0;chunk-signature=", GZIP,
    GZIP[:9],
])
# fmt: on
REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("POST", "http://sagemaker.processing.localhost/", {"X-Amz-Target": "SageMaker.CreateProcessingJob"}),
    (
        "POST",
        "http://monitoring.processing.localhost/",
        {"X-Amz-Target": "GraniteServiceVersion20100801.PutMetricData"},
    ),
    ("POST", "http://logs.processing.localhost/", {"X-Amz-Target": "Logs_20140328.PutLogEvents"}),
    ("POST", "http://sqs.processing.localhost/", FORM),
    ("POST", "http://sts.processing.localhost/", FORM),
    ("POST", "http://s3.processing.localhost/bucket/k?uploadId=x", {}),
    ("PUT", "http://s3.processing.localhost/bucket?tagging", {}),
    (
        "PUT",
        "http://s3.processing.localhost/bucket/k",
        {"Content-Encoding": "aws-chunked", "x-amz-trailer": "x-amz-checksum-crc32"},
    ),
]


@settings(deadline=None, max_examples=400)
@given(
    request=st.sampled_from(REQUESTS),
    pieces=st.lists(ODD | st.binary(max_size=8), max_size=20),
    compressed=st.sampled_from([None, b"", b"gzip"]),
)
def test_any_body_is_decoded_or_refused(
    request: tuple[str, str, dict[str, str]], pieces: list[bytes], compressed: bytes | None
) -> None:
    """No parser raises anything but the error of a service."""
    method, url, headers = request
    body = b"".join(pieces)
    if compressed is not None and "Content-Encoding" not in headers:
        headers = {**headers, "Content-Encoding": "gzip"}
        body = gzip.compress(body) if compressed else body
    with contextlib.suppress(ApiError):
        call = codec.decode(Request.from_url(method, url, {**headers, "Content-Length": str(len(body))}, body))
        content: Any = call.params.get("Body", b"")
        while not isinstance(content, bytes) and content.read(1000):
            pass


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(), st.lists, max_leaves=20
    )
)
def test_well_formed_json_is_read(value: Any) -> None:
    """Every value of a service's request, with surrogate pairs too."""
    assert strict_json.loads(json.dumps(value).encode()) == value
    assert strict_json.loads(json.dumps(value, ensure_ascii=False).encode()) == value


def test_the_limit_of_depth() -> None:
    """A hundred levels are read."""
    limit = strict_json.MAX_DEPTH
    assert strict_json.loads(b"[" * limit + b"]" * limit)
    with pytest.raises(ValueError, match="nested too deeply"):
        strict_json.loads(b"[" * (limit + 1) + b"]" * (limit + 1))
