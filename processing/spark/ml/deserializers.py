"""Deserializers: from the body of an answer to columns of a DataFrame.

A deserializer of your own has a `schema` and overrides `decode`, which has the number of rows, or
`deserializeResponse`, which yields a row for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing._utils.validation import FLAG, NAME, checked, integer, with_attributes
from processing.exceptions import ConfigurationError
from processing.local.programs import libsvm
from processing.local.programs.rows import SparseRows
from processing.spark import recordio
from processing.spark.ml.values import Value, both_spellings
from processing.spark.ml.vectors import vectors_from, vectors_from_sparse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray


_DIMENSION = integer(at_least=1)
_SCHEMA = with_attributes("a StructType", "fields", "fieldNames")


class AnswerError(ValueError):
    """The answer does not fit its rows. The message says how."""


class ResponseRowDeserializer(Value):
    """Turns the body of an answer into columns. Override `decode` or `deserializeResponse`, and `schema`.

    Attributes:
        accepts: the media type that the endpoint is asked for.
        schema: the `StructType` of the columns.
    """

    accepts = "application/octet-stream"
    schema: Any = None

    def decode(self, body: bytes, rows: int) -> Any:
        """Return the columns of an answer.

        Args:
            body: the answer.
            rows: the number of rows that were sent.

        Returns:
            A mapping of each column's name to an Arrow array or a NumPy array, or a `pyarrow.RecordBatch`.

        Raises:
            AnswerError: the answer has another number of rows.
        """
        return columns_of(self.deserializeResponse(body), self.schema, rows)

    def deserializeResponse(self, body: bytes) -> Iterable[Any]:
        """Yield a `Row`, a tuple or a list for each row that was sent.

        Args:
            body: the answer.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither decode() nor deserializeResponse()")


def columns_of(answers: Iterable[Any], schema: Any, rows: int) -> dict[str, Any]:
    """Return rows as columns, in the Arrow types of a schema."""
    import pyarrow as pa
    from pyspark.sql.types import DoubleType, FloatType, UserDefinedType

    values = [tuple(answer) if isinstance(answer, (tuple, list)) else (answer,) for answer in answers]
    if len(values) != rows:
        raise AnswerError(f"the answer has {len(values)} rows, and {rows} were sent")
    result: dict[str, Any] = {}
    for index, field in enumerate(schema.fields):
        column: list[Any] = [value[index] for value in values]
        if isinstance(field.dataType, UserDefinedType):
            members = field.dataType.sqlType().names
            column = [
                None if each is None else dict(zip(members, field.dataType.serialize(each), strict=True))
                for each in column
            ]
        elif isinstance(field.dataType, (DoubleType, FloatType)):
            column = [None if each is None else float(each) for each in column]
        result[field.name] = pa.array(column, arrow_type(field.dataType))
    return result


def arrow_type(spark_type: Any) -> Any:
    """Return the Arrow type in which a Spark type crosses to Python."""
    import pyarrow as pa
    from pyspark.sql import types

    plain = {
        types.DoubleType: pa.float64(),
        types.FloatType: pa.float32(),
        types.LongType: pa.int64(),
        types.IntegerType: pa.int32(),
        types.ShortType: pa.int16(),
        types.ByteType: pa.int8(),
        types.StringType: pa.string(),
        types.BooleanType: pa.bool_(),
        types.BinaryType: pa.binary(),
    }
    if isinstance(spark_type, types.UserDefinedType):
        return arrow_type(spark_type.sqlType())
    if isinstance(spark_type, types.ArrayType):
        return pa.list_(arrow_type(spark_type.elementType))
    if isinstance(spark_type, types.StructType):
        return pa.struct([pa.field(each.name, arrow_type(each.dataType), each.nullable) for each in spark_type.fields])
    for known, arrow in plain.items():
        if isinstance(spark_type, known):
            return arrow
    raise AnswerError(f"a column of {spark_type.simpleString()} cannot be made from an answer")


class _ProtobufAnswers(ResponseRowDeserializer):
    """A deserializer of RecordIO: labels of a record, each of them one column."""

    accepts = "application/x-recordio-protobuf"

    def _columns(self) -> list[tuple[str, str, bool]]:
        """Return the label, the column's name and whether it is a vector, for each column."""
        raise NotImplementedError

    @property
    def schema(self) -> Any:
        """The columns."""
        from pyspark.ml.linalg import VectorUDT
        from pyspark.sql.types import DoubleType, StructField, StructType

        return StructType(
            [StructField(name, VectorUDT() if vector else DoubleType(), True) for _, name, vector in self._columns()]
        )

    def decode(self, body: bytes, rows: int) -> dict[str, Any]:
        """Return the columns of an answer.

        Args:
            body: the answer.
            rows: the number of rows that were sent.
        """
        try:
            found = recordio.decode_uniform(body)
        except recordio.RecordIOError as error:
            raise AnswerError(f"the answer is not RecordIO: {error}") from error
        return {name: _column(found, key, rows, vector=vector) for key, name, vector in self._columns()}


