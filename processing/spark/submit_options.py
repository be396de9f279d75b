"""The parameters of `run` that only Spark processors have, by name, for `_extend_processing_args`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing._utils import StrPath
    from processing.spark.configuration import Configuration


def python_options(
    submit_py_files: Sequence[StrPath] | None,
    submit_jars: Sequence[StrPath] | None,
    submit_files: Sequence[StrPath] | None,
    configuration: Configuration | None,
    spark_event_logs_s3_uri: str | None,
) -> dict[str, Any]:
    """Return the parameters of `PySparkProcessor`."""
    return {
        "submit_py_files": submit_py_files,
        "submit_jars": submit_jars,
        "submit_files": submit_files,
        "configuration": configuration,
        "spark_event_logs_s3_uri": spark_event_logs_s3_uri,
    }


def jar_options(
    submit_class: str | None,
    submit_jars: Sequence[StrPath] | None,
    submit_files: Sequence[StrPath] | None,
    configuration: Configuration | None,
    spark_event_logs_s3_uri: str | None,
) -> dict[str, Any]:
    """Return the parameters of `SparkJarProcessor`."""
    return {
        "submit_class": submit_class,
        "submit_jars": submit_jars,
        "submit_files": submit_files,
        "configuration": configuration,
        "spark_event_logs_s3_uri": spark_event_logs_s3_uri,
    }
