"""Bundles: the same bytes from the same files, on any machine."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processing import ConfigurationError, StagingError
from processing.staging import bundles
from processing.staging.bundles import Bundle, Member, make_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping

MB = 1024 * 1024


def members(directory: Path, files: Mapping[str, bytes]) -> list[Member]:
    """Write files of any names, and return the members of their bundle."""
    made = []
    for number, (name, content) in enumerate(files.items()):
        path = directory / str(number)
        path.write_bytes(content)
        made.append(Member(path, name))
    return made


def content_of(bundle: Bundle) -> dict[str, bytes]:
    """The files in a bundle, as Python unpacks it."""
    file = bundle.path if bundle.body is None else io.BytesIO(bundle.body)
    with tarfile.open(
        file if isinstance(file, Path) else None, "r:gz", file if not isinstance(file, Path) else None
    ) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, for this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


letters = st.characters(exclude_categories=["Cs"], exclude_characters="/\0")
part = st.text(letters, min_size=1, max_size=40).filter(lambda text: text not in {".", ".."})
trees = st.dictionaries(
    st.lists(part, min_size=1, max_size=5).map("/".join), st.binary(max_size=3000), min_size=1, max_size=8
).filter(lambda files: not any(f"{name}/" in other for name in files for other in files))


@settings(max_examples=60, deadline=None)
@given(files=trees)
def test_a_bundle_comes_back(files: dict[str, bytes]) -> None:
    """Whatever the names and contents, unpacking gives the same files."""
    with tempfile.TemporaryDirectory() as directory:
        bundle = make_bundle(members(Path(directory), files))
    assert content_of(bundle) == files
    assert [name for name, _ in bundle.entries] == sorted(files)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 0xFFFF - 1536, 0xFFFF - 1535, 0xFFFF * 3, MB + 7])
def test_every_size(tmp_path: Path, size: int) -> None:
    """A file of any size comes back, also where a block of the gzip just ends."""
    files = {"x": os.urandom(size)}
    assert content_of(make_bundle(members(tmp_path, files))) == files


def test_the_bytes_are_fixed(tmp_path: Path) -> None:
    """These files give these bytes on any machine and Python; where that changes, all code is uploaded anew."""
    long = "/".join(["folder"] * 30) + "/ä.py"
    made = members(tmp_path, {"b.py": b"print()\n", "a/run.sh": b"#!/bin/sh\n" * 7000, long: b"x"})
    made[1].path.chmod(0o700)
    os.utime(made[0].path, (1, 2))
    bundle = make_bundle(reversed(made))
    assert bundle.body is not None
    assert bundle.sha256 == hashlib.sha256(bundle.body).hexdigest()
    assert bundle.size == len(bundle.body)
    assert bundle.sha256 == "42afef05e86f1eba9125621e5efb853bdca16d97e634bc0d5bcc79ae76e7e304"


def test_times_owners_and_modes_do_not_count(tmp_path: Path) -> None:
    """Only names, contents and the executable bit make a difference."""
    made = members(tmp_path, {"a": b"1", "b": b"2"})
    first = make_bundle(made).sha256
    os.utime(made[0].path, (5, 5))
    made[0].path.chmod(0o606)
    assert make_bundle(made).sha256 == first
    made[0].path.chmod(0o755)
    assert make_bundle(made).sha256 != first


def test_the_entries_are_plain(tmp_path: Path) -> None:
    """An entry has no owner and no time, and is executable where the file is."""
    made = members(tmp_path, {"a": b"1", "b": b"2"})
    made[1].path.chmod(0o744)
    body = make_bundle(made).body
    assert body is not None
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        found = [(each.name, each.mode, each.uid, each.gid, each.uname, each.gname, each.mtime) for each in tar]
    assert found == [("a", 0o644, 0, 0, "", "", 0), ("b", 0o755, 0, 0, "", "", 0)]


def test_other_programs_unpack_it(tmp_path: Path, temporary: Path) -> None:
    """The tar of the machine, which bootstraps use, takes a bundle as its own."""
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("there is no tar on this machine")
    files = {"a/b/ü x.py": b"1", "n" * 120 + ".py": b"2", "large": os.urandom(9 * MB)}
    bundle = make_bundle(members(tmp_path, files))
    (tmp_path / "out").mkdir()
    assert bundle.path is not None
    done = subprocess.run([tar, "-xzf", bundle.path, "-C", tmp_path / "out"], check=True, capture_output=True)
    assert done.stderr == b""
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files} == files


def test_a_large_bundle_is_a_temporary_file(tmp_path: Path, temporary: Path) -> None:
    """A large bundle is not kept in memory, and its file is removed with the value."""
    made = members(tmp_path, {"x": bytes(9 * MB)})
    bundle = make_bundle(made)
    assert bundle.body is None
    assert list(temporary.iterdir()) == [bundle.path]
    assert bundle.path is not None
    assert bundle.size == bundle.path.stat().st_size
    assert bundle.sha256 == hashlib.sha256(bundle.path.read_bytes()).hexdigest()
    assert bundle.path.stat().st_mode & 0o077 == 0
    bundle.close()
    assert list(temporary.iterdir()) == []
    bundle = make_bundle(made)
    del bundle
    gc.collect()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_is_left_behind(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    """Ctrl-C and a full disk leave no temporary file; the latter says where it was full."""
    made = members(tmp_path, {"x": bytes(9 * MB)})

    class Full(io.FileIO):
        def write(self, _data: object, /) -> int:
            raise interruption

    def opened(path: Path, mode: str) -> io.FileIO:
        return Full(path, mode)

    monkeypatch.setattr(Path, "open", opened)
    expected = StagingError if isinstance(interruption, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        make_bundle(made)
    if expected is StagingError:
        assert f"nothing can be written to {temporary} (No space left on device)" in str(raised.value)
    monkeypatch.undo()
    assert list(temporary.iterdir()) == []


def test_no_place_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for temporary files that is not there is an error that says how to name another."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(StagingError, match=r"nothing can be written to .*none .*; TMPDIR in the environment"):
        make_bundle(members(tmp_path, {"x": bytes(9 * MB)}))


def test_files_that_cannot_be_bundled(tmp_path: Path) -> None:
    """All that are missing, and those whose names are not UTF-8, are named in one error."""
    made = [*members(tmp_path, {"a": b""}), Member(tmp_path / "gone", "b"), Member(tmp_path / "0", "\udcff")]
    with pytest.raises(StagingError) as error:
        make_bundle(made)
    assert [reason for _, reason in error.value.failures] == ["No such file or directory", "its name is not UTF-8"]


@pytest.mark.parametrize("change", ["longer", "shorter", "rewritten", "gone"])
def test_files_that_change_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """A file that changes, or vanishes, between the first look and the last byte is an error that names it."""
    made = members(tmp_path, {"a": b"1" * 100, "b": b"2" * 100})
    path = made[1].path
    header = bundles._header

    def meanwhile(name: str, size: int, *, executable: bool) -> bytes:
        if change == "gone":
            path.unlink(missing_ok=True)
        elif name == "b" or change != "rewritten":
            path.write_bytes(b"3" * {"longer": 101, "shorter": 99, "rewritten": 100}[change])
            os.utime(path, (9, 9))
        return header(name, size, executable=executable)

    monkeypatch.setattr(bundles, "_header", meanwhile)
    with pytest.raises(StagingError) as error:
        make_bundle(made)
    ((name, reason),) = error.value.failures
    assert name == str(path)
    assert reason == ("No such file or directory" if change == "gone" else "it changed while it was bundled")


def test_a_limit(tmp_path: Path) -> None:
    """A bundle above the user's limit is refused before it is made, with what is largest in it."""
    files = {"data/a": bytes(400_000), "data/b": bytes(300_000), "model.bin": bytes(600_000), "x.py": b""}
    with pytest.raises(ConfigurationError) as error:
        make_bundle(members(tmp_path, files), limit=1_000_000)
    assert str(error.value) == (
        "bundle_limit: the code has 1.3 MB, at most 1.0 MB are allowed. The largest: data/ (0.7 MB), model.bin "
        "(0.6 MB), x.py (0 bytes). Name files that the job does not need in a .processingignore"
    )
    assert make_bundle(members(tmp_path, files), limit=1_400_000).size < 1_400_000


