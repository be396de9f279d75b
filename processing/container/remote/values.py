"""Values in JSON or Arrow: forms that any Python reads, and that run no code when they are read.

A value is one line of JSON, and in Arrow's form the tables behind it, each as a stream of Arrow's IPC format. In the
JSON, a mapping with the one key `$table` stands for a table.
"""

from __future__ import annotations

import io
import json
from typing import Any, Dict, List, Sequence

FORMATS = ("json", "arrow")
_TABLE = "$table"


class ValueFormatError(TypeError):
    """A value that the form does not have. The text names its place, such as `result["rows"][2]`."""


def encode(value: Any, form: str, name: str) -> List[memoryview]:
    """Return the chunks of a value. Tuples become lists.

    Args:
        value: None, True, False, numbers, strings, and lists, tuples and dictionaries of them. In Arrow's form also
            tables and record batches of pyarrow, and data frames of pandas.
        form: `json` or `arrow`.
        name: the name of the value in messages.

    Raises:
        ValueFormatError: the value, or a part of it, has no such form.
    """
    tables: List[memoryview] = []
    plain = _plain(value, name, tables if form == "arrow" else None)
    head = json.dumps({"value": plain, "sizes": [table.nbytes for table in tables]}, separators=(",", ":"))
    return [memoryview(head.encode() + b"\n"), *tables]


def decode(memory: Any) -> Any:
    """Return the value of chunks.

    Raises:
        ValueError: the bytes are not such a value.
    """
    view = memoryview(memory).cast("B")
    end = bytes(view).find(b"\n") + 1 if view.nbytes < 1 << 20 else _find_line_end(view)
    head = json.loads(bytes(view[:end]))
    tables, start = [], end
    for size in head["sizes"]:
        tables.append(view[start : start + size])
        start += size
    if start != view.nbytes:
        raise ValueError("the value has %d bytes, but %d are here" % (start, view.nbytes))
    return _restored(head["value"], tables)


def _find_line_end(view: memoryview) -> int:
    file = io.BytesIO(view)
    return len(file.readline())


def _plain(value: Any, name: str, tables: Any) -> Any:
    """Return a value in JSON's types, and append its tables."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each, "%s[%d]" % (name, index), tables) for index, each in enumerate(value)]
    if isinstance(value, dict):
        return _plain_mapping(value, name, tables)
    kind = _table_kind(value) if tables is not None else None
    if kind is None:
        form = "json" if tables is None else "arrow"
        raise ValueFormatError("%s: a %s cannot be sent with result_format=%r" % (name, type(value).__name__, form))
    tables.append(_stream(value, kind))
    return {_TABLE: [len(tables) - 1, kind]}


def _plain_mapping(value: Dict[Any, Any], name: str, tables: Any) -> Dict[str, Any]:
    plain = {}
    for key, each in value.items():
        if not isinstance(key, str):
            raise ValueFormatError("%s: the key %r is not a string, as JSON needs" % (name, key))
        plain[key] = _plain(each, "%s[%r]" % (name, key), tables)
    if list(plain) == [_TABLE]:
        raise ValueFormatError("%s: the key %r alone stands for a table" % (name, _TABLE))
    return plain


def _table_kind(value: Any) -> Any:
    """Return `table`, `batch` or `frame`; None for other values."""
    name = "%s.%s" % (type(value).__module__.partition(".")[0], type(value).__name__)
    return {"pyarrow.Table": "table", "pyarrow.RecordBatch": "batch", "pandas.DataFrame": "frame"}.get(name)


def _stream(value: Any, kind: str) -> memoryview:
    import pyarrow as pa

    table = value
    if kind == "frame":
        table = pa.Table.from_pandas(value)
    elif kind == "batch":
        table = pa.Table.from_batches([value])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue()).cast("B")


def _restored(plain: Any, tables: Sequence[memoryview]) -> Any:
    if isinstance(plain, list):
        return [_restored(each, tables) for each in plain]
    if not isinstance(plain, dict):
        return plain
    if list(plain) == [_TABLE]:
        number, kind = plain[_TABLE]
        return _table(tables[number], kind)
    return {key: _restored(each, tables) for key, each in plain.items()}


def _table(memory: memoryview, kind: str) -> Any:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.py_buffer(memory)) as reader:
        table = reader.read_all()
    if kind == "frame":
        return table.to_pandas()
    if kind != "batch":
        return table
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