def _column(found: Mapping[str, NDArray[Any] | SparseRows], key: str, rows: int, *, vector: bool) -> Any:
    import numpy as np

    values = found.get(key)
    if values is None and len(found) == 1 and "values" in found:
        values = found["values"]  # the label of an image that has one answer
    if values is None:
        raise AnswerError(f"the answer has the labels {sorted(found)}, and no {key!r}")
    if isinstance(values, SparseRows):
        if len(values.starts) - 1 != rows:
            raise AnswerError(f"the answer has {len(values.starts) - 1} rows, and {rows} were sent")
        return vectors_from_sparse(values) if vector else values.to_dense().reshape(rows, -1)[:, 0].astype(float)
    if len(values) == 1 != rows and values.size and values.size % rows == 0:
        values = values.reshape(rows, -1)  # one record with the values of all rows
    if len(values) != rows:
        raise AnswerError(f"the answer has {len(values)} rows, and {rows} were sent")
    if vector:
        return vectors_from(values)
    if values.shape[1] != 1:
        raise AnswerError(f"{key!r} has {values.shape[1]} numbers for each row, and the column holds one")
    return values[:, 0].astype(np.float64)


class ProtobufResponseRowDeserializer(_ProtobufAnswers):
    """Answers in RecordIO of any image.

    Args:
        schema: the columns: DoubleType for one number, VectorUDT for several.
        protobufKeys: the label of each column, in the order of the schema; by default the column's name.
    """

    @both_spellings
    def __init__(self, schema: Any, protobufKeys: list[str] | None = None) -> None:
        self.given_schema = checked("schema", schema, _SCHEMA)
        self.protobufKeys = None if protobufKeys is None else list(protobufKeys)
        if self.protobufKeys is not None and len(self.protobufKeys) != len(schema.fields):
            raise ConfigurationError(
                f"protobufKeys: there are {len(self.protobufKeys)} labels, and {len(schema.fields)} columns in schema"
            )

    def _columns(self) -> list[tuple[str, str, bool]]:
        from pyspark.sql.types import NumericType

        fields = self.given_schema.fields
        keys = self.protobufKeys or [field.name for field in fields]
        return [
            (key, field.name, not isinstance(field.dataType, NumericType))
            for key, field in zip(keys, fields, strict=True)
        ]


class KMeansProtobufResponseRowDeserializer(_ProtobufAnswers):
    """Answers of K-Means: two columns of doubles.

    Args:
        distance_to_cluster_column_name: the column of the distance to the nearest cluster.
        closest_cluster_column_name: the column of that cluster's number.
    """

    @both_spellings
    def __init__(
        self,
        distance_to_cluster_column_name: str = "distance_to_cluster",
        closest_cluster_column_name: str = "closest_cluster",
    ) -> None:
        self.distance_to_cluster_column_name = checked(
            "distance_to_cluster_column_name", distance_to_cluster_column_name, NAME
        )
        self.closest_cluster_column_name = checked("closest_cluster_column_name", closest_cluster_column_name, NAME)

    def _columns(self) -> list[tuple[str, str, bool]]:
        return [
            ("distance_to_cluster", self.distance_to_cluster_column_name, False),
            ("closest_cluster", self.closest_cluster_column_name, False),
        ]


class PCAProtobufResponseRowDeserializer(_ProtobufAnswers):
    """Answers of PCA: one column of vectors.

    Args:
        projection_column_name: the column.
    """

    _key = "projection"

    @both_spellings
    def __init__(self, projection_column_name: str = "projection") -> None:
        self.projection_column_name = checked("projection_column_name", projection_column_name, NAME)

    def _columns(self) -> list[tuple[str, str, bool]]:
        return [(self._key, self.projection_column_name, True)]


class LDAProtobufResponseRowDeserializer(PCAProtobufResponseRowDeserializer):
    """Answers of LDA: one column of vectors.

    Args:
        projection_column_name: the column.
    """

    _key = "topic_mixture"

    @both_spellings
    def __init__(self, projection_column_name: str = "topic_mixture") -> None:
        super().__init__(projection_column_name)


class LinearLearnerRegressorProtobufResponseRowDeserializer(_ProtobufAnswers):
    """Answers of a regressor: one column of doubles.

    Args:
        score_column_name: the column of scores.
    """

    @both_spellings
    def __init__(self, score_column_name: str = "score") -> None:
        self.score_column_name = checked("score_column_name", score_column_name, NAME)

    def _columns(self) -> list[tuple[str, str, bool]]:
        return [("score", self.score_column_name, False)]


class LinearLearnerBinaryClassifierProtobufResponseRowDeserializer(_ProtobufAnswers):
    """Answers of a classifier of two classes: two columns of doubles.

    Args:
        score_column_name: the column of scores.
        predicted_label_column_name: the column of predicted labels.
    """

    _vector = False

    @both_spellings
    def __init__(self, score_column_name: str = "score", predicted_label_column_name: str = "predicted_label") -> None:
        self.score_column_name = checked("score_column_name", score_column_name, NAME)
        self.predicted_label_column_name = checked("predicted_label_column_name", predicted_label_column_name, NAME)

    def _columns(self) -> list[tuple[str, str, bool]]:
        return [
            ("score", self.score_column_name, self._vector),
            ("predicted_label", self.predicted_label_column_name, False),
        ]


