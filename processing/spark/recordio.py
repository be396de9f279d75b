"""RecordIO of Amazon Records: the format of SageMaker's own algorithms, with numpy alone.

A record maps names to tensors. A vector of features has the name `values`, and so has a label. The answers of an
algorithm are labels with names of their own, such as `closest_cluster`.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

from processing.local.programs import recordio
from processing.local.programs.record import (
    FEATURES,
    INT32,
    LABEL,
    Record,
    RecordIOError,
    Tensor,
    entry,
    kind_of,
    pack,
)
from processing.local.programs.rows import SparseRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from processing.local.programs.recordio import SupportsWrite

__all__ = [
    "Record",
    "RecordIOError",
    "Tensor",
    "decode_uniform",
    "encode_dense",
    "encode_matrices",
    "encode_sparse",
    "iter_records",
    "write_dense",
]

_LIMIT = (1 << 31) - 1  # of a shape: readers have 32-bit numbers


def encode_dense(features: NDArray[Any], labels: NDArray[Any] | None = None, *, as_float32: bool = False) -> bytes:
    """Return a matrix as RecordIO, one record for each row.

    Args:
        features: two dimensions: float32, float64, or integers of 32 bits.
        labels: one number for each row, of the same types; None for records without a label.
        as_float32: True to write numbers of any type as float32, as SageMaker Spark does.

    Raises:
        RecordIOError: the values have another type, or the sizes differ; the message names the argument.
    """
    _check_rows(features, 2, "features", labels, as_float32=as_float32)
    return recordio.encode(features, labels, as_float32=as_float32)


def write_dense(
    file: SupportsWrite, features: NDArray[Any], labels: NDArray[Any] | None = None, *, as_float32: bool = False
) -> None:
    """Write a matrix to a file as RecordIO, in blocks of a few rows, so that large ones need no memory for all bytes.

    Args:
        file: a file that is open for bytes, or any object whose `write` takes them. It must not keep the blocks
            themselves: the next one has their memory.
        features: two dimensions: float32, float64, or integers of 32 bits.
        labels: one number for each row, of the same types; None for records without a label.
        as_float32: True to write numbers of any type as float32, as SageMaker Spark does.

    Raises:
        RecordIOError: the values have another type, or the sizes differ; the message names the argument.
    """
    _check_rows(features, 2, "features", labels, as_float32=as_float32)
    recordio.write(file, features, labels, as_float32=as_float32)


def encode_sparse(
    starts: NDArray[Any],
    indices: NDArray[Any],
    values: NDArray[Any],
    width: int,
    labels: NDArray[Any] | None = None,
) -> bytes:
    """Return the rows of a CSR matrix as RecordIO, one record for each row.

    Args:
        starts: the position of each row's first value, and the number of values at the end (`indptr` in SciPy).
        indices: the column of each value, from 0.
        values: the values: float32, float64, or integers of 32 bits.
        width: the number of columns.
        labels: one number for each row; None for records without a label.

    Raises:
        RecordIOError: the values have another type, the sizes differ, a column lies outside the width, or a row has
            one twice; the message names the argument.
    """
    for name, each in (("starts", starts), ("indices", indices)):
        _check_array(name, each, 1)
        if each.dtype.kind not in "iu":
            raise RecordIOError(f"{name}: must be integers, not {each.dtype}")
    _check_array("values", values, 1)
    _check_numbers("values", values, as_float32=False)
    if len(indices) != len(values):
        raise RecordIOError(f"indices: {len(indices)} for {len(values)} values")
    if not len(starts) or starts[0] != 0 or starts[-1] != len(values) or (starts[1:] < starts[:-1]).any():
        raise RecordIOError(f"starts: must rise from 0 to {len(values)}, the number of values")
    _check_labels(labels, len(starts) - 1)
    if not isinstance(width, numbers.Integral) or not 0 <= width <= _LIMIT:
        raise RecordIOError(f"width: must be an integer from 0 to {_LIMIT}, not {width!r}")
    if len(indices) and not 0 <= indices.min() <= indices.max() < width:
        raise RecordIOError(f"indices: from {indices.min()} to {indices.max()}, and the width is {width}")
    rows = SparseRows(starts, indices, values, int(width))
    twice = rows.repeated()
    if twice is not None:
        raise RecordIOError(f"indices: row {twice - 1} has a column twice; SciPy's sum_duplicates() adds such values")
    return recordio.encode_sparse(rows, labels)


def encode_matrices(matrices: NDArray[Any], labels: NDArray[Any] | None = None) -> bytes:
    """Return matrices of one shape as RecordIO, one record for each, with its values row by row and its shape.

    Args:
        matrices: three dimensions; the first one counts the records.
        labels: one number for each matrix; None for records without a label.

    Raises:
        RecordIOError: the values have another type, or the sizes differ; the message names the argument.
    """
    import numpy as np

    _check_rows(matrices, 3, "matrices", labels)
    kind, count = kind_of("values", matrices), len(matrices)
    starts = np.arange(count + 1) * (matrices.shape[1] * matrices.shape[2])
    (shape,) = pack(INT32, np.array(matrices.shape[1:]), np.array([0, 2]))
    features = [
        entry(FEATURES, "values", kind, values, shape=shape) for values in pack(kind, matrices.reshape(-1), starts)
    ]
    label = [b""] * count
    if labels is not None:
        number = kind_of("values", labels)
        label = [entry(LABEL, "values", number, each) for each in pack(number, labels, np.arange(count + 1))]
    return b"".join([recordio.frame(first + second) for first, second in zip(features, label, strict=True)])


def _check_rows(
    values: NDArray[Any], dimensions: int, name: str, labels: NDArray[Any] | None, *, as_float32: bool = False
) -> None:
    _check_array(name, values, dimensions)
    _check_numbers(name, values, as_float32=as_float32)
    _check_labels(labels, len(values), as_float32=as_float32)


def _check_labels(labels: NDArray[Any] | None, rows: int, *, as_float32: bool = False) -> None:
    if labels is None:
        return
    _check_array("labels", labels, 1)
    _check_numbers("labels", labels, as_float32=as_float32)
    if len(labels) != rows:
        raise RecordIOError(f"labels: {len(labels)} for {rows} rows")


def _check_array(name: str, values: Any, dimensions: int) -> None:
    import numpy as np

    if not isinstance(values, np.ndarray):
        hint = "give its indptr, indices and data to encode_sparse" if hasattr(values, "indptr") else "use np.asarray()"
        raise RecordIOError(f"{name}: must be a numpy array, not {type(values).__name__}; {hint}")
    if isinstance(values, np.ma.MaskedArray):
        raise RecordIOError(f"{name}: has a mask, which records do not have; use .filled()")
    if values.ndim != dimensions:
        raise RecordIOError(f"{name}: must have {dimensions} dimensions, not the shape {values.shape}")


def _check_numbers(name: str, values: NDArray[Any], *, as_float32: bool) -> None:
    if not as_float32:
        kind_of(name, values)
    elif values.dtype.kind not in "fiub":
        raise RecordIOError(f"{name}: must be real numbers, not {values.dtype}; use .astype()")


def iter_records(data: bytes | bytearray | memoryview) -> Iterator[Record]:
    """Yield the records of RecordIO, parsed one by one.

    Args:
        data: the bytes of a file or of an answer.

    Raises:
        RecordIOError: the bytes are damaged; the message names the place.
    """
    return recordio.read_records(data)


def decode_uniform(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Parse the answers of an algorithm: records with labels of the same names and sizes.

    Args:
        data: the body of the answer.

    Returns:
        By the name of a label, a matrix with a row for each record. For sparse tensors, `SparseRows`.

    Raises:
        RecordIOError: the bytes are damaged, or the records differ in their labels.
    """
    return recordio.decode_answers(data)
