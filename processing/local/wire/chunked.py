r"""The aws-chunked body: `<size in hex>[;chunk-signature=...]\r\n<bytes>\r\n`, ended by size 0 and trailing headers.

Clients use it to send a checksum after the body, when they know it. Chunk signatures are not checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from processing.local.errors import ApiError

if TYPE_CHECKING:
    from processing.local.stores.bodies import Readable

_CHECKSUM = "x-amz-checksum-"
_LONGEST_LINE = 16_384


class ChunkedBody:
    """The bytes inside an aws-chunked body, as a stream.

    Args:
        raw: the body as it came.
        trailer: the header that announces the names of the trailing headers.

    Attributes:
        checksums: the checksums that trail the body, by algorithm. The names are there at once, the values when the
            last byte has been read.
    """

    def __init__(self, raw: Readable, trailer: str = "") -> None:
        self._raw = raw
        self._buffer = b""
        self._left = 0
        self._ended = False
        names = (name.strip().lower() for name in trailer.split(","))
        self.checksums = {name[len(_CHECKSUM) :]: "" for name in names if name.startswith(_CHECKSUM)}

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes (all for -1), empty at the end."""
        pieces: list[bytes] = []
        got = 0
        while size < 0 or got < size:
            if not self._left and not self._next_chunk():
                break
            piece = self._take(self._left if size < 0 else min(self._left, size - got))
            self._left -= len(piece)
            got += len(piece)
            pieces.append(piece)
            if not self._left and self._line():
                raise _broken()
        return b"".join(pieces)

    def _next_chunk(self) -> bool:
        if self._ended:
            return False
        try:
            self._left = int(self._line().partition(b";")[0], 16)
        except ValueError:
            raise _broken() from None
        if not self._left:
            self._ended = True
            self._read_trailers()
        return not self._ended

    def _read_trailers(self) -> None:
        while line := self._line(or_end=True):
            name, _, value = line.decode("latin-1").partition(":")
            algorithm = name.strip().lower().removeprefix(_CHECKSUM)
            if algorithm in self.checksums:
                self.checksums[algorithm] = value.strip()

    def _line(self, *, or_end: bool = False) -> bytes:
        while b"\n" not in self._buffer:
            more = self._raw.read(_LONGEST_LINE) if len(self._buffer) < _LONGEST_LINE else b""
            if not more:
                if or_end:
                    line, self._buffer = self._buffer, b""
                    return line.strip()
                raise _broken()
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def _take(self, size: int) -> bytes:
        """Return between 1 and `size` bytes of the current chunk."""
        if not self._buffer:
            self._buffer = self._raw.read(min(size, 1 << 20))
            if not self._buffer:
                raise _broken()
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece


def _broken() -> ApiError:
    return ApiError("IncompleteBody", "The request body terminated unexpectedly")