class LinearLearnerMultiClassClassifierProtobufResponseRowDeserializer(
    LinearLearnerBinaryClassifierProtobufResponseRowDeserializer
):
    """Answers of a classifier of several classes: a column of vectors, the scores, and one of doubles.

    Args:
        score_column_name: the column of scores.
        predicted_label_column_name: the column of predicted labels.
    """

    _vector = True


class FactorizationMachinesBinaryClassifierDeserializer(LinearLearnerBinaryClassifierProtobufResponseRowDeserializer):
    """Answers of Factorization Machines with two classes: two columns of doubles.

    Args:
        score_column_name: the column of scores.
        predicted_label_column_name: the column of predicted labels.
    """


class FactorizationMachinesRegressorDeserializer(LinearLearnerRegressorProtobufResponseRowDeserializer):
    """Answers of Factorization Machines as a regressor: one column of doubles.

    Args:
        score_column_name: the column of scores.
    """


class XGBoostCSVRowDeserializer(ResponseRowDeserializer):
    """Answers of XGBoost in CSV: separated by commas, as of old images, or by lines.

    Args:
        prediction_column_name: the column of predictions.
        vector: True for several numbers in each line, such as the scores of `multi:softprob`: the column has vectors.
    """

    accepts = "text/csv"

    @both_spellings
    def __init__(self, prediction_column_name: str = "prediction", vector: bool = False) -> None:
        self.prediction_column_name = checked("prediction_column_name", prediction_column_name, NAME)
        self.vector = checked("vector", vector, FLAG)

    @property
    def schema(self) -> Any:
        """The column."""
        from pyspark.ml.linalg import VectorUDT
        from pyspark.sql.types import DoubleType, StructField, StructType

        return StructType([StructField(self.prediction_column_name, VectorUDT() if self.vector else DoubleType())])

    def decode(self, body: bytes, rows: int) -> dict[str, Any]:
        """Return the column of an answer.

        Args:
            body: the answer.
            rows: the number of rows that were sent.
        """
        import numpy as np

        lines = body.decode().split()
        count = rows if len(lines) == 1 else len(lines)
        try:
            numbers = np.array(",".join(lines).strip(",").split(",") if lines else [], np.float64)
        except ValueError as error:
            raise AnswerError(f"the answer is not CSV: {error}") from error
        if count != rows or not rows or len(numbers) % rows or (len(numbers) != rows and not self.vector):
            hint = "" if self.vector else "; scores of several classes need XGBoostCSVRowDeserializer(vector=True)"
            lines_text = f"{len(lines)} lines with {len(numbers)} numbers"
            raise AnswerError(f"the answer has {lines_text}, and {rows} rows were sent{hint}")
        table = numbers.reshape(rows, -1)
        return {self.prediction_column_name: vectors_from(table) if self.vector else table[:, 0]}


class LibSVMResponseRowDeserializer(ResponseRowDeserializer):
    """Answers in libsvm: a label and a vector for each row. Columns are counted from 1, as by Spark.

    Args:
        dim: the size of the vectors.
        labelColumnName: the column of labels.
        featuresColumnName: the column of vectors.
    """

    accepts = "text/x-libsvm"

    @both_spellings
    def __init__(self, dim: int, labelColumnName: str, featuresColumnName: str) -> None:
        self.dim = checked("dim", dim, _DIMENSION)
        self.labelColumnName = checked("labelColumnName", labelColumnName, NAME)
        self.featuresColumnName = checked("featuresColumnName", featuresColumnName, NAME)

    @property
    def schema(self) -> Any:
        """The two columns."""
        from pyspark.ml.linalg import VectorUDT
        from pyspark.sql.types import DoubleType, StructField, StructType

        return StructType(
            [StructField(self.labelColumnName, DoubleType()), StructField(self.featuresColumnName, VectorUDT())]
        )

    def decode(self, body: bytes, rows: int) -> dict[str, Any]:
        """Return the columns of an answer.

        Args:
            body: the answer.
            rows: the number of rows that were sent.
        """
        try:
            parsed = libsvm.parse(body)
        except ValueError as error:
            raise AnswerError(f"the answer is not libsvm: {error}") from error
        features = parsed.features
        assert isinstance(features, SparseRows)
        if parsed.height != rows:
            raise AnswerError(f"the answer has {parsed.height} rows, and {rows} were sent")
        indices = features.indices - 1
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.dim:
            raise AnswerError(f"a column of the answer is not from 1 to {self.dim}")
        vectors = vectors_from_sparse(features._replace(indices=indices, width=self.dim))
        return {self.labelColumnName: parsed.labels, self.featuresColumnName: vectors}
