"""The way from a boto3 client to the engine in the same process."""

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
    """What takes a client's request and brings the answer: the engine's own transport, or one wrapped around it."""

    def send(self, request: AWSPreparedRequest) -> AWSResponse:
        """Return the answer, or raise one of botocore's errors of the connection."""


class InProcessTransport:
    """Hands requests to an engine; bodies are streams both ways, so a large object never is in memory.

    Args:
        engine: what answers.
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
    """A body as botocore expects it of urllib3: a file with a `stream` method besides.

    No subclass of a file: those are closed when they are dropped, and a Ctrl-C that comes while Python code runs for
    that is lost. A wait drops a body a hundred times a second.
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

    def stream(self, amount: int | None = CHUNK, decode_content: bool | None = None) -> Iterator[bytes]:  # noqa: ARG002
        while piece := self.read(amount):
            yield piece

    def close(self) -> None:
        self._file.close()
