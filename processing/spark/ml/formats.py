"""Formats of training data: the columns that each needs, and their bytes, made on the workers.

pip's Spark has no file system for S3, so that these formats do not use Spark's writers.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

import attrs

from processing._utils.validation import article
from processing.exceptions import ConfigurationError
from processing.spark.ml.serializers import (
    CSV,
    LIBSVM,
    RECORDIO,
    dense_rows,
    encode_libsvm,
    labels_of,
    write_as_records,
)
from processing.spark.ml.vectors import iter_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_OPTIONS: Final = "trainingSparkDataFormatOptions"


@attrs.frozen
class TrainingFormat:
    """Vectors with an optional label. Subclasses encode them.

    Args:
        features: the column of vectors.
        label: the column of labels; None without labels.
        options: the format's further options, with names in lower case.
    """

    features: str
    label: str | None = None
    options: Mapping[str, str] = attrs.field(factory=dict)

    suffix: ClassVar[str] = ""
    concatenable: ClassVar[bool] = True
    sparse_matrices: ClassVar[bool] = False
    further_options: ClassVar[frozenset[str]] = frozenset()

    @property
    def content_type(self) -> str:
        """The media type of the training channel."""
        raise NotImplementedError

    def columns(self, names: Sequence[str]) -> list[str]:  # noqa: ARG002 - for subclasses
        """Return the columns of a frame that are written.

        Args:
            names: the frame's columns.
        """
        return [self.features, *([] if self.label is None else [self.label])]

    def header(self, names: Sequence[str]) -> bytes:  # noqa: ARG002 - for subclasses
        """Return the beginning of each object.

        Args:
            names: the columns that are written.
        """
        return b""

    def write(self, file: BinaryIO, batch: Any) -> None:
        """Write a batch of rows to a file."""
        labels = None if self.label is None else labels_of(batch, self.label)
        for run in iter_runs(batch.column(self.features), sparse_matrices=self.sparse_matrices):
            self._write_run(file, run.features, None if labels is None else labels[run.start : run.stop])

    def _write_run(self, file: BinaryIO, features: Any, labels: Any) -> None:
        raise NotImplementedError


class RecordIOFormat(TrainingFormat):
    """RecordIO of Amazon Records: `sagemaker`."""

    suffix = ".pbr"
    sparse_matrices = True

    @property
    def content_type(self) -> str:
        """The media type of the training channel."""
        return RECORDIO

    def _write_run(self, file: BinaryIO, features: Any, labels: Any) -> None:
        write_as_records(file, features, labels)


class LibSVMFormat(TrainingFormat):
    """libsvm with columns counted from 1, as Spark writes it; the label is 0 if there is none."""

    suffix = ".libsvm"
    further_options = frozenset({"numfeatures", "vectortype"})  # of Spark's reader: without effect here

    @property
    def content_type(self) -> str:
        """The media type of the training channel."""
        return LIBSVM

    def _write_run(self, file: BinaryIO, features: Any, labels: Any) -> None:
        import numpy as np

        count = len(features.starts) - 1 if hasattr(features, "starts") else len(features)
        file.write(encode_libsvm(features, np.zeros(count) if labels is None else labels))


class CSVFormat(TrainingFormat):
    """CSV: the label, if there is one, and the elements of the vector; or all columns if there is no vector."""

    suffix = ".csv"
    further_options = frozenset({"header", "sep", "delimiter"})

    @property
    def content_type(self) -> str:
        """The media type of the training channel."""
        return CSV if self.label is not None or not self.features else f"{CSV};label_size=0"

    @property
    def _separator(self) -> str:
        return self.options.get("sep", self.options.get("delimiter", ","))

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return the columns of a frame that are written."""
        return super().columns(names) if self.features else _label_first(self.label, names)

    def header(self, names: Sequence[str]) -> bytes:
        """Return the names of the columns, if the option `header` is true."""
        if self.options.get("header", "false").lower() != "true" or self.features:
            return b""
        line = io.StringIO(newline="")
        csv.writer(line, delimiter=self._separator, lineterminator="\n").writerow(names)
        return line.getvalue().encode()

    def write(self, file: BinaryIO, batch: Any) -> None:
        """Write a batch of rows to a file."""
        if self.features:
            super().write(file, batch)
            return
        import pyarrow.csv

        options = pyarrow.csv.WriteOptions(
            include_header=False, delimiter=self._separator, quoting_style="needed", batch_size=len(batch) or 1
        )
        pyarrow.csv.write_csv(batch, file, options)

    def _write_run(self, file: BinaryIO, features: Any, labels: Any) -> None:
        import numpy as np

        dense = dense_rows(features)
        table = dense if labels is None else np.column_stack([labels, dense])
        lines = [self._separator.join(map(repr, row)) for row in table.tolist()]
        file.write("".join([f"{line}\n" for line in lines]).encode())


