"""The engine over HTTP, byte by byte."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from processing.local.engine import Engine
from processing.local.errors import ApiError
from processing.local.protocols import http1 as http_module
from processing.local.protocols.http1 import end_of_head, parse_head, response_head
from processing.local.transports import connection as connection_module
from processing.local.transports import server as server_module
from processing.local.transports.server import Server
from processing.testing.clock import VirtualClock
from raw_http import RawConnection, signed, signed_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from processing import LocalSession


@pytest.fixture
def wire(server: Server) -> Iterator[RawConnection]:
    """A connection to the engine."""
    with contextlib.closing(RawConnection(server)) as made:
        yield made


@pytest.fixture
def bucket(local_session: LocalSession) -> str:
    """A bucket."""
    local_session.engine.objects.create_bucket("bucket")
    return "bucket"


# Requests and connections


def test_a_connection_serves_many_requests(server: Server, wire: RawConnection, bucket: str) -> None:
    """Pipelined requests are answered in their order."""
    puts = [signed(server, "PUT", f"/{bucket}/{number}", str(number).encode()) for number in range(3)]
    wire.send(b"".join(puts) + b"\r\n" + signed(server, "GET", f"/{bucket}/2"))
    assert [wire.answer("PUT")[0] for _ in puts] == [200, 200, 200]
    status, headers, body = wire.answer()
    assert (status, body) == (200, b"2")
    assert headers["content-length"] == "1"
    assert headers["x-amz-request-id"]
    assert headers["date"].endswith(" GMT")


def test_a_head_may_come_in_pieces(server: Server, wire: RawConnection, bucket: str) -> None:
    """And the body after it."""
    data = signed(server, "PUT", f"/{bucket}/key", b"body")
    for cut in range(0, len(data), 50):
        wire.send(data[cut : cut + 50])
    assert wire.answer("PUT")[0] == 200


def test_a_client_may_end_the_connection(server: Server, wire: RawConnection) -> None:
    """A request with `Connection: close` is the last one, and its answer has the header, too."""
    wire.send(signed(server, "GET", "/", headers={"Connection": "close"}))
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert wire.is_closed()


def test_clients_of_http_1_0_are_served(server: Server, wire: RawConnection) -> None:
    """One request, and the connection ends."""
    wire.send(signed(server, "GET", "/").replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert wire.answer()[0] == 200
    assert wire.is_closed()


def test_a_head_answer_has_no_body(server: Server, wire: RawConnection, bucket: str) -> None:
    """But its length, and what follows is the next answer; an error has none either."""
    wire.send(signed(server, "PUT", f"/{bucket}/key", b"some bytes") + signed(server, "HEAD", f"/{bucket}/key"))
    wire.send(signed(server, "HEAD", f"/{bucket}/none") + signed(server, "GET", f"/{bucket}/key"))
    wire.answer("PUT")
    status, headers, body = wire.answer("HEAD")
    assert (status, headers["content-length"], body) == (200, "10", b"")
    assert wire.answer("HEAD")[0] == 404
    assert wire.answer()[2] == b"some bytes"


def test_a_body_waits_for_100_continue(server: Server, wire: RawConnection, bucket: str) -> None:
    """The server sends `100 Continue` once it accepts the head."""
    body = b"x" * 100_000
    head = signed(server, "PUT", f"/{bucket}/key", body, headers={"Expect": "100-continue"}).removesuffix(body)
    wire.send(head)
    assert wire.sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(body)
    assert wire.answer("PUT")[0] == 200


def test_a_body_that_is_not_wanted_is_not_asked_for(server: Server, wire: RawConnection) -> None:
    """The client is refused before it sends the body. The connection ends, since the body may still arrive."""
    body = b"x" * 100_000
    wire.send(signed(server, "PUT", "/none/key", body, headers={"Expect": "100-continue"}).removesuffix(body))
    status, headers, _ = wire.answer("PUT")
    assert (status, headers["connection"]) == (404, "close")
    assert wire.is_closed()


def test_a_chunked_body_is_put_together(server: Server, wire: RawConnection) -> None:
    """Extensions and trailers are ignored."""
    body = b'{"MaxResults": 5}'
    head = signed_call(
        server, "SageMaker.ListProcessingJobs", body, headers={"Transfer-Encoding": "chunked"}, framed=False
    )
    wire.send(head + b"5\r\n" + body[:5] + b"\r\n0C;x=y\r\n" + body[5:] + b"\r\n0\r\nTrailer: x\r\n\r\n")
    assert wire.answer("POST")[0] == 200
    wire.send(signed(server, "GET", "/"))
    assert wire.answer()[0] == 200


def test_an_error_within_a_small_body_is_reported(server: Server, wire: RawConnection) -> None:
    """A small rest of the body is drained, and the connection continues."""
    wire.send(signed(server, "PUT", "/none/key", b"x" * 500_000) + signed(server, "GET", "/"))
    status, _, body = wire.answer("PUT")
    assert (status, b"NoSuchBucket" in body) == (404, True)
    assert wire.answer()[0] == 200


def test_an_error_within_a_large_body_is_reported(server: Server, wire: RawConnection) -> None:
    """The client gets its answer although it is still sending; then the connection ends."""
    body = b"x" * 30_000_000
    sender = threading.Thread(target=wire.send, args=(signed(server, "PUT", "/none/key", body),))
    sender.start()
    assert wire.answer("PUT")[0] == 404
    sender.join()


def test_a_body_that_breaks_off_stores_nothing(server: Server, wire: RawConnection, bucket: str) -> None:
    """The client receives an error if it still reads."""
    data = signed(server, "PUT", f"/{bucket}/key", b"x" * 200_000)
    wire.send(data[:-1])
    wire.sock.shutdown(socket.SHUT_WR)
    status, _, body = wire.answer("PUT")
    assert (status, b"IncompleteBody" in body) == (400, True)
    with contextlib.closing(RawConnection(server)) as made:
        made.send(signed(server, "GET", f"/{bucket}/key"))
        assert made.answer()[0] == 404


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "BadRequest"),
        (b"GET / HTTP/1.1 and more\r\n\r\n", 400, "BadRequest"),
        (b"GET /\r\n\r\n", 400, "BadRequest"),
        (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BadRequest"),
        (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BadRequest"),
        (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BadRequest"),
        (b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "HttpVersionNotSupported"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: a<b\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n on: and on\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA : c\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400, "BadRequest"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, "BadRequest"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "BadRequest"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n", 400, "BadRequest"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "BadRequest"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", 400, "BadRequest"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "BadRequest"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "NotImplemented"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n", 417, "ExpectationFailed"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "RequestURITooLong"),
        (b"GET /" + b"a" * 20_000, 414, "RequestURITooLong"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000, 431, "RequestHeaderSectionTooLarge"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 201 + b"\r\n", 431, "RequestHeaderSectionTooLarge"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_malformed_is_refused(wire: RawConnection, data: bytes, status: int, code: str) -> None:
    """The connection ends after the error, since the start of the next request is unknown."""
    wire.send(data)
    answered, headers, body = wire.answer()
    assert (answered, code in body.decode(), headers["connection"]) == (status, True, "close")
    assert wire.is_closed()


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n",
        b"-1\r\n",
        b"2\r\nabc\r\n0\r\n\r\n",
        b"1_0\r\n",
        b"f" * 20_000,
        b"9" * 18 + b"\r\n",
        b"2\n{}\r\n0\r\n\r\n",
    ],
)
def test_broken_chunks_are_refused(server: Server, wire: RawConnection, chunks: bytes) -> None:
    """As a fault of the client's."""
    wire.send(
        signed_call(server, "SageMaker.ListProcessingJobs", b"", headers={"Transfer-Encoding": "chunked"}, framed=False)
    )
    wire.send(chunks)
    status, _, body = wire.answer("POST")
    assert (status, b"InvalidChunk" in body) == (400, True)


