"""Web server with a thread for each connection, for the few clients that a container has.

Slow clients (slowloris) do not keep it from answering. A head has a time limit, and a body a least rate. Of too many
connections, the one that has kept the server waiting longest ends.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from http import HTTPStatus
from typing import Callable, Iterator, List, Optional, Set, Tuple

from processing.container.shim.errors import ShimError
from processing.container.shim.http1 import (
    CONTINUE,
    CutOffError,
    Head,
    Headers,
    HttpError,
    Incoming,
    MessageBody,
    encode_head,
    parse_request,
    wait_for,
)

IDLE_SECONDS = 600.0
"""The longest wait for the next request: clients keep connections."""
HEAD_SECONDS = 30.0
"""The longest time for a head, from its first byte."""
STALL_SECONDS = 30.0
"""The longest wait for the next bytes of a body."""
SEND_SECONDS = 300.0
"""The longest time for a client to take one piece of an answer."""
LEAST_RATE, SLOW_SECONDS = 1_024, 60.0
"""The least rate of a body in bytes per second, and the seconds of waiting after which it has to be kept."""
MOST_CONNECTIONS = 400
"""Each connection has a thread. SageMaker uses a few; batch transform at most 100."""
SMALL = 1 << 20
"""The most unread bytes of a body that are read after an answer, to keep the connection."""
LINGER_SECONDS, LINGER_BYTES = 2.0, 1 << 26
"""Limits on data that is discarded after the last answer. A close with unread data would lose the answer."""
_PATIENCE = 1.0
"""The longest wait for the rest of a request while the server stops."""
_POLL_SECONDS = 0.05


class Exchange:
    """One request, and the answer to it.

    Attributes:
        head: the head of the request.
        client: the socket of the client.
        answered: whether the answer has begun.
    """

    def __init__(self, connection: ClientConnection, head: Head) -> None:
        self.head = head
        self.client = connection.socket
        self.answered = False
        self.keep_alive = head.keep_alive
        self._connection = connection
        self._body: Optional[MessageBody] = None
        self._awaited = time.monotonic()
        self._waited = 0.0
        self._chunks = False

    def open_body(self, limit: Optional[int]) -> None:
        """Prepare for reading the body.

        Raises:
            HttpError: the body has more than `limit` bytes (status 413).
        """
        with self._last_on_error():
            self._body = MessageBody(self._connection.incoming, self.head, limit, self._send_continue)

    def read(self) -> bytes:
        """Return the next piece of the body; empty at its end.

        Raises:
            HttpError: the body is malformed, exceeds the limit, or is too slow.
            CutOffError: the connection ends within it.
        """
        body = self._opened()
        self._awaited = time.monotonic()
        with self._connection.waiting(self._slow_since), self._last_on_error():
            try:
                data = body.read(self._awaited + STALL_SECONDS)
            except TimeoutError:
                raise HttpError(408, "the body did not arrive in time") from None
            # Only waits for the client count: the reader of the body may be slow, or have waited for its turn.
            self._waited += time.monotonic() - self._awaited
            if not body.ended and self._waited > SLOW_SECONDS and body.received < self._waited * LEAST_RATE:
                raise HttpError(408, "the body arrives too slowly")
        return data

    def read_all(self) -> bytes:
        """Return the whole body."""
        return b"".join(iter(self.read, b""))

    def answer(self, status: int, body: bytes = b"", content_type: str = "application/json") -> None:
        """Send a whole answer."""
        headers = [("content-type", content_type)] if body else []
        head = self._head(status, [*headers, ("content-length", str(len(body)))])
        self._send(head if self.head.method == "HEAD" else head + body)

    def problem(self, status: int, message: str, field: str = "") -> None:
        """Send an answer with the reason of an error as JSON."""
        fields = {"error": message, "field": field} if field else {"error": message}
        self.answer(status, json.dumps(fields).encode("ascii"))

    def begin(self, status: int, headers: Headers, length: Optional[int]) -> None:
        """Send the head of an answer whose body follows in pieces.

        Args:
            status: the status.
            headers: the headers, without those of the connection.
            length: the length of the body; None if it is not known.
        """
        self._chunks = length is None and self.head.minor > 0
        if status in _WITHOUT_BODY:
            self._chunks = False
        elif length is not None:
            headers = [*headers, ("content-length", str(length))]
        elif self._chunks:
            headers = [*headers, ("transfer-encoding", "chunked")]
        else:
            self.keep_alive = False
        self._send(self._head(status, headers))

    def write(self, piece: bytes) -> None:
        """Send a piece of the body at once."""
        self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunks else piece)

    def end(self) -> None:
        """Send the end of a body of unknown length."""
        if self._chunks:
            self._send(b"0\r\n\r\n")

    def settle(self) -> bool:
        """Read a small rest of the body; return whether the connection can serve another request."""
        while self.keep_alive and not self._opened().ended:
            self.read()
        return self.keep_alive

    def _opened(self) -> MessageBody:
        if self._body is None:
            self.open_body(None)
        assert self._body is not None
        return self._body

    def _has_small_rest(self) -> bool:
        """Return whether the unread rest of the body is known to be small."""
        body = self._opened()
        if body.ended:
            return True
        length = self.head.length
        return (
            length is not None and length - body.received <= SMALL and not (self.head.expects_continue and body.awaited)
        )

    @contextlib.contextmanager
    def _last_on_error(self) -> Iterator[None]:
        """End the connection after a request whose end is not known."""
        try:
            yield
        except (HttpError, CutOffError):
            self.keep_alive = False
            raise

    def _head(self, status: int, headers: Headers) -> bytes:
        if self._connection.server.stopping or (self.keep_alive and not self._has_small_rest()):
            self.keep_alive = False
        if not self.keep_alive:
            headers = [*headers, ("connection", "close")]
        elif not self.head.minor:
            headers = [*headers, ("connection", "keep-alive")]
        return encode_head("HTTP/1.1 %d %s" % (status, _PHRASES.get(status, "Unknown")), headers)

    def _send(self, data: bytes) -> None:
        self.answered = True
        self.client.settimeout(SEND_SECONDS)
        self.client.sendall(data)

    def _send_continue(self) -> None:
        if self.head.expects_continue and not self.answered:
            self.client.settimeout(SEND_SECONDS)
            self.client.sendall(CONTINUE)

    def _slow_since(self, now: float) -> Optional[float]:
        waited = self._waited + now - self._awaited
        is_slow = self._body is not None and self._body.received < waited * LEAST_RATE
        return now - waited if is_slow else self._awaited


class ClientConnection:
    """A connection, served by one thread.

    Attributes:
        socket: the socket.
        incoming: the bytes that arrive.
        server: the server.
    """

    def __init__(self, sock: socket.socket, server: WebServer) -> None:
        self.socket = sock
        self.incoming = Incoming(sock)
        self.server = server
        self._since: Optional[Callable[[float], Optional[float]]] = None
        self._interrupted = False

    @contextlib.contextmanager
    def waiting(self, since: Callable[[float], Optional[float]]) -> Iterator[None]:
        """Mark a wait for the client; `since` returns its start, or None if the client is quick."""
        self._since = since
        try:
            yield
        finally:
            self._since = None

    def waiting_since(self, now: float) -> Optional[float]:
        """Return the start of a wait for the client; None if there is none, or it ends. Called by another thread."""
        since = self._since
        return None if since is None or self._interrupted else since(now)

    def interrupt(self) -> None:
        """End the wait for the client. Called by another thread."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)

    def run(self) -> None:
        """Serve requests until either side ends the connection."""
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._serve_one():
                pass
            self._linger()
        except (OSError, CutOffError, HttpError):
            pass
        except Exception as error:  # noqa: BLE001 - a defect of a handler must not end the server
            self.server.report("A connection failed: %s: %s" % (type(error).__name__, error))
        finally:
            self.socket.close()

    def _serve_one(self) -> bool:
        """Serve one request; return whether another one may follow."""
        started = time.monotonic()
        try:
            with self.waiting(lambda _now: started):
                data = self._read_head()
            if not data:
                return False
            exchange = Exchange(self, parse_request(data))
        except HttpError as error:
            Exchange(self, _NO_REQUEST).problem(error.status, str(error))
            return False
        with self.server.answering():
            try:
                self.server.handle(exchange)
            except HttpError as error:
                if exchange.answered:
                    raise
                exchange.problem(error.status, str(error))
        return exchange.settle() and not self.server.stopping

    def _read_head(self) -> bytes:
        if not self.incoming.buffered:
            wait_for(self.socket, select.POLLIN, time.monotonic() + IDLE_SECONDS)
        return self.incoming.read_head(time.monotonic() + HEAD_SECONDS)

    def _linger(self) -> None:
        """Discard what the client still sends, so that it gets the last answer."""
        self.socket.shutdown(socket.SHUT_WR)
        deadline, left = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
        with self.waiting(lambda _now: deadline - LINGER_SECONDS):
            while left > 0:
                data = self.incoming.read(1 << 16, deadline)
                if not data:
                    return
                left -= len(data)


