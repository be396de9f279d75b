"""Serializers: from rows of a DataFrame to the body of a request.

A serializer of your own overrides `encode`, which has a whole Arrow batch, or `serializeRow`, which has one row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from processing._utils.validation import NAME, checked
from processing.local.programs import csv_rows, libsvm
from processing.local.programs.recordio import encode_sparse
from processing.local.programs.rows import SparseRows, from_dense
from processing.spark import recordio
from processing.spark.ml.values import Value, both_spellings
from processing.spark.ml.vectors import SparseMatrix, VectorError, iter_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CSV = "text/csv"
LIBSVM = "text/x-libsvm"
RECORDIO = "application/x-recordio-protobuf"


class RequestRowSerializer(Value):
    """Turns rows into the body of a request to an endpoint. Override `encode` or `serializeRow`.

    Attributes:
        contentType: the media type of the body.
        schema: the schema of the rows, for checks of your own; None by default.
    """

    contentType = "application/octet-stream"
    schema: Any = None

    def columns(self) -> dict[str, str]:
        """Return the columns that have to be there, by the name of the parameter that names each."""
        return {}

    def setSchema(self, schema: Any) -> None:
        """Set the schema of the rows."""
        self.schema = schema

    def encode(self, batch: Any) -> bytes:
        """Return the body for a batch of rows.

        Args:
            batch: a `pyarrow.RecordBatch`. Vectors are structs of type, size, indices and values.
        """
        parts = [self.serializeRow(row) for row in rows_of(batch)]
        return b"".join([part.encode() if isinstance(part, str) else bytes(part) for part in parts])

    def serializeRow(self, row: Any) -> bytes | str:
        """Return one row's part of the body.

        Args:
            row: a `pyspark.sql.Row`.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither encode() nor serializeRow()")

    def padding(self, batch: Any) -> int:  # noqa: ARG002 - for subclasses
        """Return the number of rows that `encode` adds at the end of a batch. Their answers are dropped."""
        return 0


class FeaturesSerializer(RequestRowSerializer):
    """A serializer of one column of vectors."""

    _sparse_matrices = False

    @both_spellings
    def __init__(self, schema: Any = None, featuresColumnName: str = "features") -> None:
        self.schema = schema
        self.featuresColumnName = checked("featuresColumnName", featuresColumnName, NAME)

    def columns(self) -> dict[str, str]:
        """Return the column of features."""
        return {"featuresColumnName": self.featuresColumnName}

    def encode(self, batch: Any) -> bytes:
        """Return the body for a batch of rows."""
        column = batch.column(self.featuresColumnName)
        runs = iter_runs(column, sparse_matrices=self._sparse_matrices)
        return b"".join([self._encode(run.features) for run in runs])

    def _encode(self, features: Any) -> bytes:
        raise NotImplementedError


class ProtobufRequestRowSerializer(FeaturesSerializer):
    """Rows as RecordIO of Amazon Records, the format of SageMaker's own algorithms.

    Args:
        schema: the schema of the rows; not needed.
        featuresColumnName: the column of vectors.
    """

    contentType = RECORDIO
    _sparse_matrices = True

    def _encode(self, features: NDArray[Any] | SparseRows | SparseMatrix) -> bytes:
        return encode_records(features, None)


class UnlabeledCSVRequestRowSerializer(FeaturesSerializer):
    """Rows as CSV without a label: the elements of a vector, zeros too.

    Args:
        schema: the schema of the rows; not needed.
        featuresColumnName: the column of vectors.
    """

    contentType = CSV

    def _encode(self, features: NDArray[Any] | SparseRows) -> bytes:
        return csv_rows.write(dense_rows(features))


class UnlabeledLibSVMRequestRowSerializer(FeaturesSerializer):
    """Rows as libsvm without a label. Columns are counted from 1, as by Spark.

    Args:
        schema: the schema of the rows; not needed.
        featuresColumnName: the column of vectors.
    """

    contentType = LIBSVM
    _padding: ClassVar[bytes] = b"1:0\n"

    def encode(self, batch: Any) -> bytes:
        """Return the body for a batch of rows."""
        return super().encode(batch) + self._padding * self.padding(batch)

    def padding(self, batch: Any) -> int:
        """Return 1 if the last row has no element. Readers of libsvm leave out such rows at the end."""
        last = [run.features for run in iter_runs(batch.column(self.featuresColumnName))][-1:]
        return sum(isinstance(rows, SparseRows) and bool(rows.starts[-1] == rows.starts[-2]) for rows in last)

    def _encode(self, features: NDArray[Any] | SparseRows) -> bytes:
        return encode_libsvm(features, None)


