"""Fuzz tests of the server: to any bytes it answers or ends the connection, and it never fails itself.

A 500 is a failure of the server. After every example the log is checked too, and shows the traceback.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processing.local.engine import Engine
from processing.local.settings import EngineSettings
from processing.local.transports.server import Server
from processing.request.service_model import service_model
from raw_http import RawConnection, signed, signed_call

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
OWN_FAULTS = {b"500", b"502", b"503"}
JSON_SERVICES = {"sagemaker": "SageMaker", "logs": "Logs_20140328", "sqs": "AmazonSQS"}
QUERY_SERVICES = {"sts": "2011-06-15", "iam": "2010-05-08", "sqs": "2012-11-05", "monitoring": "2010-08-01"}
WAITS = {"StartLiveTail"}
"""Operations whose answers do not end."""

often = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


class Faults(logging.Handler):
    """A log handler that keeps the server's entries."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep an entry with its traceback."""
        self.entries.append(logging.Formatter().format(record))


class Target:
    """A server and the entries of its log."""

    def __init__(self, server: Server, faults: Faults) -> None:
        self.server = server
        self._faults = faults

    def check(self, *pieces: bytes) -> bytes:
        """Send the pieces, check that the server did not fail, and return its answer."""
        with contextlib.closing(RawConnection(self.server, timeout=20)) as wire:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    wire.send(piece)
            answer = b""
            with contextlib.suppress(ConnectionError):  # but no time-out: the server never hangs
                answer = wire.rest()
        entries, self._faults.entries = self._faults.entries, []
        assert not entries, "\n".join(entries)
        assert not OWN_FAULTS & set(STATUS.findall(answer)), answer
        return answer


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One engine for all examples. Each finds the objects that earlier ones left."""
    faults = Faults()
    logger = logging.getLogger("processing.local.transports")
    logger.addHandler(faults)
    engine = Engine(tmp_path_factory.mktemp("fuzzed") / "engine", EngineSettings(grace=0.1, tick=0.01))
    engine.objects.create_bucket("bucket")
    with Server(engine) as server:
        yield Target(server, faults)
    logger.removeHandler(faults)


# Strategies

words = st.text(max_size=30)
# fmt: off
tokens = st.sampled_from([
    b"GET", b"PUT", b" ", b"  ", b"/", b"/bucket/key", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"\r\n", b"\n", b"\r",
    b"\0", b"\xff\xfe", b":", b";", b"?", b"#", b"%", b"%zz", b"http://", b"Host: x", b"Host:", b"Connection: close",
    b"Content-Length: ", b"Content-Length: 5", b"5", b"-1", b"99999999999999999999", b"Transfer-Encoding: chunked",
    b"Expect: 100-continue", b"0\r\n\r\n", b"3\r\nabc\r\n", b"ffffffffffffff", b"A" * 20_000, b"a: b\r\n" * 300,
    b"X-Amz-Target: SageMaker.X", b"X-Amz-Date: 20260101T000000Z",
    b"Authorization: AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request",
    b"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Signature=b",
])
FORM = [
    "QueueUrl", "QueueName", "RoleArn", "RoleName", "RoleSessionName", "DurationSeconds", "StartTime", "EndTime",
    "Period", "Attribute.1.Name", "Attribute.1.Value", "MetricDataQueries.member.1.Id",
    "Dimensions.member.99999999999.Name",
]
PATHS = ["/", "/bucket", "/bucket/", "/bucket/key", "/none", "/B/x", "//", "/bucket//a/../b"]
QUERY = [
    "list-type", "prefix", "delimiter", "max-keys", "marker", "continuation-token", "start-after", "encoding-type",
    "uploads", "uploadId", "partNumber", "delete", "tagging", "versionId", "versions", "location", "acl", "x-id",
    "response-content-type", "max-uploads", "max-parts", "part-number-marker", "attributes", "upload-id-marker",
    "key-marker",
]
QUERY_VALUES = ["", "0", "1", "2", "-1", "1000000", "9" * 30, "url", "/", "x"]
HEADERS = [
    "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "Content-MD5", "Content-Type",
    "x-amz-copy-source", "x-amz-copy-source-range", "x-amz-metadata-directive", "x-amz-checksum-crc32",
    "x-amz-checksum-sha256", "x-amz-checksum-type", "x-amz-sdk-checksum-algorithm", "x-amz-storage-class",
    "x-amz-meta-a", "x-amz-tagging", "x-amz-object-attributes", "x-amz-expected-bucket-owner",
    "x-amz-decoded-content-length", "x-amz-mp-object-size",
]
HEADER_VALUES = [
    "bytes=0-0", "bytes=-1", "bytes=5-2", "bytes=" + "9" * 50 + "-", "*", '"x"', "/bucket/key", "bucket/%zz", "0", "-5",
    "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Jan 99999 00:00:00", "1", "COPY", "a=b&c", "AAAAAA==",
]
DOCUMENTS = [
    b"", b"<a", b"<a/>", b"<Delete/>", b"<Delete><Object><Key>a</Key></Object></Delete>",
    b"<Tagging><TagSet><Tag/></TagSet></Tagging>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
]
# fmt: on
junk = st.lists(tokens | st.binary(max_size=10), max_size=25).map(b"".join)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | words
    | st.sampled_from(
        [-1, 0, 2**31, 2**63, 2**64, 10**400, "", "\0", "é" * 2000, "arn:aws:iam::000000000000:role/x", "bucket"]
    )
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)


def value_of(shape: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values for a shape: mostly of its type, sometimes of any other."""
    kind = shape.type_name
    if depth > 4:
        return values
    if kind == "structure":
        known = {name: value_of(member, depth + 1) for name, member in list(shape.members.items())[:12]}
        needed = {name: known[name] for name in shape.required_members if name in known}
        right: st.SearchStrategy[Any] = st.fixed_dictionaries(
            needed, optional={name: each for name, each in known.items() if name not in needed}
        )
    elif kind == "list":
        right = st.lists(value_of(shape.member, depth + 1), max_size=2)
    elif kind == "map":
        right = st.dictionaries(words, value_of(shape.value, depth + 1), max_size=2)
    elif kind in {"integer", "long", "float", "double", "timestamp"}:
        right = (
            st.integers(-5, 5000) | st.floats(allow_nan=False) | st.sampled_from([2**31, 2**53, 2**63, -(2**63), 1e308])
        )
    elif kind == "boolean":
        right = st.booleans()
    else:
        right = (
            (st.sampled_from(shape.enum) if getattr(shape, "enum", None) else st.nothing()) | words | st.just("bucket")
        )
    return st.one_of(right, right, right, right, values)


