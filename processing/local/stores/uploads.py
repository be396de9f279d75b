"""Multipart uploads: parts that become one object."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import ApiError
from processing.local.stores.bodies import Body, BodySource
from processing.local.stores.checksums import bad_digest, combine_crcs, composite_checksum, decode_checksum
from processing.local.stores.objects import ObjectMetadata, ObjectPart, ObjectRecord, ObjectStore, encode_key

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

MIN_PART_BYTES = 5 << 20
MAX_PARTS = 10_000
DEFAULT_ALGORITHM = "crc64nvme"
"""S3's own, where the client names none: the object gets one if all of its parts came with one."""


_UPLOAD = "id, bucket, key, initiated, headers, metadata, tags"
_PART = "number, size, etag, modified, body, checksums"


class UploadRecord(NamedTuple):
    """An upload that is neither completed nor aborted.

    Attributes:
        id: its name.
        bucket: the bucket of the object.
        key: its key.
        initiated: seconds since the epoch.
        headers: what the object's writer says of it, and of the upload: `ChecksumAlgorithm` and `ChecksumType`.
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
    def kept_algorithm(self) -> str:
        """The algorithm whose checksums of parts are kept; others are checked and forgotten."""
        return self.algorithm or DEFAULT_ALGORITHM

    @property
    def is_composite(self) -> bool:
        """Whether the object's checksum is that of its parts' checksums."""
        return self.headers.get("ChecksumType") == "COMPOSITE"


class PartRecord(NamedTuple):
    """A part that has arrived; `last_modified` in seconds since the epoch, the ETag without quotes."""

    number: int
    size: int
    etag: str
    last_modified: float
    body: str
    checksums: Mapping[str, str]


class CompletedPart(NamedTuple):
    """A part that the object shall be made of, as the client knows it: its ETag and its checksums by algorithm."""

    number: int
    etag: str
    checksums: Mapping[str, str] = {}


class MultipartUploads:
    """The multipart uploads of an object store.

    A part counts when it has arrived in full; of two with the same number, the later one.
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
        """Begin an upload."""
        initiated = self._objects.now()
        upload = UploadRecord(
            os.urandom(16).hex(), bucket, key, initiated, dict(headers), dict(metadata), dict(tags or {})
        )
        texts = json.dumps(upload.headers), json.dumps(upload.metadata), json.dumps(upload.tags)
        with self._database.write() as connection:
            self._objects.require_bucket(connection, bucket)
            row = (upload.id, bucket, encode_key(key), upload.initiated, *texts)
            connection.execute(f"INSERT INTO uploads ({_UPLOAD}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608 — constants
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
        """Store a part in constant memory; see `ObjectStore.put` for `length` and `expected`.

        A part that S3 itself copies needs no checksum of the client's, whatever the upload says.
        """
        if not 1 <= number <= MAX_PARTS:
            message = f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive"
            raise ApiError("InvalidArgument", message, ArgumentName="partNumber", ArgumentValue=str(number))
        upload = self.get(upload_id, bucket, key)
        given = [each for each in (expected or {}) if each != "content-md5"]
        if not copied:
            _check_algorithm(upload, given)
        wanted = [upload.algorithm] if upload.algorithm else []
        body = self._bodies.write(source, length=length, expected=expected or {}, algorithms=wanted)
        replaced: list[str] = []
        try:
            with self._database.write() as connection:
                self._bodies.require_incoming(body.name)
                self._require(connection, upload_id, bucket, key)
                statement = "SELECT body FROM parts WHERE upload = ? AND number = ?"
                replaced = [name for (name,) in connection.execute(statement, (upload_id, number))]
                self._objects.mark_garbage(connection, replaced)
                part = PartRecord(number, body.size, body.md5, self._objects.now(), body.name, body.checksums)
                statement = f"INSERT OR REPLACE INTO parts (upload, {_PART}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 — constants
                kept = {name: value for name, value in part.checksums.items() if name == upload.kept_algorithm}
                connection.execute(statement, (upload_id, *part[:-1], json.dumps(kept)))
        except Exception:  # nothing was committed
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
    ) -> ObjectRecord:
        """Make the object of the chosen parts; the others are thrown away.

        Args:
            upload_id: the upload.
            bucket: its bucket.
            key: its key.
            chosen: the parts, in order.
            if_none_match: only if there is no such object.
            if_match: only if the object has this ETag.
            size: how many bytes it has to have.
            expected: its checksums, in base64 by algorithm.

        Raises:
            ApiError: `NoSuchUpload`, `InvalidPart`, `InvalidPartOrder`, `EntityTooSmall` (a part but the last one has
                less than 5 MB), `InvalidRequest`, `BadDigest`, `PreconditionFailed`.
        """
        there = {part.number: part for part in self.parts(upload_id, bucket, key)}
        upload = self.get(upload_id, bucket, key)
        parts = _pick(there, chosen, upload)
        checksums = _whole(upload, parts, expected or {})
        _check_size(sum(part.size for part in parts), size)
        with self._database.read() as connection:  # before many bytes are moved for nothing
            self._objects.check_preconditions(connection, bucket, encode_key(key), if_none_match, if_match)
        body = self._join(upload, parts)
        headers = {name: value for name, value in upload.headers.items() if name != "ChecksumAlgorithm"}
        if not checksums:
            headers.pop("ChecksumType", None)
        said = ObjectMetadata(
            headers | checksums, upload.metadata, upload.tags, [ObjectPart(p.size, p.checksums) for p in parts]
        )
        try:
            with self._database.write() as connection:
                self._require(connection, upload_id, bucket, key)
                self._objects.check_preconditions(connection, bucket, encode_key(key), if_none_match, if_match)
                record, replaced = self._objects.index_body(connection, bucket, encode_key(key), body, said)
                freed = [*replaced, *self._forget(connection, upload_id)]
        except Exception:  # nothing was committed
            self._bodies.discard([body.name])
            raise
        self._bodies.finalize(body.name)
        self._bodies.discard(freed)
        return record

    def _join(self, upload: UploadRecord, parts: Sequence[PartRecord]) -> Body:
        try:
            name, size = self._bodies.join([part.body for part in parts])
        except FileNotFoundError:  # aborted, completed or a part replaced, in this very moment
            self.get(upload.id, upload.bucket, upload.key)
            raise _invalid_part(parts[0].number, parts[0].etag) from None
        hashes = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
        return Body(name, size, f"{hashes.hexdigest()}-{len(parts)}", {})

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
            statement = f"SELECT {_PART} FROM parts WHERE upload = ? ORDER BY number"  # noqa: S608 — constants
            rows = connection.execute(statement, (upload_id,))
            return [PartRecord(*row)._replace(checksums=json.loads(row[-1])) for row in rows]

    def list(self, bucket: str, prefix: str = "") -> list[UploadRecord]:
        """Return a bucket's uploads by key and age."""
        statement = f"SELECT {_UPLOAD} FROM uploads WHERE bucket = ? ORDER BY key, initiated, id"  # noqa: S608 — constants
        with self._database.read() as connection:
            self._objects.require_bucket(connection, bucket)
            uploads = [_upload(row) for row in connection.execute(statement, (bucket,))]
        return [upload for upload in uploads if upload.key.startswith(prefix)]

    def _require(self, connection: sqlite3.Connection, upload_id: str, bucket: str, key: str) -> UploadRecord:
        statement = f"SELECT {_UPLOAD} FROM uploads WHERE id = ? AND bucket = ? AND key = ?"  # noqa: S608 — constants
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
        self._objects.mark_garbage(connection, bodies)
        connection.execute("DELETE FROM parts WHERE upload = ?", (upload_id,))
        connection.execute("DELETE FROM uploads WHERE id = ?", (upload_id,))
        return bodies


