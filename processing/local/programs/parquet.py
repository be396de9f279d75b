"""Parquet: a table whose first column has the labels, as AWS's XGBoost image reads it. Needs pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.local.programs.container import ContainerError
from processing.local.programs.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parse(content: bytes) -> Rows:
    """Return the rows of a file. An empty cell is a missing value.

    Raises:
        ContainerError: pyarrow is not installed.
        ValueError: the content is not Parquet, or a column has no numbers.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ContainerError("Parquet needs pyarrow: pip install pyarrow") from error
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"the content is not Parquet: {error}") from error
    if table.num_columns < 2:
        raise ValueError(f"a label and features need two columns, and there are {table.num_columns}")
    columns = [_numbers(name, column) for name, column in zip(table.column_names, table.columns, strict=True)]
    return Rows(_matrix(columns[1:]), columns[0])


def _numbers(name: str, column: Any) -> NDArray[Any]:
    """Return a column as floating-point numbers."""
    import numpy as np
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or _is_bool(kind)):
        raise ValueError(f"the column {name} has the type {kind}, and no numbers")
    small = pa.types.is_float32(kind) or pa.types.is_float16(kind)
    numbers = column.cast(pa.uint8()) if _is_bool(kind) else column
    return np.asarray(numbers.to_numpy(), np.float32 if small else np.float64)


def _is_bool(kind: Any) -> bool:
    import pyarrow as pa

    found: bool = pa.types.is_boolean(kind)
    return found


def _matrix(columns: list[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    return np.column_stack(columns)
