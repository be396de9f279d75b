"""HTTP servers on this machine's loopback interface only: that of the engine, and the base of others.

Strategy: one thread accepts connections, and one thread serves each (see `connection`). Threads suit requests that
block on files and on SQLite. At the limit of connections, the acceptor closes the one that has been idle longest. If no
connection is idle, it closes the one whose body has been stalled longest. To stop, the server closes the listener,
interrupts idle connections, lets running requests end within a time limit, and then aborts the rest.

Requests to the engine need a valid signature (see `protocols.sigv4`) and nothing else. A web page may point its own
name at this server (DNS rebinding), but it has no key. So the Host header is not checked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import selectors
import signal
import socket
import sys
import threading
import time
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

from processing.exceptions import EngineError
from processing.local.credentials import Credentials, acting_as, install_credentials
from processing.local.endpoint import ADDRESS, client_environment
from processing.local.errors import ApiError, file_error, is_full, unusable
from processing.local.protocols import codec
from processing.local.protocols.sigv4 import SignatureVerifier
from processing.local.transports.connection import Connection, ConnectionLost, printable, with_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from processing.clock import Clock
    from processing.local.credentials import Keys
    from processing.local.engine import Engine
    from processing.local.protocols.codec import Handle
    from processing.local.protocols.http1 import RequestHead
    from processing.local.protocols.message import Request, Response
    from processing.local.transports.connection import RequestBody

logger = logging.getLogger(__name__)
_TRANSPORTS_LOGGER = logging.getLogger(__package__)  # the parent of this module's and of the connections' loggers

MAX_CONNECTIONS = 256
"""The limit of connections: each has a thread. Beyond it a connection that waits for its client is closed."""

EVICTION_SECONDS = 1.0
"""The time in which a closed connection ends, before another one is closed for the same purpose."""

LOG_FILE = "server.log"
LOG_BYTES = 5_000_000
"""The size at which the log becomes `server.log.1` and a new one begins."""

STOP_SECONDS = 5.0
"""The time that running requests have to end when the server stops."""

_INTERNAL = "We encountered an internal error. Please try again."
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class HttpServer:
    """An HTTP server on the loopback interface. As a context manager it serves within the block.

    Subclasses answer the requests, each in a thread of its connection.

    Args:
        port: the port on 127.0.0.1, or 0 for a free one.
        listener: a listening socket to use instead of a port. It is closed at the end.

    Raises:
        OSError: the port is in use.

    Attributes:
        endpoint: the URL for clients.
        stopping: whether the server is stopping, and accepts no further requests.
    """

    def __init__(self, *, port: int = 0, listener: socket.socket | None = None) -> None:
        self._listener = _listen(port) if listener is None else listener
        self._listener.settimeout(0)
        self.endpoint = f"http://{ADDRESS}:{self._listener.getsockname()[1]}"
        self.stopping = False
        self._wake, self._woken = socket.socketpair()
        self._threads: dict[Connection, threading.Thread] = {}
        self._changed = threading.Condition()
        self._stop_asked: queue.SimpleQueue[None] = queue.SimpleQueue()  # its put() is safe in a signal handler
        self._acceptor: threading.Thread | None = None

    def respond(self, request: Request, head: RequestHead, body: RequestBody, request_id: str) -> Response:
        """Return the answer to a request; see `ServerContext`."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to serve in background threads."""
        self._acceptor = threading.Thread(target=self._accept, name="engine-accept", daemon=True)
        self._acceptor.start()

    def serve_forever(self, *, on_start: Callable[[], None] = lambda: None) -> None:
        """Serve until a signal handler or another thread calls `ask_to_stop`.

        Args:
            on_start: a function to call once the server accepts connections.
        """
        self.start()
        try:
            on_start()
            self._stop_asked.get()
        finally:
            self.stop()

    def ask_to_stop(self) -> None:
        """Make `serve_forever` return."""
        self._stop_asked.put(None)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Accept no new connections, let running requests end, and return when all threads have ended.

        Args:
            seconds: the time limit for running requests. Then their connections are aborted.
        """
        self.stopping = True
        self._wake.close()
        if self._acceptor is not None:
            self._acceptor.join()
        self._listener.close()
        self._woken.close()
        deadline = time.monotonic() + seconds
        with self._changed:
            for connection in self._threads:
                if connection.idle_since is not None:
                    connection.interrupt()
            self._changed.wait_for(lambda: not self._threads, seconds)
            threads = dict(self._threads)
        for connection in threads:
            connection.abort()
        for thread in threads.values():
            thread.join(max(1.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def connection_closed(self, connection: Connection) -> None:
        """Record that a connection has ended."""
        with self._changed:
            self._threads.pop(connection, None)
            self._changed.notify_all()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self.stopping:
                selector.select()
                try:
                    self._make_room()
                    while len(self._threads) < MAX_CONNECTIONS:
                        accepted, _ = self._listener.accept()
                        self._start_connection(accepted)
                except BlockingIOError:  # no further connection is pending
                    pass
                except (OSError, RuntimeError) as error:  # too many open files or threads, until others end
                    logger.warning("a connection has to wait: %s", error)
                    with self._changed:
                        self._changed.wait(0.1)

    def _start_connection(self, accepted: socket.socket) -> None:
        connection = Connection(accepted, self)
        thread = threading.Thread(target=connection.run, name="engine-connection", daemon=True)
        with self._changed:
            self._threads[connection] = thread
        try:
            thread.start()
        except BaseException:
            accepted.close()
            self.connection_closed(connection)
            raise

    def _make_room(self) -> None:
        """Wait until another connection may be accepted."""
        with self._changed:
            while len(self._threads) >= MAX_CONNECTIONS and not self.stopping:
                self._evict_one(time.monotonic())
                self._changed.wait(0.1)

    def _evict_one(self, now: float) -> None:
        """Close the connection that has waited longest for its client, unless an evicted one is about to end."""
        if any(each.evicted_at is not None and now - each.evicted_at < EVICTION_SECONDS for each in self._threads):
            return
        waits = ((each.idle_since is None, each.stalled_since(now), each) for each in self._threads)
        stalled = [(busy, since, each) for busy, since, each in waits if since is not None]
        if stalled:
            # Nothing is lost with an idle connection, so these go first.
            min(stalled, key=lambda wait: wait[:2])[2].evict(now)


class Server(HttpServer):
    """An HTTP server for an engine. As a context manager it serves within the block.

    Args:
        engine: the engine.
        port: the port on 127.0.0.1, or 0 for a free one.
        listener: a listening socket to use instead of a port. It is closed at the end.
        credentials: the keys of clients, by default those of the engine's folder.
        clock: the clock for the age of signatures, by default the system's.

    Raises:
        OSError: the port is in use.

    Attributes:
        endpoint: the URL for clients.
        verifier: the verifier of signatures.
        stopping: whether the server is stopping, and accepts no further requests.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        port: int = 0,
        listener: socket.socket | None = None,
        credentials: Credentials | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._engine = engine
        self._credentials = install_credentials(engine.home) if credentials is None else credentials
        self.verifier = (
            SignatureVerifier(self._credentials) if clock is None else SignatureVerifier(self._credentials, clock)
        )
        super().__init__(port=port, listener=listener)

    @property
    def handle(self) -> Handle:
        """The engine's entry point for all operations."""
        return self._engine.handle

    def environment(self, keys: Keys | None = None) -> dict[str, str]:
        """Return the environment variables that point any AWS client at this server only.

        Args:
            keys: the key for signatures, by default the folder's own.
        """
        return client_environment(self.endpoint, self._credentials.keys if keys is None else keys, self._engine.region)

    def respond(self, request: Request, head: RequestHead, body: RequestBody, request_id: str) -> Response:
        """Return the engine's answer, or the error of a request without a valid signature."""
        try:
            service, protocol = codec.signing_name_of(request), codec.protocol_of(request)
            claim = self.verifier.check_claim(request, protocol, service)
            body.may_be_awaited = True
            identity, request = claim.verify(with_body(request, head, body))
            with acting_as(identity):
                return codec.handle_request(self.handle, request, request_id)
        except ApiError as error:
            return codec.error_response(error, request, request_id)
        except (ConnectionLost, ConnectionError):
            raise
        except EngineError as error:
            logger.error("%s: %s %s: %s", request_id, request.method, printable(request.path), error)  # noqa: TRY400 - the error has the whole story
            return codec.error_response(unusable(error), request, request_id)
        except Exception:
            logger.exception("%s: %s %s failed", request_id, request.method, printable(request.path))
            code = "InternalError" if codec.protocol_of(request) == "rest" else "InternalFailure"
            return codec.error_response(ApiError(code, _INTERNAL, 500), request, request_id)


