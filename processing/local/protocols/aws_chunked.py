r"""The aws-chunked body: `<size in hex>[;chunk-signature=...]\r\n<bytes>\r\n`, ended by size 0 and trailing headers.

Clients use it to send a checksum after a body that they read once, and to sign a body chunk by chunk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from processing.local.protocols.chunk_signatures import ChunkSignatures
    from processing.local.stores.bodies import Readable

_CHECKSUM = "x-amz-checksum-"
# Limits on memory. Lines of clients have fewer than 200 bytes, and they send one or two trailers.
_MAX_LINE = 16_384
_MAX_TRAILERS = 20
_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")


class ChunkedBody:
    """The bytes inside an aws-chunked body, as a stream.

    Args:
        raw: the encoded body.
        trailer: the value of `x-amz-trailer`, which announces the names of the trailing headers.
        signatures: checks the signatures of the chunks. None if they are not signed.

    Attributes:
        checksums: the checksums that trail the body, by algorithm. The names are known at once, the values once the
            last byte has been read.
    """

    def __init__(self, raw: Readable, trailer: str = "", signatures: ChunkSignatures | None = None) -> None:
        self._raw = raw
        self._signatures = signatures
        self._buffer = b""
        self._chunk_left = 0
        self._ended = False
        names = (name.strip().lower() for name in trailer.split(","))
        self.checksums = {name[len(_CHECKSUM) :]: "" for name in names if name.startswith(_CHECKSUM)}

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes (all for -1), or b"" at the end."""
        pieces: list[bytes] = []
        got = 0
        while size < 0 or got < size:
            if not self._chunk_left and not self._next_chunk():
                break
            piece = self._read_piece(self._chunk_left if size < 0 else min(self._chunk_left, size - got))
            self._chunk_left -= len(piece)
            got += len(piece)
            pieces.append(piece)
            if self._signatures is not None:
                self._signatures.update(piece)
            if not self._chunk_left:
                self._end_chunk()
        return b"".join(pieces)

    def _next_chunk(self) -> bool:
        if self._ended:
            return False
        size, _, extension = self._read_line().partition(b";")
        if not _SIZE.fullmatch(size.strip()):
            raise _incomplete_body()
        self._chunk_left = int(size, 16)
        if self._signatures is not None:
            self._signatures.begin(extension.decode("latin-1"))
        if not self._chunk_left:
            self._ended = True
            if self._signatures is not None:
                self._signatures.end()
            self._read_trailers()
        return not self._ended

    def _end_chunk(self) -> None:
        if self._read_line():
            raise _incomplete_body()
        if self._signatures is not None:
            self._signatures.end()

    def _read_trailers(self) -> None:
        trailers: dict[str, str] = {}
        while line := self._read_line(or_end=True):
            name, _, value = line.decode("latin-1").partition(":")
            trailers[name.strip().lower()] = value.strip()
            if len(trailers) > _MAX_TRAILERS:
                raise _incomplete_body()
        if self._signatures is not None:
            self._signatures.check_trailers(trailers)
        self._require_end()
        for algorithm in self.checksums:
            self.checksums[algorithm] = trailers.get(f"{_CHECKSUM}{algorithm}", "")

    def _require_end(self) -> None:
        """Read the raw body to its end, and refuse further content.

        A raw body may check its own signature when its end is read.
        """
        rest = self._buffer
        while not rest.strip(b"\r\n") and (rest := self._raw.read(_MAX_LINE)):
            pass
        if rest.strip(b"\r\n"):
            raise _incomplete_body()

    def _read_line(self, *, or_end: bool = False) -> bytes:
        while b"\n" not in self._buffer:
            more = self._raw.read(_MAX_LINE) if len(self._buffer) < _MAX_LINE else b""
            if not more:
                if or_end:
                    line, self._buffer = self._buffer, b""
                    return line.strip()
                raise _incomplete_body()
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def _read_piece(self, size: int) -> bytes:
        """Return between 1 and `size` bytes of the current chunk."""
        if not self._buffer:
            self._buffer = self._raw.read(min(size, 1 << 20))
            if not self._buffer:
                raise _incomplete_body()
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece


def _incomplete_body() -> ApiError:
    return ApiError("IncompleteBody", "The request body terminated unexpectedly")
