"""The S3 transfer: every byte there, nothing half-written, no call too many."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import threading
import zlib
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from processing import StagingError
from processing.aws import checksums
from processing.clock import SystemClock
from processing.request.s3_uri import S3Uri
from processing.staging import downloads, listing, multipart, pending_uploads, transfers
from processing.staging import ranges as range_requests
from processing.staging import thread_pool as pool
from processing.staging.checksums import new_verifier
from processing.staging.multipart import MultipartUpload
from processing.staging.pending_uploads import PendingUploads, Upload
from processing.staging.progress import ProgressMeter
from processing.staging.small_files import SmallFiles
from processing.staging.source_file import SourceFile
from processing.staging.sources import LocalSource
from processing.staging.thread_pool import TransferPool
from processing.staging.transfers import Uploader, download_prefix, get_bytes, put_bytes, upload_all
from processing.testing.clock import VirtualClock
from processing.testing.wire import respond

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processing import LocalSession
    from processing.session.session import Session
    from processing.staging.progress import Progress

BUCKET = "a-users-bucket"
ACCOUNT = "000000000000"  # the engine's
KB = 1024
MB = 1024 * KB


@pytest.fixture(params=["moto", "engine", "engine by templates", "engine by obstore"])
def server(request: pytest.FixtureRequest) -> str:
    """All combinations of S3 servers and clients behave the same."""
    if request.param == "engine by obstore":
        pytest.importorskip("obstore")
    return str(request.param)


def nobody(_bucket: str) -> None:
    """No bucket has to belong to anybody."""


def owner(_bucket: str) -> str:
    """Every bucket has to belong to this account."""
    return ACCOUNT


def upload(session: Session, uploads: Any, **options: Any) -> None:
    """Upload without an expected owner."""
    upload_all(session.api, uploads, **{"expected_owner": nobody, **options})


def content(session: Session, key: str) -> bytes:
    """Return the content of a key in S3."""
    return get_bytes(session.api, S3Uri(BUCKET, key), expected_owner=nobody)


def keys(session: Session) -> list[str]:
    """All the keys of the bucket."""
    listed = session.client("s3").list_objects_v2(Bucket=BUCKET)
    return [entry["Key"] for entry in listed.get("Contents", ())]


def unfinished(session: Session) -> list[Any]:
    """Multipart uploads that are neither completed nor aborted."""
    found: list[Any] = session.client("s3").list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return found


def files(directory: Path, **contents: bytes) -> list[Upload]:
    """Files with these contents, to be uploaded under their names."""
    uploads = []
    for name, body in contents.items():
        (directory / name).write_bytes(body)
        uploads.append(Upload(directory / name, S3Uri(BUCKET, name)))
    return uploads


def code(directory: Path, body: bytes = b"print()", kms_key: str | None = None) -> tuple[Upload, ...]:
    """A script to be uploaded under the name of its content."""
    (directory / "x.py").write_bytes(body)
    staged = PendingUploads()
    staged.add_code(directory / "x.py", S3Uri(BUCKET), kms_key)
    return staged.uploads


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The operating system refuses to let a file grow beyond a size, as it does where a disk is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multipart uploads of files of some MB: S3 wants parts of 5 MB, the last one excepted."""
    monkeypatch.setattr(transfers, "SINGLE_PUT", 6 * 1024 * KB)
    monkeypatch.setattr(multipart, "_PART_SIZE", 5 * 1024 * KB)
    monkeypatch.setattr(pool, "PART_MEMORY", 10 * 1024 * KB)


