"""Requests to a web server in the same container: streamed both ways, on a connection for each request.

A connection is not used twice. A server may close an idle one at any moment, and a POST that was lost there must not
be repeated.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

from processing.container.shim.http1 import (
    LONGEST_WAIT,
    CutOffError,
    Head,
    Headers,
    HttpError,
    Incoming,
    MessageBody,
    encode_head,
    header,
    parse_answer,
    wait_for,
)

CONNECT_SECONDS = 5.0
"""The longest time until a server on the same machine accepts a connection."""
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection (RFC 9110, section 7.6.1), which a proxy does not forward."""


class UpstreamError(Exception):
    """A request that has no answer.

    Args:
        status: the status for the client: 502, 503 or 504.
        message: the reason.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class UpstreamRequest(NamedTuple):
    """A request.

    Attributes:
        method: the method.
        target: the path, with a query if there is one.
        headers: the headers, without those of the connection.
        length: the length of the body; None if it is not known.
        pieces: the body.
    """

    method: str
    target: str
    headers: Sequence[Tuple[str, str]] = ()
    length: Optional[int] = 0
    pieces: Iterable[bytes] = ()


class UpstreamAnswer:
    """The answer to a request.

    Attributes:
        head: its head.
        early: whether it came before the request was sent in whole.
    """

    def __init__(self, head: Head, body: MessageBody, seconds: float, *, early: bool) -> None:
        self.head = head
        self.early = early
        self._body = body
        self._seconds = seconds

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in the pieces in which it arrives.

        Raises:
            UpstreamError: the server closes the connection within the body, or is silent for too long.
        """
        with _errors(self._seconds, "within its answer"):
            while True:
                piece = self._body.read(time.monotonic() + self._seconds)
                if not piece:
                    return
                yield piece


@contextlib.contextmanager
def ask(
    port: int, request: UpstreamRequest, seconds: float, client: Optional[socket.socket] = None
) -> Iterator[UpstreamAnswer]:
    """Send a request to a port of 127.0.0.1, and yield the answer.

    Args:
        port: the port.
        request: the request.
        seconds: the longest time until the answer begins, and between two of its pieces.
        client: the socket of the client that the request is for. The request ends if the client goes.

    Raises:
        UpstreamError: there is no answer.
        PeerLostError: the client went away.
    """
    sock = _connect(port)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(min(seconds, LONGEST_WAIT))
        early = _send(sock, port, request)
        incoming = Incoming(sock, client)
        with _errors(seconds, "without an answer"):
            head = _read_head(incoming, time.monotonic() + seconds)
            body = MessageBody(incoming, head)
        yield UpstreamAnswer(head, body, seconds, early=early)
    finally:
        sock.close()


def require_listening(port: int) -> None:
    """Check that a server accepts connections at a port of 127.0.0.1.

    Raises:
        UpstreamError: there is none.
    """
    _connect(port).close()


def end_to_end(headers: Headers, *others: str) -> Headers:
    """Return headers without those of the connection, those that `Connection` names, the length, and others."""
    named = {each.strip().lower() for each in header(headers, "connection").split(",")}
    left_out = _HOP_BY_HOP | named | {"content-length"} | set(others)
    return [(name, value) for name, value in headers if name not in left_out]


def _connect(port: int) -> socket.socket:
    try:
        return socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS)
    except (TimeoutError, socket.timeout):
        raise UpstreamError(504, "the program accepted no connection within %d seconds" % CONNECT_SECONDS) from None
    except OSError as error:
        raise UpstreamError(503, "the program does not listen at port %d (%s)" % (port, error.strerror)) from None


def _send(sock: socket.socket, port: int, request: UpstreamRequest) -> bool:
    """Send a request. Return whether the server answers, or has closed the connection, before its end."""
    headers = [("host", "127.0.0.1:%d" % port), *request.headers, ("connection", "close")]
    chunked = request.length is None
    if chunked:
        headers.append(("transfer-encoding", "chunked"))
    elif request.length or request.method != "GET":
        headers.append(("content-length", str(request.length)))
    waiting = encode_head("%s %s HTTP/1.1" % (request.method, request.target), headers)
    for piece in request.pieces:
        if not _send_piece(sock, waiting + (b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)):
            return True
        waiting = b""
    waiting += b"0\r\n\r\n" if chunked else b""
    return bool(waiting) and not _send_piece(sock, waiting)


def _send_piece(sock: socket.socket, data: bytes) -> bool:
    """Send data; return False if the server does not take it because it answers already, or has gone."""
    try:
        if _is_readable(sock):
            return False
        sock.sendall(data)
    except socket.timeout:
        raise UpstreamError(504, "the program did not read the request in time") from None
    except OSError:
        return False
    return True


def _is_readable(sock: socket.socket) -> bool:
    with contextlib.suppress(TimeoutError):
        wait_for(sock, select.POLLIN, 0)
        return True
    return False


def _read_head(incoming: Incoming, deadline: float) -> Head:
    """Return the head of the final answer; interim ones, such as `100 Continue`, are skipped."""
    while True:
        data = incoming.read_head(deadline)
        if not data:
            raise CutOffError
        head = parse_answer(data)
        if head.status == 101:
            raise HttpError(502, "the program changed the protocol")
        if head.status >= 200:
            return head


@contextlib.contextmanager
def _errors(seconds: float, place: str) -> Iterator[None]:
    """Turn errors of a connection into those of this module."""
    try:
        yield
    except TimeoutError:
        raise UpstreamError(504, "the program was silent for %g seconds %s" % (seconds, place)) from None
    except (CutOffError, ConnectionError):
        raise UpstreamError(502, "the program closed the connection %s" % place) from None
    except HttpError as error:
        raise UpstreamError(502, "the program's answer is not HTTP: %s" % error) from None
