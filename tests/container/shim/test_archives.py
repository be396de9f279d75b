"""Archives of inputs: nothing is written outside the folder."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

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


@given(st.binary(max_size=600), st.integers(0, 600), st.booleans())
def test_damaged_archives_are_refused(noise: bytes, place: int, alone: bool) -> None:
    """Bytes that are not an archive, and archives with wrong bytes, raise ShimError or nothing."""
    whole = bytearray(zipped(("a", "1" * 50), ("b/c", "2")).getvalue())
    whole[place : place + len(noise)] = noise
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ShimError):
        unpack(io.BytesIO(noise if alone else whole), Path(folder), "download", strip=True)