def serve_until_signal(server: HttpServer, *, on_start: Callable[[], None] = lambda: None) -> None:
    """Serve until the process receives SIGTERM or SIGINT. Call it in the main thread.

    Args:
        server: the server, before it is started.
        on_start: a function to call once the server accepts connections.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.ask_to_stop())
    server.serve_forever(on_start=on_start)


@contextlib.contextmanager
def logging_to(home: Path, of: logging.Logger = _TRANSPORTS_LOGGER) -> Iterator[None]:
    """Write the transports' log, or that of another logger, to `server.log` in the engine's folder within the block.

    Raises:
        ApiError: the disk is full.
        EngineError: the file cannot be written to.
    """
    path = home / LOG_FILE
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        handler = _LogFile(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise file_error(home, error) or error from error
    handler.setFormatter(_SingleEntryFormatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    of.addHandler(handler)
    try:
        yield
    finally:
        of.removeHandler(handler)
        handler.close()


class _LogFile(RotatingFileHandler):
    """A log file that drops entries while its disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Report other errors than a full disk on stderr, with their traceback."""
        error = sys.exc_info()[1]
        if error is None or not is_full(error):
            super().handleError(record)


class _SingleEntryFormatter(logging.Formatter):
    """A formatter that prevents forged entries: it indents further lines of an entry and escapes control characters."""

    def format(self, record: logging.LogRecord) -> str:
        first, *others = super().format(record).split("\n")
        return "\n    ".join(_UNPRINTABLE.sub(_escape, line) for line in (first, *others))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener
