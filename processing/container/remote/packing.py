"""Packed values: any Python value as a few chunks of bytes, without a copy of its arrays.

A packed value is a pickle of protocol 5 and the buffers that belong to it. Arrays of NumPy, blocks of pandas, buffers
of Arrow and storages of PyTorch stay where they are in memory, and the chunks refer to them. `unpack` refers to the
bytes that it gets in the same way. Layout, with numbers as little-endian unsigned integers of 8 bytes:

    magic (8 bytes) | size of all | size of the pickle | number of buffers
    for each buffer: twice its size, plus 1 if it must not be changed
    the pickle
    for each buffer: zeros up to a multiple of 64, the buffer

The module that checks a digest calls `unpack` afterwards: loading a pickle runs the code in it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import pickle
import struct
import sys
import types

from . import reducers, restored_functions

TYPE_CHECKING = False  # as in the boot program
if TYPE_CHECKING:
    from typing import IO, Any, Callable, List, Optional, Sequence, Tuple, Union

    Buffer = Union[bytes, bytearray, memoryview]

MAGIC = b"\x93SMPACK1"
"""The first bytes of a packed value. No pickle begins with them."""

_HEADER = struct.Struct("<8sQQQ")
_ENTRY = struct.Struct("<Q")
_ALIGNMENT = 64  # bytes; Arrow recommends it, and the vector instructions of NumPy profit
_IN_BAND = 2048  # bytes; a smaller buffer costs more as a chunk of its own than its copy
_NO_FILE = "<dynamic-code>"
"""The file name that cloudpickle gives to code."""
_LARGE = 1 << 16  # bytes; the pickler hands over a larger string or bytes object without a copy
_SMALL_PICKLE = 1 << 20  # bytes; for a larger pickle, the import of cloudpickle does not matter


class PackingError(ValueError):
    """Bytes that are not a packed value, or only a part of one."""


class PackedValue:
    """A packed value. It refers to the memory of the value's arrays: do not change them before it is written.

    Attributes:
        chunks: the bytes, in order, as one-dimensional views.
        size: the number of all bytes.
    """

    def __init__(self, chunks: Sequence[memoryview]) -> None:
        self.chunks = tuple(chunks)
        self.size = sum(chunk.nbytes for chunk in self.chunks)

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hexadecimal digits; computed on first use."""
        digest = hashlib.sha256()
        for chunk in self.chunks:
            digest.update(chunk)
        return digest.hexdigest()

    def write(self, file: IO[bytes]) -> None:
        """Write the bytes to a binary file."""
        for chunk in self.chunks:
            file.write(chunk)

    def to_bytes(self) -> bytes:
        """Return a copy of all bytes."""
        return b"".join(self.chunks)


def pack(value: Any, derive: Optional[Callable[[Any], Any]] = None) -> PackedValue:
    """Pack a value. Functions and classes of `__main__` are in it by value.

    Small values of built-in types need no cloudpickle, which is loaded for others.

    Args:
        value: any value.
        derive: returns a class derived from the pickler's class, which is then used; None for the class itself.

    Raises:
        Exception: the value cannot be pickled; this is the pickler's error.
    """
    if derive is None and not _has_cloudpickle():
        with contextlib.suppress(_NotPlainError):
            stream = _ChunkWriter(_SMALL_PICKLE)
            _PlainPickler(stream, protocol=5).dump(value)
            return PackedValue(_lay_out(stream.finish(), ()))
    return _pack_any(value, _pickler_class() if derive is None else derive(_pickler_class()))


def _pack_any(value: Any, pickler: Callable[..., Any]) -> PackedValue:
    stream = _ChunkWriter()
    buffers: List[memoryview] = []

    def is_in_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _IN_BAND:
            return True
        buffers.append(raw)
        return False

    pickler(stream, protocol=5, buffer_callback=is_in_band).dump(value)
    return PackedValue(_lay_out(stream.finish(), buffers))


def unpack(memory: Buffer, loads: Optional[Callable[..., Any]] = None) -> Any:
    """Load a packed value whose origin has been checked: its pickle may run any code.

    Arrays of the value refer to `memory`. They can be changed if `memory` can, and if the packed arrays could.

    Args:
        memory: all bytes of the packed value.
        loads: loads the pickle; called as `pickle.loads` with the argument `buffers`. None for `pickle.loads` itself,
            without an import of cloudpickle for a function.

    Raises:
        PackingError: the bytes are not a packed value, or not all of one.
        Exception: the pickle cannot be loaded; this is the unpickler's error.
    """
    view = memoryview(memory).cast("B")
    pickled, buffers = _find_parts(view)
    # The reducers' functions must be known under their name in pickles before a pickle is loaded.
    reducers.register()
    return (loads or _loads)(pickled, buffers=buffers)


