"""The object store: listing against a model, one winner of a conditional put, nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.local.errors import ApiError
from processing.local.stores.bodies import ABANDONED_AFTER
from processing.local.stores.objects import ObjectStore
from processing.local.stores.uploads import COMPLETION_KEPT_SECONDS, MIN_PART_BYTES, CompletedPart, MultipartUploads

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A store with one bucket."""
    (tmp_path / "engine").mkdir()
    store = ObjectStore(tmp_path / "engine")
    store.create_bucket("bucket")
    return store


@pytest.fixture(scope="module")
def listings() -> Iterator[ObjectStore]:
    """A store for the listings of many examples, each in a bucket of its own."""
    with tempfile.TemporaryDirectory() as folder:
        yield ObjectStore(Path(folder))


def bodies(store: ObjectStore) -> list[str]:
    """The names of all files that hold bodies, finished or not."""
    return [file.name for name in ("objects", "incoming") for file in (store.root / name).rglob("*") if file.is_file()]


def upload_one(uploads: MultipartUploads) -> tuple[str, list[CompletedPart]]:
    """Start an upload with one part, and return its id and the parts for its completion."""
    upload = uploads.create("bucket", "k", headers={}, metadata={})
    part = uploads.add_part(upload.id, "bucket", "k", 1, b"x")
    return upload.id, [CompletedPart(1, part.etag)]


