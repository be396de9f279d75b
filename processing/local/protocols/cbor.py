"""CBOR (RFC 8949), as far as the services' RPC protocol has it: JSON's types, bytes, and times as tag 1.

Written are definite lengths in their shortest form; read are indefinite ones too, and floats of every size.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from processing.local.errors import ApiError

MAX_DEPTH = 64
"""So deep may arrays, maps and tags stand inside one another in what is read."""

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_INDEFINITE = 31
_BREAK = 0xFF
_TIME = 1
_CONSTANTS: dict[int, Any] = {20: False, 21: True, 22: None, 23: None}
_FLOATS = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}
_LENGTHS = ((24, 1, ">B"), (25, 2, ">H"), (26, 4, ">I"), (27, 8, ">Q"))
_SIZES = {info: size for info, size, _ in _LENGTHS}


def dumps(value: Any) -> bytes:
    """Return a value as CBOR; members of a mapping that are None are left out."""
    out = bytearray()
    _write(value, out)
    return bytes(out)


def loads(data: bytes) -> Any:
    """Return the one value that the bytes are; times are datetimes in UTC.

    Raises:
        ApiError: `SerializationException`, if they are none.
    """
    reader = _Reader(data)
    try:
        value = reader.item(MAX_DEPTH)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError, OverflowError, OSError, TypeError):
        # TypeError: a map's key that is itself an array or a map
        raise ApiError("SerializationException", "The request body is not valid CBOR.") from None
    if reader.position != len(data):
        raise ApiError("SerializationException", "The request body goes on after its CBOR value.")
    return value


def _write(value: Any, out: bytearray) -> None:
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            write(value, out)
            return
    message = f"{type(value).__name__} is no type of a service's answer"
    raise TypeError(message)


def _write_constant(value: bool | None, out: bytearray) -> None:
    out.append(0xF6 if value is None else 0xF4 + value)


def _write_integer(value: int, out: bytearray) -> None:
    _head(_UNSIGNED if value >= 0 else _NEGATIVE, value if value >= 0 else -1 - value, out)


def _write_float(value: float, out: bytearray) -> None:
    out += b"\xfb" + struct.pack(">d", value)


def _write_text(value: str, out: bytearray) -> None:
    encoded = value.encode("utf-8", "replace")
    _head(_TEXT, len(encoded), out)
    out += encoded


def _write_bytes(value: bytes, out: bytearray) -> None:
    _head(_BYTES, len(value), out)
    out += value


def _write_time(value: dt.datetime, out: bytearray) -> None:
    _head(_TAG, _TIME, out)
    moment = value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value
    _write_float(moment.timestamp(), out)


def _write_map(value: Mapping[str, Any], out: bytearray) -> None:
    members = {key: member for key, member in value.items() if member is not None}
    _head(_MAP, len(members), out)
    for key, member in members.items():
        _write(key, out)
        _write(member, out)


def _write_array(value: Sequence[Any], out: bytearray) -> None:
    _head(_ARRAY, len(value), out)
    for member in value:
        _write(member, out)


_WRITERS: tuple[tuple[Any, Callable[[Any, bytearray], None]], ...] = (
    ((type(None), bool), _write_constant),  # before integers: a boolean is one
    (int, _write_integer),
    (float, _write_float),
    (str, _write_text),
    ((bytes, bytearray), _write_bytes),
    (dt.datetime, _write_time),
    (Mapping, _write_map),
    (Sequence, _write_array),
)


def _head(major: int, argument: int, out: bytearray) -> None:
    if argument < 24:
        out.append(major << 5 | argument)
        return
    for info, size, form in _LENGTHS:
        if argument < 1 << 8 * size:
            out.append(major << 5 | info)
            out += struct.pack(form, argument)
            return
    message = f"{argument} does not fit into 64 bits"
    raise OverflowError(message)


class _Reader:
    """Reads values off bytes. No length is believed before that many bytes are there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def item(self, depth: int) -> Any:
        if depth < 0:
            message = "too deep"
            raise ValueError(message)
        major, info = self._initial()
        if major == _SIMPLE:
            return self._simple(info)
        if major in {_BYTES, _TEXT}:
            found = self._string(major, info)
            return found.decode() if major == _TEXT else found
        if major == _ARRAY:
            return [self.item(depth - 1) for _ in self._members(info)]
        if major == _MAP:
            return {self.item(depth - 1): self.item(depth - 1) for _ in self._members(info)}
        argument = self._argument(info)
        if major == _TAG:
            return self._tagged(argument, self.item(depth - 1))
        return argument if major == _UNSIGNED else -1 - argument

    def _initial(self) -> tuple[int, int]:
        byte = self._data[self.position]
        self.position += 1
        return byte >> 5, byte & 0x1F

    def _argument(self, info: int) -> int:
        if info < 24:
            return info
        if info not in _SIZES:
            message = "a length that is reserved, or indefinite where it must not be"
            raise ValueError(message)
        return int.from_bytes(self._take(_SIZES[info]), "big")

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            message = "the end is missing"
            raise ValueError(message)
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _string(self, major: int, info: int) -> bytes:
        if info != _INDEFINITE:
            return self._take(self._argument(info))
        pieces = []
        while not self._at_break():
            inner, length = self._initial()
            if inner != major:
                message = "a piece of another type"
                raise ValueError(message)
            pieces.append(self._take(self._argument(length)))
        return b"".join(pieces)

    def _members(self, info: int) -> Any:
        """Yield once for each member that follows."""
        if info == _INDEFINITE:
            while not self._at_break():
                yield
            return
        count = self._argument(info)
        if count > len(self._data) - self.position:  # a member takes a byte at least
            message = "the end is missing"
            raise ValueError(message)
        for _ in range(count):
            yield

    def _at_break(self) -> bool:
        found = self._data[self.position] == _BREAK
        self.position += found
        return found

    def _simple(self, info: int) -> Any:
        if info in _FLOATS:
            form, size = _FLOATS[info]
            return struct.unpack(form, self._take(size))[0]
        if info not in _CONSTANTS:
            message = "a simple value that is not known"
            raise ValueError(message)
        return _CONSTANTS[info]

    @staticmethod
    def _tagged(tag: int, value: Any) -> Any:
        if tag != _TIME or isinstance(value, bool) or not isinstance(value, (int, float)):
            message = "a tag that is not known"
            raise ValueError(message)
        return dt.datetime.fromtimestamp(value, dt.timezone.utc)
