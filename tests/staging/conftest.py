"""An S3 to stage to, in this process or over HTTP: every request on the wire is seen and, where wanted, spoilt."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

import boto3
import moto
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from moto.core.models import botocore_stubber

from processing.aws.retry import RetryPolicy
from processing.local.engine import Engine
from processing.local.transports.in_process import InProcessTransport
from processing.session.session import Session
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector
from processing.testing.wire import operation_of, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from processing.testing.wire import Transport

BUCKET = "a-users-bucket"
RESET = "x-reset"  # a header of half an answer whose connection is reset after it


class Moto:
    """moto as a transport."""

    def send(self, request: Any) -> Any:
        """Answer a request."""
        return botocore_stubber("before-send.s3", request)


class Wire:
    """Requests on the wire. `faults` injects faults by kind, `instead` replaces responses."""

    def __init__(self, transport: Transport) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.faults = FaultInjector()
        self._transport = self.faults.wrap(transport)
        self._instead: list[tuple[str, Callable[[Any], Any]]] = []
        self._lock = threading.Lock()

    @property
    def calls(self) -> list[str]:
        """The operations, in the order in which they were sent."""
        return [operation for operation, _ in self.requests]

    def instead(self, operation: str, act: Callable[[Any], Any], times: int = 1) -> None:
        """Let the next requests of an operation be answered by what `act` returns or raises; None: the server does."""
        self._instead += [(operation, act)] * times

    def reset(self, operation: str) -> None:
        """Let the next answer break off in the middle, by a reset of its connection if there is one."""

        def half(request: Any) -> Any:
            whole = self._transport.send(request)
            headers = {**dict(whole.headers.items()), "Content-Length": str(len(whole.content)), RESET: "yes"}
            return respond(request, whole.status_code, headers, whole.content[: len(whole.content) // 2])

        self.instead(operation, half)

    def error(self, operation: str, status: int, code: str, times: int = 1, **headers: str) -> None:
        """Let the next requests of an operation be answered with an error of S3's."""
        error = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        body = b"" if operation.startswith("Head") else error
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.instead(operation, lambda request: respond(request, status, sent, body), times)

    def hook(self, request: Any, event_name: str, **_rest: object) -> Any:
        """Answer a request: botocore calls it before sending."""
        operation = event_name.rpartition(".")[2]
        with self._lock:
            headers = {name.lower(): _text(value) for name, value in request.headers.items()}
            self.requests.append((operation, headers))
            found = next((planned for planned in self._instead if planned[0] == operation), None)
            if found is not None:
                self._instead.remove(found)
        answer = found[1](request) if found is not None else None
        return answer if answer is not None else self._transport.send(request)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Recorded:
    """Requests that arrived over HTTP: the test's wire answers them, and records their clients here."""

    def __init__(self, wire: Any) -> None:
        self.wire = wire
        self.by_obstore: Counter[str] = Counter()
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # operation, key, headers: obstore's
        self.connections = 0
        self.lock = threading.Lock()


def _handler(recorded: Recorded) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are sent one after the other

        def setup(self) -> None:
            super().setup()
            with recorded.lock:
                recorded.connections += 1

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            prepared: Any = AWSPreparedRequest(
                self.command,
                f"https://s3.eu-west-1.amazonaws.com{self.path}",
                HTTPHeaders.from_dict(headers),
                body,
                stream_output=False,
            )
            operation = operation_of(prepared)
            if "amz-sdk-request" not in {name.lower() for name in headers}:
                with recorded.lock:
                    recorded.by_obstore[operation] += 1
                    small = {name.lower(): value for name, value in headers.items()}
                    recorded.requests.append((operation, self.path, small))
            try:
                found = recorded.wire.hook(prepared, f"before-send.s3.{operation}")
            except Exception:  # noqa: BLE001 - a fault of the wire's: the connection breaks
                self.close_connection = True
                return
            self.send_response_only(found.status_code)
            content = found.content
            for name, value in found.headers.items():
                if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                    self.send_header(name, value)
            length = found.headers.get("Content-Length", str(len(content))) if content or self.command == "HEAD" else 0
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)
            # Half an answer ends with its connection; to end another unsaid would fail the next request on it.
            self.close_connection = self.command != "HEAD" and str(length) != str(len(content))
            if RESET in found.headers:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815 - names that the base class looks for

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_arguments: object) -> None:
        """A client may go away."""


@pytest.fixture
def server() -> str:
    """The S3 server of the tests; a module may parametrize it with others."""
    return "moto"


@pytest.fixture
def wire(server: str, tmp_path_factory: pytest.TempPathFactory) -> Wire:
    """The requests of the test's session."""
    return Wire(Moto() if server == "moto" else InProcessTransport(Engine(tmp_path_factory.mktemp("engine"))))


@pytest.fixture
def http(wire: Any) -> Iterator[tuple[str, Recorded]]:
    """The wire's S3 over HTTP: its address, and what came."""
    recorded = Recorded(wire)
    server = _Server(("127.0.0.1", 0), _handler(recorded))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", recorded
    server.shutdown()
    server.server_close()
    thread.join()


def remove_moto(boto_session: Any) -> None:
    """Remove the hook that moto registers with every session of this process, even if it does nothing."""
    boto_session.events.unregister("before-send", cast("Any", botocore_stubber))


@pytest.fixture
def session(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, wire: Wire, server: str
) -> Iterator[Session]:
    """A session whose S3 is the server's, with a bucket of the user's in it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with contextlib.ExitStack() as stack:
        if server == "moto":
            stack.enter_context(moto.mock_aws())
        elif server == "engine":
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # nothing goes there
        else:
            monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("http")[0])
            monkeypatch.setenv("PROCESSING_TRANSFERS", "fast" if server.endswith("obstore") else "core")
            for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.delenv(name, raising=False)
        boto_session = boto3.Session(region_name="eu-west-1")
        if server.startswith("engine by"):
            remove_moto(boto_session)
        if server == "engine":
            boto_session.events.register("before-send", wire.hook)
        where: Any = {"LocationConstraint": "eu-west-1"}
        with contextlib.closing(boto_session.client("s3")) as client:
            client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
        if server == "moto":
            # botocore calls every handler of the event: moto's own would answer, and carry out, a second time.
            remove_moto(boto_session)
            boto_session.events.register("before-send", wire.hook)
        wire.requests.clear()
        made = Session(boto_session, default_bucket=BUCKET, clock=VirtualClock(), retry_policy=RetryPolicy(attempts=3))
        stack.enter_context(contextlib.closing(made.client("s3")))
        yield made
