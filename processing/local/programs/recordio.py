"""RecordIO files of SageMaker's protobuf records: a reader and a writer, with numpy alone.

A file is a sequence of frames: a magic number, the length, the record, and zeros up to a multiple of four bytes, all
little-endian. Records of one shape have one length, and differ in the values alone. They are written and read all at
once, as a table of bytes. Other records are read by their layout (see `record_places`).
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from processing.local.programs.record import (
    FEATURES,
    INT32,
    KEYS,
    KINDS,
    LABEL,
    LENGTH,
    SHAPE,
    VALUES,
    Buffer,
    Location,
    Record,
    RecordIOError,
    entry,
    kind_of,
    locate,
    pack,
    read_record,
)
from processing.local.programs.record_places import Group, Places, groups
from processing.local.programs.rows import Rows, SparseRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


class SupportsWrite(Protocol):
    """A file that takes bytes."""

    def write(self, data: Buffer, /) -> object:
        """Write bytes."""


MAGIC = 0xCED7230A
"""The first four bytes of each frame, as a number."""

_MAX_WIDTH = (1 << 31) - 1  # of sparse rows: consumers have 32-bit indices
_FRAME = struct.Struct("<II")
_FLOAT32 = 2  # the field of its tensor
_TABLE = 1 << 18  # bytes of records that are made at once: they stay in the processor's cache until they are copied
_MAX_LENGTH = (1 << 29) - 1  # the three high bits mark the parts of a split record, which SageMaker does not write


def frame(record: bytes) -> bytes:
    """Return a record with its frame."""
    if len(record) > _MAX_LENGTH:
        raise RecordIOError(f"a record of {len(record)} bytes: the limit is {_MAX_LENGTH}")
    return _FRAME.pack(MAGIC, len(record)) + record + bytes(-len(record) % 4)


def iter_frames(data: Buffer) -> Iterator[tuple[int, int]]:
    """Yield where each record begins and ends.

    Raises:
        RecordIOError: a frame is cut off or has no magic number.
    """
    position, end = 0, len(data)
    while position < end:
        if end - position < _FRAME.size:
            raise RecordIOError(f"byte {position}: the file ends within the header of a record")
        magic, length = _FRAME.unpack_from(data, position)
        if magic != MAGIC:
            raise RecordIOError(f"byte {position}: this is not the start of a RecordIO record")
        if length > _MAX_LENGTH:
            raise RecordIOError(f"byte {position}: a record in several parts, which SageMaker does not write")
        start = position + _FRAME.size
        # The padding of the last record may be missing: some writers leave it out.
        if start + length > end:
            raise RecordIOError(f"byte {position}: a record of {length} bytes, and the file has {end - start} more")
        yield start, start + length
        position = start + length + -length % 4


def read_records(data: Buffer) -> Iterator[Record]:
    """Yield the records of a file.

    Raises:
        RecordIOError: the file is damaged; the message names the byte.
    """
    for start, end in iter_frames(data):
        yield read_record(data, start, end)


def encode(features: NDArray[Any], labels: NDArray[Any] | None = None, *, as_float32: bool = False) -> bytes:
    """Return a matrix as RecordIO, one record for each row.

    Args:
        features: two dimensions; float32, float64 or integers of 32 bits.
        labels: one for each row, of the same types.
        as_float32: True to write float64 as float32. It takes less time than a conversion of the whole matrix before.

    Raises:
        RecordIOError: the values have another type, or the sizes differ.
    """
    return _joined(_dense_columns(features, labels, as_float32=as_float32), as_float32=as_float32)


def write(
    file: SupportsWrite, features: NDArray[Any], labels: NDArray[Any] | None = None, *, as_float32: bool = False
) -> None:
    """Write to a file what `encode` returns, in blocks of a few rows."""
    columns = _dense_columns(features, labels, as_float32=as_float32)
    table = _Table.of(columns, as_float32=as_float32)
    for block in _records(columns) if table is None else table.blocks():
        file.write(block)


def _dense_columns(
    features: NDArray[Any], labels: NDArray[Any] | None, *, as_float32: bool
) -> list[tuple[int, str, NDArray[Any]]]:
    if features.ndim != 2 or (labels is not None and labels.shape != features.shape[:1]):
        raise RecordIOError("features must have two dimensions, and labels one value for each row")
    columns = [(FEATURES, "values", features)]
    if labels is not None:
        columns.append((LABEL, "values", labels.reshape(-1, 1)))
    if as_float32 and not features.size:
        columns = [(field, name, values.astype("<f4")) for field, name, values in columns]
    return columns


def encode_answers(columns: Mapping[str, NDArray[Any]]) -> bytes:
    """Return answers as RecordIO: one record for each row, with a label of each name.

    Args:
        columns: a vector or a matrix by name, all with the same number of rows.
    """
    return _joined([(LABEL, name, column.reshape(len(column), -1)) for name, column in columns.items()])


def encode_sparse(
    rows: SparseRows, labels: NDArray[Any] | None = None, *, shape: tuple[int, ...] | None = None
) -> bytes:
    """Return sparse rows as RecordIO, one record for each row.

    Args:
        rows: the rows; their values are float32, float64 or integers of 32 bits.
        labels: one for each row.
        shape: the shape of each row, if they are matrices; None for vectors of the rows' width.
    """
    import numpy as np

    kind, count = kind_of("values", rows.values), len(rows.starts) - 1
    if not count:
        return b""
    values, keys = pack(kind, rows.values, rows.starts), pack(INT32, rows.indices, rows.starts)
    sizes = (rows.width,) if shape is None else shape
    (packed_shape,) = pack(INT32, np.array(sizes), np.array([0, len(sizes)]))
    label = [b""] * count if labels is None else _entries(LABEL, "values", labels.reshape(-1, 1))
    around: dict[tuple[int, int, int], tuple[bytes, bytes, bytes, bytes]] = {}
    parts: list[bytes] = []
    for value, key, end in zip(values, keys, label, strict=True):
        lengths = (len(value), len(key), len(end))
        fixed = around.get(lengths)
        if fixed is None:
            fixed = around[lengths] = _around(
                frame(entry(FEATURES, "values", kind, value, key, packed_shape) + end), len(end)
            )
        parts += (fixed[0], value, fixed[1], key, fixed[2], end, fixed[3])
    return b"".join(parts)


def _around(framed: bytes, label: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the bytes of a framed sparse record before its values, its keys and its label, and behind it.

    They are the same for each record of the same sizes.

    Args:
        framed: a record of that layout.
        label: the size of its label, with which the record ends.
    """
    _, length = _FRAME.unpack_from(framed)
    end = _FRAME.size + length
    lists = locate(framed, _FRAME.size, end)[FEATURES]["values"].lists
    nowhere = [(LENGTH, _FRAME.size, _FRAME.size)]  # a row without values
    (_, first_value, last_value), (_, first_key, last_key) = ((lists[each] or nowhere)[0] for each in (VALUES, KEYS))
    pieces = ((0, first_value), (last_value, first_key), (last_key, end - label), (end, len(framed)))
    before, between, after, behind = (framed[start:stop] for start, stop in pieces)
    return before, between, after, behind


