"""Data that is in S3 already is not sent again."""

from __future__ import annotations

import json
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any, cast

import pytest

from processing import LocalSession, ProcessingInput, Processor, Session, StagingError
from processing.request.s3_uri import S3Uri
from processing.staging import cache as cache_module
from processing.staging.deduplication import missing_uploads, record_trees
from processing.staging.pending_uploads import PendingUploads
from processing.staging.sources import LocalSource
from processing.staging.transfers import download_prefix, upload_all
from processing.staging.tree_hash import Tree, hash_files
from processing.testing.clock import VirtualClock
from processing.testing.faults import FaultInjector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("PROCESSING_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["engine", "engine by templates"])
def server(request: pytest.FixtureRequest) -> str:
    """The engine in process, and over HTTP with repeated requests: the same calls."""
    return str(request.param)


@pytest.fixture
def faults(session: Session, wire: Any) -> FaultInjector:
    """The faults on the way to the session's engine, and the requests that were sent."""
    assert session.default_bucket()
    wire.faults.calls.clear()
    return cast("FaultInjector", wire.faults)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with files last changed long ago."""
    directory = tmp_path / "data"
    for name in ("a.csv", "b/c.csv", "b/d e.csv", "f.bin"):
        write(directory / name, name * 10)
    return directory


def write(path: Path, text: str) -> None:
    """Write a file that looks as if that were long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1_000_000_000, 1_000_000_000 + len(text)))


@pytest.fixture
def upload(session: Session, faults: FaultInjector, data: Path) -> Callable[[], tuple[str, list[str]]]:
    """Upload the directory for reuse; return its URI and the calls that it took."""

    def run() -> tuple[str, list[str]]:
        pending = PendingUploads()
        uri = pending.add_reusable(LocalSource(data, data.is_dir()), S3Uri(session.default_bucket(), "p"))
        faults.calls.clear()
        left = missing_uploads(session.api, pending.uploads, session.expected_owner)
        upload_all(session.api, left, expected_owner=session.expected_owner)
        record_trees(pending.uploads)
        return uri, list(faults.calls)

    return run


def contents(session: Session, uri: str, to: Path) -> dict[str, str]:
    """Return the objects below a prefix."""
    shutil.rmtree(to, ignore_errors=True)
    found = download_prefix(session.api, S3Uri.parse(uri), to, expected_owner=session.expected_owner)
    return {path.relative_to(to).as_posix(): path.read_text() for path in found}


def local(data: Path) -> dict[str, str]:
    """Return the names in the directory."""
    return {path.relative_to(data).as_posix(): path.read_text() for path in data.rglob("*") if path.is_file()}


def test_unchanged_data_is_listed_and_not_sent(upload: Callable[[], tuple[str, list[str]]]) -> None:
    """The second run of an unchanged directory makes one call, which sends nothing."""
    first, calls = upload()
    assert calls == ["ListObjectsV2", *["PutObject"] * 4]
    again, calls = upload()
    assert again == first
    assert calls == ["ListObjectsV2"]


def test_only_what_changed_travels(
    session: Session, data: Path, tmp_path: Path, upload: Callable[[], tuple[str, list[str]]]
) -> None:
    """Of a changed tree S3 copies what it has, new and renamed names included; the earlier tree stays as it is."""
    first, _ = upload()
    before = local(data)
    write(data / "a.csv", "changed")
    (data / "f.bin").rename(data / "g.bin")
    (data / "b" / "c.csv").unlink()
    second, calls = upload()
    assert sorted(calls) == ["CopyObject", "CopyObject", "ListObjectsV2", "ListObjectsV2", "PutObject"]
    assert contents(session, second, tmp_path / "out") == local(data)
    assert contents(session, first, tmp_path / "out") == before


def test_an_interrupted_upload_goes_on(
    session: Session,
    faults: FaultInjector,
    data: Path,
    tmp_path: Path,
    upload: Callable[[], tuple[str, list[str]]],
) -> None:
    """Files that arrived before an upload failed are not sent again."""
    faults.on("PutObject", "denied")
    with pytest.raises(StagingError):
        upload()
    uri, calls = upload()
    assert calls == ["ListObjectsV2", "PutObject"]
    assert contents(session, uri, tmp_path / "out") == local(data)


def test_missing_objects_are_sent_again(
    session: Session, data: Path, tmp_path: Path, upload: Callable[[], tuple[str, list[str]]]
) -> None:
    """Objects that a lifecycle rule removed, or that have another size, are uploaded again."""
    uri, _ = upload()
    where = S3Uri.parse(uri)
    client = session.client("s3")
    client.delete_object(Bucket=where.bucket, Key=f"{where.key}/a.csv")
    client.put_object(Bucket=where.bucket, Key=f"{where.key}/f.bin", Body=b"short")
    assert upload()[1] == ["ListObjectsV2", "PutObject", "PutObject"]
    assert contents(session, uri, tmp_path / "out") == local(data)


