"""Faults on real sockets: an HTTP proxy in front of a service, for any client with an endpoint URL.

```python
faults = FaultInjector(seed=7).on("CreateProcessingJob", "reset_after")
with Server(session.engine) as server, FaultProxy(faults, server.endpoint) as proxy:
    boto3.client("sagemaker", endpoint_url=proxy.endpoint, ...)
```

Requests pass unchanged, Host header included, so that signatures stay valid. Resets are TCP RST segments.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import tempfile
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from processing._utils.validation import CLOCK, Kind, require, with_methods
from processing.clock import SYSTEM_CLOCK
from processing.testing.refusals import is_refusal, refusal
from processing.testing.wire import operation_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message
    from types import TracebackType

    from processing.clock import Clock
    from processing.testing.faults import Fault, FaultInjector

_CHUNK: Final = 1 << 16
_IN_MEMORY: Final = 1 << 20  # bytes of a request's body, beyond which it goes to a file
_PIECES: Final = 16  # the number of parts of a slow body
_POLL = 0.05  # seconds between two checks whether to stop
_UPSTREAM_SECONDS = 300.0  # the time limit for an answer of the service


def _is_http_url(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        split = urlsplit(value)
        return split.scheme == "http" and bool(split.hostname) and split.port != 0
    except ValueError:
        return False


_URL = Kind("a URL such as http://127.0.0.1:4566", _is_http_url)


class FaultProxy:
    """A reverse proxy with faults. As a context manager it serves within the block.

    Slow faults take real time: `hang` and `timeout_after` keep the connection open until the client gives up, and
    `slow_body` lasts its seconds. `unreachable` is a connection that is reset at once.

    Args:
        injector: the source of faults.
        upstream: the URL of the service, `http://host:port`.
        clock: the clock for slow bodies, and for the Date header of refusals.

    Raises:
        ConfigurationError: an argument has a wrong type, or the URL is not an HTTP URL.

    Attributes:
        endpoint: the URL for clients.
    """

    def __init__(self, injector: FaultInjector, upstream: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        require("injector", injector, with_methods("a FaultInjector", "choose"))
        require("upstream", upstream, _URL)
        require("clock", clock, CLOCK)
        split = urlsplit(upstream)
        assert split.hostname is not None
        self._server = _ProxyServer(injector, (split.hostname, split.port or 80), clock)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="fault-proxy", daemon=True
        )
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Begin to serve in background threads."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections, and return when all threads have ended."""
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> FaultProxy:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@attrs.frozen
class FaultyEndpoint:
    """The engine over HTTP, behind the fault proxy.

    Args:
        url: the endpoint for clients.
        environment: the variables that point any AWS client at it, and at nothing else.
    """

    url: str
    environment: Mapping[str, str]


class _ProxyServer(ThreadingTCPServer):
    daemon_threads = False  # server_close() waits for them
    request_queue_size = 1024

    def __init__(self, injector: FaultInjector, upstream: tuple[str, int], clock: Clock) -> None:
        self.injector = injector
        self.upstream = upstream
        self.clock = clock
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _ProxyHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        if request.fileno() != -1 and _is_to_be_reset(request):
            request.close()
        else:
            super().shutdown_request(request)

    def end_connections(self) -> None:
        """Shut all connections down, which wakes the threads that wait for clients."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: a client or the service closed a connection, and both ends know."""


_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time: closing sends a RST


def _is_to_be_reset(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET)) == _RESET


@attrs.frozen
class _ReceivedRequest:
    """A request of a client.

    Args:
        method: the method in capitals.
        target: the target in the request line.
        url: the whole URL.
        headers: the headers.
        content: the bytes of the body, with the framing of chunks if it is chunked.
    """

    method: str
    target: str
    url: str
    headers: Any
    content: IO[bytes]

    @property
    def body(self) -> bytes:
        """The body as bytes. It names the operation if it is a form."""
        self.content.seek(0)
        return self.content.read()