class ParquetFormat(TrainingFormat):
    """Parquet of all columns. Vectors become lists of numbers, zeros too."""

    suffix = ".parquet"
    concatenable = False
    further_options = frozenset({"compression"})

    @property
    def content_type(self) -> str:
        """The media type of the training channel."""
        return "application/x-parquet"

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return the columns of a frame that are written."""
        return _label_first(self.label, names)

    def write(self, file: BinaryIO, batch: Any) -> None:
        """Write a batch of rows as a whole file."""
        import pyarrow as pa
        import pyarrow.parquet

        arrays = [_plain(column) for column in batch.columns]
        table = pa.table(arrays, names=batch.schema.names)
        pyarrow.parquet.write_table(table, file, compression=self.options.get("compression", "snappy"))


def _label_first(label: str | None, names: Sequence[str]) -> list[str]:
    """Return the names of all columns, the label before the others: SageMaker's algorithms look for it there."""
    return sorted(names, key=lambda name: name != label)


def _plain(column: Any) -> Any:
    """Return a column of vectors as lists of numbers, and any other as it is."""
    import pyarrow as pa

    if not (pa.types.is_struct(column.type) and column.type.get_field_index("indices") >= 0):
        return column
    rows: list[list[float]] = []
    for run in iter_runs(column.drop_null()):
        rows += dense_rows(run.features).tolist()
    left = iter(rows)
    return pa.array([next(left) if there else None for there in column.is_valid().to_pylist()], pa.list_(pa.float64()))


FORMATS: Final[Mapping[str, type[TrainingFormat]]] = {
    "sagemaker": RecordIOFormat,
    "csv": CSVFormat,
    "libsvm": LibSVMFormat,
    "parquet": ParquetFormat,
}
"""The formats that are encoded here, by the name of the Spark data format."""

_COMPRESSIONS: Final = ("snappy", "gzip", "brotli", "lz4", "zstd", "none")  # of Parquet

_OTHER_NAMES: Final = {"com.databricks.spark.csv": "csv"}


def plain_name(name: str) -> str:
    """Return the name of a format in lower case, as Spark reads it, and without the package that it once had."""
    return _OTHER_NAMES.get(name.lower(), name.lower())


def format_of(
    name: str, options: Mapping[str, Any], schema: Any, *, parameter: str = "trainingSparkDataFormat"
) -> TrainingFormat:
    """Return the format for a frame, after a check of its columns.

    Args:
        name: the Spark data format.
        options: its options. Their names have any case, as in Spark.
        schema: the frame's schema.
        parameter: the name of the parameter in messages.

    Raises:
        ConfigurationError: there is no such format, an option is unknown, or a column is missing or has a wrong type.
    """
    made = FORMATS.get(name)
    if made is None:
        raise ConfigurationError(f"{parameter}: {name!r} is not one of {', '.join(FORMATS)}")
    given = {key.lower(): str(value) for key, value in options.items()}
    label, features = given.pop("labelcolumnname", None), given.pop("featurescolumnname", None)
    unknown = sorted(set(given) - made.further_options)
    if unknown:
        known = ", ".join(["labelColumnName", "featuresColumnName", *sorted(made.further_options)])
        raise ConfigurationError(f"{_OPTIONS}: the format {name} has no option {unknown[0]!r}; it has {known}")
    names = schema.names
    whole_frame = made is ParquetFormat or (made is CSVFormat and features is None and not _is_vector(schema))
    if made is CSVFormat:
        _check_separator(given)
    if whole_frame:
        if label is not None:
            check_label(schema, label, f"{_OPTIONS}[labelColumnName]")
        _check_whole_frame(made, schema, given)
        return made("" if made is CSVFormat else features or "features", label, given)
    features = features or "features"
    check_features(schema, features, f"{_OPTIONS}[featuresColumnName]")
    if label is None and "label" in names:
        label = "label"
    if label is not None:
        check_label(schema, label, f"{_OPTIONS}[labelColumnName]")
    return made(features, label, given)


def _check_separator(options: Mapping[str, str]) -> None:
    for name in ("sep", "delimiter"):
        if name in options and (len(options[name].encode()) != 1 or options[name] in '"\r\n'):
            raise ConfigurationError(f"{_OPTIONS}[{name}]: must be one character, not {options[name]!r}")