def _loads(pickled: memoryview, buffers: Sequence[memoryview]) -> Any:
    if _has_cloudpickle() or pickled.nbytes > _SMALL_PICKLE:
        return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - its origin has been checked
    return _Unpickler(io.BytesIO(pickled), buffers=buffers).load()


def _has_cloudpickle() -> bool:
    return "cloudpickle" in sys.modules


def _lay_out(pickled: Sequence[memoryview], buffers: Sequence[memoryview]) -> List[memoryview]:
    """Return the chunks of a packed value."""
    pickle_size = sum(chunk.nbytes for chunk in pickled)
    index = b"".join(_ENTRY.pack(buffer.nbytes << 1 | buffer.readonly) for buffer in buffers)
    offset = _HEADER.size + len(index) + pickle_size
    body = list(pickled)
    for buffer in buffers:
        padding = -offset % _ALIGNMENT
        if padding:
            body.append(memoryview(bytes(padding)))
        body.append(buffer)
        offset += padding + buffer.nbytes
    header = _HEADER.pack(MAGIC, offset, pickle_size, len(buffers))
    return [memoryview(header + index), *body]


def _find_parts(view: memoryview) -> Tuple[memoryview, List[memoryview]]:
    """Return the pickle and the buffers of a packed value, as views."""
    if view.nbytes < _HEADER.size:
        raise PackingError("%d bytes are too few for a packed value" % view.nbytes)
    magic, size, pickle_size, count = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise PackingError("the first bytes are not those of a packed value")
    if size != view.nbytes:
        raise PackingError("the packed value has %d bytes, but %d are here" % (size, view.nbytes))
    offset = _HEADER.size + count * _ENTRY.size
    if offset + pickle_size > size:
        raise PackingError("the pickle does not end inside of the packed value")
    entries = [entry for (entry,) in _ENTRY.iter_unpack(view[_HEADER.size : offset])]
    pickled = view[offset : offset + pickle_size]
    offset += pickle_size
    buffers = []
    for entry in entries:
        offset += -offset % _ALIGNMENT
        end = offset + (entry >> 1)
        if end > size:
            raise PackingError("a buffer does not end inside of the packed value")
        buffer = view[offset:end]
        buffers.append(buffer.toreadonly() if entry & 1 else buffer)
        offset = end
    if offset != size:
        raise PackingError("bytes follow the last buffer of the packed value")
    return pickled, buffers


class _Unpickler(pickle.Unpickler):
    """An unpickler that restores functions without cloudpickle."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "cloudpickle.cloudpickle" and name in restored_functions.FUNCTIONS:
            return restored_functions.FUNCTIONS[name]
        return super().find_class(module, name)


class _NotPlainError(Exception):
    """A value that is not small, or has a part of another than a built-in type."""


class _PlainPickler(pickle.Pickler):
    """A pickler of built-in types."""

    def reducer_override(self, _obj: Any) -> Any:
        """Refuse an object: the pickler asks for those of other types alone."""
        raise _NotPlainError


class _ChunkWriter:
    """The file that a pickler writes to. It keeps references to large objects instead of copies.

    Args:
        limit: the bytes that it takes before it raises `_NotPlainError`; None for any number.
    """

    def __init__(self, limit: Optional[int] = None) -> None:
        self._chunks: List[memoryview] = []
        self._small = bytearray()
        self._left = limit

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._left is not None:
            self._left -= view.nbytes
            if self._left < 0:
                raise _NotPlainError
        if view.nbytes < _LARGE:
            self._small += view
        else:
            self._flush()
            self._chunks.append(view)
        return view.nbytes

    def _flush(self) -> None:
        if self._small:
            self._chunks.append(memoryview(bytes(self._small)))
            self._small = bytearray()

    def finish(self) -> List[memoryview]:
        """Return all that was written."""
        self._flush()
        return self._chunks


@functools.lru_cache(maxsize=None)
def _pickler_class() -> Callable[..., Any]:
    """Return cloudpickle's pickler with the reducers of this package; cloudpickle is loaded when it is used."""
    import cloudpickle

    class ValuePickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        """A pickler that keeps tracebacks, and the memory of tensors."""

        def reducer_override(self, obj: Any) -> Any:
            """Return the reduced form of an object, or NotImplemented."""
            if isinstance(obj, types.CodeType):
                return _reduce_code(obj, self.dispatch_table[types.CodeType](obj))
            reduced = reducers.reduce(obj)
            return super().reducer_override(obj) if reduced is NotImplemented else reduced

    return ValuePickler


def _reduce_code(code: types.CodeType, reduced: Any) -> Any:
    """Return cloudpickle's form of a code object with the name of its file, which a traceback shows.

    cloudpickle leaves the name out, for pickles that do not depend on it.
    """
    function, arguments = reduced
    return function, tuple(
        code.co_filename if isinstance(each, str) and each == _NO_FILE else each for each in arguments
    )
