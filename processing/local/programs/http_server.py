"""The HTTP server of a model: GET /ping, GET /execution-parameters and POST /invocations, as SageMaker calls them."""

from __future__ import annotations

import http.server
import json
import logging
import os
import re
import signal
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_logger = logging.getLogger(__name__)

MEBIBYTE = 1 << 20
_BODY_LIMIT = 6 * MEBIBYTE  # of InvokeEndpoint
_LARGEST_BODY_LIMIT = 20 * MEBIBYTE  # of AWS's XGBoost image, whatever MAX_CONTENT_LENGTH says
_DISCARDED = 100 * MEBIBYTE  # the largest body of a transform: it is read to its end, for the refusal to arrive
_BLOCK = 1 << 16
_LINE_LIMIT = 1 << 16


class Invocation(NamedTuple):
    """A request to predict.

    Attributes:
        content_type: the media type of the body, with its parameters; empty if the request has none.
        accept: the header Accept; empty if the request has none.
        body: the body.
    """

    content_type: str
    accept: str
    body: bytes


class Answer(NamedTuple):
    """The answer to an invocation.

    Attributes:
        content_type: the media type of the body.
        body: the body.
    """

    content_type: str
    body: bytes


class RefusedError(Exception):
    """The invocation cannot be answered. The message is the body of the answer.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Model(Protocol):
    """A model that answers invocations, from several threads."""

    def invoke(self, invocation: Invocation) -> Answer:
        """Answer an invocation.

        Raises:
            RefusedError: the invocation is wrong.
        """


def body_limit() -> int:
    """Return the largest body in bytes: 6 MiB, or `MAX_CONTENT_LENGTH` of the environment, up to 20 MiB."""
    text = os.environ.get("MAX_CONTENT_LENGTH", "")
    return min(int(text), _LARGEST_BODY_LIMIT) if text.isdecimal() else _BODY_LIMIT


class ModelServer(http.server.ThreadingHTTPServer):
    """An HTTP server for one model. Several connections are served at once, each of them for many requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model: Model, port: int, *, host: str = "0.0.0.0") -> None:  # noqa: S104 - as SageMaker asks
        """Bind a port. 0 is any free one."""
        self.model = model
        super().__init__((host, port), _InvocationHandler)

    @property
    def port(self) -> int:
        """The port."""
        return int(self.server_address[1])

    def run_until_terminated(self) -> None:
        """Serve until SIGTERM. Only the main thread of a process may call this."""

        def stop(*_: object) -> None:
            threading.Thread(target=self.shutdown).start()  # in this thread it would wait for itself

        signal.signal(signal.SIGTERM, stop)
        with self:
            self.serve_forever(poll_interval=0.05)


class _InvocationHandler(http.server.BaseHTTPRequestHandler):
    """The requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "sm-processing"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet for the head and the body
    server: ModelServer

    def do_GET(self) -> None:
        """Answer /ping and /execution-parameters."""
        path = self.path.partition("?")[0]
        if path == "/ping":
            self._send(HTTPStatus.OK, "text/plain", b"")
        elif path == "/execution-parameters":
            parameters = {
                "MaxConcurrentTransforms": os.cpu_count() or 1,
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": max(1, body_limit() // MEBIBYTE),
            }
            self._send(HTTPStatus.OK, "application/json", json.dumps(parameters).encode())
        else:
            self._refuse_path(path)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def do_POST(self) -> None:
        """Answer /invocations."""
        path = self.path.partition("?")[0]
        try:
            body = self._body()
            if path != "/invocations":
                self._refuse_path(path)
                return
            headers = self.headers
            answer = self.server.model.invoke(
                Invocation(headers.get("Content-Type", ""), headers.get("Accept", ""), body)
            )
        except RefusedError as error:
            _logger.warning("%d %s", error.status, error)
            self._send(error.status, "text/plain; charset=utf-8", str(error).encode())
        except ConnectionError:
            self.close_connection = True
        except Exception:
            _logger.exception("An invocation failed.")
            text = b"The model failed. The log has the reason."
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text)
        else:
            self._send(HTTPStatus.OK if answer.body else HTTPStatus.NO_CONTENT, *answer)

    def do_PUT(self) -> None:
        """Refuse the method."""
        self.close_connection = True  # the body has not been read
        self._refuse_path(self.path.partition("?")[0])

    do_DELETE = do_PATCH = do_OPTIONS = do_PUT  # noqa: N815 - the names that http.server calls

    def _refuse_path(self, path: str) -> None:
        methods = {"/ping": "GET, HEAD", "/execution-parameters": "GET, HEAD", "/invocations": "POST"}.get(path)
        if methods is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"There is nothing at this path.")
        else:
            text = f"The methods of {path} are: {methods}."
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", text.encode(), allow=methods)

    def _send(self, status: HTTPStatus, content_type: str, body: bytes, *, allow: str = "") -> None:
        self.send_response(status)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
        if allow:
            self.send_header("Allow", allow)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        """Read the body of a request.

        Raises:
            RefusedError: its length is missing, wrong or above the limit.
        """
        limit, parts, size = body_limit(), [], 0
        for part in self._blocks():
            size += len(part)
            if size <= limit:
                parts.append(part)
            elif size > _DISCARDED:
                self.close_connection = True
                break
        if size > limit:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body has more than {limit} bytes, the limit of this model."
            )
        return b"".join(parts)

    def _blocks(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            # SageMaker sends the body of a transform in chunks if MaxPayloadInMB is 0.
            while length := self._chunk_length():
                yield from self._read(length)
                self._line()
            while self._line():  # trailers
                pass
            return
        text = self.headers.get("Content-Length")
        if text is None or not (text.isascii() and text.isdigit()):
            self._broken(HTTPStatus.LENGTH_REQUIRED if text is None else HTTPStatus.BAD_REQUEST)
        yield from self._read(int(text))

    def _chunk_length(self) -> int:
        line = self._line().partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", line):
            self._broken(HTTPStatus.BAD_REQUEST)
        return int(line, 16)

    def _line(self) -> bytes:
        line = self.rfile.readline(_LINE_LIMIT)
        if not line.endswith(b"\n"):
            raise ConnectionError("the body ends within a line")
        return line.strip()

    def _read(self, length: int) -> Iterator[bytes]:
        while length:
            part = self.rfile.read(min(length, _BLOCK))
            if not part:
                raise ConnectionError("the body ends early")
            length -= len(part)
            yield part

    def _broken(self, status: HTTPStatus) -> NoReturn:
        self.close_connection = True
        raise RefusedError(status, "The request has no valid length, in Content-Length or in its chunks.")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log at the level of details: a model is pinged every few seconds."""
        _logger.debug(format, *args)
