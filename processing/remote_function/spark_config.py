"""`SparkConfig`: the configuration of a function that runs on Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from processing._utils.validation import MAPPING, NAME, Kind, field

_PATHS = field(
    Kind(
        "a list of paths or S3 URIs",
        lambda value: isinstance(value, (list, tuple)) and all(NAME.accepts(each) for each in value),
    ),
    optional=True,
)
_CONFIGURATION = field(
    MAPPING
    | Kind(
        "a list of them",
        lambda value: isinstance(value, (list, tuple)) and all(isinstance(each, Mapping) for each in value),
    ),
    optional=True,
)
_S3_URI = field(Kind("an s3:// URI", lambda value: NAME.accepts(value) and value.startswith("s3://")), optional=True)


@attrs.frozen
class SparkConfig:
    """The configuration of Spark for a remote function.

    Args:
        submit_jars: the jars for Spark, as local paths or S3 URIs.
        submit_py_files: the Python files for Spark, as local paths or S3 URIs.
        submit_files: other files for Spark, as local paths or S3 URIs.
        configuration: classifications for Hadoop, Spark or Hive, as EMR has them: one, or a list.
        spark_event_logs_uri: the S3 prefix for Spark's events.

    Raises:
        ConfigurationError: a value has a wrong type.
    """

    submit_jars: Sequence[str] | None = attrs.field(default=None, validator=_PATHS)
    submit_py_files: Sequence[str] | None = attrs.field(default=None, validator=_PATHS)
    submit_files: Sequence[str] | None = attrs.field(default=None, validator=_PATHS)
    configuration: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = attrs.field(
        default=None, validator=_CONFIGURATION
    )
    spark_event_logs_uri: str | None = attrs.field(default=None, validator=_S3_URI)
