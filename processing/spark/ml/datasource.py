"""DataFrames as RecordIO: `write_records`, and the Spark data source `sagemaker` of Spark 4."""

from __future__ import annotations

import contextlib
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing.default_sessions import session_for_attach
from processing.exceptions import ConfigurationError
from processing.spark.ml.formats import TrainingFormat, check_dataset, format_of, quoted
from processing.spark.ml.roles_and_paths import parse_uri
from processing.spark.ml.shipping import carried, carried_call, check_workers, map_batches
from processing.spark.ml.upload import check_contents, delete, list_keys, partition, upload_batches, upload_objects
from processing.staging.transfers import put_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from processing.request.s3_uri import S3Uri
    from processing.session.session import Session

_SCHEMES = ("s3://", "s3a://", "s3n://")


def write_records(
    frame: Any,
    path: str,
    *,
    labelColumnName: str | None = None,
    featuresColumnName: str | None = None,
    mode: str = "error",
    session: Any = None,
) -> int:
    """Write a DataFrame as RecordIO of Amazon Records, one or more files for each partition.

    Args:
        frame: a DataFrame with a column of vectors or matrices, and perhaps one of numbers as labels.
        path: an `s3://` or `s3a://` URI, or a folder that all workers share.
        labelColumnName: the column of labels; `label` by default, if there is one.
        featuresColumnName: the column of vectors; `features` by default.
        mode: `error`, `append` or `overwrite`, if there is something at the path.
        session: a `processing.Session` or `LocalSession`; None for the default one.

    Returns:
        The number of rows.

    Raises:
        ConfigurationError: a column is missing or wrong, there are no rows, or the path is taken.
    """
    if mode not in {"error", "append", "overwrite"}:
        raise ConfigurationError(f"mode: must be 'error', 'append' or 'overwrite', not {mode!r}")
    check_dataset("frame", frame)
    options = {"labelColumnName": labelColumnName, "featuresColumnName": featuresColumnName}
    given = {name: value for name, value in options.items() if value is not None}
    layout = format_of("sagemaker", given, frame.schema)
    chosen = frame.select(*[quoted(name) for name in layout.columns(frame.columns)])
    check_workers(frame.sparkSession)
    contents = check_contents(chosen, layout)
    if str(path).startswith(_SCHEMES):
        _write_to_s3(chosen, layout, parse_uri(path, "path"), mode, session_for_attach(session, "session"))
    else:
        _write_to_folder(chosen, layout, Path(path), mode)
    return contents.rows


def _write_to_s3(frame: Any, layout: TrainingFormat, target: S3Uri, mode: str, session: Session) -> None:
    there = set(list_keys(session, target))
    if mode == "error" and there:
        raise ConfigurationError(f"path: {target} has objects already; mode='append' or 'overwrite' allows that")
    upload_objects(session, frame, layout, target, kept=there)
    if mode == "overwrite":
        delete(session, target, only=there)
    put_bytes(session.api, b"", target / "_SUCCESS", expected_owner=session.expected_owner)


def _write_to_folder(frame: Any, layout: TrainingFormat, target: Path, mode: str) -> None:
    if target.exists() and any(target.iterdir()):
        if mode == "error":
            raise ConfigurationError(f"path: {target} has files already; mode='append' or 'overwrite' allows that")
        if mode == "overwrite":
            for file in target.glob(f"*{layout.suffix}"):
                file.unlink()
    target.mkdir(parents=True, exist_ok=True)
    work = carried(write_files, layout=layout, folder=str(target.absolute()))
    map_batches(frame, work, "name string, rows bigint").collect()
    (target / "_SUCCESS").touch()


