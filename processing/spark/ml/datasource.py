"""DataFrames as RecordIO: `write_records`, and the Spark data source `sagemaker` of Spark 4."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from processing.default_sessions import session_for_attach
from processing.exceptions import ConfigurationError
from processing.spark.ml.formats import TrainingFormat, check_dataset, format_of, quoted
from processing.spark.ml.roles_and_paths import parse_uri
from processing.spark.ml.shipping import carried, carried_call, check_workers, map_batches
from processing.spark.ml.upload import (
    check_contents,
    delete,
    is_part,
    list_keys,
    new_identity,
    part_name,
    sweep,
    upload_batches,
    upload_objects,
)
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
        write_to_folder(chosen, layout, Path(path), mode)
    return contents.rows


def _write_to_s3(frame: Any, layout: TrainingFormat, target: S3Uri, mode: str, session: Session) -> None:
    there = set(list_keys(session, target))
    if mode == "error" and there:
        raise ConfigurationError(f"path: {target} has objects already; mode='append' or 'overwrite' allows that")
    upload_objects(session, frame, layout, target, new_identity())
    if mode == "overwrite":
        delete(session, target, only=there)
    put_bytes(session.api, b"", target / "_SUCCESS", expected_owner=session.expected_owner)


def write_to_folder(frame: Any, layout: TrainingFormat, target: Path, mode: str) -> None:
    """Write a frame to a folder, and leave nothing of tasks that failed, were killed or ran twice."""
    if mode == "error" and target.exists() and any(target.iterdir()):
        raise ConfigurationError(f"path: {target} has files already; mode='append' or 'overwrite' allows that")
    target.mkdir(parents=True, exist_ok=True)
    there = list(target.glob(f"*{layout.suffix}"))
    upload = new_identity()
    work = carried(write_files, layout=layout, folder=str(target.absolute()), upload=upload)
    try:
        written = {row["name"] for row in map_batches(frame, work, "name string, rows bigint").collect()}
    except BaseException:
        _sweep_folder(target, upload, set())
        raise
    _sweep_folder(target, upload, written)
    if mode == "overwrite":
        for file in there:
            file.unlink(missing_ok=True)
    (target / "_SUCCESS").touch()


def _sweep_folder(folder: Path, upload: str, kept: set[str]) -> None:
    """Delete the files of tasks that failed, were killed or ran twice."""
    for file in folder.iterdir():
        if is_part(file.name, upload) and file.name not in kept:
            file.unlink(missing_ok=True)


def write_files(batches: Iterable[Any], *, layout: TrainingFormat, folder: str, upload: str) -> Iterator[Any]:
    """Write the rows of one task to a file, which gets its name when it is complete."""
    import pyarrow as pa

    name = f"{part_name(upload)}-00000{layout.suffix}"
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
            self.upload = perform("identity", None, "", *use)

        def write(self, iterator: Any) -> Any:
            return Written(perform("write", iterator, self.upload, *self.use))

        def commit(self, messages: Any) -> None:
            names = {name for each in messages if each is not None for name in each.names}
            perform("commit", names, self.upload, *self.use)

        def abort(self, messages: Any) -> None:  # noqa: ARG002 - an aborted write has no data
            perform("sweep", set(), self.upload, *self.use)

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
    action: str, argument: Any, upload: str, options: dict[str, str], schema: str, overwrite: bool, *, session: Session
) -> Any:
    """Do one step of a use of the data source, in a process of Spark's."""
    from pyspark.sql.types import StructType

    given = dict(options)
    path = given.pop("path", None)
    if not path:
        raise ConfigurationError("path: missing; write ....save(path)")
    layout = format_of("sagemaker", given, StructType.fromJson(json.loads(schema)))
    if action == "identity":
        return new_identity()
    return getattr(DataSourceTarget(session, layout, path, overwrite, upload), action)(argument)


@attrs.frozen
class DataSourceTarget:
    """The place of one use of the data source, in S3 or in a folder."""

    session: Session
    layout: TrainingFormat
    path: str
    overwrite: bool
    upload: str

    @property
    def _prefix(self) -> S3Uri | None:
        """The place in S3; None for a folder."""
        return parse_uri(self.path, "path") if self.path.startswith(_SCHEMES) else None

    def write(self, batches: Iterable[Any]) -> list[str]:
        """Write the rows of one task, and return the names of its objects or files."""
        prefix = self._prefix
        if prefix is not None:
            found = upload_batches(
                batches,
                session=self.session,
                layout=self.layout,
                prefix=prefix,
                upload=self.upload,
                kms_key=None,
                compressed=False,
                owner=self.session.expected_owner(prefix.bucket),
            )
            return [key for each in found for key in each.column("key").to_pylist()]
        Path(self.path).mkdir(parents=True, exist_ok=True)
        written = write_files(batches, layout=self.layout, folder=self.path, upload=self.upload)
        return [name for each in written for name in each.column("name").to_pylist()]

    def commit(self, kept: set[str]) -> None:
        """Delete what tasks have left that failed or were killed, and what was there before if it is to be replaced."""
        self.sweep(kept)
        if not self.overwrite:
            return
        prefix = self._prefix
        if prefix is not None:
            delete(self.session, prefix, only=set(list_keys(self.session, prefix)) - kept)
            return
        for file in Path(self.path).glob(f"*{self.layout.suffix}"):
            if file.name not in kept:
                file.unlink(missing_ok=True)

    def sweep(self, kept: set[str]) -> None:
        """Delete what the tasks of this use have written, except some objects or files."""
        prefix = self._prefix
        if prefix is not None:
            sweep(self.session, prefix, self.upload, kept)
        elif Path(self.path).is_dir():  # no task may have come to write
            _sweep_folder(Path(self.path), self.upload, kept)
