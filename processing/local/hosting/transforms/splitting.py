"""The division of an object's content into the payloads of a batch transform, and the assembly of the answers.

The content arrives in pieces of any size, and no more than a payload of it is held in memory.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SplitType = Literal["None", "Line", "RecordIO", "TFRecord"]
MIB = 1 << 20
_RECORDIO_MAGIC = 0xCED7230A
_RECORDIO_HEAD = struct.Struct("<II")
_RECORDIO_WHOLE, _RECORDIO_LAST = 0, 3
"""The flags of a record in one part, and of the last part of a record in several."""
_TFRECORD_HEAD = struct.Struct("<QI")
_TFRECORD_CHECKSUM = 4


class SplitError(Exception):
    """Content that cannot be divided. The message completes `<object>: `."""


class Record(NamedTuple):
    """A record of the content.

    Attributes:
        content: its bytes, without the padding or the newline after it.
        padding: the bytes between it and the next record: a newline, or zeros.
    """

    content: bytes
    padding: bytes = b""


class _ContentBuffer:
    """A buffer over pieces of content.

    Args:
        pieces: the pieces.
        limit: the most bytes of a record; None for any number.
    """

    def __init__(self, pieces: Iterable[bytes], limit: int | None) -> None:
        self._pieces = iter(pieces)
        self._buffer = b""
        self._limit = limit

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end."""
        waiting, have = [self._buffer], len(self._buffer)
        while have < size and (piece := next(self._pieces, None)) is not None:
            waiting.append(piece)
            have += len(piece)
        joined = b"".join(waiting)
        self._buffer = joined[size:]
        return joined[:size]

    def lines(self) -> Iterator[Record]:
        """Yield the lines."""
        rest: list[bytes] = []
        size = 0
        for piece in self._pieces:
            first, *others = piece.split(b"\n")
            if not others:
                rest.append(first)
                size += len(first)
                self.check(size)
                continue
            for line in (b"".join([*rest, first]), *others[:-1]):
                self.check(len(line))
                yield Record(line, b"\n")
            rest, size = [others[-1]], len(others[-1])
        if size:
            self.check(size)
            yield Record(b"".join(rest))

    def groups_of_lines(self) -> Iterator[bytes]:
        """Yield as many whole lines as fit into a payload at a time, without looking at each."""
        waiting: list[bytes] = []
        size = 0
        for piece in self._pieces:
            waiting.append(piece)
            size += len(piece)
            if self._limit is not None and size > self._limit:
                rest = b"".join(waiting)
                while len(rest) > self._limit:
                    end = self._end_of_lines(rest, self._limit)
                    yield rest[:end]
                    rest = rest[end:]
                waiting, size = [rest], len(rest)
        if size:
            yield b"".join(waiting)

    def _end_of_lines(self, content: bytes, limit: int) -> int:
        """Return the end of the last line that fits into a payload, of content that does not."""
        end = content.rfind(b"\n", 0, limit) + 1
        if end:
            return end
        end = content.find(b"\n", limit)
        self.check(len(content) if end < 0 else end)
        return end + 1  # the newline after a line of the limit's size does not count

    def check(self, size: int) -> None:
        """Raise SplitError if a record of this size exceeds the limit."""
        if self._limit is not None and size > self._limit:
            raise SplitError(
                f"a record of {size} bytes or more exceeds MaxPayloadInMB ({self._limit // MIB}). Raise MaxPayloadInMB"
            )


def _recordio(reader: _ContentBuffer) -> Iterator[Record]:
    parts: list[bytes] = []
    while head := reader.read(_RECORDIO_HEAD.size):
        if len(head) < _RECORDIO_HEAD.size:
            raise SplitError("the last RecordIO record is incomplete")
        magic, length = _RECORDIO_HEAD.unpack(head)
        if magic != _RECORDIO_MAGIC:
            raise SplitError("the content is not in RecordIO format")
        flag, size = length >> 29, length & ((1 << 29) - 1)
        reader.check(sum(map(len, parts)) + len(head) + size)
        content = reader.read(size)
        padding = reader.read(-size % 4)
        if len(content) < size:
            raise SplitError("the last RecordIO record is incomplete")
        if flag in {_RECORDIO_WHOLE, _RECORDIO_LAST}:
            yield Record(b"".join([*parts, head, content]), padding)
            parts = []
        else:
            parts += [head, content, padding]


def _tfrecord(reader: _ContentBuffer) -> Iterator[Record]:
    while head := reader.read(_TFRECORD_HEAD.size):
        if len(head) < _TFRECORD_HEAD.size:
            raise SplitError("the last TFRecord record is incomplete")
        size = _TFRECORD_HEAD.unpack(head)[0] + _TFRECORD_CHECKSUM
        reader.check(len(head) + size)
        content = reader.read(size)
        if len(content) < size:
            raise SplitError("the last TFRecord record is incomplete, or the content is not in TFRecord format")
        yield Record(head + content)


_SPLITTERS: dict[SplitType, Callable[[_ContentBuffer], Iterator[Record]]] = {
    "Line": _ContentBuffer.lines,
    "RecordIO": _recordio,
    "TFRecord": _tfrecord,
}


def payloads(pieces: Iterable[bytes], split_type: SplitType, limit: int | None, *, several: bool) -> Iterator[bytes]:
    """Yield the payloads of the requests for an object.

    Args:
        pieces: the object's content.
        split_type: the format of its records; `None` for one payload with all of the content.
        limit: the most bytes of a payload; None for any number.
        several: whether a payload has as many records as fit. Otherwise it has one, without its padding.

    Raises:
        SplitError: a record exceeds the limit, or the content does not have the format.
    """
    if split_type == "None":
        yield b"".join(_within(pieces, limit))
        return
    content = _ContentBuffer(pieces, limit)
    if split_type == "Line" and several:
        yield from content.groups_of_lines()
        return
    records = _SPLITTERS[split_type](content)
    if not several:
        yield from (record.content for record in records)
        return
    waiting: list[bytes] = []
    size = 0
    for record in records:
        length = len(record.content) + len(record.padding)
        if waiting and limit is not None and size + length > limit:
            yield b"".join(waiting)
            waiting, size = [], 0
        waiting += record
        size += length
    if waiting:
        yield b"".join(waiting)


def _within(pieces: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if limit is not None and size > limit:
            raise SplitError(
                f"the object exceeds MaxPayloadInMB ({limit // MIB}). Raise MaxPayloadInMB, or choose a SplitType"
            )
        yield piece


def assembled(answer: bytes, *, lines: bool) -> bytes:
    """Return an answer as a part of the output: with a newline at its end if the output consists of lines."""
    return answer if not lines or answer.endswith(b"\n") else answer + b"\n"