def _upload(row: tuple[str, str, bytes, float, str, str, str]) -> UploadRecord:
    upload_id, bucket, key, initiated, *texts = row
    return UploadRecord(upload_id, bucket, key.decode(), initiated, *map(json.loads, texts))


def _check_algorithm(upload: UploadRecord, given: Sequence[str]) -> None:
    """Refuse a part whose checksum is of another algorithm than the upload's, or that has none where one is needed.

    Of an upload without an algorithm the parts may have any: clients send one by default.
    """
    wrong = [name for name in given if name != upload.algorithm]
    if upload.algorithm and (wrong or (upload.is_composite and not given)):
        message = (
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm}, "
            f"actual checksum Type: {wrong[0] if wrong else 'null'}"
        )
        raise ApiError("InvalidRequest", message)


def _pick(there: Mapping[int, PartRecord], chosen: Sequence[CompletedPart], upload: UploadRecord) -> list[PartRecord]:
    """Return the chosen parts, checked against what has arrived."""
    if not chosen:
        raise ApiError("MalformedXML", "You must specify at least one part")
    if any(first.number >= second.number for first, second in itertools.pairwise(chosen)):
        message = "The list of parts was not in ascending order. Parts must be ordered by part number."
        raise ApiError("InvalidPartOrder", message)
    for part in chosen:
        _check_part(there.get(part.number), part, upload)
    parts = [there[part.number] for part in chosen]
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
        message = (
            f"The upload was created using a {upload.algorithm} checksum. The complete request must include the "
            f"checksum for each part. It was missing for part {part.number} in the request."
        )
        raise ApiError("InvalidRequest", message)
    for algorithm, value in part.checksums.items():
        known = found.checksums.get(algorithm)
        if known is not None and decode_checksum(known) != decode_checksum(value):
            raise _invalid_part(part.number, part.etag)


def _whole(upload: UploadRecord, parts: Sequence[PartRecord], expected: Mapping[str, str]) -> dict[str, str]:
    """Return the object's checksum as its header, checked against the client's, or nothing if it cannot be known."""
    algorithm = upload.kept_algorithm
    values = [part.checksums[algorithm] for part in parts if algorithm in part.checksums]
    if len(values) < len(parts):
        return {}
    if upload.is_composite:
        value = composite_checksum(algorithm, values)
    else:
        value = combine_crcs(algorithm, [(part.checksums[algorithm], part.size) for part in parts])
    given = expected.get(algorithm)
    if given is not None and value is not None and given.partition("-")[0] != value.partition("-")[0]:
        raise bad_digest(algorithm)
    value = value or given
    return {} if value is None else {f"Checksum{algorithm.upper()}": value, "ChecksumType": _type(upload)}


def _type(upload: UploadRecord) -> str:
    return "COMPOSITE" if upload.is_composite else "FULL_OBJECT"


def _check_size(found: int, wanted: int | None) -> None:
    if wanted is not None and found != wanted:
        message = f"The provided 'x-amz-mp-object-size' header value {wanted} does not match what was computed: {found}"
        raise ApiError("InvalidRequest", message)


def _invalid_part(number: int, etag: str) -> ApiError:
    message = (
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the "
        "specified entity tag may not match the part's entity tag."
    )
    return ApiError("InvalidPart", message, PartNumber=str(number), ETag=etag)
