"""Training data: checked, encoded and uploaded by Spark's workers, and committed by the driver with a manifest.

Objects of a failed, repeated or killed task are in no manifest. A task that fails deletes its own, and so does one that
ends after the upload. The driver deletes those of tasks that were killed, before the training job begins, and once more
at the job's end. Each object has the upload's identity in its name.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import sys
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import attrs

from processing.aws.retry import http_status
from processing.exceptions import ConfigurationError, StagingError
from processing.request.s3_uri import S3Uri
from processing.spark.ml.shipping import carried, map_batches
from processing.spark.ml.vectors import has_null_elements, sizes
from processing.staging.listing import list_objects
from processing.staging.objects import object_params, owner_params
from processing.staging.transfers import put_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from processing.aws.retry import RetryingApi
    from processing.session.session import Session
    from processing.spark.ml.formats import TrainingFormat

logger = logging.getLogger(__name__)

_OBJECT_SIZE: Final = 64 << 20  # bytes: large enough that requests cost little, and two of them fit into any worker
_DELETED_AT_ONCE: Final = 1000  # of DeleteObjects
_CHECKED: Final = (
    "rows bigint, smallest bigint, largest bigint, null_features bigint, null_labels bigint, infinite_labels bigint"
)
_UPLOADED: Final = "key string, rows bigint, size bigint"


@attrs.frozen
class Contents:
    """The result of a check of a frame.

    Args:
        rows: the number of rows.
        width: the number of features of each row; None for formats without vectors.
    """

    rows: int
    width: int | None


def check_contents(frame: Any, layout: TrainingFormat, *, needs_labels: bool = False) -> Contents:
    """Read a frame once, and refuse one that cannot be trained on.

    Args:
        frame: the frame, with the written columns.
        layout: the format.
        needs_labels: True if each label has to be a finite number.

    Raises:
        ConfigurationError: there are no rows, vectors are empty or have different sizes, or a vector or a label is
            null.
    """
    has_features = bool(layout.features) and layout.features in frame.columns
    work = carried(_statistics, features=layout.features if has_features else None, label=layout.label)
    found = [row.asDict() for row in map_batches(frame, work, _CHECKED).collect()]
    rows = sum(each["rows"] for each in found)
    if not rows:
        raise ConfigurationError("dataset: the DataFrame has no rows; there is nothing to train on")
    for count, column in (("null_features", layout.features), ("null_labels", layout.label)):
        nulls = sum(each[count] for each in found)
        if nulls:
            raise ConfigurationError(f"dataset: {nulls} rows have null in {column!r}; drop them with dropna()")
    infinite = sum(each["infinite_labels"] for each in found)
    if needs_labels and infinite:
        raise ConfigurationError(
            f"dataset: {infinite} rows have a label in {layout.label!r} that is no finite number; drop them"
        )
    if not has_features:
        return Contents(rows, None)
    smallest, largest = min(each["smallest"] for each in found), max(each["largest"] for each in found)
    if smallest != largest:
        raise ConfigurationError(
            f"dataset: the vectors of {layout.features!r} have different sizes, from {smallest} to {largest}"
        )
    if not largest:
        raise ConfigurationError(f"dataset: the vectors of {layout.features!r} have no elements")
    return Contents(rows, largest)


def _statistics(batches: Iterable[Any], *, features: str | None, label: str | None) -> Iterator[Any]:
    import numpy as np
    import pyarrow as pa

    rows = null_labels = null_features = infinite_labels = 0
    widths: set[int] = set()
    for batch in batches:
        rows += len(batch)
        if features is not None:
            found = sizes(batch.column(features))
            null_features += int(((found < 0) | has_null_elements(batch.column(features))).sum())
            widths |= set(np.unique(found[found >= 0]).tolist())
        if label is not None and batch.schema.get_field_index(label) >= 0:
            labels = batch.column(label).drop_null()
            null_labels += len(batch) - len(labels)
            if not pa.types.is_string(labels.type):
                infinite_labels += int((~np.isfinite(labels.to_numpy(zero_copy_only=False).astype(float))).sum())
    if rows:
        values = {
            "rows": rows,
            "smallest": min(widths, default=0),
            "largest": max(widths, default=0),
            "null_features": null_features,
            "null_labels": null_labels,
            "infinite_labels": infinite_labels,
        }
        yield pa.RecordBatch.from_pydict({name: [value] for name, value in values.items()})


@attrs.frozen
class Staged:
    """Training data in S3.

    Args:
        prefix: the place of all objects; nothing else is below it.
        manifest: the object that lists those that belong to the data.
        rows: the number of rows.
        upload: the identity of the upload; empty for objects that Spark itself wrote.
        keys: the objects in the manifest.
    """

    prefix: S3Uri
    manifest: S3Uri
    rows: int
    upload: str = ""
    keys: frozenset[str] = frozenset()

    def end(self, session: Session, *, kept: bool) -> None:
        """Delete the data, or only the objects of tasks that outlived the upload and were killed.

        Args:
            session: the session.
            kept: True to keep the data.
        """
        if not kept:
            delete(session, self.prefix)
        elif self.upload:
            sweep(session, self.prefix, self.upload, self.keys)


def upload(
    session: Session,
    frame: Any,
    layout: TrainingFormat,
    prefix: S3Uri,
    *,
    kms_key: str | None = None,
    compressed: bool = False,
    expected_rows: int | None = None,
) -> Staged:
    """Upload a frame, and commit it with a manifest.

    Args:
        session: the session.
        frame: the frame, with the written columns.
        layout: the format.
        prefix: the place. Nothing else may be below it.
        kms_key: the key that encrypts the objects; None leaves it to the bucket.
        compressed: True for gzip.
        expected_rows: the number of rows; None for any.

    Raises:
        StagingError: the frame has another number of rows, so that it is not the same at each reading.
    """
    identity = new_identity()
    try:
        objects = upload_objects(session, frame, layout, prefix, identity, kms_key=kms_key, compressed=compressed)
        rows = sum(each["rows"] for each in objects)
        _check_rows(rows, expected_rows)
        start = f"{prefix.key}/" if prefix.key else ""
        keys = sorted(each["key"] for each in objects)
        content = [{"prefix": f"s3://{prefix.bucket}/{start}"}, *(key.removeprefix(start) for key in keys)]
        # Outside the prefix's data objects: a channel with the manifest reads the listed keys alone.
        manifest = prefix / "manifest.json"
        body = json.dumps(content).encode()
        put_bytes(session.api, body, manifest, kms_key=kms_key, expected_owner=session.expected_owner)
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to see
            delete(session, prefix)
        raise
    return Staged(prefix, manifest, rows, identity, frozenset(keys))


def upload_objects(
    session: Session,
    frame: Any,
    layout: TrainingFormat,
    prefix: S3Uri,
    upload: str,
    *,
    kms_key: str | None = None,
    compressed: bool = False,
) -> list[dict[str, Any]]:
    """Upload a frame, and leave nothing of tasks that failed, were killed or ran twice.

    A task may still run when another one has failed. An object marks the upload as open, and goes first. A task that
    does not find it after a PUT deletes what it has written.

    Args:
        session: the session.
        frame: the frame, with the written columns.
        layout: the format.
        prefix: the place.
        upload: the identity of the upload.
        kms_key: the key that encrypts the objects; None leaves it to the bucket.
        compressed: True for gzip.

    Returns:
        Key, rows and size of each object.
    """
    marker = prefix / f"uploading-{upload}"
    owner = session.expected_owner(prefix.bucket)
    target = {"prefix": prefix, "upload": upload, "marker": marker, "kms_key": kms_key, "owner": owner}
    work = carried(upload_batches, session=session, layout=layout, compressed=compressed, **target)
    put_bytes(session.api, b"", marker, kms_key=kms_key, expected_owner=session.expected_owner)
    try:
        objects = [row.asDict() for row in map_batches(frame, work, _UPLOADED).collect()]
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to see
            _end_upload(session, prefix, marker, upload, ())
        raise
    _end_upload(session, prefix, marker, upload, [each["key"] for each in objects])
    return objects


def _end_upload(session: Session, prefix: S3Uri, marker: S3Uri, upload: str, kept: Collection[str]) -> None:
    delete(session, prefix, only={marker.key})  # what is written from now on, its task deletes
    sweep(session, prefix, upload, kept)


def new_identity() -> str:
    """Return an identity for an upload, or for a task of one."""
    return uuid.uuid4().hex[:12]


def part_name(upload: str) -> str:
    """Return the beginning of the names of what this task writes."""
    return f"part-{_partition():05d}-{upload}-{new_identity()}"


def is_part(name: str, upload: str) -> bool:
    """Return whether a task of an upload has written a file or an object of that name."""
    return f"-{upload}-" in name.rpartition("/")[2]


def sweep(session: Session, prefix: S3Uri, upload: str, kept: Collection[str]) -> None:
    """Delete the objects of an upload that do not belong to its data. Objects of other uploads stay.

    Args:
        session: the session.
        prefix: the place.
        upload: the identity of the upload.
        kept: the keys of its data.
    """
    written = {key for key in list_keys(session, prefix) if is_part(key, upload)}
    delete(session, prefix, only=written - set(kept))


def _check_rows(rows: int, expected: int | None) -> None:
    if expected is not None and rows != expected:
        raise StagingError(
            f"the DataFrame had {expected} rows when it was checked, and {rows} when it was uploaded; "
            "persist() a DataFrame that is not the same at each reading"
        )


def upload_batches(
    batches: Iterable[Any],
    *,
    session: Session,
    layout: TrainingFormat,
    prefix: S3Uri,
    upload: str,
    kms_key: str | None,
    compressed: bool,
    owner: str | None,
    marker: S3Uri | None = None,
) -> Iterator[Any]:
    """Encode and upload the rows of one task, and yield a row for each object. After an error, none is left.

    Args:
        batches: the rows.
        session: the session.
        layout: the format.
        prefix: the place.
        upload: the identity of the upload.
        kms_key: the key that encrypts the objects; None leaves it to the bucket.
        compressed: True for gzip.
        owner: the account that must own the bucket; None for any.
        marker: the object that exists while the upload is open; None for an upload without one.

    Raises:
        StagingError: the upload was ended.
    """
    import pyarrow as pa

    task = part_name(upload)
    suffix = layout.suffix + (".gz" if compressed else "")
    writer = _ObjectWriter(session, prefix, lambda number: f"{task}-{number:05d}{suffix}", kms_key, owner, marker)
    writer.transform = gzip.compress if compressed else bytes
    try:
        for batch in batches:
            if not len(batch):
                continue
            if writer.is_empty:
                writer.file.write(layout.header(batch.schema.names))
            layout.write(writer.file, batch)
            writer.added(len(batch), whole=not layout.concatenable)
        written = writer.finish()
        if written:
            keys, rows, lengths = zip(*written, strict=True)
            yield pa.RecordBatch.from_pydict({"key": list(keys), "rows": list(rows), "size": list(lengths)})
    except BaseException:
        writer.discard()
        raise


def _partition() -> int:
    """Return the number of the partition that this task has; 0 outside a task."""
    pyspark: Any = sys.modules.get("pyspark")
    context = None if pyspark is None else pyspark.TaskContext.get()
    return 0 if context is None else int(context.partitionId())


class _ObjectWriter:
    """The objects of one task. One is sent while the next one is encoded."""

    def __init__(
        self,
        session: Session,
        prefix: S3Uri,
        name: Callable[[int], str],
        kms_key: str | None,
        owner: str | None,
        marker: S3Uri | None,
    ) -> None:
        self.transform: Callable[[bytes], bytes] = bytes
        self.file = io.BytesIO()
        self._session, self._prefix, self._name = session, prefix, name
        self._kms_key, self._owner, self._marker = kms_key, owner, marker
        self._rows = 0
        self._written: list[tuple[str, int, int]] = []
        self._pool = ThreadPoolExecutor(1)
        self._sending: Future[None] | None = None

    @property
    def is_empty(self) -> bool:
        return not self._rows

    def added(self, rows: int, *, whole: bool) -> None:
        """Count rows that were written to `file`, and send the object if it is complete."""
        self._rows += rows
        if whole or self.file.tell() >= _OBJECT_SIZE:
            self._send()

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.result()
        target = self._prefix / self._name(len(self._written))
        body = self.transform(self.file.getvalue())
        self._written.append((target.key, self._rows, len(body)))
        self._sending = self._pool.submit(self._put, body, target)
        self.file, self._rows = io.BytesIO(), 0

    def _put(self, body: bytes, target: S3Uri) -> None:
        api = self._session.api
        put_bytes(api, body, target, kms_key=self._kms_key, expected_owner=self._expected_owner)
        if self._marker is not None and is_gone(api, object_params(self._marker, self._expected_owner)):
            raise StagingError("the upload was ended, because another task failed or had written the same rows")

    def _expected_owner(self, _bucket: str) -> str | None:
        return self._owner

    def finish(self) -> list[tuple[str, int, int]]:
        if not self.is_empty:
            self._send()
        if self._sending is not None:
            self._sending.result()
        self._pool.shutdown()
        return self._written

    def discard(self) -> None:
        """Delete what was written. The driver deletes what this cannot."""
        with contextlib.suppress(Exception):
            if self._sending is not None:
                self._sending.exception()
            self._pool.shutdown()
            _delete_keys(self._session, self._prefix.bucket, [key for key, _, _ in self._written], self._owner)


def is_gone(api: RetryingApi, place: Mapping[str, Any]) -> bool:
    """Return whether an object does not exist. Without s3:ListBucket, S3 does not answer that."""
    from botocore.exceptions import ClientError

    try:
        api.call("s3", "HeadObject", place)
    except ClientError as error:
        if http_status(error) == 404:
            return True
        if http_status(error) != 403:
            raise
    return False


def delete(session: Session, prefix: S3Uri, *, only: set[str] | None = None) -> None:
    """Delete the objects below a prefix, and no object whose key only begins with the same letters.

    Args:
        session: the session.
        prefix: the prefix.
        only: the keys to delete; None for all below the prefix.
    """
    keys = list_keys(session, prefix) if only is None else sorted(only)
    _delete_keys(session, prefix.bucket, keys, session.expected_owner(prefix.bucket))


def list_keys(session: Session, prefix: S3Uri) -> list[str]:
    """Return the keys of all objects below a prefix."""
    below = S3Uri(prefix.bucket, f"{prefix.key}/" if prefix.key else "")
    return [each.key for each in list_objects(session.api, below, session.expected_owner)]


def _delete_keys(session: Session, bucket: str, keys: list[str], owner: str | None) -> None:
    for first in range(0, len(keys), _DELETED_AT_ONCE):
        chosen = [{"Key": key} for key in keys[first : first + _DELETED_AT_ONCE]]
        request = {"Bucket": bucket, "Delete": {"Objects": chosen, "Quiet": True}}
        answer = session.api.call("s3", "DeleteObjects", {**request, **owner_params(bucket, lambda _: owner)})
        if answer.get("Errors"):
            first_error = answer["Errors"][0]
            raise StagingError(
                f"{len(answer['Errors'])} objects could not be deleted",
                [(str(S3Uri(bucket, first_error["Key"])), first_error.get("Message", ""))],
            )