def test_a_large_bundle_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above 100 MB there is a warning with the largest entries, at the caller's line."""
    monkeypatch.setattr(bundles, "WARNING_SIZE", 1000)
    made = members(tmp_path, {"a.bin": bytes(1000), "x.py": b"x"})
    with pytest.warns(UserWarning, match=r"source_dir: the code has .*The largest: a\.bin \(1000 bytes\)") as caught:
        make_bundle(made)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("name", "said"),
    [("processing.py", "processing.py"), ("processing/__init__.py", "processing/"), ("a/processing.py", None)],
)
def test_files_that_hide_this_package(tmp_path: Path, name: str, said: str | None) -> None:
    """A module of this package's name at the bundle's root gets a warning; further down it is harmless."""
    made = members(tmp_path, {name: b"", "x.py": b""})
    with pytest.warns(UserWarning, match=f"holds {said}, which hides") if said else contextlib.nullcontext():
        make_bundle(made)


def test_nothing_to_bundle() -> None:
    """A bundle of nothing is refused."""
    with pytest.raises(ConfigurationError, match="source_dir: there is no file to bundle"):
        make_bundle([])


def test_the_later_of_two(tmp_path: Path) -> None:
    """Of two members with one name the later is bundled, once."""
    first, second = members(tmp_path, {"a": b"1", "b": b"2"})
    bundle = make_bundle([first, Member(second.path, "a")])
    assert content_of(bundle) == {"a": b"2"}


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    """A bundle that could not be unpacked is refused."""
    made = members(tmp_path, {"lib/a.py": b"", "lib": b""})
    with pytest.raises(ConfigurationError, match=r"dependencies: .* would be lib in the job, which is the folder of"):
        make_bundle(made)
