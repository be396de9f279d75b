"""Archives of inputs: nothing is written outside the folder."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.container.shim.archives import unpack
from processing.container.shim.errors import ShimError

Member = tuple[str, str]
"""A member's name, and its content or the target of its link."""


def tar(*members: Member) -> io.BytesIO:
    """Return a tar file. A target that begins with `->` makes a symbolic link, one with `=>` a hard link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content.startswith(("->", "=>")):
                member.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                member.linkname = content[2:]
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))
    return packed


def zipped(*members: Member) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed


@pytest.mark.parametrize(
    "packed",
    [
        zipped(("../x", "1")),
        zipped(("a/../../x", "1"), ("b", "1")),
        zipped(("/x", "1")),
        tar(("../x", "1")),
        tar(("a", "->/etc")),
        tar(("a", "->..")),
        tar(("d/a", "->../../x")),
        tar(("p/q/up", "->../../a"), ("p/q/x", "->up/../../etc"), ("a/f", "1")),
        tar(("a", "=>/etc/passwd")),
        tar(("a", "->b"), ("a/x", "1")),
    ],
    ids=range(10),
)
def test_a_member_outside_is_refused(packed: io.BytesIO, tmp_path: Path) -> None:
    """Names and links that lead out of the folder are refused, and nothing is outside."""
    folder = tmp_path / "in/folder"
    folder.mkdir(parents=True)
    with pytest.raises(ShimError):
        unpack(packed, folder, "download", strip=False)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_links_inside_are_kept(tmp_path: Path) -> None:
    """A tar file keeps its links that stay in the folder; a hard link is a copy."""
    unpack(tar(("d/f", "1"), ("d/l", "->f"), ("e/l", "->../d/f"), ("h", "=>d/f")), tmp_path, "setup", strip=False)
    assert [(tmp_path / name).read_text() for name in ("d/f", "d/l", "e/l", "h")] == ["1"] * 4


def test_no_file_is_written_through_a_link_of_the_folder(tmp_path: Path) -> None:
    """A link that is in the folder already is not followed."""
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "d").symlink_to(tmp_path / "outside")
    with pytest.raises(ShimError):
        unpack(zipped(("d/x", "1"), ("y", "1")), folder, "download", strip=True)
    assert list((tmp_path / "outside").iterdir()) == []


def _packed(kind: str) -> bytes:
    """Return an archive with compressible content."""
    members = [("a", "1" * 5_000), ("b/c", "2" * 5_000)]
    packed = io.BytesIO()
    if kind.startswith("zip"):
        method = {"zip": zipfile.ZIP_DEFLATED, "zip-bz2": zipfile.ZIP_BZIP2, "zip-xz": zipfile.ZIP_LZMA}[kind]
        with zipfile.ZipFile(packed, "w", method) as archive:
            for name, content in members:
                archive.writestr(name, content)
    else:
        mode: Any = "w:" + kind.partition("-")[2]
        with tarfile.open(fileobj=packed, mode=mode) as opened:
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                opened.addfile(member, io.BytesIO(content.encode()))
    return packed.getvalue()


_KINDS = {kind: _packed(kind) for kind in ("zip", "zip-bz2", "zip-xz", "tar-", "tar-gz", "tar-bz2", "tar-xz")}


@given(st.sampled_from(sorted(_KINDS)), st.binary(min_size=1, max_size=30), st.floats(0, 1), st.booleans())
def test_damaged_archives_are_refused(kind: str, noise: bytes, place: float, cut: bool) -> None:
    """Archives of each format with wrong bytes, or without their end, raise ShimError or nothing."""
    whole = bytearray(_KINDS[kind])
    start = int(place * len(whole))
    whole[start : None if cut else start + len(noise)] = noise
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ShimError):
        unpack(io.BytesIO(whole), Path(folder), "download", strip=True)


@pytest.mark.parametrize("kind", sorted(_KINDS))
def test_each_format_is_unpacked(kind: str, tmp_path: Path) -> None:
    """The formats whose damage is tested are those that are read."""
    unpack(io.BytesIO(_KINDS[kind]), tmp_path, "download", strip=False)
    assert [(tmp_path / name).read_text()[:1] for name in ("a", "b/c")] == ["1", "2"]


@given(st.binary(max_size=600))
def test_bytes_that_are_no_archive_are_refused(noise: bytes) -> None:
    """Any bytes raise ShimError, or are an archive."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ShimError):
        unpack(io.BytesIO(noise), Path(folder), "download", strip=True)


@pytest.mark.parametrize("kind", ["zip", "tar-"])
def test_the_first_bytes_decide_about_the_format(kind: str, tmp_path: Path) -> None:
    """A tar file whose last member is a zip file is a tar file, and the other way round."""
    inner = _KINDS["zip" if kind == "tar-" else "tar-"]
    packed = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("inner", inner)
    else:
        with tarfile.open(fileobj=packed, mode="w") as opened:
            member = tarfile.TarInfo("inner")
            member.size = len(inner)
            opened.addfile(member, io.BytesIO(inner))
    unpack(packed, tmp_path, "download", strip=False)
    assert (tmp_path / "inner").read_bytes() == inner


def test_a_stop_ends_the_work(tmp_path: Path) -> None:
    """A check that fails leaves the rest of an archive packed."""
    calls = iter([None, ShimError("download", "stopped")])

    def check() -> None:
        error = next(calls)
        if error is not None:
            raise error

    with pytest.raises(ShimError, match="stopped"):
        unpack(io.BytesIO(_KINDS["zip"]), tmp_path, "download", strip=False, check=check)
    assert not (tmp_path / "b").exists()
