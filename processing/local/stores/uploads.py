"""Multipart uploads: parts that become one object."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import ApiError
from processing.local.stores.bodies import Body, Source
from processing.local.stores.objects import ObjectRecord, ObjectStore, encode_key, precondition_failed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

MIN_PART_BYTES = 5 << 20
MAX_PARTS = 10_000


class UploadRecord(NamedTuple):
    """An upload that is neither completed nor aborted; `initiated` in seconds since the epoch."""

    id: str
    bucket: str
    key: str
    initiated: float
    headers: Mapping[str, str]
    metadata: Mapping[str, str]


class PartRecord(NamedTuple):
    """A part that has arrived; `last_modified` in seconds since the epoch, the ETag without quotes."""

    number: int
    size: int
    etag: str
    last_modified: float
    body: str


class MultipartUploads:
    """The multipart uploads of an object store.

    A part counts when it has arrived in full; of two with the same number, the later one.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._database = objects.database
        self._bodies = objects.bodies

    def create(self, bucket: str, key: str, *, headers: Mapping[str, str], metadata: Mapping[str, str]) -> UploadRecord:
        """Begin an upload."""
        upload = UploadRecord(os.urandom(16).hex(), bucket, key, self._objects.now(), dict(headers), dict(metadata))
        texts = json.dumps(upload.headers), json.dumps(upload.metadata)
        with self._database.write() as connection:
            self._objects.require_bucket(connection, bucket)
            row = (upload.id, bucket, encode_key(key), upload.initiated, *texts)
            connection.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?)", row)
        return upload

    def add_part(
        self,
        upload_id: str,
        bucket: str,
        key: str,
        number: int,
        source: Source,
        *,
        length: int | None = None,
        expected: Mapping[str, str] | None = None,
    ) -> PartRecord:
        """Store a part in constant memory; see `ObjectStore.put` for `length` and `expected`."""
        if not 1 <= number <= MAX_PARTS:
            message = f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive"
            raise ApiError("InvalidArgument", message, ArgumentName="partNumber", ArgumentValue=str(number))
        self.get(upload_id, bucket, key)
        body = self._bodies.receive(source, length=length, expected=expected or {})
        replaced: list[str] = []
        try:
            with self._database.write() as connection:
                self._require(connection, upload_id, bucket, key)
                statement = "SELECT body FROM parts WHERE upload = ? AND number = ?"
                replaced = [name for (name,) in connection.execute(statement, (upload_id, number))]
                self._objects.throw_away(connection, replaced)
                part = PartRecord(number, body.size, body.md5, self._objects.now(), self._bodies.keep(body.path))
                connection.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", (upload_id, *part))
        finally:
            body.path.unlink(missing_ok=True)
        self._bodies.discard(replaced)
        return part

    def complete(
        self,
        upload_id: str,
        bucket: str,
        key: str,
        chosen: Sequence[tuple[int, str]],
        *,
        if_none_match: bool = False,
    ) -> ObjectRecord:
        """Make the object of the chosen parts, each a number and an ETag; the others are thrown away.

        Raises:
            ApiError: `NoSuchUpload`, `InvalidPart`, `InvalidPartOrder`, `EntityTooSmall` (a part but the last one has
                less than 5 MB), `PreconditionFailed`.
        """
        there = {part.number: part for part in self.parts(upload_id, bucket, key)}
        parts = _pick(there, chosen)
        try:
            path, size = self._bodies.join([self._bodies.path(part.body) for part in parts])
        except FileNotFoundError:  # aborted, completed or a part replaced, in this very moment
            self.get(upload_id, bucket, key)
            raise _invalid_part(*chosen[0]) from None
        hashes = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
        body = Body(path, size, f"{hashes.hexdigest()}-{len(parts)}")
        try:
            with self._database.write() as connection:
                upload = self._require(connection, upload_id, bucket, key)
                if if_none_match and self._objects.exists(connection, bucket, key):
                    raise precondition_failed("If-None-Match")
                record, replaced = self._objects.store(
                    connection, bucket, encode_key(key), body, upload.headers, upload.metadata
                )
                freed = [*replaced, *self._forget(connection, upload_id)]
        finally:
            path.unlink(missing_ok=True)
        self._bodies.discard(freed)
        return record

    def abort(self, upload_id: str, bucket: str, key: str) -> None:
        """Throw an upload away."""
        with self._database.write() as connection:
            self._require(connection, upload_id, bucket, key)
            freed = self._forget(connection, upload_id)
        self._bodies.discard(freed)

    def get(self, upload_id: str, bucket: str, key: str) -> UploadRecord:
        """Return an upload's record."""
        with self._database.read() as connection:
            return self._require(connection, upload_id, bucket, key)

    def parts(self, upload_id: str, bucket: str, key: str) -> list[PartRecord]:
        """Return the parts that have arrived, by number."""
        with self._database.read() as connection:
            self._require(connection, upload_id, bucket, key)
            statement = "SELECT number, size, etag, modified, body FROM parts WHERE upload = ? ORDER BY number"
            return [PartRecord(*row) for row in connection.execute(statement, (upload_id,))]

    def list(self, bucket: str, prefix: str = "") -> list[UploadRecord]:
        """Return a bucket's uploads by key and age."""
        statement = "SELECT * FROM uploads WHERE bucket = ? ORDER BY key, initiated, id"
        with self._database.read() as connection:
            self._objects.require_bucket(connection, bucket)
            uploads = [_upload(row) for row in connection.execute(statement, (bucket,))]
        return [upload for upload in uploads if upload.key.startswith(prefix)]

    def _require(self, connection: sqlite3.Connection, upload_id: str, bucket: str, key: str) -> UploadRecord:
        statement = "SELECT * FROM uploads WHERE id = ? AND bucket = ? AND key = ?"
        row = connection.execute(statement, (upload_id, bucket, encode_key(key))).fetchone()
        if row is None:
            self._objects.require_bucket(connection, bucket)
            message = (
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
                "aborted or completed."
            )
            raise ApiError("NoSuchUpload", message, 404, UploadId=upload_id)
        return _upload(row)

    def _forget(self, connection: sqlite3.Connection, upload_id: str) -> Sequence[str]:
        bodies = [name for (name,) in connection.execute("SELECT body FROM parts WHERE upload = ?", (upload_id,))]
        self._objects.throw_away(connection, bodies)
        connection.execute("DELETE FROM parts WHERE upload = ?", (upload_id,))
        connection.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
        return bodies