class WebServer:
    """A web server.

    Args:
        host: the address to bind to.
        port: the port; 0 for a free one.
        handle: answers a request. It is called in the thread of the connection.
        report: receives a sentence about a connection that failed by a defect.

    Attributes:
        stopping: whether no further request is served.
        port: the port.

    Raises:
        ShimError: the port is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        handle: Callable[[Exchange], None],
        report: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.handle = handle
        self.report = report
        self.stopping = False
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, port))
            self._listener.listen(128)
        except OSError as error:
            self._listener.close()
            raise ShimError("setup", "The port %d cannot be bound: %s" % (port, error.strerror)) from error
        self.port = int(self._listener.getsockname()[1])
        self._connections: Set[ClientConnection] = set()
        self._lock = threading.Lock()
        self._open = 0
        self._none_open = threading.Condition()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def start(self) -> None:
        """Accept connections, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Accept no further connection, and wait until each request has its answer.

        A client that keeps the server waiting for the rest of a request gets none.
        """
        self.stopping = True
        self._thread.join()
        self._listener.close()
        while not self._wait_for_answers():
            self._interrupt_slow(_PATIENCE)
        self._interrupt_slow(0)

    def _wait_for_answers(self) -> bool:
        with self._none_open:
            return self._none_open.wait_for(lambda: not self._open, _PATIENCE)

    def _interrupt_slow(self, seconds: float) -> None:
        """End the connections that have kept the server waiting for longer than some seconds."""
        now = time.monotonic()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            since = connection.waiting_since(now)
            if since is not None and now - since >= seconds:
                connection.interrupt()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Keep the server from its end until a request has its answer."""
        with self._none_open:
            self._open += 1
        try:
            yield
        finally:
            with self._none_open:
                self._open -= 1
                self._none_open.notify_all()

    def _accept(self) -> None:
        self._listener.setblocking(False)  # noqa: FBT003 - the method has no keyword
        while not self.stopping:
            try:
                wait_for(self._listener, select.POLLIN, time.monotonic() + _POLL_SECONDS)
                sock, _ = self._listener.accept()
            except (TimeoutError, BlockingIOError):
                continue
            except OSError as error:  # such as too many open files
                self.report("A connection cannot be accepted: %s" % error)
                self._make_room()
                time.sleep(_POLL_SECONDS)
                continue
            sock.setblocking(True)  # noqa: FBT003 - as above
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        connection = ClientConnection(sock, self)
        with self._lock:
            full = len(self._connections) >= MOST_CONNECTIONS
            self._connections.add(connection)
        if full:
            self._make_room()
        try:
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()
        except RuntimeError as error:  # the machine has no further thread
            self.report("A connection cannot be served: %s" % error)
            self._forget(connection)
            sock.close()
            self._make_room()

    def _run(self, connection: ClientConnection) -> None:
        try:
            connection.run()
        finally:
            self._forget(connection)

    def _forget(self, connection: ClientConnection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def _make_room(self) -> None:
        """End the connection that has kept the server waiting longest."""
        now = time.monotonic()
        with self._lock:
            waits: List[Tuple[float, int, ClientConnection]] = []
            for number, each in enumerate(self._connections):
                since = each.waiting_since(now)
                if since is not None:
                    waits.append((since, number, each))
        if waits:
            min(waits)[2].interrupt()


_WITHOUT_BODY = (204, 304)
_NO_REQUEST = Head("", "", 0, [], 0, chunked=False, keep_alive=False, minor=1)
_PHRASES = {each.value: each.phrase for each in HTTPStatus}