def start_at_most(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Let a transfer start so many threads, and no more."""
    start, started = threading.Thread.start, 0

    def counted(self: threading.Thread) -> None:
        nonlocal started
        started += self.name == "processing-transfer"
        if self.name == "processing-transfer" and started > most:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", counted)


BIG = os.urandom(1024) * (12 * KB)  # 12 MB


class TestUp:
    def test_one_put_per_file(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """N files are N PutObject calls and nothing else, and no one of them asks for leave before it sends."""
        uploads = files(tmp_path, empty=b"", one=b"1", block=b"x" * (1024 * KB), above=b"y" * (1024 * KB + 1))
        upload(session, uploads)
        assert wire.calls == ["PutObject"] * 4
        assert not [headers for _, headers in wire.requests if "expect" in headers]
        assert [content(session, name) for name in ("empty", "one")] == [b"", b"1"]
        assert content(session, "above") == b"y" * (1024 * KB + 1)

    def test_nothing_is_no_call(self, session: Session, wire: Any) -> None:
        """A run without local files does not reach S3."""
        upload(session, ())
        assert wire.calls == []

    def test_many_files(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Many files in many threads: each once, and each with its own content."""
        upload(session, files(tmp_path, **{f"f{i}": str(i).encode() for i in range(200)}))
        assert Counter(wire.calls) == {"PutObject": 200}
        assert [content(session, f"f{i}") for i in range(0, 200, 20)] == [str(i).encode() for i in range(0, 200, 20)]

    def test_encryption_and_owner(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """The KMS key and the expected owner are in every request."""
        (tmp_path / "x").write_bytes(b"x")
        upload(session, [Upload(tmp_path / "x", S3Uri(BUCKET, "x"), "a-key")], expected_owner=owner)
        upload(session, code(tmp_path, kms_key="a-key"), expected_owner=owner)
        assert wire.calls == ["PutObject", "HeadObject", "PutObject"]
        for operation, headers in wire.requests:
            assert headers["x-amz-expected-bucket-owner"] == ACCOUNT
            if operation == "PutObject":
                assert headers["x-amz-server-side-encryption"] == "aws:kms"
                assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "a-key"

    def test_extra_parameters(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """More parameters of PutObject are passed on."""
        (tmp_path / "x").write_bytes(b"x")
        upload(session, [Upload(tmp_path / "x", S3Uri(BUCKET, "x"), extra=(("ContentType", "text/csv"),))])
        assert wire.requests[0][1]["content-type"] == "text/csv"

    @pytest.mark.usefixtures("small_parts")
    def test_progress(self, session: Session, tmp_path: Path) -> None:
        """Every byte is reported once, of small files and of parts."""
        seen: list[Progress] = []
        sized = [
            attrs.evolve(each, size=each.source.stat().st_size) for each in files(tmp_path, a=b"1" * 10, b=b"", big=BIG)
        ]
        upload(session, sized, progress=seen.append)
        assert [now.bytes for now in seen] == sorted(now.bytes for now in seen)
        assert [now.files for now in seen] == sorted(now.files for now in seen)
        last = seen[-1]
        assert (last.files, last.total_files, last.bytes, last.total_bytes) == (3, 3, len(BIG) + 10, len(BIG) + 10)

    @pytest.mark.parametrize(
        "kind", ["throttle", "error500", "error503", "reset_before", "reset_after", "timeout_after"]
    )
    @pytest.mark.parametrize("size", [3, 1500 * KB])
    def test_faults(self, session: Session, wire: Any, tmp_path: Path, kind: Any, size: int) -> None:
        """A PUT that fails on the way is sent again, its body from the beginning."""
        wire.faults.on("PutObject", kind, times=2)
        upload(session, files(tmp_path, x=b"x" * size))
        assert content(session, "x") == b"x" * size
        assert wire.calls.count("PutObject") == 3

    def test_thirty_percent_throttled(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A bucket that asks for less gets all the files in the end, their bytes right."""
        wire.faults.on("PutObject", "throttle", probability=0.3)
        upload(session, files(tmp_path, **{f"f{i}": str(i).encode() for i in range(100)}))
        assert sorted(keys(session)) == sorted(f"f{i}" for i in range(100))
        assert all(content(session, f"f{i}") == str(i).encode() for i in range(100))

    def test_every_failure_is_named(self, session: Session, tmp_path: Path) -> None:
        """All files are tried; the error names those that failed, and why."""
        uploads = files(tmp_path, a=b"a", b=b"b", c=b"c", d=b"d")
        (tmp_path / "b").unlink()
        (tmp_path / "c").unlink()
        (tmp_path / "c").mkdir()
        with pytest.raises(StagingError, match="2 of 4 files could not be uploaded") as error:
            upload(session, uploads)
        assert error.value.failures == (
            (str(tmp_path / "b"), "the file has vanished"),
            (str(tmp_path / "c"), "Is a directory"),
        )
        assert keys(session) == ["a", "d"]

    @pytest.mark.parametrize(
        ("status", "sent", "reason"),
        [
            (403, "AccessDenied", "the bucket belongs to another account"),
            (400, "AuthorizationHeaderMalformed", "the bucket is in us-west-2"),
            (400, "KMS.DisabledException", "(KMS key a-key)"),
            (404, "NoSuchBucket", "NoSuchBucket"),
        ],
    )
    def test_reasons(self, session: Session, wire: Any, tmp_path: Path, status: int, sent: str, reason: str) -> None:
        """The error contains AWS's message and its meaning: the account, the region, the key."""
        wire.error("PutObject", status, sent, times=9, x_amz_bucket_region="us-west-2")
        (tmp_path / "x").write_bytes(b"x")
        with pytest.raises(StagingError) as error:
            upload(session, [Upload(tmp_path / "x", S3Uri(BUCKET, "x"), "a-key")])
        assert reason in error.value.failures[0][1]
        assert error.value.__cause__ is not None

    def test_a_network_that_is_gone(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """The other files are not tried after as many failures in a row as there are threads."""
        wire.faults.on("PutObject", "unreachable", probability=1.0)
        uploads = files(tmp_path, **{f"f{i:03}": b"" for i in range(50)})
        with pytest.raises(StagingError) as error:
            upload(session, uploads, workers=4)
        reasons = Counter(reason.startswith("not tried") for _, reason in error.value.failures)
        assert len(error.value.failures) == 50
        assert 4 <= reasons[False] <= 8

    def test_a_file_that_changes(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A file that changes while it is sent is an error, in memory and streamed."""
        for size in (3, 1500 * KB):
            uploads = files(tmp_path, x=b"x" * size)
            wire.instead("PutObject", lambda _: (tmp_path / "x").write_bytes(b"changed") and None)
            with pytest.raises(StagingError, match="the file changed while it was uploaded"):
                upload(session, uploads)

    def test_an_interrupt_ends_the_threads(
        self, session: Session, wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C reaches the caller once no thread sends any more, and the files left are not sent."""
        arrived = threading.Event()
        wire.instead("PutObject", lambda _: arrived.set())

        def interrupted(_: SystemClock, condition: threading.Condition, seconds: float) -> None:
            while not arrived.is_set():
                condition.wait(min(seconds, 0.001))
            raise KeyboardInterrupt

        uploads = files(tmp_path, **{f"f{i}": b"x" for i in range(300)})
        monkeypatch.setattr(SystemClock, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            upload(session, uploads, workers=2)
        assert len(wire.calls) < 300
        assert not [thread for thread in threading.enumerate() if thread.name == "processing-transfer"]

    def test_an_interrupt_ends_the_tries(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A failure after Ctrl-C is not retried: the user does not wait for a broken network."""
        (each,) = files(tmp_path, x=b"x")
        meter = ProgressMeter(None, session.clock, 1, None)
        uploader = Uploader(session.api, nobody, SmallFiles(session.api), meter, None)

        def interrupt(request: Any) -> Any:
            uploader.pool.abort(KeyboardInterrupt())
            return respond(request, 503, {}, b"")

        wire.instead("PutObject", interrupt)
        with pytest.raises(KeyboardInterrupt):
            uploader.pool.run([each])
        assert wire.calls == ["PutObject"]

    @pytest.mark.parametrize("most", [1, 3])
    def test_a_machine_that_refuses_threads(
        self, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        """If no further thread can be started, the running ones send everything."""
        start_at_most(monkeypatch, most)
        upload(session, files(tmp_path, **{f"f{i}": b"x" for i in range(50)}))
        assert len(keys(session)) == 50

    @pytest.mark.usefixtures("small_parts")
    @pytest.mark.parametrize("most", [0, 1])
    def test_a_machine_without_threads(
        self, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        """A transfer without any thread fails instead of waiting forever."""
        start_at_most(monkeypatch, most)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            upload(session, files(tmp_path, big=BIG))
        assert keys(session) == []
        assert unfinished(session) == []

    @pytest.mark.usefixtures("small_parts")
    def test_a_large_file_is_not_forgotten_for_want_of_a_thread(
        self, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A large file without a thread is an error, though the files after it fail and end the other threads."""
        uploads = files(tmp_path, big=BIG, gone=b"1", missing=b"2")
        for name in ("gone", "missing"):
            (tmp_path / name).unlink()
        start_at_most(monkeypatch, 1)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            upload(session, uploads)

    @pytest.mark.parametrize("order", [(True, False), (False, True)])
    def test_a_failed_part_is_not_forgotten(self, order: tuple[bool, bool]) -> None:
        """Two parts that end at once, of which one has failed: the upload has failed."""
        upload_ = MultipartUpload.__new__(MultipartUpload)
        upload_._failed = False
        upload_._pool = TransferPool(lambda _: None, 1, ProgressMeter(None, VirtualClock(), 0, 0))

        class Part(Future[Any]):
            """A part during whose report the other part is reported."""

            def __init__(self, *, fails: bool, other: Future[Any] | None = None) -> None:
                super().__init__()
                self._other = other
                self.set_exception(OSError()) if fails else self.set_result({})

            def cancelled(self) -> bool:
                if self._other is not None:
                    upload_._part_done(1, self._other)
                return super().cancelled()

        upload_._part_done(1, Part(fails=order[0], other=Part(fails=order[1])))
        assert upload_._failed


class TestCode:
    def test_one_head_and_one_put(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Code that is not there yet costs a HEAD and a conditional PUT, the same code again a HEAD."""
        upload(session, code(tmp_path))
        assert wire.calls == ["HeadObject", "PutObject"]
        assert wire.requests[1][1]["if-none-match"] == "*"
        upload(session, code(tmp_path))
        assert wire.calls[2:] == ["HeadObject"]

    def test_the_bytes_are_those_of_the_name(self, session: Session, tmp_path: Path) -> None:
        """Code that changes between staging and the upload is uploaded as it was named."""
        uploads = code(tmp_path, b"before")
        (tmp_path / "x.py").write_bytes(b"after")
        upload(session, uploads)
        assert content(session, f"code/{hashlib.sha256(b'before').hexdigest()}/x.py") == b"before"

    @pytest.mark.parametrize("small", [4, MB])
    @pytest.mark.parametrize("changed", [b"other bytes", b"shorter", b"a longer text"])
    def test_large_code_that_changes(
        self, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bytes, small: int
    ) -> None:
        """Code too large to be kept is hashed again on its way: other bytes never get the name."""
        monkeypatch.setattr(pending_uploads, "MEMORY_LIMIT", 4)
        monkeypatch.setattr(transfers, "SMALL_FILE", small)
        uploads = code(tmp_path, b"these bytes")
        (tmp_path / "x.py").write_bytes(changed)
        with pytest.raises(StagingError, match="the file changed after its content was named"):
            upload(session, uploads)
        assert keys(session) == []
        assert unfinished(session) == []

    @pytest.mark.parametrize("small", [4, MB])
    def test_large_code(
        self, session: Session, wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int
    ) -> None:
        """Code too large to be kept arrives, and is not sent again."""
        monkeypatch.setattr(pending_uploads, "MEMORY_LIMIT", 4)
        monkeypatch.setattr(transfers, "SMALL_FILE", small)
        upload(session, code(tmp_path, b"these bytes"))
        assert content(session, f"code/{hashlib.sha256(b'these bytes').hexdigest()}/x.py") == b"these bytes"
        before = len(wire.calls)
        upload(session, code(tmp_path, b"these bytes"))
        assert wire.calls[before:] == ["HeadObject"]

    def test_somebody_else_was_quicker(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """412 means that the object came to be meanwhile: fine."""
        wire.error("PutObject", 412, "PreconditionFailed")
        upload(session, code(tmp_path))
        assert wire.calls == ["HeadObject", "PutObject"]

    def test_two_at_once(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """409 means that another upload is under way: tried again."""
        wire.error("PutObject", 409, "ConditionalRequestConflict", times=2)
        upload(session, code(tmp_path))
        assert wire.calls == ["HeadObject", "PutObject", "PutObject", "PutObject"]
        assert len(keys(session)) == 1

    @pytest.mark.usefixtures("small_parts")
    def test_large_and_somebody_else_was_quicker(
        self, session: Session, wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The parts of code that came to be meanwhile do not stay: S3 would keep them, and charge for them."""
        monkeypatch.setattr(pending_uploads, "MEMORY_LIMIT", 4)
        wire.error("CompleteMultipartUpload", 412, "PreconditionFailed")
        upload(session, code(tmp_path, BIG))
        assert "AbortMultipartUpload" in wire.calls
        assert unfinished(session) == []

    def test_an_answer_that_is_lost(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A conditional PUT whose answer is lost finds its own object at the next try: fine."""
        wire.faults.on("PutObject", "reset_after")
        upload(session, code(tmp_path))
        assert len(keys(session)) == 1

    def test_no_permission_to_look(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Code is uploaded with write permission only; an existing object stays."""
        wire.error("HeadObject", 403, "")
        upload(session, code(tmp_path))
        assert len(keys(session)) == 1

    def test_an_s3_without_conditional_writes(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Another S3 may not know the condition; the object is then put without."""
        wire.error("PutObject", 501, "NotImplemented", times=1)
        upload(session, code(tmp_path))
        assert len(keys(session)) == 1
        assert "if-none-match" not in wire.requests[-1][1]

    def test_another_key_is_another_object(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Under another KMS key, or under none, code has another name: a job may be reading what is there."""
        for count, kms_key in enumerate((None, "a-key", "alias/another"), 1):
            for calls, key in ((["HeadObject", "PutObject"], kms_key), (["HeadObject"], None)):
                before = len(wire.calls)
                upload(session, code(tmp_path, kms_key=kms_key))
                assert wire.calls[before:] == calls, kms_key
                assert wire.requests[-1][1].get("x-amz-server-side-encryption-aws-kms-key-id") == key
            assert len(keys(session)) == count


@pytest.mark.usefixtures("small_parts")
class TestLarge:
    def test_parts(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A large file goes in parts and arrives whole."""
        upload(session, files(tmp_path, big=BIG))
        assert Counter(wire.calls) == {"CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1}
        assert content(session, "big") == BIG

    def test_settings(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """The KMS key is asked for at the beginning, the owner expected in every call."""
        (tmp_path / "big").write_bytes(BIG)
        upload(session, [Upload(tmp_path / "big", S3Uri(BUCKET, "big"), "a-key")], expected_owner=owner)
        assert {headers["x-amz-expected-bucket-owner"] for _, headers in wire.requests} == {ACCOUNT}
        assert wire.requests[0][1]["x-amz-server-side-encryption-aws-kms-key-id"] == "a-key"

    def test_extra_parameters(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """The user's own parameters go with each step that has them."""
        extra = {"ContentType": "text/csv", "RequestPayer": "requester", "ChecksumAlgorithm": "SHA256"}
        extra["IfNoneMatch"] = "*"
        (tmp_path / "big").write_bytes(BIG)
        upload(session, [Upload(tmp_path / "big", S3Uri(BUCKET, "big"), extra=tuple(extra.items()))])
        sent = dict(wire.requests)
        assert {headers["x-amz-request-payer"] for headers in sent.values()} == {"requester"}
        assert sent["CreateMultipartUpload"]["content-type"] == "text/csv"
        assert sent["UploadPart"]["x-amz-sdk-checksum-algorithm"] == "SHA256"
        assert sent["CompleteMultipartUpload"]["if-none-match"] == "*"

    @pytest.mark.parametrize("kind", ["throttle", "error500", "reset_before", "reset_after"])
    @pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
    def test_faults(self, session: Session, wire: Any, tmp_path: Path, kind: Any, operation: str) -> None:
        """Each call is tried again alone: no part is sent a second time for another's fault."""
        wire.faults.on(operation, kind)
        upload(session, files(tmp_path, big=BIG))
        assert content(session, "big") == BIG
        assert wire.calls.count("UploadPart") == 3 + (operation == "UploadPart")

    def test_a_lost_answer_to_complete(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """S3 forgets an upload that is complete; the object itself says that it is."""

        def complete_and_forget(request: Any) -> Any:
            wire.error("CompleteMultipartUpload", 404, "NoSuchUpload")
            wire.faults.on("CompleteMultipartUpload", "reset_after")

        wire.instead("CompleteMultipartUpload", complete_and_forget)
        upload(session, files(tmp_path, big=BIG))
        assert content(session, "big") == BIG
        assert wire.calls.count("HeadObject") == 1

    def test_an_upload_that_really_is_gone(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """An unknown upload is a failure if the object does not exist."""
        wire.error("CompleteMultipartUpload", 404, "NoSuchUpload")
        with pytest.raises(StagingError, match="NoSuchUpload"):
            upload(session, files(tmp_path, big=BIG))

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    def test_an_interrupt_aborts(
        self, session: Session, wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
    ) -> None:
        """Whatever ends the transfer, no parts stay behind."""

        def interrupted(self: multipart.MultipartUpload, parts: list[dict[str, Any]]) -> None:
            raise error

        monkeypatch.setattr(multipart.MultipartUpload, "_complete", interrupted)
        with pytest.raises((error, StagingError)):
            upload(session, files(tmp_path, big=BIG))
        assert "AbortMultipartUpload" in wire.calls
        assert unfinished(session) == []
        assert keys(session) == []

    def test_a_part_that_is_refused_aborts(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A part that cannot be sent is the file's failure; the others are tried."""
        wire.error("UploadPart", 403, "AccessDenied")
        with pytest.raises(StagingError, match="1 of 2 files") as error:
            upload(session, files(tmp_path, big=BIG, small=b"x"))
        assert [Path(name).name for name, _ in error.value.failures] == ["big"]
        assert unfinished(session) == []
        assert keys(session) == ["small"]

    def test_a_failed_abort_is_logged(
        self, session: Session, wire: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Parts that could not be removed cost money: the log names the upload."""
        wire.error("UploadPart", 403, "AccessDenied", times=3)
        wire.error("AbortMultipartUpload", 403, "AccessDenied")
        with pytest.raises(StagingError, match="AccessDenied"):
            upload(session, files(tmp_path, big=BIG))
        assert "could not be aborted" in caplog.text

    def test_a_file_that_changes(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A file that changes between its parts is not completed."""
        uploads = files(tmp_path, big=BIG)
        wire.instead("UploadPart", lambda _: os.utime(tmp_path / "big", ns=(1, 1)))
        with pytest.raises(StagingError, match="the file changed while it was uploaded"):
            upload(session, uploads)
        assert keys(session) == []
        assert unfinished(session) == []

    def test_a_file_that_shrinks(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A file that ends before its size does is not completed."""
        uploads = files(tmp_path, big=BIG)
        wire.instead("CreateMultipartUpload", lambda _: os.truncate(tmp_path / "big", 100))
        with pytest.raises(StagingError, match="the file changed while it was uploaded"):
            upload(session, uploads)
        assert unfinished(session) == []


@given(size=st.integers(1, 5 * 1024**4))
def test_parts_are_few_enough(size: int) -> None:
    """A file of any size that S3 takes has at most 10,000 parts."""

    class Sized:
        def __init__(self, size: int) -> None:
            self.size = size

    class NoSender:
        api = None
        pool = None

        def place(self, _upload: Upload) -> dict[str, Any]:
            return {}

    sent: Any = multipart.MultipartUpload(NoSender(), None, Sized(size))  # type: ignore[arg-type]
    assert -(-size // sent._part_size) <= 10_000


def _with_pages_of_ten(request: Any) -> None:
    """Let the server answer a listing with a page of ten."""
    request.url += "&max-keys=10"


class TestDown:
    def put(self, session: Session, **contents: bytes) -> None:
        """Put objects under these keys."""
        for key, body in contents.items():
            session.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)

    def get(self, session: Session, prefix: str, to: Path, **options: Any) -> list[str]:
        """Download, and return the names relative to the directory."""
        options = {"expected_owner": nobody, **options}
        return [
            str(path.relative_to(to)) for path in download_prefix(session.api, S3Uri(BUCKET, prefix), to, **options)
        ]

    def test_a_prefix(self, session: Session, tmp_path: Path) -> None:
        """Objects below a prefix keep their relative names; keys that only begin with its letters are left out."""
        self.put(session, **{"out/a": b"1", "out/b/c": b"2" * 3000 * KB, "out2/x": b"3", "outer": b"4", "out/e": b""})
        for prefix in ("out", "out/"):
            assert self.get(session, prefix, tmp_path / "to") == ["a", "b/c", "e"]
        assert (tmp_path / "to" / "b" / "c").read_bytes() == b"2" * 3000 * KB
        assert (tmp_path / "to" / "e").read_bytes() == b""

    def test_an_object(self, session: Session, tmp_path: Path) -> None:
        """The key of an object gives that file."""
        self.put(session, **{"out/a.csv": b"1", "out/a.csv.gz": b"2"})
        assert self.get(session, "out/a.csv", tmp_path) == ["a.csv"]

    def test_the_whole_bucket(self, session: Session, tmp_path: Path) -> None:
        """An empty prefix is everything."""
        self.put(session, **{"a": b"1", "b/c": b"2"})
        assert self.get(session, "", tmp_path) == ["a", "b/c"]

    def test_nothing(self, session: Session, tmp_path: Path) -> None:
        """A prefix without objects is no error; the directory is there."""
        assert self.get(session, "none/", tmp_path / "to") == []
        assert (tmp_path / "to").is_dir()

    def test_every_page(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Every page of a listing is read, the owner expected on each call, save those that obstore makes after it."""
        self.put(session, **{f"p/{i:04}": b"x" for i in range(21)})
        wire.requests.clear()
        wire.instead("ListObjectsV2", _with_pages_of_ten, times=3)
        assert len(self.get(session, "p", tmp_path, expected_owner=owner)) == 21
        assert Counter(wire.calls) == {"ListObjectsV2": 3, "GetObject": 21}
        by_botocore = [headers for _, headers in wire.requests if "amz-sdk-request" in headers]
        assert by_botocore
        assert {headers["x-amz-expected-bucket-owner"] for headers in by_botocore} == {ACCOUNT}

    def test_who_pays(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A bucket whose readers pay is listed at the reader's cost, too."""
        self.put(session, x=b"1")
        wire.requests.clear()
        self.get(session, "x", tmp_path, extra={"RequestPayer": "requester"})
        assert [headers["x-amz-request-payer"] for _, headers in wire.requests] == ["requester"] * 2

    def test_folder_markers(self, session: Session, tmp_path: Path) -> None:
        """The empty objects that consoles make for folders are no files."""
        self.put(session, **{"p/": b"", "p/d/": b"", "p/d/x": b"1"})
        assert self.get(session, "p/", tmp_path) == ["d/x"]

    @pytest.mark.parametrize(
        "key",
        ["p/../../x", "p/..", "p/a/./b", "p//etc/x", "p/a//b", "p/data/"],
    )
    def test_keys_that_are_no_paths(self, session: Session, wire: Any, tmp_path: Path, key: str) -> None:
        """A key that would leave the directory, or is no path, is an error that names it; nothing is fetched."""
        body = (
            f"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>{key}</Key><Size>1</Size></Contents>"
            "<Contents><Key>p/good</Key><Size>1</Size></Contents></ListBucketResult>"
        )
        wire.instead("ListObjectsV2", lambda request: respond(request, 200, {}, body.encode()))
        with pytest.raises(StagingError, match="nothing was downloaded") as error:
            self.get(session, "p/", tmp_path / "to")
        assert [name for name, _ in error.value.failures] == [f"s3://{BUCKET}/{key}"]
        assert not (tmp_path / "to").exists()

    def test_a_null_character(self) -> None:
        """No path holds a null character."""
        assert listing.key_problem("a\0b") is not None

    def test_an_object_that_is_a_directory_too(self, session: Session, tmp_path: Path) -> None:
        """A key that is also the directory of others cannot be both on a disk."""
        self.put(session, **{"p/a": b"1", "p/a/b": b"2"})
        with pytest.raises(StagingError, match="p/a: is an object and also the directory of others"):
            self.get(session, "p/", tmp_path)
        assert list(tmp_path.iterdir()) == []

    @given(name=st.text(min_size=1, max_size=20))
    def test_no_key_leaves_the_directory(self, name: str) -> None:
        """Whatever a key is, the path it gets is below the directory, or it is refused."""
        if listing.key_problem(name) is None:
            path = os.path.normpath(Path("/to") / name)
            assert path.startswith("/to/")
            assert path == str(Path("/to") / name)

    @pytest.mark.parametrize("name", ["a\\b", "c:x", "con?", "a.", "a "])
    def test_windows_names(self, name: str) -> None:
        """Names that Windows would interpret are refused there, and allowed elsewhere."""
        assert listing.key_problem(name, windows=True) is not None
        assert listing.key_problem(name, windows=False) is None

    @pytest.mark.parametrize("kind", ["throttle", "error503", "reset_before", "truncate"])
    def test_faults(self, session: Session, wire: Any, tmp_path: Path, kind: Any) -> None:
        """A GET that breaks off is done again from the beginning; the file is whole."""
        self.put(session, x=b"0123456789" * 300 * KB)
        wire.faults.on("GetObject", kind, times=2)
        assert self.get(session, "x", tmp_path) == ["x"]
        assert (tmp_path / "x").read_bytes() == b"0123456789" * 300 * KB
        assert [path.name for path in tmp_path.iterdir()] == ["x"]

    def test_nothing_half_written(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """An object that does not come whole leaves no file, neither under its name nor under another."""
        self.put(session, **{"p/bad": b"x" * 1000, "p/good": b"y"})
        (tmp_path / "bad").write_bytes(b"the old one")
        wire.error("GetObject", 403, "AccessDenied")
        wire.faults.on("GetObject", "truncate", times=20)
        with pytest.raises(StagingError, match="2 of 2 objects could not be downloaded") as error:
            self.get(session, "p/", tmp_path, workers=1)
        assert [name for name, _ in error.value.failures] == [f"s3://{BUCKET}/p/bad", f"s3://{BUCKET}/p/good"]
        assert [path.name for path in tmp_path.iterdir()] == ["bad"]
        assert (tmp_path / "bad").read_bytes() == b"the old one"

    def test_wrong_bytes(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Bytes that do not fit the checksum that S3 keeps are not written."""
        headers = {"ETag": '"x"', "x-amz-checksum-crc32": "AAAAAA=="}
        wire.instead("GetObject", lambda request: respond(request, 200, headers, b"corrupted"), times=9)
        self.put(session, x=b"as it was")
        with pytest.raises(StagingError, match="checksum"):
            self.get(session, "x", tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A full disk is reported at once, and no file is left."""
        self.put(session, x=b"x" * 300 * KB)
        with files_of_at_most(100 * KB), pytest.raises(StagingError, match="File too large"):
            self.get(session, "x", tmp_path)
        assert wire.calls.count("GetObject") == 1
        assert list(tmp_path.iterdir()) == []

    def test_files_are_replaced(self, session: Session, tmp_path: Path) -> None:
        """Files of the same names are replaced, others left alone."""
        self.put(session, **{"p/a": b"new"})
        (tmp_path / "a").write_bytes(b"old")
        (tmp_path / "z").write_bytes(b"z")
        self.get(session, "p", tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new", "z": b"z"}


class TestLargeDown:
    """Objects that come in ranges; here of 256 KB."""

    BODY = os.urandom(KB) * 1500

    @pytest.fixture(autouse=True)
    def small_ranges(self, monkeypatch: pytest.MonkeyPatch, session: Session) -> None:
        """Ranges small enough for many of them, and an object that has a checksum of the whole."""
        monkeypatch.setattr(downloads, "_RANGE_SIZE", 256 * KB)
        monkeypatch.setattr(downloads, "_PIECE", 64 * KB)
        monkeypatch.setattr(range_requests, "_PIECE", 64 * KB)
        session.client("s3").put_object(Bucket=BUCKET, Key="x", Body=self.BODY, ChecksumAlgorithm="CRC32")

    def get(self, session: Session, to: Path, **options: Any) -> None:
        """Download the object."""
        download_prefix(session.api, S3Uri(BUCKET, "x"), to, **{"expected_owner": owner, **options})

    def names(self, directory: Path) -> list[str]:
        """Return the names in the directory."""
        return sorted(path.name for path in directory.iterdir())

    def test_ranges(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """A large object comes in ranges of one version of it, the owner expected in every call."""
        wire.requests.clear()
        seen: list[Progress] = []
        self.get(session, tmp_path, progress=seen.append)
        assert (tmp_path / "x").read_bytes() == self.BODY
        assert Counter(wire.calls) == {"ListObjectsV2": 1, "HeadObject": 1, "GetObject": 6}
        assert {headers["x-amz-expected-bucket-owner"] for _, headers in wire.requests} == {ACCOUNT}
        ranges = [headers["if-match"] for operation, headers in wire.requests if operation == "GetObject"]
        assert len(set(ranges)) == 1
        assert (seen[-1].files, seen[-1].bytes, seen[-1].total_bytes) == (1, len(self.BODY), len(self.BODY))

    def test_little_memory(self, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With memory for one range at a time the object comes all the same."""
        monkeypatch.setattr(pool, "PART_MEMORY", 1)
        self.get(session, tmp_path)
        assert (tmp_path / "x").read_bytes() == self.BODY

    @pytest.mark.parametrize("kind", ["throttle", "error503", "reset_before", "truncate"])
    def test_faults(self, session: Session, wire: Any, tmp_path: Path, kind: Any) -> None:
        """A range that breaks off is gone on with; the others are left alone."""
        wire.faults.on("GetObject", kind, times=2)
        self.get(session, tmp_path)
        assert (tmp_path / "x").read_bytes() == self.BODY
        assert wire.calls.count("GetObject") == 8

    def test_a_broken_body_goes_on(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Received bytes of a range are not requested again."""
        wire.faults.on("GetObject", "truncate")
        self.get(session, tmp_path)
        asked = [headers["range"] for operation, headers in wire.requests if operation == "GetObject"]
        starts = [int(each.removeprefix("bytes=").partition("-")[0]) for each in asked]
        assert len(set(starts)) == 7
        assert [start for start in starts if start % (256 * KB)] == [
            start for start in starts if start % (256 * KB) == 128 * KB
        ]

    @pytest.mark.parametrize("left", ["right", "wrong"])
    def test_an_interrupted_download_goes_on(self, session: Session, wire: Any, tmp_path: Path, left: str) -> None:
        """Right bytes of an earlier attempt are continued, and no partial file has the final name."""
        wire.error("GetObject", 403, "AccessDenied")
        with pytest.raises(StagingError, match="AccessDenied"):
            self.get(session, tmp_path, workers=1)
        wire.instead("GetObject", lambda _: None, times=2)
        wire.error("GetObject", 403, "AccessDenied")
        with pytest.raises(StagingError, match="AccessDenied"):
            self.get(session, tmp_path, workers=1)
        (part,) = tmp_path.iterdir()
        assert part.name.endswith(".part")
        assert part.read_bytes() == self.BODY[: 512 * KB]
        if left == "wrong":
            part.write_bytes(b"x" * 512 * KB)
            with pytest.raises(StagingError, match="do not match the checksum"):
                self.get(session, tmp_path)
            assert self.names(tmp_path) == []
        wire.requests.clear()
        self.get(session, tmp_path)
        assert self.names(tmp_path) == ["x"]
        assert (tmp_path / "x").read_bytes() == self.BODY
        assert wire.calls.count("GetObject") == (4 if left == "right" else 6)

    def test_a_connection_is_used_again(
        self, request: pytest.FixtureRequest, session: Session, server: str, tmp_path: Path
    ) -> None:
        """Ranges that follow each other need one connection."""
        if server.startswith("engine by"):
            recorded = request.getfixturevalue("http")[1]
            before = recorded.connections
            self.get(session, tmp_path, workers=1)
            assert recorded.connections - before <= 1
            assert (tmp_path / "x").read_bytes() == self.BODY

    @pytest.mark.parametrize("transfers", ["", "botocore"])
    def test_a_reset(
        self, session: Session, wire: Any, tmp_path: Path, transfers: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A range whose connection is reset is gone on with, whoever receives its bytes."""
        monkeypatch.setenv("PROCESSING_TRANSFERS", transfers)
        wire.reset("GetObject")
        self.get(session, tmp_path)
        assert wire.calls.count("GetObject") == 7
        assert (tmp_path / "x").read_bytes() == self.BODY

    def test_another_version(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """An object that is replaced while it comes is an error; of the new one nothing is mixed with the old one."""
        wire.error("GetObject", 412, "PreconditionFailed")
        with pytest.raises(StagingError, match="the object changed while it was downloaded"):
            self.get(session, tmp_path)
        assert not (tmp_path / "x").exists()

    def test_wrong_bytes(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Bytes that do not fit the object's checksum get no name, and are not gone on with."""

        def damage(request: Any) -> Any:
            asked = request.headers["Range"]  # bytes, or text where it came over HTTP
            first, last = (asked if isinstance(asked, str) else asked.decode()).removeprefix("bytes=").split("-")
            size = int(last) - int(first) + 1
            headers = {"ETag": '"x"', "Content-Range": f"bytes {first}-{last}/{len(TestLargeDown.BODY)}"}
            return respond(request, 206, headers, b"x" * size)

        wire.instead("GetObject", damage)
        with pytest.raises(StagingError, match="do not match the checksum"):
            self.get(session, tmp_path)
        assert self.names(tmp_path) == []

    def test_a_full_disk(self, session: Session, tmp_path: Path) -> None:
        """A download continues after the bytes that fit on the disk, once there is more space."""
        with files_of_at_most(700 * KB), pytest.raises(StagingError, match="File too large"):
            self.get(session, tmp_path)
        (part,) = tmp_path.iterdir()
        assert part.name.endswith(".part")
        assert part.read_bytes() == self.BODY[: part.stat().st_size]
        assert part.stat().st_size >= 512 * KB
        self.get(session, tmp_path)
        assert self.names(tmp_path) == ["x"]
        assert (tmp_path / "x").read_bytes() == self.BODY

    def test_another_process_has_the_part(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """Two downloads of one object to one place do not write into one file."""
        wire.instead("GetObject", lambda _: self.get(session, tmp_path))
        self.get(session, tmp_path)
        assert self.names(tmp_path) == ["x"]
        assert (tmp_path / "x").read_bytes() == self.BODY


PARTS = [os.urandom(KB) * 300, os.urandom(KB) * 300, b"the end"]


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


@pytest.mark.parametrize(
    ("found", "verified"),
    [
        ({"ETag": f'"{_md5(b"".join(PARTS)).hex()}"'}, True),
        ({"ETag": f'"{_md5(b"".join(map(_md5, PARTS))).hex()}-3"'}, True),
        ({"ETag": f'"{_md5(b"".join(map(_md5, PARTS))).hex()}-4"'}, None),
        ({"ETag": f'"{"0" * 32}"'}, False),
        ({"ETag": f'"{"0" * 32}"', "ServerSideEncryption": "aws:kms"}, None),
        ({"ETag": '"x"', "ChecksumSHA256": base64.b64encode(hashlib.sha256(b"".join(PARTS)).digest()).decode()}, True),
        ({"ETag": '"x"', "ChecksumCRC32": "AAAAAA=="}, False),
        ({"ETag": '"x"', "ChecksumCRC32": "AAAAAA==-3"}, False),
        ({"ETag": '"x"', "ChecksumFUTURE": "AAAAAA=="}, None),
    ],
)
def test_verification_of_downloads(found: dict[str, Any], verified: bool | None) -> None:
    """A checksum of the whole or of its parts, or an ETag that is an MD5, is held against the bytes."""
    whole = b"".join(PARTS)
    verifier = new_verifier({"ContentLength": len(whole), **found}, lambda: len(PARTS[0]))
    assert (verifier is None) is (verified is None)
    if verifier is not None:
        for start in range(0, len(whole), 100_000):
            verifier.update(whole[start : start + 100_000])
        assert verifier.matches() is verified


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


@pytest.mark.parametrize("size", [7, 1000, 300 * KB, 400_000])
@pytest.mark.parametrize(
    "expected",
    [
        pytest.param(base64.b64encode(_crc(b"".join(PARTS))).decode(), id="whole"),
        pytest.param(base64.b64encode(_crc(b"".join(map(_crc, PARTS)))).decode() + "-3", id="parts"),
    ],
)
def test_checksums_of_ranges(expected: str, size: int) -> None:
    """CRCs of ranges that were computed apart make the CRC of the whole, or those of the parts."""
    whole = b"".join(PARTS)
    for damage, matches in ((b"", True), (b"x", False)):
        verifier = new_verifier({"ContentLength": len(whole), "ChecksumCRC32": expected}, lambda: len(PARTS[0]))
        assert verifier is not None
        verifier.update(whole[:size])  # as of an earlier attempt
        for start in range(size, len(whole), size):
            digests = verifier.range_digests(start)
            assert digests is not None
            received = whole[start : start + size]
            digests.update(received[:5])
            digests.update(damage + received[5 + len(damage) :])
            verifier.append(digests)
        assert verifier.matches() is matches


def test_hashes_need_all_bytes_in_order() -> None:
    """An MD5 cannot be put together from those of ranges."""
    verifier = new_verifier({"ContentLength": 1, "ETag": f'"{_md5(b"x").hex()}"'}, lambda: None)
    assert verifier is not None
    assert verifier.range_digests(0) is None


@pytest.mark.parametrize(
    ("algorithm", "check"),
    [("crc32", 0xCBF43926), ("crc32c", 0xE3069283), ("crc64nvme", 0xAE8B14860A799888)],
)
def test_every_crc_can_be_appended(algorithm: str, check: int) -> None:
    """The polynomials are right: the CRC of the standard text comes from those of its parts."""
    width, polynomial = checksums.POLYNOMIALS[algorithm]
    ones = (1 << 8 * width) - 1

    def compute(data: bytes | memoryview, value: int) -> int:
        value ^= ones
        for byte in data:
            value ^= byte
            for _ in range(8):
                value = value >> 1 ^ (polynomial if value & 1 else 0)
        return value ^ ones

    parts = [checksums.Crc(compute, width, polynomial) for _ in range(4)]
    for crc, data in zip(parts, [b"123", b"45678", b"", b"9"], strict=True):
        crc.update(data)
    whole, *others = parts
    for other in others:
        whole.append(other)
    assert whole.digest() == check.to_bytes(width, "big")
    assert whole.size == 9


class TestCopies:
    """Objects that S3 copies instead of taking them again."""

    def copies(self, session: Session, directory: Path, etag: str | None = None) -> list[Upload]:
        """An upload whose content an object has."""
        put = session.client("s3").put_object(Bucket=BUCKET, Key="there", Body=b"content")
        (each,) = files(directory, x=b"content")
        return [
            attrs.evolve(
                each, copy_of=pending_uploads.CopySource(S3Uri(BUCKET, "there"), etag or put["ETag"]), kms_key="a-key"
            )
        ]

    def test_a_copy(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """One CopyObject of exactly that content, with the KMS key and both owners."""
        uploads = self.copies(session, tmp_path)
        wire.requests.clear()
        upload(session, uploads, expected_owner=owner)
        ((operation, headers),) = wire.requests
        assert operation == "CopyObject"
        assert headers["x-amz-copy-source-if-match"]
        assert headers["x-amz-expected-bucket-owner"] == headers["x-amz-source-expected-bucket-owner"] == ACCOUNT
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "a-key"
        assert content(session, "x") == b"content"

    @pytest.mark.parametrize(
        ("status", "code"), [(412, "PreconditionFailed"), (404, "NoSuchKey"), (403, "AccessDenied")]
    )
    def test_failed_copies(self, session: Session, wire: Any, tmp_path: Path, status: int, code: str) -> None:
        """The file is uploaded if the object is gone, has changed or may not be read."""
        wire.error("CopyObject", status, code)
        uploads = self.copies(session, tmp_path)
        wire.requests.clear()
        upload(session, uploads)
        assert wire.calls == ["CopyObject", "PutObject"]
        assert content(session, "x") == b"content"


class TestMemory:
    """The memory for parts in flight."""

    @pytest.fixture
    def ten(self, monkeypatch: pytest.MonkeyPatch, session: Session) -> pool.TransferPool[str]:
        """A pool with memory for ten bytes."""
        monkeypatch.setattr(pool, "PART_MEMORY", 10)
        return pool.TransferPool(lambda _: None, 1, ProgressMeter(None, session.clock, 0, None))

    def test_a_bound(self, ten: pool.TransferPool[str]) -> None:
        """No more is given out than there is; what is larger than all of it is given out alone."""
        assert ten.acquire_memory(6)
        assert not ten.acquire_memory(5, wait=False)
        assert ten.acquire_memory(4, wait=False)
        ten.release_memory(10)
        assert ten.acquire_memory(11, wait=False)
        assert not ten.acquire_memory(1, wait=False)

    def test_waiting(self, ten: pool.TransferPool[str]) -> None:
        """A waiting part gets the memory as soon as it is released."""
        ten.acquire_memory(10)
        waiting = threading.Thread(target=ten.acquire_memory, args=(1,), daemon=True)
        waiting.start()
        ten.release_memory(1)
        waiting.join(10)
        assert not waiting.is_alive()
        assert not ten.acquire_memory(1, wait=False)


class TestWindow:
    """The number of requests in flight."""

    def test_it_opens_and_halves(self) -> None:
        """It opens fourfold in a round trip, is halved once for a round of refusals, and then grows slowly."""
        window = pool.CongestionWindow(64)
        for _ in range(8):
            window.grow(int(window.limit))
        assert window.limit == 32
        for _ in range(32):
            window.grow(int(window.limit))
        assert window.limit == 64
        for _ in range(10):
            window.shrink(64)
        assert window.limit == 32
        for _ in range(100):
            window.shrink(1)
        assert window.limit == 1
        for _ in range(10):
            window.grow(int(window.limit))
        assert 1 < window.limit < 6

    def test_an_unused_window_does_not_grow(self) -> None:
        """Answers while the window is not full say nothing."""
        window = pool.CongestionWindow(64)
        for _ in range(100):
            window.grow(1)
        assert window.limit == 8

    def test_a_report_that_fails_ends_the_transfer(self, session: Session, wire: Any, tmp_path: Path) -> None:
        """An error of the caller's progress report reaches the caller, and nothing more is sent."""

        def report(_progress: Progress) -> None:
            raise LookupError("enough")

        with pytest.raises(LookupError, match="enough"):
            upload(session, files(tmp_path, **{f"f{i:03}": b"x" for i in range(100)}), progress=report)
        assert len(wire.calls) < 100


def test_bytes(session: Session, wire: Any) -> None:
    """One object's bytes go up and come down."""
    target = S3Uri(BUCKET, "b")
    put_bytes(session.api, b"x", target, kms_key="k", expected_owner=owner)
    assert get_bytes(session.api, target, expected_owner=owner) == b"x"


def test_a_directory_there_and_back(session: Session, tmp_path: Path) -> None:
    """Staged files come back unchanged, including those with unusual names."""
    names = ["a b.txt", "ü/é.txt", "plus+and&.txt", "100%.txt", "d/e/f", "#", "?q=1"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    staged = PendingUploads()
    uri = staged.add_source(LocalSource(tmp_path / "in", is_dir=True), S3Uri(BUCKET, "there"))
    upload(session, staged.uploads)
    back = download_prefix(session.api, S3Uri.parse(uri), tmp_path / "out", expected_owner=nobody)
    assert {str(path.relative_to(tmp_path / "out")): path.read_text() for path in back} == {
        name: name for name in names
    }


def test_a_small_file_on_a_full_disk(tmp_path: Path) -> None:
    """The system writes what fits and reports its size; the rest is not forgotten, and no part of the file stays."""
    full = pytest.raises(StagingError, match="File too large")
    with files_of_at_most(100 * KB), full:
        downloads.write_atomically(tmp_path / "x", bytes(300 * KB))
    assert list(tmp_path.iterdir()) == []


def test_reads_of_a_few_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may return less than asked for. The rest is read."""
    (path := tmp_path / "x").write_bytes(content := bytes(range(256)) * 10)
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 1000)))
    with SourceFile(path) as source:
        assert source.content() == content


@pytest.mark.parametrize("change", [-1, 1])
def test_a_size_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: int) -> None:
    """A file with fewer or more bytes than its status says, as some in /proc, is no file to upload."""
    (path := tmp_path / "x").write_bytes(content := b"content")
    with SourceFile(path) as source:
        monkeypatch.setattr(source, "size", len(content) + change)
        with pytest.raises(StagingError, match="while it was read"):
            source.content()


def test_a_file_that_became_a_directory(tmp_path: Path) -> None:
    """The error names it, before its size is compared with that of an object."""
    with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))), SourceFile(tmp_path):
        pass


def test_no_bytes_after_the_end(tmp_path: Path) -> None:
    """The number of a closed descriptor may belong to another file, whose bytes must not be sent."""
    (path := tmp_path / "x").write_bytes(b"content")
    with SourceFile(path) as source:
        chunk = source.stream()
    with path.open("rb"), pytest.raises(OSError, match="Bad file descriptor"):
        chunk.read()


class BreakingBody:
    """A body whose connection breaks off after the last byte."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, amount: int) -> bytes:
        """Return the next bytes; raise in place of the end."""
        if block := self._body.read(amount):
            return bytes(block)
        raise ReadTimeoutError(endpoint_url="s3")

    def close(self) -> None:
        """Close the body."""
        self._body.close()


def test_a_failure_after_the_last_byte_of_a_range_asks_for_no_empty_range(local_session: LocalSession) -> None:
    """S3 refuses a range that begins behind the object's end."""
    client, bucket = local_session.client("s3"), local_session.default_bucket()
    client.put_object(Bucket=bucket, Key="key", Body=b"0123456789")
    ranges: list[str] = []

    def break_body(parsed: dict[str, Any], **_: Any) -> None:
        ranges.append(parsed["ContentRange"])
        parsed["Body"] = BreakingBody(parsed["Body"])

    client.meta.events.register("after-call.s3.GetObject", break_body)
    received = bytearray(6)
    wanted = {"Bucket": bucket, "Key": "key"}
    range_requests.fetch_range(local_session.api, wanted, range(4, 10), 10, memoryview(received))
    assert (bytes(received), ranges) == (b"456789", ["bytes 4-9/10"])
