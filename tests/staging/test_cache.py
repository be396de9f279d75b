"""The cache does not grow forever."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from processing.staging.cache import load, store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a cache folder of its own."""
    monkeypatch.setenv("PROCESSING_CACHE_HOME", str(tmp_path))
    return tmp_path


def grow_old(cache: Path) -> None:
    """Make it a hundred days ago that anything was used."""
    for file in cache.rglob("*.json"):
        then = file.stat().st_mtime - 100 * 86_400
        os.utime(file, (then, then))


def test_unused_entries_are_removed(cache: Path) -> None:
    """An entry that has not been used for months is removed when another one is stored."""
    store("hashes", "gone", {"a": 1})
    grow_old(cache)
    assert load("hashes", "gone") == {"a": 1}
    store("hashes", "new", {"b": 2})
    assert (load("hashes", "gone"), load("hashes", "new")) == ({}, {"b": 2})


def test_used_entries_are_kept(cache: Path) -> None:
    """Storing an unchanged entry again makes it young."""
    store("hashes", "used", {"a": 1})
    grow_old(cache)
    store("hashes", "used", {"a": 1})
    store("hashes", "new", {"b": 2})
    assert load("hashes", "used") == {"a": 1}
