"""The packed calls of a map in one file: the function, the arguments of each call, and an index.

Large chunks, such as arrays, are stored once however many calls have them. Each call has a key, 16 bytes that depend
on its arguments and not on the function. Calls with equal arguments have different keys: their order counts.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

_ENTRY = struct.Struct(">16sI")
_PART = struct.Struct(">QQ")
_FOOTER = struct.Struct(">QQ")
_SHARED_BYTES = 4096
"""The size from which a chunk is compared with earlier ones, so that equal ones are stored once."""

Parts = Tuple[Tuple[int, int], ...]
"""The places of a packed value's chunks: offset and size of each."""


class Entry(NamedTuple):
    """One packed value of the file.

    Attributes:
        key: the identity of a call.
        parts: the places of its bytes.
    """

    key: bytes
    parts: Parts


class PackedCall(NamedTuple):
    """A packed value, apart from the memory of the caller's objects.

    Attributes:
        key: the identity of a call.
        chunks: the bytes, in order. Equal large chunks of several calls are one object.
        marks: the SHA-256 of each chunk.
    """

    key: bytes
    chunks: Tuple[bytes, ...]
    marks: Tuple[bytes, ...]


class CallsPacker:
    """Maker of packed calls. It copies the chunks, and counts calls with equal arguments."""

    def __init__(self) -> None:
        self._shared: Dict[bytes, bytes] = {}
        self._seen: Dict[bytes, int] = {}

    def pack(self, chunks: Iterable[memoryview]) -> PackedCall:
        """Return the packed call of these chunks."""
        kept, marks = [], []
        for chunk in chunks:
            mark = hashlib.sha256(chunk).digest()
            marks.append(mark)
            kept.append(bytes(chunk) if chunk.nbytes < _SHARED_BYTES else self._shared_copy(mark, chunk))
        content = b"".join(marks)
        earlier = self._seen.get(content, 0)
        self._seen[content] = earlier + 1
        key = hashlib.sha256(content + b"%d" % earlier).digest()[:16]
        return PackedCall(key, tuple(kept), tuple(marks))

    def _shared_copy(self, mark: bytes, chunk: memoryview) -> bytes:
        if mark not in self._shared:
            self._shared[mark] = bytes(chunk)
        return self._shared[mark]


def calls_file(function: PackedCall, calls: Iterable[PackedCall]) -> List[bytes]:
    """Return the content of a file of calls, in pieces."""
    pieces: List[bytes] = []
    places: Dict[bytes, Tuple[int, int]] = {}
    index, size, count = bytearray(), 0, 0
    for packed in (function, *calls):
        index += _ENTRY.pack(packed.key, len(packed.chunks))
        count += 1
        for chunk, mark in zip(packed.chunks, packed.marks):  # noqa: B905 - Python 3.8 has no `strict`
            place = places.get(mark)
            if place is None:
                place = (size, len(chunk))
                pieces.append(chunk)
                size += len(chunk)
                if len(chunk) >= _SHARED_BYTES:
                    places[mark] = place
            index += _PART.pack(*place)
    return [*pieces, bytes(index), _FOOTER.pack(size, count)]


class CallsReader:
    """Reader of a file of calls, which maps it into memory.

    Args:
        path: the file, whose digest was compared.
        start: the position in the file at which the calls begin.

    Attributes:
        function: the packed function.
        calls: the packed arguments of each call.
    """

    def __init__(self, path: str, start: int) -> None:
        with open(path, "rb") as file:  # noqa: PTH123 - a host uses no pathlib
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._start = start
        offset, count = _FOOTER.unpack_from(self._data, len(self._data) - _FOOTER.size)
        entries = self._entries(start + offset, count)
        self.function = entries[0]
        self.calls: Sequence[Entry] = entries[1:]

    def _entries(self, position: int, count: int) -> List[Entry]:
        entries = []
        for _ in range(count):
            key, length = _ENTRY.unpack_from(self._data, position)
            position += _ENTRY.size
            parts: List[Any] = [_PART.unpack_from(self._data, position + each * _PART.size) for each in range(length)]
            position += length * _PART.size
            entries.append(Entry(key, tuple(parts)))
        return entries

    def read(self, parts: Parts) -> bytearray:
        """Return a packed value. It is a copy: a call may change its arguments, and no other call sees it."""
        value = bytearray(sum(size for _, size in parts))
        position = 0
        for offset, size in parts:
            begin = self._start + offset
            value[position : position + size] = self._data[begin : begin + size]
            position += size
        return value
