"""Staging to the embedded engine: the same transfer, another S3."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from processing import LocalSession, StagingError
from processing.request.s3_uri import S3Uri
from processing.staging import transfers
from processing.staging.pending_uploads import PendingUploads, Upload
from processing.staging.transfers import download_prefix, upload_all
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector

if TYPE_CHECKING:
    from pathlib import Path

MB = 1024 * 1024


@pytest.fixture
def faults() -> FaultInjector:
    """The faults on the way to the engine, and the requests that were sent."""
    return FaultInjector()


@pytest.fixture
def session(tmp_path: Path, faults: FaultInjector) -> LocalSession:
    """An engine of the test's own, with its default bucket made."""
    session = LocalSession(tmp_path / "engine", clock=VirtualClock(), transport=faults.wrap)
    session.default_bucket()
    faults.calls.clear()
    return session


def test_there_and_back(session: LocalSession, faults: FaultInjector, tmp_path: Path) -> None:
    """Files small and large come back as they went, one call for each small one."""
    contents = {"a": b"", "d/b.txt": b"text", "d/c.bin": os.urandom(3 * MB), "large": os.urandom(MB) * 70}
    for name, content in contents.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    uri = session.upload_data(tmp_path / "in", session.default_bucket(), "there")
    assert faults.count() == Counter(PutObject=3, CreateMultipartUpload=1, UploadPart=9, CompleteMultipartUpload=1)
    back = download_prefix(session.api, S3Uri.parse(uri), tmp_path / "out", expected_owner=session.expected_owner)
    assert {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in back} == contents


def test_a_page_has_a_thousand_objects(session: LocalSession) -> None:
    """The engine's listings have pages as large as those of S3."""
    bucket = session.default_bucket()
    for number in range(1001):
        session.engine.objects.put(bucket, f"p/{number:04}", b"x")
    pages = session.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket)
    assert [page["KeyCount"] for page in pages] == [1000, 1]


def test_code_costs_a_head_when_it_is_there(session: LocalSession, faults: FaultInjector, tmp_path: Path) -> None:
    """Unchanged code is looked for, and not sent again."""
    (tmp_path / "x.py").write_text("print()")
    for expected in (["HeadObject", "PutObject"], ["HeadObject"]):
        pending = PendingUploads()
        pending.add_code(tmp_path / "x.py", S3Uri(session.default_bucket()))
        faults.calls.clear()
        upload_all(session.api, pending.uploads, expected_owner=session.expected_owner)
        assert faults.calls == expected


def test_foreign_content_is_not_run(session: LocalSession, faults: FaultInjector, tmp_path: Path) -> None:
    """Something else under a key that names the code is an error that says where, and stays."""
    (tmp_path / "x.py").write_text("print()")
    pending = PendingUploads()
    target = S3Uri.parse(pending.add_code(tmp_path / "x.py", S3Uri(session.default_bucket())))
    session.upload_string_as_file_body("other", target.bucket, target.key)
    with pytest.raises(StagingError, match=f"{target} has 5 bytes, but its name stands for content of 7"):
        upload_all(session.api, pending.uploads, expected_owner=session.expected_owner)
    assert session.read_s3_file(target.bucket, target.key) == "other"


def test_faults_everywhere(session: LocalSession, faults: FaultInjector, tmp_path: Path) -> None:
    """With a fault in every sixth call all files arrive whole, and come back whole."""
    for kind in ("throttle", "error500", "reset_before", "reset_after"):
        faults.on("*", kind, probability=0.04)
    (tmp_path / "in").mkdir()
    for index in range(60):
        (tmp_path / "in" / f"{index}").write_bytes(str(index).encode() * index * 1000)
    bucket = session.default_bucket()
    session.upload_data(tmp_path / "in", bucket, "p")
    assert len(session.download_data(tmp_path / "out", bucket, "p")) == 60
    for index in range(60):
        assert (tmp_path / "out" / f"{index}").read_bytes() == str(index).encode() * index * 1000
    assert faults.injected


def test_a_lost_answer_to_complete(
    session: LocalSession, faults: FaultInjector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A completed upload whose answer is lost is found complete."""
    monkeypatch.setattr(transfers, "SINGLE_PUT", MB)
    faults.on("CompleteMultipartUpload", "reset_after")
    (tmp_path / "x").write_bytes(os.urandom(2 * MB))
    session.upload_data(tmp_path / "x", session.default_bucket(), "p")
    session.download_data(tmp_path / "out", session.default_bucket(), "p")
    assert (tmp_path / "out" / "x").read_bytes() == (tmp_path / "x").read_bytes()


def test_a_bucket_that_is_not_there(session: LocalSession, tmp_path: Path) -> None:
    """The error names the file and contains the error of the engine's S3."""
    (tmp_path / "x").write_text("x")
    with pytest.raises(StagingError, match=r"x: NoSuchBucket"):
        upload_all(session.api, [Upload(tmp_path / "x", S3Uri("none", "x"))], expected_owner=session.expected_owner)