def _check_whole_frame(made: type[TrainingFormat], schema: Any, options: Mapping[str, str]) -> None:
    """Refuse columns that CSV cannot hold, and a compression that Parquet does not have."""
    from pyspark.sql.types import ArrayType, MapType, StructType, UserDefinedType

    compression = options.get("compression", "snappy")
    if made is ParquetFormat and compression not in _COMPRESSIONS:
        known = ", ".join(_COMPRESSIONS)
        raise ConfigurationError(f"{_OPTIONS}[compression]: must be one of {known}, not {compression!r}")
    if made is not CSVFormat:
        return
    for field in schema.fields:
        if _kind(field.dataType) in {"vector", "matrix"}:
            raise ConfigurationError(
                f"{_OPTIONS}[featuresColumnName]: missing; the column {field.name!r} has vectors, which only this "
                "option turns into columns of CSV"
            )
        if isinstance(field.dataType, (ArrayType, MapType, StructType, UserDefinedType)):
            raise ConfigurationError(
                f"dataset: CSV cannot hold the column {field.name!r} of {field.dataType.simpleString()}; drop it, or "
                "leave it out of trainingProjectedColumns"
            )


def _is_vector(schema: Any) -> bool:
    return "features" in schema.names and _kind(schema["features"].dataType) in {"vector", "matrix"}


def check_dataset(parameter: str, dataset: Any, *, streaming: bool = False) -> None:
    """Refuse what is no DataFrame of Spark, and a stream where there has to be an end.

    Args:
        parameter: the name of the parameter in messages.
        dataset: the user's argument.
        streaming: True to accept a stream.

    Raises:
        ConfigurationError: it is no DataFrame, or a stream.
    """
    if not all(hasattr(dataset, name) for name in ("mapInArrow", "schema", "sparkSession")):
        raise ConfigurationError(
            f"{parameter}: must be a DataFrame of Spark, not {article(type(dataset).__qualname__)} of "
            f"{type(dataset).__module__}; spark.createDataFrame(...) makes one"
        )
    if dataset.isStreaming and not streaming:
        raise ConfigurationError(
            f"{parameter}: is a stream, which has no end; write it to a table, and read that, or call this in "
            "foreachBatch"
        )


def quoted(name: str) -> str:
    """Return a column's name for Spark's expressions, which would read a dot as the access to a member."""
    return "`" + name.replace("`", "``") + "`"


def check_column(schema: Any, name: str, parameter: str) -> None:
    """Refuse a column that a frame does not have, or has several times.

    Raises:
        ConfigurationError: the column is missing or there are several; the message lists those that exist.
    """
    if name not in schema.names:
        raise ConfigurationError(f"{parameter}: there is no column {name!r}; the columns are {', '.join(schema.names)}")
    if schema.names.count(name) > 1:
        raise ConfigurationError(f"{parameter}: there are several columns {name!r}; drop or rename all but one")


def check_features(schema: Any, name: str, parameter: str) -> None:
    """Refuse a column that has no vectors, matrices or arrays of numbers.

    Raises:
        ConfigurationError: the column is missing or has another type.
    """
    check_column(schema, name, parameter)
    if _kind(schema[name].dataType) is None:
        raise ConfigurationError(
            f"{parameter}: the column {name!r} must have vectors, not {schema[name].dataType.simpleString()}; "
            "VectorAssembler makes them from columns of numbers"
        )


def check_numbers(schema: Any, name: str, parameter: str) -> None:
    """Refuse a column that has neither vectors, matrices or arrays of numbers, nor numbers.

    Raises:
        ConfigurationError: the column is missing or has another type.
    """
    from pyspark.sql.types import BooleanType, NumericType

    check_column(schema, name, parameter)
    if not isinstance(schema[name].dataType, (NumericType, BooleanType)):
        check_features(schema, name, parameter)


def check_label(schema: Any, name: str, parameter: str) -> None:
    """Refuse a column that has no numbers.

    Raises:
        ConfigurationError: the column is missing or has another type.
    """
    from pyspark.sql.types import BooleanType, NumericType

    check_column(schema, name, parameter)
    if not isinstance(schema[name].dataType, (NumericType, BooleanType)):
        raise ConfigurationError(
            f"{parameter}: the column {name!r} must have numbers, not {schema[name].dataType.simpleString()}; "
            "StringIndexer makes them from texts"
        )


def _kind(data_type: Any) -> str | None:
    from pyspark.ml.linalg import MatrixUDT, VectorUDT
    from pyspark.sql.types import ArrayType, NumericType

    if isinstance(data_type, VectorUDT):
        return "vector"
    if isinstance(data_type, MatrixUDT):
        return "matrix"
    numbers = isinstance(data_type, ArrayType) and isinstance(data_type.elementType, NumericType)
    return "array" if numbers else None
