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

from processing.exceptions import EngineError
from processing.local.errors import ApiError
from processing.local.stores.bodies import ABANDONED_AFTER, Body, BodyFolder, BodySource
from processing.local.stores.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_TAGS = "tags TEXT NOT NULL DEFAULT '{}'"
_PARTS = "parts TEXT NOT NULL DEFAULT ''"
_USED = "used REAL"
_CHECKSUMS = "checksums TEXT NOT NULL DEFAULT '{}'"
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
    # Files that lost their object in a committed transaction, until they are removed from the disk.
    "CREATE TABLE garbage (body TEXT PRIMARY KEY) WITHOUT ROWID",
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
}

_COLUMNS = "key, size, etag, modified, body, headers, metadata, tags, parts"
_LISTED = "key, size, etag, modified, body, headers, metadata, tags, ''"
_ABOVE_ALL_KEYS = b"\xff"  # no UTF-8 text begins with this byte
_BUCKET_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?![.-])){1,61}[a-z0-9]")
_SMALL = 1 << 16
_USE_SECONDS = 60.0
"""Uses of an object that follow each other faster are not all noted."""
MAX_KEY_BYTES = 1024


class ObjectPart(NamedTuple):
    """A part of an object that came in parts: its size in bytes, and its checksums in base64 by algorithm."""

    size: int
    checksums: Mapping[str, str]