def run(code: str, root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start another process with the same folder."""
    start = "import sys; from pathlib import Path; from processing.local.stores.objects import ObjectStore\n"
    start += "store = ObjectStore(Path(sys.argv[1]))\n"
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", start + code, str(root), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


class TestObjects:
    """Put, get and delete."""

    def test_what_was_put_is_got(self, store: ObjectStore) -> None:
        """Bytes, metadata and headers come back; the ETag is the MD5."""
        record = store.put("bucket", "k", b"hello", metadata={"a": "b"}, content_type="text/plain")
        assert record == store.get("bucket", "k")
        assert record.path.read_bytes() == b"hello"
        assert (record.size, record.etag) == (5, hashlib.md5(b"hello").hexdigest())
        assert (record.metadata, record.headers) == ({"a": "b"}, {"ContentType": "text/plain"})

    def test_a_path_and_a_stream_are_sources_too(self, store: ObjectStore, tmp_path: Path) -> None:
        """All three kinds of source store the same bytes."""
        file = tmp_path / "source"
        file.write_bytes(b"x" * 3_000_000)
        assert store.put("bucket", "a", file).etag == store.put("bucket", "b", io.BytesIO(b"x" * 3_000_000)).etag
        assert file.exists()

    @pytest.mark.parametrize(
        "key",
        [
            "a",
            "a/b",
            "a//b",
            "/",
            "//",
            "..",
            "a/../b",
            "./",
            "a ",
            " a",
            "ü/日本/🎉",
            "a\nb",
            "%41",
            "a+b",
            "k" * 1024,
        ],
    )
    def test_odd_keys_are_ordinary(self, store: ObjectStore, key: str) -> None:
        """No key is a path: each is stored and listed as it is written, beside the others."""
        store.put("bucket", "a", b"1")
        store.put("bucket", key, key.encode())
        assert store.get("bucket", key).path.read_bytes() == key.encode()
        assert key in [record.key for record in store.iter_prefix("bucket")]
        assert not [file for file in store.root.parent.iterdir() if file != store.root]

    def test_a_key_of_more_than_1024_bytes_is_refused(self, store: ObjectStore) -> None:
        """The limit counts bytes of UTF-8."""
        with pytest.raises(ApiError, match="KeyTooLongError"):
            store.put("bucket", "ü" * 513, b"")

    def test_replaced_and_deleted_bodies_leave_the_disk(self, store: ObjectStore) -> None:
        """Only the bodies that objects own are kept."""
        for _ in range(5):
            store.put("bucket", "k", b"x")
        store.put("bucket", "other", b"y")
        store.delete("bucket", "other")
        store.delete("bucket", "other")
        store.put("bucket", "k", b"z")
        assert bodies(store) == [store.get("bucket", "k").path.name]

    def test_a_reader_keeps_an_opened_body(self, store: ObjectStore) -> None:
        """An object that is replaced while it is read is read to its end."""
        store.put("bucket", "k", b"old")
        record, descriptor = store.open("bucket", "k")
        store.put("bucket", "k", b"new")
        store.put("bucket", "k", b"newer")
        assert os.read(descriptor, 10) == b"old"
        os.close(descriptor)
        assert record.size == 3

    @pytest.mark.parametrize(("length", "code"), [(4, "IncompleteBody"), (6, "IncompleteBody")])
    def test_a_body_of_another_length_is_refused(self, store: ObjectStore, length: int, code: str) -> None:
        """Neither a cut body nor one that is too long becomes an object."""
        with pytest.raises(ApiError, match=code):
            store.put("bucket", "k", b"hello", length=length)
        assert bodies(store) == []

    def test_unknown_names_are_errors(self, store: ObjectStore) -> None:
        """The error names the missing bucket or key."""
        with pytest.raises(ApiError, match="NoSuchKey"):
            store.get("bucket", "k")
        for call in (store.get, store.delete):
            with pytest.raises(ApiError, match="NoSuchBucket"):
                call("other", "k")
        with pytest.raises(ApiError, match="NoSuchBucket"):
            store.put("other", "k", b"")

    def test_a_bucket_with_objects_is_not_deleted(self, store: ObjectStore) -> None:
        """Only an empty bucket is deleted, together with its unfinished uploads."""
        uploads = MultipartUploads(store)
        upload = uploads.create("bucket", "k", headers={}, metadata={})
        uploads.add_part(upload.id, "bucket", "k", 1, b"x")
        store.put("bucket", "k", b"x")
        with pytest.raises(ApiError, match="BucketNotEmpty"):
            store.delete_bucket("bucket")
        store.delete("bucket", "k")
        store.delete_bucket("bucket")
        store.create_bucket("bucket")
        store.put("bucket", "last", b"")
        assert len(bodies(store)) == 1


class TestConditions:
    """Exactly one of several concurrent writers succeeds."""

    def test_if_match_needs_the_same_etag(self, store: ObjectStore) -> None:
        """A writer who knows an older object is refused."""
        first = store.put("bucket", "k", b"1")
        store.put("bucket", "k", b"2", if_match=first.etag)
        with pytest.raises(ApiError, match="PreconditionFailed"):
            store.put("bucket", "k", b"3", if_match=first.etag)
        with pytest.raises(ApiError, match="NoSuchKey"):
            store.put("bucket", "none", b"3", if_match=first.etag)

    def test_one_of_64_threads_wins(self, store: ObjectStore) -> None:
        """With If-None-Match the others get PreconditionFailed, and the winner's bytes are stored."""
        barrier = threading.Barrier(64)

        def put(number: int) -> int | None:
            barrier.wait()
            try:
                store.put("bucket", "k", str(number).encode(), if_none_match=True)
            except ApiError as error:
                return None if error.status == 412 else -1
            return number

        with ThreadPoolExecutor(64) as pool:
            winners = [number for number in pool.map(put, range(64)) if number is not None]
        assert [store.get("bucket", "k").path.read_bytes()] == [str(number).encode() for number in winners]
        assert len(bodies(store)) == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by fork")
    def test_one_of_64_processes_wins(self, store: ObjectStore) -> None:
        """The exclusion holds between processes, which all start when the last one is ready."""
        code = """
import os
from processing.local.errors import ApiError
start, go = os.pipe()
results, result = os.pipe()
for number in range(64):
    if not os.fork():
        os.close(go)
        os.read(start, 1)
        try:
            store.put("bucket", "k", b"%d" % number, if_none_match=True)
        except ApiError as error:
            os.write(result, b"refused " if error.status == 412 else b"failed ")
        else:
            os.write(result, b"won ")
        os._exit(0)
os.close(go)
os.close(result)
print(*sorted(b"".join(iter(lambda: os.read(results, 4096), b"")).decode().split()))
"""
        process = run(code, store.root)
        assert process.communicate()[0].split() == ["refused"] * 63 + ["won"]
        assert len(bodies(store)) == 1


class TestFaults:
    """Kills and full disks."""

    def test_a_killed_writer_leaves_the_old_object(self, store: ObjectStore) -> None:
        """kill -9 in the middle of a body: the object is the old one, and a later start clears the rest away."""
        store.put("bucket", "k", b"old")
        code = """
class Source:
    def read(self, size=-1):
        if hasattr(self, "began"):
            print("half", flush=True)
            sys.stdin.read()
        self.began = True
        return b"n" * 100000
store.put("bucket", "k", Source())
"""
        process = run(code, store.root)
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert store.get("bucket", "k").path.read_bytes() == b"old"
        (left,) = (store.root / "incoming").iterdir()
        long_ago = left.stat().st_mtime - ABANDONED_AFTER - 1
        os.utime(left, (long_ago, long_ago))
        ObjectStore(store.root).put("bucket", "other", b"")
        assert len(bodies(store)) == 2

    def test_bodies_of_a_killed_process_are_garbage_for_the_next_one(self, store: ObjectStore) -> None:
        """A later put removes a garbage file if the process that should remove it was killed."""
        record = store.put("bucket", "k", b"old")
        with store.database.write() as connection:
            connection.execute("DELETE FROM objects")
            store.mark_garbage(connection, [record.path.name])
        store.put("bucket", "k", b"new")
        assert bodies(store) == [store.get("bucket", "k").path.name]
        store.put("bucket", "other", b"")
        with store.database.read() as connection:
            assert connection.execute("SELECT * FROM garbage").fetchall() == []

    def test_a_full_disk_is_reported_and_leaves_nothing(self, store: ObjectStore) -> None:
        """The error is 507, which no client retries, and no partial object exists."""

        class Full:
            def read(self, _size: int = -1, /) -> bytes:
                raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(ApiError, match="no space left") as caught:
            store.put("bucket", "k", Full())
        assert (caught.value.code, caught.value.status) == ("InsufficientStorage", 507)
        assert bodies(store) == []

    def test_a_full_index_is_reported_and_leaves_nothing(self, store: ObjectStore) -> None:
        """If SQLite has no space, the body is removed too. The store works again once there is space."""
        with store.database.read() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(ApiError, match="InsufficientStorage"):
            store.put("bucket", "k", b"x", metadata={"k": "v" * 100_000})
        assert bodies(store) == []
        store.put("bucket", "k", b"x")


FIRST_VERSION = """
CREATE TABLE buckets (name TEXT PRIMARY KEY, created REAL NOT NULL, region TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (
    bucket TEXT NOT NULL, key BLOB NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, modified REAL NOT NULL,
    body TEXT NOT NULL, headers TEXT NOT NULL, metadata TEXT NOT NULL, PRIMARY KEY (bucket, key)
) WITHOUT ROWID;
CREATE TABLE uploads (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, initiated REAL NOT NULL,
    headers TEXT NOT NULL, metadata TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE parts (
    upload TEXT NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
    modified REAL NOT NULL, body TEXT NOT NULL, PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE TABLE garbage (body TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO buckets VALUES ('bucket', 1.0, '');
INSERT INTO objects VALUES ('bucket', x'6b', 3, 'etag', 1.0, 'abcdef', '{"ContentType": "x/y"}', '{}');
INSERT INTO uploads VALUES ('up', 'bucket', x'6b', 1.0, '{}', '{}');
INSERT INTO parts VALUES ('up', 1, 3, '37b51d194a7513e45b56f6524f2d51f2', 1.0, 'abcdeg');
PRAGMA user_version = 1;
"""


def test_a_store_of_the_first_version_is_read(tmp_path: Path) -> None:
    """Objects without tags and parts without checksums stay, and an old upload can be completed."""
    (tmp_path / "objects" / "ab").mkdir(parents=True)
    for name in ("abcdef", "abcdeg"):
        (tmp_path / "objects" / "ab" / name).write_bytes(b"bar")
    with contextlib.closing(sqlite3.connect(tmp_path / "objects.sqlite3")) as connection:
        connection.executescript(FIRST_VERSION)
    store = ObjectStore(tmp_path)
    record, descriptor = store.open("bucket", "k")
    assert os.read(descriptor, 10) == b"bar"
    os.close(descriptor)
    assert (record.headers, record.tags, record.load_parts()) == ({"ContentType": "x/y"}, {}, [])
    (part,) = MultipartUploads(store).parts("up", "bucket", "k")
    assert MultipartUploads(store).complete("up", "bucket", "k", [CompletedPart(1, part.etag)]).size == 3


def test_a_body_that_was_cut_short_is_no_data(store: ObjectStore) -> None:
    """A body that a failure of the machine truncated is an error for readers."""
    record = store.put("bucket", "k", b"hello")
    os.truncate(record.path, 3)
    with pytest.raises(ApiError, match=r"InternalError.*is incomplete"):
        store.open("bucket", "k")


def test_a_body_that_was_never_moved_is_read_and_then_is(store: ObjectStore) -> None:
    """After a kill between the commit and the move, readers find the body, and the removal of orphans moves it."""
    record = store.put("bucket", "k", b"hello")
    record.path.rename(store.root / "incoming" / record.path.name)
    _, descriptor = store.open("bucket", "k")
    assert os.read(descriptor, 10) == b"hello"
    os.close(descriptor)
    assert store.remove_orphans(0.0) == 0
    assert record.path.read_bytes() == b"hello"


class TestUploads:
    """Multipart uploads."""

    def test_a_full_disk_leaves_the_upload_as_it_was(self, store: ObjectStore) -> None:
        """The error is 507, and earlier parts stay."""
        uploads = MultipartUploads(store)
        upload = uploads.create("bucket", "k", headers={}, metadata={})
        part = uploads.add_part(upload.id, "bucket", "k", 1, b"x")
        with store.database.read() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(ApiError, match="InsufficientStorage"):
            uploads.create("bucket", "other", headers={"a": "b" * 100_000}, metadata={})
        assert [each.number for each in uploads.parts(upload.id, "bucket", "k")] == [part.number]
        assert len(bodies(store)) == 1

    def test_parts_become_one_object(self, store: ObjectStore) -> None:
        """Parts are joined by number, and the ETag is the MD5 of their MD5s."""
        uploads = MultipartUploads(store)
        upload = uploads.create("bucket", "k", headers={"ContentType": "x/y"}, metadata={"a": "b"})
        pieces = [b"a" * MIN_PART_BYTES, b"b" * MIN_PART_BYTES, b"c"]
        parts = [uploads.add_part(upload.id, "bucket", "k", number, pieces[number - 1]) for number in (3, 1, 2)]
        chosen = sorted(CompletedPart(part.number, part.etag) for part in parts)
        record = uploads.complete(upload.id, "bucket", "k", chosen)
        assert record.path.read_bytes() == b"".join(pieces)
        hashes = hashlib.md5(b"".join(hashlib.md5(piece).digest() for piece in pieces)).hexdigest()
        assert record.etag == f"{hashes}-3"
        assert (record.headers, record.metadata) == ({"ContentType": "x/y"}, {"a": "b"})
        assert len(bodies(store)) == 1
        assert uploads.complete(upload.id, "bucket", "k", chosen).etag == record.etag
        with pytest.raises(ApiError, match="NoSuchUpload"):
            uploads.complete(upload.id, "bucket", "k", chosen[:2])

    def test_a_completion_is_remembered_for_a_day(self, tmp_path: Path) -> None:
        """Then the upload is unknown, and the record is removed. It also ends with its bucket."""
        (tmp_path / "engine").mkdir()
        moment = [0.0]
        store = ObjectStore(tmp_path / "engine", now=lambda: moment[0])
        store.create_bucket("bucket")
        uploads = MultipartUploads(store)
        first, chosen = upload_one(uploads)
        uploads.complete(first, "bucket", "k", chosen)
        moment[0] = COMPLETION_KEPT_SECONDS - 1
        uploads.complete(first, "bucket", "k", chosen)
        moment[0] = COMPLETION_KEPT_SECONDS
        with pytest.raises(ApiError, match="NoSuchUpload"):
            uploads.complete(first, "bucket", "k", chosen)
        second, chosen = upload_one(uploads)
        uploads.complete(second, "bucket", "k", chosen)
        with store.database.read() as connection:
            assert connection.execute("SELECT upload FROM completions").fetchall() == [(second,)]
        store.delete("bucket", "k")
        store.delete_bucket("bucket")
        store.create_bucket("bucket")
        with pytest.raises(ApiError, match="NoSuchUpload"):
            uploads.complete(second, "bucket", "k", chosen)

    def test_one_of_many_completions_at_once_writes(self, store: ObjectStore) -> None:
        """Retries overlap the first request. All have its answer, although the object may not exist before it."""
        uploads = MultipartUploads(store)
        upload, chosen = upload_one(uploads)

        def complete(_: int) -> float:
            return uploads.complete(upload, "bucket", "k", chosen, if_none_match=True).last_modified

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(complete, range(16)))) == 1
        assert len(bodies(store)) == 1

    def test_what_cannot_be_completed_is_refused(self, store: ObjectStore) -> None:
        """Wrong ETags, wrong order, small parts: each has S3's code, and the upload stays."""
        uploads = MultipartUploads(store)
        upload = uploads.create("bucket", "k", headers={}, metadata={})
        first, second = (uploads.add_part(upload.id, "bucket", "k", number, b"x") for number in (1, 2))
        for chosen, code in [
            ([(1, "0" * 32)], "InvalidPart"),
            ([(3, first.etag)], "InvalidPart"),
            ([(2, second.etag), (1, first.etag)], "InvalidPartOrder"),
            ([(1, first.etag), (2, second.etag)], "EntityTooSmall"),
            ([], "MalformedXML"),
        ]:
            with pytest.raises(ApiError, match=code):
                uploads.complete(upload.id, "bucket", "k", [CompletedPart(*part) for part in chosen])
        assert [part.number for part in uploads.parts(upload.id, "bucket", "k")] == [1, 2]
        uploads.abort(upload.id, "bucket", "k")
        assert bodies(store) == []

    def test_a_part_that_is_sent_again_replaces_the_first(self, store: ObjectStore) -> None:
        """The later part replaces the first, whose bytes are removed from the disk."""
        uploads = MultipartUploads(store)
        upload = uploads.create("bucket", "k", headers={}, metadata={})
        uploads.add_part(upload.id, "bucket", "k", 1, b"x")
        part = uploads.add_part(upload.id, "bucket", "k", 1, b"y")
        assert len(bodies(store)) == 1
        assert uploads.complete(upload.id, "bucket", "k", [CompletedPart(1, part.etag)]).path.read_bytes() == b"y"


