"""One connection of a client to the server, served by one thread: read a request, answer it, wait for the next.

Strategy:

- A body is read only after the key, the scope and the time of the signature have been checked. So a client without a
  key costs no memory, and holds no thread for long.
- Small bodies are read at once. Bodies of S3 stay streams, so that a large object is never held in memory.
- Timeouts are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO). Python's would cost a system call before each read and write.
- Answers from a file go out by sendfile, without a copy in this process.
- An unread rest of a body is drained if it is small, so that the connection can serve the next request. Otherwise the
  connection closes, but lingers: the server ends its own side, then reads and discards for a short time. If it closed
  with unread data, the kernel would send a reset, and the client would lose the answer.
- A connection that fails before the next request has arrived ends without an answer, since clients then try again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Protocol

from processing.local.errors import ApiError
from processing.local.protocols import codec, http1
from processing.local.protocols.message import CHUNK, MAX_DECOMPRESSED, FileSection, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from processing.local.protocols.http1 import RequestHead
    from processing.local.stores.bodies import Readable

logger = logging.getLogger(__name__)

STALL_SECONDS = 30.0
"""The longest wait for the next bytes within a request."""

IDLE_ROUNDS = 20
"""The longest wait for the next request, in units of STALL_SECONDS: 10 minutes, since clients keep a pool."""

SEND_SECONDS = 300.0
"""The longest wait for a client to accept more bytes of an answer. It may work on the bytes that it has."""

HEAD_SECONDS = 30.0
"""The time limit for a whole head. It ends clients that send a byte now and then to hold a connection (slowloris)."""

MIN_BODY_RATE = 1024
"""The least average rate of a body in bytes per second, after the first minute, for the same reason."""

EVICTABLE_SECONDS = 2.0
"""The wait for bytes of a body after which a connection may be closed to make room. Local clients send at once."""

SMALL_BODY = 1 << 16
"""The largest body that is read at once, in bytes."""

MAX_DRAINED = 1 << 20
"""The largest unread rest of a body that is drained, in bytes. Beyond it a new connection is cheaper."""

LINGER_BYTES, LINGER_SECONDS = 1 << 26, 2
"""Limits on the data that is discarded after the last answer. Without lingering, a sending client would lose it."""

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class ServerContext(Protocol):
    """The part of the server that a connection uses."""

    stopping: bool

    def respond(self, request: Request, head: RequestHead, body: RequestBody, request_id: str) -> Response:
        """Return the answer to a request.

        Args:
            request: the request without its body.
            head: its head.
            body: its body, which may stay unread.
            request_id: its id in logs and answers.

        Raises:
            ConnectionLost, OSError: the connection cannot be used any further.
        """

    def connection_closed(self, connection: Connection) -> None:
        """Record that a connection has ended."""


class ConnectionLost(Exception):  # noqa: N818 - an event, not an error of the program
    """The client closed the connection, or was too slow."""


class Connection:
    """A connection, served by one thread.

    Args:
        sock: the accepted socket. It is closed at the end.
        server: the server.

    Attributes:
        idle_since: the start of the wait for the next request, or for the rest of its head, by the monotonic clock.
            None while a request is served.
        evicted_at: the time of the server's decision to close the connection, or None.
    """

    def __init__(self, sock: socket.socket, server: ServerContext) -> None:
        self.idle_since: float | None = time.monotonic()
        self.evicted_at: float | None = None
        self._lingers_since: float | None = None
        self._body: RequestBody | None = None
        self._socket = sock
        self._server = server
        self._incoming = _ReceiveBuffer(sock)
        self._interrupted = False

    def run(self) -> None:
        """Serve requests until either side ends the connection."""
        try:
            _configure(self._socket)
            while self._serve_one():
                pass
        except (ConnectionLost, OSError):
            pass
        except Exception:
            # The head of an answer is already sent, so a stream that fails cannot become an error answer any more.
            logger.exception("a connection broke off")
        finally:
            self._socket.close()
            self._server.connection_closed(self)

    def stalled_since(self, now: float) -> float | None:
        """Return the start of a wait for the client that may end to make room, or None. Called by another thread.

        The connection waits for the next request or its head, or for a body that arrives slowly. Or the client has its
        last answer and does not close.
        """
        body = self._body
        slow = None if body is None else body.slow_since(now)
        return next((each for each in (self.idle_since, self._lingers_since, slow) if each is not None), None)

    def evict(self, now: float) -> None:
        """End the connection to make room. Called by another thread."""
        self.evicted_at = now
        if self.idle_since is not None:
            self.interrupt()
        else:
            self.abort()

    def interrupt(self) -> None:
        """End the wait for the next request. Called by another thread."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def abort(self) -> None:
        """End the connection at once, also within a request. Called by another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _serve_one(self) -> bool:
        """Answer the next request and return whether there may be another one."""
        self.idle_since = time.monotonic()
        if self._server.stopping or not self._incoming.wait_for_request():
            return False
        self.idle_since = time.monotonic()
        request_id = codec.new_request_id()
        try:
            head = http1.parse_head(self._incoming.read_head())
            self.idle_since = None
        except ApiError as error:
            self.idle_since = None
            if self._interrupted:  # clients retry after a closed connection, but not after an error answer
                return False
            blank = Request("GET", "", "/", "", {})
            self._send(blank, codec.error_response(error, blank, request_id), keeps=False, chunks=False)
            self._linger()
            return False
        return self._answer(head, request_id)

    def _answer(self, head: RequestHead, request_id: str) -> bool:
        self._body = body = RequestBody(self._incoming, head, self._socket)
        request = Request(head.method, head.host, head.path, head.query, head.headers)
        response = self._server.respond(request, head, body, request_id)
        keeps = head.keep_alive and body.can_drain() and not self._server.stopping
        keeps = self._send(request, response, keeps=keeps, chunks=not head.is_http_1_0) and keeps
        if keeps and body.drain():
            return True
        if body.unread:
            self._linger()
        return False

    def _send(self, request: Request, response: Response, *, keeps: bool, chunks: bool) -> bool:
        """Send an answer and return whether the connection can serve another request."""
        headers, body = response.headers, response.body
        bodiless = request.method == "HEAD" or response.status in {204, 304}
        if response.status in {204, 304}:
            headers.pop("Content-Length", None)
        ends = bodiless or "Content-Length" in headers
        if not ends and chunks:
            headers["Transfer-Encoding"] = "chunked"
        keeps = keeps and (ends or chunks)
        if not keeps:
            headers["Connection"] = "close"
        head = http1.response_head(response.status, headers)
        try:
            if isinstance(body, bytes):
                self._socket.sendall(head if bodiless else head + body)
            elif bodiless:
                self._socket.sendall(head)
            elif ends:
                self._send_known(head, body, int(headers["Content-Length"]))
            else:
                self._send_stream(head, body, chunks=chunks)
        finally:
            if not isinstance(body, bytes):
                _close(body)
        return keeps

    def _send_known(self, head: bytes, body: Readable, length: int) -> None:
        if length <= SMALL_BODY:
            self._socket.sendall(head + _read_exactly(body, length))
            return
        self._socket.sendall(head)
        if isinstance(body, FileSection) and hasattr(os, "sendfile"):
            while body.left:
                if not body.send(self._socket.fileno(), 1 << 22):
                    raise ConnectionLost
            return
        while length:
            piece = body.read(min(length, CHUNK))
            if not piece:  # the client notices by the length
                raise ConnectionLost
            self._socket.sendall(piece)
            length -= len(piece)

    def _send_stream(self, head: bytes, body: Readable, *, chunks: bool) -> None:
        self._socket.sendall(head)
        while not self._server.stopping and (piece := body.read(CHUNK)):
            self._socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunks else piece)
        if chunks and not self._server.stopping:
            self._socket.sendall(b"0\r\n\r\n")

    def _linger(self) -> None:
        """Discard further data for a short time, so that a client that is still sending receives its answer."""
        self._lingers_since = time.monotonic()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            deadline, left = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
            _set_timeout(self._socket, socket.SO_RCVTIMEO, LINGER_SECONDS)
            while left > 0 and time.monotonic() < deadline and (piece := self._socket.recv(CHUNK)):
                left -= len(piece)


class _ReceiveBuffer:
    """The bytes that a client has sent and that are not consumed yet."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = b""

    @property
    def available(self) -> int:
        """The number of bytes in the buffer."""
        return len(self._buffer)

    def wait_for_request(self) -> bool:
        """Wait for the first byte of a request. Return False if none arrives."""
        for _ in range(IDLE_ROUNDS):
            self._buffer = self._buffer.lstrip(b"\r\n")
            if self._buffer:
                return True
            try:
                self._buffer = self._socket.recv(SMALL_BODY)
            except BlockingIOError:
                continue
            if not self._buffer:
                return False
        return False

    def read_head(self) -> bytes:
        """Return the head of the request. The bytes after it stay in the buffer.

        Raises:
            ApiError: the head is too long, too slow or incomplete.
        """
        deadline = time.monotonic() + HEAD_SECONDS
        while (end := http1.end_of_head(self._buffer)) is None:
            if time.monotonic() > deadline:
                raise timeout_error()
            try:
                more = self._socket.recv(SMALL_BODY)
            except BlockingIOError:
                raise timeout_error() from None
            if not more:
                raise ApiError("IncompleteRequest", "The request ended within its head.")
            self._buffer += more
        head, self._buffer = self._buffer[:end], self._buffer[end:]
        return head

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer if the client sends no more.

        Raises:
            ApiError: no byte arrives in time.
        """
        have = self._buffer
        if len(have) >= size:
            self._buffer = have[size:]
            return have[:size]
        self._buffer = b""
        try:
            more = self._socket.recv(size - len(have), socket.MSG_WAITALL)
        except BlockingIOError:
            more = b""
            if not have:
                raise timeout_error() from None
        return have + more if have else more

    def read_line(self) -> bytes:
        """Return a line without its end.

        Raises:
            ApiError: the line is too long, too slow, incomplete, or does not end with CR LF.
        """
        while b"\n" not in self._buffer:
            if len(self._buffer) > http1.MAX_REQUEST_LINE:
                raise chunk_error()
            try:
                more = self._socket.recv(SMALL_BODY)
            except BlockingIOError:
                raise timeout_error() from None
            if not more:
                raise incomplete_body_error()
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        if not line.endswith(b"\r"):
            raise chunk_error()
        return line[:-1]


class RequestBody:
    """The body of a request as a stream that ends with the body.

    Attributes:
        unread: whether a part of the body is, or may be, unread.
        may_be_awaited: whether the server may wait for the body, because the client has a key.
    """

    def __init__(self, incoming: _ReceiveBuffer, head: RequestHead, sock: socket.socket) -> None:
        self._incoming = incoming
        self._left = head.length
        self._chunk = 0
        self._first = True
        self._continue_socket = sock if head.expects_continue else None
        self._received = 0
        self._started_at = time.monotonic()
        self._awaited_since: float | None = None
        self.unread = head.length != 0
        self.may_be_awaited = False

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes (all for -1), or b"" at the end.

        Raises:
            ApiError: the body is incomplete, malformed or too slow.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if not self.unread or not size:
            return b""
        if self._continue_socket is not None:
            self._continue_socket.sendall(http1.CONTINUE)
            self._continue_socket = None
        self._awaited_since = time.monotonic()
        data = self._read_sized(size) if self._left is not None else self._read_chunked(size)
        self._awaited_since = None
        self._received += len(data)
        elapsed = time.monotonic() - self._started_at
        if elapsed > 60 and self._received < elapsed * MIN_BODY_RATE and self.unread:
            raise timeout_error()
        return data

    def slow_since(self, now: float) -> float | None:
        """Return the start of the wait for bytes of the body, or of a body that is slow on the whole, or None."""
        awaited = self._awaited_since
        if awaited is None:
            return None
        elapsed = now - self._started_at
        is_slow = elapsed > EVICTABLE_SECONDS and self._received < elapsed * MIN_BODY_RATE
        since = self._started_at if is_slow else awaited
        return since if now - since > EVICTABLE_SECONDS else None

    def _read_sized(self, size: int) -> bytes:
        assert self._left is not None
        data = self._incoming.read(min(size, self._left, 1 << 20))
        if not data:
            raise incomplete_body_error()
        self._left -= len(data)
        self.unread = self._left > 0
        return data

    def _read_chunked(self, size: int) -> bytes:
        if not self._chunk and not self._next_chunk():
            return b""
        data = self._incoming.read(min(size, self._chunk, 1 << 20))
        if not data:
            raise incomplete_body_error()
        self._chunk -= len(data)
        return data

    def _next_chunk(self) -> bool:
        if not self._first and self._incoming.read_line():
            raise chunk_error()
        self._first = False
        size = self._incoming.read_line().partition(b";")[0].strip(b" \t")
        if not _CHUNK_SIZE.fullmatch(size):
            raise chunk_error()
        self._chunk = int(size, 16)
        if not self._chunk:
            trailers = 0
            while self._incoming.read_line():
                trailers += 1
                if trailers > http1.MAX_HEADERS:
                    raise chunk_error()
            self.unread = False
        return self.unread

    def can_drain(self) -> bool:
        """Return whether the unread rest is small enough to drain.

        It is not known to be if the client waits for `100 Continue`: it may still send the body, or not. The rest of a
        request without a valid key is drained if it has already arrived.
        """
        if not self.unread:
            return True
        if self._continue_socket is not None or self._left is None:
            return False
        return self._left <= (MAX_DRAINED if self.may_be_awaited else self._incoming.available)

    def drain(self) -> bool:
        """Read and discard the rest. Return whether that succeeded."""
        try:
            while self.read(CHUNK):
                pass
        except ApiError:
            return False
        return True


_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")


def with_body(request: Request, head: RequestHead, body: RequestBody) -> Request:
    """Return the request with its body: bytes if it is small, a stream if it may be an object of S3.

    Raises:
        ApiError: the body has to be held in memory, and is too large for that.
    """
    if head.length is not None and head.length <= SMALL_BODY and not head.expects_continue:
        return _replace_body(request, _read_exactly(body, head.length))
    if codec.is_of_object_service(request):
        return _replace_body(request, body)
    if head.length is not None and head.length > MAX_DECOMPRESSED:
        raise ApiError("RequestEntityTooLargeException", "The request is too large.", 413)
    return _replace_body(request, _replace_body(request, body).raw_content())


def _replace_body(request: Request, body: bytes | Readable) -> Request:
    return Request(request.method, request.host, request.path, request.query, request.headers, body)


def _read_exactly(body: Readable, length: int) -> bytes:
    data = body.read(length)
    while len(data) < length:
        more = body.read(length - len(data))
        if not more:
            raise ConnectionLost
        data += more
    return data


def printable(text: str) -> str:
    """Return text from a request for a log: at most 1,000 characters, other characters than printable ASCII escaped."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text[:1000])


def timeout_error() -> ApiError:
    """Return the error for a client that is too slow."""
    message = "Your socket connection to the server was not read from or written to within the timeout period."
    return ApiError("RequestTimeout", message, 408)


def incomplete_body_error() -> ApiError:
    """Return the error for an incomplete body."""
    message = "You did not provide the number of bytes specified by the Content-Length HTTP header"
    return ApiError("IncompleteBody", message)


def chunk_error() -> ApiError:
    """Return the error for a malformed chunked body."""
    return ApiError("InvalidChunk", "The chunks of the request body are malformed.")


def _close(body: Any) -> None:
    close: Callable[[], None] | None = getattr(body, "close", None)
    if close is not None:
        close()


def _configure(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The kernel's timeouts. With Python's, each read and write would need another system call before it.
    sock.settimeout(None)
    _set_timeout(sock, socket.SO_RCVTIMEO, STALL_SECONDS)
    _set_timeout(sock, socket.SO_SNDTIMEO, SEND_SECONDS)


def _set_timeout(sock: socket.socket, option: int, seconds: float) -> None:
    microseconds = round(seconds * 1_000_000)
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", *divmod(microseconds, 1_000_000)))