class ObjectMetadata(NamedTuple):
    """What a writer says of an object.

    Attributes:
        headers: properties that are given back as they are, by boto3's names (`ContentType`, `SSEKMSKeyId`, ...).
        metadata: the user's own metadata.
        tags: the object's tags.
        parts: those that it was made of.
    """

    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    parts: Sequence[ObjectPart] = ()


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
        tags: its tags.
        parts: those that it was made of, as JSON; empty in listings. See `load_parts`.
    """

    bucket: str
    key: str
    size: int
    etag: str
    last_modified: float
    path: Path
    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    parts: str

    def load_parts(self) -> list[ObjectPart]:
        """Return the parts that the object was made of; none if it came as one."""
        return [ObjectPart(*part) for part in json.loads(self.parts)] if self.parts else []


class BucketRecord(NamedTuple):
    """A bucket.

    Attributes:
        name: its name.
        created: seconds since the epoch.
        region: its location constraint; "" for none.
        tags: its tags, as JSON.
    """

    name: str
    created: float
    region: str
    tags: str


class ObjectPage(NamedTuple):
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
        self.database = Database(root / "objects.sqlite3", _SCHEMA, version=3, upgrades=_UPGRADES)
        self._orphans_removed = False

    def check(self) -> None:
        """Open the database, so that a folder that cannot be used is found out now."""
        self.database.check()

    # Buckets

    def create_bucket(self, bucket: str, region: str = "", tags: Mapping[str, str] | None = None) -> None:
        """Make a bucket; `BucketAlreadyOwnedByYou` if there is one of that name."""
        if not _BUCKET_NAME.fullmatch(bucket):
            raise _invalid_name(bucket)
        with self.database.write() as connection:
            statement = "INSERT OR IGNORE INTO buckets (name, created, region, tags) VALUES (?, ?, ?, ?)"
            if not connection.execute(statement, (bucket, self.now(), region, _json(tags))).rowcount:
                message = "Your previous request to create the named bucket succeeded and you already own it."
                raise ApiError("BucketAlreadyOwnedByYou", message, 409, BucketName=bucket)

    def head_bucket(self, bucket: str) -> BucketRecord:
        """Return a bucket's record."""
        with self.database.read() as connection:
            return self.require_bucket(connection, bucket)

    def list_buckets(self, prefix: str = "", after: str = "", limit: int = -1) -> list[BucketRecord]:
        """Return the buckets behind `after` whose names begin with the prefix, by name, at most `limit` of them."""
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
        statement = "SELECT name, created, region, tags FROM buckets WHERE name = ?"
        row = connection.execute(statement, (bucket,)).fetchone()
        if row is None:
            if not _BUCKET_NAME.fullmatch(bucket):
                raise _invalid_name(bucket)
            raise ApiError("NoSuchBucket", "The specified bucket does not exist", 404, BucketName=bucket)
        return BucketRecord(*row)

    # Objects

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
            key: up to 1,024 bytes of UTF-8; nothing in it is special, neither `..` nor `//`.
            source: bytes, a path (copied), or a binary stream, which is read to its end.
            content_type: short for `headers={"ContentType": ...}`.
            metadata: the user's own metadata.
            headers: further properties by boto3's names, given back as they are.
            tags: the object's tags.
            if_none_match: only if there is no object of that key: of any number of callers, in any process, one wins.
            if_match: only if the object has this ETag; `*` for any.
            length: the number of bytes that must come, if known.
            expected: checksums by algorithm (`content-md5`, `crc32`, `sha256`, ...) in base64. Those that are not
                Content-MD5 are kept among the headers, as `ChecksumCRC32` and so on.
            algorithms: algorithms whose checksums are found and kept although none is expected.
        """
        encoded = encode_key(key)
        if length is None or length > _SMALL:
            with self.database.read() as connection:  # before many bytes are moved for nothing
                self.check_preconditions(connection, bucket, encoded, if_none_match, if_match)
        self._remove_orphans_once()
        body = self.bodies.write(source, length=length, expected=expected or {}, algorithms=algorithms)
        said = dict(headers or {}) | ({"ContentType": content_type} if content_type else {})
        said |= {f"Checksum{algorithm.upper()}": value for algorithm, value in body.checksums.items()}
        try:
            with self.database.write() as connection:
                self.check_preconditions(connection, bucket, encoded, if_none_match, if_match)
                record, freed = self.index_body(
                    connection, bucket, encoded, body, ObjectMetadata(said, metadata or {}, tags or {})
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
        """Return the record of an object for somebody who is going to rely on its being there.

        That is noted, about once a minute, in a transaction that finds it there: what removes old objects takes it
        for as young as that. On a full disk, or in a folder that cannot be written to, it is not.
        """
        encoded = encode_key(key)
        with self.database.read() as connection:
            record = self._record(bucket, self._require(connection, bucket, encoded))
            statement = "SELECT used FROM objects WHERE bucket = ? AND key = ?"
            (used,) = connection.execute(statement, (bucket, encoded)).fetchone()
        now = self.now()
        if max(record.last_modified, used or 0) > now - _USE_SECONDS:
            return record
        try:
            with self.database.write() as connection:
                record = self._record(bucket, self._require(connection, bucket, encoded))
                statement = "UPDATE objects SET used = ? WHERE bucket = ? AND key = ?"
                connection.execute(statement, (now, bucket, encoded))
        except EngineError:  # the folder cannot be written to: nothing removes the object then
            pass
        except ApiError as error:
            if error.code != "InsufficientStorage":
                raise
        return record

    def open(self, bucket: str, key: str) -> tuple[ObjectRecord, int]:
        """Return an object's record and its body as an open file descriptor, whatever happens to the object later."""
        while True:
            record = self.get(bucket, key)
            try:
                descriptor = self.bodies.open(record.path.name)
            except FileNotFoundError:
                # Replaced between the look-up and the opening: look again. A body that the index still points to
                # is lost for good: somebody removed files from the engine's folder.
                if self.get(bucket, key).path == record.path:
                    raise ApiError("InternalError", f"The file {record.path} is missing.", 500) from None
                continue
            if os.fstat(descriptor).st_size == record.size:
                return record, descriptor
            os.close(descriptor)
            raise ApiError("InternalError", f"The file {record.path} is not whole: did the machine fail?", 500)

    def tag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object."""
        encoded = encode_key(key)
        with self.database.write() as connection:
            self._require(connection, bucket, encoded)
            row = (_json(tags), bucket, encoded)
            connection.execute("UPDATE objects SET tags = ? WHERE bucket = ? AND key = ?", row)

    def delete(self, bucket: str, key: str, *, if_match: str | None = None) -> None:
        """Delete an object; that there is none is no error, unless it has to have an ETag (`if_match`; `*` for any)."""
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

    # What killed processes left

    def remove_orphans(self, older_than: float = ABANDONED_AFTER) -> int:
        """Put away what killed processes left; done once by each process that writes.

        Args:
            older_than: seconds since the last write to a body after which nobody can be at work on it any more.

        Returns:
            how many files were removed.
        """
        names = self.bodies.stale_names(time.time() - older_than)
        return sum(self._resolve_orphans(names[start : start + 500]) for start in range(0, len(names), 500))

    def _resolve_orphans(self, names: Sequence[str]) -> int:
        marks = ", ".join("?" * len(names))
        statement = (
            f"SELECT body FROM objects WHERE body IN ({marks}) UNION SELECT body FROM parts WHERE body IN ({marks})"  # noqa: S608 — placeholders
        )
        with self.database.write() as connection:  # nobody commits one of them meanwhile
            owned = {name for (name,) in connection.execute(statement, (*names, *names))}
            lost = [name for name in names if name not in owned]
            self.bodies.discard(lost)
        for name in owned:
            self.bodies.finalize(name)
        return len(lost)

    def _remove_orphans_once(self) -> None:
        if not self._orphans_removed:
            self._orphans_removed = True
            self.remove_orphans()

    # Pieces of transactions, for the multipart uploads too

    def index_body(
        self, connection: sqlite3.Connection, bucket: str, key: bytes, body: Body, said: ObjectMetadata
    ) -> tuple[ObjectRecord, Sequence[str]]:
        """Let the index point to a finished body, inside a write transaction; when it is committed, settle the body.

        Returns:
            the record, and the bodies that it replaces: garbage, to be discarded once the transaction is committed.
        """
        self.bodies.require_incoming(body.name)
        self._empty_garbage(connection)
        replaced = self._find(connection, bucket, key)
        freed = [] if replaced is None else [replaced[4]]
        self.mark_garbage(connection, freed)
        texts = (
            _json(said.headers),
            _json(said.metadata),
            _json(said.tags),
            json.dumps(said.parts) if said.parts else "",
        )
        row = (key, body.size, body.md5, self.now(), body.name, *texts)
        statement = f"INSERT OR REPLACE INTO objects (bucket, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 — constants
        connection.execute(statement, (bucket, *row))
        return self._record(bucket, row), freed

    @staticmethod
    def mark_garbage(connection: sqlite3.Connection, bodies: Sequence[str]) -> None:
        """Note files as garbage, inside a write transaction. They may be removed as soon as it is committed."""
        if bodies:
            connection.executemany("INSERT OR IGNORE INTO garbage VALUES (?)", [(body,) for body in bodies])

    def _empty_garbage(self, connection: sqlite3.Connection) -> None:
        """Remove files whose transaction was committed long ago, by this process or by one that was killed since."""
        rows = connection.execute("SELECT body FROM garbage LIMIT 100").fetchall()
        if rows:
            self.bodies.discard([body for (body,) in rows])
            gone = [row for row in rows if not self.bodies.exists(row[0])]
            connection.executemany("DELETE FROM garbage WHERE body = ?", gone)

    def check_preconditions(
        self,
        connection: sqlite3.Connection,
        bucket: str,
        key: bytes,
        if_none_match: bool = False,
        if_match: str | None = None,
    ) -> None:
        """Raise unless there is the bucket, and the object is what a conditional write expects."""
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
        """Yield (common prefix or None, row) in order; a common prefix is one look-up, however many keys it has."""
        statement = f"SELECT {_LISTED} FROM objects WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key"  # noqa: S608 — constants
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

    def _require(self, connection: sqlite3.Connection, bucket: str, key: bytes) -> tuple:  # type: ignore[type-arg]
        row = self._find(connection, bucket, key)
        if row is None:
            self.require_bucket(connection, bucket)
            raise ApiError("NoSuchKey", "The specified key does not exist.", 404, Key=key.decode())
        return row

    def _record(self, bucket: str, row: tuple) -> ObjectRecord:  # type: ignore[type-arg]
        key, size, etag, modified, body, headers, metadata, tags, parts = row
        path = self.bodies.path(body)
        said, own, tagged = (json.loads(text) if text != "{}" else {} for text in (headers, metadata, tags))
        return ObjectRecord(bucket, key.decode(), size, etag, modified, path, said, own, tagged, parts)


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


def _invalid_name(bucket: str) -> ApiError:
    return ApiError("InvalidBucketName", "The specified bucket is not valid.", BucketName=bucket)


def _json(texts: Mapping[str, str] | None) -> str:
    return json.dumps(dict(texts)) if texts else "{}"


def _successor(prefix: bytes) -> bytes:
    """Return the least byte string behind everything that begins with the prefix; UTF-8 has no byte 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _ABOVE_ALL_KEYS
