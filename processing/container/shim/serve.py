"""Web server of tasks, by SageMaker's contract of hosting and batch transform."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Dict, Iterator, Optional

from processing.container.shim.errors import TaskError
from processing.container.shim.tasks import parse_task

if TYPE_CHECKING:
    from io import BufferedIOBase

    from processing.container.shim.logs import Log
    from processing.container.shim.settings import Settings
    from processing.container.shim.task_runner import TaskRunner
    from processing.container.shim.tasks import Task

_IDLE_SECONDS = 60
"""The longest pause of a client within a request, and between two."""
_LINE = 1_024
"""The longest line before a chunk."""


class _TooLargeError(ValueError):
    """A body above the limit."""


class TaskServer(ThreadingHTTPServer):
    """The web server. It runs one task at a time; pings are answered meanwhile.

    Args:
        runner: the runner of tasks.
        settings: the settings.
        log: the log.
        stop: the event that stops the server.
        host: the address to bind to.
    """

    # An idle connection must not delay the end. `serve_tasks` waits for answers to tasks itself.
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(
        self,
        runner: TaskRunner,
        settings: Settings,
        log: Log,
        stop: threading.Event,
        host: str = "0.0.0.0",  # noqa: S104 - the contract
    ) -> None:
        super().__init__((host, settings.port), _Handler)
        self.runner = runner
        self.settings = settings
        self.log = log
        self.stop = stop
        self.turn = threading.Lock()
        self._open = 0
        self._none_open = threading.Condition()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Keep the server from its end until a task has its answer."""
        with self._none_open:
            self._open += 1
        try:
            yield
        finally:
            with self._none_open:
                self._open -= 1
                self._none_open.notify_all()

    def wait_for_answers(self) -> None:
        """Wait until each task has its answer."""
        with self._none_open:
            self._none_open.wait_for(lambda: not self._open)

    def server_bind(self) -> None:
        """Bind, without the look-up of the machine's name that `HTTPServer` makes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, _request: object, client_address: object) -> None:
        """Log a failed connection; a client may go at any time."""
        self.log.write("DEBUG", "The connection of %s failed" % (client_address,))


def serve_tasks(runner: TaskRunner, settings: Settings, log: Log, stop: threading.Event) -> int:
    """Serve until the event is set; return the exit code.

    A task that runs is stopped, and its client gets the result.
    """
    server = TaskServer(runner, settings, log, stop)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    log.write("INFO", "Listening on port %d" % server.server_port)
    stop.wait()
    server.shutdown()
    thread.join()
    server.wait_for_answers()
    server.server_close()
    if not runner.healthy:
        log.write("ERROR", "The program's server is unhealthy, so the shim ends", internal=False)
        return 1
    log.write("INFO", "The server has stopped")
    return 0


class _Handler(BaseHTTPRequestHandler):
    """The answers to one connection."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet for the head and the body
    server: TaskServer

    def do_GET(self) -> None:
        """Answer a ping, or the question for the parameters of batch transform."""
        if self.path.partition("?")[0] == "/ping":
            healthy = self.server.runner.healthy and not self.server.stop.is_set()
            self._answer(200 if healthy else 503, b"")
        elif self.path.partition("?")[0] == "/execution-parameters":
            parameters = {
                "MaxConcurrentTransforms": 1,
                "BatchStrategy": "SINGLE_RECORD",
                "MaxPayloadInMB": self.server.settings.max_payload >> 20,
            }
            self._answer(200, json.dumps(parameters).encode("ascii"))
        else:
            self._problem(404, "there is no %s" % self.path)

    def do_POST(self) -> None:
        """Run the task in the body."""
        if self.path.partition("?")[0] != "/invocations":
            self._problem(404, "there is no %s" % self.path)
            return
        try:
            body = _read_body(self.rfile, self.headers.get("Content-Length"), self._chunked(), self._most())
            task = parse_task(body)
        except _TooLargeError as error:
            self._problem(413, str(error))
        except TaskError as error:
            self._problem(400, str(error), error.field, close=False)
        except ValueError as error:
            self._problem(400, str(error))
        else:
            with self.server.answering():
                self._run(task)

    def _run(self, task: Task) -> None:
        if not self.server.turn.acquire(blocking=self.server.settings.busy == "wait"):
            self._problem(429, "another task runs; try again later", close=False)
            return
        try:
            stopped = self.server.stop.is_set()
            body = b"" if stopped else self.server.runner.run(task).body
        finally:
            self.server.turn.release()
        if stopped:
            self._problem(503, "the server is being stopped")
        else:
            self._answer(200, body)
        if not self.server.runner.healthy:
            # A server that hangs or has gone does no other task; SageMaker starts another container.
            self.server.stop.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library names it
        """Log a request for the operator alone; pings come every few seconds."""
        self.server.log.write("DEBUG", format % args)

    def _chunked(self) -> bool:
        return self.headers.get("Transfer-Encoding", "").strip().lower() == "chunked"

    def _most(self) -> int:
        return self.server.settings.max_payload

    def _problem(self, status: int, message: str, field: Optional[str] = None, *, close: bool = True) -> None:
        """Answer with an error. A request may be unread, so the connection ends unless `close` is false."""
        self.close_connection = self.close_connection or close
        fields: Dict[str, Optional[str]] = {"error": message}
        if field:
            fields["field"] = field
        self._answer(status, json.dumps(fields).encode("ascii"))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection or self.server.stop.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _read_body(source: BufferedIOBase, length: Optional[str], chunked: bool, most: int) -> bytes:
    """Return a request's body.

    Raises:
        _TooLargeError: it is longer than `most` bytes; the rest is not read.
        ValueError: it is cut off, or its form is wrong.
    """
    if chunked:
        return _read_chunks(source, most)
    if length is None or not length.isascii() or not length.isdigit():
        raise ValueError("the request needs a Content-Length")
    if int(length) > most:
        raise _TooLargeError("the body has more than %d bytes" % most)
    return _read_exactly(source, int(length))


def _read_chunks(source: BufferedIOBase, most: int) -> bytes:
    pieces, size = [], 0
    while True:
        text = source.readline(_LINE).partition(b";")[0].strip()
        try:
            length = int(text, 16)
        except ValueError:
            raise ValueError("the length of a chunk is not a number") from None
        if not 0 <= length <= most - size:
            raise _TooLargeError("the body has more than %d bytes" % most)
        if not length:
            break
        pieces.append(_read_exactly(source, length))
        size += length
        if source.readline(_LINE).strip():
            raise ValueError("a chunk is longer than its length")
    while source.readline(_LINE).strip():  # trailers
        pass
    return b"".join(pieces)


def _read_exactly(source: BufferedIOBase, length: int) -> bytes:
    data = source.read(length)
    if len(data) < length:
        raise ValueError("the body is cut off")
    return data
