"""The transport from boto3 clients to an engine in the same process."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Protocol

from processing.local.protocols import codec
from processing.local.protocols.message import CHUNK, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

    from processing.local.engine import Engine


class Transport(Protocol):
    """A transport for botocore clients. It stands where botocore would open a connection (its `before-send` event)."""

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Return the answer, or raise a connection error of botocore's as its HTTP session would."""


class InProcessTransport:
    """The transport to an engine. Bodies are streams both ways, so a large object is never held in memory.

    Args:
        engine: the engine.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Return the engine's answer."""
        from botocore.awsrequest import AWSResponse

        response = codec.handle_request(self._engine.handle, _to_request(request))
        headers: Any = response.headers
        return AWSResponse(request.url, response.status, headers, _RawBody(response.body))


def identify(request: AWSPreparedRequest) -> tuple[str, str]:
    """Return the service and the operation of a request, by boto3's names: `("s3", "PutObject")`."""
    return codec.identify(_to_request(request))


def _to_request(request: AWSPreparedRequest) -> Request:
    return Request.from_url(request.method, request.url, dict(request.headers.items()), request.body)


class _RawBody:
    """A body as botocore expects it from urllib3: a file with an additional method `stream`.

    It is not a subclass of a file class. Python closes such files when they are dropped, and loses a Ctrl-C that
    arrives while it runs code for that. A wait drops a body a hundred times a second.
    """

    def __init__(self, body: Any) -> None:
        self._file = io.BytesIO(body) if isinstance(body, bytes) else body

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        data: bytes = self._file.read(size)
        return data

    def readinto(self, buffer: Any, /) -> int:
        count: int = self._file.readinto(buffer)
        return count

    def stream(self, amount: int | None = CHUNK, decode_content: bool | None = None) -> Iterator[bytes]:  # noqa: ARG002 - as urllib3's
        while piece := self.read(amount):
            yield piece

    def close(self) -> None:
        self._file.close()
