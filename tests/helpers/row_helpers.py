"""A serializer and a deserializer of a user's own, in a module that Spark's workers import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processing.spark.ml import RequestRowSerializer, ResponseRowDeserializer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Words(RequestRowSerializer):
    """A serializer by row, as users of sagemaker_pyspark write it."""

    contentType = "text/plain"  # noqa: N815 - the name of sagemaker_pyspark

    def __init__(self, column: str) -> None:
        self.column = column

    def serializeRow(self, row: Any) -> str:  # noqa: N802 - the name of sagemaker_pyspark
        return f"{row[self.column]} {row.features.size}\n"


class Lines(ResponseRowDeserializer):
    """A deserializer by row."""

    accepts = "text/plain"

    def __init__(self) -> None:
        from pyspark.sql.types import LongType, StringType, StructField, StructType

        self.schema = StructType([StructField("word", StringType()), StructField("size", LongType())])

    def deserializeResponse(self, body: bytes) -> Iterator[Any]:  # noqa: N802 - the name of sagemaker_pyspark
        for line in body.decode().splitlines():
            word, size = line.split()
            yield word, int(size)


class FirstElements(RequestRowSerializer):
    """The first element of each vector, one in a line."""

    contentType = "text/plain"  # noqa: N815 - the name of sagemaker_pyspark

    def serializeRow(self, row: Any) -> str:  # noqa: N802 - the name of sagemaker_pyspark
        return f"{row.features[0]}\n"


class Numbers(ResponseRowDeserializer):
    """One number in a line."""

    accepts = "text/plain"

    def __init__(self) -> None:
        from pyspark.sql.types import DoubleType, StructField, StructType

        self.schema = StructType([StructField("answer", DoubleType())])

    def deserializeResponse(self, body: bytes) -> Iterator[Any]:  # noqa: N802 - the name of sagemaker_pyspark
        for line in body.decode().splitlines():
            yield (float(line),)
