"""The object store: an index in SQLite, and one file for every body.

Keys are stored as UTF-8 bytes, so SQLite sorts them as S3 does. A body is complete before a transaction makes the index
point to it. A process that is killed at any moment leaves either the old object or the new one.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING

from processing.exceptions import EngineError
from processing.local.errors import ApiError
from processing.local.stores.bodies import ABANDONED_AFTER, Body, BodyFolder, BodySource
from processing.local.stores.database import Database
from processing.local.stores.object_records import BucketRecord, ObjectMetadata, ObjectPage, ObjectRecord

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_TAGS = "tags TEXT NOT NULL DEFAULT '{}'"
_PARTS = "parts TEXT NOT NULL DEFAULT ''"
_USED = "used REAL"
_CHECKSUMS = "checksums TEXT NOT NULL DEFAULT '{}'"
_COMPLETIONS = """CREATE TABLE completions (
    upload TEXT PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, request TEXT NOT NULL, size INTEGER NOT NULL,
    etag TEXT NOT NULL, modified REAL NOT NULL, body TEXT NOT NULL, headers TEXT NOT NULL
) WITHOUT ROWID"""
"""Completed uploads and their answers, for clients that lost the answer and repeat the request."""
_SCHEMA = (
    f"""CREATE TABLE buckets (
        name TEXT PRIMARY KEY, created REAL NOT NULL, region TEXT NOT NULL, {_TAGS}
    ) WITHOUT ROWID""",
    f"""CREATE TABLE objects (
        bucket TEXT NOT NULL, key BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified REAL NOT NULL,
        body TEXT NOT NULL, headers TEXT NOT NULL, metadata TEXT NOT NULL, {_TAGS}, {_PARTS}, {_USED},
        PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID""",
    f"""CREATE TABLE uploads (
        id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, initiated REAL NOT NULL,
        headers TEXT NOT NULL, metadata TEXT NOT NULL, {_TAGS}
    ) WITHOUT ROWID""",
    f"""CREATE TABLE parts (
        upload TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
        modified REAL NOT NULL, body TEXT NOT NULL, {_CHECKSUMS}, PRIMARY KEY (upload, number)
    ) WITHOUT ROWID""",
    # Files whose object was replaced or deleted by a committed transaction, until they are removed from the disk.
    "CREATE TABLE garbage (body TEXT PRIMARY KEY) WITHOUT ROWID",
    _COMPLETIONS,
)
_UPGRADES = {
    1: (
        f"ALTER TABLE buckets ADD COLUMN {_TAGS}",
        f"ALTER TABLE objects ADD COLUMN {_TAGS}",
        f"ALTER TABLE objects ADD COLUMN {_PARTS}",
        f"ALTER TABLE uploads ADD COLUMN {_TAGS}",
        f"ALTER TABLE parts ADD COLUMN {_CHECKSUMS}",
    ),
    2: (f"ALTER TABLE objects ADD COLUMN {_USED}",),
    3: (_COMPLETIONS,),
}

_COLUMNS = "key, size, etag, modified, body, headers, metadata, tags, parts"
_LIST_COLUMNS = "key, size, etag, modified, body, headers, metadata, tags, ''"
_ABOVE_ALL_KEYS = b"\xff"
"""Sorts after every key, because no UTF-8 text begins with this byte."""
_BUCKET_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9]|-(?!\.)|\.(?![.-])){1,61}[a-z0-9]")
_RESERVED_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
"""S3's reserved names: for internationalised domains, for itself, for examples, and for aliases of other resources."""
_SMALL_BODY_BYTES = 1 << 16
"""Shorter bodies are written at once. For longer ones the preconditions are checked before any byte is moved."""
_TOUCH_SECONDS = 60.0
"""`touch` records at most one use of an object in this time, so that most uses need no write transaction."""
MAX_KEY_BYTES = 1024
"""S3's limit for the UTF-8 bytes of a key."""


class ObjectStore:
    """Buckets and objects in the engine's folder.

    Args:
        root: the engine's folder.
        now: returns the time in seconds since the epoch, for the dates of objects.

    Every method raises `ApiError` with S3's code: `NoSuchBucket`, `NoSuchKey`, `PreconditionFailed`, ...
    """

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self.root = root
        self.now = now
        self.bodies = BodyFolder(root)
        self.database = Database(root / "objects.sqlite3", _SCHEMA, version=4, upgrades=_UPGRADES)
        self._orphans_removed = False

    def check(self) -> None:
        """Open the database, so that an unusable folder is detected now."""
        self.database.check()

    # --- buckets

    def create_bucket(self, bucket: str, region: str = "", tags: Mapping[str, str] | None = None) -> None:
        """Create a bucket.

        Raises:
            ApiError: the name is taken (`BucketAlreadyOwnedByYou`), or S3 does not allow it (`InvalidBucketName`).
        """
        reserved = bucket.startswith(_RESERVED_PREFIXES) or bucket.endswith(_RESERVED_SUFFIXES)
        if reserved or not _BUCKET_NAME.fullmatch(bucket):
            raise _invalid_name(bucket)
        with self.database.write() as connection:
            statement = "INSERT OR IGNORE INTO buckets (name, created, region, tags) VALUES (?, ?, ?, ?)"
            if not connection.execute(statement, (bucket, self.now(), region, _json(tags))).rowcount:
                raise ApiError(
                    "BucketAlreadyOwnedByYou",
                    "Your previous request to create the named bucket succeeded and you already own it.",
                    409,
                    BucketName=bucket,
                )

    def head_bucket(self, bucket: str) -> BucketRecord:
        """Return a bucket's record."""
        with self.database.read() as connection:
            return self.require_bucket(connection, bucket)

    def list_buckets(self, prefix: str = "", after: str = "", limit: int = -1) -> list[BucketRecord]:
        """Return at most `limit` buckets whose names follow `after` and begin with the prefix, sorted by name."""
        statement = (
            "SELECT name, created, region, tags FROM buckets WHERE name > ? AND name >= ? AND name < ? "
            "ORDER BY name LIMIT ?"
        )
        with self.database.read() as connection:
            rows = connection.execute(statement, (after, prefix, prefix + "\U0010ffff", limit))
            return [BucketRecord(*row) for row in rows]

    def tag_bucket(self, bucket: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of a bucket."""
        with self.database.write() as connection:
            self.require_bucket(connection, bucket)
            connection.execute("UPDATE buckets SET tags = ? WHERE name = ?", (_json(tags), bucket))

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket, together with its unfinished uploads."""
        with self.database.write() as connection:
            self.require_bucket(connection, bucket)
            if connection.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)).fetchone():
                raise ApiError("BucketNotEmpty", "The bucket you tried to delete is not empty", 409, BucketName=bucket)
            of_bucket = "upload IN (SELECT id FROM uploads WHERE bucket = ?)"
            connection.execute(f"INSERT OR IGNORE INTO garbage SELECT body FROM parts WHERE {of_bucket}", (bucket,))  # noqa: S608 - constants
            connection.execute(f"DELETE FROM parts WHERE {of_bucket}", (bucket,))  # noqa: S608 - constants
            connection.execute("DELETE FROM uploads WHERE bucket = ?", (bucket,))
            connection.execute("DELETE FROM completions WHERE bucket = ?", (bucket,))
            connection.execute("DELETE FROM buckets WHERE name = ?", (bucket,))

    @staticmethod
    def require_bucket(connection: sqlite3.Connection, bucket: str) -> BucketRecord:
        """Return a bucket's record, inside a transaction, or raise `NoSuchBucket`."""
        statement = "SELECT name, created, region, tags FROM buckets WHERE name = ?"
        row = connection.execute(statement, (bucket,)).fetchone()
        if row is None:
            if not _BUCKET_NAME.fullmatch(bucket):
                raise _invalid_name(bucket)
            raise ApiError("NoSuchBucket", "The specified bucket does not exist", 404, BucketName=bucket)
        return BucketRecord(*row)

    # --- objects

    def put(
        self,
        bucket: str,
        key: str,
        source: BodySource,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        if_none_match: bool = False,
        if_match: str | None = None,
        length: int | None = None,
        expected: Mapping[str, str] | None = None,
        algorithms: Sequence[str] = (),
    ) -> ObjectRecord:
        """Store an object, in constant memory.

        Args:
            bucket: an existing bucket.
            key: up to 1,024 bytes of UTF-8. No part of it has a special meaning, neither `..` nor `//`.
            source: bytes, a path (which is copied), or a binary stream (which is read to its end).
            content_type: a short form of `headers={"ContentType": ...}`.
            metadata: the user's own metadata.
            headers: further properties by boto3's names. Readers get them back unchanged.
            tags: the object's tags.
            if_none_match: write only if the key has no object yet. Exactly one of several concurrent callers succeeds,
                across all processes.
            if_match: write only if the object has this ETag. `*` matches every ETag.
            length: the expected number of bytes, if it is known.
            expected: the expected checksums in base64, by algorithm (`content-md5`, `crc32`, `sha256`, ...). They are
                stored in the headers as `ChecksumCRC32` and so on, except Content-MD5.
            algorithms: algorithms whose checksums are computed and stored although none is expected.
        """
        encoded = encode_key(key)
        if length is None or length > _SMALL_BODY_BYTES:
            # Refuse early, before many bytes are moved in vain. The write transaction checks again.
            with self.database.read() as connection:
                self.check_preconditions(connection, bucket, encoded, if_none_match, if_match)
        self._remove_orphans_once()
        body = self.bodies.write(source, length=length, expected=expected or {}, algorithms=algorithms)
        stored = dict(headers or {}) | ({"ContentType": content_type} if content_type else {})
        stored |= {f"Checksum{algorithm.upper()}": value for algorithm, value in body.checksums.items()}
        try:
            with self.database.write() as connection:
                self.check_preconditions(connection, bucket, encoded, if_none_match, if_match)
                record, freed = self.index_body(
                    connection, bucket, encoded, body, ObjectMetadata(stored, metadata or {}, tags or {})
                )
        except Exception:
            # Nothing was committed, so the body can go. An interrupt (BaseException) may come after the commit, and
            # `remove_orphans` decides about that body.
            self.bodies.discard([body.name])
            raise
        self.bodies.finalize(body.name)
        self.bodies.discard(freed)
        return record

    def get(self, bucket: str, key: str) -> ObjectRecord:
        """Return an object's record."""
        with self.database.read() as connection:
            return self._record(bucket, self._require(connection, bucket, encode_key(key)))

    def touch(self, bucket: str, key: str) -> ObjectRecord:
        """Return an object's record and record the use, so that the object is not removed as old.

        Clients that skip an upload because the object exists rely on this. The time is written at most once a minute,
        in a transaction that checks that the object still exists. It is not written if the disk is full or the folder
        is read-only.
        """
        encoded = encode_key(key)
        with self.database.read() as connection:
            record = self._record(bucket, self._require(connection, bucket, encoded))
            statement = "SELECT used FROM objects WHERE bucket = ? AND key = ?"
            (used,) = connection.execute(statement, (bucket, encoded)).fetchone()
        now = self.now()
        if max(record.last_modified, used or 0) > now - _TOUCH_SECONDS:
            return record
        try:
            with self.database.write() as connection:
                record = self._record(bucket, self._require(connection, bucket, encoded))
                statement = "UPDATE objects SET used = ? WHERE bucket = ? AND key = ?"
                connection.execute(statement, (now, bucket, encoded))
        except EngineError:
            # The folder is read-only, so nothing can remove the object either.
            pass
        except ApiError as error:
            if error.code != "InsufficientStorage":
                raise
        return record

    def open(self, bucket: str, key: str) -> tuple[ObjectRecord, int]:
        """Return an object's record and an open descriptor of its body, which later writes do not affect."""
        while True:
            record = self.get(bucket, key)
            try:
                descriptor = self.bodies.open(record.path.name)
            except FileNotFoundError:
                # The object was replaced between the look-up and the opening, so the loop tries again. If the index
                # still points to the missing file, the file was removed from the engine's folder by hand.
                if self.get(bucket, key).path == record.path:
                    raise ApiError("InternalError", f"The file {record.path} is missing.", 500) from None
                continue
            if os.fstat(descriptor).st_size == record.size:
                return record, descriptor
            os.close(descriptor)
            raise ApiError("InternalError", f"The file {record.path} is incomplete. Did the machine fail?", 500)

    def tag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object."""
        encoded = encode_key(key)
        with self.database.write() as connection:
            self._require(connection, bucket, encoded)
            row = (_json(tags), bucket, encoded)
            connection.execute("UPDATE objects SET tags = ? WHERE bucket = ? AND key = ?", row)

    def delete(self, bucket: str, key: str, *, if_match: str | None = None) -> None:
        """Delete an object. A missing object is an error only with `if_match`.

        Args:
            bucket: an existing bucket.
            key: the object's key.
            if_match: delete only if the object has this ETag. `*` matches every ETag.
        """
        encoded = encode_key(key)
        with self.database.write() as connection:
            self.check_preconditions(connection, bucket, encoded, if_match=if_match)
            row = self._find(connection, bucket, encoded)
            if row is None:
                return
            connection.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, encoded))
            self.mark_garbage(connection, [row[4]])
        self.bodies.discard([row[4]])

    def list(
        self, bucket: str, prefix: str = "", after: str = "", delimiter: str | None = None, limit: int = 1000
    ) -> ObjectPage:
        """Return a page of at most `limit` objects and common prefixes.

        Args:
            bucket: an existing bucket.
            prefix: list only keys that begin with it.
            after: list only keys and common prefixes that follow it, in the order of UTF-8 bytes.
            delimiter: keys that agree up to its first occurrence after the prefix are grouped into a common prefix.
            limit: the size of the page. Objects and common prefixes count alike.
        """
        start, mark, cut = prefix.encode(), after.encode(), (delimiter or "").encode()
        with self.database.read() as connection:
            self.require_bucket(connection, bucket)
            objects: list[ObjectRecord] = []
            prefixes: list[str] = []
            last = None
            for common, row in self._entries(connection, bucket, start, mark, cut):
                if len(objects) + len(prefixes) >= limit:
                    return ObjectPage(objects, prefixes, limit > 0, last)
                if common is not None:
                    last = common.decode()
                    prefixes.append(last)
                else:
                    record = self._record(bucket, row)
                    last = record.key
                    objects.append(record)
        return ObjectPage(objects, prefixes, truncated=False, last=last)

    def iter_prefix(self, bucket: str, prefix: str = "") -> Iterator[ObjectRecord]:
        """Yield every object whose key begins with the prefix, in order, page by page."""
        after = ""
        while True:
            page = self.list(bucket, prefix, after)
            yield from page.objects
            if not page.truncated or page.last is None:
                return
            after = page.last

    def size_below(self, bucket: str, prefix: str) -> int:
        """Return the bytes of every object whose key begins with the prefix; 0 if there is no such bucket."""
        start = encode_key(prefix)
        statement = "SELECT COALESCE(SUM(size), 0) FROM objects WHERE bucket = ? AND key >= ? AND key < ?"
        with self.database.read() as connection:
            row = connection.execute(statement, (bucket, start, _successor(start))).fetchone()
            return int(row[0])

    # --- leftovers of killed processes

    def remove_orphans(self, older_than: float = ABANDONED_AFTER) -> int:
        """Finish or remove the bodies that killed processes left in `incoming/`.

        Each process does this once, before its first write.

        Args:
            older_than: seconds since the last write to a body after which no process can still be writing it.

        Returns:
            The number of removed files.
        """
        names = self.bodies.stale_names(time.time() - older_than)
        return sum(self._resolve_orphans(names[start : start + 500]) for start in range(0, len(names), 500))

    def _resolve_orphans(self, names: Sequence[str]) -> int:
        marks = ", ".join("?" * len(names))
        statement = (
            f"SELECT body FROM objects WHERE body IN ({marks}) UNION SELECT body FROM parts WHERE body IN ({marks})"  # noqa: S608 - placeholders
        )
        # Inside a write transaction no other process can commit one of these bodies.
        with self.database.write() as connection:
            indexed = {name for (name,) in connection.execute(statement, (*names, *names))}
            orphans = [name for name in names if name not in indexed]
            self.bodies.discard(orphans)
        for name in indexed:
            self.bodies.finalize(name)
        return len(orphans)

    def _remove_orphans_once(self) -> None:
        if not self._orphans_removed:
            self._orphans_removed = True
            self.remove_orphans()

    # --- parts of transactions, which multipart uploads use too

    def index_body(
        self, connection: sqlite3.Connection, bucket: str, key: bytes, body: Body, metadata: ObjectMetadata
    ) -> tuple[ObjectRecord, Sequence[str]]:
        """Make the index point to a complete body, inside a write transaction.

        After the commit the caller calls `BodyFolder.finalize` for the body.

        Returns:
            The record, and the replaced bodies. They are garbage, which the caller discards after the commit.
        """
        self.bodies.require_incoming(body.name)
        self._empty_garbage(connection)
        replaced = self._find(connection, bucket, key)
        freed = [] if replaced is None else [replaced[4]]
        self.mark_garbage(connection, freed)
        texts = (
            _json(metadata.headers),
            _json(metadata.metadata),
            _json(metadata.tags),
            json.dumps(metadata.parts) if metadata.parts else "",
        )
        row = (key, body.size, body.md5, self.now(), body.name, *texts)
        statement = f"INSERT OR REPLACE INTO objects (bucket, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
        connection.execute(statement, (bucket, *row))
        return self._record(bucket, row), freed

    @staticmethod
    def mark_garbage(connection: sqlite3.Connection, bodies: Sequence[str]) -> None:
        """Record files as garbage, inside a write transaction. They may be removed as soon as it is committed."""
        if bodies:
            connection.executemany("INSERT OR IGNORE INTO garbage VALUES (?)", [(body,) for body in bodies])

    def _empty_garbage(self, connection: sqlite3.Connection) -> None:
        """Remove garbage of earlier transactions, some of it left by processes that were killed."""
        rows = connection.execute("SELECT body FROM garbage LIMIT 100").fetchall()
        if rows:
            self.bodies.discard([body for (body,) in rows])
            removed = [row for row in rows if not self.bodies.exists(row[0])]
            connection.executemany("DELETE FROM garbage WHERE body = ?", removed)

    def check_preconditions(
        self,
        connection: sqlite3.Connection,
        bucket: str,
        key: bytes,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> None:
        """Raise `ApiError` if the bucket does not exist or a condition of the write does not hold."""
        self.require_bucket(connection, bucket)
        if not if_none_match and if_match is None:
            return
        row = self._find(connection, bucket, key)
        if if_none_match and row is not None:
            raise precondition_failed("If-None-Match")
        if if_match is not None:
            if row is None:
                raise ApiError("NoSuchKey", "The specified key does not exist.", 404, Key=key.decode())
            if if_match not in {"*", row[2]}:
                raise precondition_failed("If-Match")

    @staticmethod
    def _entries(
        connection: sqlite3.Connection, bucket: str, prefix: bytes, after: bytes, delimiter: bytes
    ) -> Iterator[tuple[bytes | None, tuple]]:  # type: ignore[type-arg]
        """Yield (common prefix or None, row) in the order of keys.

        After a common prefix the query restarts behind it, so a prefix costs one look-up, however many keys it has.
        """
        statement = f"SELECT {_LIST_COLUMNS} FROM objects WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key"  # noqa: S608 - constants
        end = _successor(prefix)
        # A key with a zero byte appended is its immediate successor.
        lower = max(prefix, after + b"\0" if after else b"")
        while True:
            for row in connection.execute(statement, (bucket, lower, end)):
                found = row[0].find(delimiter, len(prefix)) if delimiter else -1
                if found < 0:
                    yield None, row
                    continue
                common = row[0][: found + len(delimiter)]
                if common > after:
                    yield common, row
                lower = _successor(common)
                break
            else:
                return

    @staticmethod
    def _find(connection: sqlite3.Connection, bucket: str, key: bytes) -> tuple | None:  # type: ignore[type-arg]
        statement = f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND key = ?"  # noqa: S608 - constants
        row: tuple | None = connection.execute(statement, (bucket, key)).fetchone()  # type: ignore[type-arg]
        return row

    def _require(self, connection: sqlite3.Connection, bucket: str, key: bytes) -> tuple:  # type: ignore[type-arg]
        row = self._find(connection, bucket, key)
        if row is None:
            self.require_bucket(connection, bucket)
            raise ApiError("NoSuchKey", "The specified key does not exist.", 404, Key=key.decode())
        return row

    def _record(self, bucket: str, row: tuple) -> ObjectRecord:  # type: ignore[type-arg]
        key, size, etag, modified, body, headers, metadata, tags, parts = row
        path = self.bodies.path(body)
        return ObjectRecord(
            bucket,
            key.decode(),
            size,
            etag,
            modified,
            path,
            headers=_from_json(headers),
            metadata=_from_json(metadata),
            tags=_from_json(tags),
            parts=parts,
        )


def encode_key(key: str) -> bytes:
    """Return a key's UTF-8 bytes, or raise `KeyTooLongError` if there are more than 1,024."""
    encoded = key.encode()
    if len(encoded) > MAX_KEY_BYTES:
        details = {"Size": str(len(encoded)), "MaxSizeAllowed": str(MAX_KEY_BYTES)}
        raise ApiError("KeyTooLongError", "Your key is too long", 400, **details)
    return encoded


def precondition_failed(condition: str) -> ApiError:
    """Return S3's error for a failed condition, which is named like its header."""
    return ApiError(
        "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412, Condition=condition
    )


def _invalid_name(bucket: str) -> ApiError:
    return ApiError("InvalidBucketName", "The specified bucket is not valid.", BucketName=bucket)


def _json(texts: Mapping[str, str] | None) -> str:
    return json.dumps(dict(texts)) if texts else "{}"


def _from_json(text: str) -> dict[str, str]:
    # Most mappings are empty, and a listing has thousands of them.
    texts: dict[str, str] = {} if text == "{}" else json.loads(text)
    return texts


def _successor(prefix: bytes) -> bytes:
    """Return the smallest byte string that sorts after all keys with the prefix. UTF-8 has no byte 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _ABOVE_ALL_KEYS