def test_foreign_objects_are_logged(
    session: Session, caplog: pytest.LogCaptureFixture, upload: Callable[[], tuple[str, list[str]]]
) -> None:
    """A foreign object below the prefix is logged: the job would see it."""
    uri, _ = upload()
    where = S3Uri.parse(uri)
    session.client("s3").put_object(Bucket=where.bucket, Key=f"{where.key}/z", Body=b"")
    with caplog.at_level(logging.WARNING, "processing"):
        upload()
    assert "holds objects that are not from" in caplog.text
    assert f"{where.key}/z" in caplog.text


@pytest.mark.parametrize("damage", ["lost", "cut", "edited"])
def test_a_lost_or_damaged_cache_costs_bytes_only(
    session: Session,
    cache: Path,
    data: Path,
    tmp_path: Path,
    upload: Callable[[], tuple[str, list[str]]],
    damage: str,
) -> None:
    """Without what was remembered, or with nonsense there, the data is right all the same."""
    upload()
    write(data / "a.csv", "changed")
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert len(files) == 2
    for file in files:
        text = file.read_text()
        file.write_text({"lost": "", "cut": text[:-20], "edited": text.replace("0", "1")}[damage])
    uri, calls = upload()
    assert calls == ["ListObjectsV2", *["PutObject"] * 4]
    assert contents(session, uri, tmp_path / "out") == local(data)


def test_a_hint_that_is_wrong_leads_nowhere(
    session: Session, data: Path, tmp_path: Path, upload: Callable[[], tuple[str, list[str]]]
) -> None:
    """An earlier tree whose hashes are not those of its name is not found, so nothing is copied from it."""
    uri, _ = upload()
    tree = Tree(data, S3Uri(session.default_bucket(), "p/data"), None, {})
    known = cache_module.load("trees", f"{data}\0{tree.folder}\0")
    assert set(known) == set(local(data))
    write(data / "a.csv", "new")
    hashed = {file.name: file.sha256 for file in hash_files(LocalSource(data, is_dir=True))}
    cache_module.store("trees", f"{data}\0{tree.folder}\0", {**known, "b/c.csv": hashed["a.csv"]})
    uri, calls = upload()
    assert "CopyObject" not in calls
    assert contents(session, uri, tmp_path / "out") == local(data)


def test_an_object_that_changed_is_not_copied(
    session: Session,
    faults: FaultInjector,
    data: Path,
    tmp_path: Path,
    upload: Callable[[], tuple[str, list[str]]],
) -> None:
    """The file itself is sent if S3 refuses the copy."""
    upload()
    write(data / "a.csv", "changed")
    faults.on("CopyObject", "denied")
    uri, calls = upload()
    assert sorted(calls) == [*["CopyObject"] * 3, *["ListObjectsV2"] * 2, *["PutObject"] * 2]
    assert contents(session, uri, tmp_path / "out") == local(data)


