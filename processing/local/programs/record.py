"""SageMaker's protobuf record, which maps names to tensors: a parser and a serializer without protobuf.

The fields and their numbers are in AWS's guide, below "Common data formats for training".
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

FEATURES, LABEL, _UID, _METADATA, _CONFIGURATION = range(1, 6)
KINDS = {2: "<f4", 3: "<f8", 7: "<i4"}
"""The type of a tensor by its field in a value."""

INT32 = 7
"""The field of integers, whose length depends on their values."""

_BYTES = 9
VALUES, KEYS, SHAPE = 1, 2, 3
VARINT, _FIXED64, LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT = 10  # bytes of 64 bits
_LARGEST_UINT64 = (1 << 64) - 1

Buffer: TypeAlias = "bytes | bytearray | memoryview"


class RecordIOError(ValueError):
    """The bytes are not RecordIO, or not a record."""


class Tensor(NamedTuple):
    """Values of one feature or label.

    Attributes:
        values: float32, float64 or int32.
        keys: the positions of the values if the tensor is sparse.
        shape: the shape; empty for a dense vector.
    """

    values: NDArray[Any]
    keys: NDArray[Any] | None = None
    shape: tuple[int, ...] = ()


class Record(NamedTuple):
    """One example, or one answer.

    Attributes:
        features: tensors by their name. A single vector has the name `values`.
        label: tensors by their name. A single label has the name `values`.
        uid: an identifier of the example.
        metadata: a description of the example.
        configuration: settings for this example, as JSON.
    """

    features: Mapping[str, Tensor]
    label: Mapping[str, Tensor]
    uid: str | None = None
    metadata: str | None = None
    configuration: str | None = None


def write_record(record: Record) -> bytes:
    """Return a record as protobuf, without a frame."""
    parts = [_map_entry(FEATURES, name, tensor) for name, tensor in record.features.items()]
    parts += [_map_entry(LABEL, name, tensor) for name, tensor in record.label.items()]
    texts = ((_UID, record.uid), (_METADATA, record.metadata), (_CONFIGURATION, record.configuration))
    parts += [_delimited(field, text.encode()) for field, text in texts if text is not None]
    return b"".join(parts)


def read_record(data: Buffer, start: int = 0, end: int | None = None) -> Record:
    """Parse one record, without its frame.

    Args:
        data: the bytes.
        start: the record's first byte.
        end: the byte after its last one; by default the end of the data.

    Raises:
        RecordIOError: the bytes are not a record, or a value is not a tensor.
    """
    stop = len(data) if end is None else end
    features, label = ({k: _read_tensor(data, v) for k, v in m.items()} for m in locate(data, start, stop).values())
    texts = {
        field: _text(data, first, last)
        for field, wire, first, last in fields(data, start, stop)
        if field in {_UID, _METADATA, _CONFIGURATION} and wire == LENGTH
    }
    return Record(features, label, texts.get(_UID), texts.get(_METADATA), texts.get(_CONFIGURATION))


class Location(NamedTuple):
    """The place of a tensor in a buffer.

    Attributes:
        kind: the field of its type.
        lists: wire type, first byte and end of each part of its `VALUES`, `KEYS` and `SHAPE`.
    """

    kind: int
    lists: Mapping[int, list[tuple[int, int, int]]]


def _nowhere(kind: int = 2) -> Location:
    return Location(kind, {VALUES: [], KEYS: [], SHAPE: []})


def locate(data: Buffer, start: int, end: int) -> dict[int, dict[str, Location]]:
    """Find the tensors of a record: by `FEATURES` or `LABEL`, and by name."""
    maps: dict[int, dict[str, Location]] = {FEATURES: {}, LABEL: {}}
    for field, wire, first, last in fields(data, start, end):
        if field in maps and wire == LENGTH:
            name, location = _read_entry(data, first, last)
            maps[field][name] = location  # the last one of a name counts, as in protobuf
    return maps


def fields(data: Buffer, start: int, end: int) -> list[tuple[int, int, int, int]]:
    """Return number, wire type, first byte and end of each field of a message.

    Raises:
        RecordIOError: the bytes are not a message.
    """
    found = []
    position = start
    while position < end:
        # Tags and lengths have one byte in most records; a call for each would double the time.
        tag, first = (data[position], position + 1) if data[position] < 0x80 else _read_varint(data, position, end)
        wire = tag & 7
        if wire == LENGTH:
            short = first < end and data[first] < 0x80
            length, first = (data[first], first + 1) if short else _read_varint(data, first, end)
            position = first + length
        elif wire == VARINT:
            _, position = _read_varint(data, first, end)
        elif wire in {_FIXED64, _FIXED32}:
            position = first + (8 if wire == _FIXED64 else 4)
        else:
            raise RecordIOError(f"byte {position}: a field of the unknown wire type {wire}")
        if position > end:
            raise RecordIOError(f"byte {first}: a field ends behind its record")
        found.append((tag >> 3, wire, first, position))
    return found


def _read_entry(data: Buffer, start: int, end: int) -> tuple[str, Location]:
    """Parse an entry of a map: a name and a value."""
    name, location = "", _nowhere()
    for field, wire, first, last in fields(data, start, end):
        if field == 1 and wire == LENGTH:
            name = _text(data, first, last)
        elif field == 2 and wire == LENGTH:
            location = _find_lists(data, first, last, location)
    return name, location


def _find_lists(data: Buffer, start: int, end: int, default: Location) -> Location:
    """Find the lists of a value's tensor."""
    location = default
    for kind, wire, first, last in fields(data, start, end):
        if kind == _BYTES:
            raise RecordIOError(f"byte {first}: a value of bytes, such as an image, where numbers are expected")
        if kind not in KINDS or wire != LENGTH:
            continue
        location = _nowhere(kind)
        for field, inner, begin, stop in fields(data, first, last):
            if field in location.lists:
                location.lists[field].append((inner, begin, stop))
    return location


