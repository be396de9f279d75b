"""Multipart uploads: parts that are joined into one object."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from processing.container.contract import DAY
from processing.local.errors import ApiError
from processing.local.stores.bodies import Body, BodySource
from processing.local.stores.checksums import bad_digest, combine_crcs, composite_checksum, decode_checksum
from processing.local.stores.object_records import ObjectMetadata, ObjectPart, ObjectRecord
from processing.local.stores.objects import ObjectStore, encode_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

MIN_PART_BYTES = 5 << 20
"""S3's minimum for every part but the last."""
MAX_PARTS = 10_000
"""S3's highest part number."""
COMPLETION_KEPT_SECONDS = float(DAY)
"""The time for which a repeated completion has the first answer. Clients repeat a request within minutes."""
DEFAULT_ALGORITHM = "crc64nvme"
"""S3's default algorithm. The object gets such a checksum if every part came with one."""

_UPLOAD = "id, bucket, key, initiated, headers, metadata, tags"
_PART = "number, size, etag, modified, body, checksums"


class UploadRecord(NamedTuple):
    """An unfinished upload.

    Attributes:
        id: the upload's id.
        bucket: the object's bucket.
        key: the object's key.
        initiated: the time of creation, in seconds since the epoch.
        headers: the object's properties, and the upload's `ChecksumAlgorithm` and `ChecksumType`.
        metadata: the user's own metadata.
        tags: the object's tags.
    """

    id: str
    bucket: str
    key: str
    initiated: float
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def algorithm(self) -> str | None:
        """The algorithm of the parts' checksums, in lower case."""
        name = self.headers.get("ChecksumAlgorithm")
        return None if name is None else name.lower()

    @property
    def stored_algorithm(self) -> str:
        """The algorithm whose checksums of parts are stored. Others are only verified."""
        return self.algorithm or DEFAULT_ALGORITHM

    @property
    def is_composite(self) -> bool:
        """True if the object's checksum is computed from its parts' checksums."""
        return self.headers.get("ChecksumType") == "COMPOSITE"


class PartRecord(NamedTuple):
    """An uploaded part. `last_modified` is in seconds since the epoch, and `etag` has no quotes."""

    number: int
    size: int
    etag: str
    last_modified: float
    body: str
    checksums: Mapping[str, str]


class CompletedPart(NamedTuple):
    """A part as a client lists it to complete an upload, with its ETag and its checksums by algorithm."""

    number: int
    etag: str
    checksums: Mapping[str, str] = {}