def test_a_body_that_has_to_be_in_memory_has_a_limit(server: Server, wire: RawConnection) -> None:
    """A body with a larger Content-Length is not read. A chunked one is read up to the limit."""
    body = signed_call(
        server, "SageMaker.ListProcessingJobs", b"", headers={"Content-Length": str(1 << 40)}, framed=False
    )
    wire.send(body)
    status, _, text = wire.answer("POST")
    assert (status, b"RequestEntityTooLarge" in text) == (413, True)
    with contextlib.closing(RawConnection(server)) as made:
        made.send(signed(server, "POST", "/bucket?delete", headers={"Content-Length": str(1 << 30)}, framed=False))
        with contextlib.suppress(OSError):
            for _ in range(20):
                made.send(b" " * (1 << 20))
        assert made.answer("POST")[0] == 413


def test_a_slow_client_is_disconnected(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limits within a head and a body are short. Between requests there is a longer one."""
    monkeypatch.setattr(connection_module, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(connection_module, "IDLE_ROUNDS", 1000)
    for data in (b"GET / HT", signed(server, "PUT", "/none/key", b"x")[:-1]):
        with contextlib.closing(RawConnection(server)) as made:
            made.send(data)
            assert made.answer()[0] == 408
    monkeypatch.setattr(connection_module, "IDLE_ROUNDS", 2)
    with contextlib.closing(RawConnection(server)) as idle:
        assert idle.is_closed()


def test_a_slow_head_is_disconnected(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow head ends, although each of its bytes arrives in time."""
    monkeypatch.setattr(connection_module, "HEAD_SECONDS", 0.0)
    with contextlib.closing(RawConnection(server)) as made:
        made.send(b"GET / HTTP/1.1\r\n")
        assert made.answer()[0] == 408


def test_more_connections_than_threads_are_served(
    server: Server, monkeypatch: pytest.MonkeyPatch, wire: RawConnection
) -> None:
    """The connection that has been idle longest is closed."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    wires = [wire]
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            wires[-1].send(signed(server, "GET", "/"))
            assert wires[-1].answer()[0] == 200
            wires.append(RawConnection(server))
            stack.callback(wires[-1].close)
        assert wires[0].is_closed()


def test_a_head_that_does_not_end_makes_room(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow client is closed for others. It gets no answer, so that it may retry."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(4):
            slow.append(stack.enter_context(contextlib.closing(RawConnection(server))))
            slow[-1].send(b"GET / HTTP/1.1\r\n")
        made = stack.enter_context(contextlib.closing(RawConnection(server)))
        made.send(signed(server, "GET", "/"))
        assert made.answer()[0] == 200
        assert slow[0].is_closed()


def test_a_thread_that_cannot_start_costs_one_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server serves later connections."""
    start, failed = threading.Thread.start, threading.Event()

    def fail_once(thread: threading.Thread) -> None:
        if thread.name == "engine-connection" and not failed.is_set():
            failed.set()
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_once)
    with contextlib.closing(RawConnection(server)) as lost:
        assert lost.is_closed()
    with contextlib.closing(RawConnection(server)) as made:
        made.send(signed(server, "GET", "/"))
        assert made.answer()[0] == 200
    assert "can't start new thread" in caplog.text


