"""Repeated requests to a server that writes each answer byte by byte as a test says."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from typing import TYPE_CHECKING, Any, cast

import boto3
import pytest
from botocore.awsrequest import AWSHTTPConnection
from botocore.config import Config
from moto.core.models import botocore_stubber

from processing.staging.request_templates import RequestTemplate, UnusableResponseError

if TYPE_CHECKING:
    from collections.abc import Iterator

STORED = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'


class Server(socketserver.ThreadingTCPServer):
    """A server that gives the answers of `answers` in order, and then `STORED`. It keeps the first lines of requests.

    An answer with `Connection: close` is sent before the body of the request is read, and ends the connection.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.lines: list[str] = []
        super().__init__(("127.0.0.1", 0), _Connection)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Connection(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        while line := self.rfile.readline():
            self.server.lines.append(line.decode().strip())
            size = 0
            while header := self.rfile.readline().strip():
                name, value = header.lower().split(b":", 1)
                size = int(value) if name == b"content-length" else size
            answer = self.server.answers.pop(0) if self.server.answers else STORED
            if b"Connection: close" in answer:
                self.wfile.write(answer)
                return
            self.rfile.read(size)
            self.wfile.write(answer)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on this machine."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the server, which tries once."""
    monkeypatch.setenv("NO_PROXY", "*")
    session = boto3.Session("key", "secret", region_name="eu-west-1")
    session.events.unregister("before-send", cast("Any", botocore_stubber))
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=30)
    with contextlib.closing(session.client("s3", endpoint_url=server.url, config=config)) as made:
        yield made


def learn(client: Any, operation: str) -> RequestTemplate:
    """Return the template of an operation, which is called for that."""
    requests: list[Any] = []

    def observe(request: Any, **_: object) -> None:
        requests.append(request)

    client.meta.events.register("before-send", observe)
    getattr(client, operation)(Bucket="bucket", Key="first")
    client.meta.events.unregister("before-send", observe)
    template = RequestTemplate.learn(client, requests[-1], "first")
    assert template is not None
    return template


def test_an_answer_that_goes_on(server: Server, client: Any) -> None:
    """An answer with a length and with chunks is not taken, and does not disturb the next request."""
    get, put = learn(client, "get_object"), learn(client, "put_object")
    server.answers = [
        b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n'
    ]
    with pytest.raises(UnusableResponseError, match="HTTP 200: more than 4 bytes"):
        get.get("second", 100)
    assert put.put("third", b"3") == '"x"'
    assert server.lines[2:] == ["GET /bucket/second HTTP/1.1", "PUT /bucket/third HTTP/1.1"]


def test_an_early_answer(server: Server, client: Any) -> None:
    """The status that precedes a broken connection is known: S3 may ask for fewer requests."""
    put = learn(client, "put_object")
    server.answers = [b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"]
    with pytest.raises(UnusableResponseError) as error:
        put.put("second", b"x" * 20_000_000)
    assert error.value.status == 503
    assert put.put("third", b"3") == '"x"'


def test_another_interim_answer(server: Server, client: Any) -> None:
    """An interim answer that nobody asked for is no success, and what follows it is no answer to the next request."""
    put = learn(client, "put_object")
    server.answers = [b"HTTP/1.1 103 Early Hints\r\n\r\n" + STORED.replace(b'"x"', b'"of the second"')]
    with pytest.raises(UnusableResponseError, match="HTTP 103"):
        put.put("second", b"2")
    assert put.put("third", b"3") == '"x"'


def test_a_request_that_is_interrupted(server: Server, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of a request that was not sent do not precede the next one."""
    put = learn(client, "put_object")
    real, written = AWSHTTPConnection.putheader, []

    def putheader(connection: Any, *line: Any) -> None:
        written.append(line)
        if len(written) == 5:
            raise KeyboardInterrupt
        real(connection, *line)

    monkeypatch.setattr(AWSHTTPConnection, "putheader", putheader)
    with pytest.raises(KeyboardInterrupt):
        put.put("second", b"2")
    client.put_object(Bucket="bucket", Key="third", Body=b"3")
    assert server.lines[1:] == ["PUT /bucket/third HTTP/1.1"]
