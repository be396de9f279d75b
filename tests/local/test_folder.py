"""Where the engine keeps its files."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from processing import EngineError, LocalSession, ScriptProcessor
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


@pytest.mark.parametrize("name", ["jobs", "objects", "logs"])
def test_a_newer_versions_folder_is_refused_before_anything_is_uploaded(tmp_path: Path, name: str) -> None:
    """Whichever file it is: `run` says so while the folder still is as it was."""
    home = tmp_path / "engine"
    LocalSession(home).engine.check()
    with contextlib.closing(sqlite3.connect(home / f"{name}.sqlite3")) as connection:
        connection.execute("PRAGMA user_version=99")
    script = tmp_path / "script.py"
    script.touch()
    session = LocalSession(home)
    processor = ScriptProcessor(
        image_uri="image", command=["python3"], instance_type="local", instance_count=1, sagemaker_session=session
    )
    with pytest.raises(EngineError, match=rf"newer version of sm-processing: {name}.sqlite3 has format 99"):
        processor.run(str(script))
    assert not any(path.is_file() for path in (home / "objects").rglob("*"))


def test_every_client_in_this_process_is_told_of_a_newer_version(tmp_path: Path) -> None:
    """It is no answer of a service, so nobody tries again."""
    home = tmp_path / "engine"
    LocalSession(home).engine.check()
    with contextlib.closing(sqlite3.connect(home / "objects.sqlite3")) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(EngineError, match="newer version"):
        LocalSession(home).boto_session.client("s3").list_buckets()