def calls(service: str) -> st.SearchStrategy[tuple[str, Any]]:
    """An operation of a service, and parameters for it."""
    model = service_model(service)
    handled = sorted(set(model.operation_names) & set(Engine()._operations_of(service)) - WAITS)

    def parameters(name: str) -> st.SearchStrategy[tuple[str, Any]]:
        shape = model.operation_model(name).input_shape
        return st.tuples(st.just(name), values if shape is None else value_of(shape))

    return st.sampled_from(handled).flatmap(parameters)


# Unsigned: the head and the framing


@often
@given(data=junk)
def test_any_bytes(target: Target, data: bytes) -> None:
    """At the beginning of a connection."""
    target.check(data)


@often
@given(line=junk, headers=st.lists(junk, max_size=4))
def test_any_head(target: Target, line: bytes, headers: list[bytes]) -> None:
    """A head of any bytes, followed by data."""
    target.check(line + b"\r\n" + b"\r\n".join(headers) + b"\r\n\r\n", b"more")


@often
@given(change=st.tuples(st.integers(0, 600), st.integers(0, 5), junk), length=st.integers(0, 300))
def test_a_good_request_with_a_flaw(target: Target, change: tuple[int, int, bytes], length: int) -> None:
    """The flaw is at any place, the signature included."""
    place, removed, put = change
    data = signed(target.server, "PUT", "/bucket/key", b"x" * length)
    target.check(data[:place] + put + data[place + removed :])


