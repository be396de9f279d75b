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


class CallsWriter:
    """Writer of a file of calls. The first value is the function; each further one has the arguments of a call."""

    def __init__(self) -> None:
        self._chunks: List[bytes] = []
        self._size = 0
        self._entries: List[Entry] = []
        self._shared: Dict[bytes, Tuple[int, int]] = {}
        self._seen: Dict[bytes, int] = {}

    def add(self, chunks: Iterable[memoryview]) -> bytes:
        """Add the chunks of a packed value, and return its key. The chunks are copied."""
        digest = hashlib.sha256()
        parts = []
        for chunk in chunks:
            mark = hashlib.sha256(chunk).digest()
            digest.update(mark)
            parts.append(self._share(mark, chunk))
        content = digest.digest()
        earlier = self._seen.get(content, 0)
        self._seen[content] = earlier + 1
        key = hashlib.sha256(content + b"%d" % earlier).digest()[:16]
        self._entries.append(Entry(key, tuple(parts)))
        return key

    def _share(self, mark: bytes, chunk: memoryview) -> Tuple[int, int]:
        if chunk.nbytes < _SHARED_BYTES:
            return self._append(bytes(chunk))
        if mark not in self._shared:
            self._shared[mark] = self._append(bytes(chunk))
        return self._shared[mark]

    def _append(self, data: bytes) -> Tuple[int, int]:
        place = (self._size, len(data))
        self._chunks.append(data)
        self._size += len(data)
        return place

    def chunks(self) -> List[bytes]:
        """Return the content of the file, in pieces."""
        index = bytearray()
        for key, parts in self._entries:
            index += _ENTRY.pack(key, len(parts))
            for part in parts:
                index += _PART.pack(*part)
        return [*self._chunks, bytes(index), _FOOTER.pack(self._size, len(self._entries))]


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