class MultipartUploads:
    """The multipart uploads of an object store.

    A part counts once it has been uploaded completely. A later part replaces an earlier one with the same number.

    Args:
        objects: the object store.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._database = objects.database
        self._bodies = objects.bodies

    def create(
        self,
        bucket: str,
        key: str,
        *,
        headers: Mapping[str, str],
        metadata: Mapping[str, str],
        tags: Mapping[str, str] | None = None,
    ) -> UploadRecord:
        """Start an upload."""
        initiated = self._objects.now()
        upload = UploadRecord(
            os.urandom(16).hex(), bucket, key, initiated, dict(headers), dict(metadata), dict(tags or {})
        )
        texts = json.dumps(upload.headers), json.dumps(upload.metadata), json.dumps(upload.tags)
        with self._database.write() as connection:
            self._objects.require_bucket(connection, bucket)
            row = (upload.id, bucket, encode_key(key), upload.initiated, *texts)
            connection.execute(f"INSERT INTO uploads ({_UPLOAD}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608 - constants
        return upload

    def add_part(
        self,
        upload_id: str,
        bucket: str,
        key: str,
        number: int,
        source: BodySource,
        *,
        length: int | None = None,
        expected: Mapping[str, str] | None = None,
        copied: bool = False,
    ) -> PartRecord:
        """Store a part in constant memory.

        Args:
            upload_id: the upload's id.
            bucket: the object's bucket.
            key: the object's key.
            number: the part number, from 1 to 10,000.
            source: the body. See `ObjectStore.put` for it and for `length` and `expected`.
            length: the expected number of bytes, if it is known.
            expected: the expected checksums.
            copied: True if S3 itself copies the part. Such a part needs no checksum from the client.
        """
        if not 1 <= number <= MAX_PARTS:
            raise ApiError(
                "InvalidArgument",
                f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
                ArgumentName="partNumber",
                ArgumentValue=str(number),
            )
        upload = self.get(upload_id, bucket, key)
        if not copied:
            _check_algorithm(upload, [each for each in (expected or {}) if each != "content-md5"])
        algorithms = [upload.algorithm] if upload.algorithm else []
        body = self._bodies.write(source, length=length, expected=expected or {}, algorithms=algorithms)
        replaced: list[str] = []
        try:
            with self._database.write() as connection:
                self._bodies.require_incoming(body.name)
                self._require(connection, upload_id, bucket, key)
                statement = "SELECT body FROM parts WHERE upload = ? AND number = ?"
                replaced = [name for (name,) in connection.execute(statement, (upload_id, number))]
                self._objects.mark_garbage(connection, replaced)
                part = PartRecord(number, body.size, body.md5, self._objects.now(), body.name, body.checksums)
                statement = f"INSERT OR REPLACE INTO parts (upload, {_PART}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
                stored = {name: value for name, value in part.checksums.items() if name == upload.stored_algorithm}
                connection.execute(statement, (upload_id, *part[:-1], json.dumps(stored)))
        except Exception:
            # Nothing was committed. See `ObjectStore.put` about interrupts.
            self._bodies.discard([body.name])
            raise
        self._bodies.finalize(body.name)
        self._bodies.discard(replaced)
        return part

    def complete(
        self,
        upload_id: str,
        bucket: str,
        key: str,
        chosen: Sequence[CompletedPart],
        *,
        if_none_match: bool = False,
        if_match: str | None = None,
        size: int | None = None,
        expected: Mapping[str, str] | None = None,
        checksum_type: str | None = None,
    ) -> ObjectRecord:
        """Join the chosen parts into the object and discard the others.

        A client that lost the answer repeats the request. As in S3, the same request then has the same answer for a
        day, even if the object has changed since.

        Args:
            upload_id: the upload's id.
            bucket: the object's bucket.
            key: the object's key.
            chosen: the parts, in order.
            if_none_match: complete only if the key has no object yet.
            if_match: complete only if the object has this ETag.
            size: the expected size of the object in bytes.
            expected: the expected checksums of the object in base64, by algorithm.
            checksum_type: the expected type of the object's checksum, `COMPOSITE` or `FULL_OBJECT`.

        Raises:
            ApiError: the upload does not exist (`NoSuchUpload`), the parts do not match it (`InvalidPart`,
                `InvalidPartOrder`, `InvalidRequest`), a part other than the last one has less than 5 MB
                (`EntityTooSmall`), a checksum differs (`BadDigest`), or a condition does not hold
                (`PreconditionFailed`).
        """
        request = _request_digest(chosen, (if_none_match, if_match, size, expected, checksum_type))
        try:
            upload = self.get(upload_id, bucket, key)
            _check_type(upload, checksum_type)
            parts = _choose_parts({part.number: part for part in self.parts(upload_id, bucket, key)}, chosen, upload)
            checksums = _object_checksum(upload, parts, expected or {})
            _check_size(sum(part.size for part in parts), size)
            return self._complete(upload, parts, checksums, request, (if_none_match, if_match))
        except ApiError as error:
            # The first request may also complete the upload while the second one is carried out.
            first = self._first_answer(upload_id, bucket, key, request) if error.code == "NoSuchUpload" else None
            if first is None:
                raise
            return first

    def _complete(
        self,
        upload: UploadRecord,
        parts: Sequence[PartRecord],
        checksums: dict[str, str],
        request: str,
        conditions: tuple[bool, str | None],
    ) -> ObjectRecord:
        bucket, key = upload.bucket, encode_key(upload.key)
        # Refuse early, before many bytes are moved in vain. The write transaction checks again.
        with self._database.read() as connection:
            self._require(connection, upload.id, bucket, upload.key)
            self._objects.check_preconditions(connection, bucket, key, *conditions)
        body = self._join(upload, parts)
        headers = {name: value for name, value in upload.headers.items() if name != "ChecksumAlgorithm"}
        if not checksums:
            headers.pop("ChecksumType", None)
        metadata = ObjectMetadata(
            headers | checksums, upload.metadata, upload.tags, [ObjectPart(p.size, p.checksums) for p in parts]
        )
        try:
            with self._database.write() as connection:
                self._require(connection, upload.id, bucket, upload.key)
                self._objects.check_preconditions(connection, bucket, key, *conditions)
                record, replaced = self._objects.index_body(connection, bucket, key, body, metadata)
                freed = [*replaced, *self._delete(connection, upload.id)]
                _record_completion(connection, upload.id, request, record)
        except Exception:
            # Nothing was committed. See `ObjectStore.put` about interrupts.
            self._bodies.discard([body.name])
            raise
        self._bodies.finalize(body.name)
        self._bodies.discard(freed)
        return record

    def _first_answer(self, upload_id: str, bucket: str, key: str, request: str) -> ObjectRecord | None:
        """Return the object that the same request has already completed, or None."""
        statement = (
            "SELECT size, etag, modified, body, headers FROM completions "
            "WHERE upload = ? AND bucket = ? AND key = ? AND request = ? AND modified > ?"
        )
        oldest = self._objects.now() - COMPLETION_KEPT_SECONDS
        with self._database.read() as connection:
            row = connection.execute(statement, (upload_id, bucket, encode_key(key), request, oldest)).fetchone()
        if row is None:
            return None
        size, etag, modified, body, headers = row
        path, stored = self._bodies.path(body), json.loads(headers)
        return ObjectRecord(bucket, key, size, etag, modified, path, headers=stored, metadata={}, tags={}, parts="")

    def _join(self, upload: UploadRecord, parts: Sequence[PartRecord]) -> Body:
        try:
            name, size = self._bodies.join([part.body for part in parts])
        except FileNotFoundError:
            # Another client aborted or completed the upload, or replaced a part, since the parts were read.
            self.get(upload.id, upload.bucket, upload.key)
            raise _invalid_part(parts[0].number, parts[0].etag) from None
        digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
        return Body(name, size, f"{digest.hexdigest()}-{len(parts)}", {})

    def abort(self, upload_id: str, bucket: str, key: str) -> None:
        """Delete an upload and its parts."""
        with self._database.write() as connection:
            self._require(connection, upload_id, bucket, key)
            freed = self._delete(connection, upload_id)
        self._bodies.discard(freed)

    def get(self, upload_id: str, bucket: str, key: str) -> UploadRecord:
        """Return an upload's record."""
        with self._database.read() as connection:
            return self._require(connection, upload_id, bucket, key)

    def parts(self, upload_id: str, bucket: str, key: str) -> list[PartRecord]:
        """Return the uploaded parts, sorted by number."""
        with self._database.read() as connection:
            self._require(connection, upload_id, bucket, key)
            statement = f"SELECT {_PART} FROM parts WHERE upload = ? ORDER BY number"  # noqa: S608 - constants
            rows = connection.execute(statement, (upload_id,))
            return [PartRecord(*row)._replace(checksums=json.loads(row[-1])) for row in rows]

    def list(self, bucket: str, prefix: str = "") -> list[UploadRecord]:
        """Return a bucket's uploads, sorted by key and age."""
        statement = f"SELECT {_UPLOAD} FROM uploads WHERE bucket = ? ORDER BY key, initiated, id"  # noqa: S608 - constants
        with self._database.read() as connection:
            self._objects.require_bucket(connection, bucket)
            uploads = [_upload_record(row) for row in connection.execute(statement, (bucket,))]
        return [upload for upload in uploads if upload.key.startswith(prefix)]

    def _require(self, connection: sqlite3.Connection, upload_id: str, bucket: str, key: str) -> UploadRecord:
        statement = f"SELECT {_UPLOAD} FROM uploads WHERE id = ? AND bucket = ? AND key = ?"  # noqa: S608 - constants
        row = connection.execute(statement, (upload_id, bucket, encode_key(key))).fetchone()
        if row is None:
            self._objects.require_bucket(connection, bucket)
            raise ApiError(
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
                "aborted or completed.",
                404,
                UploadId=upload_id,
            )
        return _upload_record(row)

    def _delete(self, connection: sqlite3.Connection, upload_id: str) -> Sequence[str]:
        bodies = [name for (name,) in connection.execute("SELECT body FROM parts WHERE upload = ?", (upload_id,))]
        self._objects.mark_garbage(connection, bodies)
        connection.execute("DELETE FROM parts WHERE upload = ?", (upload_id,))
        connection.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
        return bodies


