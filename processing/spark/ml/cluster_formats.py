"""Training data in the formats of the Spark cluster, written by Spark itself through its file system for S3.

pip's Spark has neither a file system for S3 nor formats such as avro. An error then names the package that has it.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import attrs

from processing.exceptions import ConfigurationError
from processing.spark.ml.formats import TrainingFormat
from processing.spark.ml.upload import Staged, delete, list_keys
from processing.staging.transfers import put_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session

_FORMAT: Final = "trainingSparkDataFormat"
_SCHEMES: Final = ("s3a", "s3")  # Hadoop's, and that of EMR
_NO_FORMAT: Final = re.compile(r"failed to find (the )?data source", re.IGNORECASE)
_NO_FILE_SYSTEM: Final = re.compile(r"No FileSystem for scheme|Class \S*(S3A|EmrFileSystem|s3)\S* not found")
_NO_COLUMN: Final = re.compile(r"UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE\S* (?P<reason>.*)")
_PACKAGES: Final = {
    "avro": "org.apache.spark:spark-avro_{scala}:{spark}",
    "com.databricks.spark.avro": "org.apache.spark:spark-avro_{scala}:{spark}",
    "delta": "io.delta:delta-spark_{scala}",
    "hudi": "org.apache.hudi:hudi-spark{short}-bundle_{scala}",
    "iceberg": "org.apache.iceberg:iceberg-spark-runtime-{short}_{scala}",
    "tfrecord": "com.linkedin.sparktfrecord:spark-tfrecord_{scala}",
    "xml": "com.databricks:spark-xml_{scala}",
}


@attrs.frozen
class ClusterFormat(TrainingFormat):
    """A format of the cluster. Spark writes all columns.

    Args:
        name: the name of the Spark data format.
    """

    name: str = attrs.field(kw_only=True)

    @property
    def content_type(self) -> str:
        """The media type of the training channel: the user's alone."""
        return ""

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return the columns of a frame that are written."""
        return list(names)

    def write(self, file: BinaryIO, batch: Any) -> None:
        """Refuse a batch: Spark itself writes this format."""
        raise NotImplementedError(f"Spark writes the format {self.name}")


def write_with_spark(session: Session, frame: Any, layout: ClusterFormat, prefix: S3Uri, *, rows: int) -> Staged:
    """Write a frame below a prefix with Spark's own writer, and commit it with a manifest.

    Args:
        session: the session.
        frame: the frame.
        layout: the format and its options.
        prefix: the place. Nothing else may be below it.
        rows: the number of rows.

    Raises:
        ConfigurationError: the cluster has no such format, or no file system for S3; the message names the package.
    """
    try:
        _write(frame, layout, prefix)
        manifest = prefix / "manifest.json"
        body = json.dumps([{"prefix": f"{prefix}/"}, *_objects(session, layout, prefix)]).encode()
        put_bytes(session.api, body, manifest, expected_owner=session.expected_owner)
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to see
            delete(session, prefix)
        raise
    return Staged(prefix, manifest, rows)


def _objects(session: Session, layout: ClusterFormat, prefix: S3Uri) -> list[str]:
    """Return the names of the objects with data, below the prefix."""
    names = [key.removeprefix(f"{prefix.key}/") for key in list_keys(session, prefix)]
    # Names that begin so are those of markers and logs, such as _SUCCESS and _delta_log.
    data = sorted(name for name in names if not any(part[:1] in {"_", "."} for part in name.split("/")))
    if not data:
        raise ConfigurationError(f"{_FORMAT}: Spark's format {layout.name!r} has written no object to {prefix}")
    return data


def _write(frame: Any, layout: ClusterFormat, prefix: S3Uri) -> None:
    for scheme in _SCHEMES:
        writer = frame.write.format(layout.name).options(**layout.options).mode("append")
        try:
            writer.save(f"{scheme}://{prefix.bucket}/{prefix.key}")
        except Exception as error:
            text = str(error)
            if _NO_FORMAT.search(text):
                raise _missing_format(layout.name, frame.sparkSession) from error
            unsupported = _NO_COLUMN.search(text)
            if unsupported is not None:
                raise ConfigurationError(f"{_FORMAT}: {layout.name!r}: {unsupported['reason']}") from error
            if not _NO_FILE_SYSTEM.search(text):
                raise
            if scheme == _SCHEMES[-1]:
                raise ConfigurationError(
                    f"{_FORMAT}: Spark writes {layout.name!r} itself, and it has no file system for s3a:// or s3://; "
                    "start the session with spark.jars.packages=org.apache.hadoop:hadoop-aws:<version of its Hadoop>, "
                    "or take 'sagemaker', 'csv', 'libsvm' or 'parquet', which need none"
                ) from error
        else:
            return


def _missing_format(name: str, spark: Any) -> ConfigurationError:
    version = str(spark.version)
    short = ".".join(version.split(".")[:2])
    package = _PACKAGES.get(name.lower())
    if package is None:
        remedy = "start the session with the package that has it in spark.jars.packages"
    else:
        scala = "2.12" if version.startswith("3.") else "2.13"
        found = package.format(scala=scala, spark=version, short=short)
        remedy = f"start the session with spark.jars.packages={found}"
    return ConfigurationError(f"{_FORMAT}: this Spark {version} has no format {name!r}; {remedy}")