def write_files(batches: Iterable[Any], *, layout: TrainingFormat, folder: str) -> Iterator[Any]:
    """Write the rows of one task to a file, which gets its name when it is complete."""
    import pyarrow as pa

    name = f"part-{partition():05d}-{uuid.uuid4().hex[:12]}{layout.suffix}"
    partial = Path(folder, f".{name}.partial")
    rows = 0
    try:
        with partial.open("wb") as file:
            for batch in batches:
                layout.write(file, batch)
                rows += len(batch)
        if rows:
            partial.rename(Path(folder, name))
            yield pa.RecordBatch.from_pydict({"name": [name], "rows": [rows]})
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def register(spark: Any, session: Any = None) -> None:
    """Register the data source `sagemaker`, for `df.write.format("sagemaker")`. It needs Spark 4.

    Args:
        spark: the Spark session.
        session: a `processing.Session` or `LocalSession`; None for the default one.

    Raises:
        ConfigurationError: this Spark has no data sources in Python.
    """
    try:
        from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, WriterCommitMessage
    except ImportError as error:
        raise ConfigurationError(
            f"spark: data sources in Python need Spark 4.0, and this is {spark.version}; use write_records(df, path)"
        ) from error
    # The classes are pickled by value, and the processes that use them may lack this package.
    perform = carried_call(_perform, session=session_for_attach(session, "session"))

    class Written(WriterCommitMessage):
        def __init__(self, names: list[str]) -> None:
            self.names = names

    class Writer(DataSourceArrowWriter):
        def __init__(self, *use: Any) -> None:
            self.use = use
            perform("check", None, *use)

        def write(self, iterator: Any) -> Any:
            return Written(perform("write", iterator, *self.use))

        def commit(self, messages: Any) -> None:
            perform("commit", {name for each in messages if each is not None for name in each.names}, *self.use)

        def abort(self, messages: Any) -> None:
            perform("remove", {name for each in messages if each is not None for name in each.names}, *self.use)

    class Source(DataSource):
        @classmethod
        def name(cls) -> str:
            return "sagemaker"

        def writer(self, schema: Any, overwrite: bool) -> Any:
            options = {
                name: self.options[name]
                for name in ("path", "labelColumnName", "featuresColumnName")
                if name in self.options
            }
            return Writer(options, schema.json(), overwrite)

    spark.dataSource.register(Source)


def _perform(
    action: str, argument: Any, options: dict[str, str], schema: str, overwrite: bool, *, session: Session
) -> Any:
    """Do one step of a use of the data source, in a process of Spark's."""
    from pyspark.sql.types import StructType

    given = dict(options)
    path = given.pop("path", None)
    if not path:
        raise ConfigurationError("path: missing; write ....save(path)")
    layout = format_of("sagemaker", given, StructType.fromJson(json.loads(schema)))
    target = _Target(session, layout, path, overwrite)
    return None if action == "check" else getattr(target, action)(argument)


@attrs.frozen
class _Target:
    """The place of one use of the data source, in S3 or in a folder."""

    session: Session
    layout: TrainingFormat
    path: str
    overwrite: bool

    def write(self, batches: Iterable[Any]) -> list[str]:
        """Write the rows of one task, and return the names of its objects or files."""
        if self.path.startswith(_SCHEMES):
            prefix = parse_uri(self.path, "path")
            owner = self.session.expected_owner(prefix.bucket)
            found = upload_batches(
                batches,
                session=self.session,
                layout=self.layout,
                prefix=prefix,
                kms_key=None,
                compressed=False,
                owner=owner,
            )
            return [key for each in found for key in each.column("key").to_pylist()]
        Path(self.path).mkdir(parents=True, exist_ok=True)
        written = write_files(batches, layout=self.layout, folder=self.path)
        return [name for each in written for name in each.column("name").to_pylist()]

    def commit(self, kept: set[str]) -> None:
        """Delete what was there before, if it is to be replaced."""
        if not self.overwrite:
            return
        if self.path.startswith(_SCHEMES):
            self.remove(set(list_keys(self.session, parse_uri(self.path, "path"))) - kept)
        else:
            self.remove({file.name for file in Path(self.path).glob(f"*{self.layout.suffix}")} - kept)

    def remove(self, names: set[str]) -> None:
        """Delete objects or files."""
        if self.path.startswith(_SCHEMES):
            delete(self.session, parse_uri(self.path, "path"), only=names)
            return
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                Path(self.path, name).unlink()
