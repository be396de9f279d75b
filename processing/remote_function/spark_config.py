"""`SparkConfig`: the configuration of a function that runs on Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from processing._utils.validation import MAPPING, NAME, PATH, Kind, field, require
from processing.request.s3_uri import S3Uri

if TYPE_CHECKING:
    from processing._utils import StrPath

_LIST = Kind("a list of paths or S3 URIs", lambda value: isinstance(value, (list, tuple)))
_FILE = (NAME | PATH)._replace(description="a path or an S3 URI")
_CONFIGURATION = field(
    MAPPING
    | Kind(
        "a list of them",
        lambda value: isinstance(value, (list, tuple)) and all(isinstance(each, Mapping) for each in value),
    ),
    optional=True,
)


def _check_files(_config: SparkConfig, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse a value that is no list, or the first of its files that is neither a path nor a URI."""
    require(attribute.name, value, _LIST, optional=True)
    for index, each in enumerate(value or ()):
        require(f"{attribute.name}[{index}]", each, _FILE)


def _check_uri(_config: SparkConfig, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None:
        S3Uri.checked(value, attribute.name)


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
        ConfigurationError: a value has a wrong type, or a prefix is no S3 URI.
    """

    submit_jars: Sequence[StrPath] | None = attrs.field(default=None, validator=_check_files)
    submit_py_files: Sequence[StrPath] | None = attrs.field(default=None, validator=_check_files)
    submit_files: Sequence[StrPath] | None = attrs.field(default=None, validator=_check_files)
    configuration: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = attrs.field(
        default=None, validator=_CONFIGURATION
    )
    spark_event_logs_uri: str | None = attrs.field(default=None, validator=_check_uri)