@often
@given(body=junk, wait=st.booleans())
def test_any_chunks(target: Target, body: bytes, wait: bool) -> None:
    """The request is valid otherwise."""
    headers = {"Transfer-Encoding": "chunked", **({"Expect": "100-continue"} if wait else {})}
    target.check(signed_call(target.server, "SageMaker.ListProcessingJobs", b"", headers=headers, framed=False), body)


@often
@given(body=junk, kind=st.sampled_from(["", "-TRAILER"]), claimed=st.integers(0, 50), signs=st.booleans())
def test_any_aws_chunks(target: Target, body: bytes, kind: str, claimed: int, signs: bool) -> None:
    """The request puts an object."""
    name = f"STREAMING-AWS4-HMAC-SHA256-PAYLOAD{kind}" if signs else "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    headers = {
        "Content-Encoding": "aws-chunked",
        "X-Amz-Content-SHA256": name,
        "x-amz-decoded-content-length": str(claimed),
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    target.check(signed(target.server, "PUT", "/bucket/key", body, headers=headers))


# Signed: the codec and the handlers


@pytest.mark.parametrize("service", JSON_SERVICES)
@often
@given(body=junk | values.map(lambda value: json.dumps(value).encode()), operation=words)
def test_any_json(target: Target, service: str, body: bytes, operation: str) -> None:
    """The operation exists or does not."""
    operations = sorted(Engine()._operations_of(service))
    name = operations[len(operation) % len(operations)] if len(operation) % 3 else quote(operation)
    if name not in WAITS:
        target.check(signed_call(target.server, f"{JSON_SERVICES[service]}.{name}", body, service=service))


@pytest.mark.parametrize("service", JSON_SERVICES)
@often
@given(data=st.data())
def test_any_parameters(target: Target, service: str, data: st.DataObject) -> None:
    """They follow the service's model, or nearly."""
    name, params = data.draw(calls(service))
    body = json.dumps(params).encode()
    target.check(signed_call(target.server, f"{JSON_SERVICES[service]}.{name}", body, service=service))


@pytest.mark.parametrize("service", QUERY_SERVICES)
@often
@given(data=st.data())
def test_any_form(target: Target, service: str, data: st.DataObject) -> None:
    """The fields have names of the services' forms, or others."""
    operations = sorted(Engine()._operations_of({"monitoring": "cloudwatch"}.get(service, service)))
    name = data.draw(st.sampled_from(operations) | words)
    fields = data.draw(st.dictionaries(st.sampled_from(FORM) | words, words | st.integers().map(str), max_size=6))
    body = urlencode({"Action": name, "Version": QUERY_SERVICES[service], **fields}).encode() + data.draw(
        st.binary(max_size=5)
    )
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    target.check(signed(target.server, "POST", "/", body, headers=headers, service=service))


@settings(often, max_examples=250)
@given(data=st.data())
def test_any_request_to_s3(target: Target, data: st.DataObject) -> None:
    """Any method on any path, with queries, headers and bodies that S3 knows or does not."""
    method = data.draw(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS"]))
    path = data.draw(st.sampled_from(PATHS) | words.map(lambda key: f"/bucket/{quote(key)}"))
    query = data.draw(
        st.dictionaries(st.sampled_from(QUERY) | words, st.sampled_from(QUERY_VALUES) | words, max_size=4)
    )
    header = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip)
    headers = data.draw(st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(HEADER_VALUES) | header, max_size=4))
    body = data.draw(st.sampled_from(DOCUMENTS) | junk) if method in {"PUT", "POST"} else b""
    text = f"{path}?{urlencode(query)}" if query else path
    target.check(signed(target.server, method, text, body, headers=headers))


def test_nothing_was_left_behind(target: Target) -> None:
    """After all that, the server serves."""
    assert b"200 OK" in target.check(signed(target.server, "GET", "/"))