def _upload_record(row: tuple[str, str, bytes, float, str, str, str]) -> UploadRecord:
    upload_id, bucket, key, initiated, *texts = row
    return UploadRecord(upload_id, bucket, key.decode(), initiated, *map(json.loads, texts))


def _check_algorithm(upload: UploadRecord, sent: Sequence[str]) -> None:
    """Refuse a part without a required checksum, or with one of another algorithm than the upload's.

    An upload without an algorithm accepts parts with any checksum, because clients send one by default.
    """
    wrong = [name for name in sent if name != upload.algorithm]
    if upload.algorithm and (wrong or (upload.is_composite and not sent)):
        raise ApiError(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm}, "
            f"actual checksum Type: {wrong[0] if wrong else 'null'}",
        )


def _choose_parts(
    uploaded: Mapping[int, PartRecord], chosen: Sequence[CompletedPart], upload: UploadRecord
) -> list[PartRecord]:
    """Return the chosen parts, validated against the uploaded ones."""
    if not chosen:
        raise ApiError("MalformedXML", "You must specify at least one part")
    if any(first.number >= second.number for first, second in itertools.pairwise(chosen)):
        raise ApiError(
            "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number."
        )
    for part in chosen:
        _check_part(uploaded.get(part.number), part, upload)
    parts = [uploaded[part.number] for part in chosen]
    for found in parts[:-1]:
        if found.size < MIN_PART_BYTES:
            message = "Your proposed upload is smaller than the minimum allowed size"
            sizes = {"ProposedSize": str(found.size), "MinSizeAllowed": str(MIN_PART_BYTES)}
            raise ApiError("EntityTooSmall", message, 400, PartNumber=str(found.number), **sizes)
    return parts


