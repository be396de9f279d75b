"""The rules of the container contract."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.container import contract

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("key", "prefix", "name"),
    [
        ("a/b/c.csv", "a/b", "c.csv"),
        ("a/b/c.csv", "a/b/", "c.csv"),
        ("a/b/c/d.csv", "a", "b/c/d.csv"),
        ("a/b.csv", "a/b.csv", "b.csv"),
        ("b.csv", "b.csv", "b.csv"),
        ("data/part-1.csv", "data/part", "part-1.csv"),
        ("x/y", "", "x/y"),
        ("a/b/", "a", "b/"),
        ("a/", "a/", ""),
        ("a//b", "a", "b"),
    ],
)
def test_a_key_lands_below_the_local_path(key: str, prefix: str, name: str) -> None:
    """A file's place is what follows the prefix; an input of one object keeps the object's name."""
    assert contract.relative_name(key, prefix) == name


@pytest.mark.parametrize("key", ["a/../../etc/passwd", "a/..", "a/x\0y"])
def test_a_key_does_not_lead_out(key: str) -> None:
    """Keys that would leave the directory are refused."""
    with pytest.raises(ValueError, match="leads out"):
        contract.relative_name(key, "a")


@given(st.sets(st.text(min_size=1, max_size=5)), st.integers(1, 5))
def test_shards_are_a_partition(keys: set[str], count: int) -> None:
    """Every key goes to exactly one host, and shares differ by one at most."""
    shards = [contract.shard(sorted(keys), number, count) for number in range(1, count + 1)]
    assert sorted(key for shard in shards for key in shard) == sorted(keys)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"short", "short"),
        (b"", None),
        (b"x" * 2000, "x" * 1024),
        ("é".encode() * 600, "é" * 512),
        (b"x" + "é".encode() * 600, "x" + "é" * 511),
    ],
)
def test_the_first_kilobyte_is_the_message(tmp_path: Path, data: bytes, message: str | None) -> None:
    """A character that the limit cuts is left out."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "message").write_bytes(data)
    assert contract.exit_message(str(tmp_path)) == message


def test_only_a_regular_file_is_a_message(tmp_path: Path) -> None:
    """Neither a pipe, which would block, nor a link or a directory is read; no file is no message."""
    (tmp_path / "output").mkdir()
    place = tmp_path / "output" / "message"
    assert contract.exit_message(str(tmp_path)) is None
    os.mkfifo(place)
    assert contract.exit_message(str(tmp_path)) is None
    place.unlink()
    place.symlink_to("/etc/passwd")
    assert contract.exit_message(str(tmp_path)) is None
    place.unlink()
    place.mkdir()
    assert contract.exit_message(str(tmp_path)) is None
    place.rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "message").write_text("of this machine")
    (tmp_path / "output").rmdir()
    (tmp_path / "output").symlink_to(tmp_path / "elsewhere")
    assert contract.exit_message(str(tmp_path)) is None


@pytest.mark.parametrize("data", [b"\xff", b"ok \xc3"])
def test_a_message_that_is_not_utf8_is_an_error(tmp_path: Path, data: bytes) -> None:
    """Also where it ends in half a character of its own."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "message").write_bytes(data)
    with pytest.raises(UnicodeDecodeError):
        contract.exit_message(str(tmp_path))


def test_paths_below_opt_ml_are_found_in_the_kept_directory() -> None:
    """Others are refused."""
    assert contract.resolve_path("/work/ml", "/opt/ml/processing/in/") == "/work/ml/processing/in"
    assert contract.resolve_path("/work/ml", "/opt/ml") == "/work/ml"
    for path in ("/opt/mlx", "/opt/ml/../x", "/tmp"):
        with pytest.raises(ValueError, match="is not below"):
            contract.resolve_path("/work/ml", path)
