"""The keys of an engine's folder, and the temporary ones derived from them."""

from __future__ import annotations

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from processing.local.credentials import (
    FILE,
    Identity,
    InvalidTokenError,
    acting_as,
    assumed_role,
    caller,
    install_credentials,
    job_credentials,
)

if TYPE_CHECKING:
    from pathlib import Path

ARN = "arn:aws:sts::000000000000:assumed-role/Rôle/session"


def test_a_folder_has_one_key_for_its_owner_alone(tmp_path: Path) -> None:
    """It looks as AWS's keys do, and stays."""
    keys = install_credentials(tmp_path).keys
    assert install_credentials(tmp_path).keys == keys
    assert keys.access_key.startswith("AKIA")
    assert (len(keys.access_key), len(keys.secret_key)) == (20, 40)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_folders_have_different_keys(tmp_path: Path) -> None:
    """The key of one opens no other."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    first, second = (install_credentials(folder) for folder in folders)
    assert first.keys.secret_key != second.keys.secret_key
    assert second.find(first.keys.access_key, None) is None
    keys = first.temporary(Identity(ARN), 5.0)
    with pytest.raises(InvalidTokenError):
        second.find(keys.access_key, keys.token)


def test_processes_that_come_at_once_agree(tmp_path: Path) -> None:
    """The first process makes the key for all."""
    program = (
        "import pathlib, sys; from processing.local.credentials import install_credentials; sys.stdin.read(1); "
        "print(install_credentials(pathlib.Path(sys.argv[1])).keys.secret_key)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    with ThreadPoolExecutor(4) as pool:
        found = {output for output, _ in pool.map(lambda process: process.communicate("x"), processes)}
    assert len(found) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_temporary_key_tells_who_and_until_when(tmp_path: Path) -> None:
    """Nothing is stored: any process on the folder knows it by its token."""
    made = job_credentials(tmp_path, ARN, 1234.5)
    assert made.access_key.startswith("ASIA")
    found = install_credentials(tmp_path).find(made.access_key, made.token)
    assert found == made
    assert found.expires == 1234
    assert found.identity == assumed_role(ARN)
    assert found.identity.user_id.endswith(":session")
    assert job_credentials(tmp_path, ARN, 1234.5).secret_key != made.secret_key


def test_a_changed_token_is_none(tmp_path: Path) -> None:
    """Not a byte of it can be another one, and it goes with its own access key only."""
    credentials = install_credentials(tmp_path)
    keys = credentials.temporary(Identity(ARN), 5.0)
    assert keys.token is not None
    for place in range(len(keys.token.rstrip("=")) - 1):
        changed = keys.token[:place] + ("A" if keys.token[place] != "A" else "B") + keys.token[place + 1 :]
        with pytest.raises(InvalidTokenError):
            credentials.find(keys.access_key, changed)
    for token in ("", "x", "é", keys.token + "AAAA"):
        with pytest.raises(InvalidTokenError):
            credentials.find(keys.access_key, token)
    with pytest.raises(InvalidTokenError):
        credentials.find(credentials.keys.access_key, keys.token)
    assert credentials.find(keys.access_key, None) is None


def test_handlers_see_who_calls() -> None:
    """Within the block, and not beyond it."""
    with acting_as(Identity("somebody")):
        assert caller().arn == "somebody"
    assert caller() == Identity()
