"""An HTTP client for the program of a host: kept-alive connections, and time limits for whole calls."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.container.relay import PORT
from processing.local.hosting.broker import receive_connection, socket_path

if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterator, Mapping

MAX_BODY = 6 << 20
"""The most bytes of a request or an answer of InvokeEndpoint: 6 MiB."""
INVOCATION_SECONDS = 60.0
"""The time in which a program has to answer an invocation, as on AWS."""
STREAM_SECONDS = 480.0
"""The time in which a program has to end a streamed answer, as on AWS."""
_CHUNK = 1 << 18
_SMALL = 1 << 16
"""The bytes of a request that is sent at once."""
_PAUSE = 0.01
"""The seconds between two attempts to connect to a program that is ending."""
_HEADERS = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes",
    "InferenceId": "X-Amzn-SageMaker-Inference-Id",
    "SessionId": "X-Amzn-SageMaker-Session-Id",
}
"""The headers of the program's request, by the parameters of an invocation that have their values."""
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)


class ProgramError(Exception):
    """A call that the program did not answer. The message is a sentence for the caller."""


class NotConnectedError(ProgramError):
    """A call that did not reach the program: a second one repeats nothing."""


class ProgramTimeoutError(ProgramError):
    """A call that the program did not answer in time."""


class BrokenAnswerError(ProgramError):
    """A call after which the program closed the connection, or answered something other than HTTP."""


class NoAnswerError(BrokenAnswerError):
    """A call after which the program closed the connection without a byte of an answer."""


class AnswerTooLargeError(ProgramError):
    """A call whose answer exceeds the limit."""


class Call(NamedTuple):
    """A request to the program.

    Attributes:
        method: `GET` or `POST`.
        path: such as `/invocations`.
        headers: the headers, without Content-Length.
        body: the body.
        seconds: the time for the whole call; for a streamed answer, the time until it begins.
        limit: the most bytes of the answer's body; None for any number.
    """

    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    seconds: float = INVOCATION_SECONDS
    limit: int | None = MAX_BODY


class Answer(NamedTuple):
    """The program's answer. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def invocation_headers(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers for the program of an invocation with these parameters."""
    return {header: params[member] for member, header in _HEADERS.items() if params.get(member)}


def connect(folder: str, deadline: float, *, patient: bool = True) -> socket.socket:
    """Return a connection to the program of a host, as soon as it is healthy.

    Args:
        folder: the host's folder.
        deadline: the time, by `time.monotonic`, at which to give up.
        patient: whether to wait for the start of another program if this one is ending.

    Raises:
        NotConnectedError: the host's supervisor has ended, or the program is ending.
        ProgramTimeoutError: the program was not healthy in time.
    """
    while True:
        connection = _connection_of_broker(folder, deadline)
        if _finish_connecting(connection, deadline):
            return connection
        if not patient:  # the program is ending, and its supervisor notices that in a moment
            raise NotConnectedError("The program is ending.")
        time.sleep(min(_PAUSE, _left(deadline)))


def _connection_of_broker(folder: str, deadline: float) -> socket.socket:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as broker:
        try:
            broker.settimeout(_left(deadline))
            with socket_path(folder) as path:
                broker.connect(path)
            descriptor = receive_connection(broker)
        except TimeoutError:
            raise ProgramTimeoutError("The program was not healthy in time.") from None
        except OSError:
            descriptor = None
    if descriptor is None:
        raise NotConnectedError("The host of the program is gone.")
    return socket.socket(fileno=descriptor)


def connected(made: _socket.socket, deadline: float) -> socket.socket:
    """Return a socket that connects to a program, once it is connected.

    Raises:
        NotConnectedError: no process listens there.
        ProgramTimeoutError: the program accepted no connection in time.
    """
    connection = socket.socket(fileno=made.detach())
    if _finish_connecting(connection, deadline):
        return connection
    raise NotConnectedError("The program is ending.")


def _finish_connecting(connection: socket.socket, deadline: float) -> bool:
    """Return whether a socket that connects is connected now. Otherwise close it."""
    try:
        is_connected = _is_connected(connection, deadline)
    except BaseException:
        connection.close()
        raise
    if not is_connected:
        connection.close()
    return is_connected