def _check_part(found: PartRecord | None, part: CompletedPart, upload: UploadRecord) -> None:
    if found is None or found.etag != part.etag:
        raise _invalid_part(part.number, part.etag)
    if upload.is_composite and upload.algorithm not in part.checksums:
        raise ApiError(
            "InvalidRequest",
            f"The upload was created using a {upload.algorithm} checksum. The complete request must include the "
            f"checksum for each part. It was missing for part {part.number} in the request.",
        )
    for algorithm, value in part.checksums.items():
        known = found.checksums.get(algorithm)
        if known is not None and decode_checksum(known) != decode_checksum(value):
            raise _invalid_part(part.number, part.etag)


def _object_checksum(upload: UploadRecord, parts: Sequence[PartRecord], expected: Mapping[str, str]) -> dict[str, str]:
    """Return the object's checksum as headers, verified against the client's, or {} if it cannot be computed."""
    algorithm = upload.stored_algorithm
    values = [part.checksums[algorithm] for part in parts if algorithm in part.checksums]
    if len(values) < len(parts):
        return {}
    if upload.is_composite:
        value = composite_checksum(algorithm, values)
    else:
        value = combine_crcs(algorithm, [(part.checksums[algorithm], part.size) for part in parts])
    sent = expected.get(algorithm)
    if sent is not None and value is not None and sent.partition("-")[0] != value.partition("-")[0]:
        raise bad_digest(algorithm)
    value = value or sent
    kind = "COMPOSITE" if upload.is_composite else "FULL_OBJECT"
    return {} if value is None else {f"Checksum{algorithm.upper()}": value, "ChecksumType": kind}


def _request_digest(chosen: Sequence[CompletedPart], options: tuple[object, ...]) -> str:
    """Return a digest of a completion's parameters, by which a repeated request is recognised."""
    return hashlib.sha256(json.dumps([chosen, options]).encode()).hexdigest()


def _record_completion(connection: sqlite3.Connection, upload_id: str, request: str, record: ObjectRecord) -> None:
    """Record the answer to a completion, inside its write transaction, and forget the old ones."""
    oldest = record.last_modified - COMPLETION_KEPT_SECONDS
    connection.execute("DELETE FROM completions WHERE modified <= ?", (oldest,))
    values = (record.size, record.etag, record.last_modified, record.path.name, json.dumps(record.headers))
    row = (upload_id, record.bucket, encode_key(record.key), request, *values)
    connection.execute("INSERT INTO completions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def _check_type(upload: UploadRecord, requested: str | None) -> None:
    known = upload.headers.get("ChecksumType", "FULL_OBJECT")
    if requested not in {None, known}:
        raise ApiError(
            "InvalidRequest",
            f"The upload was created using the {known} checksum mode. The complete request must use the same "
            "checksum mode.",
        )


def _check_size(size: int, expected: int | None) -> None:
    if expected is not None and size != expected:
        raise ApiError(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {expected} does not match what was computed: {size}",
        )


def _invalid_part(number: int, etag: str) -> ApiError:
    return ApiError(
        "InvalidPart",
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the "
        "specified entity tag may not match the part's entity tag.",
        PartNumber=str(number),
        ETag=etag,
    )