def test_a_cache_that_cannot_be_written(
    cache: Path, upload: Callable[[], tuple[str, list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    """A read-only home is no error: unchanged data is still not sent again."""
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.INFO, "processing"):
        upload()
        assert upload()[1] == ["ListObjectsV2"]
    assert caplog.text == ""


def test_a_listing_that_is_denied(
    faults: FaultInjector, upload: Callable[[], tuple[str, list[str]]], caplog: pytest.LogCaptureFixture
) -> None:
    """Without s3:ListBucket everything is sent, and the log says what is missing."""
    upload()
    faults.on("ListObjectsV2", "denied")
    with caplog.at_level(logging.WARNING, "processing"):
        assert upload()[1] == ["ListObjectsV2", *["PutObject"] * 4]
    assert "s3:ListBucket" in caplog.text


def test_a_listing_that_fails(faults: FaultInjector, upload: Callable[[], tuple[str, list[str]]]) -> None:
    """A listing that fails for good is a StagingError that names the prefix."""
    faults.on("ListObjectsV2", "reset_before", times=99)
    with pytest.raises(StagingError, match=r"could not be listed(.|\n)*s3://.*/p/data/"):
        upload()


def test_a_file_is_named_by_its_content(
    session: Session, faults: FaultInjector, data: Path, upload: Callable[[], tuple[str, list[str]]]
) -> None:
    """A single file goes below its own hash: one look when it is there, and one PUT when it is not."""
    pending = PendingUploads()
    for expected in (["HeadObject", "PutObject"], ["HeadObject"]):
        pending = PendingUploads()
        uri = pending.add_reusable(LocalSource(data / "a.csv", is_dir=False), S3Uri(session.default_bucket()))
        (sent,) = pending.uploads
        assert uri.endswith(f"/data/{sent.sha256}/a.csv")
        faults.calls.clear()
        upload_all(
            session.api,
            missing_uploads(session.api, pending.uploads, session.expected_owner),
            expected_owner=session.expected_owner,
        )
        assert faults.calls == expected


def test_names_keys_and_contents_make_the_name(data: Path) -> None:
    """Another content, another name and another KMS key make another prefix."""
    folder = S3Uri("b", "p")

    def target(kms_key: str | None = None) -> S3Uri:
        files = {file.name: file.sha256 for file in hash_files(LocalSource(data, is_dir=True))}
        return Tree(data, folder, kms_key, files).target

    found = [target(), target("key")]
    (data / "f.bin").rename(data / "g.bin")
    found.append(target())
    write(data / "g.bin", "other")
    found.append(target())
    assert len(set(found)) == 4
    (data / "g.bin").rename(data / "f.bin")
    write(data / "f.bin", "f.bin" * 10)
    assert target() == found[0]


def test_hashes_are_remembered(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that looks as before is not read again; one that looks otherwise is."""
    source = LocalSource(data, is_dir=True)
    first = hash_files(source)
    read: list[str] = []
    from processing.staging import tree_hash as trees

    hashed = trees._hash

    def counted(path: Path) -> str:
        read.append(path.name)
        return hashed(path)

    monkeypatch.setattr(trees, "_hash", counted)
    assert hash_files(source) == first
    assert read == []
    write(data / "a.csv", "z" * 50)
    assert hash_files(source) != first
    assert read == ["a.csv"]


def test_a_file_just_changed_is_hashed_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within two seconds of a change the next one may not show: such a hash is not remembered."""
    for path in data.rglob("*.*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    source = LocalSource(data, is_dir=True)
    changed = data.joinpath("a.csv").stat().st_mtime
    hash_files(source, now=lambda: changed + 1.9)
    assert cache_module.load("hashes", str(data)) == {}
    hash_files(source, now=lambda: changed + 2.1)
    assert set(cache_module.load("hashes", str(data))) == set(local(data))


def test_files_that_cannot_be_hashed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that vanish or change while they are read are named together."""
    from processing.staging import tree_hash as trees

    hashed = trees._hash

    def meanwhile(path: Path) -> str:
        if path.name == "a.csv":
            path.unlink()
        elif path.name == "c.csv":
            path.write_text("meanwhile")
        return hashed(path)

    monkeypatch.setattr(trees, "_hash", meanwhile)
    with pytest.raises(StagingError) as error:
        hash_files(LocalSource(data, is_dir=True))
    assert [reason for _, reason in error.value.failures] == [
        "No such file or directory",
        "it changed while it was read",
    ]


def test_names_that_no_key_can_have(data: Path) -> None:
    """A name that is not UTF-8 is found before anything is sent."""
    write(data / os.fsdecode(b"\xff"), "x")
    with pytest.raises(StagingError, match="its name is not UTF-8, as an S3 key has to be"):
        PendingUploads().add_reusable(LocalSource(data, is_dir=True), S3Uri("b"))


def test_damaged_cache_files_are_ignored(cache: Path) -> None:
    """A cache file is used only if its checksum is right and it holds a dictionary."""
    cache_module.store("kind", "about", {"a": 1})
    assert cache_module.load("kind", "about") == {"a": 1}
    assert cache_module.load("kind", "other") == {}
    (file,) = (path for path in cache.rglob("*") if path.is_file())
    checksum, _, text = file.read_text().partition("\n")
    file.write_text(f"{checksum}\n{json.dumps({'a': 2})}")
    assert cache_module.load("kind", "about") == {}
    file.write_bytes(b"\xff\n")
    assert cache_module.load("kind", "about") == {}
    cache_module.store("kind", "about", {"a": 1})
    assert file.read_text() == f"{checksum}\n{text}"


def test_a_processor_reuses_an_input(tmp_path: Path, data: Path) -> None:
    """`reuse=True` sends a directory once for two runs, whose jobs read the same prefix; the input stays as given."""
    faults = FaultInjector()
    session = LocalSession(tmp_path / "engine", clock=VirtualClock(), transport=faults.wrap)
    processor = Processor(entrypoint=["true"], instance_type="local", instance_count=1, sagemaker_session=session)
    entry = ProcessingInput(data, "/opt/ml/processing/input/x", "x", reuse=True)
    puts = []
    for _ in range(2):
        faults.calls.clear()
        job = processor.run([entry], wait=False)
        puts.append(faults.count()["PutObject"])
        assert "/data/" in str(job.inputs[0].source)
        job.wait(logs=False)
    assert puts == [4, 0]
    assert processor.jobs[0].inputs == processor.jobs[1].inputs
    assert entry.source == data
    assert entry.reuse
