"""Columns of Spark ML's vectors and matrices in Arrow batches, and rows of numbers.

A vector crosses Arrow as a struct of type, size, indices and values. A column may mix dense and sparse vectors, so
it is read as runs of rows of one kind. Both directions work on whole columns, without a Python object for each row.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from processing.local.programs.rows import SparseRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

_DENSE = 1  # the field `type` of a vector or a matrix


class SparseMatrix(NamedTuple):
    """A matrix with only some values stored.

    Attributes:
        elements: one row; its columns are the elements of the matrix, counted row by row.
        shape: rows and columns.
    """

    elements: SparseRows
    shape: tuple[int, int]


class RowRange(NamedTuple):
    """Adjacent rows of one kind.

    Attributes:
        start: the first row.
        stop: the row after the last one.
        features: a matrix, sparse rows, three dimensions for matrices, or one sparse matrix.
    """

    start: int
    stop: int
    features: Any


class VectorError(ValueError):
    """A column has a value that is not a row of numbers. The message names the row."""


def iter_runs(column: Any, *, sparse_matrices: bool = False) -> Iterator[RowRange]:
    """Yield the runs of a column of vectors, matrices, arrays of numbers, or numbers.

    Args:
        column: an Arrow array.
        sparse_matrices: True to leave sparse matrices as they are.

    Raises:
        VectorError: a value is null.
    """
    import pyarrow as pa

    if column.null_count:
        row = column.is_null().to_numpy(zero_copy_only=False).argmax()
        raise VectorError(f"row {row} is null; drop such rows with dropna()")
    if pa.types.is_struct(column.type):
        names = {column.type.field(index).name for index in range(column.type.num_fields)}
        yield from _matrix_runs(column, sparse=sparse_matrices) if "numRows" in names else _vector_runs(column)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        yield from _list_runs(column)
    else:
        yield RowRange(0, len(column), column.to_numpy(zero_copy_only=False).astype(float).reshape(-1, 1))


def sizes(column: Any) -> NDArray[np.int64]:
    """Return the number of elements of each vector of a column; -1 for null."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_struct(column.type) and column.type.get_field_index("numRows") < 0:
        counts = np.diff(column.field("values").offsets.to_numpy())
        given = column.field("size").fill_null(-1).to_numpy(zero_copy_only=False)
        found = np.where(column.field("type").fill_null(_DENSE).to_numpy(zero_copy_only=False) == _DENSE, counts, given)
    elif pa.types.is_struct(column.type):
        product = column.field("numRows").fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        found = product * column.field("numCols").fill_null(0).to_numpy(zero_copy_only=False)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        found = np.diff(column.offsets.to_numpy())
    else:
        found = np.ones(len(column), np.int64)
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    result: NDArray[np.int64] = np.where(nulls, -1, found).astype(np.int64)
    return result


def has_null_elements(column: Any) -> NDArray[np.bool_]:
    """Return, for each row of a column, whether it is an array with a null in it."""
    import numpy as np
    import pyarrow as pa

    found = np.zeros(len(column), bool)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        nulls = column.flatten().is_null().to_numpy(zero_copy_only=False)
        found[column.value_parent_indices().to_numpy(zero_copy_only=False)[nulls]] = True
    return found


def _starts_of_changes(*keys: NDArray[Any]) -> list[int]:
    """Return the rows at which one of the keys changes, with 0 and the end."""
    import numpy as np

    count = len(keys[0])
    changed = np.zeros(max(0, count - 1), bool)
    for key in keys:
        changed |= key[1:] != key[:-1]
    return [0, *(np.flatnonzero(changed) + 1).tolist(), count] if count else []


def _pairs(bounds: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(bounds))


def _vector_runs(column: Any) -> Iterator[RowRange]:
    import numpy as np

    kinds = column.field("type").to_numpy(zero_copy_only=False)
    lists = column.field("values")
    offsets, values = lists.offsets.to_numpy(), lists.values.to_numpy(zero_copy_only=False)
    dense = kinds == _DENSE
    widths = np.where(
        dense, np.diff(offsets), column.field("size").fill_null(0).to_numpy(zero_copy_only=False)
    )  # sparse vectors of several sizes are runs, too: a shape belongs to each
    for start, stop in _pairs(_starts_of_changes(dense, widths)):
        chosen = values[offsets[start] : offsets[stop]]
        if dense[start]:
            yield RowRange(start, stop, chosen.reshape(stop - start, int(widths[start])))
            continue
        indices = column.field("indices")
        own = indices.offsets.to_numpy()
        keys = indices.values.to_numpy(zero_copy_only=False)[own[start] : own[stop]].astype(np.int64)
        starts = offsets[start : stop + 1].astype(np.int64) - int(offsets[start])
        yield RowRange(start, stop, SparseRows(starts, keys, chosen, int(widths[start])))