def _joined(columns: Sequence[tuple[int, str, NDArray[Any]]], *, as_float32: bool = False) -> bytes:
    """Return the records of dense columns."""
    table = _Table.of(columns, as_float32=as_float32)
    return b"".join(_records(columns)) if table is None else table.joined()


def _records(columns: Sequence[tuple[int, str, NDArray[Any]]]) -> list[bytes]:
    """Return the records of dense columns, each on its own."""
    return [frame(b"".join(each)) for each in zip(*(_entries(*column) for column in columns), strict=True)]


class _Field(NamedTuple):
    """The values of a column, and their place in each record."""

    start: int
    end: int
    values: NDArray[Any]
    dtype: str


class _Table(NamedTuple):
    """Records of one length, which differ in the values of their fields alone.

    Attributes:
        template: one record.
        height: the number of records.
        fields: the fields, in their order.
    """

    template: NDArray[np.uint8]
    height: int
    fields: Sequence[_Field]

    @classmethod
    def of(cls, columns: Sequence[tuple[int, str, NDArray[Any]]], *, as_float32: bool) -> _Table | None:
        """Return the table of dense columns. Return None if the lengths of their records may differ."""
        import numpy as np

        kinds = [_FLOAT32 if as_float32 else kind_of(name, values) for _, name, values in columns]
        if INT32 in kinds or not all(values.size for _, _, values in columns):
            return None
        fields, record, end = [], b"", _FRAME.size
        for kind, (field, name, values) in zip(kinds, columns, strict=True):
            first = values[:1].astype(KINDS[kind])
            record += _entries(field, name, first)[0]
            end = _FRAME.size + len(record)  # the values of a column are the end of its entry
            fields.append(_Field(end - first.nbytes, end, values, KINDS[kind]))
        return cls(np.frombuffer(frame(record), np.uint8), len(columns[0][2]), fields)

    def joined(self) -> bytes:
        """Return all records."""
        import numpy as np

        # The system gives the memory of such zeros at the first access, and each byte is written once.
        file = io.BytesIO(bytes(self.height * len(self.template)))
        self._fill(np.frombuffer(file.getbuffer(), np.uint8).reshape(self.height, -1))
        return file.getvalue()

    def blocks(self) -> Iterator[Buffer]:
        """Yield all records in blocks. Each is valid until the next one."""
        import numpy as np

        block = np.empty((min(self.height, self._rows), len(self.template)), np.uint8)
        for start in range(0, self.height, self._rows):
            used = block[: self.height - start]
            self._fill(used, start)
            yield used.data

    @property
    def _rows(self) -> int:
        return max(1, _TABLE // len(self.template))

    def _fill(self, table: NDArray[np.uint8], first: int = 0) -> None:
        """Write the records from the first one to a table of bytes."""
        import numpy as np

        for start in range(0, len(table), self._rows):
            block, end = table[start : start + self._rows], 0
            for field in self.fields:
                block[:, end : field.start] = self.template[end : field.start]
                rows = field.values[first + start : first + start + len(block)]
                block[:, field.start : field.end] = np.ascontiguousarray(rows, field.dtype).view(np.uint8)
                end = field.end
            block[:, end:] = self.template[end:]


def _entries(field: int, name: str, values: NDArray[Any]) -> list[bytes]:
    """Return a dense tensor for each row of a matrix."""
    import numpy as np

    kind = kind_of(name, values)
    starts = np.arange(len(values) + 1) * values.shape[1]
    return [entry(field, name, kind, packed) for packed in pack(kind, values.reshape(-1), starts)]


def decode(data: Buffer) -> Rows:
    """Parse a RecordIO file of examples.

    Returns:
        The features of the name `values`, or of the only name. They are dense if no record is sparse. The labels, if
        the records have some.

    Raises:
        RecordIOError: the file is damaged, or records differ in their width.
    """
    rows = _decode_uniform(data)
    return _decode_each(data) if rows is None else rows


def _decode_uniform(data: Buffer) -> Rows | None:
    """Parse records of one layout all at once. Return None if the layouts may differ."""
    import numpy as np

    start, end = next(iter_frames(data), (0, 0))
    size = end + -end % 4
    if not size or len(data) % size:
        return None
    features, labels = _layout(data, start, end)
    if features is None:
        return None
    table = np.frombuffer(data, np.uint8).reshape(-1, size)
    constant = np.ones(size, bool)
    for location in (features, labels):
        if location is not None:
            constant[location.lists[VALUES][0][1] : location.lists[VALUES][0][2]] = False
    if not (table[:, constant] == table[0, constant]).all():
        return None
    matrix, label = _block(table, features), None if labels is None else _block(table, labels)
    if label is not None and label.shape[1] != 1:
        raise RecordIOError("record 1: a label must be one number")
    return Rows(matrix, None if label is None else label[:, 0])


def _layout(data: Buffer, start: int, end: int) -> tuple[Location | None, Location | None]:
    """Find the dense features and the label of a record. Return None for features that are not simple."""
    maps = locate(data, start, end)
    if len(maps[FEATURES]) != 1 or len(maps[LABEL]) > 1:
        return None, None
    features, label = next(iter(maps[FEATURES].values())), next(iter(maps[LABEL].values()), None)
    simple = _is_simple(features) and (label is None or _is_simple(label))
    return (features, label) if simple else (None, None)


def _is_simple(location: Location) -> bool:
    """Return whether a tensor is one block of floating-point numbers, and nothing else."""
    return (
        location.kind != INT32
        and [wire for wire, _, _ in location.lists[VALUES]] == [LENGTH]
        and not (location.lists[VALUES][0][2] - location.lists[VALUES][0][1]) % int(KINDS[location.kind][2:])
        and not location.lists[KEYS]
        and not location.lists[SHAPE]
    )


def _block(table: NDArray[np.uint8], location: Location) -> NDArray[Any]:
    import numpy as np

    _, first, last = location.lists[VALUES][0]
    return np.ascontiguousarray(table[:, first:last]).view(KINDS[location.kind])


def _decode_each(data: Buffer) -> Rows:
    """Parse records of any layouts."""
    count, found = _groups(data)
    features = Places.choose(count, found, lambda group: _only("features", group, FEATURES))
    labels = Places.choose(count, found, lambda group: _only("label", group, LABEL) if group.maps[LABEL] else None)
    labelled = int(labels.present.sum())
    if labelled and labelled < count:
        raise RecordIOError(f"{labelled} of {count} records have a label")
    if not labelled:
        return Rows(_matrix(data, features))
    numbers, counts = labels.numbers(data, VALUES)
    if (counts != 1).any():
        raise RecordIOError(f"record {int((counts != 1).argmax()) + 1}: a label must be one number")
    return Rows(_matrix(data, features), numbers)


def _groups(data: Buffer) -> tuple[int, list[Group]]:
    """Return the number of records, and the records by their layout."""
    import numpy as np

    frames = np.array(list(iter_frames(data)), np.int64).reshape(-1, 2)
    return len(frames), list(groups(data, frames[:, 0], frames[:, 1]))


def decode_answers(data: Buffer) -> dict[str, Any]:
    """Parse RecordIO answers: by name, the labels as a matrix with one row for each record, or as `SparseRows`.

    Raises:
        RecordIOError: the bytes are damaged, or the records differ in their labels.
    """
    count, found = _groups(data)
    names = next((list(group.maps[LABEL]) for group in found if 0 in group.records), [])
    if any(set(group.maps[LABEL]) != set(names) for group in found):
        raise RecordIOError("the records have labels of different names")
    return {
        name: _matrix(data, Places.choose(count, found, lambda group, name=name: group.maps[LABEL][name]))  # type: ignore[misc]
        for name in names
    }


def _only(kind: str, group: Group, field: int) -> Location:
    found = group.maps[field]
    if "values" in found:
        return found["values"]
    if len(found) != 1:
        number = group.records[0] + 1
        raise RecordIOError(f"record {number}: the {kind} have the names {sorted(found)}, and none is 'values'")
    return next(iter(found.values()))


def _matrix(data: Buffer, places: Places) -> NDArray[Any] | SparseRows:
    # An empty sparse tensor has a shape, and neither keys nor values.
    sparse = places.has(KEYS) | (places.has(SHAPE) & ~places.has(VALUES))
    return _sparse(data, places, sparse) if sparse.any() else _table(data, places)


def _table(data: Buffer, places: Places) -> NDArray[Any]:
    values, counts = places.numbers(data, VALUES)
    widths = sorted(set(counts.tolist()))
    if len(widths) > 1:
        raise RecordIOError(f"the records have different widths: {widths[:5]}")
    return values.reshape(len(counts), *widths)


def _sparse(data: Buffer, places: Places, sparse: NDArray[np.bool_]) -> SparseRows:
    """Build sparse rows from tensors, some of them sparse."""
    import numpy as np

    values, counts = places.numbers(data, VALUES)
    keys, key_counts = places.numbers(data, KEYS)
    if (key_counts != counts)[sparse].any():
        raise RecordIOError("a sparse tensor has more values than keys, or fewer")
    widths = _widths(data, places, sparse)
    if (keys >= np.repeat(widths, key_counts[sparse])).any() or (widths > _MAX_WIDTH).any():
        raise RecordIOError(f"a key of a sparse tensor lies outside its shape, or the shape is above {_MAX_WIDTH}")
    starts = np.cumsum([0, *counts])
    indices = np.arange(len(values)) - np.repeat(starts[:-1], counts)
    indices[np.repeat(sparse, counts)] = keys
    rows = SparseRows(starts, indices, values, int(max(widths.max(), counts[~sparse].max(initial=0))))
    if rows.repeated() is not None:
        raise RecordIOError(f"record {rows.repeated()}: a key is there twice")
    return rows


def _widths(data: Buffer, places: Places, sparse: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the width of each sparse tensor: the product of its shape."""
    import numpy as np

    sizes, dimensions = places.numbers(data, SHAPE)
    if not dimensions[sparse].all():
        raise RecordIOError("a sparse tensor needs a shape")
    products = np.ones(len(dimensions))
    np.multiply.at(products, np.repeat(np.arange(len(dimensions)), dimensions), sizes.astype(float))
    return products[sparse]