class _ProxyHandler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are separate writes
    server: _ProxyServer

    def handle_one_request(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.raw_requestline = self.rfile.readline(_CHUNK)
            if not self.raw_requestline or not self.parse_request():
                return
            self.close_connection = self.headers.get("Connection", "").lower() == "close"
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as content:
                for piece in _raw_body(self.rfile, self.headers):
                    content.write(piece)
                target = self.requestline.split()[1]  # `path` may be normalised
                url = f"http://{self.headers.get('Host')}{target}"
                self._answer(_ReceivedRequest(self.command, target, url, self.headers, content))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class has this name
        """Log nothing."""

    def _answer(self, request: _ReceivedRequest) -> None:
        fault = self.server.injector.choose(operation_of(request))
        if fault is None:
            self._forward(request)
        elif is_refusal(fault.kind):
            self._refuse(request, fault)
        elif fault.kind in {"unreachable", "reset_before"}:
            self._reset()
        elif fault.kind == "hang":
            self._wait_for_client()
        else:
            self._answer_with_fault(request, fault)

    def _answer_with_fault(self, request: _ReceivedRequest, fault: Fault) -> None:
        """Carry the request out, and let its answer fail."""
        if fault.kind in {"reset_after", "timeout_after", "double"}:
            with self._upstream(request) as response:
                response.read()
        if fault.kind == "reset_after":
            self._reset()
        elif fault.kind == "timeout_after":
            self._wait_for_client()
        else:
            self._forward(request, fault)

    def _refuse(self, request: _ReceivedRequest, fault: Fault) -> None:
        ahead = fault.seconds if fault.kind == "skew" else 0.0
        status, headers, body = refusal(fault.kind, request, self.server.clock.time() + ahead)
        self._head(status, {**headers, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _forward(self, request: _ReceivedRequest, fault: Fault | None = None) -> None:
        with self._upstream(request) as response:
            kind = fault.kind if fault else None
            self._head(response.status, response.headers)
            if kind == "truncate" and request.method != "HEAD":
                self._send_half(response)
            elif fault and kind == "slow_body":
                self._send_slowly(response, fault.seconds)
            else:
                while piece := response.read1(_CHUNK):
                    self._send(response, piece)
                self._send(response, b"")

    @contextlib.contextmanager
    def _upstream(self, request: _ReceivedRequest) -> Iterator[http.client.HTTPResponse]:
        """Forward the request unchanged, and yield the answer."""
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=_UPSTREAM_SECONDS)
        with contextlib.closing(connection):
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            request.content.seek(0)
            while piece := request.content.read(_CHUNK):
                connection.send(piece)
            with connection.getresponse() as response:
                yield response

    def _head(self, status: int, headers: Mapping[str, str] | Message) -> None:
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self.close_connection = self.close_connection or headers.get("Connection", "").lower() == "close"

    def _send(self, response: http.client.HTTPResponse, piece: bytes) -> None:
        """Send a piece of the body in the framing of the head. An empty piece ends the body."""
        if not response.chunked:
            self.wfile.write(piece)
        else:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _send_half(self, response: http.client.HTTPResponse) -> None:
        whole = response.read()
        frame = b"%x\r\n" % len(whole) if response.chunked else b""
        self.wfile.write(frame + whole[: len(whole) // 2])
        self.close_connection = True

    def _send_slowly(self, response: http.client.HTTPResponse, seconds: float) -> None:
        whole = response.read()
        size = max(1, -(-len(whole) // _PIECES))
        for start in range(0, len(whole), size):
            self.server.clock.sleep(seconds / _PIECES)
            self._send(response, whole[start : start + size])
        self._send(response, b"")

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close_connection = True

    def _wait_for_client(self) -> None:
        """Wait until the client gives up or the proxy stops."""
        self.close_connection = True
        while self.connection.recv(_CHUNK):
            pass


def _raw_body(file: Any, headers: Message) -> Iterator[bytes]:
    """Yield the bytes of a request's body, with the framing of chunks."""
    if headers.get("Transfer-Encoding", "").lower() != "chunked":
        left = int(headers.get("Content-Length") or 0)
        while left and (piece := file.read(min(left, _CHUNK))):
            left -= len(piece)
            yield piece
        return
    while True:
        line = file.readline(_CHUNK)
        yield line
        size = int(line.partition(b";")[0], 16)
        yield file.read(size + 2) if size else file.readline(_CHUNK)
        if not size:
            return
