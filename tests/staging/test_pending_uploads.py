"""Pending uploads of a run."""

from __future__ import annotations

import gc
import hashlib
import os
from pathlib import Path

import pytest

from processing import ConfigurationError, StagingError
from processing.request.s3_uri import S3Uri
from processing.staging import bundles, pending_uploads
from processing.staging.bundles import Member
from processing.staging.pending_uploads import PendingUploads
from processing.staging.sources import LocalSource

TARGET = S3Uri("b", "p")


def test_a_directory_is_its_prefix(tmp_path: Path) -> None:
    """The files of a directory keep their names below the target."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("x")
    (tmp_path / "y z").write_text("y")
    pending = PendingUploads()
    assert pending.add_source(LocalSource(tmp_path, is_dir=True), TARGET, "key") == "s3://b/p"
    assert [(upload.source, str(upload.target), upload.kms_key) for upload in pending.uploads] == [
        (tmp_path / "d" / "x", "s3://b/p/d/x", "key"),
        (tmp_path / "y z", "s3://b/p/y z", "key"),
    ]
    assert pending.buckets == {"b"}
    assert len(pending) == len(list(pending)) == 2


def test_a_file_is_its_object(tmp_path: Path) -> None:
    """The URI of a file is that of its object, as v2's is."""
    (tmp_path / "x.csv").write_text("x")
    assert PendingUploads().add_source(LocalSource(tmp_path / "x.csv", is_dir=False), TARGET) == "s3://b/p/x.csv"


def test_code_is_named_by_its_content(tmp_path: Path) -> None:
    """The same content has the same key, wherever and whenever; another content another."""
    script = tmp_path / "x.py"
    script.write_text("print()")
    pending = PendingUploads()
    sha256 = hashlib.sha256(b"print()").hexdigest()
    assert pending.add_code(script, TARGET) == f"s3://b/p/code/{sha256}/x.py"
    assert pending.uploads[0].body == b"print()"
    assert pending.uploads[0].sha256 == sha256
    script.write_text("print(1)")
    assert pending.add_code(script, S3Uri("b")).startswith("s3://b/code/")
    assert len({upload.target for upload in pending.uploads}) == 2


def test_large_code_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code above the limit is hashed, and read again when it is sent."""
    monkeypatch.setattr(pending_uploads, "MEMORY_LIMIT", 10)
    (tmp_path / "x.jar").write_bytes(b"x" * 11)
    pending = PendingUploads()
    pending.add_code(tmp_path / "x.jar", TARGET)
    assert pending.uploads[0].body is None
    assert pending.uploads[0].sha256 == hashlib.sha256(b"x" * 11).hexdigest()


def test_code_that_vanishes(tmp_path: Path) -> None:
    """Code that cannot be read is named."""
    with pytest.raises(StagingError, match=r"x\.py: No such file"):
        PendingUploads().add_code(tmp_path / "x.py", TARGET)


def test_every_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files that may not be read are in the one error, and none of the source is planned."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("x")
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name == "b")
    pending = PendingUploads()
    with pytest.raises(StagingError) as error:
        pending.add_source(LocalSource(tmp_path, is_dir=True), TARGET)
    assert [Path(name).name for name, _ in error.value.failures] == ["a", "c"]
    assert pending.uploads == ()


def test_names_that_no_key_can_have(tmp_path: Path) -> None:
    """A name that is not UTF-8, and one that makes the key too long, are found before anything is sent."""
    (tmp_path / os.fsdecode(b"\xff")).write_text("x")
    (tmp_path / ("n" * 250)).write_text("x")
    with pytest.raises(StagingError) as error:
        PendingUploads().add_source(LocalSource(tmp_path, is_dir=True), S3Uri("b", "k" * 800))
    assert [reason for _, reason in error.value.failures] == [
        "its key would have 1051 bytes, at most 1024",
        "its name is not UTF-8, as an S3 key has to be",
    ]


def test_a_bundle_is_named_by_its_content(tmp_path: Path) -> None:
    """A bundle's key names its content; at a fixed place it replaces what is there."""
    (tmp_path / "x.py").write_text("print()")
    pending = PendingUploads()
    members = [Member(tmp_path / "x.py", "x.py")]
    uri = pending.add_bundle(members, TARGET)
    (upload,) = pending.uploads
    assert upload.body is not None
    assert uri == str(upload.target) == f"s3://b/p/code/{hashlib.sha256(upload.body).hexdigest()}/sourcedir.tar.gz"
    assert (upload.content_addressed, upload.kms_key, upload.size) == (True, None, len(upload.body))
    assert pending.add_bundle(members, TARGET, at=S3Uri("b", "job/source/x.tar.gz")) == "s3://b/job/source/x.tar.gz"
    assert not pending.uploads[1].content_addressed
    with pytest.raises(ConfigurationError, match="bundle_limit: the code has"):
        pending.add_bundle(members, TARGET, limit=10)


def test_content_made_here() -> None:
    """Content without a file has a key like code's, or a fixed place."""
    pending = PendingUploads()
    sha256 = hashlib.sha256(b"set -e").hexdigest()
    assert pending.add_bytes(b"set -e", "runproc.sh", TARGET) == f"s3://b/p/code/{sha256}/runproc.sh"
    assert pending.add_bytes(b"x", "env", TARGET, "key", at=S3Uri("b", "job/env")) == "s3://b/job/env"
    assert [(upload.body, upload.kms_key, upload.size) for upload in pending.uploads] == [
        (b"set -e", None, 6),
        (b"x", "key", 1),
    ]


def test_the_kms_key_is_in_the_name() -> None:
    """Under another key the same content is another object: a job may still be reading the one there is."""
    pending = PendingUploads()
    uris = {pending.add_bytes(b"set -e", "runproc.sh", TARGET, kms_key) for kms_key in (None, "key", "other", "key")}
    assert len(uris) == 3
    assert [(upload.kms_key, upload.content_addressed) for upload in pending.uploads][1:3] == [
        ("key", True),
        ("other", True),
    ]


def test_sizes_are_known(tmp_path: Path) -> None:
    """Every upload says how many bytes it has, before anything is sent."""
    (tmp_path / "x").write_text("12345")
    pending = PendingUploads()
    pending.add_source(LocalSource(tmp_path, is_dir=True), TARGET)
    pending.add_code(tmp_path / "x", TARGET)
    assert [upload.size for upload in pending.uploads] == [5, 5]


def test_temporary_files_go_with_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pending uploads and their claimed copy share a large bundle's file, which `close` removes."""
    monkeypatch.setattr(bundles, "MEMORY_LIMIT", 0)
    (tmp_path / "x").write_text("1")
    pending = PendingUploads()
    pending.add_bundle([Member(tmp_path / "x", "x")], TARGET)
    claimed = pending.with_claim("me")
    path = claimed.uploads[0].source
    del pending
    gc.collect()
    assert path.exists()
    claimed.close()
    assert not path.exists()


def test_a_claim_excludes_content_addressed_uploads(tmp_path: Path) -> None:
    """An object named by its content may also belong to another run, so it is not claimed."""
    (tmp_path / "x").write_text("1")
    pending = PendingUploads()
    pending.add_source(LocalSource(tmp_path, is_dir=True), TARGET)
    pending.add_code(tmp_path / "x", TARGET)
    pending.add_reusable(LocalSource(tmp_path, is_dir=True), TARGET)
    assert [upload.claim for upload in pending.with_claim("me").uploads] == ["me", None, None]