# Names


@pytest.mark.parametrize("host", ["bucket.localhost", "bucket.s3.localhost", "bucket.s3.us-east-1.localhost"])
def test_a_bucket_may_stand_in_the_host(
    server: Server, http_client: Callable[..., Any], bucket: str, host: str
) -> None:
    """Many clients use virtual hosts. The names resolve to this machine."""
    http_client("s3").put_object(Bucket=bucket, Key="a/key", Body=b"here")
    with contextlib.closing(RawConnection(server)) as made:
        made.send(signed(server, "GET", "/a/key", host=f"{host}:{urlsplit(server.endpoint).port}"))
        assert made.answer()[2] == b"here"


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:80", "[::1]:8000", "127.0.0.1", "s3.localhost", "evil.example"]
)
def test_any_host_will_do_for_a_path(server: Server, wire: RawConnection, host: str) -> None:
    """The signature covers the Host header. A web page that points its name here cannot sign."""
    wire.send(signed(server, "GET", "/", host=host))
    status, _, body = wire.answer()
    assert (status, b"ListAllMyBucketsResult" in body) == (200, True)


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_presigned_urls_work_without_a_client(http_client: Callable[..., Any], bucket: str, style: str) -> None:
    """They write and read without a key."""
    s3 = http_client("s3", Config(s3={"addressing_style": "path"}, signature_version="s3v4"))
    where = {"Bucket": bucket, "Key": "a b/ü+~"}
    put = urllib.request.Request(s3.generate_presigned_url("put_object", where), b"body", method="PUT")
    put.add_header("Content-Type", "text/plain")
    with urllib.request.urlopen(put) as answer:
        assert answer.status == 200
    read = {**where, "ResponseContentType": "text/x\r\nSet-Cookie: a=b"} if style == "virtual" else where
    with urllib.request.urlopen(s3.generate_presigned_url("get_object", read)) as answer:
        assert answer.read() == b"body"
        assert answer.headers["Set-Cookie"] is None
    url = s3.generate_presigned_url("get_object", where)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.replace("Signature=", "Signature=0")).close()