class LibSVMRequestRowSerializer(UnlabeledLibSVMRequestRowSerializer):
    """Rows as libsvm with a label, which is 0 if there is no such column. Columns are counted from 1, as by Spark.

    Args:
        schema: the schema of the rows; not needed.
        labelColumnName: the column of labels.
        featuresColumnName: the column of vectors.
    """

    _padding = b"0 1:0\n"

    @both_spellings
    def __init__(
        self,
        schema: Any = None,
        labelColumnName: str = "label",
        featuresColumnName: str = "features",
    ) -> None:
        super().__init__(schema, featuresColumnName)
        self.labelColumnName = checked("labelColumnName", labelColumnName, NAME)

    def encode(self, batch: Any) -> bytes:
        """Return the body for a batch of rows."""
        labels = labels_of(batch, self.labelColumnName)
        parts = []
        for run in iter_runs(batch.column(self.featuresColumnName)):
            chosen = _zeros(run.stop - run.start) if labels is None else labels[run.start : run.stop]
            parts.append(encode_libsvm(run.features, chosen))
        return b"".join(parts) + self._padding * self.padding(batch)


def _zeros(count: int) -> NDArray[Any]:
    import numpy as np

    return np.zeros(count)


def encode_records(features: NDArray[Any] | SparseRows | SparseMatrix, labels: NDArray[Any] | None) -> bytes:
    """Return rows or matrices as RecordIO, with float32 as SageMaker Spark writes."""
    import numpy as np

    label = None if labels is None else labels.astype(np.float32)
    with np.errstate(over="ignore"):  # a number beyond float32 is infinite there
        if isinstance(features, SparseMatrix):
            elements = features.elements._replace(values=features.elements.values.astype(np.float32))
            return encode_sparse(elements, label, shape=features.shape)
        if isinstance(features, SparseRows):
            return recordio.encode_sparse(
                features.starts, features.indices, features.values.astype(np.float32), features.width, label
            )
        if features.ndim == 3:
            return recordio.encode_matrices(features.astype(np.float32), label)
        return recordio.encode_dense(features, label, as_float32=True)


def write_as_records(
    file: BinaryIO, features: NDArray[Any] | SparseRows | SparseMatrix, labels: NDArray[Any] | None
) -> None:
    """Write to a file what `encode_records` returns. Dense rows need no memory for all bytes."""
    import numpy as np

    if isinstance(features, (SparseRows, SparseMatrix)) or features.ndim == 3:
        file.write(encode_records(features, labels))
        return
    with np.errstate(over="ignore"):
        recordio.write_dense(file, features, labels, as_float32=True)


def dense_rows(features: NDArray[Any] | SparseRows) -> NDArray[Any]:
    """Return rows with all their elements; those of a matrix are one row."""
    if isinstance(features, SparseRows):
        return features.to_dense()
    return features.reshape(len(features), math.prod(features.shape[1:]))


def encode_libsvm(features: NDArray[Any] | SparseRows, labels: NDArray[Any] | None) -> bytes:
    """Return rows as libsvm. Each element that a vector holds is written, zeros too."""
    rows = features if isinstance(features, SparseRows) else from_dense(dense_rows(features))
    return libsvm.write(rows._replace(indices=rows.indices + 1), None if labels is None else labels.astype(float))


def labels_of(batch: Any, name: str) -> NDArray[Any] | None:
    """Return the numbers of a column of a batch; None without such a column.

    Raises:
        VectorError: a label is null.
    """
    if batch.schema.get_field_index(name) < 0:
        return None
    column = batch.column(name)
    if column.null_count:
        row = column.is_null().to_numpy(zero_copy_only=False).argmax()
        raise VectorError(f"row {row}: the label is null; drop such rows with dropna()")
    numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False).astype(float)
    return numbers


_VECTOR = {"type", "size", "indices", "values"}


def rows_of(batch: Any) -> Iterator[Any]:
    """Yield the rows of an Arrow batch as `pyspark.sql.Row`, with vectors of Spark ML."""
    import pyarrow as pa
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import Row

    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        values = column.to_pylist()
        if pa.types.is_struct(field.type) and {each.name for each in field.type} == _VECTOR:
            convert = VectorUDT().deserialize
            order = ("type", "size", "indices", "values")
            values = [None if value is None else convert(tuple(value[name] for name in order)) for value in values]
        columns.append(values)
    make = Row(*batch.schema.names)
    for values in zip(*columns, strict=True):
        yield make(*values)
