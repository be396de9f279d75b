"""Temporary files of downloads in folders that others may write to: no link and no file of another user is used."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from processing.staging.downloads import atomic_file, resumable_file, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="resuming needs locks on files")


class Interrupted(Exception):  # noqa: N818 - an event, not an error of the program
    """The end of a download before its last byte."""


def interrupted(path: Path, data: bytes) -> Path:
    """Interrupt a download after some bytes, and return the file that it leaves."""

    def download() -> None:
        with resumable_file(path, "content") as file:
            file.write(data)
            file.flush()
            raise Interrupted

    with pytest.raises(Interrupted):
        download()
    (left,) = path.parent.glob(".*.part")
    return left


def link(victim: Path, place: Path) -> None:
    place.symlink_to(victim)


def hard_link(victim: Path, place: Path) -> None:
    place.hardlink_to(victim)


def dangling(victim: Path, place: Path) -> None:
    place.symlink_to(victim.with_name("new"))


def directory(_victim: Path, place: Path) -> None:
    place.mkdir()


def fifo(_victim: Path, place: Path) -> None:
    os.mkfifo(place)


def device(_victim: Path, place: Path) -> None:
    place.symlink_to("/dev/null")


@pytest.mark.parametrize("plant", [link, hard_link, dangling, directory, fifo, device])
def test_a_planted_name_is_not_used(tmp_path: Path, plant: Callable[[Path, Path], None]) -> None:
    """The download takes another name, and the file behind the planted one keeps its bytes."""
    (folder := tmp_path / "shared").mkdir()
    (victim := tmp_path / "victim").write_bytes(b"precious")
    place = _computed(folder / "file")
    plant(victim, place)
    with resumable_file(folder / "file", "content") as file:
        file.write(b"downloaded")
    assert (folder / "file").read_bytes() == b"downloaded"
    assert victim.read_bytes() == b"precious"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shared", "victim"]
    assert os.path.lexists(place)


def _computed(path: Path) -> Path:
    """Return the name that anybody can compute."""
    place = interrupted(path, b"x")
    place.unlink()
    return place


def test_a_socket_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be opened at all."""
    place = _computed(tmp_path / "file")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(place.name)
    with resumable_file(tmp_path / "file", "content") as file:
        file.write(b"downloaded")
    assert (tmp_path / "file").read_bytes() == b"downloaded"


def test_a_file_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could still change its bytes after the check."""
    left = interrupted(tmp_path / "file", b"down")
    if os.geteuid() == 0:
        os.chown(left, 12345, 12345)
    else:
        monkeypatch.setattr("processing.staging.downloads.os.geteuid", lambda: 12345)
    with resumable_file(tmp_path / "file", "content") as file:
        assert file.read() == b""
        file.write(b"loaded")
    assert (tmp_path / "file").read_bytes() == b"loaded"
    assert left.read_bytes() == b"down"


def test_an_own_file_is_used_again(tmp_path: Path) -> None:
    """An interrupted download continues."""
    interrupted(tmp_path / "file", b"down")
    with resumable_file(tmp_path / "file", "content") as file:
        assert file.read() == b"down"
        file.write(b"loaded")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"downloaded"


def test_a_final_name_that_is_a_link_is_replaced(tmp_path: Path) -> None:
    """The file that it leads to keeps its bytes."""
    (victim := tmp_path / "victim").write_bytes(b"precious")
    (small := tmp_path / "small").symlink_to(victim)
    (whole := tmp_path / "whole").symlink_to(victim)
    (large := tmp_path / "large").symlink_to(victim)
    with atomic_file(small) as file:
        file.write(b"x")
    write_atomically(whole, b"x")
    with resumable_file(large, "content") as file:
        file.write(b"x")
    assert not any(path.is_symlink() for path in (small, whole, large))
    assert small.read_bytes() == whole.read_bytes() == large.read_bytes() == b"x"
    assert victim.read_bytes() == b"precious"