def _upload(row: tuple[str, str, bytes, float, str, str]) -> UploadRecord:
    upload_id, bucket, key, initiated, headers, metadata = row
    return UploadRecord(upload_id, bucket, key.decode(), initiated, json.loads(headers), json.loads(metadata))


def _pick(there: Mapping[int, PartRecord], chosen: Sequence[tuple[int, str]]) -> list[PartRecord]:
    if not chosen:
        raise ApiError("MalformedXML", "You must specify at least one part")
    numbers = [number for number, _ in chosen]
    if any(first >= second for first, second in itertools.pairwise(numbers)):
        message = "The list of parts was not in ascending order. Parts must be ordered by part number."
        raise ApiError("InvalidPartOrder", message)
    for number, etag in chosen:
        if number not in there or there[number].etag != etag:
            raise _invalid_part(number, etag)
    parts = [there[number] for number in numbers]
    for part in parts[:-1]:
        if part.size < MIN_PART_BYTES:
            message = "Your proposed upload is smaller than the minimum allowed size"
            sizes = {"ProposedSize": str(part.size), "MinSizeAllowed": str(MIN_PART_BYTES)}
            raise ApiError("EntityTooSmall", message, 400, PartNumber=str(part.number), **sizes)
    return parts


def _invalid_part(number: int, etag: str) -> ApiError:
    message = (
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the "
        "specified entity tag may not match the part's entity tag."
    )
    return ApiError("InvalidPart", message, PartNumber=str(number), ETag=etag)
