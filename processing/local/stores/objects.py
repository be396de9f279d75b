"""The object store: an index in SQLite, and every body a file.

A key is stored as its UTF-8 bytes, so SQLite's order of keys is S3's. A body is written in full before a transaction
lets the index point to it; a process killed at any moment leaves the old object or the new one, never half of one.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from processing.local.errors import ApiError
from processing.local.stores.bodies import Body, BodyFolder, Source
from processing.local.stores.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_SCHEMA = (
    "CREATE TABLE buckets (name TEXT PRIMARY KEY, created REAL NOT NULL, region TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE objects (
        bucket TEXT NOT NULL, key BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified REAL NOT NULL,
        body TEXT NOT NULL, headers TEXT NOT NULL, metadata TEXT NOT NULL, PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE uploads (
        id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, initiated REAL NOT NULL,
        headers TEXT NOT NULL, metadata TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE parts (
        upload TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
        modified REAL NOT NULL, body TEXT NOT NULL, PRIMARY KEY (upload, number)
    ) WITHOUT ROWID""",
    # Files that lost their object in a committed transaction, until they are removed from the disk.
    "CREATE TABLE garbage (body TEXT PRIMARY KEY) WITHOUT ROWID",
)

_COLUMNS = "key, size, etag, modified, body, headers, metadata"
_ABOVE_ALL_KEYS = b"\xff"  # no UTF-8 text begins with this byte
_BUCKET_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?![.-])){1,61}[a-z0-9]")
MAX_KEY_BYTES = 1024


class ObjectRecord(NamedTuple):
    """An object as the index knows it.

    Attributes:
        bucket: its bucket.
        key: its key.
        size: in bytes.
        etag: S3's ETag, without quotes.
        last_modified: seconds since the epoch.
        path: the file with the body. It never changes; it vanishes soon after the object is replaced or deleted.
        headers: what the writer said of it, by boto3's names (`ContentType`, `SSEKMSKeyId`, ...).
        metadata: the user's own metadata.
    """

    bucket: str
    key: str
    size: int
    etag: str
    last_modified: float
    path: Path
    headers: Mapping[str, str]
    metadata: Mapping[str, str]


class BucketRecord(NamedTuple):
    """A bucket: its name, when it was made (seconds since the epoch) and its location constraint ("" for none)."""

    name: str
    created: float
    region: str


class Listing(NamedTuple):
    """One page of a listing.

    Attributes:
        objects: in the order of their keys' UTF-8 bytes.
        prefixes: the common prefixes, in the same order.
        truncated: whether there is more.
        last: the last key or common prefix of the page, where the next one goes on (`after=`); None on an empty page.
    """

    objects: list[ObjectRecord]
    prefixes: list[str]
    truncated: bool
    last: str | None