def _is_connected(connection: socket.socket, deadline: float) -> bool:
    if not _is_ready(connection, select.POLLOUT, _left(deadline)):
        raise ProgramTimeoutError("The program accepted no connection in time.")
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def _is_ready(connection: socket.socket, event: int, seconds: float) -> bool:
    """Return whether a socket is ready within a time. Unlike `select`, `poll` takes descriptors above 1023."""
    poll = select.poll()
    poll.register(connection, event)
    return bool(poll.poll(seconds * 1000))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ProgramTimeoutError("The program did not answer in time.")
    return left


class _Requests(http.client.HTTPConnection):
    """A connection that sends head and body of a small request at once, so that the program wakes up once."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__("localhost", PORT)
        self.sock = connection
        self.auto_open = 0
        self._parts: list[bytes] = []

    def send(self, data: Any) -> None:
        """Keep a part of the request."""
        self._parts.append(data)

    def flush(self) -> None:
        """Send the request."""
        parts, self._parts = self._parts, []
        if sum(map(len, parts)) <= _SMALL:
            parts = [b"".join(parts)]
        for part in parts:
            self.sock.sendall(part)


class ProgramConnection:
    """A connection to a program, for one call after another.

    Args:
        connection: the socket of the connection.

    Attributes:
        reused: whether the connection has served a call before.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.reused = False
        self._socket = connection
        self._http = _Requests(connection)

    def is_idle(self) -> bool:
        """Return whether the connection waits for a request: the program has neither closed it nor sent anything."""
        return not self.closed and not _is_ready(self._socket, select.POLLIN, 0)

    def ask(self, call: Call) -> Answer:
        """Return the program's answer. After an error the connection is closed.

        Raises:
            ProgramError: there is no answer, or it exceeds the limit.
        """
        deadline = time.monotonic() + call.seconds
        with self._closing_on_error():
            response = self._send(call, deadline)
            body = b"".join(self._pieces(response, call.limit, deadline))
            if response.will_close:
                self.close()
            self.reused = True
            return Answer(response.status, _headers(response), body)

    @contextlib.contextmanager
    def stream(self, call: Call) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Yield the head of the program's answer, and the pieces of its body as they arrive.

        The connection is closed afterwards, unless the answer was read to its end.

        Raises:
            ProgramError: there is no answer. The iterator raises it too.
        """
        deadline = time.monotonic() + call.seconds
        with self._closing_on_error():
            response = self._send(call, deadline)
            pieces = self._pieces(response, call.limit, deadline + STREAM_SECONDS)
            yield Answer(response.status, _headers(response), b""), self._guarded(pieces)
            if response.will_close or not response.isclosed():
                self.close()
            self.reused = True

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
        self._socket.close()

    @property
    def closed(self) -> bool:
        """True if the connection is closed."""
        return self._socket.fileno() < 0

    def _guarded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        with self._closing_on_error():
            yield from pieces

    @contextlib.contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self.close()
            raise ProgramTimeoutError("The program did not answer in time.") from None
        except http.client.RemoteDisconnected:
            self.close()
            raise NoAnswerError("The program closed the connection without an answer.") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenAnswerError(_text_of(error)) from None
        except BaseException:
            self.close()
            raise

    def _send(self, call: Call, deadline: float) -> http.client.HTTPResponse:
        self._socket.settimeout(_left(deadline))
        self._http.request(call.method, call.path, call.body or None, dict(call.headers))
        # A program may answer before it has read the whole request, and close the connection.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._http.flush()
        if _QUICK_ACK is not None:
            # A program that writes its answer in two pieces would wait 40 ms between them for our acknowledgement.
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        self._socket.settimeout(_left(deadline))
        try:
            return self._http.getresponse()
        except ConnectionResetError:
            raise http.client.RemoteDisconnected("") from None

    def _pieces(self, response: http.client.HTTPResponse, limit: int | None, deadline: float) -> Iterator[bytes]:
        size = 0
        while True:
            # http.client gives up the socket when the answer ends with the connection; the response keeps it open.
            if not self.closed:
                self._socket.settimeout(_left(deadline))
            piece = response.read1(_CHUNK)
            if not piece:
                if response.length:  # read1 reports no early end, unlike read
                    raise http.client.IncompleteRead(b"", response.length)
                response.close()  # `read1` leaves it open, and then the connection takes no further request
                return
            size += len(piece)
            if limit is not None and size > limit:
                raise AnswerTooLargeError(f"The program's answer exceeds {limit} bytes.")
            yield piece


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def _text_of(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "The program closed the connection within its answer."
    if isinstance(error, OSError):
        return f"The connection to the program broke: {error.strerror or error}."
    return f"The program's answer is not HTTP ({type(error).__name__})."
