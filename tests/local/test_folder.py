"""Where the engine keeps its files."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from processing import EngineError, LocalSession
from processing.local.folder import engine_home

if TYPE_CHECKING:
    from pathlib import Path


def test_the_folder_is_the_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the environment is made with the folders above it, and nobody else may look into it."""
    monkeypatch.setenv("PROCESSING_LOCAL_HOME", str(tmp_path / "a" / "engine"))
    assert engine_home() == tmp_path / "a" / "engine"
    assert stat.S_IMODE(engine_home().stat().st_mode) == 0o700


def test_a_file_in_its_place_is_said(tmp_path: Path) -> None:
    """What cannot be a folder is an EngineError that names it and says what to give."""
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "engine"):
        with pytest.raises(EngineError, match=r"cannot keep its files in .*file.*LocalSession\(home\)"):
            LocalSession(home)


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only folder is found when the session is made, not in the middle of a job."""
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(EngineError, match="it cannot be written to"):
        LocalSession(tmp_path / "engine")