@pytest.mark.parametrize("version", ["s3", "s3v4"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_presigned_url_is_good_for_nothing_else(
    http_client: Callable[..., Any], local_session: LocalSession, bucket: str, version: str, method: str
) -> None:
    """With further headers and parameters it calls neither another service nor another operation."""
    local_session.engine.objects.put(bucket, "k", b"x")
    s3 = http_client("s3", Config(signature_version=version))
    operation = {"GET": "get_object", "PUT": "put_object"}[method]
    url = s3.generate_presigned_url(operation, {"Bucket": bucket, "Key": "k"})
    json = {"Content-Type": "application/x-amz-json-1.1"}
    for added, headers in (
        ("", json | {"X-Amz-Target": "SageMaker.ListProcessingJobs"}),
        ("", json | {"X-Amz-Target": "AmazonSQS.ListQueues"}),
        ("", {"smithy-protocol": "rpc-v2-cbor"}),
        ("", {"x-amz-copy-source": f"{bucket}/k"}),
        ("&tagging", {}),
        ("&t%61gging", {}),
        ("&uploadId=x&partNumber=1", {}),
        ("&Action=ListQueues&Version=2012-11-05", {}),
    ):
        asked = urllib.request.Request(url + added, b"{}" if method == "PUT" else None, headers, method=method)
        with pytest.raises(urllib.error.HTTPError, match=r"40[03]|501"):
            urllib.request.urlopen(asked, timeout=30).close()
    assert local_session.engine.objects.get(bucket, "k").size == 1


def test_metadata_goes_both_ways(http_client: Callable[..., Any], bucket: str) -> None:
    """Headers return unchanged."""
    s3 = http_client("s3")
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x y", "b": "1,2"}, ContentType="a/b; c=d")
    found = s3.head_object(Bucket=bucket, Key="k")
    assert (found["Metadata"], found["ContentType"]) == ({"a": "x y", "b": "1,2"}, "a/b; c=d")


# Large bodies


def test_a_large_object_goes_through_in_little_memory(
    http_client: Callable[..., Any], bucket: str, tmp_path: Path
) -> None:
    """Both ways, byte for byte: in one request, and in parts at once."""
    data = os.urandom(20_000_003)
    path = tmp_path / "large"
    path.write_bytes(data)
    s3 = http_client("s3")
    with path.open("rb") as file:
        s3.put_object(Bucket=bucket, Key="one", Body=file)
    s3.upload_file(str(path), bucket, "parts")
    for key in ("one", "parts"):
        s3.download_file(bucket, key, str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == data
    ranged = s3.get_object(Bucket=bucket, Key="one", Range="bytes=1000000-9999999")["Body"].read()
    assert ranged == data[1_000_000:10_000_000]


class Endless:
    """A stream of unknown length, which holds its last pieces back until the test releases them."""

    def __init__(self) -> None:
        self.pieces = [b"first", b"second"]
        self.closed = threading.Event()
        self.go_on = threading.Event()

    def read(self, size: int = -1, /) -> bytes:
        """Return the next piece."""
        if not self.pieces:
            assert self.go_on.wait(30)
            return b"" if size else b"x"
        return self.pieces.pop(0)

    def close(self) -> None:
        """Record the call."""
        self.closed.set()


@pytest.fixture
def endless(local_session: LocalSession, monkeypatch: pytest.MonkeyPatch) -> Endless:
    """The body that every object has."""
    body = Endless()
    monkeypatch.setattr(local_session.engine, "handle", lambda *_: {"Body": body})
    return body


def test_a_stream_of_unknown_length_goes_out_as_it_comes(server: Server, wire: RawConnection, endless: Endless) -> None:
    """Each piece at once, in chunks; the end is told."""
    wire.send(signed(server, "GET", "/bucket/key"))
    got = b""
    while b"second" not in got:
        got += wire.sock.recv(1000)
    assert b"Transfer-Encoding: chunked\r\n" in got
    assert got.endswith(b"\r\n\r\n5\r\nfirst\r\n6\r\nsecond\r\n")
    endless.go_on.set()
    assert wire.sock.recv(100) == b"0\r\n\r\n"
    assert endless.closed.wait(30)


def test_a_stream_is_closed_when_its_client_goes_away(server: Server, wire: RawConnection, endless: Endless) -> None:
    """The source of the stream is closed."""
    wire.send(signed(server, "GET", "/bucket/key"))
    assert wire.sock.recv(1)
    wire.close()
    endless.pieces += [b"x" * 1_000_000] * 50
    endless.go_on.set()
    assert endless.closed.wait(30)


# Faults and the log


def test_a_failure_of_the_engine_is_reported_and_logged(
    server: Server,
    wire: RawConnection,
    local_session: LocalSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log entry has the request id and a traceback. The connection continues."""

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(local_session.engine, "handle", fail)
    wire.send(signed(server, "GET", "/bucket/ke%0Ay") + signed_call(server, "SageMaker.ListProcessingJobs", b"{}"))
    status, headers, body = wire.answer()
    assert (status, b"<Code>InternalError</Code>" in body) == (500, True)
    status, second, body = wire.answer("POST")
    assert (status, b"InternalFailure" in body) == (500, True)
    entries = [record for record in caplog.records if record.name == "processing.local.transports.server"]
    assert headers["x-amz-request-id"] in entries[0].getMessage()
    assert second["x-amz-request-id"] in entries[1].getMessage()
    assert "GET /bucket/ke%0Ay" in entries[0].getMessage()
    assert all(entry.exc_info is not None and entry.exc_info[0] is ZeroDivisionError for entry in entries)


def test_a_stream_that_fails_is_logged(
    server: Server,
    wire: RawConnection,
    endless: Endless,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client notices the incomplete answer."""
    del endless.pieces[:]
    monkeypatch.setattr(endless, "read", lambda *_: 1 // 0)
    wire.send(signed(server, "GET", "/bucket/key"))
    assert wire.answer()[2] == b""
    assert any(record.exc_info for record in caplog.records)


def fail(message: str) -> None:
    """Raise an error with a text."""
    raise ValueError(message)


def test_log_entries_cannot_be_forged(tmp_path: Path) -> None:
    """Lines but the first are indented, control characters escaped; the file is its owner's alone."""
    logger = logging.getLogger("processing.local.transports")
    with server_module.logging_to(tmp_path):
        try:
            fail("x\n2026 ERROR forged\x1b[31m\r")
        except ValueError:
            logger.exception("%s failed", connection_module.printable("a\nb\x00ü\u2028" + "x" * 5000))
    path = tmp_path / server_module.LOG_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    first, *others = path.read_text().splitlines()
    assert r"a\nb\x00\xfc\u2028xxx" in first
    assert len(first) < 1200
    assert all(line.startswith("    ") for line in others)
    assert any(r"ERROR forged\x1b[31m\r" in line for line in others)


# Starting and stopping


def test_requests_in_progress_end_when_the_server_stops(
    local_session: LocalSession, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New requests are not accepted meanwhile."""
    entered, go_on = threading.Event(), threading.Event()
    original = local_session.engine.handle

    def slow(*arguments: Any) -> Any:
        entered.set()
        assert go_on.wait(30)
        return original(*arguments)

    monkeypatch.setattr(local_session.engine, "handle", slow)
    server = Server(local_session.engine)
    server.start()
    with contextlib.closing(RawConnection(server)) as made, contextlib.closing(RawConnection(server)) as idle:
        made.send(signed(server, "PUT", f"/{bucket}/key", b"x"))
        assert entered.wait(30)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        assert idle.is_closed()
        go_on.set()
        status, headers, _ = made.answer("PUT")
        assert (status, headers["connection"]) == (200, "close")
        stopper.join()
    with pytest.raises(ConnectionRefusedError):
        RawConnection(server)


def test_running_requests_are_aborted_after_a_time(local_session: LocalSession, endless: Endless) -> None:
    """Connections are aborted after the time limit."""
    server = Server(local_session.engine)
    server.start()
    with contextlib.closing(RawConnection(server)) as made:
        made.send(signed(server, "GET", "/bucket/key"))
        assert made.sock.recv(1)
        threading.Timer(0.05, endless.go_on.set).start()
        server.stop(0.01)
    assert endless.closed.wait(30)


def test_a_taken_port_is_an_error(server: Server, local_session: LocalSession) -> None:
    """No socket is left open."""
    port = urlsplit(server.endpoint).port
    assert port
    with pytest.raises(OSError, match="in use"):
        Server(local_session.engine, port=port)


def test_it_listens_on_the_loopback_interface_only(server: Server) -> None:
    """The machine's other addresses are not served."""
    assert server._listener.getsockname()[0] == "127.0.0.1"


def test_the_clock_of_signatures_can_be_given(tmp_path: Path) -> None:
    """A client with a wrong clock receives the time in the header by which botocore corrects itself."""
    ahead = VirtualClock(time.time() + 7200)
    with Server(Engine(tmp_path), clock=ahead) as server, contextlib.closing(RawConnection(server)) as made:
        made.send(signed_call(server, "SageMaker.ListProcessingJobs", b"{}"))
        status, headers, body = made.answer("POST")
        assert (status, b"InvalidSignatureException" in body, b"Signature expired" in body) == (403, True, True)
        assert headers["date"]


def test_a_wrong_secret_is_403(http_client: Callable[..., Any]) -> None:
    """For every service."""
    wrong = {"aws_access_key_id": "AKIAWRONG", "aws_secret_access_key": "wrong"}
    calls = {
        "s3": "list_buckets",
        "sagemaker": "list_processing_jobs",
        "sts": "get_caller_identity",
        "sqs": "list_queues",
    }
    for service, call in {**calls, "logs": "describe_log_groups", "cloudwatch": "list_metrics"}.items():
        with pytest.raises(ClientError) as caught:
            getattr(http_client(service, **wrong), call)()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403, service


# Heads, without a server


def test_a_head_is_read() -> None:
    """Names become lower case, repeated headers are joined, and a whole URL is split."""
    data = b"PUT http://a.localhost:1/x%20y?b#c HTTP/1.1\r\nHost: z\r\nX-A: 1\r\nx-a:\t2 \r\nContent-Length: 3\r\n\r\n"
    assert end_of_head(data + b"abc") == len(data)
    head = parse_head(data)
    assert (head.method, head.host, head.path, head.query) == ("PUT", "a.localhost:1", "/x%20y", "b")
    assert head.headers["x-a"] == "1,2"
    assert (head.length, head.keep_alive, head.expects_continue) == (3, True, False)


def test_a_head_that_cannot_become_one_is_refused_early() -> None:
    """The error comes before the head is complete."""
    assert end_of_head(b"GET / HTTP/1.1\r\nHost") is None
    for data in (b"\x00", b"G" * (http_module.MAX_REQUEST_LINE + 1), b"G\n" + b"x" * http_module.MAX_HEAD):
        with pytest.raises(ApiError):
            end_of_head(data)


def test_an_answer_cannot_be_split() -> None:
    """Line ends in a header's value are replaced."""
    head = response_head(299, {"A": "b\r\nC: d\x00", "Ü": "é"})
    assert head == "HTTP/1.1 299 Unknown\r\nA: b  C: d \r\nÜ: é\r\n\r\n".encode()


def test_a_stream_of_the_wrong_length_is_noticed(
    server: Server, wire: RawConnection, local_session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends, so that the client notices the missing bytes."""
    answer = {"Body": io.BytesIO(b"x" * 100_000), "ContentLength": 200_000}
    monkeypatch.setattr(local_session.engine, "handle", lambda *_: answer)
    wire.send(signed(server, "GET", "/bucket/key"))
    assert len(wire.answer()[2]) == 100_000