def _list_runs(column: Any) -> Iterator[RowRange]:
    import numpy as np

    offsets = column.offsets.to_numpy()
    values = column.values[offsets[0] : offsets[-1]]  # a part of a batch has the values of all of it
    offsets = offsets - offsets[0]
    if values.null_count:
        raise VectorError("an array has a null")
    numbers = values.to_numpy(zero_copy_only=False).astype(float)
    widths = np.diff(offsets)
    for start, stop in _pairs(_starts_of_changes(widths)):
        yield RowRange(start, stop, numbers[offsets[start] : offsets[stop]].reshape(stop - start, int(widths[start])))


def _matrix_runs(column: Any, *, sparse: bool) -> Iterator[RowRange]:
    """Yield a run for each matrix: matrices are rare and large."""
    for row, value in enumerate(column.to_pylist()):
        kept = sparse and value["type"] != _DENSE
        yield RowRange(row, row + 1, sparse_matrix(value) if kept else dense_matrix(value)[None])


def dense_matrix(value: dict[str, Any]) -> NDArray[np.float64]:
    """Return a matrix of Spark ML as an array. Spark stores values column by column, unless it is transposed."""
    import numpy as np

    shape = (value["numRows"], value["numCols"])
    if value["type"] == _DENSE:
        order = "C" if value["isTransposed"] else "F"
        return np.array(value["values"], float).reshape(shape, order=order)  # type: ignore[call-overload,no-any-return]
    return sparse_matrix(value).elements.to_dense().reshape(shape)


def sparse_matrix(value: dict[str, Any]) -> SparseMatrix:
    """Return a sparse matrix of Spark ML, with its values in the order in which Spark stores them."""
    import numpy as np

    height, width = value["numRows"], value["numCols"]
    pointers, minor = np.array(value["colPtrs"]), np.array(value["rowIndices"], np.int64)
    major = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
    rows, columns = (major, minor) if value["isTransposed"] else (minor, major)
    values = np.array(value["values"], float)
    elements = SparseRows(np.array([0, len(values)]), rows * width + columns, values, height * width)
    return SparseMatrix(elements, (height, width))


def vectors_from(matrix: NDArray[Any]) -> Any:
    """Return the rows of a matrix as an Arrow column of dense vectors."""
    import numpy as np
    import pyarrow as pa

    count, width = matrix.shape
    offsets = pa.array(np.arange(count + 1) * width, pa.int32())
    values = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(matrix, np.float64).reshape(-1)))
    return _struct(np.ones(count, np.int8), pa.nulls(count, pa.int32()), pa.nulls(count, pa.list_(pa.int32())), values)


def vectors_from_sparse(rows: SparseRows) -> Any:
    """Return sparse rows as an Arrow column of sparse vectors."""
    import numpy as np
    import pyarrow as pa

    count = len(rows.starts) - 1
    offsets = pa.array(rows.starts, pa.int32())
    indices = pa.ListArray.from_arrays(offsets, pa.array(rows.indices, pa.int32()))
    values = pa.ListArray.from_arrays(offsets, pa.array(rows.values.astype(float)))
    return _struct(np.zeros(count, np.int8), pa.array(np.full(count, rows.width), pa.int32()), indices, values)


def _struct(kinds: NDArray[np.int8], sizes_: Any, indices: Any, values: Any) -> Any:
    import pyarrow as pa

    # Spark declares `type` as the only member that is never null, and compares nothing else of the schema.
    return pa.StructArray.from_arrays(
        [pa.array(kinds, pa.int8()), sizes_, indices, values],
        fields=[
            pa.field("type", pa.int8(), nullable=False),
            pa.field("size", pa.int32()),
            pa.field("indices", pa.list_(pa.int32())),
            pa.field("values", pa.list_(pa.float64())),
        ],
    )