def _read_tensor(data: Buffer, location: Location) -> Tensor:
    values = _read_list(data, location, VALUES, location.kind)
    shape = _read_list(data, location, SHAPE, INT32).tolist()
    keys = _read_list(data, location, KEYS, INT32) if location.lists[KEYS] else None
    if keys is not None and len(keys) != len(values):
        raise RecordIOError(f"a sparse tensor with {len(values)} values and {len(keys)} keys")
    return Tensor(signed(values) if location.kind == INT32 else values, keys, tuple(shape))


def _read_list(data: Buffer, location: Location, which: int, kind: int) -> NDArray[Any]:
    import numpy as np

    parts = location.lists[which]
    return read_numbers(data, kind, parts, np.array([sum(last - first for _, first, last in parts)]))[0]


def read_numbers(
    data: Buffer, kind: int, parts: Sequence[tuple[int, int, int]], sizes: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Parse the lists of several tensors at once.

    Args:
        data: the bytes.
        kind: the field of the type of their numbers; `INT32` for keys and shapes, too, whose numbers are unsigned.
        parts: wire type, first byte and end of the parts of all lists, one list after another.
        sizes: the bytes of each list.

    Returns:
        All numbers, and how many of them each list has.

    Raises:
        RecordIOError: the bytes are not a list of that type.
    """
    import numpy as np

    raw = np.frombuffer(b"".join([data[first:last] for _, first, last in parts]), np.uint8)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    if kind == INT32:
        return _split_varints(raw, ends)
    dtype = np.dtype(KINDS[kind])
    wires = {LENGTH, _FIXED32 if dtype.itemsize == 4 else _FIXED64}
    for wire, first, last in parts:
        if wire not in wires or (last - first) % dtype.itemsize:
            raise RecordIOError(f"byte {first}: {last - first} bytes are no list of {dtype.name}")
    return raw.view(dtype), np.diff(ends) // dtype.itemsize


def signed(numbers: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return integers of a tensor, which are parsed as unsigned ones."""
    import numpy as np

    return numbers.astype(np.int64).astype(np.int32)


def _split_varints(raw: NDArray[np.uint8], ends: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Parse integers, and count those between each two positions."""
    import numpy as np

    last_bytes = ends[1:][np.diff(ends) > 0] - 1
    if (raw[last_bytes] >= 0x80).any():
        raise RecordIOError("a list of integers is cut off")
    totals = np.concatenate([[0], np.cumsum(raw < 0x80)])
    return _decode_varints(raw), np.diff(totals[ends])


def _decode_varints(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Parse integers. The last one is complete."""
    import numpy as np

    ends = np.flatnonzero(raw < 0x80)
    if len(ends) == len(raw):  # numbers of one byte
        return raw.astype(np.uint64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_VARINT:
        raise RecordIOError("an integer of more than 64 bits")
    numbers = np.zeros(len(ends), np.uint64)
    for position in range(lengths.max()):
        has = lengths > position
        numbers[has] |= (raw[starts[has] + position] & 0x7F).astype(np.uint64) << np.uint64(7 * position)
    return numbers


def pack(kind: int, numbers: NDArray[Any], starts: NDArray[np.int64]) -> list[bytes]:
    """Return the packed bytes of several lists of numbers, encoded at once.

    Args:
        kind: the field of their type; `INT32` for keys and shapes, too.
        numbers: all numbers.
        starts: the position of the first number of each list, and the number of all.
    """
    import numpy as np

    if kind == INT32:
        raw, ends = _encode_varints(numbers)
        bounds = np.concatenate([[0], ends])[starts].tolist()
    else:
        values = numbers.astype(KINDS[kind], copy=False)
        raw, bounds = values.tobytes(), (starts * values.itemsize).tolist()
    return [raw[first:last] for first, last in itertools.pairwise(bounds)]


def _encode_varints(numbers: NDArray[Any]) -> tuple[bytes, NDArray[np.int64]]:
    """Return the bytes of integers, and the end of each."""
    import numpy as np

    if not len(numbers):
        return b"", np.zeros(0, np.int64)
    largest = int(numbers.max()) if numbers.min() >= 0 else _LARGEST_UINT64  # a negative int32 has ten bytes
    if largest < 0x80:  # numbers of one byte
        return numbers.astype(np.uint8).tobytes(), np.arange(1, len(numbers) + 1)
    if largest < 0x4000:  # of two bytes at most, such as the columns of most rows
        pairs = np.empty((len(numbers), 2), np.uint8)
        long = numbers >= 0x80
        pairs[:, 0] = (numbers & 0x7F) | (long.astype(np.uint8) << 7)
        pairs[:, 1] = numbers >> 7
        kept = np.ones(pairs.shape, bool)
        kept[:, 1] = long
        return pairs[kept].tobytes(), np.cumsum(long + 1)
    numbers = numbers.astype(np.int64).astype(np.uint64)
    lengths = np.ones(len(numbers), np.int64)
    for position in range(1, _MAX_VARINT):
        if largest >= 1 << 7 * position:
            lengths += numbers >= np.uint64(1 << 7 * position)
    ends = np.cumsum(lengths)
    raw = np.empty(lengths.sum(), np.uint8)
    for position in range(lengths.max()):
        has = lengths > position
        low = (numbers[has] >> np.uint64(7 * position)) & np.uint64(0x7F)
        more = np.where(lengths[has] > position + 1, 0x80, 0).astype(np.uint64)
        raw[ends[has] - lengths[has] + position] = low + more
    return raw.tobytes(), ends


def _read_varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while position < end and shift < 7 * _MAX_VARINT:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
    raise RecordIOError(f"byte {position}: an integer is cut off or has more than 64 bits")


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(data: Buffer, start: int, end: int) -> str:
    try:
        return bytes(data[start:end]).decode()
    except UnicodeDecodeError as error:
        raise RecordIOError(f"byte {start}: a text that is not UTF-8") from error


def _delimited(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | LENGTH) + _varint(len(content)) + content


def _map_entry(field: int, name: str, tensor: Tensor) -> bytes:
    import numpy as np

    kind = kind_of(name, tensor.values)
    lists = [(kind, tensor.values)]
    lists += [(INT32, np.array(each, np.uint64)) for each in (() if tensor.keys is None else tensor.keys, tensor.shape)]
    return entry(field, name, kind, *(pack(each, numbers, np.array([0, len(numbers)]))[0] for each, numbers in lists))


def entry(field: int, name: str, kind: int, values: bytes, keys: bytes = b"", shape: bytes = b"") -> bytes:
    """Return a tensor of packed lists as an entry of a record's `FEATURES` or `LABEL`. Without keys, the values end it.

    Args:
        field: `FEATURES` or `LABEL`.
        name: the tensor's name.
        kind: the field of its type.
        values: the packed values.
        keys: the packed keys.
        shape: the packed shape.
    """
    lists = ((VALUES, values), (KEYS, keys), (SHAPE, shape))
    tensor = b"".join([_delimited(number, packed) for number, packed in lists if packed])
    return _delimited(field, _delimited(1, name.encode()) + _delimited(2, _delimited(kind, tensor)))


def kind_of(name: str, values: NDArray[Any]) -> int:
    """Return the field of an array's type. Integers of any size are int32 in a record.

    Raises:
        RecordIOError: a tensor cannot have that type, or an integer has more than 32 bits.
    """
    import numpy as np

    if values.dtype.kind in "iub":
        limits = np.iinfo(np.int32)
        if values.size and not (limits.min <= values.min() and values.max() <= limits.max):
            raise RecordIOError(f"{name}: an integer of more than 32 bits; use .astype('float64')")
        return INT32
    if values.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise RecordIOError(f"{name}: values must be float32, float64 or integers, not {values.dtype}; use .astype()")
    return 2 if values.dtype.itemsize == 4 else 3