KEYS = st.text(st.sampled_from("ab/.é日🎉"), min_size=1, max_size=5)


@given(
    keys=st.sets(KEYS, max_size=25),
    prefix=st.text(st.sampled_from("ab/"), max_size=2),
    delimiter=st.sampled_from([None, "/", "a", "é", "//"]),
    after=st.text(st.sampled_from("ab/é"), max_size=3),
    limit=st.integers(1, 7),
)
def test_listing_is_that_of_a_model(
    listings: ObjectStore, keys: set[str], prefix: str, delimiter: str | None, after: str, limit: int
) -> None:
    """Pages together are all entries behind `after` in UTF-8 order, each once; none but the last is short."""
    bucket = "b-" + os.urandom(8).hex()
    listings.create_bucket(bucket)
    with listings.database.write() as connection:
        for key in keys:  # the index alone: listing reads no body
            row = (bucket, key.encode(), 0, "", 0.0, key.encode().hex(), "{}", "{}", "{}", "")
            connection.execute("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)

    def entry(key: str) -> str:
        found = key.find(delimiter, len(prefix)) if delimiter else -1
        return key if found < 0 or delimiter is None else key[: found + len(delimiter)]

    wanted = {
        (entry(key), entry(key) == key and not _is_common(key, prefix, delimiter))
        for key in keys
        if key.startswith(prefix)
    }
    expected = sorted(pair for pair in wanted if pair[0].encode() > after.encode())
    expected.sort(key=lambda pair: pair[0].encode())

    got: list[tuple[str, bool]] = []
    mark = after
    while True:
        page = listings.list(bucket, prefix, mark, delimiter, limit)
        entries = [(record.key, True) for record in page.objects] + [(common, False) for common in page.prefixes]
        got += sorted(entries, key=lambda pair: pair[0].encode())
        if not page.truncated:
            break
        assert len(entries) == limit
        assert page.last is not None
        mark = page.last
    assert got == expected


def _is_common(key: str, prefix: str, delimiter: str | None) -> bool:
    return delimiter is not None and delimiter in key[len(prefix) :]


def test_an_empty_page_is_not_truncated(store: ObjectStore) -> None:
    """As in S3, max-keys=0 is valid."""
    store.put("bucket", "k", b"")
    assert store.list("bucket", limit=0) == ([], [], False, None)