class ObjectStore:
    """Buckets and objects in the engine's folder.

    Args:
        root: the engine's folder.
        now: the time in seconds since the epoch, for the dates of objects.

    Every method raises `ApiError` with S3's code: `NoSuchBucket`, `NoSuchKey`, `PreconditionFailed`, ...
    """

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self.root = root
        self.now = now
        self.bodies = BodyFolder(root)
        self.database = Database(root / "objects.sqlite3", _SCHEMA)

    def check(self) -> None:
        """Open the database, so that a folder that cannot be used is found out now."""
        self.database.check()

    # Buckets

    def create_bucket(self, bucket: str, region: str = "") -> None:
        """Make a bucket; `BucketAlreadyOwnedByYou` if there is one of that name."""
        if not _BUCKET_NAME.fullmatch(bucket):
            raise ApiError("InvalidBucketName", "The specified bucket is not valid.", BucketName=bucket)
        with self.database.write() as connection:
            statement = "INSERT OR IGNORE INTO buckets VALUES (?, ?, ?)"
            if not connection.execute(statement, (bucket, self.now(), region)).rowcount:
                message = "Your previous request to create the named bucket succeeded and you already own it."
                raise ApiError("BucketAlreadyOwnedByYou", message, 409, BucketName=bucket)

    def head_bucket(self, bucket: str) -> BucketRecord:
        """Return a bucket's record."""
        with self.database.read() as connection:
            return self.require_bucket(connection, bucket)

    def list_buckets(self) -> list[BucketRecord]:
        """Return all buckets by name."""
        with self.database.read() as connection:
            return [BucketRecord(*row) for row in connection.execute("SELECT * FROM buckets ORDER BY name")]

    def delete_bucket(self, bucket: str) -> None:
        """Delete an empty bucket; uploads that were never completed go with it."""
        with self.database.write() as connection:
            self.require_bucket(connection, bucket)
            if connection.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (bucket,)).fetchone():
                message = "The bucket you tried to delete is not empty"
                raise ApiError("BucketNotEmpty", message, 409, BucketName=bucket)
            dropped = "upload IN (SELECT id FROM uploads WHERE bucket = ?)"
            connection.execute(f"INSERT OR IGNORE INTO garbage SELECT body FROM parts WHERE {dropped}", (bucket,))  # noqa: S608 — constants
            connection.execute(f"DELETE FROM parts WHERE {dropped}", (bucket,))  # noqa: S608 — constants
            connection.execute("DELETE FROM uploads WHERE bucket = ?", (bucket,))
            connection.execute("DELETE FROM buckets WHERE name = ?", (bucket,))

    @staticmethod
    def require_bucket(connection: sqlite3.Connection, bucket: str) -> BucketRecord:
        """Return a bucket's record inside a transaction, or raise `NoSuchBucket`."""
        row = connection.execute("SELECT * FROM buckets WHERE name = ?", (bucket,)).fetchone()
        if row is None:
            raise ApiError("NoSuchBucket", "The specified bucket does not exist", 404, BucketName=bucket)
        return BucketRecord(*row)

    # Objects

    def put(
        self,
        bucket: str,
        key: str,
        source: Source,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        if_none_match: bool = False,
        if_match: str | None = None,
        length: int | None = None,
        expected: Mapping[str, str] | None = None,
    ) -> ObjectRecord:
        """Store an object, in constant memory.

        Args:
            bucket: an existing bucket.
            key: up to 1,024 bytes of UTF-8; nothing in it is special, neither `..` nor `//`.
            source: bytes, a path (copied), or a binary stream, which is read to its end.
            content_type: short for `headers={"ContentType": ...}`.
            metadata: the user's own metadata.
            headers: further properties by boto3's names, given back as they are.
            if_none_match: only if there is no object of that key: of any number of callers, in any process, one wins.
            if_match: only if the object has this ETag.
            length: the number of bytes that must come, if known.
            expected: checksums by algorithm (`md5`, `crc32`, `sha256`, ...) in base64. Those that are not MD5 are kept
                among the headers, as `ChecksumCRC32` and so on.
        """
        encoded = encode_key(key)
        with self.database.read() as connection:  # before the bytes are moved for nothing
            self._admit(connection, bucket, encoded, if_none_match, if_match)
        body = self.bodies.receive(source, length=length, expected=expected or {})
        said = dict(headers or {}) | ({"ContentType": content_type} if content_type else {})
        # Some checksums come after the body, so only now they are all there.
        said |= {f"Checksum{name.upper()}": value for name, value in (expected or {}).items() if name != "md5"}
        try:
            with self.database.write() as connection:
                self._admit(connection, bucket, encoded, if_none_match, if_match)
                record, freed = self.store(connection, bucket, encoded, body, said, metadata or {})
        except ApiError:  # nothing was committed
            self.bodies.discard([body.path.name])
            raise
        finally:
            body.path.unlink(missing_ok=True)  # it is there only if it was not kept
        self.bodies.discard(freed)
        return record

    def get(self, bucket: str, key: str) -> ObjectRecord:
        """Return an object's record."""
        with self.database.read() as connection:
            row = self._find(connection, bucket, encode_key(key))
            if row is None:
                self.require_bucket(connection, bucket)
                raise ApiError("NoSuchKey", "The specified key does not exist.", 404, Key=key)
            return self._record(bucket, row)

    def open(self, bucket: str, key: str) -> tuple[ObjectRecord, int]:
        """Return an object's record and its body as an open file descriptor, whatever happens to the object later."""
        while True:
            record = self.get(bucket, key)
            try:
                return record, os.open(record.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                # Replaced between the look-up and the opening: look again. A body that the index still points to
                # is lost for good: somebody removed files from the engine's folder.
                if self.get(bucket, key).path == record.path:
                    raise ApiError("InternalError", f"The file {record.path} is missing.", 500) from None

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; that there is none is no error."""
        encoded = encode_key(key)
        with self.database.write() as connection:
            self.require_bucket(connection, bucket)
            row = self._find(connection, bucket, encoded)
            if row is None:
                return
            connection.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, encoded))
            self.throw_away(connection, [row[4]])
        self.bodies.discard([row[4]])

    def list(
        self, bucket: str, prefix: str = "", after: str = "", delimiter: str | None = None, limit: int = 1000
    ) -> Listing:
        """Return a page of at most `limit` objects and common prefixes, which count alike.

        Args:
            bucket: an existing bucket.
            prefix: only keys that begin with it.
            after: only keys and common prefixes behind it, in the order of UTF-8 bytes.
            delimiter: what follows its first occurrence behind the prefix is rolled up into a common prefix.
            limit: the size of the page.
        """
        start, mark, cut = prefix.encode(), after.encode(), (delimiter or "").encode()
        with self.database.read() as connection:
            self.require_bucket(connection, bucket)
            objects: list[ObjectRecord] = []
            prefixes: list[str] = []
            last = None
            for common, row in self._entries(connection, bucket, start, mark, cut):
                if len(objects) + len(prefixes) >= limit:
                    return Listing(objects, prefixes, limit > 0, last)
                if common is not None:
                    last = common.decode()
                    prefixes.append(last)
                else:
                    record = self._record(bucket, row)
                    last = record.key
                    objects.append(record)
        return Listing(objects, prefixes, truncated=False, last=last)

    def iter_prefix(self, bucket: str, prefix: str = "") -> Iterator[ObjectRecord]:
        """Yield every object whose key begins with the prefix, in order, page by page."""
        after = ""
        while True:
            page = self.list(bucket, prefix, after)
            yield from page.objects
            if not page.truncated or page.last is None:
                return
            after = page.last

    # Pieces of transactions, for the multipart uploads too

    def store(
        self,
        connection: sqlite3.Connection,
        bucket: str,
        key: bytes,
        body: Body,
        headers: Mapping[str, str],
        metadata: Mapping[str, str],
    ) -> tuple[ObjectRecord, Sequence[str]]:
        """Let the index point to a finished body, inside a write transaction.

        Returns:
            the record, and the bodies that it replaces: garbage, to be discarded once the transaction is committed.
        """
        self._empty_garbage(connection)
        replaced = self._find(connection, bucket, key)
        freed = [] if replaced is None else [replaced[4]]
        self.throw_away(connection, freed)
        texts = json.dumps(dict(headers)), json.dumps(dict(metadata))
        row = (key, body.size, body.md5, self.now(), self.bodies.keep(body.path), *texts)
        connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (bucket, *row))
        return self._record(bucket, row), freed

    def exists(self, connection: sqlite3.Connection, bucket: str, key: str) -> bool:
        """Return whether there is such an object, inside a transaction."""
        return self._find(connection, bucket, encode_key(key)) is not None

    @staticmethod
    def throw_away(connection: sqlite3.Connection, bodies: Sequence[str]) -> None:
        """Note files as garbage, inside a write transaction. They may be removed as soon as it is committed."""
        connection.executemany("INSERT OR IGNORE INTO garbage VALUES (?)", [(body,) for body in bodies])

    def _empty_garbage(self, connection: sqlite3.Connection) -> None:
        """Remove files whose transaction was committed long ago, by this process or by one that was killed since."""
        rows = connection.execute("SELECT body FROM garbage LIMIT 100").fetchall()
        if rows:
            self.bodies.discard([body for (body,) in rows])
            gone = [row for row in rows if not self.bodies.path(row[0]).exists()]
            connection.executemany("DELETE FROM garbage WHERE body = ?", gone)

    def _admit(
        self, connection: sqlite3.Connection, bucket: str, key: bytes, if_none_match: bool, if_match: str | None
    ) -> None:
        self.require_bucket(connection, bucket)
        if not if_none_match and if_match is None:
            return
        row = self._find(connection, bucket, key)
        if if_none_match and row is not None:
            raise precondition_failed("If-None-Match")
        if if_match is not None:
            if row is None:
                raise ApiError("NoSuchKey", "The specified key does not exist.", 404, Key=key.decode())
            if row[2] != if_match:
                raise precondition_failed("If-Match")

    @staticmethod
    def _entries(
        connection: sqlite3.Connection, bucket: str, prefix: bytes, after: bytes, delimiter: bytes
    ) -> Iterator[tuple[bytes | None, tuple]]:  # type: ignore[type-arg]
        """Yield (common prefix or None, row) in order; a common prefix is one look-up, however many keys it has."""
        statement = f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key"  # noqa: S608 — constants
        end = _successor(prefix)
        lower = max(prefix, after + b"\0" if after else b"")  # nothing lies between a key and itself with a zero byte
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
        statement = f"SELECT {_COLUMNS} FROM objects WHERE bucket = ? AND key = ?"  # noqa: S608 — constants
        row: tuple | None = connection.execute(statement, (bucket, key)).fetchone()  # type: ignore[type-arg]
        return row

    def _record(self, bucket: str, row: tuple) -> ObjectRecord:  # type: ignore[type-arg]
        key, size, etag, modified, body, headers, metadata = row
        path = self.bodies.path(body)
        return ObjectRecord(bucket, key.decode(), size, etag, modified, path, json.loads(headers), json.loads(metadata))


def encode_key(key: str) -> bytes:
    """Return a key's UTF-8 bytes; `KeyTooLongError` if they are more than 1,024."""
    encoded = key.encode()
    if len(encoded) > MAX_KEY_BYTES:
        details = {"Size": str(len(encoded)), "MaxSizeAllowed": str(MAX_KEY_BYTES)}
        raise ApiError("KeyTooLongError", "Your key is too long", 400, **details)
    return encoded


def precondition_failed(condition: str) -> ApiError:
    """Return S3's error for a condition that does not hold, named as the header is."""
    message = "At least one of the pre-conditions you specified did not hold"
    return ApiError("PreconditionFailed", message, 412, Condition=condition)


def _successor(prefix: bytes) -> bytes:
    """Return the least byte string behind everything that begins with the prefix; UTF-8 has no byte 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _ABOVE_ALL_KEYS
