"""The values of the codec: requests, calls of operations, and responses."""

from __future__ import annotations

import io
import os
import re
import zlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import attrs

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from processing.local.protocols.chunk_signatures import ChunkSignatures
    from processing.local.stores.bodies import Readable

ENGINE_DOMAIN = "processing.localhost"
"""The domain of the engine's endpoints. Names under `.localhost` never leave a machine (RFC 6761)."""

CLIENT_HOST: ContextVar[str] = ContextVar("CLIENT_HOST", default=f"sqs.{ENGINE_DOMAIN}")
"""The Host header of the request that this context handles, perhaps with a port. Queue URLs are made from it."""

CHUNK = 1 << 18
"""The size of a read from a streamed body, in bytes."""

MAX_DECOMPRESSED = 1 << 24
"""The limit on a body that is held in memory, compressed or not: 16 MiB. S3 streams its bodies instead."""

_ABOUT_THE_BODY = ("x-amz-checksum-", "x-amz-sdk-checksum-", "x-amz-trailer", "x-amz-decoded-content-length")
"""Beginnings of the names of headers that describe a body. A presigned URL is made before its body is known."""

# bucket.s3.amazonaws.com, bucket.s3.eu-west-1.amazonaws.com, bucket.s3.processing.localhost, bucket.s3.localhost,
# bucket.localhost
_VIRTUAL_HOST = re.compile(r"(.+)\.s3(?:[.-].*)?\.(?:amazonaws\.com(?:\.cn)?|localhost)|(.+)\.localhost")
_PLAIN_HOST = re.compile(r"s3(?:[.-].*)?\.amazonaws\.com(?:\.cn)?|s3(?:\..*)?\.localhost")


def endpoint(service: str) -> str:
    """Return the URL of a service for clients in this process. No server listens there."""
    return f"http://{service}.{ENGINE_DOMAIN}"


@attrs.frozen
class Request:
    """A request before it is decoded.

    Attributes:
        method: the method, such as `GET`.
        host: the Host header, perhaps with a port.
        path: the percent-encoded path, from the first slash on.
        query: the percent-encoded query, without the question mark.
        headers: the headers by name in lower case.
        body: bytes, or a stream that ends with the body.
        chunks: checks the chunk signatures of an aws-chunked body. None if its chunks are not signed.
    """

    method: str
    host: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes | Readable = b""
    chunks: ChunkSignatures | None = None

    @classmethod
    def from_url(cls, method: str, url: str, headers: Mapping[str, Any], body: Any) -> Request:
        """Return a client's request to a URL."""
        split = urlsplit(url)
        plain = {_text(name).lower(): _text(value) for name, value in headers.items()}
        if isinstance(body, str):
            body = body.encode()
        elif isinstance(body, (bytearray, memoryview)):
            body = bytes(body)
        return cls(method, plain.get("host", split.netloc), split.path or "/", split.query, plain, body or b"")

    @property
    def hostname(self) -> str:
        """The host in lower case, without a port."""
        name, _, port = self.host.lower().rpartition(":")
        return name if name and port.isdecimal() else self.host.lower()

    def content(self) -> bytes:
        """Return the whole body, decompressed. Use it only for protocols with small bodies.

        Raises:
            ApiError: the body is too large, before or after decompression, or it is not valid gzip.
        """
        content = self.raw_content()
        return _decompressed(content) if self.headers.get("content-encoding", "").lower() == "gzip" else content

    def raw_content(self) -> bytes:
        """Return the whole body, still compressed.

        Raises:
            ApiError: the body is too large.
        """
        return self.body if isinstance(self.body, bytes) else _read_all(self.body)

    def decoded_path(self) -> str:
        """Return the path without percent-encoding.

        Raises:
            ApiError: the path is not UTF-8.
        """
        try:
            return unquote(self.path, errors="strict")
        except UnicodeDecodeError:
            raise ApiError("InvalidURI", "Couldn't parse the specified URI.") from None


def bucket_of_host(request: Request) -> str | None:
    """Return the bucket in the host (virtual-hosted style), or None if the path names it."""
    host = request.hostname
    virtual = None if _PLAIN_HOST.fullmatch(host) else _VIRTUAL_HOST.fullmatch(host)
    return virtual and (virtual[1] or virtual[2])


def headers_of_url(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the headers in the query of a presigned URL, where some SDKs put `x-amz-` headers.

    As in S3, headers about the body are signed there and have no effect. aws-sdk-js adds the checksum of no bytes.
    """
    lowered = {name.lower(): value for name, value in fields.items()}
    return {
        name: value
        for name, value in lowered.items()
        if name.startswith("x-amz-") and not name.startswith(_ABOUT_THE_BODY)
    }


@attrs.frozen
class OperationCall:
    """An operation and its parameters, by boto3's names."""

    service: str
    operation: str
    params: dict[str, Any]


@attrs.frozen
class Response:
    """An answer: a status, headers, and a body of bytes or a stream. A stream ends after `Content-Length` bytes."""

    status: int
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes | Readable = b""


class FileSection(io.RawIOBase):
    """A section of a file as a stream. It owns the descriptor, and closes it at the end or when it is dropped.

    Args:
        descriptor: the descriptor of an open file.
        start: the offset of the first byte.
        length: the number of bytes.
    """

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        self._descriptor: int | None = descriptor
        self._position = start
        self._left = length

    @property
    def left(self) -> int:
        """The number of unread bytes."""
        return self._left

    def readable(self) -> bool:
        """Return True."""
        return True

    def send(self, target: int, size: int) -> int:
        """Let the kernel copy up to `size` bytes to a descriptor. Return their number, or 0 at the end."""
        wanted = min(size, self._left)
        if wanted <= 0 or self._descriptor is None:
            return 0
        sent = os.sendfile(target, self._descriptor, self._position, wanted)
        self._position += sent
        self._left -= sent
        return sent

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, all of them for None or -1, or b"" at the end."""
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        pieces: list[bytes] = []
        while wanted > 0 and self._descriptor is not None:
            piece = _read_at(self._descriptor, min(wanted, 1 << 30), self._position)
            if not piece:
                break
            pieces.append(piece)
            wanted -= len(piece)
            self._position += len(piece)
            self._left -= len(piece)
        if self._left <= 0:
            self._release()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer and return the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._release()
        super().close()

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _read_at(descriptor: int, size: int, position: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, position)
    os.lseek(descriptor, position, os.SEEK_SET)  # Windows has no pread. The section does not share its descriptor.
    return os.read(descriptor, size)


def _read_all(body: Readable) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := body.read(CHUNK):
        size += len(piece)
        if size > MAX_DECOMPRESSED:
            raise ApiError("MaxMessageLengthExceeded", "Your request was too big.", 413)
        pieces.append(piece)
    return b"".join(pieces)


def _decompressed(content: bytes) -> bytes:
    decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = decompressor.decompress(content, MAX_DECOMPRESSED)
    except zlib.error:
        plain = b""
    if not decompressor.eof or decompressor.unused_data:
        raise ApiError("SerializationException", "The request body cannot be decompressed.")
    return plain


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
