"""The wire under real botocore clients: a transport that answers from functions, and helpers for transports.

A transport has one method, `send`, and stands where botocore would open a connection (its `before-send` event).
Everything above it is real: parameters are serialised and signed, and answers are parsed.
"""

from __future__ import annotations

import email.utils
import functools
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from processing._utils.validation import FUNCTION, MAPPING, require, with_methods
from processing.clock import SYSTEM_CLOCK, Clock
from processing.local.errors import ApiError
from processing.local.protocols import codec, rest_json
from processing.local.protocols.message import Request
from processing.local.transports.in_process import Transport

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

__all__ = [
    "Handler",
    "JsonService",
    "Rendered",
    "RequestLike",
    "ServiceError",
    "Transport",
    "make_client",
    "operation_of",
    "protocol_of",
    "respond",
]

Handler: TypeAlias = Callable[[dict[str, Any]], Mapping[str, Any]]
"""A function from the parameters of an operation to its answer."""


class ServiceError(Exception):
    """An error answer of a service, which handlers raise.

    Args:
        code: the service's error code.
        message: the text.
        status: the HTTP status.
        headers: further headers of the answer.
    """

    def __init__(
        self, code: str, message: str = "", status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        self.code = code
        self.status = status
        require("headers", headers, MAPPING, optional=True)
        self.headers = dict(headers or {})
        super().__init__(message)


class Rendered(Mapping[str, Any]):
    """An answer that is JSON already. It saves the encoding of answers with thousands of members.

    Args:
        text: a JSON object.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def __getitem__(self, key: str) -> Any:
        return json.loads(self.text)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self.text))

    def __len__(self) -> int:
        return len(json.loads(self.text))


class JsonService:
    """A transport that answers calls to JSON services (SageMaker, CloudWatch Logs) from functions.

    Args:
        handlers: functions by operation. Each returns the answer to parameters, or raises `ServiceError`.
        clock: the clock for the `Date` header, or None to leave it out.
        admit: a function that is called with each operation first. It may raise `ServiceError`.

    Attributes:
        handlers: the functions. They may be replaced at any time.
        calls: the operations of all calls, in order.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        clock: Clock | None = SYSTEM_CLOCK,
        admit: Callable[[str], None] = lambda _: None,
    ) -> None:
        require("handlers", handlers, MAPPING)
        require("admit", admit, FUNCTION)
        require("clock", clock, with_methods("a clock with time()", "time"), optional=True)
        self.handlers = dict(handlers)
        self.calls: list[str] = []
        self._clock = clock
        self._admit = admit

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer one request."""
        operation = operation_of(request)
        self.calls.append(operation)
        headers = {"Content-Type": "application/x-amz-json-1.1"}
        if self._clock:
            headers["Date"] = email.utils.formatdate(self._clock.time(), usegmt=True)
        try:
            self._admit(operation)
            answer = self.handlers[operation](json.loads(_text(request.body) or "{}"))
        except ServiceError as error:
            body = {"__type": error.code, "message": str(error)}
            return respond(request, error.status, {**headers, **error.headers}, json.dumps(body).encode())
        text = answer.text if isinstance(answer, Rendered) else json.dumps(answer)
        return respond(request, 200, headers, text.encode())


def respond(request: AWSPreparedRequest, status: int, headers: Mapping[str, str], body: bytes) -> AWSResponse:
    """Return an answer as botocore's HTTP session returns it, with an unread body.

    Args:
        request: the request.
        status: the HTTP status.
        headers: the headers. A missing Content-Length is added.
        body: the bytes that arrive.
    """
    from botocore.awsrequest import AWSResponse, HeadersDict
    from urllib3 import HTTPResponse

    length = {} if any(name.lower() == "content-length" for name in headers) else {"Content-Length": str(len(body))}
    every: Any = HeadersDict({**headers, **length})
    raw = HTTPResponse(
        body=io.BytesIO(body),
        headers={**headers, **length},
        status=status,
        preload_content=False,
        enforce_content_length=False,
    )
    return AWSResponse(request.url, status, every, raw)


def make_client(service: str, transport: Transport, *, region: str = "us-east-1", **config: Any) -> Any:
    """Return a real botocore client on a transport. It does not retry unless `config` says so."""
    from botocore.config import Config

    client = _session().create_client(
        service,
        region_name=region,
        config=Config(**{"retries": {"total_max_attempts": 1, "mode": "standard"}, **config}),
    )
    events: Any = client.meta.events
    events.register("before-send", lambda request, **_: transport.send(request))
    return client


@functools.cache
def _session() -> Any:
    """Return the session for all clients, which parses each service's model once."""
    import botocore.session

    session = botocore.session.Session()
    session.set_credentials("AKIDEXAMPLE", "example-secret-key")
    return session


class RequestLike(Protocol):
    """A request with an identifiable operation: botocore's own, or one that a proxy has read."""

    @property
    def method(self) -> str:
        """The method in capitals."""

    @property
    def url(self) -> str:
        """The whole URL."""

    @property
    def headers(self) -> Any:
        """The headers, as a mapping that ignores case."""

    @property
    def body(self) -> Any:
        """The body. It is read only if the Content-Type is a form's."""


def protocol_of(request: RequestLike) -> Literal["json", "query", "rest-xml", "rest-json"]:
    """Return the protocol of a request: SageMaker's and Logs', STS's and IAM's, S3's, or SageMaker Runtime's."""
    if "X-Amz-Target" in request.headers:
        return "json"
    if _is_invocation(request):
        return "rest-json"
    return "query" if "form-urlencoded" in _text(request.headers.get("Content-Type")) else "rest-xml"


def _is_invocation(request: RequestLike) -> bool:
    """Return whether a request is for SageMaker Runtime. Its body has any content type, and is not read."""
    if "/endpoints/" not in request.url:
        return False
    try:
        service, _ = codec.identify(Request.from_url(request.method, request.url, request.headers, b""))
    except ApiError:
        return False
    return service == rest_json.SERVICE


def operation_of(request: RequestLike) -> str:
    """Return the operation of a request, as AWS spells it, or the HTTP method if it has none."""
    protocol = protocol_of(request)
    if protocol == "json":  # the shortest way, since tests record thousands of these calls
        return sys.intern(_text(request.headers["X-Amz-Target"]).rpartition(".")[2])
    body = request.body if protocol == "query" else b""
    try:
        _, operation = codec.identify(Request.from_url(request.method, request.url, request.headers, body))
    except ApiError:
        return request.method
    return operation or request.method


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, (bytes, bytearray)) else str(value or "")
